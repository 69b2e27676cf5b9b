//! What an agent does by itself when its time has come.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::Timer;
use rand::RngExt;
use rand::seq::IteratorRandom;
use tracing::debug;
use uuid::Uuid;

use super::{Core, Dial, Due, Standing, Teller};
use crate::book::Entry;
use crate::identity::Identity;
use crate::member::{Cause, Event, Peer};

/// First wait of an agent that is alone, before it dials again.
pub(super) const LONELY_MIN: Duration = Duration::from_millis(500);
/// Longest wait of one.
const LONELY_MAX: Duration = Duration::from_secs(30);
/// How many addresses an agent that is alone dials at once.
const LONELY_DIALS: usize = 4;
/// How often one of the failed is dialed, as serf does.
const RECONNECT_EVERY: Duration = Duration::from_secs(30);
/// How often tables are compared in a cluster of up to 32; larger ones do it less often, so that the load stays the same.
const EXCHANGE_EVERY: Duration = Duration::from_secs(30);
/// How often agents without a cluster ask each other for one, in their first seconds.
const FORM_EVERY: Duration = Duration::from_millis(250);
/// How often they do later: somebody is missing, and may be for long.
const FORM_EVERY_LATER: Duration = Duration::from_secs(1);
/// How long an agent without a cluster is remembered.
const FORM_MEMORY: Duration = Duration::from_secs(10);
/// Most kept peers: enough that some live, whatever happened meanwhile.
pub(crate) const KEPT_PEERS_MAX: usize = 256;

impl Core {
    pub(super) fn begin_rounds(&mut self, now: Instant) {
        self.config.kept_peers.truncate(KEPT_PEERS_MAX);
        let exchange = self.jittered(EXCHANGE_EVERY);
        self.wheel.set(Due::Exchange, now, exchange);
        let reconnect = self.jittered(RECONNECT_EVERY);
        self.wheel.set(Due::Reconnect, now, reconnect);
        self.plan_lonely(now, Duration::ZERO);
        if self.cluster.is_none() {
            self.wheel.set(Due::Form, now, FORM_EVERY);
        }
    }

