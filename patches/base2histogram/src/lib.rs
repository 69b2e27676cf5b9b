//! A stand-in for `base2histogram` 0.2.3: the few calls that openraft makes, without its 27 MB of tables.
//!
//! Why it exists and when it goes: `README.md` beside this crate.

use std::fmt;
use std::marker::PhantomData;

/// Bits kept below the leading one: four buckets to each power of two.
const FRACTION_BITS: u32 = 2;
/// Buckets to a power of two.
const STEPS: usize = 1 << FRACTION_BITS;
/// 0..4 exactly, then four for each of the 62 powers of two from 2^2 up.
const BUCKETS: usize = STEPS + STEPS * (u64::BITS - FRACTION_BITS) as usize;

/// How often which value was seen, to two bits behind its leading one.
///
/// `T` is the upstream crate's mark of a time slot; there is one slot here, so it marks nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// Empty until the first sample.
    counts: Vec<u64>,
    total: u64,
    slot: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// An empty histogram, which holds no memory yet.
    pub fn new() -> Self {
        Self { counts: Vec::new(), total: 0, slot: PhantomData }
    }

    /// Counts `value` once.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        let bucket = &mut self.counts[bucket_of(value)];
        *bucket = bucket.saturating_add(count);
        self.total = self.total.saturating_add(count);
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The middle of the bucket below which the fraction `p` (0 to 1) of all values lies; 0 without values.
    pub fn percentile(&self, p: f64) -> u64 {
        let wanted = ((self.total as f64 * p).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen = u64::saturating_add(seen, *count);
            if seen >= wanted {
                return middle_of(bucket);
            }
        }
        0
    }

    /// The percentiles openraft prints.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A histogram in nine numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were counted.
    pub samples: u64,
    /// One value in a thousand is below.
    pub p0_1: u64,
    /// One value in a hundred is below.
    pub p1: u64,
    /// One value in twenty is below.
    pub p5: u64,
    /// One value in ten is below.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// One value in ten is above.
    pub p90: u64,
    /// One value in a hundred is above.
    pub p99: u64,
    /// One value in a thousand is above.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n={} p50={} p90={} p99={} p99.9={}", self.samples, self.p50, self.p90, self.p99, self.p99_9)
    }
}

/// Named histograms under each other. Upstream draws bars; here each is one line of numbers.
#[derive(Debug, Clone)]
pub struct AsciiChart<T = ()> {
    series: Vec<(String, Histogram<T>)>,
}

impl<T> AsciiChart<T> {
    /// A chart without a line.
    pub fn new() -> Self {
        Self { series: Vec::new() }
    }

    /// The chart with one line more.
    #[allow(clippy::should_implement_trait)] // the name openraft calls
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.series.push((name.to_owned(), histogram));
        self
    }

    /// What openraft prints.
    pub fn detailed(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| {
            for (name, histogram) in &self.series {
                writeln!(f, "{name}: {}", histogram.percentile_stats())?;
            }
            Ok(())
        })
    }
}

impl<T> Default for AsciiChart<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Small values are their own bucket; above, the power of two and the two bits behind the leading one.
fn bucket_of(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let power = value.ilog2() - FRACTION_BITS;
    let step = (value >> power) as usize - STEPS;
    STEPS + power as usize * STEPS + step
}

fn middle_of(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let power = (bucket - STEPS) / STEPS;
    let step = (bucket - STEPS) % STEPS;
    let low = ((STEPS + step) as u64) << power;
    low + ((1u64 << power) - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_bucket_whose_middle_is_near() {
        for value in (0..64).map(|bit| 1u64 << bit).chain([0, 3, 5, 7, 100, 1000, u64::MAX - 1, u64::MAX]) {
            let bucket = bucket_of(value);
            assert!(bucket < BUCKETS, "{value} is in bucket {bucket}");
            assert!(middle_of(bucket).abs_diff(value) <= value / 8, "{value} is told as {}", middle_of(bucket));
        }
    }

    #[test]
    fn percentiles_come_in_order() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        (1..=1000).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!(stats.samples, 1000);
        assert!((440..=560).contains(&stats.p50), "{stats}");
        assert!(stats.p10 < stats.p50 && stats.p50 < stats.p90 && stats.p90 <= stats.p99);
    }
}
