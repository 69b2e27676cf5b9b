//! How many results make a verdict.

use muster_catalog::{CheckDefinition, CheckId, Health, Status};

/// What is to be said of a check from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Of which check.
    pub check: CheckId,
    /// The generation its definition was given with: one that is no longer the current one is to be dropped.
    pub generation: u64,
    /// Rises with every verdict of one agent run: one that is lower than the last applied is to be dropped. A report
    /// answers its caller at once and so can overtake an expiry that still waits in the channel.
    pub turn: u64,
    /// The status.
    pub status: Status,
    /// What was seen, bounded by the check's `output_bytes_max` and a line around it.
    pub output: String,
    /// What it comes from.
    pub source: Source,
}

/// What a verdict comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A probe ran.
    Probe,
    /// Somebody reported.
    Report,
    /// Nobody reported in time.
    Expiry,
}

/// What one run of a probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    pub(crate) output: String,
    /// Whether it counts without regard to thresholds: a script that could not be started or did not end.
    pub(crate) at_once: bool,
}

impl Outcome {
    pub(crate) fn new(status: Status, output: String) -> Self {
        Self { status, output, at_once: false }
    }

    pub(crate) fn critical(output: String) -> Self {
        Self::new(Status::Critical, output)
    }
}

/// Counts results in a row. Warning counts as success: the service can be used.
#[derive(Debug, Clone)]
pub(crate) struct Thresholds {
    before_passing: u32,
    before_warning: u32,
    before_critical: u32,
    successes: u32,
    failures: u32,
}

impl Thresholds {
    /// Counters start at their thresholds, so that the first result always applies.
    pub(crate) fn new(definition: &CheckDefinition) -> Self {
        let before_critical = definition.failures_before_critical;
        Self {
            before_passing: definition.success_before_passing,
            before_warning: definition.failures_before_warning.unwrap_or(before_critical),
            before_critical,
            successes: definition.success_before_passing,
            failures: before_critical,
        }
    }

    /// The status after this outcome; `None` leaves status and output as they are.
    pub(crate) fn judge(&mut self, outcome: &Outcome) -> Option<Status> {
        if outcome.at_once {
            return Some(outcome.status.clone());
        }
        if outcome.status.health() != Health::Critical {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            return (self.successes >= self.before_passing).then(|| outcome.status.clone());
        }
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.before_critical {
            Some(Status::Critical)
        } else if self.failures >= self.before_warning {
            Some(Status::Warning)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thresholds(passing: u32, warning: Option<u32>, critical: u32) -> Thresholds {
        let definition = CheckDefinition {
            success_before_passing: passing,
            failures_before_warning: warning,
            failures_before_critical: critical,
            ..crate::testing::ttl("c", std::time::Duration::from_secs(1))
        };
        Thresholds::new(&definition)
    }

    fn run(thresholds: &mut Thresholds, results: &str) -> String {
        let mut said = String::new();
        for result in results.chars() {
            let status = match result {
                'p' => Status::Passing,
                'w' => Status::Warning,
                _ => Status::Critical,
            };
            said.push(match thresholds.judge(&Outcome::new(status, String::new())) {
                Some(Status::Passing) => 'p',
                Some(Status::Warning) => 'w',
                Some(_) => 'c',
                None => '-',
            });
        }
        said
    }

    #[test]
    fn without_thresholds_every_result_applies() {
        assert_eq!(run(&mut thresholds(0, None, 0), "pcwcpc"), "pcwcpc");
    }

    #[test]
    fn the_first_result_applies_whatever_the_thresholds() {
        assert_eq!(run(&mut thresholds(3, None, 3), "p"), "p");
        assert_eq!(run(&mut thresholds(3, None, 3), "c"), "c");
        assert_eq!(run(&mut thresholds(3, Some(2), 5), "c"), "c");
    }

    #[test]
    fn successes_in_a_row_are_counted_and_a_failure_starts_them_over() {
        assert_eq!(run(&mut thresholds(3, None, 0), "cppcppp"), "c--c--p");
    }

    #[test]
    fn a_warning_is_a_success() {
        assert_eq!(run(&mut thresholds(2, None, 2), "cwwcwc"), "c-w---");
    }

    #[test]
    fn failures_warn_before_they_are_critical() {
        assert_eq!(run(&mut thresholds(0, Some(2), 4), "pccccc"), "p-wwcc");
    }

    #[test]
    fn warning_defaults_to_the_critical_threshold() {
        assert_eq!(run(&mut thresholds(0, None, 3), "pcccpcc"), "p--cp--");
    }

    #[test]
    fn what_could_not_run_is_critical_at_once_and_counts_for_nothing() {
        let mut thresholds = thresholds(0, None, 3);
        assert_eq!(run(&mut thresholds, "pc"), "p-");
        let broken = Outcome { at_once: true, ..Outcome::critical("Timed out".into()) };
        assert_eq!(thresholds.judge(&broken), Some(Status::Critical));
        assert_eq!(run(&mut thresholds, "cc"), "-c");
    }
}
