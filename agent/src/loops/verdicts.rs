//! Verdicts of the health runner on their way to the desk.

use muster_health::Verdict;
use tokio::sync::mpsc;

use crate::desk::Desk;

/// Runs until the runner ends.
pub(crate) async fn take_verdicts(desk: Desk, mut verdicts: mpsc::Receiver<Verdict>) {
    while let Some(verdict) = verdicts.recv().await {
        desk.local().apply(desk.name(), desk.clock_ms(), verdict);
    }
}
