//! Feeds from sources to followers, in real frames.
#![allow(clippy::disallowed_methods)] // tests read the clock

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::path::Path;
use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use muster_catalog::Ask as _;
use muster_catalog::{
    Cause, CauseKind, Check, CheckId, Command, Deregister, HealthService, Incoming, Intake, Kv, KvVerb, Node, NodeName, Offer,
    Part, Position, Proposal, Reader, Register, Run, Service, ServiceId, ServiceName, Status, Store, Target, Topic, Weights,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::follow::Feed;
use super::{Age, DiskCopy, Follower, Following, Pulse, Source, Wants};
use crate::desk::watch::Bells;

mod copy;
mod following;
mod source;

const SOON: Duration = Duration::from_secs(20);
const HISTORY: Uuid = Uuid::from_u128(7);

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "{what} did not come to hold");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// One server: what it has applied of a log that all share.
struct Server {
    store: Mutex<Store>,
    source: Source,
    caught_up: Arc<AtomicBool>,
    known_leader: Arc<AtomicBool>,
}

/// The log.
#[derive(Default)]
struct Log(Mutex<Vec<Proposal>>);

fn service(node: usize) -> Service {
    Service {
        id: ServiceId::new("web-1").expect("a name"),
        name: ServiceName::new(format!("web-{}", node % 10)).expect("a name"),
        tags: vec!["primary".into()],
        address: "".into(),
        tagged_addresses: Default::default(),
        meta: Default::default(),
        port: 8080,
        socket_path: "".into(),
        enable_tag_override: false,
        weights: Weights::default(),
        rare: None,
    }
}

fn registration(node: usize, status: Status) -> Command {
    let check = Check {
        id: CheckId::new("service:web-1").expect("a name"),
        name: "alive".into(),
        status,
        notes: "".into(),
        output: "HTTP GET http://127.0.0.1:8080/health: 200 OK".into(),
        service_id: Some(ServiceId::new("web-1").expect("a name")),
        service_name: None,
        service_tags: vec![],
        kind: "http".into(),
        interval: "10s".into(),
        timeout: "1s".into(),
        definition: None,
    };
    let about = Node {
        id: Some(Uuid::from_u128(1000 + node as u128)),
        address: format!("10.0.{}.{}", node / 250, node % 250).into(),
        tagged_addresses: Default::default(),
        meta: Default::default(),
    };
    Command::Register(Register {
        node: NodeName::new(format!("node-{node}")).expect("a name"),
        about: Some(about),
        services: vec![Offer::unowned(service(node))],
        checks: vec![Offer::unowned(check)],
        owner: None,
    })
}

fn removal(node: usize) -> Command {
    let node = NodeName::new(format!("node-{node}")).expect("a name");
    Command::Deregister(Deregister { node, target: Target::Node, owner: None })
}

impl Log {
    fn write(&self, command: Command) {
        let mut log = self.0.lock().expect("nobody panics");
        let number = log.len() as u64;
        let cause = Cause::new("test", CauseKind::Api, 5, "");
        let run = Run { agent: Uuid::from_u128(1), epoch: 1 };
        log.push(Proposal { request: Uuid::nil(), run, number, answered_below: number, time_ms: number, cause, command });
    }

    /// A log that begins as all do.
    fn new() -> Self {
        let log = Self::default();
        log.write(Command::OpenRun);
        log.write(Command::Found(HISTORY));
        log
    }

    fn len(&self) -> u64 {
        self.0.lock().expect("nobody panics").len() as u64
    }
}

impl Server {
    fn new(tasks: &mut JoinSet<()>) -> Arc<Self> {
        let store = Store::new();
        let (caught_up, known_leader) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let pulse = {
            let (caught_up, known_leader) = (caught_up.clone(), known_leader.clone());
            move || Pulse {
                known_leader: known_leader.load(Ordering::Relaxed),
                last_contact: Duration::from_millis(3),
                caught_up: caught_up.load(Ordering::Relaxed),
            }
        };
        let source = Source::new(store.reader(), pulse, Bytes::copy_from_slice);
        tasks.spawn(source.clone().run(pending()));
        Arc::new(Self { store: Mutex::new(store), source, caught_up, known_leader })
    }

