//! What is done to hosts, processes and the network.

use rand::RngExt;
use rand::seq::IteratorRandom;

use super::node::{Node, Pause};
use super::report::How;
use super::scenario::{Fault, Loss, Who};
use super::watch::EXCUSED_AFTER;
use super::{CLUSTER, What, World, nanos};
use crate::core::{Core, Standing};
use crate::identity::Identity;
use crate::key::Keyring;
use crate::packet::{Note, Packet, Target};
use crate::seal::Seal;

/// Time between two that join.
const JOIN_PAUSE: u64 = 50_000_000;

impl World {
    /// That fault happens.
    pub(super) fn fault(&mut self, number: usize) {
        let fault = self.scenario.faults[number].1.clone();
        self.note(format!("{fault:?}"));
        match fault {
            Fault::Kill(who) => self.each(who, |world, host| world.end(host, How::Killed)),
            Fault::Silence(who) => self.each(who, |world, host| world.end(host, How::Silent)),
            Fault::Leave(who) => self.each(who, |world, host| {
                world.call(host, |core, now| core.leave(true, now));
            }),
            Fault::Restart(who) => self.each(who, |world, host| world.restart(host, false)),
            Fault::Wipe(who) => self.each(who, |world, host| world.restart(host, true)),
            Fault::Pause(who, time) => self.each(who, |world, host| {
                let until = world.now + nanos(time);
                world.nodes[host].paused = Some(Pause { since: world.now, until });
            }),
            Fault::Starve { who, every, runs } => self.each(who, |world, host| {
                world.nodes[host].starved = Some((nanos(every).max(1), nanos(runs), world.now));
            }),
            Fault::Clock(who, ahead) => self.each(who, |world, host| {
                world.nodes[host].ahead += nanos(ahead);
                world.nodes[host].planned = u64::MAX;
                world.call(host, Core::tick);
            }),
            Fault::Join(count) => self.join(count),
            Fault::Input(who, loss) => self.each(who, |world, host| world.nodes[host].input = loss),
            Fault::Output(who, loss) => self.each(who, |world, host| world.nodes[host].output = loss),
            Fault::Cut(from, to) => {
                self.cuts.insert((from, to));
            }
            Fault::CutPairs(share) => self.cut_pairs(share),
            Fault::Partition(share) => self.partition(share),
            Fault::Network(network) => self.network = network,
            Fault::Forge(count) => (0..count).for_each(|_| self.forge()),
            Fault::Replay(count) => (0..count).for_each(|_| self.replay()),
            Fault::Calm => self.calm(),
        }
    }

    /// Does it to each of them.
    fn each(&mut self, who: Who, act: impl Fn(&mut Self, usize)) {
        self.same = match who {
            Who::Node(host) => Vec::from_iter((host < self.nodes.len()).then_some(host)),
            Who::Same => std::mem::take(&mut self.same),
            Who::Dead => (0..self.nodes.len()).filter(|host| self.nodes[*host].core.is_none()).collect(),
            Who::Any(count) => {
                let fit = |node: &Node| node.core.is_some() && !node.touched;
                let mut chosen = (0..self.nodes.len()).filter(|host| fit(&self.nodes[*host])).sample(&mut self.rng, count);
                chosen.sort_unstable();
                chosen
            }
        };
        for host in self.same.clone() {
            self.nodes[host].touched = true;
            act(self, host);
        }
    }

    /// The process ends.
    fn end(&mut self, host: usize, how: How) {
        let node = &mut self.nodes[host];
        node.silent = how == How::Silent;
        let Some(core) = node.core.take() else { return };
        node.disk.peers = core.kept_peers().into_iter().map(|peer| peer.addr).collect();
        node.forget();
        if *core.standing() == Standing::Inside {
            self.feed_ended(host, how);
            self.died(host, how, core.identity().epoch);
        }
    }

    fn restart(&mut self, host: usize, wiped: bool) {
        self.end(host, How::Killed);
        self.returned(host);
        if wiped {
            self.nodes[host].wipe(host);
        }
        let side = self.start(host);
        self.nodes[host].excused = self.now + EXCUSED_AFTER;
        self.call(host, Core::tick);
        if wiped {
            self.joining.push_back(side);
        }
    }

    fn join(&mut self, count: usize) {
        self.same.clear();
        for number in 0..count {
            let host = self.nodes.len();
            self.nodes.push(Node::new(host));
            self.same.push(host);
            let side = self.start(host);
            let at = self.now + JOIN_PAUSE * number as u64;
            self.asks(host, at);
            self.plan(at, What::Enter(side));
        }
    }

    fn cut_pairs(&mut self, share: f64) {
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if from != to && self.rng.random::<f64>() < share {
                    self.cuts.insert((from, to));
                }
            }
        }
    }

    fn partition(&mut self, share: f64) {
        let count = (self.nodes.len() as f64 * share).round() as usize;
        for host in (0..self.nodes.len()).sample(&mut self.rng, count) {
            self.nodes[host].group = 1;
        }
        self.partitioned = true;
    }

    /// Somebody without the key sends what was changed, cut short, or is plain.
    fn forge(&mut self) {
        let to = self.rng.random_range(0..self.nodes.len());
        let mut bytes = match self.recorded.as_ref().and_then(|recorded| recorded.iter().choose(&mut self.rng)) {
            Some((_, bytes)) => bytes.clone(),
            None => Vec::new(),
        };
        match self.rng.random_range(0..4) {
            0 if !bytes.is_empty() => {
                let bit = self.rng.random_range(0..bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            1 => bytes.truncate(self.rng.random_range(0..bytes.len().max(1))),
            2 => bytes = (0..self.rng.random_range(0..1500)).map(|_| self.rng.random()).collect(),
            _ => {
                let (liar, victim) = (self.rng.random_range(0..self.nodes.len()), self.rng.random_range(0..self.nodes.len()));
                let identity = |host: usize| self.nodes[host].core.as_ref().map(Core::identity);
                if let (Some(liar), Some(to), Some(victim)) = (identity(liar), identity(to), identity(victim)) {
                    bytes = telling_down(liar, to, victim);
                }
            }
        }
        self.deliver(to, bytes);
    }

    /// A packet of before comes again, to whom it was for or to another.
    fn replay(&mut self) {
        let Some((to, bytes)) = self.recorded.as_ref().and_then(|recorded| recorded.iter().choose(&mut self.rng)).cloned() else {
            return;
        };
        let to = if self.rng.random() { to } else { self.rng.random_range(0..self.nodes.len()) };
        self.deliver(to, bytes);
    }

    /// All faults that last are over.
    pub(super) fn calm(&mut self) {
        self.network = super::scenario::Network::default();
        self.cuts.clear();
        let partitioned = std::mem::take(&mut self.partitioned);
        for node in &mut self.nodes {
            if partitioned || node.input.all >= 1.0 || node.output.all >= 1.0 {
                node.excused = node.excused.max(self.now.saturating_add(EXCUSED_AFTER));
            }
            node.group = 0;
            node.input = Loss::default();
            node.output = Loss::default();
            node.starved = None;
        }
    }
}

/// A packet without a seal that tells of a death.
fn telling_down(src: Identity, dst: Identity, victim: Identity) -> Vec<u8> {
    let (note, to, message) = (Note::default(), Target::of(&dst), foca::Message::Gossip);
    let (updates, items) = (vec![foca::Member::down(victim)], Vec::new());
    let packet = Packet { note, src, src_incarnation: 0, to, message, updates, items };
    Seal::new(Keyring::default(), 0).seal(CLUSTER, &packet.encode()).unwrap_or_default()
}
