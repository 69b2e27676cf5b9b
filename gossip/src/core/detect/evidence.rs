//! Evidence: a member whose port refuses connections from here and from another host, and which nobody reaches, is dead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;
use uuid::Uuid;

use super::super::{Core, Dial, Due, Heard};
use crate::accusation::{Accusation, Ground};
use crate::identity::Identity;
use crate::member::{Event, Outcome, Proof};
use crate::message::{Reached, Response};

/// How many others are asked to try.
const WITNESSES: usize = 2;
/// How many are asked in all, where some of them cannot be asked.
const WITNESSES_MAX: usize = 4;
/// Hosts that must be refused, where there are as many.
const REFUSED_MIN: usize = 2;
/// Members looked for at once. Beyond them it is the way of silence.
const TRIALS_MAX: usize = 64;
/// After that it is no proof any more; a witness takes a second to tell silence.
const TIME: Duration = Duration::from_millis(1500);

/// A member is looked for over TCP.
#[derive(Debug)]
pub(super) struct Trial {
    identity: Identity,
    since: Instant,
    serial: u64,
    asked: Vec<Identity>,
    /// Who is yet to tell.
    open: Vec<Uuid>,
    refused: Vec<Uuid>,
}

impl Core {
    /// Looks for a member over TCP, from here and from two others. False: there is no such living member.
    pub(crate) fn check(&mut self, node: Uuid, now: Instant) -> bool {
        let Some(identity) = self.book.get(node).filter(|entry| entry.is_alive()).map(|entry| entry.identity) else {
            return false;
        };
        if self.begin_trial(identity, now) {
            self.dial_ping(identity);
            self.settle(now);
        }
        true
    }

    /// A member's feed fell silent: it is looked at, and accused if it answers nobody. False: there is no such living member.
    pub(crate) fn feed_silent(&mut self, node: Uuid, now: Instant) -> bool {
        let identity = self.book.get(node).filter(|entry| entry.is_alive()).map(|entry| entry.identity);
        if let Some(identity) = identity {
            self.look_privately(identity, Some(Ground::Feed), now);
            self.settle(now);
        }
        identity.is_some()
    }

    /// False: there is one, or there can be none.
    fn begin_trial(&mut self, identity: Identity, now: Instant) -> bool {
        let trials = &self.detect.trials;
        if !self.is_inside()
            || self.living(identity).is_none()
            || trials.len() >= TRIALS_MAX
            || trials.contains_key(&identity.node)
        {
            return false;
        }
        let (serial, witnesses) = (self.detect.next(), self.helpers(identity.node, WITNESSES));
        let open = witnesses.iter().map(|witness| witness.node).chain([self.me.node]).collect();
        for witness in &witnesses {
            self.effects.dials.push(Dial::Witness(*witness, identity));
        }
        let trial = Trial { identity, since: now, serial, asked: witnesses, open, refused: Vec::new() };
        self.detect.trials.insert(identity.node, trial);
        self.wheel.set(Due::Trial(identity.node, serial), now, TIME);
        true
    }

    fn trial(&mut self, identity: Identity) -> Option<&mut Trial> {
        self.detect.trials.get_mut(&identity.node).filter(|trial| trial.identity == identity)
    }

    pub(super) fn trial_answered(&mut self, identity: Identity, by: Uuid, now: Instant) {
        if self.trial(identity).is_some() {
            self.end_trial(identity.node, Outcome::Lives, Some(by), now);
        }
    }

    /// `host` was refused there. A refusal that nobody looked for begins a trial.
    pub(super) fn trial_refused(&mut self, identity: Identity, host: Uuid, now: Instant) {
        self.begin_trial(identity, now);
        let Some(trial) = self.trial(identity) else { return };
        trial.open.retain(|open| *open != host);
        if !trial.refused.contains(&host) {
            trial.refused.push(host);
        }
        self.judge_trial(identity, now);
    }

    /// `host` heard nothing from there.
    pub(super) fn trial_silent(&mut self, identity: Identity, host: Uuid, now: Instant) {
        let Some(trial) = self.trial(identity) else { return };
        trial.open.retain(|open| *open != host);
        self.judge_trial(identity, now);
    }

