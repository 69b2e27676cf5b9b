//! Several servers on real sockets: they elect, replicate, lose leaders and members, and lose nothing that was acknowledged.
#![allow(clippy::disallowed_methods)] // tests wait and measure

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::*;
use crate::door::peer::{self, Answer, Call, Door, Rooms};
use crate::raft::types::RaftId;
use crate::rpc::{AddressBook, Code, Identity, Method, Part, Pool, Refusal};

const CLUSTER: Uuid = Uuid::from_u128(0xC);

/// Nothing is behind this door but raft.
struct NoRooms;

impl Rooms for NoRooms {
    fn answer(&self, call: Call) -> BoxFuture<'static, Result<Answer, Refusal>> {
        Box::pin(async move { Err(Refusal::new(Code::Method, format!("{} is not answered here", call.method.path()))) })
    }
}

/// One server as a process would be: raft on its thread, the door on a runtime of its own.
pub(super) struct Member {
    pub(super) raft: Raft,
    pub(super) reader: Reader,
    pub(super) pool: Pool,
    pub(super) node: Uuid,
    doors: Option<Runtime>,
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(doors) = self.doors.take() {
            doors.shutdown_background();
        }
    }
}

impl Member {
    pub(super) async fn start(node: Uuid, dir: Option<&Path>, book: &AddressBook, change: impl FnOnce(&mut Config)) -> Self {
        let identity = Identity::new(node, "dc1", Part::Server);
        identity.set_cluster(CLUSTER);
        let known = AddressBook::new();
        known.replace((*book.all()).clone());
        let pool = Pool::new(identity.clone(), known);
        let mut config = Config { peers: Some(pool.clone()), disk_reserve: 0, ..Config::new(dir.map(Path::to_owned), node) };
        change(&mut config);
        let store = Store::new();
        let reader = store.reader();
        let bells = Bells { touched: Box::new(|_| {}), all: Box::new(|| {}) };
        let raft = Raft::start(config, store, bells).await.unwrap();
        let doors = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = book.get(node).expect("it was given one");
        let inside = doors.enter();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(64).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let door = Door::new(identity, Some(raft.clone()), Arc::new(NoRooms));
        doors.spawn(peer::serve(door, listener, std::future::pending()));
        drop(inside);
        Self { raft, reader, pool, node, doors: Some(doors) }
    }

    /// As `kill -9` would: nothing is said to anybody, all sockets close.
    pub(super) async fn kill(mut self) {
        if let Some(doors) = self.doors.take() {
            doors.shutdown_background();
        }
        self.raft.clone().shutdown().await;
    }

    pub(super) fn value(&self, key: &str) -> Option<Bytes> {
        self.reader.load().key(key).map(|entry| entry.value.clone())
    }

    pub(super) fn id(&self) -> RaftId {
        self.raft.id()
    }
}

