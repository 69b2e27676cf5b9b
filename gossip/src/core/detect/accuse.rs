//! Accusations: made here, heard from others and judged, and refuted where they are of this agent.

use std::time::Instant;

use foca::{Member, State as Swim};
use uuid::Uuid;

use super::super::{Core, Standing, Teller};
use super::suspicion::Suspicion;
use crate::accusation::{ACCUSERS_MAX, Accusation, Charge, Ground};
use crate::identity::Identity;
use crate::item::Item;
use crate::metrics::Doubted;
use crate::wire::{Put, hash};

/// How far above the incarnation that is known here an accusation may be: some refutations may have been missed. What is further
/// off is made up: else one packet could use up all incarnations there are.
const AHEAD_MAX: u16 = 64;
/// How many members verify a first accusation.
const VERIFIERS: usize = 5;

impl Core {
    /// This agent holds a member silent since `since`, and says so.
    pub(super) fn accuse(&mut self, identity: Identity, ground: Ground, since: Instant, now: Instant) {
        let Some(incarnation) = self.living(identity).map(|entry| entry.incarnation) else { return };
        if !self.is_inside() {
            return;
        }
        let accusation = Accusation { by: self.me.node, ground, health: self.detect.health.score(), at: since };
        if self.suspect(identity, incarnation, accusation, now).is_ok() {
            self.meters.accused();
            let charge = accusation.charge(now);
            self.tell(&Item::Accused { node: identity.node, epoch: identity.epoch, incarnation, charge });
        }
    }

    /// An accusation is heard. True if it is news.
    pub(in crate::core) fn take_accused(
        &mut self,
        node: Uuid,
        epoch: u64,
        incarnation: u16,
        charge: &Charge,
        now: Instant,
    ) -> bool {
        match self.judge_accused(node, epoch, incarnation, charge, now) {
            Ok(news) => news,
            Err(cause) => {
                self.meters.doubted(cause);
                false
            }
        }
    }

    fn judge_accused(
        &mut self,
        node: Uuid,
        epoch: u64,
        incarnation: u16,
        charge: &Charge,
        now: Instant,
    ) -> Result<bool, Doubted> {
        if node == self.me.node {
            if epoch != self.me.epoch {
                return Err(Doubted::Stale);
            }
            // Passed on all the same: who hears of it hears the answer as well.
            return if self.refute(incarnation, now) { Ok(true) } else { Err(Doubted::Stale) };
        }
        let entry = self.book.get(node).filter(|entry| entry.is_alive()).ok_or(Doubted::Unknown)?;
        let identity = entry.identity;
        if epoch < identity.epoch || incarnation < entry.incarnation {
            return Err(Doubted::Stale);
        }
        if epoch > identity.epoch {
            return Err(Doubted::Unknown);
        }
        if incarnation - entry.incarnation > AHEAD_MAX || charge.by == node {
            return Err(Doubted::Contradictory);
        }
        if charge.by == self.me.node {
            // Our own, come back; or what was never said here.
            let said = self.detect.suspicions.get(&node).is_some_and(|suspicion| suspicion.has(charge.by));
            return Err(if said { Doubted::Repeated } else { Doubted::Contradictory });
        }
        if self.book.get(charge.by).is_none_or(|accuser| !accuser.is_alive()) {
            return Err(Doubted::Unknown);
        }
        // An accuser looks for one interval before it accuses: who claims to have looked for longer would shorten our patience.
        let mut accusation = charge.accusation(now);
        accusation.at = accusation.at.max(now.checked_sub(2 * self.interval()).unwrap_or(now));
        self.suspect(identity, incarnation, accusation, now)?;
        Ok(true)
    }

    /// Puts an accusation on record.
    fn suspect(&mut self, identity: Identity, incarnation: u16, accusation: Accusation, now: Instant) -> Result<(), Doubted> {
        let node = identity.node;
        let known = self.detect.suspicions.get(&node).map(|suspicion| suspicion.incarnation);
        if known.is_some_and(|known| known > incarnation) {
            return Err(Doubted::Stale);
        }
        if known != Some(incarnation) {
            let mut suspicion = Suspicion::new(identity, incarnation, accusation.at);
            suspicion.serial = self.detect.next();
            self.detect.suspicions.insert(node, suspicion);
        }
        let Some(suspicion) = self.detect.suspicions.get_mut(&node) else { return Ok(()) };
        if suspicion.has(accusation.by) {
            return Err(Doubted::Repeated);
        }
        if suspicion.accusations.len() >= ACCUSERS_MAX {
            return Err(Doubted::Full);
        }
        let first = suspicion.accusations.is_empty();
        suspicion.accusations.push(accusation);
        self.suspicion_changed(node, now);
        if first && accusation.by != self.me.node && self.is_verifier(identity, incarnation) {
            self.look_privately(identity, None, now);
        }
        Ok(())
    }

    /// Whether this agent is one of those that look whether an accusation holds: all come to the same few.
    fn is_verifier(&self, accused: Identity, incarnation: u16) -> bool {
        let rank = |node: Uuid| {
            let mut bytes = Vec::with_capacity(42);
            bytes.put_uuid(node);
            bytes.put_uuid(accused.node);
            bytes.extend_from_slice(&accused.epoch.to_be_bytes());
            bytes.extend_from_slice(&incarnation.to_be_bytes());
            hash(&bytes)
        };
        let own = rank(self.me.node);
        let others = self.book.alive().map(|entry| entry.identity.node).filter(|node| *node != accused.node);
        others.filter(|node| rank(*node) < own).take(VERIFIERS).count() < VERIFIERS
    }

    /// This agent is accused: it says that it lives, by an incarnation that is above the accused one. False: it has said so.
    pub(super) fn refute(&mut self, incarnation: u16, now: Instant) -> bool {
        if incarnation < self.incarnation || self.standing != Standing::Inside {
            return false;
        }
        if incarnation - self.incarnation > AHEAD_MAX {
            self.meters.doubted(Doubted::Contradictory);
            return false;
        }
        self.detect.health.worse(1);
        self.meters.health(self.detect.health.score());
        let update = Member::new(self.me, incarnation, Swim::Suspect);
        let _ = self.with_foca(Teller::Own, |foca, out| foca.apply_many(std::iter::once(update), false, out), now);
        // Said in every packet from now on; foca tells its own nowhere else.
        self.incarnation = self.incarnation.max(incarnation.saturating_add(1));
        true
    }
}
