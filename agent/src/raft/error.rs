//! What can go wrong with raft: at the start, with a write, and for good.

use std::path::PathBuf;
use std::sync::Arc;

use muster_catalog::{DecodeError, SnapshotError};
use uuid::Uuid;

use super::types::RaftId;

/// Raft did not start. Nothing was changed on disk, except that a torn last commit may have been dropped.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory or a file in it cannot be used: its owner mends that.
    #[error("cannot {what} {path}: this process runs as user {user}, {owner}", path = .path.display())]
    Access {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The user id of this process.
        user: u32,
        /// Whose it is, in words.
        owner: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process works in it: stop that one, or give this one a directory of its own.
    #[error("the data directory is in use by another process: {path} is locked", path = .path.display())]
    InUse {
        /// The locked file.
        path: PathBuf,
    },
    /// Bytes of the log changed on disk.
    #[error(
        "the raft log {path} is damaged{at}: {what}. Restore the data directory from a backup; or, to give up what is in it, \
         move the directory {dir} away and start again: this server then begins with an empty catalog, to which agents add \
         their services again, but keys are lost",
        path = .path.display(), at = at(.index), dir = .path.parent().unwrap_or(.path).display()
    )]
    LogDamaged {
        /// The log file.
        path: PathBuf,
        /// The entry, if one can be told.
        index: Option<u64>,
        /// What was found.
        what: String,
    },
    /// Log or snapshot come from a newer muster: start that one.
    #[error("{path} was written by a newer version of muster: {what}. Start that version, or one after it", path = .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Bytes of the snapshot changed on disk, and the log alone does not reach back to the beginning.
    #[error(
        "the snapshot {path} is damaged. Restore the data directory from a backup; or, to give up what is in it, move the \
         directory {dir} away and start again with an empty catalog",
        path = .path.display(), dir = .path.parent().unwrap_or(.path).display()
    )]
    SnapshotDamaged {
        /// The snapshot file.
        path: PathBuf,
        /// What was found.
        source: SnapshotFault,
    },
    /// The log begins after an entry that no snapshot holds, or a snapshot lies there without its log.
    #[error(
        "files are missing in {dir}: {what}. Restore the data directory from a backup; or move it away and start again with an \
         empty catalog",
        dir = .dir.display()
    )]
    Incomplete {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The engine refused the configuration or the state it found.
    #[error("raft could not be started: {0}")]
    Engine(String),
}

fn at(index: &Option<u64>) -> String {
    index.map(|index| format!(" at entry {index}")).unwrap_or_default()
}

/// What is wrong with a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    /// The file cannot be read.
    #[error("it cannot be read")]
    Io(#[from] std::io::Error),
    /// The part that is raft's: which entry it stands for, who the voters were.
    #[error("its head: {0}")]
    Head(String),
    /// The part that is the catalog's.
    #[error("its state")]
    State(#[from] SnapshotError),
}

/// A write that was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Nothing was changed: another server leads, or none. Ask that one, or wait.
    #[error("this server is not the leader")]
    NotLeader {
        /// The leader as far as known: its voter and its node.
        leader: Option<(RaftId, Uuid)>,
    },
    /// It was in the log of a leader that lost its office: it may be applied later. Retry under the same number.
    #[error("leadership was lost while the write was under way; whether it is applied is not known yet")]
    Undecided,
    /// Nothing was changed: as many writes are under way as this server takes. Retry a little later.
    #[error("too many writes under way")]
    Busy,
    /// Nothing was changed: the disk of the data directory is almost full. Writes go on when space is freed.
    #[error("no space left on the disk of {path}: writes are refused until there is, reads go on", path = .path.display())]
    DiskFull {
        /// The directory whose disk is full.
        path: PathBuf,
    },
    /// Nothing was changed: the client asked for too much at once.
    #[error("a write of {bytes} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Its size, encoded.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Raft has ended, by request or by a [`Failure`]; whether the write was logged is not known.
    #[error("raft has stopped")]
    Stopped,
}

