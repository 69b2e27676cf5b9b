//! A core that begins inside a cluster it knows whole, and what is looked at in one from outside: what simulations stand on.

use std::time::Instant;

use foca::Member;
use uuid::Uuid;

use super::Core;
use crate::book::{Book, Entry, Told};
use crate::identity::Identity;
use crate::member::{Cause, Kind, State};

impl Core {
    /// This agent as the others keep it, once they have long known it.
    pub(crate) fn introduction(&self, since: Instant) -> Entry {
        let told = Told { epoch: self.me.epoch, bytes: self.record_bytes.clone(), record: self.record.clone() };
        let cause = Cause { kind: Kind::Joined, by: Some(self.me.node) };
        Entry { told: Some(told), ..Entry::new(self.me, State::Alive, cause, since) }
    }

    /// Begins in `cluster`, with all of `members` known (this agent may be one of them) and nothing left to tell: as after hours
    /// without a change.
    pub(crate) fn begin_among(&mut self, cluster: Uuid, members: &Book, now: Instant) {
        self.cluster = Some(cluster);
        self.enter();
        self.events.begin();
        self.book = members.clone();
        self.book.remove(self.me.node);
        for entry in self.book.alive() {
            // It is another node than this one: foca has nothing to refuse. What it would tell is in the book.
            let _ = self.foca.apply_many(std::iter::once(Member::alive(entry.identity)), false, &mut self.out);
            self.out.notes.clear();
        }
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
