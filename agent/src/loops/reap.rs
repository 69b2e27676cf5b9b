//! Services that were critical for longer than their check allows are deregistered.

use muster_health::REAP_INTERVAL;
use tokio::time::{MissedTickBehavior, interval};

use crate::desk::Desk;

/// Runs until the agent stops.
pub(crate) async fn reap_critical(desk: Desk) {
    let mut beat = interval(REAP_INTERVAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = std::pin::pin!(desk.stopping());
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = beat.tick() => {}
        }
        for (service, (check, critical)) in desk.local().doomed() {
            if let Err(error) = desk.deregister_doomed(&service, &check, critical).await {
                tracing::warn!(service = %service, %error, "a service that is critical for too long could not be deregistered");
            }
        }
    }
}
