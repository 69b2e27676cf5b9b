//! How badly this agent fares as a member: Lifeguard's local health.

use std::time::Duration;

/// Worst score, as memberlist's: probes take eight times as long.
const SCORE_MAX: u8 = 7;
/// From here on an accuser is more likely at fault than the accused.
const BAD: u8 = 3;

/// 0 to 7: rises with probes that nobody answered or said so, with accusations against this agent, and with its sleep; falls with
/// each answered probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::core) struct Health(u8);

impl Health {
    pub(in crate::core) fn score(self) -> u8 {
        self.0
    }

    pub(super) fn worse(&mut self, by: u8) {
        self.0 = self.0.saturating_add(by).min(SCORE_MAX);
    }

    pub(super) fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// Who fares badly takes more time.
    pub(in crate::core) fn stretch(self, time: Duration) -> Duration {
        time * (u32::from(self.0) + 1)
    }
}

/// Whether the word of an accuser of that score hastens anything.
pub(super) fn is_good(score: u8) -> bool {
    score < BAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stretches_within_bounds() {
        let mut health = Health::default();
        health.better();
        assert_eq!(health.stretch(Duration::from_secs(1)), Duration::from_secs(1));
        health.worse(200);
        assert_eq!(health.stretch(Duration::from_secs(1)), Duration::from_secs(8));
        assert!(!is_good(health.score()));
    }
}
