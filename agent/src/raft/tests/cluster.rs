//! Several servers on real sockets: they elect, replicate, lose leaders, and lose nothing that was acknowledged.
#![allow(clippy::disallowed_methods)] // tests wait and measure

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use futures_util::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::*;
use crate::desk::forward::{self, ForwardError, Forwarder};
use crate::door::peer::{self, Answer, Call, Door, Limits, Rooms};
use crate::raft::types::RaftId;
use crate::rpc::{AddressBook, Code, Identity, Method, Part, Pool, Refusal};

mod disks;

const CLUSTER: Uuid = Uuid::from_u128(0xC);

/// Behind this door are raft and the commands of others.
struct Writes(Raft);

impl Rooms for Writes {
    fn answer(&self, call: Call) -> BoxFuture<'static, Result<Answer, Refusal>> {
        let raft = self.0.clone();
        Box::pin(async move {
            match call.method {
                Method::Write => forward::write_forwarded(&raft, call.body, 1).await.map(Answer::Whole),
                method => Err(Refusal::new(Code::Method, format!("{} is not answered here", method.path()))),
            }
        })
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
        let known = AddressBook::new();
        known.replace((*book.all()).clone());
        Self::start_at(node, dir, book.get(node).expect("it was given one"), known, change).await
    }

    /// One that finds the others by a book of its own.
    pub(super) async fn start_at(
        node: Uuid,
        dir: Option<&Path>,
        address: SocketAddr,
        known: AddressBook,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let identity = Identity::new(node, "dc1", Part::Server);
        identity.set_cluster(CLUSTER);
        let pool = Pool::new(identity.clone(), known);
        let mut config = Config { peers: Some(pool.clone()), disk_reserve: 0, ..Config::new(dir.map(Path::to_owned), node) };
        change(&mut config);
        let store = Store::new();
        let reader = store.reader();
        let bells = Bells { touched: Box::new(|_| {}), all: Box::new(|| {}) };
        let raft = Raft::start(config, store, bells).await.unwrap();
        let doors = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let inside = doors.enter();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(64).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let door = Door::new(identity, Some(raft.clone()), Arc::new(Writes(raft.clone())), Limits::default());
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

/// Addresses nobody listens on at the moment, each on a host address of its own: no outgoing connection takes the port of a
/// server that is down.
pub(super) fn book(nodes: u128) -> AddressBook {
    static HOSTS: AtomicU16 = AtomicU16::new(1);
    let book = AddressBook::new();
    for node in (1..=nodes).map(Uuid::from_u128) {
        let [high, low] = HOSTS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let host = Ipv4Addr::new(127, 64 + (std::process::id() % 128) as u8, high, low);
        let listener = std::net::TcpListener::bind((host, 0)).unwrap();
        book.set(node, listener.local_addr().unwrap());
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

#[tokio::test(flavor = "multi_thread")]
async fn any_server_takes_writes_and_each_is_applied_once() {
    let cluster = Cluster::of(3, |_| {}).await;
    cluster.elected().await;
    let mut writers = Vec::new();
    for (at, member) in cluster.members.iter().enumerate() {
        let (raft, pool) = (member.raft.clone(), member.pool.clone());
        writers.push(tokio::spawn(async move {
            let forwarder = Forwarder::new(pool);
            let run = Run { agent: Uuid::from_u128(at as u128 + 100), epoch: 1 };
            let of = |number, command| Proposal { run, answered_below: 1, ..proposal(1, number, command) };
            // as the desk does it: where the leader changes, the same number goes to the next one
            let write = |proposal: Proposal| {
                let (raft, forwarder, begun) = (raft.clone(), forwarder.clone(), Instant::now());
                async move {
                    loop {
                        let written = match raft.leader() {
                            Some(_) if raft.is_leader() => raft.write(&proposal).await.map_err(ForwardError::from),
                            Some((_, node)) => forwarder.write(node, proposal.encode().into(), PATIENCE).await,
                            None => Err(ForwardError::Write(WriteError::NotLeader { leader: None })),
                        };
                        match written {
                            Err(_) if begun.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(10)).await,
                            written => return written,
                        }
                    }
                }
            };
            assert_eq!(write(of(0, Command::OpenRun)).await.unwrap().1, Outcome::Done);
            let all = (1..=200).map(|number| write(of(number, set(&format!("w{at}-{number}"), number.to_string()))));
            for written in futures_util::future::join_all(all).await {
                assert_eq!(written.unwrap().1, Outcome::Kv(true));
            }
            // the same number again, as after a lost answer
            assert_eq!(write(of(200, set(&format!("w{at}-200"), "again"))).await.unwrap().1, Outcome::Kv(true));
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for at in 0..3 {
        cluster.all_have(&format!("w{at}-200"), "200").await;
    }
    // who is not the leader says so, and who is
    let leader = cluster.elected().await;
    let follower = cluster.members.iter().find(|member| member.id() != leader).unwrap();
    let other = cluster.members.iter().find(|member| member.id() != leader && member.id() != follower.id()).unwrap();
    let forwarder = Forwarder::new(follower.pool.clone());
    let refused = forwarder.write(other.node, proposal(1, 1, set("x", "y")).encode().into(), PATIENCE).await;
    let Err(ForwardError::Write(WriteError::NotLeader { leader: Some((told, _)) })) = refused else { panic!("{refused:?}") };
    assert_eq!(told, leader);
    // what the leader does not understand must not enter the log: every server would stop at it
    let node = cluster.leader().unwrap().node;
    let mut unknown = proposal(1, 1, Command::OpenRun).encode();
    unknown[1..3].copy_from_slice(&0x0123u16.to_be_bytes());
    let refused = forwarder.write(node, unknown.into(), PATIENCE).await;
    assert!(matches!(refused, Err(ForwardError::Undone(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_within_milliseconds() {
    let mut cluster = Cluster::of(3, |_| {}).await;
    let mut took = Vec::new();
    for round in 0..6 {
        cluster.set("k", "v").await;
        cluster.all_have("k", "v").await;
        let leader = cluster.elected().await;
        let to = cluster.members.iter().map(Member::id).find(|id| *id != leader).filter(|_| round % 2 == 0);
        let raft = cluster.leader().unwrap().raft.clone();
        let started = Instant::now();
        let (next, _) = raft.transfer_leader(to, PATIENCE).await.unwrap();
        took.push(started.elapsed());
        assert_ne!(next, leader);
        assert!(to.is_none_or(|to| to == next));
    }
    println!("hand-over: {took:?}");
    let raft = cluster.members[0].raft.clone();
    cluster.elected().await;
    let stranger = cluster.leader().unwrap().raft.transfer_leader(Some(RaftId::from(9)), PATIENCE).await;
    assert!(matches!(stranger, Err(MemberError::NoSuchVoter { .. })), "{stranger:?}");
    if !raft.is_leader() {
        assert!(matches!(raft.transfer_leader(None, PATIENCE).await, Err(MemberError::NotLeader { leader: Some(_) })));
    }
    cluster.set("k", "w").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn false_evidence_against_a_living_leader_loses_nothing() {
    let mut cluster = Cluster::of(3, |_| {}).await;
    cluster.set("first", "1").await;
    for round in 0..5 {
        let leader = cluster.elected().await;
        let follower = cluster.members.iter().find(|member| member.id() != leader).unwrap();
        // a closed connection alone is no proof: the leader answers
        let term = follower.raft.status().term;
        follower.raft.peer_closed(leader.uuid());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(follower.raft.status().term, term, "nobody stood for election");
        // as if its port had refused
        let vote = follower.raft.vote();
        let last = follower.raft.running.last.get();
        let request = openraft::raft::TransferLeaderRequest::new(vote, follower.id(), last);
        let _ = follower.raft.running.engine.handle_transfer_leader(request).await.unwrap();
        for number in 0..20 {
            cluster.set(&format!("r{round}-{number}"), "x").await;
        }
    }
    for round in 0..5 {
        for number in 0..20 {
            cluster.all_have(&format!("r{round}-{number}"), "x").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_writes_are_refused_and_the_missing_are_named() {
    let mut cluster = Cluster::of(3, |_| {}).await;
    cluster.set("a", "1").await;
    let leader = cluster.elected().await;
    let others: Vec<RaftId> = cluster.members.iter().map(Member::id).filter(|id| *id != leader).collect();
    let mut nodes = Vec::new();
    for id in others {
        let member = cluster.take(id);
        nodes.push(member.node);
        member.kill().await;
    }
    let alone = cluster.members[0].raft.clone();
    eventually("both are missed", || alone.missing().len() == 2).await;
    let mut missing: Vec<Uuid> = alone.missing().iter().map(|one| one.node).collect();
    missing.sort_unstable();
    nodes.sort_unstable();
    assert_eq!(missing, nodes);
    let refused = timeout(PATIENCE, alone.write(&proposal(1, 99, set("a", "2")))).await.expect("an answer").unwrap_err();
    assert!(matches!(refused, WriteError::NotLeader { .. } | WriteError::Undecided), "{refused}");
    assert!(timeout(PATIENCE, alone.read_index()).await.expect("an answer").is_err());
    assert_eq!(cluster.members[0].value("a").unwrap(), "1", "what is there can be read");
    for node in nodes {
        cluster.start(node).await;
    }
    cluster.elected().await;
    eventually("nobody is missed", || alone.missing().is_empty()).await;
    cluster.set("a", "3").await;
    cluster.all_have("a", "3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_servers_lose_two_leaders_one_after_the_other() {
    let mut cluster = Cluster::of(5, |_| {}).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    for round in 0..2 {
        cluster.set("k", round.to_string()).await;
        let leader = cluster.elected().await;
        let killed = Instant::now();
        cluster.take(leader).kill().await;
        cluster.set("k", format!("after {round}")).await;
        println!("five servers, loss {round}: {:?} to the next accepted write", killed.elapsed());
        cluster.all_have("k", &format!("after {round}")).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let leader = cluster.leader().unwrap().raft.clone();
    let living: BTreeSet<RaftId> = cluster.members.iter().map(Member::id).collect();
    let dead: BTreeSet<RaftId> = leader.servers().iter().map(|server| server.id).filter(|id| !living.contains(id)).collect();
    eventually("the leader hears the three", || {
        let heard = leader.servers();
        heard.iter().filter(|server| server.last_contact.is_some_and(|silence| silence < Duration::from_millis(300))).count() == 2
    })
    .await;
    leader.remove_servers(&dead).await.unwrap();
    assert_eq!(leader.servers().len(), 3);
    let own = BTreeSet::from([leader.id()]);
    assert_eq!(leader.remove_servers(&own).await, Err(MemberError::IsLeader));
    let gone = cluster.members.iter().map(Member::id).find(|id| *id != leader.id()).unwrap();
    cluster.take(gone).kill().await;
    let rest = cluster.members.iter().map(Member::id).find(|id| *id != leader.id()).unwrap();
    eventually("a removal that leaves no quorum is refused", || {
        leader
            .servers()
            .iter()
            .any(|server| server.id == gone && server.last_contact.is_some_and(|s| s > Duration::from_millis(700)))
    })
    .await;
    assert!(matches!(leader.remove_servers(&BTreeSet::from([rest])).await, Err(MemberError::Quorum { .. })));
    leader.remove_servers(&BTreeSet::from([gone])).await.unwrap();
    cluster.set("k", "two are left").await;
    cluster.all_have("k", "two are left").await;
}
