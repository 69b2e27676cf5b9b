//! What raft is told at the start, and what openraft is told of it.

use std::path::PathBuf;
use std::time::Duration;

use openraft::SnapshotPolicy;
use uuid::Uuid;

use super::error::StartError;
use super::space::DISK_RESERVE;
use crate::rpc::Pool;

/// Log entries that are purged together, at the least: openraft's default of 1 makes each a commit of its own.
const PURGE_BATCH: u64 = 1024;

/// How long a peer may take to install a snapshot; 61 MB took 0.4 s on one host, a slow line takes its time.
const INSTALL_SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// What raft is told at the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where log and snapshots lie; `None` keeps them in memory.
    pub dir: Option<PathBuf>,
    /// The node whose voter this is.
    pub node: Uuid,
    /// How often a leader is heard of.
    pub heartbeat: Duration,
    /// Silence after which a server stands for election: somewhere from the first to the second.
    pub election: (Duration, Duration),
    /// Entries after which a snapshot is written, if they are as long as the last one.
    pub snapshot_threshold: u64,
    /// Entries kept behind a snapshot, for peers that are a little behind.
    pub trailing_logs: u64,
    /// How other servers are reached; `None` for a server on its own.
    pub peers: Option<Pool>,
    /// Free space on the disk below which writes are refused.
    pub disk_reserve: u64,
}

impl Config {
    /// The calm timers: they are for silence only, a leader that is seen to be dead is replaced at once.
    pub fn new(dir: Option<PathBuf>, node: Uuid) -> Self {
        Self {
            dir,
            node,
            heartbeat: Duration::from_millis(100),
            election: (Duration::from_millis(400), Duration::from_millis(600)),
            snapshot_threshold: 16384,
            trailing_logs: 10240,
            peers: None,
            disk_reserve: DISK_RESERVE,
        }
    }

    pub(super) fn engine(&self) -> Result<openraft::Config, StartError> {
        let millis = |duration: Duration| duration.as_millis() as u64;
        let config = openraft::Config {
            cluster_name: "muster".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election.0),
            election_timeout_max: millis(self.election.1),
            snapshot_policy: SnapshotPolicy::Never, // they are asked for: growth.rs
            max_in_snapshot_log_to_keep: self.trailing_logs,
            purge_batch_size: PURGE_BATCH.min(self.snapshot_threshold),
            install_snapshot_timeout: millis(INSTALL_SNAPSHOT_TIMEOUT),
            backoff: "50ms".to_owned(),
            // a server that comes back with a stale clock of terms must not depose a leader that others hear
            enable_pre_vote: Some(true),
            // without it an old leader can block a connected quorum for ever (openraft issue 2080)
            quorum_loss_probe_interval: Some(3 * millis(self.election.1)),
            // a restarted leader would report itself leader in its old term until it hears of the new one
            enable_leader_restore: Some(false),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| StartError::Engine(error.to_string()))
    }
}
