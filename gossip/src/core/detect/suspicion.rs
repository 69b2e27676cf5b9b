//! Suspicions: who accuses whom, how long everybody waits for the accused, and the burial.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foca::{Member, State as Swim};
use uuid::Uuid;

use super::super::{Core, Due, Teller};
use super::ACCUSERS_MIN;
use super::health::is_good;
use super::last::Last;
use crate::accusation::{Accusation, Ground};
use crate::book::Verdict;
use crate::identity::Identity;
use crate::item::Item;

/// Accusers in good health that hasten a burial, from [`SMALL`] members on.
const AGREED: usize = 3;
/// And below that size, where there may be no three to agree.
const AGREED_SMALL: usize = 2;
/// Clusters below this size are small.
const SMALL: usize = 6;
/// How long the accused has once accusers agree, in intervals: simulated, with pauses of three seconds survived.
const AGREED_PATIENCE: u32 = 3;
/// memberlist's: the longest patience is this many times the shortest.
const PATIENCE_MAX: u32 = 6;
/// A burial that others tell is believed without a look of our own if we have suspected for so long ourselves, in intervals: one
/// less than it takes here.
const RIPE: u32 = 2;
/// One member, suspected in one incarnation of one life.
#[derive(Debug)]
pub(super) struct Suspicion {
    pub(super) identity: Identity,
    pub(super) incarnation: u16,
    /// When the silence began, as the first accuser has it.
    since: Instant,
    pub(super) accusations: Vec<Accusation>,
    pub(super) serial: u64,
    /// It was tried over TCP from here, half an interval before its time was over.
    pinged: bool,
    /// The last look, while it goes on.
    pub(super) last: Option<Last>,
    /// Since when a last look has found no second accuser.
    pub(super) held: Option<Instant>,
}

impl Suspicion {
    pub(super) fn new(identity: Identity, incarnation: u16, since: Instant) -> Self {
        let (accusations, serial, pinged, last, held) = (Vec::new(), 0, false, None, None);
        Self { identity, incarnation, since, accusations, serial, pinged, last, held }
    }

    pub(super) fn has(&self, accuser: Uuid) -> bool {
        self.accusations.iter().any(|accusation| accusation.by == accuser)
    }
}

/// How long the accused has: short where enough accusers in good health agree, else memberlist's formula.
fn patience(accusations: &[Accusation], members: usize, mult: u8, interval: Duration) -> Duration {
    let good = accusations.iter().filter(|accusation| is_good(accusation.health)).count();
    let needed = if members < SMALL { AGREED_SMALL } else { AGREED };
    if members > 2 && good >= needed {
        return AGREED_PATIENCE * interval;
    }
    let mult = f64::from(mult.max(1));
    let least = interval.mul_f64(mult * (members.max(1) as f64).log10().max(1.0));
    let confirmations = accusations.len().saturating_sub(1) as f64;
    let expected = (mult - 2.0).max(0.0);
    if expected < 1.0 || (members as f64) - 2.0 < expected {
        return least;
    }
    let most = PATIENCE_MAX * least;
    let share = ((confirmations + 1.0).ln() / (expected + 1.0).ln()).min(1.0);
    most - (most - least).mul_f64(share)
}

impl Core {
    fn suspicion_due_at(&self, suspicion: &Suspicion) -> Instant {
        suspicion.since + patience(&suspicion.accusations, self.sized_for, self.config.timing.suspicion_mult, self.interval())
    }

    /// There is one accuser more, or the time begins anew.
    pub(super) fn suspicion_changed(&mut self, node: Uuid, now: Instant) {
        let serial = self.detect.next();
        let half = self.interval() / 2;
        let Some(suspicion) = self.detect.suspicions.get_mut(&node) else { return };
        suspicion.accusations.sort_by_key(|accusation| accusation.at);
        suspicion.since = suspicion.accusations.first().map_or(suspicion.since, |first| first.at);
        let accused: Arc<[Accusation]> = suspicion.accusations.as_slice().into();
        if suspicion.last.is_none() {
            suspicion.serial = serial;
            let pinged = suspicion.pinged;
            let due = self.detect.suspicions.get(&node).map_or(now, |suspicion| self.suspicion_due_at(suspicion));
            let wait = due.saturating_duration_since(now);
            self.wheel.set(Due::Suspect(node, serial), now, if pinged { wait } else { wait.saturating_sub(half) });
        }
        if let Some(entry) = self.book.get_mut(node) {
            entry.accused = accused;
            self.effects.changed = true;
        }
    }

    /// The accused's time is over, or nearly so.
    pub(in crate::core) fn suspicion_due(&mut self, node: Uuid, serial: u64, now: Instant) {
        let half = self.interval() / 2;
        let Some(suspicion) = self.detect.suspicions.get_mut(&node).filter(|suspicion| suspicion.serial == serial) else {
            return;
        };
        let identity = suspicion.identity;
        let pinged = std::mem::replace(&mut suspicion.pinged, true);
        if self.living(identity).is_none() {
            self.clear_suspicion(node);
            return;
        }
        if !pinged {
            self.dial_ping(identity);
            let due = self.detect.suspicions.get(&node).map_or(now, |suspicion| self.suspicion_due_at(suspicion));
            self.wheel.set(Due::Suspect(node, serial), now, due.saturating_duration_since(now).max(half));
            return;
        }
        self.begin_last_look(node, now);
    }

    /// The accused lives in a later incarnation.
    pub(super) fn refuted(&mut self, node: Uuid, incarnation: u16, now: Instant) {
        if self.detect.suspicions.get(&node).is_some_and(|suspicion| suspicion.incarnation < incarnation) {
            tracing::debug!(%node, incarnation, "suspected, and lives");
            self.suspicion_was_wrong(node);
            self.settle(now);
        }
    }

