//! Services that were critical for longer than their check allows are deregistered.

use muster_health::REAP_INTERVAL;

use super::beat::Beat;
use crate::desk::Desk;

/// Runs until the agent stops.
pub(crate) async fn reap_critical(desk: Desk) {
    let mut beat = Beat::new(&desk, REAP_INTERVAL);
    while beat.next().await {
        for (service, (check, critical)) in desk.local().doomed() {
            if let Err(error) = desk.deregister_doomed(&service, &check, critical).await {
                tracing::warn!(service = %service, %error, "a service that is critical for too long could not be deregistered");
            }
        }
    }
}
