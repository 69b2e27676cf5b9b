//! Bells: who waits for a topic is woken by a change that can alter its answer, and by no other.
#![allow(clippy::disallowed_methods)] // who wakes thousands in turn is a task of its own: raft does not wait for it

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard};

use metrics::{Counter, Gauge};
use muster_catalog::Topic;
use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::yield_now;

/// Parts into which the register is split, so that thousands of arriving readers do not queue at one lock.
const SHARDS: usize = 64;

/// How many are woken at once. Before the next are, whatever else became ready has its turn: a write beside 5,000 readers of one
/// service, which changes once a second, waited 92 ms (p99) for the last of them.
const GROUP_MAX: usize = 32;

/// Gauge, Consul's: reads that wait for a change.
const WAITING: &str = "rpc.queries_blocking";
/// Counter: how often a waiting read was woken by a change.
const WOKEN: &str = "readers.woken";

/// All bells that somebody holds. A topic without a waiter has none.
#[derive(Debug)]
pub(crate) struct Bells {
    shards: [Mutex<HashMap<u64, Groups>>; SHARDS],
    /// How many hold a bell for a KV prefix of each length: a changed key asks only for these.
    prefixes: Mutex<BTreeMap<usize, usize>>,
    hasher: foldhash::fast::RandomState,
    /// Where those who wait run; `None` without a runtime, where all are woken at once.
    runtime: Option<Handle>,
    waiting: Gauge,
    woken: Counter,
}

/// Who waits for one topic; never empty.
type Groups = SmallVec<[Group; 1]>;

/// Those who are woken together.
#[derive(Debug)]
struct Group {
    bell: Arc<Notify>,
    holders: usize,
    /// It is being rung, or was: who comes now joins another, lest it be woken by a change that it has seen.
    closed: bool,
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
            runtime: Handle::try_current().ok(),
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
        let groups = shard.entry(key).or_default();
        let bell = match groups.last_mut() {
            Some(last) if !last.closed && last.holders < GROUP_MAX => {
                last.holders += 1;
                last.bell.clone()
            }
            _ => {
                let bell = Arc::new(Notify::new());
                groups.push(Group { bell: bell.clone(), holders: 1, closed: false });
                bell
            }
        };
        drop(shard);
        Bell { bell, bells: self.clone(), key, prefix }
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
        let mut shard = self.shard(key);
        match shard.get_mut(&key).map(SmallVec::as_mut_slice) {
            None => {}
            Some([only]) => only.bell.notify_waiters(),
            Some(groups) => {
                let bells = groups.iter_mut().map(Group::close).collect();
                drop(shard);
                self.in_turn(bells);
            }
        }
    }

    /// Rings everything: the state was replaced.
    pub(crate) fn ring_all(&self) {
        for shard in &self.shards {
            let bells = lock(shard).values_mut().flatten().map(Group::close).collect();
            self.in_turn(bells);
        }
    }

    /// Rings one after the other. Between two, the runtime looks for what else is ready, for a task that yields comes after that; and
    /// other threads that wait for this CPU have it: raft's, where there is one CPU.
    fn in_turn(&self, bells: Vec<Arc<Notify>>) {
        match &self.runtime {
            Some(runtime) if bells.len() > 1 => {
                runtime.spawn(async move {
                    for bell in bells {
                        bell.notify_waiters();
                        yield_now().await;
                        std::thread::yield_now();
                    }
                });
            }
            _ => bells.iter().for_each(|bell| bell.notify_waiters()),
        }
    }

    /// One more reader waits, until what this gives is dropped.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.increment(1.0);
        Waiting(self)
    }

    #[cfg(test)]
    fn held(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).values().flatten().map(|group| group.holders).sum::<usize>()).sum()
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, Groups>> {
        lock(&self.shards[key as usize % SHARDS])
    }
}

impl Group {
    fn close(&mut self) -> Arc<Notify> {
        self.closed = true;
        self.bell.clone()
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
        if let Some(groups) = shard.get_mut(&self.key)
            && let Some(at) = groups.iter().position(|group| Arc::ptr_eq(&group.bell, &self.bell))
        {
            groups[at].holders -= 1;
            if groups[at].holders == 0 {
                groups.remove(at);
            }
            if groups.is_empty() {
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

    #[tokio::test]
    async fn thousands_are_woken_in_turn_each_once_and_who_comes_meanwhile_is_not() {
        const READERS: usize = 1000;
        let (bells, topic) = (Bells::new(), Topic::Nodes);
        let held: Vec<_> = (0..READERS).map(|_| bells.take(&topic)).collect();
        let mut rungs: Vec<_> = held.iter().map(|bell| Box::pin(bell.rung())).collect();
        for rung in &mut rungs {
            rung.as_mut().enable();
        }
        bells.ring([&topic]);
        let late = bells.take(&topic);
        let mut meanwhile = std::pin::pin!(late.rung());
        meanwhile.as_mut().enable();
        let mut all = 0;
        while all < READERS {
            yield_now().await;
            let before = rungs.len();
            rungs.retain_mut(|rung| futures_util::FutureExt::now_or_never(rung.as_mut()).is_none());
            let some = before - rungs.len();
            assert!(some <= 2 * GROUP_MAX, "{some} at once");
            all += some;
        }
        assert_eq!(all, READERS);
        yield_now().await;
        assert!(futures_util::FutureExt::now_or_never(meanwhile.as_mut()).is_none());
        drop(rungs);
        drop(held);
        assert_eq!(bells.held(), 1);
    }
}