/// A change of the servers, or of the leader, that did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Nothing was changed: another server leads, or none. Ask that one, or wait.
    #[error("this server is not the leader")]
    NotLeader {
        /// The leader as far as known: its voter and its node.
        leader: Option<(RaftId, Uuid)>,
    },
    /// Leadership was lost while the change was under way; whether it happens is not known yet. Look at the servers later.
    #[error("leadership was lost while the servers were changed; whether the change happens is not known yet")]
    Undecided,
    /// Nothing was changed: another change is under way, or the change makes no sense. The text says which.
    #[error("the servers were not changed: {what}")]
    Refused {
        /// What the engine said.
        what: String,
    },
    /// Nothing was changed: that server has less of the log than it had. Its data directory is to be moved away.
    #[error(
        "server {id} of node {node} has less log than it was seen to have: its data directory is an old copy. Stop it, move          the directory away and start it again"
    )]
    LostLog {
        /// Its raft id.
        id: RaftId,
        /// Its node.
        node: Uuid,
    },
    /// It learns, but has no vote yet: it did not catch up in time. Asking again goes on from there.
    #[error("server {id} of node {node} has not caught up yet")]
    Slow {
        /// Its raft id.
        id: RaftId,
        /// Its node.
        node: Uuid,
    },
    /// Nothing was changed: without these servers too few would be left that answer.
    #[error("of the {left} voters that would be left only {answering} answer: writes would stop")]
    Quorum {
        /// Voters that would be left.
        left: usize,
        /// Those of them that answer.
        answering: usize,
    },
    /// Nothing was changed: the leader does not take itself out. Hand leadership over, and ask the next leader.
    #[error("this server leads: hand leadership over first")]
    IsLeader,
    /// Nothing was changed: there is no such voter beside the leader.
    #[error("there is no voter to hand leadership to{}", .id.map(|id| format!(": {id}")).unwrap_or_default())]
    NoSuchVoter {
        /// The one that was asked for.
        id: Option<RaftId>,
    },
    /// Nothing was changed: no voter that may lead answers and has all of the log. Later one may.
    #[error("no other voter has caught up with the leader")]
    NobodyLevel,
    /// Leadership was given up, and nobody was seen to take it in time: the timers elect somebody.
    #[error("leadership was handed to {to}, which was not seen to take it in time")]
    TransferTimeout {
        /// Whom it was handed to.
        to: RaftId,
    },
    /// Raft has ended.
    #[error("raft has stopped")]
    Stopped,
}

/// Why raft stopped for good. The process ends and is started again: what was acknowledged is on disk.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// A commit failed. It is never tried again: the kernel may have dropped what it could not write.
    #[error("the raft log {path} could not be written", path = .path.display())]
    Log {
        /// The log file.
        path: PathBuf,
        /// What the store said.
        source: Arc<redb::Error>,
    },
    /// A committed entry is not understood: it was written by a newer version of muster. Upgrade this server.
    #[error("entry {index} of the raft log is not understood and must not be skipped")]
    Entry {
        /// Its index.
        index: u64,
        /// What was found.
        source: Arc<DecodeError>,
    },
    /// Applying an entry panicked: a fault of muster's, which every server will meet at this entry. Nothing of it was published.
    #[error("applying entry {index} of the raft log failed: this is a fault in muster")]
    Apply {
        /// Its index.
        index: u64,
    },
    /// The data directory is an old copy: a server that goes on from there would break what it has promised.
    #[error(
        "this server was started on an old copy of its data directory: node {by} has seen more of it ({what}). Move the \
         directory away and start again: it then joins as a new server"
    )]
    OldCopy {
        /// Who has seen more.
        by: Uuid,
        /// What is missing.
        what: String,
    },
    /// The engine stopped.
    #[error("raft stopped: {0}")]
    Engine(String),
}
