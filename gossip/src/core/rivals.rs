//! Two holders of one UUID or name, and a life that others hold dead: who renews, and who goes quiet.
//!
//! Nobody fights: of two holders the one whose address answers and that has been up longer stays, the other goes quiet and says
//! so. A life that was declared dead cannot be refuted: the node begins another one, at most once in [`RENEWAL_PAUSE`].

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::Member;
use rand::seq::IteratorRandom;
use tracing::info;
use uuid::Uuid;

use super::{Core, Dial, Done, Due, Heard, Standing, Step};
use crate::book::Departed;
use crate::identity::Identity;
use crate::member::{Event, Kind, Quiet};
use crate::message::{Iam, Response};

/// Least time between two renewals: two agents that declare each other dead would do nothing else (foca's documentation says so).
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);
/// Least time between two looks at a rival.
const CONTEST_PAUSE: Duration = Duration::from_secs(5);

impl Core {
    /// Somebody speaks of another life of this node.
    pub(super) fn rival_seen(&mut self, rival: Identity, active: bool, now: Instant) {
        if !self.is_inside() {
            return;
        }
        if rival.addr != self.me.addr && active {
            self.contest(rival, now);
        } else if rival.epoch > self.me.epoch {
            // An earlier life that ended above this one's epoch: a restored disk, say.
            self.renew_above(rival.epoch, now);
        }
    }

    fn contest(&mut self, rival: Identity, now: Instant) {
        if self.contested.is_none_or(|last| now.saturating_duration_since(last) >= CONTEST_PAUSE) {
            self.contested = Some(now);
            self.effects.dials.push(Dial::Rival(rival.addr, rival.epoch));
        }
    }

    /// This agent is asked who it is.
    pub(super) fn asked_who(&mut self, asker: &Iam, over: Option<(Uuid, u64, Kind)>, now: Instant) -> Response {
        if self.is_inside() && self.cluster.is_some() && asker.cluster == self.cluster {
            if asker.identity.node == self.me.node && asker.boot != self.boot && !asker.quiet {
                self.contest(asker.identity, now);
            }
            if let Some((_, epoch, kind)) = over.filter(|(node, ..)| *node == self.me.node) {
                self.told_departed(Departed { epoch, kind, by: asker.identity.node }, now);
            }
        }
        Response::Iam(self.iam(now))
    }

    /// What came of the look at a rival.
    pub(super) fn heard_rival(&mut self, epoch: u64, heard: Heard, now: Instant) -> Step {
        let rival = match heard {
            Heard::Response(Response::Iam(iam)) if self.is_holder(&iam, self.me.node) && iam.boot != self.boot => Some(iam),
            _ => None,
        };
        if let Some(rival) = &rival
            && self.yields_to(rival, now)
        {
            self.go_quiet(why_quiet(rival, Quiet::Id), now);
            return Step::Done(Done::Well);
        }
        let highest = rival.map_or(epoch, |rival| rival.identity.epoch.max(epoch));
        if highest >= self.me.epoch {
            self.renew_above(highest, now);
        }
        Step::Done(Done::Well)
    }

    /// What came of the look at another holder of this node's name.
    pub(super) fn heard_namesake(&mut self, node: Uuid, heard: Heard, now: Instant) -> Step {
        if let Heard::Response(Response::Iam(iam)) = heard
            && self.is_holder(&iam, node)
            && iam.name == self.record.name
            && self.yields_to(&iam, now)
        {
            // The others would find out by silence: they are told.
            let departed = Departed { epoch: self.me.epoch, kind: Kind::Replaced, by: node };
            self.say_goodbye(departed, now);
            self.go_quiet(why_quiet(&iam, Quiet::Name), now);
        }
        Step::Done(Done::Well)
    }

    fn is_holder(&self, iam: &Iam, node: Uuid) -> bool {
        iam.identity.node == node && !iam.quiet && iam.cluster == self.cluster
    }

