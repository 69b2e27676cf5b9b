//! The names under which raft is measured: Consul's, where the thing is the same. Times are in milliseconds.

use std::sync::LazyLock;

use metrics::{Counter, Histogram};

/// Counter: writes offered to raft by this server.
pub const APPLY: &str = "raft.apply";
/// Histogram, ms: from a write's offer to its outcome, on the leader.
pub const COMMIT_TIME: &str = "raft.commitTime";
/// Histogram, ms: applying one batch of entries to the catalog and publishing it.
pub const FSM_APPLY: &str = "raft.fsm.apply";
/// Histogram, ms: one commit of the log, its fsync included.
pub const STORE_LOGS: &str = "raft.boltdb.storeLogs";
/// Histogram: entries in one commit of the log.
pub const LOGS_PER_BATCH: &str = "raft.boltdb.logsPerBatch";
/// Histogram: bytes in one commit of the log.
pub const LOG_BATCH_SIZE: &str = "raft.boltdb.logBatchSize";
/// Histogram, ms: reading entries back from the disk.
pub const GET_LOG: &str = "raft.boltdb.getLog";
/// Histogram, ms: writing one snapshot.
pub const SNAPSHOT_PERSIST: &str = "raft.snapshot.persist";
/// Gauge, ms: restoring the snapshot at the start.
pub const RESTORE_DURATION: &str = "raft.fsm.lastRestoreDuration";
/// Counter: writes refused because the disk is almost full.
pub const DISK_FULL: &str = "raft.diskFull";
/// Counter: writes refused because too many are under way.
pub const BUSY: &str = "raft.busy";

/// Handles to what each write or commit records: looked up once, for a look-up costs more than the record.
pub(super) struct Meters {
    pub(super) apply: Counter,
    pub(super) commit_time: Histogram,
    pub(super) fsm_apply: Histogram,
    pub(super) store_logs: Histogram,
    pub(super) logs_per_batch: Histogram,
    pub(super) log_batch_size: Histogram,
}

/// The handles; first used when raft starts, and the recorder is there before that.
pub(super) static METERS: LazyLock<Meters> = LazyLock::new(|| Meters {
    apply: metrics::counter!(APPLY),
    commit_time: metrics::histogram!(COMMIT_TIME),
    fsm_apply: metrics::histogram!(FSM_APPLY),
    store_logs: metrics::histogram!(STORE_LOGS),
    logs_per_batch: metrics::histogram!(LOGS_PER_BATCH),
    log_batch_size: metrics::histogram!(LOG_BATCH_SIZE),
});