    /// When the next thing is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.wheel.next()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.wake(now);
        while let Some(due) = self.wheel.take(now) {
            match due {
                Due::Foca(timer) => self.foca_timer(timer, now),
                Due::Fetch(node, tries) => self.fetch(node, tries, now),
                Due::Exchange => self.exchange_due(now),
                Due::Nack(asked) => self.nack_due(asked),
                Due::Look(node, serial) => self.look_due(node, serial, now),
                Due::Suspect(node, serial) => self.suspicion_due(node, serial, now),
                Due::LastLook(node, serial) => self.last_look_due(node, serial, now),
                Due::Trial(node, serial) => self.trial_due(node, serial, now),
                Due::Reconnect => self.reconnect_due(now),
                Due::Lonely => self.lonely_due(now),
                Due::Reap => self.reap_due(now),
                Due::Renew => self.renew_due(now),
                Due::Goodbye => self.goodbye_round(now),
                Due::Form => self.form_due(now),
            }
        }
        self.settle(now);
    }

    fn foca_timer(&mut self, timer: Timer<Identity>, now: Instant) {
        let mut probed = None;
        match &timer {
            Timer::PeriodicGossip(_) => {
                self.gossips(now);
                self.meters.waits(self.foca.updates_backlog(), self.foca.custom_broadcast_backlog());
            }
            Timer::ProbeRandomMember(_) => self.probe_over(now),
            Timer::SendIndirectProbe { probed_id, .. } if !self.probe_waits(*probed_id) => return,
            Timer::SendIndirectProbe { probed_id, .. } => probed = Some(*probed_id),
            _ => {}
        }
        match self.with_foca(Teller::Own, |foca, out| foca.handle_timer(timer, out), now) {
            // The second half of an answered probe is left out: foca judges nothing by such a one, and begins the next.
            Ok(()) | Err(foca::Error::IncompleteProbeCycle) => {}
            Err(error) => debug!(%error, "foca"),
        }
        if let Some(target) = probed {
            self.probe_indirect(target, now);
        }
    }

    /// Between three quarters and five quarters of it, so that agents started together do not stay together.
    fn jittered(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.rng.random_range(0.75..1.25))
    }

    fn exchange_due(&mut self, now: Instant) {
        let size = self.sized_for.max(1) as f64;
        let scale = if size > 32.0 { (size.log2().ceil() - 5.0) as u32 + 1 } else { 1 };
        let next = self.jittered(EXCHANGE_EVERY * scale);
        self.wheel.set(Due::Exchange, now, next);
        self.exchange();
    }

    pub(super) fn exchange(&mut self) {
        if self.is_inside()
            && let Some(addr) = self.book.alive().map(|entry| entry.identity.addr).choose(&mut self.rng)
        {
            self.effects.dials.push(Dial::Exchange(addr));
        }
    }

    /// One of the failed is dialed now and then: the other half of a partition, or an agent whose network is back. The fewer have
    /// failed the less often, so that the cluster as a whole dials each about twice a minute.
    fn reconnect_due(&mut self, now: Instant) {
        let next = self.jittered(RECONNECT_EVERY);
        self.wheel.set(Due::Reconnect, now, next);
        let alive = self.foca.num_members();
        if !self.is_inside() || alive == 0 || alive == self.book.len() {
            return; // alone, it dials anyway; and where all live, nobody has failed
        }
        let failed: Vec<SocketAddr> = self.book.failed().map(|entry| entry.identity.addr).collect();
        if failed.is_empty() {
            return;
        }
        if self.rng.random_range(0..failed.len() + alive) < failed.len().max(2)
            && let Some(addr) = failed.into_iter().choose(&mut self.rng)
        {
            self.effects.dials.push(Dial::Join(addr));
        }
    }

    pub(super) fn became_lonely(&mut self, now: Instant) {
        if self.is_inside() {
            self.event(Event::Alone);
            self.disowned = self.book.failed().map(|entry| entry.identity).collect();
            self.lonely = LONELY_MIN;
            self.plan_lonely(now, Duration::ZERO);
        }
    }

    fn plan_lonely(&mut self, now: Instant, after: Duration) {
        if !self.lonely_planned {
            self.lonely_planned = true;
            self.wheel.set(Due::Lonely, now, after);
        }
    }

    /// Nobody else is there: some of those who were are dialed. One that was not let in yet may know who is there, by an exchange with
    /// a member that held its last life alive: it asks all the same.
    fn lonely_due(&mut self, now: Instant) {
        self.lonely_planned = false;
        let goes_on = match self.standing {
            Standing::Outside => true,
            Standing::Inside => self.book.alive().next().is_none(),
            Standing::Leaving(_) | Standing::Left | Standing::Quiet(_) => false,
        };
        if !goes_on {
            self.lonely = LONELY_MIN;
            return;
        }
        let members = self.book.alive().chain(self.book.failed()).map(|entry| entry.identity.addr);
        let known = self.config.kept_peers.iter().copied().chain(members).filter(|addr| *addr != self.me.addr);
        let chosen = known.sample(&mut self.rng, LONELY_DIALS);
        self.effects.dials.extend(chosen.into_iter().map(Dial::Join));
        let wait = self.jittered(self.lonely);
        self.lonely = (self.lonely * 2).min(LONELY_MAX);
        self.plan_lonely(now, wait);
    }

    /// Agents that wait for a cluster ask each other for it.
    fn form_due(&mut self, now: Instant) {
        if self.cluster.is_some() || self.standing != Standing::Outside {
            return;
        }
        self.waiting.retain(|_, (_, heard)| now.saturating_duration_since(*heard) < FORM_MEMORY);
        let addrs: Vec<SocketAddr> = self.waiting.values().map(|(waiting, _)| waiting.identity.addr).collect();
        self.effects.dials.extend(addrs.into_iter().map(Dial::Join));
        let early = now.saturating_duration_since(self.started) < FORM_MEMORY;
        let next = self.jittered(if early { FORM_EVERY } else { FORM_EVERY_LATER });
        self.wheel.set(Due::Form, now, next);
    }

    /// Sees to it that the dead are forgotten in time.
    pub(super) fn plan_reaping(&mut self, now: Instant) {
        let (goes, next) = self.book.reapable(&self.timeouts(), now);
        for (node, kind) in goes {
            self.reap(node, Cause { kind, by: None }, now);
        }
        if let Some(next) = next
            && self.reap_at.is_none_or(|planned| next < planned)
        {
            self.reap_at = Some(next);
            self.wheel.set(Due::Reap, now, next.saturating_duration_since(now));
        }
    }

    fn reap_due(&mut self, now: Instant) {
        self.reap_at = None;
        self.plan_reaping(now);
    }

    /// Forgets one of the dead.
    pub(super) fn reap(&mut self, node: Uuid, cause: Cause, now: Instant) {
        let Some(entry) = self.book.remove(node) else { return };
        self.disowned.remove(&entry.identity);
        let forget = Timer::RemoveDown(entry.identity);
        let _ = self.with_foca(Teller::Own, |foca, out| foca.handle_timer(forget, out), now);
        self.effects.changed = true;
        if let Some(member) = entry.member() {
            self.event(Event::Reaped(std::sync::Arc::new(crate::member::Member { cause, ..member })));
        }
    }

    /// Members to find again after a restart, the living first.
    pub(crate) fn kept_peers(&self) -> Vec<Peer> {
        let peer =
            |entry: &Entry| Some(Peer { node: entry.identity.node, name: entry.name()?.to_owned(), addr: entry.identity.addr });
        self.book.alive().chain(self.book.failed()).filter_map(peer).take(KEPT_PEERS_MAX).collect()
    }
}