    /// Both sides come to the same end: the one that an operator put in place stays, else the longer up, and of equals the
    /// smaller number.
    fn yields_to(&self, other: &Iam, now: Instant) -> bool {
        let rank = |iam: &Iam| (iam.replace, iam.up, std::cmp::Reverse(iam.boot));
        self.is_inside() && rank(other) > rank(&self.iam(now))
    }

    /// A life of this node is said to have ended by a decision.
    pub(super) fn told_departed(&mut self, departed: Departed, now: Instant) {
        if departed.epoch < self.me.epoch || !self.is_inside() {
            return;
        }
        if departed.kind == Kind::Replaced {
            self.go_quiet(Quiet::Replaced, now);
        } else {
            self.renew_above(departed.epoch, now);
        }
    }

    /// foca found out that this life is held dead.
    pub(super) fn declared_dead(&mut self, now: Instant) {
        self.defunct = true;
        if self.is_inside() {
            info!(epoch = self.me.epoch, "this agent was declared dead: it begins another life");
            self.renew_above(self.me.epoch, now);
            // Why? Another holder of this UUID is seen in anybody's table.
            if let Some(addr) = self.book.alive().map(|entry| entry.identity.addr).choose(&mut self.rng) {
                self.effects.dials.push(Dial::Exchange(addr));
            }
        }
    }

    /// Begins another life above `epoch`: now, or when the pause is over.
    pub(super) fn renew_above(&mut self, epoch: u64, now: Instant) {
        if !self.is_inside() {
            return;
        }
        let due = self.renewed.map(|last| last + RENEWAL_PAUSE).filter(|due| *due > now);
        match due {
            None => {
                self.renewed = Some(now);
                self.live_as(self.me.epoch.max(epoch).saturating_add(1), now);
            }
            Some(due) => {
                self.renew_later = self.renew_later.max(epoch);
                if !std::mem::replace(&mut self.renewal_planned, true) {
                    self.wheel.set(Due::Renew, now, due - now);
                }
            }
        }
    }

    /// The pause is over.
    pub(super) fn renew_due(&mut self, now: Instant) {
        self.renewal_planned = false;
        let epoch = std::mem::take(&mut self.renew_later);
        if self.is_inside() && (self.defunct || epoch >= self.me.epoch) {
            self.renew_above(epoch.max(self.me.epoch), now);
        }
    }

    /// Takes another epoch, without the one of before being told dead: members exchange the one for the other.
    pub(super) fn live_as(&mut self, epoch: u64, now: Instant) {
        if epoch == self.me.epoch {
            return;
        }
        let (old, new) = (self.me, Identity { epoch, ..self.me });
        // foca tells the old life dead when it is changed while it lives; made dead first, it keeps that to itself.
        let _ = self.foca.apply_many(std::iter::once(Member::down(old)), false, &mut self.out);
        self.out.notes.retain(|note| *note != foca::OwnedNotification::Defunct);
        self.me = new;
        self.incarnation = 0;
        self.defunct = false;
        let record = crate::record::Record { version: self.record.version + 1, ..(*self.record).clone() };
        if let Some(bytes) = record.encode() {
            (self.record, self.record_bytes) = (std::sync::Arc::new(record), bytes);
        }
        self.tell_record();
        let _ = self.foca.change_identity(new, &mut self.out);
        let _ = self.foca.apply_many(std::iter::empty(), false, &mut self.out);
        self.event(Event::Epoch(epoch));
        self.settle(now);
    }

    /// Takes no part any more.
    pub(super) fn go_quiet(&mut self, why: Quiet, now: Instant) {
        self.standing = Standing::Quiet(why.clone());
        self.wheel.clear();
        self.detect.clear();
        self.event(Event::Quiet(why));
        self.settle(now);
    }
}

/// Why this agent gives way to another: an operator's word counts above who has been up longer. The word may come by the other
/// itself, before that of the member that admitted it.
fn why_quiet(other: &Iam, longer_up: fn(SocketAddr) -> Quiet) -> Quiet {
    if other.replace { Quiet::Replaced } else { longer_up(other.identity.addr) }
}
