//! Checks that are reported, and turn critical when nobody reports in time.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use muster_catalog::CheckId;

use crate::wheel::AHEAD_MAX;

/// An expiry that is noticed so late tells that the agent itself was asleep: stopped, suspended, or without CPU.
const ASLEEP: Duration = Duration::from_secs(1);

/// The time limits of all TTL checks.
#[derive(Debug, Default)]
pub(crate) struct Ttl {
    limits: HashMap<CheckId, Limit>,
    due: BTreeSet<(Instant, CheckId)>,
}

#[derive(Debug)]
struct Limit {
    ttl: Duration,
    ends: Instant,
    /// What was reported last; empty if nothing was.
    output: String,
    /// The agent slept through its end, and gave it its time once more. Once only: who is always late must expire too.
    again: bool,
}

impl Ttl {
    /// Has `check` expire `ttl` from now unless it is reported.
    pub(crate) fn set(&mut self, check: CheckId, ttl: Duration, now: Instant) {
        self.remove(&check);
        let ttl = ttl.min(AHEAD_MAX);
        let ends = now + ttl;
        self.due.insert((ends, check.clone()));
        self.limits.insert(check, Limit { ttl, ends, output: String::new(), again: false });
    }

    /// Forgets `check`.
    pub(crate) fn remove(&mut self, check: &CheckId) {
        if let Some(limit) = self.limits.remove(check) {
            self.due.remove(&(limit.ends, check.clone()));
        }
    }

    /// Somebody reported: its time starts anew. False if it is no TTL check.
    pub(crate) fn report(&mut self, check: &CheckId, output: &str, now: Instant) -> bool {
        let Some(limit) = self.limits.get_mut(check) else { return false };
        self.due.remove(&(limit.ends, check.clone()));
        limit.ends = now + limit.ttl;
        limit.output = output.to_owned();
        limit.again = false;
        self.due.insert((limit.ends, check.clone()));
        true
    }

    /// When the next one expires.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes one that has expired, with what is to be said of it. It expires again only after another report. One that nobody could
    /// have reported, as the agent slept, has its time once more.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(CheckId, String)> {
        loop {
            if self.due.first()?.0 > now {
                return None;
            }
            let (ends, check) = self.due.pop_first()?;
            let limit = self.limits.get_mut(&check)?;
            if !limit.again && now.saturating_duration_since(ends) > ASLEEP {
                (limit.again, limit.ends) = (true, now + limit.ttl);
                self.due.insert((limit.ends, check));
                continue;
            }
            let text = match limit.output.as_str() {
                "" => "TTL expired".to_owned(),
                last => format!("TTL expired (last output before timeout follows): {last}"),
            };
            return Some((check, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(text: &str) -> CheckId {
        CheckId::new(text).expect("a name")
    }

    fn start() -> (Ttl, Instant) {
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from
        let now = Instant::now();
        let mut ttl = Ttl::default();
        ttl.set(id("c"), 10 * SECOND, now);
        (ttl, now)
    }

    #[test]
    fn it_expires_once_when_nobody_ever_reports() {
        let (mut ttl, now) = start();
        assert_eq!(ttl.take(now + 9 * SECOND), None);
        assert_eq!(ttl.take(now + 10 * SECOND), Some((id("c"), "TTL expired".into())));
        assert_eq!((ttl.take(now + 100 * SECOND), ttl.next()), (None, None));
    }

    #[test]
    fn a_report_starts_the_time_anew_and_its_output_is_told() {
        let (mut ttl, now) = start();
        assert!(ttl.report(&id("c"), "fine so far", now + 9 * SECOND));
        assert_eq!(ttl.take(now + 18 * SECOND), None);
        let (_, text) = ttl.take(now + 19 * SECOND).expect("it expired");
        assert_eq!(text, "TTL expired (last output before timeout follows): fine so far");
    }

    #[test]
    fn who_slept_through_the_end_gives_the_time_once_more_and_only_once() {
        let (mut ttl, now) = start();
        assert_eq!(ttl.take(now + 600 * SECOND), None);
        assert_eq!(ttl.next(), Some(now + 610 * SECOND));
        assert!(ttl.take(now + 640 * SECOND).is_some(), "it is always late");
        assert!(ttl.report(&id("c"), "", now + 650 * SECOND));
        assert_eq!(ttl.take(now + 700 * SECOND), None, "a report counts");
    }

    #[test]
    fn a_report_after_expiry_counts_again() {
        let (mut ttl, now) = start();
        assert!(ttl.take(now + 10 * SECOND).is_some());
        assert!(ttl.report(&id("c"), "", now + 20 * SECOND));
        assert_eq!(ttl.next(), Some(now + 30 * SECOND));
    }

    #[test]
    fn a_removed_one_neither_expires_nor_takes_reports() {
        let (mut ttl, now) = start();
        ttl.remove(&id("c"));
        assert!(!ttl.report(&id("c"), "", now));
        assert_eq!(ttl.take(now + 100 * SECOND), None);
    }

    #[test]
    fn a_thousand_reports_leave_one_row() {
        let (mut ttl, now) = start();
        for n in 0..1000 {
            ttl.report(&id("c"), "x", now + n * SECOND);
        }
        assert_eq!(ttl.due.len(), 1);
    }
}
