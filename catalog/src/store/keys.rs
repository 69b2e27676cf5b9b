//! Changes of keys.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::Change;
use crate::command::{Outcome, Refusal};
use crate::grave::Gone;
use crate::kv::{Kv, KvVerb};
use crate::row::{Entry, Index};
use crate::topic::Topic;

/// What came of an attempt to lock a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locked {
    /// It is locked.
    Done,
    /// Another session holds it.
    Held,
    /// Its last holder ended a moment ago.
    HeldBack,
}

impl Change<'_> {
    pub(super) fn key(&mut self, Kv { key, verb }: Kv) -> Outcome {
        let done = match verb {
            KvVerb::Set { value, flags, cas } => self.set_key(&key, value, flags, cas),
            KvVerb::Delete { cas } => match self.state.keys.get(&*key) {
                Some(old) if cas.is_some_and(|expected| expected != old.modify_index) => false,
                _ => {
                    self.remove_key(&key);
                    true
                }
            },
            KvVerb::DeleteTree => {
                self.remove_keys(&key);
                true
            }
            KvVerb::Acquire { value, flags, session } => match self.lock_key(&key, value, flags, session) {
                Ok(locked) => locked == Locked::Done,
                Err(refusal) => return Outcome::Refused(refusal),
            },
            KvVerb::Release { value, flags, session } => self.unlock_key(&key, value, flags, session),
        };
        Outcome::Kv(done)
    }

    /// Writes a key; with `cas`, only if its modify index is that (0: only if it is absent). A real write keeps the holder and drops
    /// the lock index, as Consul's does.
    pub(super) fn set_key(&mut self, key: &str, value: Bytes, flags: u64, cas: Option<Index>) -> bool {
        let old = self.state.keys.get(key).cloned();
        if cas.is_some_and(|expected| expected != old.as_ref().map_or(0, |entry| entry.modify_index)) {
            return false;
        }
        let session = old.as_ref().and_then(|old| old.session);
        self.write_key(key, old, Written { value, flags, lock_index: 0, session });
        true
    }

    /// Writes a key and locks it. A session that holds it already only writes.
    pub(super) fn lock_key(&mut self, key: &str, value: Bytes, flags: u64, session: Uuid) -> Result<Locked, Refusal> {
        if self.state.sessions.is_held_back(key, self.state.time_ms) {
            return Ok(Locked::HeldBack);
        }
        if self.state.sessions.get(session).is_none() {
            return Err(Refusal::UnknownSession(session));
        }
        let old = self.state.keys.get(key).cloned();
        let lock_index = match &old {
            Some(old) if old.session == Some(session) => old.lock_index,
            Some(old) if old.session.is_some() => return Ok(Locked::Held),
            Some(old) => old.lock_index.saturating_add(1),
            None => 1,
        };
        self.write_key(key, old, Written { value, flags, lock_index, session: Some(session) });
        Ok(Locked::Done)
    }

    /// Writes a key and unlocks it, if the session holds it.
    pub(super) fn unlock_key(&mut self, key: &str, value: Bytes, flags: u64, session: Uuid) -> bool {
        let Some(old) = self.state.keys.get(key).filter(|old| old.session == Some(session)).cloned() else { return false };
        let lock_index = old.lock_index;
        self.write_key(key, Some(old), Written { value, flags, lock_index, session: None });
        true
    }

    /// A write equal to what is there changes nothing and wakes nobody.
    fn write_key(&mut self, key: &str, old: Option<Arc<Entry>>, written: Written) {
        let Written { value, flags, lock_index, session } = written;
        if let Some(old) = &old
            && (&old.value, old.flags, old.lock_index, old.session) == (&value, flags, lock_index, session)
        {
            return;
        }
        let entry = Entry {
            key: old.as_ref().map_or_else(|| Arc::from(key), |old| old.key.clone()),
            value,
            flags,
            lock_index,
            session,
            cause: self.cause.clone(),
            create_index: old.as_ref().map_or(self.index, |old| old.create_index),
            modify_index: self.index,
        };
        self.put_entry(entry, old.and_then(|old| old.session));
    }

    /// Puts an entry in the place of one with that holder.
    pub(super) fn put_entry(&mut self, entry: Entry, holder: Option<Uuid>) {
        let key = entry.key.clone();
        self.state.sessions.passes(&key, holder, entry.session);
        self.state.keys.insert(key.clone(), Arc::new(entry));
        self.state.graves.fill(&Gone::Key(key.clone()));
        self.state.indexes.keys = self.index;
        self.touch(Topic::Key(key));
    }

    pub(super) fn remove_keys(&mut self, prefix: &str) {
        let keys: Vec<_> = self.state.keys_under(prefix).map(|entry| entry.key.clone()).collect();
        for key in keys {
            self.remove_key(&key);
        }
    }

    pub(super) fn remove_key(&mut self, key: &str) {
        let Some(old) = self.state.keys.remove(key) else { return };
        self.state.sessions.passes(&old.key, old.session, None);
        self.state.graves.dig(Gone::Key(old.key.clone()), self.index);
        self.state.indexes.keys = self.index;
        self.touch(Topic::Key(old.key.clone()));
    }
}

/// What a write makes of a key.
struct Written {
    value: Bytes,
    flags: u64,
    lock_index: u64,
    session: Option<Uuid>,
}
