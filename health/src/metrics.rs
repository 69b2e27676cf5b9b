//! What this crate counts, by name.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};
use muster_catalog::{Probe, Status};

/// Runs of probes that ended, by kind and by what they saw.
pub(crate) const RUNS: &str = "health.check.runs";
/// How long a run takes.
pub(crate) const DURATION: &str = "health.check.duration";
/// Runs that go on now.
pub(crate) const RUNNING: &str = "health.check.running";
/// How long after its beat a run starts.
pub(crate) const LAG: &str = "health.check.lag";
/// TTL checks that nobody reported in time.
pub(crate) const EXPIRED: &str = "health.check.expired";

/// Tells the recorder what the names mean.
pub fn describe() {
    metrics::describe_counter!(RUNS, Unit::Count, "Runs of health checks that ended, by kind and by what they saw");
    metrics::describe_histogram!(DURATION, Unit::Seconds, "How long a run of a health check takes, by kind");
    metrics::describe_gauge!(RUNNING, Unit::Count, "Runs of health checks that go on");
    metrics::describe_histogram!(LAG, Unit::Seconds, "How long after its beat a run of a health check starts");
    metrics::describe_counter!(EXPIRED, Unit::Count, "TTL checks that nobody reported in time");
}

const KINDS: [&str; 8] = ["http", "tcp", "script", "grpc", "h2ping", "udp", "docker", "os_service"];
const STATUSES: [&str; 3] = ["passing", "warning", "critical"];

/// Handles, looked up once.
pub(crate) struct Meters {
    runs: [[Counter; 3]; 8],
    duration: [Histogram; 8],
    pub(crate) running: Gauge,
    pub(crate) lag: Histogram,
    pub(crate) expired: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            runs: KINDS.map(|kind| STATUSES.map(|status| metrics::counter!(RUNS, "kind" => kind, "status" => status))),
            duration: KINDS.map(|kind| metrics::histogram!(DURATION, "kind" => kind)),
            running: metrics::gauge!(RUNNING),
            lag: metrics::histogram!(LAG),
            expired: metrics::counter!(EXPIRED),
        }
    }

    pub(crate) fn ran(&self, probe: &Probe, status: &Status, took: Duration) {
        let Some(kind) = KINDS.iter().position(|kind| *kind == probe.kind()) else { return };
        let status = match status {
            Status::Passing => 0,
            Status::Warning => 1,
            Status::Critical | Status::Other(_) => 2,
        };
        self.runs[kind][status].increment(1);
        self.duration[kind].record(took);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use metrics::{Key, KeyName, Metadata, Recorder, SharedString};
    use muster_catalog::TcpProbe;

    use super::*;

    /// Writes down which counters were raised.
    #[derive(Default)]
    struct Notes(Arc<Mutex<Vec<String>>>);

    struct Note(Arc<Mutex<Vec<String>>>, String);

    impl metrics::CounterFn for Note {
        fn increment(&self, by: u64) {
            self.0.lock().unwrap().push(format!("{} {by}", self.1));
        }
        fn absolute(&self, _: u64) {}
    }

    impl Recorder for Notes {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Counter::from_arc(Arc::new(Note(self.0.clone(), format!("{} {}", key.name(), labels.join(" ")))))
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn runs_are_counted_by_kind_and_by_what_they_saw() {
        let notes = Notes::default();
        let meters = metrics::with_local_recorder(&notes, Meters::new);
        meters.ran(&Probe::Tcp(TcpProbe::default()), &Status::Warning, Duration::from_millis(3));
        assert_eq!(*notes.0.lock().unwrap(), ["health.check.runs kind=tcp status=warning 1"]);
    }
}
