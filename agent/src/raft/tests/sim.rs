//! Three and five servers under cuts, slow wires, slow disks and crashes, with writers that retry until they know: what was
//! acknowledged is there, once, and all servers agree. The schedule follows a seed; time and sockets are real.
//!
//! `MUSTER_SIM_SEEDS=from..to` runs others than the few of the gate; a failure prints its seed.
#![allow(clippy::disallowed_methods)] // tests wait and measure

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use muster_catalog::{Index, Refusal as CatalogRefusal};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::cluster::{Member, book};
use super::*;
use crate::desk::forward::{ForwardError, Forwarder};
use crate::raft::log::slow_disk;
use crate::raft::types::RaftId;
use crate::rpc::AddressBook;

/// How long faults go on, and how long it may take until all is well again.
const TROUBLE: Duration = Duration::from_secs(5);
const HEALING: Duration = Duration::from_secs(30);
const WRITERS: usize = 4;

/// The wire from one server to another: it may be cut, hold what is sent, or take its time.
#[derive(Default)]
struct Wire {
    held: AtomicBool,
    broken: AtomicBool,
    delay_ms: AtomicU64,
}

impl Wire {
    fn heal(&self) {
        self.held.store(false, Ordering::Relaxed);
        self.broken.store(false, Ordering::Relaxed);
        self.delay_ms.store(0, Ordering::Relaxed);
    }

    /// Passes connections on to a server. Where that one's port refuses, so does this one, as far as it can: it closes.
    async fn carry(self: Arc<Self>, listener: TcpListener, to: SocketAddr) {
        let mut carried = JoinSet::new();
        loop {
            let Ok((near, _)) = listener.accept().await else { return };
            while carried.try_join_next().is_some() {}
            if self.broken.load(Ordering::Relaxed) {
                continue;
            }
            let wire = self.clone();
            carried.spawn(async move {
                let Ok(far) = TcpStream::connect(to).await else { return };
                near.set_nodelay(true).ok();
                far.set_nodelay(true).ok();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::select! {
                    () = wire.pump(near_in, far_out) => {}
                    () = wire.pump(far_in, near_out) => {}
                }
            });
        }
    }

