//! A core that begins inside a cluster it knows whole, and what is looked at in one from outside: what simulations stand on.

use std::time::Instant;

use foca::Member;
use uuid::Uuid;

use super::Core;
use crate::book::{Book, Entry, Told};
use crate::identity::Identity;
use crate::member::{Cause, Kind, State};

impl Core {
    /// Who this agent is and what it says about itself, as the others keep it.
    pub(crate) fn introduction(&self) -> (Identity, Told) {
        (self.me, Told { epoch: self.me.epoch, bytes: self.record_bytes.clone(), record: self.record.clone() })
    }

    /// Begins in `cluster`, with all of `members` known and nothing left to tell: as after hours without a change.
    pub(crate) fn begin_among(&mut self, cluster: Uuid, members: &[(Identity, Told)], now: Instant) {
        self.cluster = Some(cluster);
        self.enter();
        self.events.begin();
        let me = self.me.node;
        let others = || members.iter().filter(|(identity, _)| identity.node != me);
        self.book = Book::filled(others().map(|(identity, told)| {
            let cause = Cause { kind: Kind::Joined, by: Some(identity.node) };
            Entry { told: Some(told.clone()), ..Entry::new(*identity, State::Alive, cause, now) }
        }));
        let alive = others().map(|(identity, _)| Member::alive(*identity));
        // They are other nodes than this one: foca has nothing to refuse.
        let _ = self.foca.apply_many(alive, false, &mut self.out);
        self.out.notes.clear(); // all of them are in the book
        self.resize();
        self.settle(now);
    }

    /// How a member looks from here.
    pub(crate) fn view(&self, node: Uuid) -> Option<(Identity, State)> {
        self.book.get(node).map(|entry| (entry.identity, entry.state))
    }

    /// How many others are in the table.
    pub(crate) fn table_size(&self) -> usize {
        self.book.len()
    }

    /// How many things are held beside the table: timers, what is to be told, conversations that are waited for.
    pub(crate) fn held(&self) -> usize {
        let told = self.foca.updates_backlog() + self.foca.custom_broadcast_backlog();
        let asked = self.waiting.len() + self.detect.held() + self.fetched.len() + self.disowned.len();
        self.wheel.len() + told + asked
    }
}
