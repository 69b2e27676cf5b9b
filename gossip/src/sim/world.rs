//! Hosts under way: processes are started and called, packets travel, and what is due comes about.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::node::{Disk, Side, index_of};
use super::report::Report;
use super::scenario::{Fault, Scenario};
use super::watch::Watch;
use super::{Planned, What, World, nanos};
use crate::config::Config;
use crate::core::{Core, Dial};
use crate::key::Keyring;
use crate::shell::{DIALS_MAX, DIALS_WAITING_MAX, PACKETS_PER_TURN};

/// Headers of IPv4 and UDP.
const UDP_HEADER_BYTES: u64 = 28;
/// Packets that wait in the socket of a process that does not run: Linux's default buffer (212,992 bytes) counts a short packet as
/// about 1 KB.
const SOCKET_PACKETS_MAX: usize = 200;
/// Timers of the shell's runtime have whole milliseconds.
const TIMER_GRAIN: u64 = 1_000_000;
/// Packets that a replayer has recorded.
const RECORDED_MAX: usize = 1024;

impl World {
    pub(super) fn new(scenario: Scenario) -> Self {
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from: only differences are seen
        let base = Instant::now() + Duration::from_secs(30 * 24 * 3600);
        let replayed = scenario.faults.iter().any(|(_, fault)| matches!(fault, Fault::Replay(_) | Fault::Forge(_)));
        Self {
            now: 0,
            base,
            rng: SmallRng::seed_from_u64(scenario.seed),
            queue: BinaryHeap::new(),
            count: 0,
            nodes: Vec::new(),
            network: scenario.network,
            cuts: BTreeSet::new(),
            partitioned: false,
            recorded: replayed.then(VecDeque::new),
            same: Vec::new(),
            dials: VecDeque::new(),
            joining: VecDeque::new(),
            task: 0,
            watch: Watch::default(),
            report: Report::new(scenario.nodes, scenario.seed),
            scenario,
        }
    }

    pub(super) fn plan(&mut self, at: u64, what: What) {
        self.count += 1;
        self.queue.push(Reverse(Planned { at: at.max(self.now), number: self.count, what }));
    }

    /// The next thing that happens until `end`.
    pub(super) fn next(&mut self, end: u64) -> Option<What> {
        if self.queue.peek().is_none_or(|Reverse(planned)| planned.at > end) {
            self.now = end;
            return None;
        }
        let Reverse(planned) = self.queue.pop()?;
        self.now = planned.at;
        self.report.steps += 1;
        Some(planned.what)
    }

    /// That host's clock.
    pub(super) fn clock(&self, node: usize) -> Instant {
        self.base + Duration::from_nanos(self.now + self.nodes[node].ahead)
    }

    /// The process that runs on a host now.
    pub(super) fn side(&self, node: usize) -> Side {
        Side { node, life: self.nodes[node].life }
    }

    pub(super) fn runs(&self, side: Side) -> bool {
        self.nodes[side.node].core.is_some() && self.nodes[side.node].life == side.life
    }

    /// Starts a process on a host's disk.
    pub(super) fn start(&mut self, node: usize) -> Side {
        let boot = self.rng.random();
        let seed = self.rng.random();
        let now = self.clock(node);
        let (timing, mass_loss_hold, key) = (self.scenario.timing, self.scenario.mass_loss_hold, self.scenario.key.clone());
        let host = &mut self.nodes[node];
        host.disk.starts += 1;
        let Disk { node: id, starts, cluster, .. } = host.disk;
        let config = Config {
            epoch: starts << 16,
            cluster,
            keys: Keyring::new(key).expect("one key is no fault"),
            kept_peers: host.disk.peers.clone(),
            timing,
            mass_loss_hold,
            ..Config::new(id, format!("node-{node}"), host.addr)
        };
        host.first_epoch = config.epoch;
        host.silent = false;
        host.core = Some(Core::new(config, boot, seed, now).expect("the configuration is a good one"));
        self.side(node)
    }

    /// Calls a core that has the CPU, and carries out what comes of it.
    pub(super) fn call<R>(&mut self, node: usize, act: impl FnOnce(&mut Core, Instant) -> R) -> Option<R> {
        let now = self.clock(node);
        let result = act(self.nodes[node].core.as_mut()?, now);
        self.collect(node);
        Some(result)
    }

    /// Carries out what came of a call.
    fn collect(&mut self, node: usize) {
        let Some(core) = &mut self.nodes[node].core else { return };
        let effects = core.effects();
        let next = core.next();
        for (to, bytes) in effects.packets {
            self.send(node, to, bytes);
        }
        for event in effects.events {
            self.observed(node, event);
        }
        for dial in effects.dials {
            self.dial(node, dial);
        }
        let ahead = self.nodes[node].ahead;
        if let Some(next) = next {
            let due = nanos(next.saturating_duration_since(self.base)).saturating_sub(ahead);
            let due = due.max(self.now).next_multiple_of(TIMER_GRAIN);
            if due < self.nodes[node].planned {
                self.nodes[node].planned = due;
                self.plan(due, What::Tick(node));
            }
        }
    }

