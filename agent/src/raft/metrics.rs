//! The names under which raft is measured: Consul's, where the thing is the same. Times are in milliseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

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
/// Histogram, ms: taking entries or a heartbeat from the leader.
pub const RPC_APPEND: &str = "raft.rpc.appendEntries";
/// Histogram, ms: taking a snapshot from the leader, the installing alone.
pub const RPC_INSTALL: &str = "raft.rpc.installSnapshot";
/// Histogram, ms: sending entries to a follower until it has them, by its raft id.
pub const REPLICATION_APPEND: &str = "raft.replication.appendEntries.rpc";
/// Histogram, ms: a heartbeat to a follower, by its raft id.
pub const REPLICATION_HEARTBEAT: &str = "raft.replication.heartbeat";
/// Counter: rounds that showed the leader that it still leads.
pub const VERIFY_LEADER: &str = "raft.verify_leader";
/// Counters: how often this server became what they say.
pub const STATE_CANDIDATE: &str = "raft.state.candidate";
/// See [`STATE_CANDIDATE`].
pub const STATE_LEADER: &str = "raft.state.leader";
/// See [`STATE_CANDIDATE`].
pub const STATE_FOLLOWER: &str = "raft.state.follower";
/// Histogram, 0 to 1: the share of time in which raft's thread was busy, the catalog's writer included.
pub const MAIN_SATURATION: &str = "raft.thread.main.saturation";
/// Histogram, 0 to 1: the share of time in which the catalog's writer was.
pub const FSM_SATURATION: &str = "raft.thread.fsm.saturation";
/// Gauge, ms: age of the oldest command in the log.
pub const OLDEST_LOG_AGE: &str = "raft.leader.oldestLogAge";
/// Histogram, ms: how long ago a majority was heard, on a leader that has followers.
pub const LAST_CONTACT: &str = "raft.leader.lastContact";
/// Histogram, ms: taking hold of the state for a snapshot.
pub const SNAPSHOT_CREATE: &str = "raft.snapshot.create";
/// Histogram, ms: a whole snapshot, waiting for room on the disk included.
pub const SNAPSHOT_TAKE: &str = "raft.snapshot.takeSnapshot";
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
    pub(super) rpc_append: Histogram,
    pub(super) verify_leader: Counter,
}

/// The handles; first used when raft starts, and the recorder is there before that.
pub(super) static METERS: LazyLock<Meters> = LazyLock::new(|| Meters {
    apply: metrics::counter!(APPLY),
    commit_time: metrics::histogram!(COMMIT_TIME),
    fsm_apply: metrics::histogram!(FSM_APPLY),
    store_logs: metrics::histogram!(STORE_LOGS),
    logs_per_batch: metrics::histogram!(LOGS_PER_BATCH),
    log_batch_size: metrics::histogram!(LOG_BATCH_SIZE),
    rpc_append: metrics::histogram!(RPC_APPEND),
    verify_leader: metrics::counter!(VERIFY_LEADER),
});

/// Time that was spent at something, in nanoseconds. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<AtomicU64>);

impl Busy {
    pub(super) fn add(&self, spent: Duration) {
        self.0.fetch_add(spent.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}
