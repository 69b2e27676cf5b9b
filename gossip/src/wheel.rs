//! What is due when.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Longest time anything is set ahead: a clock cannot add centuries.
const AHEAD_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Things with the instants they are due at, in that order; of one instant, in the order they were set.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    due: BinaryHeap<Reverse<Set<T>>>,
    count: u64,
}

/// What was set, with its number: by that and its instant it is ordered.
#[derive(Debug)]
struct Set<T> {
    at: Instant,
    number: u64,
    what: T,
}

impl<T> PartialEq for Set<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Set<T> {}

impl<T> PartialOrd for Set<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Set<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self { due: BinaryHeap::new(), count: 0 }
    }
}

impl<T> Wheel<T> {
    pub(crate) fn set(&mut self, what: T, now: Instant, after: Duration) {
        self.count += 1;
        self.due.push(Reverse(Set { at: now + after.min(AHEAD_MAX), number: self.count, what }));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse(first)| first.at)
    }

    /// Takes what has been due longest, if anything is.
    pub(crate) fn take(&mut self, now: Instant) -> Option<T> {
        self.next().filter(|at| *at <= now)?;
        self.due.pop().map(|Reverse(first)| first.what)
    }

    pub(crate) fn clear(&mut self) {
        self.due.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_is_taken_first() {
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from
        let now = Instant::now();
        let mut wheel = Wheel::default();
        let second = Duration::from_secs(1);
        wheel.set("c", now, 2 * second);
        wheel.set("a", now, second);
        wheel.set("b", now, second);
        wheel.set("never", now, Duration::MAX);
        assert_eq!(wheel.next(), Some(now + second));
        assert_eq!(wheel.take(now), None);
        let taken: Vec<_> = std::iter::from_fn(|| wheel.take(now + 2 * second)).collect();
        assert_eq!(taken, ["a", "b", "c"]);
        assert_eq!(wheel.len(), 1);
    }
}
