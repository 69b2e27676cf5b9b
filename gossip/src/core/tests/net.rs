//! The network of the tests: packets with delay and loss, conversations that are led at once, cuts, dead processes, dead hosts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use crate::config::Config;
use crate::core::{Core, Dial, Done, Evidence, Heard, Reply, Step, texts};
use crate::member::{Event, State};
use crate::message::{Reached, Request, Response};

pub(super) const CLUSTER: Uuid = Uuid::from_u128(0x2222_2222_2222_4222_8222_2222_2222_2222);

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn addr(n: u16) -> SocketAddr {
    ([10, 0, (n >> 8) as u8, n as u8], 8301).into()
}

/// An agent that was never in a cluster.
pub(super) fn config(n: u16) -> Config {
    Config::new(Uuid::from_u128(u128::from(n) + 1), format!("node-{n}"), addr(n))
}

pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) nodes: BTreeMap<SocketAddr, Node>,
    queue: BTreeMap<(Instant, u64), (SocketAddr, Vec<u8>)>,
    dials: VecDeque<(SocketAddr, Dial)>,
    count: u64,
    rng: SmallRng,
    pub(super) loss: f64,
    /// Hosts that reach each other only within their group.
    pub(super) groups: BTreeMap<SocketAddr, u8>,
    /// Hosts that are gone: nothing answers, nothing is refused.
    pub(super) gone: BTreeSet<SocketAddr>,
    /// Hosts whose UDP input is lost.
    pub(super) deaf: BTreeSet<SocketAddr>,
    /// Processes that are stopped: what comes waits for them, as far as a socket's buffer goes.
    paused: BTreeMap<SocketAddr, Vec<Vec<u8>>>,
    pub(super) sent: BTreeMap<SocketAddr, (u64, u64)>,
    /// The last packets, for whoever wants to repeat them.
    pub(super) recorded: Vec<(SocketAddr, Vec<u8>)>,
    boots: u64,
}

