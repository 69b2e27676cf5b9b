//! What the agent counts, in Consul's JSON and as Prometheus reads it.

mod cell;
mod filter;
mod recorder;
mod sink;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;

pub(crate) use filter::Filter;
use recorder::{Recorder, Registry};
pub(crate) use sink::{SinkConfig, SinkKind};
use summary::Summary;

use super::error::TelemetryError;
use super::{load, names, process};

/// Length of one interval of the JSON form, Consul's.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often recorded values are folded into Prometheus' summaries: between two folds they pile up, eight bytes each.
const UPKEEP: Duration = Duration::from_secs(5);
/// What Prometheus' summaries tell, as Consul's do.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// What of `telemetry` in the configuration is meant.
#[derive(Debug, Clone)]
pub(crate) struct MetricsConfig {
    /// First part of every name; Consul's default is `consul`.
    pub(crate) prefix: String,
    /// Second part of a gauge's name; `None` under `disable_hostname`.
    pub(crate) host: Option<String>,
    /// What is shown.
    pub(crate) filter: Filter,
    /// Whether Prometheus may ask: `prometheus_retention_time` is above zero. The time itself is not used: a series that
    /// left would take the cached handles of its callers with it, and the number of series is bounded anyway.
    pub(crate) prometheus: bool,
    /// Whether this host is measured too, and of which file system.
    pub(crate) host_metrics: Option<PathBuf>,
}

/// The metrics of this process; clones are the same metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Arc<Registry>,
    prometheus: Option<PrometheusHandle>,
    filter: ArcSwap<Filter>,
    last: ArcSwap<Option<Summary>>,
    process: process::Gauges,
    load: Option<load::Gauges>,
    /// In the names of gauges.
    host: Option<String>,
    /// Changes when an interval has ended.
    ended: watch::Sender<()>,
}

impl Metrics {
    /// Collects what the whole process records.
    pub(super) fn install(config: MetricsConfig) -> Result<Self, TelemetryError> {
        let (metrics, recorder) = Self::new(config);
        ::metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Installed("metrics"))?;
        Ok(metrics)
    }

    /// Metrics and the recorder that fills them.
    fn new(config: MetricsConfig) -> (Self, Recorder) {
        let exporter = config.prometheus.then(|| {
            let window = INTERVAL / 2;
            PrometheusBuilder::new()
                .set_quantiles(&QUANTILES)
                .and_then(|builder| builder.set_bucket_duration(window))
                .expect("the quantiles are not empty and the window is not zero")
                .set_bucket_count(const { std::num::NonZeroU32::new(2).expect("two is not zero") })
                .build_recorder()
        });
        let prometheus = exporter.as_ref().map(metrics_exporter_prometheus::PrometheusRecorder::handle);
        let registry = Arc::new(Registry::default());
        let recorder = Recorder::new(config.prefix, config.host.clone(), Arc::clone(&registry), exporter);
        names::describe(&recorder);
        let inner = Inner {
            registry,
            prometheus,
            filter: ArcSwap::from_pointee(config.filter),
            last: ArcSwap::from_pointee(None),
            process: process::Gauges::new(&recorder),
            load: config.host_metrics.map(|path| load::Gauges::new(&recorder, path)),
            host: config.host,
            ended: watch::Sender::new(()),
        };
        (Self { inner: Arc::new(inner) }, recorder)
    }

    /// Metrics that nobody records, for tests of what shows them.
    #[cfg(test)]
    pub(crate) fn unrecorded(prometheus: bool) -> Self {
        let config =
            MetricsConfig { prefix: "consul".to_owned(), host: None, filter: Filter::default(), prometheus, host_metrics: None };
        Self::new(config).0
    }

    /// Consul's JSON of the last finished interval; in the first ten seconds, of what there is so far.
    pub(crate) fn json(&self) -> String {
        let filter = self.inner.filter.load();
        match &**self.inner.last.load() {
            Some(last) => last.json(&filter),
            None => {
                self.inner.process.sample();
                Summary::new(process::now(), INTERVAL, self.inner.registry.look()).json(&filter)
            }
        }
    }

    /// The same, for people who read a terminal.
    pub(crate) fn text(&self) -> String {
        self.inner.process.sample();
        let filter = self.inner.filter.load();
        Summary::new(aligned(process::now()), INTERVAL, self.inner.registry.look()).text(&filter)
    }

    /// Changes when an interval has ended.
    pub(crate) fn intervals(&self) -> watch::Receiver<()> {
        self.inner.ended.subscribe()
    }

    /// What Prometheus reads (`text/plain; version=0.0.4`); `None` where it is switched off.
    pub(crate) fn prometheus(&self) -> Option<String> {
        let prometheus = self.inner.prometheus.as_ref()?;
        self.inner.process.sample();
        Some(self.inner.filter.load().text(prometheus.render()))
    }

    /// Shows and hides by these prefixes from now on.
    pub(crate) fn set_filter(&self, filter: Filter) {
        self.inner.filter.store(Arc::new(filter));
    }

    /// Ends intervals and folds values, until it is dropped. Without it the JSON stands still and memory grows.
    pub(crate) async fn upkeep(self) {
        let mut began = aligned(process::now());
        loop {
            let now = process::now();
            let into = Duration::from_nanos((now.as_nanos() % UPKEEP.as_nanos()).try_into().unwrap_or_default());
            tokio::time::sleep(UPKEEP - into).await;
            began = self.turn(began, process::now());
        }
    }

    /// Folds values, and ends the interval that began then if it is over: when the one of `now` began.
    fn turn(&self, began: Duration, now: Duration) -> Duration {
        if let Some(prometheus) = &self.inner.prometheus {
            prometheus.run_upkeep();
        }
        let current = aligned(now);
        if current != began {
            self.end_interval(began);
        }
        current
    }

    fn end_interval(&self, began: Duration) {
        self.inner.process.sample();
        if let Some(load) = &self.inner.load {
            load.sample();
        }
        let summary = Summary::new(began, INTERVAL, self.inner.registry.take());
        self.inner.last.store(Arc::new(Some(summary)));
        self.inner.ended.send_replace(());
    }
}

/// The beginning of the interval of this time since 1970.
fn aligned(now: Duration) -> Duration {
    Duration::from_secs(now.as_secs() - now.as_secs() % INTERVAL.as_secs())
}

#[cfg(test)]
mod tests;
