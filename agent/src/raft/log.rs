//! Raft's log: entries and votes in one redb file, written by one thread, with the newest entries in memory.
//!
//! An entry is readable when [`append`](RaftLogStorage::append) returns (the tail holds it), and durable when its callback is
//! called (the writer has committed it, together with everything else that waited: group commit). In memory (`-dev`) the same
//! code writes to redb's in-memory backend.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;

use muster_catalog::Proposal;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use tokio::sync::{mpsc, oneshot};

use super::alarm::Alarm;
use super::error::StartError;
use super::types::{Entry, LogId, RaftId, Types, Vote};

mod file;
mod peek;
mod shared;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use file::{Dir, access, sync_dir};
pub use peek::{Carried, Logged, read_log};
use shared::{Shared, Tail, View, io_error};
#[cfg(test)]
pub(crate) use writer::slow::slow_disk;
use writer::{Op, Row, Writer};

/// Operations that wait for the writer. openraft's own bounds come first (one append holds up to 4096 entries); when this is
/// full, the raft core waits for the disk, which is what it would do anyway.
const QUEUE_MAX: usize = 1024;

/// Bytes of entries read at once for a peer: several round trips' worth, and a bound on memory for each peer.
const READ_BYTES_MAX: usize = 1 << 20;

/// Entries that are looked at for the oldest command: a log begins with its first servers and the mark of their leader.
const OLDEST_MAX: u64 = 8;
/// Bytes of them.
const OLDEST_BYTES_MAX: usize = 64 << 10;

/// A log that was opened, and the thread that writes it.
pub(super) struct Log {
    pub(super) store: LogStore,
    pub(super) raft_id: RaftId,
    pub(super) purged: Option<LogId>,
    /// Nothing was ever voted for or appended: this server may found a cluster.
    pub(super) pristine: bool,
    /// Ends when all handles of the store are gone.
    pub(super) writer: JoinHandle<()>,
}

/// The handle openraft writes through.
#[derive(Clone)]
pub(super) struct LogStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Op>,
}

/// The handle openraft reads through.
#[derive(Clone)]
pub(super) struct LogReader {
    shared: Arc<Shared>,
}

impl Log {
    /// Opens the log of `dir`, or one in memory, and starts its writer.
    pub(super) fn open(dir: Option<&Dir>, alarm: Alarm) -> Result<Self, StartError> {
        let (db, found, acknowledged, path) = match dir {
            Some(dir) => {
                let (db, found, acknowledged) = file::on_disk(dir)?;
                (db, found, Some(acknowledged), dir.log_path())
            }
            None => {
                let (db, found) = file::in_memory()?;
                (db, found, None, PathBuf::from("(memory)"))
            }
        };
        let pristine = found.vote.is_none() && found.last.is_none();
        let view =
            View { vote: found.vote, committed: found.committed, purged: found.purged, last: found.last, tail: Tail::default() };
        let shared = Arc::new(Shared { db, path, view: Mutex::new(view), commits: AtomicU64::new(0) });
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            shared: shared.clone(),
            queue: waiting,
            acknowledged,
            alarm,
            end: found.last.map(|id| id.index),
            row: Row::default(),
        };
        let thread = std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || writer.run());
        let writer = thread.map_err(|error| StartError::Engine(format!("no thread for the log: {error}")))?;
        let store = LogStore { shared, queue };
        Ok(Self { store, raft_id: found.raft_id, purged: found.purged, pristine, writer })
    }
}

/// What is in a log at some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Had {
    pub(super) vote: Option<Vote>,
    pub(super) last: Option<LogId>,
}

/// Where the log ends; it keeps nothing open.
#[derive(Clone)]
pub(super) struct LastLog(Weak<Shared>);

impl LastLog {
    /// The end of the log and the vote on its disk; `None` if the log is closed.
    pub(super) fn had(&self) -> Option<Had> {
        let shared = self.0.upgrade()?;
        let view = shared.view();
        Some(Had { vote: view.vote, last: view.last })
    }

    /// When the oldest command in the log was proposed, in milliseconds since 1970; `None` where there is none soon after its
    /// beginning.
    pub(super) fn oldest(&self) -> Option<u64> {
        let shared = self.0.upgrade()?;
        let first = shared.view().purged.map_or(0, |purged| purged.index + 1);
        let entries = shared.read(first..first + OLDEST_MAX, OLDEST_BYTES_MAX).ok()?;
        entries.into_iter().find_map(|entry| match entry.payload {
            EntryPayload::Normal(payload) => Some(Proposal::decode(&payload.0).ok()?.time_ms),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        })
    }

    /// The last entry, flushed or not; `None` if there is none, or the log is closed.
    pub(super) fn get(&self) -> Option<LogId> {
        self.0.upgrade()?.view().last
    }
}

impl LogStore {
    /// Tells where the log ends.
    pub(super) fn last(&self) -> LastLog {
        LastLog(Arc::downgrade(&self.shared))
    }

    /// Commits made so far.
    #[cfg(test)]
    pub(super) fn commits(&self) -> u64 {
        self.shared.commits.load(std::sync::atomic::Ordering::Relaxed)
    }

    async fn ask(&self, op: Op) -> io::Result<()> {
        self.queue.send(op).await.map_err(|_| io::Error::other("the thread that writes the raft log has ended"))
    }
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.shared.read(range, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.view().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.shared.read(start..end, READ_BYTES_MAX)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let view = self.shared.view();
        Ok(LogState { last_purged_log_id: view.purged, last_log_id: view.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { shared: self.shared.clone() }
    }

    /// Durable on return; a slow disk makes the raft core wait, heartbeats included: that is what a vote is.
    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.ask(Op::Vote { vote: *vote, done }).await?;
        flushed(answer).await
    }

    /// Noted with the next commit: openraft waits for this before each apply, and nobody is woken for it.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mut view = self.shared.view();
        view.committed = committed.or(view.committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.view().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut view = self.shared.view();
            for entry in &entries {
                view.last = Some(entry.log_id());
                view.tail.push(entry.clone());
            }
        }
        self.ask(Op::Append { entries, done: callback }).await
    }

    /// Durable on return; past the end it changes nothing.
    async fn truncate_after(&mut self, after: Option<LogId>) -> io::Result<()> {
        let index = after.map(|id| id.index);
        {
            let mut view = self.shared.view();
            if view.last.map(|last| last.index) <= index {
                return Ok(());
            }
            view.tail.truncate(index);
            view.last = after;
        }
        let (done, answer) = oneshot::channel();
        self.ask(Op::Truncate { after: index, done }).await?;
        flushed(answer).await
    }

    /// Only queued: readers no longer see the entries, and nothing depends on when they leave the disk.
    async fn purge(&mut self, through: LogId) -> io::Result<()> {
        {
            let mut view = self.shared.view();
            view.tail.purge(through.index);
            view.purged = view.purged.max(Some(through));
            if view.last.is_none_or(|last| last.index < through.index) {
                view.last = Some(through);
            }
        }
        self.ask(Op::Purge(through)).await
    }
}

async fn flushed(answer: oneshot::Receiver<Result<(), Arc<redb::Error>>>) -> io::Result<()> {
    match answer.await {
        Ok(result) => result.map_err(|error| io_error(&error)),
        Err(_) => Err(io::Error::other("the thread that writes the raft log has ended")),
    }
}
