//! Questions that travel, and those that wait here.
#![allow(clippy::disallowed_methods)] // tests have clocks and tasks

use std::sync::Mutex;

use futures_util::future::BoxFuture;
use muster_catalog::{AntiEntropy, Cause, CauseKind, Command, Instance, NodeName, Proposal, Reader, Run, ServiceName, Store};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::config::{AgentFlags, Host};
use crate::desk::feed::Follower;
use crate::desk::{Bells, Cluster, LocalDesk, LocalSettings, Lone, Policy, Quorum, Seat, Setup, disk};
use crate::door::peer::{self, Answer, Call, Door, Limits, Rooms};
use crate::rpc::{AddressBook, Identity, Part as Role, Pool};

#[test]
fn a_letter_is_read_as_it_was_written() {
    let letter = Letter {
        question: Question::Key("a/b".into()),
        stale: false,
        consistent: true,
        seen: 7,
        wait_ms: 1000,
        token: Some("t".into()),
        from: "127.0.0.1:9".into(),
    };
    let read: Letter = read(&rmp_serde::to_vec_named(&letter).unwrap()).unwrap();
    assert!(matches!(read.question, Question::Key(key) if &*key == "a/b"));
    assert!(read.consistent && !read.stale && read.seen == 7 && read.wait_ms == 1000);
    assert!(super::read::<Letter>(&[0xc1]).is_none());
}

/// A server whose log is further than what its followers were told; it answers each question with nothing.
#[derive(Default)]
struct Ahead {
    asked: Mutex<Vec<Letter>>,
}

impl Rooms for Arc<Ahead> {
    fn answer(&self, call: Call) -> BoxFuture<'static, Result<Answer, Refusal>> {
        let server = Arc::clone(self);
        Box::pin(async move {
            match call.method {
                Method::ReadIndex => Ok(Answer::Whole(Bytes::from_static(b"\x81\xa5index\x0a"))),
                Method::Query => {
                    server.asked.lock().unwrap().push(read(&call.body).unwrap());
                    let seen = Seen { index: 10, known_leader: true, last_contact_ms: 0, answer: Vec::<Arc<Instance>>::new() };
                    reply(Ok(seen)).map(Answer::Whole)
                }
                method => Err(Refusal::new(Code::Failed, format!("no {method:?} today"))),
            }
        })
    }
}

/// A client's desk whose copy nobody keeps up but the test.
struct Client {
    desk: Desk,
    store: Store,
    bells: Arc<Bells>,
    server: Arc<Ahead>,
    _stop: watch::Sender<bool>,
}

async fn client() -> Client {
    let (id, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let identity = |node, role| {
        let identity = Identity::new(node, "dc1", role);
        identity.set_cluster(Uuid::from_u128(100));
        identity
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let book = AddressBook::new();
    book.set(other, listener.local_addr().unwrap());
    let server = Arc::new(Ahead::default());
    let door = Door::new(identity(other, Role::Server), None, Arc::new(server.clone()), Limits::default());
    tokio::spawn(peer::serve(door, listener, std::future::pending()));
    let (bells, store) = (Bells::new(), Store::new());
    let (following, _) = Follower::new(Store::new(), bells.clone(), None, None, None, SmallRng::seed_from_u64(1));
    let reader: Reader = store.reader();
    let (verdicts, _) = mpsc::channel(8);
    let (runner, _) = muster_health::new(muster_health::Config::default(), verdicts);
    let (stop, stopping) = watch::channel(false);
    let settings = LocalSettings {
        policy: Policy::default(),
        output_delay: Duration::ZERO,
        discard_output: false,
        anti_entropy: AntiEntropy::OwnRows,
    };
    let flags = AgentFlags::parse(["-dev".into()]).unwrap();
    let host = Host::with("test-node", "lo", "127.0.0.1/8");
    let about = crate::config::load(&flags, &host).unwrap().config;
    let desk = Desk::new(Setup {
        name: NodeName::new("test-node").unwrap(),
        id,
        run: Run { agent: id, epoch: 1 << 16 },
        quorum: Quorum::new(Seat::Client(following), Some(Pool::new(identity(id, Role::Client), book))),
        reader,
        bells: bells.clone(),
        local: LocalDesk::new(runner, None, disk::Kept { starts: 1, ..disk::Kept::default() }, settings),
        cluster: Cluster::new(id, about.addresses.clone(), Lone::new(&about, id)),
        forgetful: false,
        hold: Duration::from_secs(10),
        default_reads_fail: false,
        max_stale: Duration::MAX,
        wants: None,
        autopilot: muster_catalog::Autopilot::default(),
        server_address: ([127, 0, 0, 1], 8300).into(),
        stop: stopping,
        errands: mpsc::channel(1).0,
    });
    Client { desk, store, bells, server, _stop: stop }
}

fn web() -> HealthService {
    HealthService { name: ServiceName::new("web").unwrap(), tags: Vec::new(), node_meta: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_does_not_wait_for_a_copy_that_lags() {
    let client = client().await;
    let who = Who::outside("test", None);
    let begun = Instant::now();
    for consistency in [Consistency::Default, Consistency::Consistent] {
        let seen = client.desk.read(&who, &web(), consistency, None).await.unwrap();
        assert_eq!((seen.index, seen.known_leader), (10, true), "it is the server's answer");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let asked = std::mem::take(&mut *client.server.asked.lock().unwrap());
    assert!(matches!(&asked[..], [one, other] if !one.consistent && other.consistent));
    assert!(matches!(&asked[0].question, Question::HealthService(ask) if *ask == web()));
    // What may be old is answered here.
    assert_eq!(client.desk.read(&who, &web(), Consistency::Stale, None).await.unwrap().index, 1);
    assert!(client.server.asked.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_wakes_who_waits_for_an_index_of_the_old_one() {
    let Client { desk, mut store, bells, server: _server, _stop } = client().await;
    let send = |store: &mut Store, number: u64, command: Command| {
        let run = Run { agent: Uuid::from_u128(1), epoch: 1 };
        let cause = Cause::new("test", CauseKind::Start, 1, "test");
        let proposal = Proposal { request: Uuid::nil(), run, number, answered_below: number, time_ms: 1, cause, command };
        store.apply(number + 1, proposal);
        store.publish();
    };
    send(&mut store, 0, Command::OpenRun);
    send(&mut store, 1, Command::Found(Uuid::from_u128(7)));
    let (waits, who) = (desk.clone(), Who::outside("test", None));
    let waiting = tokio::spawn(async move {
        let wait = Wait { seen: 1000, timeout: Duration::from_secs(600) };
        waits.read(&who, &web(), Consistency::Stale, Some(&wait)).await.map(|seen| seen.index)
    });
    bells.ring_all(); // The same history: it goes on waiting.
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    // It may not have begun to wait when one begins: then the next one wakes it.
    let end = Instant::now() + Duration::from_secs(20);
    for number in 2.. {
        if waiting.is_finished() {
            break;
        }
        assert!(Instant::now() < end, "it waits on");
        send(&mut store, number, Command::Found(Uuid::from_u128(u128::from(number) + 6)));
        bells.ring_all();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
}
