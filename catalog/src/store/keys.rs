//! Changes of keys.

use std::sync::Arc;

use super::Change;
use crate::command::{Kv, KvVerb, Outcome};
use crate::grave::Gone;
use crate::row::Entry;
use crate::topic::Topic;

impl Change<'_> {
    pub(super) fn key(&mut self, Kv { key, verb }: Kv) -> Outcome {
        match verb {
            KvVerb::Set { value, flags, cas } => {
                let old = self.state.keys.get(&*key).cloned();
                if cas.is_some_and(|expected| expected != old.as_ref().map_or(0, |entry| entry.modify_index)) {
                    return Outcome::Kv(false);
                }
                self.set(&key, value, flags, old);
                Outcome::Kv(true)
            }
            KvVerb::Delete { cas } => {
                let Some(old) = self.state.keys.get(&*key) else { return Outcome::Kv(true) };
                if cas.is_some_and(|expected| expected != old.modify_index) {
                    return Outcome::Kv(false);
                }
                self.remove(old.key.clone());
                Outcome::Kv(true)
            }
            KvVerb::DeleteTree => {
                let keys: Vec<_> = self.state.keys_under(&key).map(|entry| entry.key.clone()).collect();
                for key in keys {
                    self.remove(key);
                }
                Outcome::Kv(true)
            }
        }
    }

    /// A write equal to what is there changes nothing and wakes nobody; a real one keeps the holder and drops the
    /// lock index, as Consul's does.
    fn set(&mut self, key: &str, value: bytes::Bytes, flags: u64, old: Option<Arc<Entry>>) {
        let (create_index, session) = match &old {
            Some(old) if old.value == value && old.flags == flags && old.lock_index == 0 => return,
            Some(old) => (old.create_index, old.session),
            None => (self.index, None),
        };
        let key = old.map_or_else(|| Arc::from(key), |old| old.key.clone());
        let entry = Entry {
            key: key.clone(),
            value,
            flags,
            lock_index: 0,
            session,
            cause: self.cause.clone(),
            create_index,
            modify_index: self.index,
        };
        self.state.keys.insert(key.clone(), Arc::new(entry));
        self.state.graves.fill(&Gone::Key(key.clone()));
        self.state.indexes.keys = self.index;
        self.touch(Topic::Key(key));
    }

    fn remove(&mut self, key: Arc<str>) {
        self.state.keys.remove(&key);
        self.state.graves.dig(Gone::Key(key.clone()), self.index);
        self.state.indexes.keys = self.index;
        self.touch(Topic::Key(key));
    }
}
