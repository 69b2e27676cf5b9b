//! Gauges of what the catalog holds and where raft is.

use std::time::Duration;

use super::beat::Beat;
use crate::desk::Desk;
use crate::raft;
use crate::telemetry::publish_catalog;

/// Each interval of the JSON metrics is 10 s long and shows what was set within it.
const INTERVAL: Duration = Duration::from_secs(10);

/// Runs until the agent stops.
pub(crate) async fn show_gauges(desk: Desk, datacenter: String) {
    let mut beat = Beat::new(&desk, INTERVAL);
    while beat.next().await {
        let state = desk.reader().load().clone();
        publish_catalog(&state, &datacenter);
        let Some(raft) = desk.raft() else { continue };
        let status = raft.status();
        let leads = f64::from(u8::from(status.role == raft::Role::Leader));
        metrics::gauge!("raft.applied_index").set(status.applied_index as f64);
        metrics::gauge!("raft.last_index").set(status.last_log_index as f64);
        metrics::gauge!("raft.is_leader").set(leads);
        metrics::gauge!("server.isLeader").set(leads);
        if status.role != raft::Role::Leader {
            // The leader alone hears all servers (`servers.rs`); the others can say whether there is one.
            metrics::gauge!("autopilot.healthy").set(f64::from(u8::from(status.leader.is_some())));
        }
    }
}
