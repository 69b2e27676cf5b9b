//! Where recorded values go: into the interval of the JSON form, and to Prometheus if it may ask.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::cell::{Aggregate, CounterCell, GaugeCell, SampleCell};

/// Series of each kind at most. All labels come from closed lists, some hundred series in all: who gets here has made a
/// label of something that grows, and its further series are not recorded.
const SERIES_MAX: usize = 2048;
/// Names of what every process tells in the same words; they go to Prometheus alone, as they are.
const PROCESS: &str = "process_";

/// All series of the JSON form.
#[derive(Debug, Default)]
pub(super) struct Registry {
    counters: Series<CounterCell>,
    gauges: Series<GaugeCell>,
    samples: Series<SampleCell>,
}

type Series<C> = RwLock<HashMap<Key, Arc<C>, foldhash::fast::RandomState>>;

/// What all series were in an interval; those without a value are left out.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) counters: Vec<(Key, Aggregate)>,
    pub(super) gauges: Vec<(Key, f64)>,
    pub(super) samples: Vec<(Key, Aggregate)>,
}

impl Registry {
    /// What was recorded so far in this interval.
    pub(super) fn look(&self) -> Values {
        self.values(false)
    }

    /// Ends the interval: what was recorded in it.
    pub(super) fn take(&self) -> Values {
        self.values(true)
    }

    fn values(&self, end: bool) -> Values {
        let some = |(key, found): (Key, Aggregate)| (found.count > 0).then_some((key, found));
        Values {
            counters: each(&self.counters, |cell| cell.aggregate(end)).filter_map(some).collect(),
            gauges: each(&self.gauges, GaugeCell::value).filter_map(|(key, value)| Some((key, value?))).collect(),
            samples: each(&self.samples, |cell| cell.aggregate(end)).filter_map(some).collect(),
        }
    }
}

fn each<C, V>(series: &Series<C>, look: impl Fn(&C) -> V) -> impl Iterator<Item = (Key, V)> {
    let series = series.read().unwrap_or_else(PoisonError::into_inner);
    series.iter().map(|(key, cell)| (key.clone(), look(cell))).collect::<Vec<_>>().into_iter()
}

/// The cell of a key: the one it has, or a new one while there is room.
fn cell<K, C, S>(series: &RwLock<HashMap<K, Arc<C>, S>>, key: &K, new: impl FnOnce() -> C) -> Option<Arc<C>>
where
    K: Clone + Eq + Hash,
    S: std::hash::BuildHasher,
{
    if let Some(cell) = series.read().unwrap_or_else(PoisonError::into_inner).get(key) {
        return Some(Arc::clone(cell));
    }
    let mut series = series.write().unwrap_or_else(PoisonError::into_inner);
    if series.len() >= SERIES_MAX {
        return series.get(key).map(Arc::clone);
    }
    match series.entry(key.clone()) {
        Entry::Occupied(old) => Some(Arc::clone(old.get())),
        Entry::Vacant(place) => Some(Arc::clone(place.insert(Arc::new(new())))),
    }
}

/// The one recorder of the process.
pub(super) struct Recorder {
    prefix: String,
    host: Option<String>,
    registry: Arc<Registry>,
    prometheus: Option<PrometheusRecorder>,
}

impl Recorder {
    pub(super) fn new(
        prefix: String,
        host: Option<String>,
        registry: Arc<Registry>,
        prometheus: Option<PrometheusRecorder>,
    ) -> Self {
        Self { prefix, host, registry, prometheus }
    }

    /// A name as the world sees it.
    fn full_name(&self, name: &str, gauge: bool) -> String {
        let host = self.host.as_deref().filter(|_| gauge);
        let parts = [self.prefix.as_str(), host.unwrap_or_default(), name];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }

    fn full_key(&self, key: &Key, gauge: bool) -> Key {
        Key::from_parts(self.full_name(key.name(), gauge), key.labels().cloned().collect::<Vec<Label>>())
    }

    fn full_description(&self, name: &KeyName, gauge: bool) -> KeyName {
        match name.as_str() {
            plain if plain.starts_with(PROCESS) => name.clone(),
            dotted => self.full_name(dotted, gauge).into(),
        }
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        if let Some(prometheus) = &self.prometheus {
            prometheus.describe_counter(self.full_description(&name, false), unit, description);
        }
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        if let Some(prometheus) = &self.prometheus {
            prometheus.describe_gauge(self.full_description(&name, true), unit, description);
        }
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        if let Some(prometheus) = &self.prometheus {
            prometheus.describe_histogram(self.full_description(&name, false), unit, description);
        }
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let full = self.full_key(key, false);
        let prometheus = || self.prometheus.as_ref().map(|prometheus| prometheus.register_counter(&full, metadata));
        cell(&self.registry.counters, &full, || CounterCell::new(prometheus())).map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        if key.name().starts_with(PROCESS) {
            return self.prometheus.as_ref().map_or_else(Gauge::noop, |prometheus| prometheus.register_gauge(key, metadata));
        }
        let full = self.full_key(key, true);
        let prometheus = || self.prometheus.as_ref().map(|prometheus| prometheus.register_gauge(&full, metadata));
        cell(&self.registry.gauges, &full, || GaugeCell::new(prometheus())).map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let full = self.full_key(key, false);
        let prometheus = || self.prometheus.as_ref().map(|prometheus| prometheus.register_histogram(&full, metadata));
        cell(&self.registry.samples, &full, || SampleCell::new(prometheus())).map_or_else(Histogram::noop, Histogram::from_arc)
    }
}
