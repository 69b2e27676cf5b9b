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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_is_written_once_for_all_followers() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..10).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let agents: Vec<_> = (100..200).map(|id| Agent::start(&mut tasks, from_ref(&server), None, id)).collect();
    for agent in &agents {
        agent.reaches(&server).await;
        assert_eq!(agent.firsts(), [None]);
    }
    let before = server.source.encoded();
    assert!(before <= 5, "{before} snapshots for a hundred that came together");
    for round in 0..5 {
        server.write(&log, registration(3, if round % 2 == 0 { Status::Critical } else { Status::Passing }));
        for agent in &agents {
            agent.reaches(&server).await;
        }
    }
    assert_eq!(server.source.encoded() - before, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_goes_on_at_any_server_without_a_snapshot() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let servers = [Server::new(&mut tasks), Server::new(&mut tasks)];
    (0..20).for_each(|node| log.write(registration(node, Status::Passing)));
    servers.iter().for_each(|server| server.catch_up(&log));
    let agent = Agent::start(&mut tasks, &servers, None, 1);
    agent.reaches(&servers[0]).await;
    for round in 0..6 {
        log.write(registration(round, Status::Critical));
        log.write(removal(round + 7));
        servers.iter().for_each(|server| server.catch_up(&log));
        agent.reaches(&servers[0]).await;
        agent.servers.lock().expect("nobody panics").rotate_left(1);
        agent.cut();
        log.write(registration(round + 7, Status::Warning));
        servers.iter().for_each(|server| server.catch_up(&log));
        agent.reaches(&servers[0]).await;
    }
    let firsts = agent.firsts();
    assert_eq!(firsts[0], None);
    assert!(firsts.len() > 1 && firsts[1..].iter().all(Option::is_some), "{firsts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_just_restarted_goes_on_with_all_its_followers() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..20).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let agents: Vec<_> = (0..50).map(|id| Agent::start(&mut tasks, from_ref(&server), None, id)).collect();
    for agent in &agents {
        agent.reaches(&server).await;
    }
    let again = Server::new(&mut tasks);
    log.write(removal(3));
    log.write(registration(4, Status::Critical));
    again.catch_up(&log);
    for agent in &agents {
        *agent.servers.lock().expect("nobody panics") = [again.clone()].into();
        agent.cut();
    }
    for agent in &agents {
        agent.reaches(&again).await;
        assert_eq!(agent.firsts(), [None, Some(22)]);
    }
    assert!(again.source.encoded() <= 3, "the tables were looked through for each: {}", again.source.encoded());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_knows_less_makes_its_follower_wait() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let servers = [Server::new(&mut tasks), Server::new(&mut tasks)];
    (0..10).for_each(|node| log.write(registration(node, Status::Passing)));
    servers[0].catch_up(&log);
    servers[1].apply(&log, 5);
    let agent = Agent::start(&mut tasks, &servers, None, 1);
    agent.reaches(&servers[0]).await;
    let at = agent.following.position();
    agent.servers.lock().expect("nobody panics").rotate_left(1);
    agent.cut();
    eventually("the other server is heard", || agent.cuts.lock().expect("nobody panics").len() == 1).await;
    servers[1].apply(&log, 8);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(agent.following.position(), at);
    assert!(agent.following.age().last_contact > Some(Duration::from_secs(1)), "who knows less confirms nothing");
    log.write(removal(2));
    servers[1].catch_up(&log);
    agent.reaches(&servers[1]).await;
    let firsts = agent.firsts();
    assert!(firsts.len() == 2 && firsts[1] <= Some(at.index) && firsts[1].is_some(), "{firsts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_is_taken_from_a_server_that_is_sure_of_it() {
    let (mut tasks, old, new) = (JoinSet::new(), Log::new(), Log::default());
    new.write(Command::OpenRun);
    new.write(Command::Found(Uuid::from_u128(8)));
    new.write(registration(1, Status::Passing));
    let servers = [Server::new(&mut tasks), Server::new(&mut tasks)];
    (0..10).for_each(|node| servers[0].write(&old, registration(node, Status::Passing)));
    let agent = Agent::start(&mut tasks, &servers, None, 1);
    agent.reaches(&servers[0]).await;
    let at = agent.following.position();
    servers[1].caught_up.store(false, Ordering::Relaxed);
    servers[1].catch_up(&new);
    agent.servers.lock().expect("nobody panics").rotate_left(1);
    agent.cut();
    eventually("the other server is heard", || agent.cuts.lock().expect("nobody panics").len() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(agent.following.position(), at, "it may be that server that is behind");
    servers[1].caught_up.store(true, Ordering::Relaxed);
    agent.reaches(&servers[1]).await;
    assert_eq!(agent.following.position(), Position { history: Some(Uuid::from_u128(8)), index: 3 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_wakes_who_waits_for_it() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..20).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let agent = Agent::start(&mut tasks, from_ref(&server), None, 1);
    agent.reaches(&server).await;
    let ask = |name: &str| HealthService { name: ServiceName::new(name).expect("a name"), tags: vec![], node_meta: vec![] };
    let (one, other) = (ask("web-3"), ask("web-4"));
    let bell = |ask: &HealthService| agent.bells.take(&Topic::Health(ask.name.clone()));
    let (bell, quiet) = (bell(&one), bell(&other));
    let (mut rung, mut rings) = (Box::pin(bell.rung()), Box::pin(quiet.rung()));
    rung.as_mut().enable();
    rings.as_mut().enable();
    let before = one.index(&agent.reader.load());
    server.write(&log, registration(13, Status::Critical));
    timeout(SOON, rung).await.expect("the bell rings");
    assert!(one.index(&agent.reader.load()) > before);
    assert_eq!(one.look(&agent.reader.load())[0].checks[0].status, Status::Critical);
    assert!(timeout(Duration::from_millis(50), rings).await.is_err(), "nobody waits in vain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_the_read_index_is_not_kept_waiting() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let agents = [11, 12].map(|id| Agent::start(&mut tasks, from_ref(&server), None, id));
    for agent in &agents {
        agent.reaches(&server).await;
    }
    // Keys are not fed, so nothing but a beat would tell that the log went on.
    let set = KvVerb::Set { value: "v".into(), flags: 0, cas: None };
    let before = server.source.encoded();
    server.write(&log, Command::Kv(Kv { key: "k".into(), verb: set }));
    server.source.flush(Uuid::from_u128(11), log.len());
    assert!(agents[0].following.wait_for(log.len(), SOON).await);
    assert!(server.source.encoded() - before <= 2);
    agents[1].reaches(&server).await; // with the next beat
    assert!(!agents[1].following.wait_for(log.len() + 1, Duration::from_millis(1)).await);
    // What was sent ahead is sent to the others later, and changes nothing for the first.
    for node in 0..50 {
        server.write(&log, registration(node, Status::Passing));
        server.source.flush(Uuid::from_u128(11), log.len());
        assert!(agents[0].following.wait_for(log.len(), SOON).await);
    }
    for agent in &agents {
        agent.reaches(&server).await;
        assert_eq!(agent.firsts()[0], None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_a_server_that_has_not_applied_it_yet_is_told_when_it_has() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let agent = Agent::start(&mut tasks, from_ref(&server), None, 11);
    agent.reaches(&server).await;
    for n in 0..20 {
        let set = KvVerb::Set { value: format!("{n}").into(), flags: 0, cas: None };
        log.write(Command::Kv(Kv { key: "k".into(), verb: set }));
        server.source.flush(Uuid::from_u128(11), log.len());
        assert!(!agent.following.wait_for(log.len(), Duration::from_millis(1)).await);
        server.catch_up(&log);
        assert!(agent.following.wait_for(log.len(), SOON).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_is_told_of_its_own_writes_at_once() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let writer = Agent::start(&mut tasks, from_ref(&server), None, 1);
    let other = Agent::start(&mut tasks, from_ref(&server), None, 2);
    for agent in [&writer, &other] {
        agent.reaches(&server).await;
    }
    for n in 0..40 {
        let set = KvVerb::Set { value: format!("{n}").into(), flags: 0, cas: None };
        server.write(&log, Command::Kv(Kv { key: "k".into(), verb: set }));
        assert!(writer.following.wait_for(log.len(), SOON).await);
        server.write(&log, registration(n, Status::Passing));
        assert!(writer.following.wait_for(log.len(), SOON).await);
        assert_eq!(fed(&writer.reader), fed(&server.reader()));
    }
    other.reaches(&server).await;
    assert_eq!((writer.firsts(), other.firsts()), (vec![None], vec![None]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_between_changes_are_passed_over_with_the_next_one() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let agent = Agent::start(&mut tasks, from_ref(&server), None, 11);
    agent.reaches(&server).await;
    let before = server.source.encoded();
    for n in 0..300 {
        let verb = if n % 3 == 2 {
            KvVerb::Delete { cas: None }
        } else {
            KvVerb::Set { value: format!("{n}").into(), flags: 0, cas: None }
        };
        server.write(&log, Command::Kv(Kv { key: format!("k{}", n / 3).into(), verb }));
    }
    server.write(&log, registration(1, Status::Critical));
    agent.reaches(&server).await;
    assert!(server.source.encoded() - before <= 3, "one change, and a beat or two");
    assert_eq!(agent.firsts(), [None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_gets_less_and_misses_nothing() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let mut slow = Box::pin(server.source.subscribe(Uuid::from_u128(1), Position::default(), None));
    let quick = Agent::start(&mut tasks, from_ref(&server), None, 2);
    let mut store = Store::new();
    let mut intake = Intake::new();
    let mut take = |frame: Bytes, store: &mut Store| {
        for incoming in intake.take(&frame).expect("a source makes sense") {
            if let Incoming::Batch(batch) = incoming {
                store.enter(*batch).expect("it goes on");
            }
        }
    };
    take(slow.next().await.expect("a beat"), &mut store);
    take(slow.next().await.expect("everything"), &mut store);
    // More than the ring holds.
    let long = "x".repeat(8 << 10);
    for n in 0..20 {
        for node in 0..40 {
            let Command::Register(mut register) = registration(node, Status::Passing) else { panic!("it is one") };
            register.checks[0].value.output = format!("{n} {long}").into();
            log.write(Command::Register(register));
        }
        server.catch_up(&log);
        quick.reaches(&server).await;
    }
    let to = server.reader().load().position();
    let mut frames = 0;
    while store.state().position() != to {
        take(timeout(SOON, slow.next()).await.expect("it goes on").expect("the server runs"), &mut store);
        frames += 1;
    }
    assert!(frames < 10, "{frames} frames: all that was missed came one by one");
    store.publish();
    assert_eq!(fed(&store.reader()), fed(&server.reader()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_left_and_the_age_is_told() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let (following, follower) = Follower::new(Store::new(), Bells::new(), None, None, None, SmallRng::seed_from_u64(1));
    assert_eq!(following.age(), Age { known_leader: false, last_contact: None });
    let connects = Arc::new(Mutex::new(0));
    let connect = {
        let (server, connects) = (server.clone(), connects.clone());
        move |at| {
            let first = std::mem::replace(&mut *connects.lock().expect("nobody panics"), 1) == 0;
            let frames = server.source.subscribe(Uuid::from_u128(1), at, None).map(Ok);
            let frames: Frames = if first {
                frames.take(2).chain(futures_util::stream::pending()).boxed()
            } else {
                futures_util::stream::pending().boxed()
            };
            async move { Ok(Feed { server: Uuid::nil(), frames }) }
        }
    };
    tasks.spawn(follower.run(connect, |_, _| {}, pending()));
    eventually("the server is heard", || following.age().last_contact.is_some() && following.server().is_some()).await;
    assert!(following.age().known_leader);
    assert!(following.age().last_contact.expect("it was heard") >= Duration::from_millis(3));
    eventually("the server is left", || !following.age().known_leader && following.server().is_none()).await;
    let age = following.age().last_contact.expect("it was heard");
    assert!(age >= Duration::from_secs(3), "{age:?}");
    assert_eq!(following.position().index, log.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_cut_off_is_left_for_another() {
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let servers = [Server::new(&mut tasks), Server::new(&mut tasks)];
    log.write(registration(1, Status::Passing));
    servers.iter().for_each(|server| server.catch_up(&log));
    let agent = Agent::start(&mut tasks, &servers, None, 1);
    agent.reaches(&servers[0]).await;
    eventually("a leader is known", || agent.following.age().known_leader).await;
    servers[0].known_leader.store(false, Ordering::Relaxed);
    eventually("none is known", || !agent.following.age().known_leader).await;
    servers[1].write(&log, registration(1, Status::Critical));
    agent.servers.lock().expect("nobody panics").rotate_left(1);
    agent.reaches(&servers[1]).await;
    assert_eq!(agent.firsts().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_answers_from_its_copy_before_any_server_does() {
    let dir = tempfile::tempdir().expect("a directory for tests");
    let path = dir.path().join("catalog.copy");
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..20).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let agent = Agent::start(&mut tasks, from_ref(&server), Some(&path), 1);
    agent.reaches(&server).await;
    server.write(&log, registration(4, Status::Critical));
    server.write(&log, removal(5));
    agent.reaches(&server).await;
    let at = agent.following.position();
    agent.stop().await;

    let mut store = Store::new();
    let (copy, age) = DiskCopy::open(&path, &mut store).expect("it was just written");
    assert_eq!(store.state().position(), at);
    assert_eq!(fed(&store.reader()), fed(&server.reader()));
    assert!(age.expect("a leader was heard of") < SOON);
    drop(copy);

    let without = Agent::start(&mut tasks, &[], Some(&path), 1);
    assert_eq!(fed(&without.reader), fed(&server.reader()));
    assert!(!without.following.age().known_leader && without.following.age().last_contact.is_some());
    server.write(&log, registration(6, Status::Critical));
    without.servers.lock().expect("nobody panics").push_back(server.clone());
    without.reaches(&server).await;
    assert_eq!(without.firsts(), [Some(at.index)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_widened_though_nothing_changes() {
    let dir = tempfile::tempdir().expect("a directory for tests");
    let path = dir.path().join("catalog.copy");
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..20).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let wants = Wants::new(true, &NodeName::new("node-1").expect("a name"), Uuid::from_u128(1), None);
    let agent = Agent::wanting(&mut tasks, from_ref(&server), Some(&path), Some(wants.clone()), 1);
    let asked = Part::Service(ServiceName::new("web-4").expect("a name"));
    let holds = |reader: &Reader| reader.load().interest().is_some_and(|interest| interest.covers(&asked));
    let to = server.reader().load().position();
    eventually("the agent has its own rows", || agent.following.position() == to).await;
    assert!(!holds(&agent.reader));
    wants.note(&asked);
    eventually("the agent has what it was asked for too", || holds(&agent.reader)).await;
    assert_eq!(agent.following.position(), to);
    agent.stop().await;
    let mut store = Store::new();
    DiskCopy::open(&path, &mut store).expect("it was just written");
    assert!(holds(&store.reader()), "the copy on disk is the one that was read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_copy_is_a_catalog_as_it_was_or_none() {
    let dir = tempfile::tempdir().expect("a directory for tests");
    let path = dir.path().join("catalog.copy");
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    (0..3).for_each(|node| server.write(&log, registration(node, Status::Passing)));
    let agent = Agent::start(&mut tasks, from_ref(&server), Some(&path), 1);
    agent.reaches(&server).await;
    let mut states = vec![(agent.following.position(), fed(&agent.reader))];
    for node in 0..3 {
        server.write(&log, registration(node, Status::Critical));
        agent.reaches(&server).await;
        states.push((agent.following.position(), fed(&agent.reader)));
    }
    agent.stop().await;
    let whole = std::fs::read(&path).expect("it was just written");
    let torn = dir.path().join("torn.copy");
    let mut reached = std::collections::BTreeSet::new();
    let mut opened = |bytes: &[u8], what: &str| {
        std::fs::write(&torn, bytes).expect("a directory for tests");
        let mut store = Store::new();
        let _copy = DiskCopy::open(&torn, &mut store).expect("whatever is in it, the agent starts");
        let at = store.state().position();
        if at != Position::default() {
            let known = states.iter().find(|(position, _)| *position == at).unwrap_or_else(|| panic!("{what}: {at:?}"));
            assert!(fed(&store.reader()) == known.1, "{what}");
        }
        reached.insert(at.index);
    };
    for end in (0..whole.len()).step_by(7) {
        opened(&whole[..end], &format!("cut at {end}"));
    }
    for at in (24..whole.len()).step_by(11) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        opened(&bytes, &format!("flipped at {at}"));
    }
    opened(b"no copy of a catalog", "foreign");
    assert!(reached.len() >= 4, "{reached:?}");

    // What is torn costs what is missing, and the copy is whole again.
    std::fs::write(&torn, &whole[..whole.len() - 1]).expect("a directory for tests");
    let agent = Agent::start(&mut tasks, from_ref(&server), Some(&torn), 1);
    agent.reaches(&server).await;
    assert_eq!(agent.firsts(), [Some(states[2].0.index)]);
    agent.stop().await;
    let mut store = Store::new();
    let _copy = DiskCopy::open(&torn, &mut store).expect("it was just written");
    assert_eq!(store.state().position(), states[3].0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_tail_of_changes_is_folded_into_the_copy() {
    let dir = tempfile::tempdir().expect("a directory for tests");
    let path = dir.path().join("catalog.copy");
    let (mut tasks, log) = (JoinSet::new(), Log::new());
    let server = Server::new(&mut tasks);
    server.write(&log, registration(1, Status::Passing));
    let agent = Agent::start(&mut tasks, from_ref(&server), Some(&path), 1);
    agent.reaches(&server).await;
    let long = "x".repeat(64 << 10);
    let mut largest = 0;
    for n in 0..60 {
        let Command::Register(mut register) = registration(1, Status::Passing) else { panic!("it is one") };
        register.checks[0].value.output = format!("{n} {long}").into();
        server.write(&log, Command::Register(register));
        server.source.flush(Uuid::from_u128(1), log.len());
        assert!(agent.following.wait_for(log.len(), SOON).await);
        largest = largest.max(std::fs::metadata(&path).map_or(0, |file| file.len()));
    }
    agent.stop().await;
    largest = largest.max(std::fs::metadata(&path).expect("it was written before the end").len());
    assert!(largest < 2 << 20, "{largest}");
    let mut store = Store::new();
    let _copy = DiskCopy::open(&path, &mut store).expect("it was just written");
    assert_eq!(store.state().position().index, log.len());
}
