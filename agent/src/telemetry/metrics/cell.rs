//! What one series recorded since the interval began, in atomics: recording takes no lock.
//!
//! A reader that takes the parts one after the other may see a value in one part and not yet in another; it is in the
//! next interval then.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn};

/// What an interval knows of a counter or a sample.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Aggregate {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) sum_of_squares: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// A counter: calls and what they added.
#[derive(Debug)]
pub(super) struct CounterCell {
    /// Calls that added one: nearly all, and one addition each.
    ones: AtomicU64,
    others: SampleCell,
    /// The highest value that [`CounterFn::absolute`] gave.
    absolute: AtomicU64,
    prometheus: Option<Counter>,
}

impl CounterCell {
    pub(super) fn new(prometheus: Option<Counter>) -> Self {
        Self { ones: AtomicU64::new(0), others: SampleCell::new(None), absolute: AtomicU64::new(0), prometheus }
    }

    /// What was counted; with `end` the interval ends.
    pub(super) fn aggregate(&self, end: bool) -> Aggregate {
        let ones = if end { self.ones.swap(0, Relaxed) } else { self.ones.load(Relaxed) };
        let mut all = self.others.aggregate(end);
        if ones > 0 {
            (all.min, all.max) = if all.count == 0 { (1.0, 1.0) } else { (all.min.min(1.0), all.max.max(1.0)) };
            all.count += ones;
            all.sum += ones as f64;
            all.sum_of_squares += ones as f64;
        }
        all
    }

    fn add(&self, value: u64) {
        match value {
            1 => drop(self.ones.fetch_add(1, Relaxed)),
            value => self.others.record(value as f64),
        }
    }
}

impl CounterFn for CounterCell {
    fn increment(&self, value: u64) {
        self.add(value);
        if let Some(prometheus) = &self.prometheus {
            prometheus.increment(value);
        }
    }

    fn absolute(&self, value: u64) {
        let before = self.absolute.fetch_max(value, Relaxed);
        if value > before {
            self.add(value - before);
        }
        if let Some(prometheus) = &self.prometheus {
            prometheus.absolute(value);
        }
    }
}

/// A gauge: the last value, kept over intervals.
#[derive(Debug)]
pub(super) struct GaugeCell {
    bits: AtomicU64,
    prometheus: Option<Gauge>,
}

/// Bits of a gauge that was never set: a NaN that no arithmetic makes.
const UNSET: u64 = u64::MAX;

impl GaugeCell {
    pub(super) fn new(prometheus: Option<Gauge>) -> Self {
        Self { bits: AtomicU64::new(UNSET), prometheus }
    }

    /// The value, if it was set to a number.
    pub(super) fn value(&self) -> Option<f64> {
        Some(f64::from_bits(self.bits.load(Relaxed))).filter(|value| value.is_finite())
    }

    fn change(&self, by: f64) {
        let _ = self.bits.fetch_update(Relaxed, Relaxed, |bits| {
            let value = if bits == UNSET { 0.0 } else { f64::from_bits(bits) };
            Some((value + by).to_bits())
        });
    }
}

impl GaugeFn for GaugeCell {
    fn increment(&self, value: f64) {
        self.change(value);
        if let Some(prometheus) = &self.prometheus {
            prometheus.increment(value);
        }
    }

    fn decrement(&self, value: f64) {
        self.change(-value);
        if let Some(prometheus) = &self.prometheus {
            prometheus.decrement(value);
        }
    }

    fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Relaxed);
        if let Some(prometheus) = &self.prometheus {
            prometheus.set(value);
        }
    }
}

/// A sample or a timer: how many values, and how they lie.
#[derive(Debug)]
pub(super) struct SampleCell {
    count: AtomicU64,
    sum: AtomicU64,
    sum_of_squares: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
    prometheus: Option<Histogram>,
}

impl SampleCell {
    pub(super) fn new(prometheus: Option<Histogram>) -> Self {
        let zero = || AtomicU64::new(0f64.to_bits());
        Self {
            count: AtomicU64::new(0),
            sum: zero(),
            sum_of_squares: zero(),
            min: AtomicU64::new(f64::INFINITY.to_bits()),
            max: AtomicU64::new(f64::NEG_INFINITY.to_bits()),
            prometheus,
        }
    }

    /// What was recorded; with `end` the interval ends.
    pub(super) fn aggregate(&self, end: bool) -> Aggregate {
        let part = |cell: &AtomicU64, empty: f64| {
            f64::from_bits(if end { cell.swap(empty.to_bits(), Relaxed) } else { cell.load(Relaxed) })
        };
        let count = if end { self.count.swap(0, Relaxed) } else { self.count.load(Relaxed) };
        let (sum, sum_of_squares) = (part(&self.sum, 0.0), part(&self.sum_of_squares, 0.0));
        let (min, max) = (part(&self.min, f64::INFINITY), part(&self.max, f64::NEG_INFINITY));
        // Caught between two parts of a record: they are infinite still, and JSON has no word for that.
        let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
        Aggregate { count, sum: finite(sum), sum_of_squares: finite(sum_of_squares), min: finite(min), max: finite(max) }
    }
}

impl HistogramFn for SampleCell {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        // One value that is no number would spoil the sums of its whole interval.
        if !value.is_finite() || count == 0 {
            return;
        }
        let times = count as f64;
        update(&self.sum, |sum| Some(sum + value * times));
        update(&self.sum_of_squares, |sum| Some(sum + value * value * times));
        update(&self.min, |min| (value < min).then_some(value));
        update(&self.max, |max| (value > max).then_some(value));
        self.count.fetch_add(count as u64, Relaxed);
        if let Some(prometheus) = &self.prometheus {
            prometheus.record_many(value, count);
        }
    }
}

fn update(cell: &AtomicU64, change: impl Fn(f64) -> Option<f64>) {
    let _ = cell.fetch_update(Relaxed, Relaxed, |bits| change(f64::from_bits(bits)).map(f64::to_bits));
}
