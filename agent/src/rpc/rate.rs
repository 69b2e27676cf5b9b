//! How many requests to servers a client agent makes (`limits.rpc_rate`, `limits.rpc_max_burst`): a bucket of tokens.
#![allow(clippy::disallowed_methods)] // tokens come with time

use std::sync::Mutex;
use std::time::Instant;

use super::metrics;

/// A bucket: it fills with so many tokens a second, up to the burst.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    burst: f64,
    left: Mutex<(f64, Instant)>,
}

impl Rate {
    /// A full one.
    pub(crate) fn new(per_second: f64, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { per_second, burst, left: Mutex::new((burst, Instant::now())) }
    }

    /// Takes a token, if there is one.
    pub(crate) fn admits(&self) -> bool {
        self.admits_at(Instant::now())
    }

    fn admits_at(&self, now: Instant) -> bool {
        let mut left = self.left.lock().expect("no holder panics: two numbers are stored");
        let since = now.saturating_duration_since(left.1).as_secs_f64();
        let tokens = (left.0 + since * self.per_second).min(self.burst);
        let admitted = tokens >= 1.0;
        *left = (if admitted { tokens - 1.0 } else { tokens }, now.max(left.1));
        if !admitted {
            metrics::METERS.call_exceeded.increment(1);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let rate = Rate::new(10.0, 3);
        let begun = Instant::now();
        let after = |ms| begun + Duration::from_millis(ms);
        let passed = |ms| (0..10).filter(|_| rate.admits_at(after(ms))).count();
        assert_eq!(passed(1), 3);
        assert_eq!(passed(50), 0);
        assert_eq!(passed(260), 2);
        assert_eq!(passed(60_000), 3, "the bucket overflows");
    }
}
