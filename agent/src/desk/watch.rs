//! Bells: who waits for a topic is woken by a change that can alter its answer, and by no other.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard};

use metrics::{Counter, Gauge};
use muster_catalog::Topic;
use tokio::sync::Notify;

/// Parts into which the register is split, so that thousands of arriving readers do not queue at one lock.
const SHARDS: usize = 64;

/// Gauge, Consul's: reads that wait for a change.
const WAITING: &str = "rpc.queries_blocking";
/// Counter: how often a waiting read was woken by a change.
const WOKEN: &str = "readers.woken";

/// All bells that somebody holds. A topic without a waiter has none.
#[derive(Debug)]
pub(crate) struct Bells {
    shards: [Mutex<HashMap<u64, Held>>; SHARDS],
    /// How many hold a bell for a KV prefix of each length: a changed key asks only for these.
    prefixes: Mutex<BTreeMap<usize, usize>>,
    hasher: foldhash::fast::RandomState,
    waiting: Gauge,
    woken: Counter,
}

#[derive(Debug)]
struct Held {
    bell: Arc<Notify>,
    holders: usize,
}

/// A held bell: take it, look, then wait for it.
#[derive(Debug)]
pub(crate) struct Bell {
    bells: Arc<Bells>,
    key: u64,
    prefix: Option<usize>,
    bell: Arc<Notify>,
}

impl Bells {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::new(HashMap::new())),
            prefixes: Mutex::new(BTreeMap::new()),
            hasher: foldhash::fast::RandomState::default(),
            waiting: metrics::gauge!(WAITING),
            woken: metrics::counter!(WOKEN),
        })
    }

    /// Takes the bell of a topic; it is given back when dropped.
    pub(crate) fn take(self: &Arc<Self>, topic: &Topic) -> Bell {
        let key = self.hasher.hash_one(topic);
        let prefix = match topic {
            Topic::Prefix(prefix) => Some(prefix.len()),
            _ => None,
        };
        if let Some(length) = prefix {
            *lock(&self.prefixes).entry(length).or_default() += 1;
        }
        let mut shard = self.shard(key);
        let held = shard.entry(key).or_insert_with(|| Held { bell: Arc::new(Notify::new()), holders: 0 });
        held.holders += 1;
        Bell { bell: held.bell.clone(), bells: self.clone(), key, prefix }
    }

    /// Rings for everything that was touched, after the state with it was published.
    pub(crate) fn ring<'a>(&self, touched: impl IntoIterator<Item = &'a Topic>) {
        for topic in touched {
            self.ring_one(topic);
            if let Topic::Key(key) = topic {
                let lengths: Vec<usize> = lock(&self.prefixes).range(..=key.len()).map(|(length, _)| *length).collect();
                for length in lengths {
                    if let Some(prefix) = key.get(..length) {
                        self.ring_one(&Topic::Prefix(Arc::from(prefix)));
                    }
                }
            }
        }
    }

    fn ring_one(&self, topic: &Topic) {
        let key = self.hasher.hash_one(topic);
        if let Some(held) = self.shard(key).get(&key) {
            held.bell.notify_waiters();
        }
    }

    /// Rings everything: the state was replaced.
    pub(crate) fn ring_all(&self) {
        for shard in &self.shards {
            for held in lock(shard).values() {
                held.bell.notify_waiters();
            }
        }
    }

    /// One more reader waits, until what this gives is dropped.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.increment(1.0);
        Waiting(self)
    }

    #[cfg(test)]
    fn held(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).values().map(|held| held.holders).sum::<usize>()).sum()
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, Held>> {
        lock(&self.shards[key as usize % SHARDS])
    }
}

/// A reader that waits.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Bells);

impl Waiting<'_> {
    /// A bell woke it.
    pub(crate) fn woken(&self) {
        self.0.woken.increment(1);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.decrement(1.0);
    }
}

impl Bell {
    /// The next ring. Enable it before looking: a ring between look and wait must not be lost.
    pub(crate) fn rung(&self) -> tokio::sync::futures::Notified<'_> {
        self.bell.notified()
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let mut shard = self.bells.shard(self.key);
        if let Some(held) = shard.get_mut(&self.key) {
            held.holders -= 1;
            if held.holders == 0 {
                shard.remove(&self.key);
            }
        }
        drop(shard);
        if let Some(length) = self.prefix {
            let mut prefixes = lock(&self.bells.prefixes);
            if let Some(count) = prefixes.get_mut(&length) {
                *count -= 1;
                if *count == 0 {
                    prefixes.remove(&length);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings(bells: &Arc<Bells>, waits_for: &Topic, touched: &Topic) -> bool {
        let bell = bells.take(waits_for);
        let mut rung = std::pin::pin!(bell.rung());
        rung.as_mut().enable();
        bells.ring([touched]);
        futures_util::FutureExt::now_or_never(rung).is_some()
    }

    #[test]
    fn a_change_rings_for_its_key_and_the_prefixes_above_it_alone() {
        let bells = Bells::new();
        let key = |text: &str| Topic::Key(text.into());
        let prefix = |text: &str| Topic::Prefix(text.into());
        assert!(rings(&bells, &key("a/b"), &key("a/b")));
        assert!(!rings(&bells, &key("a/b"), &key("a/c")));
        assert!(rings(&bells, &prefix("a/"), &key("a/b")));
        assert!(rings(&bells, &prefix(""), &key("a/b")));
        assert!(!rings(&bells, &prefix("b"), &key("a/b")));
        assert!(!rings(&bells, &prefix("ü"), &key("aü")));
        assert_eq!(bells.held(), 0);
        assert!(lock(&bells.prefixes).is_empty());
    }
}