pub(super) struct Node {
    pub(super) core: Core,
    pub(super) events: Vec<Event>,
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from
        let now = Instant::now() + secs(10_000_000);
        Self {
            now,
            nodes: BTreeMap::new(),
            queue: BTreeMap::new(),
            dials: VecDeque::new(),
            count: 0,
            rng: SmallRng::seed_from_u64(seed),
            loss: 0.0,
            groups: BTreeMap::new(),
            gone: BTreeSet::new(),
            deaf: BTreeSet::new(),
            paused: BTreeMap::new(),
            sent: BTreeMap::new(),
            recorded: Vec::new(),
            boots: 0,
        }
    }

    /// A cluster of `count` agents that joined through the first.
    pub(super) fn cluster(seed: u64, count: u16) -> Self {
        let mut net = Self::new(seed);
        net.start(config(0));
        net.found(addr(0), CLUSTER);
        for n in 1..count {
            net.start(config(n));
            assert_eq!(net.join(addr(n), addr(0)), Done::Well);
            net.run(Duration::from_millis(50));
        }
        net.run(secs(5));
        net
    }

    /// Starts an agent at its address, in place of whatever ran there.
    pub(super) fn start(&mut self, config: Config) -> SocketAddr {
        let at = config.advertise;
        self.boots += 1;
        let core = Core::new(config, self.boots, self.rng.random(), self.now).expect("a good configuration");
        self.nodes.insert(at, Node { core, events: Vec::new() });
        self.gone.remove(&at);
        self.collect(at);
        at
    }

    /// Ends the process: its host refuses connections.
    pub(super) fn kill(&mut self, at: SocketAddr) {
        self.nodes.remove(&at);
    }

    /// Stops the process.
    pub(super) fn pause(&mut self, at: SocketAddr) {
        self.paused.insert(at, Vec::new());
    }

    /// Lets it go on: what waits in its socket comes first.
    pub(super) fn resume(&mut self, at: SocketAddr) {
        for bytes in self.paused.remove(&at).unwrap_or_default() {
            self.with(at, |core, now| core.packet(&bytes, now));
        }
    }

    pub(super) fn core(&mut self, at: SocketAddr) -> &mut Core {
        &mut self.nodes.get_mut(&at).expect("it runs").core
    }

    pub(super) fn found(&mut self, at: SocketAddr, cluster: Uuid) {
        let now = self.now;
        assert!(self.core(at).found(cluster, now));
        self.settle(at);
    }

    pub(super) fn join(&mut self, from: SocketAddr, to: SocketAddr) -> Done {
        let done = self.converse(from, &Dial::Join(to));
        self.settle(from);
        done
    }

    pub(super) fn with<R>(&mut self, at: SocketAddr, act: impl FnOnce(&mut Core, Instant) -> R) -> R {
        let now = self.now;
        let result = act(self.core(at), now);
        self.settle(at);
        result
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let packet = self.queue.keys().next().map(|(at, _)| *at);
            let running = self.nodes.iter().filter(|(at, _)| !self.paused.contains_key(at));
            let timer = running.filter_map(|(at, node)| Some((node.core.next()?, *at))).min();
            let next = packet.into_iter().chain(timer.map(|(at, _)| at)).min().unwrap_or(end);
            if next > end {
                break;
            }
            if packet == Some(next)
                && let Some((_, (to, bytes))) = self.queue.pop_first()
            {
                self.now = self.now.max(next);
                if let Some(held) = self.paused.get_mut(&to) {
                    held.push(bytes);
                    held.truncate(200);
                } else if self.nodes.contains_key(&to) {
                    self.with(to, |core, now| core.packet(&bytes, now));
                }
            } else if let Some((_, at)) = timer {
                self.now = self.now.max(next);
                self.with(at, Core::tick);
            } else {
                break;
            }
        }
        self.now = end;
    }

    /// Lets time pass until it holds everywhere, at most `limit`; says how long it took.
    pub(super) fn until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while self.now < start + limit {
            if holds(self) {
                return Some(self.now - start);
            }
            self.run(Duration::from_millis(100));
        }
        holds(self).then_some(limit)
    }

    /// How `of` looks from `at`, by name.
    pub(super) fn seen(&self, at: SocketAddr, name: &str) -> Option<State> {
        let members = self.nodes[&at].core.members();
        members.iter().find(|member| member.name() == name).map(|member| member.state)
    }

    pub(super) fn alive(&self, at: SocketAddr) -> usize {
        self.nodes[&at].core.members().iter().filter(|member| member.state == State::Alive).count()
    }

    /// Whether all that run see so many alive.
    pub(super) fn all_see(&self, count: usize) -> bool {
        self.nodes.keys().all(|at| self.alive(*at) == count)
    }

    pub(super) fn events(&self, at: SocketAddr, which: impl Fn(&Event) -> bool) -> usize {
        self.nodes[&at].events.iter().filter(|event| which(event)).count()
    }

    fn settle(&mut self, at: SocketAddr) {
        self.collect(at);
        while let Some((from, dial)) = self.dials.pop_front() {
            if self.nodes.contains_key(&from) {
                self.converse(from, &dial);
                self.collect(from);
            }
        }
    }

    fn collect(&mut self, at: SocketAddr) {
        let Some(node) = self.nodes.get_mut(&at) else { return };
        let effects = node.core.effects();
        node.events.extend(effects.events);
        self.dials.extend(effects.dials.into_iter().map(|dial| (at, dial)));
        for (to, packet) in effects.packets {
            let (packets, bytes) = self.sent.entry(at).or_default();
            *packets += 1;
            *bytes += packet.len() as u64 + 28;
            self.recorded.push((to, packet.clone()));
            if self.recorded.len() > 2000 {
                self.recorded.drain(..1000);
            }
            if self.unreached(at, to).is_none() && !self.deaf.contains(&to) && self.rng.random::<f64>() >= self.loss {
                self.count += 1;
                let delay = Duration::from_micros(self.rng.random_range(200..2000));
                self.queue.insert((self.now + delay, self.count), (to, packet));
            }
        }
    }

    fn unreached(&self, from: SocketAddr, to: SocketAddr) -> Option<Reached> {
        if self.paused.contains_key(&to)
            || self.gone.contains(&to)
            || self.gone.contains(&from)
            || self.groups.get(&from) != self.groups.get(&to)
        {
            return Some(Reached::Silent);
        }
        (!self.nodes.contains_key(&to)).then_some(Reached::Refused)
    }

    fn converse(&mut self, from: SocketAddr, dial: &Dial) -> Done {
        let now = self.now;
        let mut request = self.core(from).open(dial, now);
        loop {
            let heard = match self.unreached(from, dial.addr()) {
                None => Heard::Response(self.serve(dial.addr(), from, request)),
                Some(Reached::Refused) => Heard::Refused,
                Some(_) => Heard::Silent,
            };
            let mut step = self.core(from).heard(dial, heard, now);
            if let Step::Adopt(cluster, epoch) = step {
                step = self.core(from).adopted(cluster, epoch, now);
            }
            self.collect(from);
            match step {
                Step::Send(next) => request = next,
                Step::Done(done) => return done,
                Step::Adopt(..) => unreachable!("it was just adopted"),
            }
        }
    }

    fn serve(&mut self, at: SocketAddr, peer: SocketAddr, request: Request) -> Response {
        // Through the bytes, as on a real wire.
        let request = Request::decode(&request.encode()).expect("it was just written");
        let now = self.now;
        let response = match self.core(at).asked(peer, request, now) {
            Reply::Now(response) => response,
            Reply::Verify(addr) => Response::Reached(self.knock(at, addr)),
            Reply::Check(check) => {
                let evidence = check.holders.iter().map(|holder| {
                    let here = self.knock(at, holder.addr);
                    let there = check
                        .witness
                        .filter(|witness| self.unreached(at, *witness).is_none())
                        .map(|witness| self.knock(witness, holder.addr));
                    Evidence { holder: *holder, reached: std::iter::once(here).chain(there).collect() }
                });
                let evidence: Vec<_> = evidence.collect();
                self.core(at).judge(&check, &evidence, now)
            }
            Reply::Keys(act) => {
                let ring = self.core(at).keys_after(&act).expect("it was just tried");
                self.core(at).set_ring(ring.clone());
                Response::Keys(texts(&ring))
            }
        };
        self.collect(at);
        Response::decode(&response.encode()).expect("it was just written")
    }

    fn knock(&mut self, from: SocketAddr, to: SocketAddr) -> Reached {
        match self.unreached(from, to) {
            None => {
                let request = self.nodes[&from].core.knock(self.now);
                match self.serve(to, from, request) {
                    Response::Iam(iam) => Reached::Answered(iam),
                    _ => Reached::Refused,
                }
            }
            Some(reached) => reached,
        }
    }
}
