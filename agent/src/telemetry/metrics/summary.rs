//! One interval in the form of Consul's `/v1/agent/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use metrics::Key;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

use super::cell::Aggregate;
use super::filter::Filter;
use super::recorder::Values;

/// A finished interval, in the order in which it is told.
#[derive(Debug)]
pub(super) struct Summary {
    began: String,
    pub(super) gauges: Vec<GaugeValue>,
    pub(super) counters: Vec<SampledValue>,
    pub(super) samples: Vec<SampledValue>,
}

/// The form of Go's `time.Time` as text, in UTC.
const TIMESTAMP: StaticFormatDescription = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] +0000 UTC");

pub(super) type Labels = BTreeMap<String, String>;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GaugeValue {
    pub(super) name: String,
    #[serde(serialize_with = "number")]
    pub(super) value: f64,
    pub(super) labels: Labels,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SampledValue {
    pub(super) name: String,
    pub(super) count: u64,
    #[serde(serialize_with = "number")]
    rate: f64,
    #[serde(serialize_with = "number")]
    pub(super) sum: f64,
    #[serde(serialize_with = "number")]
    pub(super) min: f64,
    #[serde(serialize_with = "number")]
    pub(super) max: f64,
    #[serde(serialize_with = "number")]
    mean: f64,
    #[serde(serialize_with = "number")]
    stddev: f64,
    pub(super) labels: Labels,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Told<'a> {
    timestamp: &'a str,
    gauges: Vec<&'a GaugeValue>,
    /// Consul's own list stays empty as well.
    points: [(); 0],
    counters: Vec<&'a SampledValue>,
    samples: Vec<&'a SampledValue>,
}

impl Summary {
    /// The interval that began at this time since 1970.
    pub(super) fn new(began: Duration, length: Duration, values: Values) -> Self {
        let seconds = i64::try_from(began.as_secs()).unwrap_or_default();
        let began = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let sampled = |values: Vec<(Key, Aggregate)>| {
            let mut sampled: Vec<_> = values.iter().map(|(key, found)| SampledValue::new(key, found, length)).collect();
            sampled.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
            sampled
        };
        let gauge = |(key, value): &(Key, f64)| GaugeValue { name: key.name().to_owned(), value: *value, labels: labels(key) };
        let mut gauges: Vec<_> = values.gauges.iter().map(gauge).collect();
        gauges.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
        Self {
            began: began.format(TIMESTAMP).unwrap_or_default(),
            gauges,
            counters: sampled(values.counters),
            samples: sampled(values.samples),
        }
    }

    /// Compact JSON of what the filter shows.
    pub(super) fn json(&self, filter: &Filter) -> String {
        let sampled =
            |values| Vec::from_iter(Iterator::filter(<[SampledValue]>::iter(values), |value| filter.shows(&value.name)));
        let told = Told {
            timestamp: &self.began,
            gauges: self.gauges.iter().filter(|gauge| filter.shows(&gauge.name)).collect(),
            points: [],
            counters: sampled(&self.counters),
            samples: sampled(&self.samples),
        };
        serde_json::to_string(&told).expect("text keys and finite numbers have a JSON form")
    }
}

impl Summary {
    /// A line each, as Consul prints them.
    pub(super) fn text(&self, filter: &Filter) -> String {
        let mut text = String::new();
        let began = &self.began;
        let name = |name: &str, labels: &Labels| labels.values().fold(name.to_owned(), |name, label| format!("{name}.{label}"));
        for gauge in self.gauges.iter().filter(|gauge| filter.shows(&gauge.name)) {
            let _ = writeln!(text, "[{began}][G] '{}': {:.3}", name(&gauge.name, &gauge.labels), gauge.value);
        }
        for (kind, values) in [("C", &self.counters), ("S", &self.samples)] {
            for value in values.iter().filter(|value| filter.shows(&value.name)) {
                let SampledValue { count, min, mean, max, stddev, sum, .. } = value;
                let name = name(&value.name, &value.labels);
                let _ = writeln!(
                    text,
                    "[{began}][{kind}] '{name}': Count: {count} Min: {min:.3} Mean: {mean:.3} Max: {max:.3} Stddev: {stddev:.3} Sum: {sum:.3}"
                );
            }
        }
        text
    }
}

impl SampledValue {
    fn new(key: &Key, found: &Aggregate, length: Duration) -> Self {
        let Aggregate { count, sum, sum_of_squares, min, max } = *found;
        let n = count as f64;
        let variance = if count > 1 { (n * sum_of_squares - sum * sum) / (n * (n - 1.0)) } else { 0.0 };
        Self {
            name: key.name().to_owned(),
            count,
            rate: sum / length.as_secs_f64(),
            sum,
            min,
            max,
            mean: if count > 0 { sum / n } else { 0.0 },
            // Rounding can push the variance of equal values a hair below zero.
            stddev: variance.max(0.0).sqrt(),
            labels: labels(key),
        }
    }
}

fn labels(key: &Key) -> Labels {
    key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect()
}

/// A number as Go writes it: `5`, not `5.0`.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    /// Every whole number below this is exact in an `f64`.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}
