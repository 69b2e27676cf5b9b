//! Work that is done again and again until the agent stops.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::desk::Desk;

/// A beat that the agent's end stops.
pub(super) struct Beat {
    desk: Desk,
    ticks: Interval,
}

impl Beat {
    /// Its first time is at once.
    pub(super) fn new(desk: &Desk, every: Duration) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { desk: desk.clone(), ticks }
    }

    /// Waits for the next time; `false` when the agent stops.
    pub(super) async fn next(&mut self) -> bool {
        tokio::select! {
            () = self.desk.stopping() => false,
            _ = self.ticks.tick() => true,
        }
    }
}
