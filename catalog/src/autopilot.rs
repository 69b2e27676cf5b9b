//! How servers come and go, as it was set for all of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::row::Index;

/// What decides about servers; Consul's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Autopilot {
    /// Whether servers that failed lose their vote when a new one has come.
    pub cleanup_dead_servers: bool,
    /// Silence after which a server is not healthy.
    pub last_contact_threshold: Duration,
    /// Entries that a healthy server may be behind.
    pub max_trailing_logs: u64,
    /// Voters that clean-up leaves at least; 0 is what the majority needs.
    pub min_quorum: u32,
    /// How long a new server must have been healthy before it votes.
    pub server_stabilization_time: Duration,
}

impl Default for Autopilot {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: Duration::from_millis(200),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: Duration::from_secs(10),
        }
    }
}

/// Sets it; with `cas`, only if its modify index is that (0: only if it was never set).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAutopilot {
    /// What it is to be.
    pub settings: Autopilot,
    /// Expected modify index.
    #[serde(default)]
    pub cas: Option<Index>,
}

/// As it was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopilotRow {
    /// What it is.
    pub settings: Autopilot,
    /// Where it was first set.
    pub create_index: Index,
    /// Where it was last set.
    pub modify_index: Index,
}
