//! When a snapshot is due: a log may grow to as many bytes as the last one, so that no more is written for snapshots than for the log
//! (Ongaro, "Consensus: Bridging Theory and Practice", 5.1.3). After a number of entries alone, a catalog that is large and changes fast
//! would be written whole every second.

use std::sync::Arc;

use tokio::sync::Notify;

/// What was applied since the last snapshot was begun.
pub(super) struct Growth {
    /// Entries before another is due.
    threshold: u64,
    entries: u64,
    bytes: u64,
    /// Rung when it is.
    pub(super) due: Arc<Notify>,
}

impl Growth {
    pub(super) fn new(threshold: u64) -> Self {
        Self { threshold, entries: 0, bytes: 0, due: Arc::default() }
    }

    /// One entry of this length was applied.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.entries += 1;
        self.bytes += bytes as u64;
    }

    /// Rings if a snapshot is due; `last` is how long the last one is, in bytes.
    pub(super) fn weigh(&self, last: impl FnOnce() -> u64) {
        if self.entries >= self.threshold && self.bytes >= last() {
            self.due.notify_one();
        }
    }

    /// A snapshot holds all of it.
    pub(super) fn begin(&mut self) {
        (self.entries, self.bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_snapshot_is_due_when_entries_are_enough_and_as_long_as_the_last_one() {
        let mut growth = Growth::new(3);
        let due = growth.due.clone();
        let rings = |growth: &Growth, last: u64| {
            growth.weigh(|| last);
            due.notified().now_or_never().is_some()
        };
        for _ in 0..2 {
            growth.grow(10);
            assert!(!rings(&growth, 0));
        }
        growth.grow(10);
        assert!(rings(&growth, 0) && rings(&growth, 30) && !rings(&growth, 31));
        growth.begin();
        growth.grow(1000);
        assert!(!rings(&growth, 0));
    }
}