/// Addresses nobody listens on at the moment.
pub(super) fn book(nodes: u128) -> AddressBook {
    let book = AddressBook::new();
    let listeners: Vec<_> = (1..=nodes).map(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    for (node, listener) in (1..=nodes).zip(&listeners) {
        book.set(Uuid::from_u128(node), listener.local_addr().unwrap());
    }
    book
}

pub(super) struct Cluster {
    pub(super) book: AddressBook,
    pub(super) dirs: BTreeMap<Uuid, TempDir>,
    pub(super) members: Vec<Member>,
    change: fn(&mut Config),
    number: u64,
}

impl Cluster {
    /// `size` servers that have founded a cluster and have a leader.
    pub(super) async fn of(size: u128, change: fn(&mut Config)) -> Self {
        let book = book(size);
        let mut cluster = Self { book, dirs: BTreeMap::new(), members: Vec::new(), change, number: 0 };
        for node in (1..=size).map(Uuid::from_u128) {
            cluster.start(node).await;
        }
        let set: BTreeMap<RaftId, Uuid> = cluster.members.iter().map(|member| (member.id(), member.node)).collect();
        for member in &cluster.members {
            if member.raft.is_founder(&set) {
                assert!(member.raft.found(&set).await.unwrap());
            }
        }
        cluster.elected().await;
        cluster.write_command(Command::OpenRun).await.unwrap();
        cluster
    }

    pub(super) async fn start(&mut self, node: Uuid) {
        let dir = self.dirs.entry(node).or_insert_with(|| tempfile::tempdir().unwrap());
        let member = Member::start(node, Some(dir.path()), &self.book, self.change).await;
        self.members.push(member);
    }

    /// Waits for a leader that all members know.
    pub(super) async fn elected(&self) -> RaftId {
        let mut found = None;
        eventually("all know one leader", || {
            let known: BTreeSet<_> = self.members.iter().map(|member| member.raft.leader().map(|(id, _)| id)).collect();
            found =
                known.first().copied().flatten().filter(|id| {
                    known.len() == 1 && self.members.iter().any(|member| member.id() == *id && member.raft.is_leader())
                });
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    pub(super) fn leader(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.raft.is_leader())
    }

    pub(super) fn take(&mut self, id: RaftId) -> Member {
        let at = self.members.iter().position(|member| member.id() == id).expect("it is a member");
        self.members.remove(at)
    }

    async fn write_command(&mut self, command: Command) -> Result<u64, WriteError> {
        let number = self.number;
        self.number += 1;
        let proposal = proposal(1, number, command);
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(leader) = self.leader() else {
                assert!(Instant::now() < until, "no leader");
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            };
            match leader.raft.write(&proposal).await {
                Ok((index, outcome)) => {
                    assert!(matches!(outcome, Outcome::Done | Outcome::Kv(true)), "{outcome:?}");
                    return Ok(index);
                }
                // the same number again: applied once, whatever became of it
                Err(WriteError::NotLeader { .. } | WriteError::Undecided | WriteError::Busy) if Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn set(&mut self, key: &str, value: impl Into<Bytes>) -> u64 {
        self.write_command(set(key, value)).await.unwrap()
    }

    pub(super) async fn all_have(&self, key: &str, value: &str) {
        for member in &self.members {
            eventually(&format!("{key} = {value} on node {}", member.node), || {
                member.value(key).is_some_and(|found| found == value)
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_elect_a_leader_and_replicate() {
    let mut cluster = Cluster::of(3, |_| {}).await;
    for number in 0..100 {
        cluster.set(&format!("k{number}"), number.to_string()).await;
    }
    cluster.all_have("k99", "99").await;
    let leader = cluster.elected().await;
    for member in &cluster.members {
        let status = member.raft.status();
        assert_eq!(status.num_peers, 2);
        assert_eq!(status.leader.unwrap().0, leader);
        // a follower asks the leader how far it must have read
        let index = member.raft.read_index().await.unwrap();
        timeout(PATIENCE, member.raft.applied(index)).await.unwrap();
        assert_eq!(member.value("k99").unwrap(), "99");
        assert_eq!(member.raft.missing(), []);
    }
    let servers = cluster.leader().unwrap().raft.servers();
    assert!(servers.iter().all(|server| server.voter && server.matching.is_some() && !server.lost_log), "{servers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_by_evidence_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::of(3, |_| {}).await;
    let mut took = Vec::new();
    for round in 0..5 {
        tokio::time::sleep(Duration::from_millis(600)).await; // connections of all to all stand, heartbeats are heard
        for number in 0..20 {
            cluster.set(&format!("r{round}-{number}"), "before").await;
        }
        let leader = cluster.elected().await;
        let dead = cluster.take(leader);
        let node = dead.node;
        let killed = Instant::now();
        dead.kill().await;
        cluster.set(&format!("r{round}"), "after").await;
        took.push(killed.elapsed());
        for number in 0..20 {
            assert_eq!(cluster.leader().unwrap().value(&format!("r{round}-{number}")).unwrap(), "before");
        }
        cluster.start(node).await;
        cluster.all_have(&format!("r{round}"), "after").await;
    }
    println!("kill to the next accepted write: {took:?}");
    took.sort_unstable();
    assert!(took[0] < Duration::from_millis(400), "evidence is faster than any timer: {took:?}");
}
