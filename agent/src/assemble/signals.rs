//! The signals that an agent listens to.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signal of a terminal.
pub(super) const INTERRUPT: &str = "SIGINT";

/// What a signal means.
pub(super) enum Told {
    Reload,
    /// Print what is measured.
    Measures,
    Stop(&'static str),
}

/// The signals that mean something.
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    measures: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        let of = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Self {
            hangup: of(SignalKind::hangup())?,
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
            measures: of(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next.
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            _ = self.interrupt.recv() => Told::Stop(INTERRUPT),
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.measures.recv() => Told::Measures,
        }
    }
}