    /// What a witness found, or that it does not answer.
    pub(in crate::core) fn heard_witness(&mut self, witness: Identity, of: Identity, heard: &Heard, now: Instant) {
        match heard {
            Heard::Response(Response::Reached(Reached::Answered(iam))) if iam.identity.node == of.node => {
                if !iam.quiet && iam.identity.epoch >= of.epoch {
                    self.trial_answered(of, witness.node, now);
                } else {
                    self.trial_silent(of, witness.node, now);
                }
            }
            Heard::Response(Response::Reached(Reached::Answered(_) | Reached::Refused)) => {
                self.trial_refused(of, witness.node, now);
            }
            Heard::Response(Response::Reached(Reached::Silent)) => self.trial_silent(of, witness.node, now),
            // The witness itself is not there: another one is asked, and where it was refused, it is looked for too.
            _ => {
                self.replace_witness(of, witness.node);
                if matches!(heard, Heard::Refused) {
                    self.trial_refused(witness, self.me.node, now);
                }
                self.trial_silent(of, witness.node, now);
            }
        }
    }

    fn replace_witness(&mut self, of: Identity, gone: Uuid) {
        let candidates = self.helpers(of.node, WITNESSES_MAX + 1);
        let Some(trial) = self.trial(of).filter(|trial| trial.asked.len() < WITNESSES_MAX) else { return };
        let fresh = candidates.into_iter().find(|one| one.node != gone && !trial.asked.contains(one));
        if let Some(fresh) = fresh {
            trial.asked.push(fresh);
            trial.open.push(fresh.node);
            self.effects.dials.push(Dial::Witness(fresh, of));
        }
    }

    /// Hosts that could be refused there: this one, and those of members that have not refused us themselves.
    fn hosts(&self, but: Uuid) -> usize {
        let me = self.me.node;
        let gone = |node: &Uuid| self.detect.trials.get(node).is_some_and(|trial| trial.refused.contains(&me));
        1 + self.book.alive().filter(|entry| entry.identity.node != but && !gone(&entry.identity.node)).count()
    }

    fn judge_trial(&mut self, identity: Identity, now: Instant) {
        let needed = REFUSED_MIN.min(self.hosts(identity.node));
        let Some(trial) = self.trial(identity) else { return };
        if trial.refused.len() >= needed {
            self.end_trial(identity.node, Outcome::Dead, None, now);
        } else if trial.open.is_empty() {
            self.end_trial(identity.node, Outcome::Open, None, now);
        }
    }

    pub(in crate::core) fn trial_due(&mut self, node: Uuid, serial: u64, now: Instant) {
        if self.detect.trials.get(&node).is_some_and(|trial| trial.serial == serial) {
            self.end_trial(node, Outcome::Open, None, now);
        }
    }

    fn end_trial(&mut self, node: Uuid, outcome: Outcome, answered: Option<Uuid>, now: Instant) {
        let Some(Trial { identity, since, refused, .. }) = self.detect.trials.remove(&node) else { return };
        debug!(%node, ?outcome, refused = refused.len(), "looked for over TCP");
        let proof = Proof { identity, outcome, refused: refused.clone(), answered };
        self.effects.events.push(Event::Checked(Arc::new(proof)));
        match outcome {
            Outcome::Lives => {}
            Outcome::Dead => {
                let health = self.detect.health.score();
                let accusation = |by| Accusation { by, ground: Ground::Refused, health, at: since };
                // One finds it out, and not, as with silence, many at about the same time.
                if let Some((down, verdict)) = self.bury(identity, refused.into_iter().map(accusation).collect(), now) {
                    self.tell_each(Some(down), verdict);
                }
            }
            Outcome::Open => self.look_privately(identity, None, now),
        }
        // Where this one's host is no witness any more, others may be proven by fewer.
        let others: Vec<Identity> = self.detect.trials.values().map(|trial| trial.identity).collect();
        for other in others {
            self.judge_trial(other, now);
        }
    }
}
