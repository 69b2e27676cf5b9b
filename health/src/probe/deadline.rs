//! The time that a look may take: time in which this agent ran, so that what it comes to see late was not late.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// A stop of this agent, without CPU or in a host that sleeps, counts for no more than one of so many parts. With a tenth of a second
/// of each second and more, an answer that was there in time is read in time.
const PARTS: u32 = 10;
/// Nor are parts shorter than this: timers have whole milliseconds.
const PART_MIN: Duration = Duration::from_millis(20);

/// How much of its time a look has spent.
#[derive(Debug)]
pub(super) struct Deadline {
    limit: Duration,
    part: Duration,
    spent_micros: AtomicU64,
}

/// The time is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Late;

impl Deadline {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, part: (limit / PARTS).max(PART_MIN), spent_micros: AtomicU64::new(0) }
    }

    /// What is left of it.
    pub(super) fn left(&self) -> Duration {
        self.limit.saturating_sub(Duration::from_micros(self.spent_micros.load(Relaxed)))
    }

    /// What comes of it in the time that is left.
    pub(super) async fn bound<T>(&self, future: impl Future<Output = T>) -> Result<T, Late> {
        self.bound_by(self.left(), future).await
    }

    /// What comes of it in this share of that time.
    pub(super) async fn bound_by<T>(&self, mut share: Duration, future: impl Future<Output = T>) -> Result<T, Late> {
        let mut future = pin!(future);
        loop {
            let (part, begun) = (share.min(self.part), Instant::now());
            let got = timeout(part, future.as_mut()).await;
            let took = begun.elapsed().min(part);
            self.spent_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
            share -= part;
            match got {
                Ok(got) => return Ok(got),
                Err(_) if share.is_zero() => return Err(Late),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(400);

    /// Something that takes three turns, each soon done.
    async fn three_turns() {
        for _ in 0..3 {
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn what_an_agent_without_cpu_sees_late_was_not_late() {
        // The one thread of this runtime is held up, as that of an agent which is stopped again and again.
        let stops = tokio::spawn(async {
            loop {
                std::thread::sleep(LIMIT / 2);
                tokio::task::yield_now().await;
            }
        });
        let (deadline, begun) = (Deadline::new(LIMIT), Instant::now());
        assert_eq!(deadline.bound(three_turns()).await, Ok(()));
        assert!(begun.elapsed() > LIMIT && deadline.left() > LIMIT / 2, "{:?}, {:?} are left", begun.elapsed(), deadline.left());
        assert_eq!(deadline.bound(std::future::pending::<()>()).await, Err(Late), "it ends at last");
        stops.abort();
    }

    #[tokio::test]
    async fn all_that_is_done_shares_one_limit() {
        let (deadline, begun) = (Deadline::new(LIMIT), Instant::now());
        assert_eq!(deadline.bound(sleep(LIMIT / 2)).await, Ok(()));
        assert_eq!(deadline.bound_by(deadline.left() / 2, std::future::pending::<()>()).await, Err(Late));
        assert!(!deadline.left().is_zero() && deadline.left() < LIMIT / 3, "{:?} are left", deadline.left());
        assert_eq!(deadline.bound(sleep(LIMIT)).await, Err(Late));
        assert!(begun.elapsed() >= LIMIT && deadline.left().is_zero(), "{:?}", begun.elapsed());
    }
}