    async fn pump(&self, mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf) {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let read = tokio::select! {
                read = from.read(&mut bytes) => read.unwrap_or(0),
                () = self.breaks() => return,
            };
            if read == 0 {
                return;
            }
            let delay = self.delay_ms.load(Ordering::Relaxed);
            if delay > 0 {
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
            while self.held.load(Ordering::Relaxed) && !self.broken.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if self.broken.load(Ordering::Relaxed) || to.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    }

    async fn breaks(&self) {
        while !self.broken.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Where a writer finds a server that runs at the moment.
type Doors = Arc<Mutex<Vec<(Raft, Forwarder)>>>;

struct World {
    rng: SmallRng,
    addresses: BTreeMap<Uuid, SocketAddr>,
    wires: BTreeMap<(Uuid, Uuid), (Arc<Wire>, SocketAddr)>,
    dirs: BTreeMap<Uuid, TempDir>,
    members: BTreeMap<Uuid, Member>,
    doors: Doors,
    carrying: JoinSet<()>,
}

impl World {
    async fn of(size: u128, seed: u64) -> Self {
        let addresses = (*book(size).all()).clone();
        let (mut wires, mut carrying) = (BTreeMap::new(), JoinSet::new());
        for from in addresses.keys() {
            for (to, address) in addresses.iter().filter(|(to, _)| *to != from) {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                let (wire, entry) = (Arc::new(Wire::default()), listener.local_addr().unwrap());
                carrying.spawn(wire.clone().carry(listener, *address));
                wires.insert((*from, *to), (wire, entry));
            }
        }
        let dirs = addresses.keys().map(|node| (*node, tempfile::tempdir().unwrap())).collect();
        let (rng, members, doors) = (SmallRng::seed_from_u64(seed), BTreeMap::new(), Doors::default());
        let mut world = Self { rng, addresses, wires, dirs, members, doors, carrying };
        for node in world.addresses.keys().copied().collect::<Vec<_>>() {
            world.start(node).await;
        }
        let set: BTreeMap<RaftId, Uuid> = world.members.iter().map(|(node, member)| (member.id(), *node)).collect();
        for member in world.members.values().filter(|member| member.raft.is_founder(&set)) {
            assert!(member.raft.found(&set).await.unwrap());
        }
        world
    }

    async fn start(&mut self, node: Uuid) {
        let known = AddressBook::new();
        for ((_, to), (_, entry)) in self.wires.iter().filter(|((from, _), _)| *from == node) {
            known.set(*to, *entry);
        }
        let small = |config: &mut Config| (config.snapshot_threshold, config.trailing_logs) = (300, 50);
        let member = Member::start_at(node, Some(self.dirs[&node].path()), self.addresses[&node], known, small).await;
        self.members.insert(node, member);
        self.tell_writers();
    }

    async fn crash(&mut self, node: Uuid) {
        if let Some(member) = self.members.remove(&node) {
            self.tell_writers();
            member.kill().await;
        }
    }

    fn tell_writers(&self) {
        let doors = self.members.values().map(|member| (member.raft.clone(), Forwarder::new(member.pool.clone()))).collect();
        *self.doors.lock().unwrap() = doors;
    }

    fn any(&mut self) -> Uuid {
        let at = self.rng.random_range(0..self.addresses.len());
        *self.addresses.keys().nth(at).unwrap()
    }

    /// One fault, or the end of one.
    async fn trouble(&mut self) {
        let (one, other) = (self.any(), self.any());
        match self.rng.random_range(0..12) {
            0 | 1 => {
                println!("  crash {}", one.as_u128());
                self.crash(one).await;
            }
            2..=4 => {
                let down: Vec<Uuid> = self.addresses.keys().copied().filter(|node| !self.members.contains_key(node)).collect();
                for node in down {
                    println!("  restart {}", node.as_u128());
                    self.start(node).await;
                }
            }
            5 => {
                println!("  cut {} from all", one.as_u128());
                self.between(|from, to| from == one || to == one).for_each(|wire| wire.held.store(true, Ordering::Relaxed));
            }
            6 => {
                println!("  cut {} → {}", one.as_u128(), other.as_u128());
                self.between(|from, to| from == one && to == other).for_each(|wire| wire.held.store(true, Ordering::Relaxed));
            }
            7 => {
                println!("  connections of {} break", one.as_u128());
                self.between(|from, to| from == one || to == one).for_each(|wire| wire.broken.store(true, Ordering::Relaxed));
            }
            8 => {
                println!("  slow wires at {}", one.as_u128());
                let delay = self.rng.random_range(1..80);
                self.between(|from, to| from == one || to == one).for_each(|wire| wire.delay_ms.store(delay, Ordering::Relaxed));
            }
            9 => {
                println!("  slow disk at {}", one.as_u128());
                slow_disk(self.dirs[&one].path(), Duration::from_millis(self.rng.random_range(1..150)));
            }
            _ => {
                println!("  wires and disks are well");
                self.heal();
            }
        }
    }

    fn between(&self, chosen: impl Fn(Uuid, Uuid) -> bool) -> impl Iterator<Item = &Wire> {
        self.wires.iter().filter(move |((from, to), _)| chosen(*from, *to)).map(|(_, (wire, _))| &**wire)
    }

    fn heal(&self) {
        self.between(|_, _| true).for_each(Wire::heal);
        self.dirs.values().for_each(|dir| slow_disk(dir.path(), Duration::ZERO));
    }
}

/// What a writer knows at the end.
#[derive(Default)]
struct Known {
    /// Keys that were acknowledged, with the index at which they were applied.
    acknowledged: BTreeMap<String, Index>,
    /// Keys whose write was given up: there or not.
    open: BTreeSet<String>,
}

/// Writes until the faults are over, then until everything is answered.
async fn writer(at: usize, seed: u64, doors: Doors, over: Arc<AtomicBool>) -> Known {
    let mut rng = SmallRng::seed_from_u64(seed ^ (at as u64 + 1) << 32);
    let run = Run { agent: Uuid::from_u128(at as u128 + 100), epoch: 1 };
    let (mut known, mut number) = (Known::default(), 0u64);
    while !over.load(Ordering::Relaxed) || number == 0 {
        let key = format!("w{at}-{number}");
        let command = if number == 0 { Command::OpenRun } else { set(&key, number.to_string()) };
        let give_up = number > 0 && rng.random_range(0..10) == 0;
        let proposal = Proposal { run, answered_below: number, ..proposal(1, number, command) };
        let answer = write(&proposal, &doors, &mut rng, give_up).await;
        match answer {
            Some((_, Outcome::Done)) if number == 0 => {}
            Some((index, Outcome::Kv(true))) => assert!(known.acknowledged.insert(key, index).is_none()),
            None => assert!(known.open.insert(key)),
            other => panic!("seed {seed}: {key} got {other:?}"),
        }
        number += 1;
    }
    known
}

/// Tries until there is an answer, under one number; `give_up` after the first try that may have been written.
async fn write(proposal: &Proposal, doors: &Doors, rng: &mut SmallRng, give_up: bool) -> Option<(Index, Outcome)> {
    let bytes = Bytes::from(proposal.encode());
    loop {
        let door = {
            let doors = doors.lock().unwrap();
            (!doors.is_empty()).then(|| doors[rng.random_range(0..doors.len())].clone())
        };
        let Some((raft, forwarder)) = door else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let limit = Duration::from_millis(500);
        let written = if raft.is_leader() {
            match timeout(limit, raft.write_encoded(bytes.clone())).await {
                Ok(written) => written.map_err(ForwardError::from),
                Err(_) => Err(ForwardError::Unknown("too late".to_owned())),
            }
        } else if let Some((_, node)) = raft.leader() {
            forwarder.write(node, bytes.clone(), limit).await
        } else {
            Err(WriteError::NotLeader { leader: None }.into())
        };
        match written {
            // the retry of one that was answered at once by nobody: it was never applied, and is told so only to a newer number
            Ok((_, Outcome::Refused(refusal @ (CatalogRefusal::UnknownRun | CatalogRefusal::OutsideWindow)))) => {
                panic!("number {} of {:?}: {refusal}", proposal.number, proposal.run)
            }
            Ok(answer) => return Some(answer),
            Err(ForwardError::Unknown(_) | ForwardError::Write(WriteError::Undecided | WriteError::Stopped)) if give_up => {
                return None;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(rng.random_range(1..20))).await,
        }
    }
}

async fn run(size: u128, seed: u64) {
    println!("{size} servers, seed {seed}");
    let mut world = World::of(size, seed).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for at in 0..WRITERS {
        writers.spawn(writer(at, seed, world.doors.clone(), over.clone()));
    }
    let until = Instant::now() + TROUBLE;
    while Instant::now() < until {
        let pause = Duration::from_millis(world.rng.random_range(20..400));
        tokio::time::sleep(pause).await;
        world.trouble().await;
    }
    world.heal();
    for node in world.addresses.keys().copied().collect::<Vec<_>>() {
        if !world.members.contains_key(&node) {
            world.start(node).await;
        }
    }
    let healed = Instant::now();
    over.store(true, Ordering::Relaxed);
    let mut known = Vec::new();
    while let Some(writer) = timeout(HEALING, writers.join_next()).await.expect("every write is answered after the faults") {
        known.push(writer.unwrap());
    }
    let answered = healed.elapsed();
    // all servers have applied the same
    let level = || world.members.values().map(|member| member.raft.applied_index()).collect::<BTreeSet<Index>>().len() == 1;
    let until = Instant::now() + HEALING;
    while !level() {
        if Instant::now() > until {
            for member in world.members.values() {
                println!(
                    "{:?}\n  {:?}\n  {:?}",
                    member.raft.status(),
                    member.raft.servers(),
                    member.raft.running.alarm.failure()
                );
            }
            panic!("seed {seed}: the servers are not level");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut total = 0;
    for (node, member) in &world.members {
        let state = member.reader.load();
        for known in &known {
            total += known.acknowledged.len();
            for (key, index) in &known.acknowledged {
                let entry = state.key(key).unwrap_or_else(|| panic!("seed {seed}: {key} was acknowledged and is not on {node}"));
                // a retry is told the index of its own entry, which changed nothing
                assert!(entry.create_index <= *index, "seed {seed}: {key} on {node} came later than was told");
                assert_eq!(entry.create_index, entry.modify_index, "seed {seed}: {key} was applied twice on {node}");
            }
        }
    }
    let states: BTreeSet<Vec<u8>> = world
        .members
        .values()
        .map(|member| {
            let mut bytes = Vec::new();
            member.reader.load().write_to(&mut bytes).unwrap();
            bytes
        })
        .collect();
    assert_eq!(states.len(), 1, "seed {seed}: the servers' states differ");
    let open: usize = known.iter().map(|known| known.open.len()).sum();
    println!("  {} writes acknowledged, {open} given up, all answered {answered:?} after the faults", total / size as usize);
    world.carrying.abort_all();
}

fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let told = std::env::var("MUSTER_SIM_SEEDS").ok();
    let range = told.as_deref().and_then(|told| told.split_once(".."));
    range.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?)).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_keep_what_they_acknowledged() {
    for seed in seeds(1..3) {
        run(3, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_servers_keep_what_they_acknowledged() {
    for seed in seeds(11..13) {
        run(5, seed).await;
    }
}
