//! User events: told to all, in Lamport's order, each once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::RngExt;
use uuid::Uuid;

use super::Core;
use crate::error::Error;
use crate::item::Item;
use crate::member::{Event, Fired};

/// Longest event, name and payload together: serf's limit.
pub const FIRED_BYTES_MAX: usize = 512;
/// Events that are remembered, so that none comes twice: serf's buffer. One that is further back in time than the oldest of them is
/// too old to tell, and is not taken.
const REMEMBERED_MAX: usize = 512;
/// Things that wait to be told, beyond which no event is fired or passed on: each goes out some ten times, five rounds a second.
const BACKLOG_MAX: usize = 1024;
/// Times beyond this are made up: nobody counts so far.
const TIME_MAX: u64 = u64::MAX / 2;

/// What was fired, and when.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Lamport's clock.
    clock: u64,
    /// By time, who fired it, and which of those it was.
    seen: BTreeSet<(u64, Uuid, u32)>,
}

impl Events {
    /// False: it was seen, or is too old to tell.
    fn take(&mut self, time: u64, by: Uuid, number: u32) -> bool {
        let full = self.seen.len() >= REMEMBERED_MAX;
        let too_old = full && self.seen.first().is_some_and(|first| (time, by, number) < *first);
        if time > TIME_MAX || too_old || !self.seen.insert((time, by, number)) {
            return false;
        }
        if full {
            self.seen.pop_first();
        }
        self.clock = self.clock.max(time.saturating_add(1));
        true
    }
}

impl Core {
    /// Tells all members of an event. Gives its time.
    pub(crate) fn fire(&mut self, name: &str, payload: Bytes, now: Instant) -> Result<u64, Error> {
        if !self.is_inside() {
            return Err(Error::Out("it is in no cluster".into()));
        }
        if name.is_empty() || name.len() + payload.len() > FIRED_BYTES_MAX {
            return Err(Error::EventTooBig);
        }
        if self.foca.custom_broadcast_backlog() >= BACKLOG_MAX {
            return Err(Error::TooManyEvents);
        }
        let (by, time, number) = (self.me.node, self.events.clock, self.rng.random());
        self.take_fired(by, time, number, name, &payload);
        self.tell(&Item::Fired { node: by, epoch: time, number, name: name.to_owned(), payload });
        self.settle(now);
        Ok(time)
    }

    /// An event is heard of. True if it is news.
    pub(super) fn take_fired(&mut self, by: Uuid, time: u64, number: u32, name: &str, payload: &Bytes) -> bool {
        let known = by == self.me.node || self.book.get(by).is_some();
        if !known || name.len() + payload.len() > FIRED_BYTES_MAX || !self.events.take(time, by, number) {
            return false;
        }
        let fired = Fired { time, by, name: name.to_owned(), payload: payload.clone() };
        self.effects.events.push(Event::Fired(Arc::new(fired)));
        self.foca.custom_broadcast_backlog() < BACKLOG_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_remembered_within_bounds_and_none_is_taken_twice() {
        let mut events = Events::default();
        for time in 0..2000 {
            assert!(events.take(time, Uuid::nil(), 0), "{time}");
            assert!(!events.take(time, Uuid::nil(), 0), "{time} again");
        }
        assert_eq!((events.seen.len(), events.clock), (REMEMBERED_MAX, 2000));
        assert!(!events.take(3, Uuid::from_u128(1), 0), "too old to tell");
        assert!(!events.take(u64::MAX, Uuid::nil(), 0), "made up");
        assert_eq!(events.clock, 2000);
    }
}
