//! The last look before a burial: a few members are asked over TCP how they see the accused. If nobody answers, it may be this
//! agent that is cut off, and nobody is buried.

use std::time::Instant;

use uuid::Uuid;

use super::super::{Core, Dial, Due, Heard};
use super::ACCUSERS_MIN;
use crate::accusation::{Accusation, Charge};
use crate::identity::Identity;
use crate::member::State;
use crate::message::{Held, Response};

/// How many members are asked.
const ASKED: usize = 3;
/// How many answers are enough.
const ANSWERS: usize = 2;
/// In intervals: how long it takes at most; where the accuser is alone the asked look for themselves, and it takes longer.
const TIME: f64 = 0.5;
const TIME_ALONE: f64 = 1.5;

/// A last look.
#[derive(Debug)]
pub(super) struct Last {
    serial: u64,
    asked: usize,
    answers: usize,
    alone: bool,
}

impl Core {
    pub(super) fn begin_last_look(&mut self, node: Uuid, now: Instant) {
        let serial = self.detect.next();
        let others = self.helpers(node, ASKED);
        let Some(suspicion) = self.detect.suspicions.get_mut(&node) else { return };
        let (identity, alone) = (suspicion.identity, suspicion.accusations.len() < ACCUSERS_MIN);
        if others.is_empty() {
            // A cluster of two: there is nobody else to ask, and the time that memberlist gives is over.
            self.bury_suspect(node, now);
            return;
        }
        suspicion.last = Some(Last { serial, asked: others.len(), answers: 0, alone });
        for other in others {
            self.effects.dials.push(Dial::Look(other, identity, alone));
        }
        let time = self.interval().mul_f64(if alone { TIME_ALONE } else { TIME });
        self.wheel.set(Due::LastLook(node, serial), now, time);
    }

    /// One of those that were asked answered, or did not.
    pub(in crate::core) fn heard_look(&mut self, asked: Identity, of: Identity, heard: &Heard, now: Instant) {
        match heard {
            Heard::Response(_) => self.detect.unanswered = None,
            // One that does not answer this is looked at itself: where many fall silent at once, all are found soon.
            Heard::Silent => self.look_privately(asked, None, now),
            Heard::Refused => self.trial_refused(asked, self.me.node, now),
        }
        let answered = match heard {
            Heard::Response(Response::Held(held)) => {
                if let Some(Held { incarnation, alive: true, .. }) = held {
                    self.hear_alive(of, *incarnation, now);
                }
                if let Some(Held { incarnation, charge: Some(charge), .. }) = held
                    && charge.by == asked.node
                {
                    self.take_accused(of.node, of.epoch, *incarnation, charge, now);
                }
                true
            }
            // It is in another life.
            Heard::Response(Response::Pong { identity, incarnation }) if identity.node == of.node => {
                self.hear_alive(*identity, *incarnation, now);
                true
            }
            _ => false,
        };
        let suspicion = self.detect.suspicions.get_mut(&of.node).filter(|suspicion| suspicion.identity == of);
        let Some(last) = suspicion.and_then(|suspicion| suspicion.last.as_mut()).filter(|_| answered) else { return };
        last.answers += 1;
        let serial = last.serial;
        if !last.alone && last.answers >= ANSWERS.min(last.asked) {
            self.last_look_due(of.node, serial, now);
        }
    }

    /// The last look is over.
    pub(in crate::core) fn last_look_due(&mut self, node: Uuid, serial: u64, now: Instant) {
        let (again, hold) = (self.interval(), self.config.mass_loss_hold);
        let Some(suspicion) = self.detect.suspicions.get_mut(&node) else { return };
        let Some(last) = suspicion.last.take_if(|last| last.serial == serial) else { return };
        let accused = suspicion.accusations.len() >= ACCUSERS_MIN;
        if accused && last.answers > 0 {
            self.bury_suspect(node, now);
            return;
        }
        // Of one whose accuser is alone, since this was found; where nobody answers, since nobody did.
        let held = *suspicion.held.get_or_insert(now);
        let held = if last.answers > 0 { held } else { *self.detect.unanswered.get_or_insert(now) };
        if now.saturating_duration_since(held) < hold {
            let serial = self.detect.next();
            if let Some(suspicion) = self.detect.suspicions.get_mut(&node) {
                suspicion.serial = serial;
            }
            self.wheel.set(Due::Suspect(node, serial), now, again);
        } else if last.answers > 0 {
            // Others answer, and none of them finds fault with it: the accuser is wrong.
            self.suspicion_was_wrong(node);
            self.detect.looks.remove(&node);
        } else {
            self.bury_suspect(node, now);
        }
    }

    fn bury_suspect(&mut self, node: Uuid, now: Instant) {
        let Some(suspicion) = self.detect.suspicions.remove(&node) else { return };
        let accusations: Vec<Accusation> = suspicion.accusations;
        self.bury(suspicion.identity, accusations.into(), now);
    }

    /// A last look, as the one who is asked.
    pub(in crate::core) fn asked_look(&mut self, of: Identity, verify: bool, now: Instant) -> Response {
        if of.node == self.me.node {
            return self.asked_ping(None, now);
        }
        if verify && self.living(of).is_some() {
            self.look_privately(of, None, now);
        }
        let Some(entry) = self.book.get(of.node) else { return Response::Held(None) };
        let (identity, incarnation, alive) = (entry.identity, entry.incarnation, entry.is_alive());
        if identity != of {
            let later = alive && foca::Identity::win_addr_conflict(&identity, &of);
            return if later { Response::Pong { identity, incarnation } } else { Response::Held(None) };
        }
        let (me, health) = (self.me.node, self.detect.health.score());
        let said = entry.accused.iter().find(|accusation| accusation.by == me);
        // Who has buried it holds it silent as well, whoever said so first.
        let buried = entry.accused.first().filter(|_| entry.state == State::Failed);
        let charge = said.map(|own| own.charge(now)).or(buried.map(|first| Charge { by: me, health, ..first.charge(now) }));
        Response::Held(Some(Held { incarnation, alive, charge }))
    }
}