    fn dial(&mut self, node: usize, dial: Dial) {
        let host = &mut self.nodes[node];
        if host.dialing < DIALS_MAX {
            host.dialing += 1;
            let side = self.side(node);
            self.dials.push_back((side, dial));
        } else if host.dials.len() < DIALS_WAITING_MAX {
            host.dials.push_back(dial);
        }
    }

    /// A conversation is over: the next begins.
    pub(super) fn talked(&mut self, side: Side) {
        if self.runs(side) {
            let host = &mut self.nodes[side.node];
            host.dialing -= 1;
            if let Some(dial) = host.dials.pop_front() {
                host.dialing += 1;
                self.dials.push_back((side, dial));
            }
        }
    }

    pub(super) fn latency(&mut self) -> u64 {
        let (shortest, longest) = (nanos(self.network.latency.0), nanos(self.network.latency.1));
        self.rng.random_range(shortest..=longest)
    }

    /// Whether something that goes from one host to another is lost.
    pub(super) fn is_lost(&mut self, from: usize, to: usize, udp: bool) -> bool {
        let (sender, receiver) = (&self.nodes[from], &self.nodes[to]);
        if sender.silent || receiver.silent || sender.group != receiver.group {
            return true;
        }
        if !self.cuts.is_empty() && self.cuts.contains(&(from, to)) {
            return true;
        }
        let mut kept = (1.0 - self.network.all_loss) * (1.0 - sender.output.all) * (1.0 - receiver.input.all);
        if udp {
            kept *= (1.0 - self.network.udp_loss) * (1.0 - sender.output.udp) * (1.0 - receiver.input.udp);
        }
        kept < 1.0 && self.rng.random::<f64>() >= kept
    }

    /// A packet of a core.
    fn send(&mut self, from: usize, to: SocketAddr, bytes: Vec<u8>) {
        self.report.udp.count(1, bytes.len() as u64 + UDP_HEADER_BYTES);
        self.watch.trace.packet(self.now, from, to, &bytes);
        let Some(to) = index_of(to).filter(|to| *to < self.nodes.len()) else { return };
        if let Some(recorded) = &mut self.recorded {
            if recorded.len() >= RECORDED_MAX {
                recorded.pop_front();
            }
            recorded.push_back((to, bytes.clone()));
        }
        if !self.is_lost(from, to, true) {
            self.deliver(to, bytes);
        }
    }

    /// A packet is under way, perhaps twice.
    pub(super) fn deliver(&mut self, to: usize, bytes: Vec<u8>) {
        if self.network.duplicated > 0.0 && self.rng.random::<f64>() < self.network.duplicated {
            let at = self.arrival();
            self.plan(at, What::Packet(to, bytes.clone()));
        }
        let at = self.arrival();
        self.plan(at, What::Packet(to, bytes));
    }

    fn arrival(&mut self) -> u64 {
        let mut at = self.now + self.latency();
        if self.network.reordered > 0.0 && self.rng.random::<f64>() < self.network.reordered {
            at += self.rng.random_range(0..=nanos(self.network.reordered_by));
        }
        at
    }

    /// A packet comes.
    pub(super) fn receive(&mut self, to: usize, bytes: Vec<u8>) {
        let now = self.now;
        let host = &mut self.nodes[to];
        if host.core.is_none() {
            return;
        }
        let runs_at = host.runs_at(now);
        if runs_at > now || !host.held.is_empty() {
            if host.held.len() < SOCKET_PACKETS_MAX {
                host.held.push_back(bytes);
            }
            self.resume_at(to, runs_at);
            return;
        }
        self.call(to, |core, now| core.packet(&bytes, now));
    }

    /// Something is due on a host.
    pub(super) fn tick(&mut self, node: usize) {
        let now = self.now;
        let host = &mut self.nodes[node];
        if host.planned != now || host.core.is_none() {
            return; // it was planned anew
        }
        let runs_at = host.runs_at(now);
        if runs_at > now {
            self.resume_at(node, runs_at);
            return;
        }
        host.planned = u64::MAX;
        self.call(node, Core::tick);
    }

    fn resume_at(&mut self, node: usize, at: u64) {
        let side = self.side(node);
        let host = &mut self.nodes[node];
        if host.resumes.is_none_or(|planned| planned < at) {
            host.resumes = Some(at);
            self.plan(at, What::Resume(side));
        }
    }

    /// A process goes on: as the shell does, first with what waits in its socket, then with what is due.
    pub(super) fn resume(&mut self, side: Side) {
        let now = self.now;
        if !self.runs(side) || self.nodes[side.node].resumes != Some(now) {
            return;
        }
        let runs_at = self.nodes[side.node].runs_at(now);
        self.nodes[side.node].resumes = None;
        if runs_at > now {
            self.resume_at(side.node, runs_at);
            return;
        }
        loop {
            for _ in 0..PACKETS_PER_TURN {
                let Some(bytes) = self.nodes[side.node].held.pop_front() else { break };
                self.call(side.node, |core, now| core.packet(&bytes, now));
            }
            self.nodes[side.node].planned = u64::MAX;
            self.call(side.node, Core::tick);
            if self.nodes[side.node].held.is_empty() {
                return;
            }
        }
    }

    /// Bytes and segments of connections.
    pub(super) fn count_tcp(&mut self, segments: u64, bytes: u64) {
        self.report.tcp.count(segments, bytes);
    }
}
