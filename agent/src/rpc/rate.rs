//! How many requests to servers a client agent makes (`limits.rpc_rate`, `limits.rpc_max_burst`): a bucket of tokens.
#![allow(clippy::disallowed_methods)] // tokens come with time

use std::sync::Mutex;
use std::time::Instant;

use super::metrics;

/// A bucket: it fills with so many tokens a second, up to the burst.
#[derive(Debug)]
pub(crate) struct Rate(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    /// `None` is no limit.
    per_second: Option<f64>,
    burst: f64,
    left: f64,
    at: Instant,
}

const NO_PANIC: &str = "no holder panics: numbers are stored";

impl Rate {
    /// A full one; without a number a second it has no bottom.
    pub(crate) fn new(per_second: Option<f64>, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self(Mutex::new(Bucket { per_second, burst, left: burst, at: Instant::now() }))
    }

    /// Another rate from now on; what is left in the bucket stays.
    pub(crate) fn set(&self, per_second: Option<f64>, burst: u32) {
        let mut bucket = self.0.lock().expect(NO_PANIC);
        bucket.burst = f64::from(burst);
        if bucket.per_second.is_none() {
            (bucket.left, bucket.at) = (bucket.burst, Instant::now());
        }
        bucket.per_second = per_second;
    }

    /// Takes a token, if there is one.
    pub(crate) fn admits(&self) -> bool {
        self.admits_at(Instant::now())
    }

    fn admits_at(&self, now: Instant) -> bool {
        let admitted = self.take_at(now);
        if !admitted {
            metrics::METERS.call_exceeded.increment(1);
        }
        admitted
    }

    /// The same, counted by whoever asks.
    pub(crate) fn take(&self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> bool {
        let mut bucket = self.0.lock().expect(NO_PANIC);
        let Some(per_second) = bucket.per_second else { return true };
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        let tokens = (bucket.left + since * per_second).min(bucket.burst);
        let admitted = tokens >= 1.0;
        (bucket.left, bucket.at) = (if admitted { tokens - 1.0 } else { tokens }, now.max(bucket.at));
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let rate = Rate::new(Some(10.0), 3);
        let begun = Instant::now();
        let after = |ms| begun + Duration::from_millis(ms);
        let passed = |ms| (0..10).filter(|_| rate.admits_at(after(ms))).count();
        assert_eq!(passed(1), 3);
        assert_eq!(passed(50), 0);
        assert_eq!(passed(260), 2);
        assert_eq!(passed(60_000), 3, "the bucket overflows");
        rate.set(None, 3);
        assert_eq!(passed(60_000), 10);
        rate.set(Some(1.0), 2);
        assert_eq!(passed(60_000), 2);
    }
}
