//! The names under which raft is measured: Consul's, where the thing is the same. Times are in milliseconds.

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