    /// Applies the log up to this index.
    fn apply(&self, log: &Log, to: u64) {
        let mut store = self.store.lock().expect("nobody panics");
        let log = log.0.lock().expect("nobody panics");
        for index in store.state().last_applied() + 1..=to {
            store.apply(index, log[index as usize - 1].clone());
        }
        store.publish();
        self.source.changed();
    }

    fn catch_up(&self, log: &Log) {
        self.apply(log, log.len());
    }

    fn write(&self, log: &Log, command: Command) {
        log.write(command);
        self.catch_up(log);
    }

    fn reader(&self) -> Reader {
        self.store.lock().expect("nobody panics").reader()
    }
}

/// Everything but keys, as bytes.
fn fed(reader: &Reader) -> Vec<u8> {
    reader.load().whole().frames().flatten().collect()
}

type Frames = BoxStream<'static, io::Result<Bytes>>;

/// One agent that follows whoever stands first in the line of servers; feeds can be cut.
struct Agent {
    reader: Reader,
    following: Following,
    bells: Arc<Bells>,
    servers: Arc<Mutex<VecDeque<Arc<Server>>>>,
    cuts: Arc<Mutex<Vec<tokio::sync::oneshot::Sender<()>>>>,
    /// From where on each batch went that came first in a feed; `None`: it was everything.
    firsts: Arc<Mutex<Vec<Option<u64>>>>,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::AbortHandle,
}

impl Agent {
    fn start(tasks: &mut JoinSet<()>, servers: &[Arc<Server>], copy: Option<&Path>, id: u128) -> Self {
        Self::wanting(tasks, servers, copy, None, id)
    }

    fn wanting(tasks: &mut JoinSet<()>, servers: &[Arc<Server>], copy: Option<&Path>, wants: Option<Wants>, id: u128) -> Self {
        let mut store = Store::new();
        let (copy, age) = match copy {
            Some(path) => {
                let (copy, age) = DiskCopy::open(path, &mut store).expect("a directory for tests");
                (Some(copy), age)
            }
            None => (None, None),
        };
        let (reader, bells) = (store.reader(), Bells::new());
        let (following, follower) =
            Follower::new(store, bells.clone(), copy, age, wants.clone(), SmallRng::seed_from_u64(id as u64));
        let servers = Arc::new(Mutex::new(servers.iter().cloned().collect::<VecDeque<_>>()));
        let (cuts, firsts) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let connect = {
            let (servers, cuts, firsts) = (servers.clone(), cuts.clone(), firsts.clone());
            move |at: Position| {
                let server = servers.lock().expect("nobody panics").front().cloned();
                let feed = server.map(|server| {
                    let (cut, is_cut) = tokio::sync::oneshot::channel();
                    cuts.lock().expect("nobody panics").push(cut);
                    let interest = wants.as_ref().map(Wants::interest);
                    let frames = watched(server.source.subscribe(Uuid::from_u128(id), at, interest), firsts.clone());
                    let frames: Frames = frames.map(Ok).take_until(is_cut).boxed();
                    Feed { server: Uuid::nil(), frames }
                });
                async move { feed.ok_or_else(|| io::Error::other("nobody is there")) }
            }
        };
        let task = tasks.spawn(follower.run(connect, |_, _| {}, async {
            let _ = stopped.await;
        }));
        Self { reader, following, bells, servers, cuts, firsts, stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).expect("it runs");
        eventually("the agent ends", || self.task.is_finished()).await;
    }

    fn cut(&self) {
        self.cuts.lock().expect("nobody panics").clear();
    }

    fn firsts(&self) -> Vec<Option<u64>> {
        self.firsts.lock().expect("nobody panics").clone()
    }

    async fn reaches(&self, server: &Server) {
        let to = server.reader().load().position();
        eventually("the agent reaches the server", || self.following.position() == to).await;
        assert_eq!(fed(&self.reader), fed(&server.reader()));
    }
}

/// Notes how the first batch of a feed begins.
fn watched(
    frames: impl Stream<Item = Bytes> + Send + 'static,
    firsts: Arc<Mutex<Vec<Option<u64>>>>,
) -> BoxStream<'static, Bytes> {
    let (mut intake, mut seen) = (Intake::new(), false);
    frames
        .inspect(move |frame| {
            for incoming in intake.take(frame).expect("a source makes sense") {
                if let Incoming::Batch(batch) = incoming
                    && !std::mem::replace(&mut seen, true)
                {
                    firsts.lock().expect("nobody panics").push(batch.from());
                }
            }
        })
        .boxed()
}
