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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_checks_keeps_its_bound_and_its_beat() {
    let open = Arc::new(Open::default());
    let (good, tarpit) = (serve(open.clone(), true).await, serve(open.clone(), false).await);
    let mut running = Running::start(Config { sockets_max: SOCKETS_MAX, seed: 35, ..Config::default() });
    let begun = Instant::now();
    for n in 0..CHECKS {
        let server = if n % 2 == 0 { &good.0 } else { &tarpit.0 };
        let definition = http(&format!("check-{n}"), server.clone());
        running.handle.set(CheckDefinition { interval: INTERVAL, timeout: Some(TIMEOUT), ..definition }, 1);
    }
    let mut heard: HashMap<CheckId, Vec<Instant>> = HashMap::new();
    let mut late = 0;
    while begun.elapsed() < 3 * INTERVAL + 2 * SECOND {
        let verdict = running.verdict().await;
        let good = verdict.check.as_str().trim_start_matches("check-").parse::<usize>().unwrap() % 2 == 0;
        late += usize::from(good != (verdict.status == Status::Passing));
        heard.entry(verdict.check).or_default().push(Instant::now());
    }
    running.stop().await;

    assert_eq!(heard.len(), CHECKS, "each was looked at");
    let kept = heard.values().filter(|times| times.len() >= 3 && times.windows(2).all(|pair| within(pair[1] - pair[0]))).count();
    let most = open.most.load(Ordering::SeqCst);
    println!("{kept} of {CHECKS} kept their interval within 10 %, {late} wrong verdicts, {most} connections at once at most");
    assert!(kept * 100 >= CHECKS * 95, "{kept} of {CHECKS} kept their interval within 10 %");
    assert!(late * 100 <= CHECKS, "{late} wrong verdicts");
    // A server notices a moment later that a prober has gone.
    assert!(most <= SOCKETS_MAX + 32, "{most} connections at once");
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
