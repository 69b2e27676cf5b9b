//! User events: told to all, in Lamport's order, each once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::RngExt;
use uuid::Uuid;

use super::Core;
use crate::error::Error;
use crate::item::Item;
use crate::member::{Event, Fired};
use crate::wire::{Put, hash};

/// Longest event, name and payload together: serf's limit.
pub const FIRED_BYTES_MAX: usize = 512;
/// Events that are remembered, so that none comes twice: serf's buffer. One that is further back in time than the oldest of them is
/// too old to tell, and is not taken.
const REMEMBERED_MAX: usize = 512;
/// The newest events, which tables are exchanged with: with their payloads at most 64 KB.
const EXCHANGED_MAX: usize = 64;
/// Things that wait to be told, beyond which no event is fired or passed on: each goes out some ten times, five rounds a second.
const BACKLOG_MAX: usize = 1024;
/// Times beyond this are made up: nobody counts so far.
const TIME_MAX: u64 = u64::MAX / 2;

/// Its time, who fired it, and which of those it was.
type Key = (u64, Uuid, u32);
/// Its name and payload, while they are kept.
type Whole = Option<(String, Bytes)>;

/// What was fired, and when.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Lamport's clock.
    clock: u64,
    /// The newest are kept whole.
    seen: BTreeMap<Key, Whole>,
    /// What was fired before this agent came is nothing to it: its first table tells what that was.
    begun: bool,
}

impl Events {
    /// False: it was seen, or is too old to tell.
    fn take(&mut self, time: u64, by: Uuid, number: u32, name: &str, payload: &Bytes) -> bool {
        let full = self.seen.len() >= REMEMBERED_MAX;
        let too_old = full && self.seen.first_key_value().is_some_and(|(first, _)| (time, by, number) < *first);
        if time > TIME_MAX || too_old || self.seen.contains_key(&(time, by, number)) {
            return false;
        }
        self.seen.insert((time, by, number), Some((name.to_owned(), payload.clone())));
        if let Some((_, whole)) = self.seen.iter_mut().rev().nth(EXCHANGED_MAX) {
            *whole = None;
        }
        if full {
            self.seen.pop_first();
        }
        self.clock = self.clock.max(time.saturating_add(1));
        true
    }

    /// From now on events are for this agent.
    pub(super) fn begin(&mut self) {
        self.begun = true;
    }

    fn newest(&self) -> impl Iterator<Item = (&Key, &Whole)> {
        self.seen.iter().rev().take(EXCHANGED_MAX)
    }

    /// Which the newest are, in eight bytes.
    pub(super) fn digest(&self) -> u64 {
        let one = |(time, by, number): &Key| {
            let mut bytes = Vec::with_capacity(28);
            bytes.put_uuid(*by);
            bytes.extend_from_slice(&time.to_be_bytes());
            bytes.extend_from_slice(&number.to_be_bytes());
            hash(&bytes)
        };
        self.newest().fold(0, |digest, (key, _)| digest ^ one(key))
    }

    /// The newest, for another's table.
    pub(super) fn exchanged(&self) -> Vec<Item> {
        let whole = |(key, whole): (&Key, &Whole)| {
            let ((time, by, number), (name, payload)) = (*key, whole.clone()?);
            Some(Item::Fired { node: by, epoch: time, number, name, payload })
        };
        self.newest().filter_map(whole).collect()
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
        known && self.hear_fired(by, time, number, name, payload)
    }

    fn hear_fired(&mut self, by: Uuid, time: u64, number: u32, name: &str, payload: &Bytes) -> bool {
        if name.len() + payload.len() > FIRED_BYTES_MAX || !self.events.take(time, by, number, name, payload) {
            return false;
        }
        let fired = Fired { time, by, name: name.to_owned(), payload: payload.clone() };
        self.effects.events.push(Event::Fired(Arc::new(fired)));
        self.foca.custom_broadcast_backlog() < BACKLOG_MAX
    }
}

impl Core {
    /// What another member's table has of events: those that gossip lost are told now, whoever fired them.
    pub(super) fn import_fired(&mut self, items: Vec<Item>) {
        let begun = std::mem::replace(&mut self.events.begun, true);
        for item in items {
            let Item::Fired { node, epoch, number, name, payload } = &item else { continue };
            if !begun {
                self.events.take(*epoch, *node, *number, name, payload);
            } else if self.hear_fired(*node, *epoch, *number, name, payload) {
                self.tell(&item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_remembered_within_bounds_and_none_is_taken_twice() {
        let (mut events, payload) = (Events::default(), Bytes::from_static(b"x"));
        for time in 0..2000 {
            assert!(events.take(time, Uuid::nil(), 0, "deploy", &payload), "{time}");
            assert!(!events.take(time, Uuid::nil(), 0, "deploy", &payload), "{time} again");
        }
        assert_eq!((events.seen.len(), events.clock), (REMEMBERED_MAX, 2000));
        assert!(!events.take(3, Uuid::from_u128(1), 0, "", &payload), "too old to tell");
        assert!(!events.take(u64::MAX, Uuid::nil(), 0, "", &payload), "made up");
        assert_eq!(events.clock, 2000);
        let whole = events.seen.values().flatten().count();
        assert_eq!(
            (events.exchanged().len(), whole),
            (EXCHANGED_MAX, EXCHANGED_MAX),
            "the payloads of the newest alone are kept"
        );
    }
}
