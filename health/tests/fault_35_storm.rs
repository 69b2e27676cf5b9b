//! Fault 35: two thousand checks due together, half of which time out.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests look at the clock and may panic

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Running, SECOND, http};
use muster_catalog::{CheckDefinition, CheckId, Status};
use muster_health::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const CHECKS: usize = 2_000;
const SOCKETS_MAX: usize = 256;
const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_millis(400);
/// A host that takes more of this machine over an interval can break a beat by itself: two thousand checks and their servers need
/// much of two cores in a debug build.
const TAKEN_MAX: f64 = 0.2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_checks_keeps_its_bound_and_its_beat() {
    let open = Arc::new(Open::default());
    let (good, tarpit) = (serve(open.clone(), true).await, serve(open.clone(), false).await);
    let mut running = Running::start(Config { sockets_max: SOCKETS_MAX, seed: 35, ..Config::default() });
    for n in 0..CHECKS {
        let server = if n % 2 == 0 { &good.0 } else { &tarpit.0 };
        let definition = http(&format!("check-{n}"), server.clone());
        running.handle.set(CheckDefinition { interval: INTERVAL, timeout: Some(TIMEOUT), ..definition }, 1);
    }
    let mut heard: HashMap<CheckId, Vec<Instant>> = HashMap::new();
    for last in [false, false, true] {
        heard.clear();
        let mut late = 0;
        let until = Instant::now() + 3 * INTERVAL + 2 * SECOND;
        let mut host = Host::default();
        while Instant::now() < until {
            let verdict = running.verdict().await;
            host.look();
            let good = verdict.check.as_str().trim_start_matches("check-").parse::<usize>().unwrap() % 2 == 0;
            late += usize::from(good != (verdict.status == Status::Passing));
            heard.entry(verdict.check).or_default().push(Instant::now());
        }
        assert_eq!(heard.len(), CHECKS, "each was looked at");
        let kept =
            heard.values().filter(|times| times.len() >= 3 && times.windows(2).all(|pair| within(pair[1] - pair[0]))).count();
        let taken = host.taken();
        let said = format!("{kept} of {CHECKS} kept their interval within 10 %, {late} wrong verdicts");
        println!("{said}; the host took {:.0} % of this machine in the worst interval", taken * 100.0);
        if kept * 100 >= CHECKS * 95 && late * 100 <= CHECKS {
            break;
        }
        assert!(taken > TAKEN_MAX, "{said}");
        if last {
            println!("beat and verdicts cannot be looked at here: the host leaves too little of this machine");
        }
    }
    running.stop().await;

    let most = open.most.load(Ordering::SeqCst);
    println!("{most} connections at once at most");
    // A server notices a moment later that a prober has gone.
    assert!(most <= SOCKETS_MAX + 32, "{most} connections at once");
}

/// What a virtual machine's host took of its CPU, as Linux counts it; nothing elsewhere.
#[derive(Default)]
struct Host {
    /// Second by second: when, the ticks taken, and all ticks.
    seen: Vec<(Instant, u64, u64)>,
}

impl Host {
    fn look(&mut self) {
        if self.seen.last().is_some_and(|(at, ..)| at.elapsed() < SECOND) {
            return;
        }
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        // user nice system idle iowait irq softirq steal
        let ticks: Vec<u64> = stat.split_whitespace().skip(1).take(8).map_while(|field| field.parse().ok()).collect();
        self.seen.push((Instant::now(), ticks.get(7).copied().unwrap_or(0), ticks.iter().sum()));
    }

    /// The largest share of the machine that was taken over an interval.
    fn taken(&self) -> f64 {
        let share =
            |(from, to): (&(Instant, u64, u64), &(Instant, u64, u64))| (to.1 - from.1) as f64 / (to.2 - from.2).max(1) as f64;
        let interval = INTERVAL.as_secs() as usize;
        self.seen.iter().zip(self.seen.iter().skip(interval)).map(share).fold(0.0, f64::max)
    }
}

fn within(gap: Duration) -> bool {
    (INTERVAL.mul_f64(0.9)..INTERVAL.mul_f64(1.1)).contains(&gap)
}

#[derive(Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
}

async fn serve(open: Arc<Open>, answers: bool) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            while connections.try_join_next().is_some() {}
            let open = open.clone();
            connections.spawn(async move {
                open.most.fetch_max(open.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                connection(stream, answers).await;
                open.now.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (url, tasks)
}

async fn connection(mut stream: TcpStream, answers: bool) {
    let mut buffer = [0; 1024];
    while let Ok(1..) = stream.read(&mut buffer).await {
        if answers {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            return;
        }
    }
}
