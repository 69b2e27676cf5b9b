//! How a silent member is told from a dead one: what is tried before it is accused, and what must hold before it is buried.
//!
//! foca pings, asks others to, and spreads what is decided; it decides nothing. A probe that fails begins a private look, of which
//! nobody hears; a look that fails ends in an accusation, which everybody hears, the accused first; accusers that agree shorten
//! everybody's patience; a last look precedes the burial. A refused connection is no silence: hosts that are refused prove a death.

mod accuse;
mod digest;
mod evidence;
mod health;
mod last;
mod look;
mod probe;
mod reach;
mod suspicion;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use foca::{Member, State as Swim};
use rand::seq::IteratorRandom;
use uuid::Uuid;

use super::{Core, Dial, Heard, Teller};
use crate::book::Entry;
use crate::identity::Identity;
use crate::member::Port;
use crate::message::Response;

use digest::Digests;
use evidence::Trial;
pub(super) use health::Health;
use look::Look;
use probe::{Asked, Probe};
use suspicion::Suspicion;

/// A timer so late tells that this agent was asleep: stopped, suspended, or starved of CPU.
const ASLEEP: Duration = Duration::from_secs(1);
/// Accusers that must be on record for any burial, wherever there is more than one other member.
const ACCUSERS_MIN: usize = 2;
/// What a sleep costs in health: its probes were not answered because nobody read the answers.
const ASLEEP_COSTS: u8 = 3;

/// What this agent is finding out.
#[derive(Debug, Default)]
pub(super) struct Detect {
    pub(super) health: Health,
    probe: Option<Probe>,
    /// Pings that others asked for, until they are answered: by asker, asked for, number.
    asked: BTreeMap<Asked, Identity>,
    looks: BTreeMap<Uuid, Look>,
    suspicions: BTreeMap<Uuid, Suspicion>,
    trials: BTreeMap<Uuid, Trial>,
    digests: Digests,
    /// Tells a timer from one that was set for the same thing before.
    serial: u64,
    woke: Option<Instant>,
    /// Since when nobody has answered a last look.
    unanswered: Option<Instant>,
    /// How often this agent accused one that then refuted.
    pub(super) wrong: u32,
}

impl Detect {
    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// How many things are being found out.
    pub(super) fn held(&self) -> usize {
        self.asked.len() + self.looks.len() + self.suspicions.len() + self.trials.len()
    }

    /// This agent takes no part any more.
    pub(super) fn clear(&mut self) {
        *self = Self { serial: self.serial, wrong: self.wrong, ..Self::default() };
    }
}

/// What came of trying a member over TCP.
enum Tried {
    /// It answered, in this life and incarnation.
    Lives(Identity, u16),
    /// Refused, or another agent answers there.
    Refused,
    /// Neither.
    Silent,
}

impl Core {
    /// One turn of detection: a member is probed this often.
    fn interval(&self) -> Duration {
        self.config.timing.period()
    }

    /// The entry of a life that goes on.
    pub(super) fn living(&self, identity: Identity) -> Option<&Entry> {
        self.book.get(identity.node).filter(|entry| entry.identity == identity && entry.is_alive())
    }

    /// Others that live, a few of them, those first that nobody suspects.
    fn helpers(&mut self, but: Uuid, count: usize) -> Vec<Identity> {
        let well = |entry: &&Entry| entry.identity.node != but && entry.accused.is_empty();
        let unwell = |entry: &&Entry| entry.identity.node != but && !entry.accused.is_empty();
        let mut chosen = self.book.alive().filter(well).map(|entry| entry.identity).sample(&mut self.rng, count);
        if chosen.len() < count {
            let more = self.book.alive().filter(unwell).map(|entry| entry.identity);
            chosen.extend(more.sample(&mut self.rng, count - chosen.len()));
        }
        chosen
    }

    /// A life is heard of in an incarnation: a later one than that of a suspicion ends the suspicion.
    pub(super) fn note_incarnation(&mut self, identity: Identity, incarnation: u16, now: Instant) {
        let known = self.living(identity).map(|entry| entry.incarnation);
        if known.is_none_or(|known| known >= incarnation) {
            return;
        }
        if let Some(entry) = self.book.get_mut(identity.node) {
            entry.incarnation = incarnation;
        }
        self.refuted(identity.node, incarnation, now);
    }

    /// A member said over TCP, itself or through another, that it lives in this incarnation.
    fn hear_alive(&mut self, identity: Identity, incarnation: u16, now: Instant) {
        if identity.node == self.me.node || self.book.get(identity.node).is_none() {
            return;
        }
        let update = Member::new(identity, incarnation, Swim::Alive);
        let told = Teller::Member(identity.node);
        let _ = self.with_foca(told, |foca, out| foca.apply_many(std::iter::once(update), true, out), now);
        self.note_incarnation(identity, incarnation, now);
    }

    fn tried(of: Identity, heard: &Heard) -> Tried {
        match heard {
            Heard::Response(Response::Pong { identity, incarnation }) if identity.node == of.node => {
                Tried::Lives(*identity, *incarnation)
            }
            // Somebody else lives there.
            Heard::Response(Response::Pong { .. }) | Heard::Refused => Tried::Refused,
            Heard::Response(_) | Heard::Silent => Tried::Silent,
        }
    }

    /// A member answered a ping over TCP, or did not.
    pub(super) fn heard_ping(&mut self, of: Identity, heard: &Heard, now: Instant) {
        let tried = Self::tried(of, heard);
        self.reached(of, Port::Tcp, matches!(tried, Tried::Lives(..)), now);
        match tried {
            Tried::Lives(identity, incarnation) => {
                self.hear_alive(identity, incarnation, now);
                self.probe_answered(of);
                self.look_answered(of.node);
                self.trial_answered(of, self.me.node, now);
            }
            Tried::Refused => {
                // If others hold it dead this ends it, and nobody else need be asked.
                self.look_refused(of, now);
                self.trial_refused(of, self.me.node, now);
            }
            Tried::Silent => {
                self.look_silent(of);
                self.trial_silent(of, self.me.node, now);
            }
        }
    }

    /// A ping over TCP, as the accepting side.
    pub(super) fn asked_ping(&mut self, suspected: Option<u16>, now: Instant) -> Response {
        if !self.is_inside() {
            return Response::Refused(self.out());
        }
        if let Some(incarnation) = suspected {
            self.refute(incarnation, now);
        }
        Response::Pong { identity: self.me, incarnation: self.incarnation }
    }

    /// Dials a member to see whether it lives; it hears whether it is suspected.
    fn dial_ping(&mut self, identity: Identity) {
        let suspected = self.detect.suspicions.get(&identity.node).map(|suspicion| suspicion.incarnation);
        self.effects.dials.push(Dial::Ping(identity, suspected));
    }

    /// Whether this agent slept until now; then what it holds of others is older than it looks.
    pub(super) fn wake(&mut self, now: Instant) {
        let late = self.wheel.next().is_some_and(|due| now.saturating_duration_since(due) > ASLEEP);
        if !late || self.detect.woke.is_some_and(|woke| now.saturating_duration_since(woke) < ASLEEP) {
            return;
        }
        self.detect.woke = Some(now);
        self.detect.health.worse(ASLEEP_COSTS);
        self.probe_forgiven(now);
        self.detect.asked.clear();
        self.detect.looks.clear();
        self.detect.trials.clear();
        self.detect.unanswered = None;
        self.restart_suspicions(now);
        self.exchange();
    }
}
