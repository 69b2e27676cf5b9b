//! Which services have been critical so long that they are to go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_catalog::{CheckId, DEREGISTER_AFTER_MIN, Health, ServiceId, Status};

use crate::wheel::AHEAD_MAX;

/// How often to ask for those that are due, as Consul does: a service goes up to this much after its time.
pub const REAP_INTERVAL: Duration = Duration::from_secs(30);

/// Since when each check with `deregister_critical_service_after` is critical without a break.
///
/// A check that never had a result counts for nothing: it was born critical, which says nothing of its service.
#[derive(Debug, Default)]
pub struct Deregister {
    watched: BTreeMap<CheckId, Watched>,
}

#[derive(Debug)]
struct Watched {
    service: ServiceId,
    after: Duration,
    critical_since: Option<Instant>,
}

impl Deregister {
    /// Watches `check` of `service`; what was counted before goes on if there was something.
    pub fn set(&mut self, check: CheckId, service: ServiceId, after: Duration) {
        let critical_since = self.watched.get(&check).and_then(|watched| watched.critical_since);
        let after = after.clamp(DEREGISTER_AFTER_MIN, AHEAD_MAX);
        self.watched.insert(check, Watched { service, after, critical_since });
    }

    /// Watches `check` no more.
    pub fn remove(&mut self, check: &CheckId) {
        self.watched.remove(check);
    }

    /// A result of `check`: a probe's, a report or an expiry, not the status it was registered with.
    pub fn result(&mut self, check: &CheckId, status: &Status, now: Instant) {
        let Some(watched) = self.watched.get_mut(check) else { return };
        watched.critical_since = match status.health() {
            Health::Critical => watched.critical_since.or(Some(now)),
            Health::Passing | Health::Warning => None,
        };
    }

    /// The services that are due, each once with the check that says so and how long it has been critical.
    pub fn due(&self, now: Instant) -> BTreeMap<ServiceId, (CheckId, Duration)> {
        let mut due = BTreeMap::new();
        for (check, watched) in &self.watched {
            let Some(since) = watched.critical_since else { continue };
            let critical = now.saturating_duration_since(since);
            if critical > watched.after {
                due.entry(watched.service.clone()).or_insert_with(|| (check.clone(), critical));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> (Deregister, CheckId, Instant) {
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from
        let now = Instant::now();
        let check = CheckId::new("c").expect("a name");
        let mut deregister = Deregister::default();
        deregister.set(check.clone(), ServiceId::new("s").expect("a name"), SECOND);
        (deregister, check, now)
    }

    #[test]
    fn without_a_result_it_never_is_due() {
        let (deregister, _, now) = start();
        assert!(deregister.due(now + 10_000 * SECOND).is_empty());
    }

    #[test]
    fn less_than_a_minute_is_a_minute() {
        let (mut deregister, check, now) = start();
        deregister.result(&check, &Status::Critical, now);
        assert!(deregister.due(now + 60 * SECOND).is_empty());
        assert_eq!(deregister.due(now + 61 * SECOND).len(), 1);
    }

    #[test]
    fn a_break_starts_it_over_and_a_repeated_result_does_not() {
        let (mut deregister, check, now) = start();
        deregister.result(&check, &Status::Critical, now);
        deregister.result(&check, &Status::Critical, now + 30 * SECOND);
        deregister.result(&check, &Status::Warning, now + 50 * SECOND);
        deregister.result(&check, &Status::Critical, now + 51 * SECOND);
        assert!(deregister.due(now + 100 * SECOND).is_empty());
        assert_eq!(deregister.due(now + 112 * SECOND).len(), 1);
    }

    #[test]
    fn a_removed_check_takes_nothing_down() {
        let (mut deregister, check, now) = start();
        deregister.result(&check, &Status::Critical, now);
        deregister.remove(&check);
        assert!(deregister.due(now + 1_000 * SECOND).is_empty());
    }
}
