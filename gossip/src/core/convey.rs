//! What foca finds out about members, carried into the book and told as events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Core, Dial, Due, Teller};
use crate::book::{Entry, Verdict};
use crate::identity::Identity;
use crate::member::{Cause, Event, Kind, Reach, State};
use crate::metrics::FLAP_MAX;

/// How long a new member's record may take by gossip before it is fetched.
const RECORD_GRACE: Duration = Duration::from_secs(1);
/// How often it is fetched; after that it comes with the periodic exchange.
const FETCHES_MAX: u8 = 5;

impl Core {
    fn told_by(&self) -> Uuid {
        match self.teller {
            Teller::Own => self.me.node,
            Teller::Member(node) => node,
        }
    }

    pub(super) fn came_up(&mut self, identity: Identity, now: Instant) {
        let by = Some(self.told_by());
        match self.book.get_mut(identity.node) {
            Some(entry) => {
                if entry.identity.run() != identity.run() {
                    entry.wrong = 0;
                }
                if entry.state == State::Failed && now.saturating_duration_since(entry.since) < FLAP_MAX {
                    self.meters.flapped();
                }
                entry.identity = identity;
                entry.state = State::Alive;
                entry.since = now;
                (entry.incarnation, entry.reach) = (0, Reach::default());
                entry.accused = Arc::default();
                entry.cause = Cause { kind: Kind::Returned, by };
            }
            None => {
                let cause = Cause { kind: Kind::Joined, by };
                self.book.insert(Entry::new(identity, State::Alive, cause, now));
            }
        }
        self.waiting.remove(&identity.node);
        self.disowned.retain(|disowned| disowned.node != identity.node);
        self.detection_over(identity.node);
        self.effects.changed = true;
        self.event_of(identity.node, Event::Up);
        self.await_record(identity, now);
        self.settle_name(identity.node, now);
    }

    pub(super) fn renamed(&mut self, identity: Identity, now: Instant) {
        let Some(entry) = self.book.get_mut(identity.node) else { return };
        if entry.identity.run() != identity.run() {
            entry.wrong = 0;
        }
        entry.identity = identity;
        (entry.incarnation, entry.reach) = (0, Reach::default());
        if entry.is_alive() {
            entry.accused = Arc::default();
        }
        self.detection_over(identity.node);
        self.effects.changed = true;
        let Some(entry) = self.book.get_mut(identity.node) else { return };
        if entry.is_alive() {
            entry.cause = Cause { kind: Kind::Returned, by: Some(identity.node) };
            self.event_of(identity.node, Event::Updated);
            self.await_record(identity, now);
        }
    }

    pub(super) fn went_down(&mut self, identity: Identity, now: Instant) {
        let (teller, me) = (self.teller, self.me.node);
        let Some(entry) = self.book.get_mut(identity.node) else { return };
        entry.identity = identity;
        entry.since = now;
        match entry.departure() {
            Some(departed) => {
                entry.accused = Arc::default();
                entry.state = State::Left;
                entry.cause = Cause { kind: departed.kind, by: Some(departed.by) };
                self.event_of(identity.node, Event::Left);
            }
            None => {
                entry.state = State::Failed;
                match (entry.verdict.as_ref().filter(|verdict| verdict.epoch == identity.epoch), teller) {
                    (Some(verdict), _) => {
                        // The accusers on record here, unless there are fewer of them than of those that were told.
                        if entry.accused.len() < verdict.accusations.len() {
                            entry.accused = verdict.accusations.clone();
                        }
                        entry.cause = Verdict { accusations: entry.accused.clone(), ..verdict.clone() }.cause();
                    }
                    (None, Teller::Own) => entry.cause = Cause { kind: Kind::Silent, by: Some(me) },
                    (None, Teller::Member(by)) => {
                        let first = entry.accused.first().map(|first| first.by);
                        let kind = if first.is_some() { Kind::Silent } else { Kind::Told };
                        entry.cause = Cause { kind, by: first.or(Some(by)) };
                    }
                }
                self.event_of(identity.node, Event::Down);
            }
        }
        self.detection_over(identity.node);
        self.effects.changed = true;
        self.plan_reaping(now);
        self.yield_name(identity.node, now);
    }

    /// One that is dead gives way to a living one of its name.
    pub(super) fn yield_name(&mut self, node: Uuid, now: Instant) {
        let Some(name) = self.book.get(node).and_then(Entry::name).map(str::to_owned) else { return };
        let heir = self.book.named(&name, node).into_iter().find(|other| self.book.get(*other).is_some_and(Entry::is_alive));
        if let Some(heir) = heir {
            self.reap(node, Cause { kind: Kind::Replaced, by: Some(heir) }, now);
        }
    }

    /// A living member's record is older than the member, or is not there: it should come by gossip in a moment.
    fn await_record(&mut self, identity: Identity, now: Instant) {
        if self.lacks_record(identity.node) && self.fetched.insert(identity.node) {
            self.wheel.set(Due::Fetch(identity.node, 0), now, RECORD_GRACE);
        }
    }

    fn lacks_record(&self, node: Uuid) -> bool {
        self.book.get(node).is_some_and(|entry| {
            let known = entry.told.as_ref().map(crate::book::Told::order);
            entry.is_alive() && (known.is_none_or(|(epoch, _)| epoch < entry.identity.epoch) || known < entry.hinted)
        })
    }

    /// A record has not come by gossip.
    pub(super) fn fetch(&mut self, node: Uuid, tries: u8, now: Instant) {
        if !self.lacks_record(node) || !self.is_inside() || tries >= FETCHES_MAX {
            self.fetched.remove(&node);
            return;
        }
        if let Some(entry) = self.book.get(node) {
            self.effects.dials.push(Dial::Exchange(entry.identity.addr));
        }
        self.wheel.set(Due::Fetch(node, tries + 1), now, RECORD_GRACE * 2);
    }

    /// A member has a record too big for packets. True if that is news.
    pub(super) fn hear_of_record(&mut self, node: Uuid, order: (u64, u64), now: Instant) -> bool {
        let Some(entry) = self.book.get_mut(node) else { return false };
        let known = entry.told.as_ref().map(crate::book::Told::order).max(entry.hinted);
        if known >= Some(order) {
            return false;
        }
        entry.hinted = Some(order);
        // All members hear of it at about the same time: they do not knock together.
        let spread = RECORD_GRACE.mul_f64(rand::RngExt::random::<f64>(&mut self.rng) * 2.0);
        if self.fetched.insert(node) {
            self.wheel.set(Due::Fetch(node, 0), now, spread);
        }
        true
    }

    /// Who else has the name that a member has: the dead give way, of the living the one that has been up longer stays.
    pub(super) fn settle_name(&mut self, node: Uuid, now: Instant) {
        let Some(entry) = self.book.get(node) else { return };
        let (Some(name), true) = (entry.name().map(str::to_owned), entry.is_alive()) else { return };
        let addr = entry.identity.addr;
        for other in self.book.named(&name, node) {
            if self.book.get(other).is_some_and(Entry::is_alive) {
                self.event(Event::Clash { name: name.clone(), nodes: [node, other] });
            } else {
                self.reap(other, Cause { kind: Kind::Replaced, by: Some(node) }, now);
            }
        }
        if name == self.record.name && self.is_inside() {
            self.event(Event::Clash { name, nodes: [node, self.me.node] });
            self.effects.dials.push(Dial::Namesake(addr, node));
        }
    }
}
