//! A whole agent in memory behind a door on a free port: what tests of this folder ask.
#![allow(clippy::disallowed_methods)] // Tests own their tasks.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_catalog::{AntiEntropy, Cause, CauseKind, Command, Run, Store};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::super::super::{AgentFacts, Config as DoorConfig, Door, Doorway, Listener, serve};
use crate::config::{AgentFlags, Config, Host, load};
use crate::desk::disk::Kept;
use crate::desk::{Bells, Cluster, Desk, Errand, LocalDesk, LocalSettings, Lone, Policy, Quorum, Setup};
use crate::loops;
use crate::raft::{self, Raft};
use crate::telemetry::Metrics;

/// An agent under test; it stops when dropped.
pub(super) struct House {
    pub(super) at: SocketAddr,
    pub(super) desk: Desk,
    /// Whether a reload is refused.
    pub(super) refuse_reload: Arc<AtomicBool>,
    /// Whether it was told to leave.
    pub(super) left: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Said {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(has, _)| has.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

fn config(flags: &[&str]) -> Config {
    let host = Host::with("host-1", "lo", "127.0.0.1/8");
    let flags = AgentFlags::parse(["-dev"].iter().chain(flags).map(OsString::from)).unwrap();
    load(&flags, &host).unwrap().config
}

impl House {
    /// An agent that was started with `-dev` and these flags; its cluster has a leader.
    pub(super) async fn start(flags: &[&str]) -> Self {
        let config = config(flags);
        let id = Uuid::new_v4();
        let (bells, store) = (Bells::new(), Store::new());
        let reader = store.reader();
        let (touched, all) = (bells.clone(), bells.clone());
        let ringing =
            raft::Bells { touched: Box::new(move |topics| touched.ring(topics)), all: Box::new(move || all.ring_all()) };
        let raft = Raft::start(raft::Config::new(None, id), store, ringing).await.unwrap();
        let (verdicts, taken) = mpsc::channel(muster_health::RESULTS_MAX);
        let (runner, driver) = muster_health::new(muster_health::Config::default(), verdicts);
        let (stop, stopping) = watch::channel(false);
        let (errands, inlet) = mpsc::channel(4);
        let settings = LocalSettings {
            policy: Policy { script_checks_by_api: config.checks.remote_scripts },
            output_delay: config.checks.update_interval,
            discard_output: false,
            anti_entropy: AntiEntropy::OwnRows,
        };
        let desk = Desk::new(Setup {
            name: config.node_name.clone(),
            id,
            run: Run { agent: id, epoch: 1 << 16 },
            quorum: Quorum::alone(raft.clone(), &reader),
            reader,
            bells,
            local: LocalDesk::new(runner, None, Kept::default(), settings),
            cluster: Cluster::new(id, config.addresses.clone(), Lone::new(&config, id)),
            forgetful: true,
            hold: Duration::from_secs(5),
            default_reads_fail: false,
            max_stale: Duration::MAX,
            wants: None,
            autopilot: muster_catalog::Autopilot::default(),
            server_address: ([127, 0, 0, 1], 8300).into(),
            stop: stopping,
            errands,
        });
        raft.initialize().await.unwrap();
        desk.caught_up().await.unwrap();
        let cause = Arc::new(Cause::new("test", CauseKind::Start, 0, ""));
        desk.write_as(Command::Found(Uuid::new_v4()), cause).await.unwrap();

        let (refuse_reload, left) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let prometheus = !config.telemetry.prometheus_retention_time.is_zero();
        let facts = Arc::new(AgentFacts::new(config.clone(), Metrics::unrecorded(prometheus)));
        let door = Doorway::new(Door::new(DoorConfig::new(&config.datacenter), desk.clone(), facts));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run(desk.stopping()));
        tasks.spawn(loops::take_verdicts(desk.clone(), taken));
        tasks.spawn(loops::sync(desk.clone(), SmallRng::seed_from_u64(1)));
        tasks.spawn(loops::judge_aliases(desk.clone()));
        tasks.spawn(loops::reconcile(
            desk.clone(),
            loops::Patience { restart_grace: Duration::ZERO, mass_loss_hold: Duration::ZERO },
        ));
        tasks.spawn(run_errands(inlet, refuse_reload.clone(), left.clone()));
        tasks.spawn(serve(door, vec![Listener::Tcp(listener)], desk.stopping()));
        Self { at, desk, refuse_reload, left, stop, _tasks: tasks }
    }

    pub(super) async fn get(&self, path: &str) -> Said {
        self.ask("GET", path, &[], "").await
    }

    pub(super) async fn put(&self, path: &str, body: &str) -> Said {
        self.ask("PUT", path, &[], body).await
    }

    /// Changes something; it must be taken, with an empty body.
    pub(super) async fn done(&self, path: &str, body: &str) {
        let said = self.put(path, body).await;
        assert_eq!((said.status, said.body.as_str(), said.header("content-type")), (200, "", None), "{path}");
    }

    /// Changes something or reads; it must be refused with this text.
    pub(super) async fn refused(&self, method: &str, path: &str, body: &str, status: u16, text: &str) {
        let said = self.ask(method, path, &[], body).await;
        assert_eq!((said.status, said.body.as_str()), (status, text), "{method} {path}");
        assert_eq!(said.header("x-consul-index"), None, "{method} {path}");
    }

    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Said {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line has a status");
        Said { status, head: head.to_owned(), body: body.to_owned() }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn run_errands(mut inlet: mpsc::Receiver<Errand>, refuse_reload: Arc<AtomicBool>, left: Arc<AtomicBool>) {
    while let Some(errand) = inlet.recv().await {
        match errand {
            Errand::Reload(done) => {
                let refused = refuse_reload.load(Ordering::SeqCst);
                let _ = done.send(if refused { Err("the configuration has 1 fault".to_owned()) } else { Ok(()) });
            }
            Errand::Leave(done) => {
                left.store(true, Ordering::SeqCst);
                let _ = done.send(());
            }
        }
    }
}