    /// The accused lives. An accuser whom nobody joined was wrong, and it is kept how often; where several agreed, it was the accused
    /// that did not hear them.
    pub(super) fn suspicion_was_wrong(&mut self, node: Uuid) {
        let accusations = self.detect.suspicions.get(&node).map(|suspicion| suspicion.accusations.as_slice());
        if let Some(&[Accusation { by, .. }]) = accusations {
            let count = if by == self.me.node { Some(&mut self.detect.wrong) } else { self.book.wrong_mut(by) };
            if let Some(count) = count {
                *count = count.saturating_add(1);
            }
            self.meters.wrong();
        }
        self.clear_suspicion(node);
    }

    pub(super) fn clear_suspicion(&mut self, node: Uuid) {
        self.detect.suspicions.remove(&node);
        if let Some(entry) = self.book.get_mut(node).filter(|entry| entry.is_alive()) {
            entry.accused = Arc::default();
            self.effects.changed = true;
        }
    }

    /// The member is dead, has left, or is in another life: nothing about the one before is open any more.
    pub(in crate::core) fn detection_over(&mut self, node: Uuid) {
        self.detect.suspicions.remove(&node);
        self.detect.looks.remove(&node);
        self.detect.trials.remove(&node);
        self.place.forget(node);
    }

    /// This agent slept while the accused might have refuted: they get their time again.
    pub(super) fn restart_suspicions(&mut self, now: Instant) {
        let nodes: Vec<Uuid> = self.detect.suspicions.keys().copied().collect();
        for node in nodes {
            if let Some(suspicion) = self.detect.suspicions.get_mut(&node) {
                suspicion.accusations.iter_mut().for_each(|accusation| accusation.at = now);
                (suspicion.pinged, suspicion.last, suspicion.held) = (false, None, None);
            }
            self.suspicion_changed(node, now);
        }
    }

    /// Whether a burial that another tells is no news: enough accuse here as well, and the accused had time to answer.
    pub(in crate::core) fn is_ripe(&self, identity: Identity, now: Instant) -> bool {
        self.detect.suspicions.get(&identity.node).is_some_and(|suspicion| {
            let waited = now.saturating_duration_since(suspicion.since) >= RIPE * self.interval();
            suspicion.identity == identity && suspicion.accusations.len() >= ACCUSERS_MIN && waited
        })
    }

    /// Buries a member for what is on record, and tells the others why. What it tells, if it does.
    pub(super) fn bury(
        &mut self,
        identity: Identity,
        accusations: Arc<[Accusation]>,
        now: Instant,
    ) -> Option<(Member<Identity>, Item)> {
        let (me, node, epoch) = (self.me.node, identity.node, identity.epoch);
        let incarnation = self.living(identity)?.incarnation;
        let charges = accusations.iter().map(|accusation| accusation.charge(now)).collect();
        if let Some(entry) = self.book.get_mut(node) {
            entry.verdict = Some(Verdict { epoch, by: me, accusations });
        }
        let (verdict, down) = (Item::Verdict { node, epoch, by: me, charges }, Member::new(identity, incarnation, Swim::Down));
        self.tell(&verdict);
        let told = std::iter::once(down.clone());
        let _ = self.with_foca(Teller::Own, |foca, out| foca.apply_many(told, true, out), now);
        Some((down, verdict))
    }

    /// Another buried it, and it did not answer this agent either, which is thereby one of its accusers.
    pub(super) fn bury_told(&mut self, identity: Identity, by: Uuid, ground: Ground, since: Instant, now: Instant) {
        let (me, epoch) = (self.me.node, identity.epoch);
        let own = Accusation { by: me, ground, health: self.detect.health.score(), at: since };
        let Some(entry) = self.book.get_mut(identity.node) else { return };
        let incarnation = entry.incarnation;
        let known = entry.verdict.clone().filter(|verdict| verdict.epoch == epoch);
        let (by, mut accusations) = known.map_or((by, Vec::new()), |known| (known.by, known.accusations.to_vec()));
        accusations.retain(|accusation| accusation.by != me); // it may have been a witness
        accusations.truncate(crate::accusation::ACCUSERS_MAX - 1);
        accusations.push(own);
        entry.verdict = Some(Verdict { epoch, by, accusations: accusations.into() });
        let down = Member::new(identity, incarnation, Swim::Down);
        let teller = Teller::Member(by);
        let _ = self.with_foca(teller, |foca, out| foca.apply_many(std::iter::once(down), true, out), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accusations(healths: &[u8]) -> Vec<Accusation> {
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from
        let at = Instant::now();
        let accusation = |(n, health): (usize, &u8)| Accusation {
            by: Uuid::from_u128(n as u128 + 1),
            ground: Ground::Tcp,
            health: *health,
            at,
        };
        healths.iter().enumerate().map(accusation).collect()
    }

    #[test]
    fn patience_is_memberlists_until_enough_in_good_health_agree() {
        let second = Duration::from_secs(1);
        let at = |healths: &[u8], members| patience(&accusations(healths), members, 4, second).as_secs_f64();
        assert_eq!(at(&[0], 2), 4.0, "nobody else can confirm");
        assert_eq!((at(&[0], 5), at(&[0, 0], 5)), (24.0, 3.0));
        assert_eq!((at(&[0], 100), at(&[0, 0, 0], 100)), (48.0, 3.0));
        assert!((at(&[0, 0], 100) - 22.76).abs() < 0.1, "{}", at(&[0, 0], 100));
        assert_eq!(at(&[0, 7, 7, 0], 100), 8.0, "those who fare badly confirm, and hasten nothing");
    }
}
