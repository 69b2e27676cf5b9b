//! Raft's log: entries and votes in one redb file, written by one thread, with the newest entries in memory.
//!
//! An entry is readable when [`append`](RaftLogStorage::append) returns (the tail holds it), and durable when its callback is
//! called (the writer has committed it, together with everything else that waited: group commit). In memory (`-dev`) the same
//! code writes to redb's in-memory backend.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use redb::{Database, ReadableDatabase};
use tokio::sync::{mpsc, oneshot};

use super::alarm::Alarm;
use super::codec;
use super::error::StartError;
use super::metrics;
use super::types::{Entry, LogId, Payload, RaftId, Types, Vote};

mod file;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use file::{Dir, access, sync_dir};
use writer::{Op, Writer};

/// Operations that wait for the writer. openraft's own bounds come first (one append holds up to 4096 entries); when this is
/// full, the raft core waits for the disk, which is what it would do anyway.
const QUEUE_MAX: usize = 1024;

/// Flushed entries kept in memory: the state machine reads them a moment after their commit, and then no disk is asked.
/// A commit of 64 small writes is 20 KB; this holds fifty of them, or two of the largest keys.
const TAIL_BYTES: usize = 1 << 20;

/// Bytes of entries read at once for a peer: several round trips' worth, and a bound on memory for each peer.
const READ_BYTES_MAX: usize = 1 << 20;

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

struct Shared {
    db: Database,
    path: PathBuf,
    view: Mutex<View>,
    commits: AtomicU64,
}

/// The log as its readers see it: ahead of the disk by what is in the queue.
struct View {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    tail: Tail,
}

/// The newest entries without a gap: all that are not flushed, and some that are.
#[derive(Default)]
struct Tail {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// All entries below this index are on disk.
    flushed_below: u64,
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
        let writer = Writer { shared: shared.clone(), queue: waiting, acknowledged, alarm, committed: None };
        let thread = std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || writer.run());
        let writer = thread.map_err(|error| StartError::Engine(format!("no thread for the log: {error}")))?;
        let store = LogStore { shared, queue };
        Ok(Self { store, raft_id: found.raft_id, purged: found.purged, pristine, writer })
    }
}

impl Shared {
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("no holder panics: they move values in memory")
    }

    /// Entries of the range that the log has, without a gap; at most about `bytes_max` of them, but at least one.
    fn read(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (start, end, from_tail) = {
            let view = self.view();
            let first = view.purged.map_or(0, |purged| purged.index + 1);
            let next = view.last.map_or(0, |last| last.index + 1);
            let start = match range.start_bound() {
                Bound::Included(start) => *start,
                Bound::Excluded(before) => before.saturating_add(1),
                Bound::Unbounded => 0,
            };
            let end = match range.end_bound() {
                Bound::Included(last) => last.saturating_add(1),
                Bound::Excluded(end) => *end,
                Bound::Unbounded => u64::MAX,
            };
            let (start, end) = (start.max(first), end.min(next));
            if start >= end {
                return Ok(Vec::new());
            }
            let tail_start = view.tail.entries.front().map_or(end, |entry| entry.log_id().index).clamp(start, end);
            let from_tail = view.tail.range(tail_start, end);
            (start, tail_start, from_tail)
        };
        let mut bytes = 0;
        let mut entries = Vec::new();
        if start < end {
            self.read_disk(start, end, bytes_max, &mut bytes, &mut entries)?;
        }
        // the limit was not reached on the way; what is absent from the disk was never in the log
        let whole = entries.last().is_none_or(|entry: &Entry| entry.log_id().index + 1 == end);
        if whole {
            for entry in from_tail {
                if bytes >= bytes_max {
                    break;
                }
                bytes += size(&entry);
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn read_disk(&self, start: u64, end: u64, bytes_max: usize, bytes: &mut usize, entries: &mut Vec<Entry>) -> io::Result<()> {
        let started = timer();
        let failed = |error: redb::Error| io_error(&error);
        let tx = self.db.begin_read().map_err(|error| failed(error.into()))?;
        let table = tx.open_table(file::ENTRIES).map_err(|error| failed(error.into()))?;
        for row in table.range(start..end).map_err(|error| failed(error.into()))? {
            let (key, value) = row.map_err(|error| failed(error.into()))?;
            let index = key.value();
            if entries.last().is_some_and(|before: &Entry| before.log_id().index + 1 != index) {
                return Err(damaged(&self.path, index, "the entry before it is missing"));
            }
            let entry =
                codec::open_entry(index, value.value()).map_err(|fault| damaged(&self.path, index, &fault.to_string()))?;
            *bytes += size(&entry);
            entries.push(entry);
            if *bytes >= bytes_max {
                return Ok(());
            }
        }
        if entries.last().is_some_and(|last| last.log_id().index + 1 != end) {
            return Err(damaged(&self.path, end - 1, "it is missing"));
        }
        ::metrics::histogram!(metrics::GET_LOG).record(started.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }
}

#[allow(clippy::disallowed_methods)] // reads are timed
fn timer() -> std::time::Instant {
    std::time::Instant::now()
}

impl Tail {
    fn push(&mut self, entry: Entry) {
        self.bytes += size(&entry);
        self.entries.push_back(entry);
    }

    fn range(&self, start: u64, end: u64) -> Vec<Entry> {
        let Some(first) = self.entries.front().map(|entry| entry.log_id().index) else {
            return Vec::new();
        };
        let at = |index: u64| (index.saturating_sub(first) as usize).min(self.entries.len());
        self.entries.range(at(start)..at(end)).cloned().collect()
    }

    /// Everything up to `last` is on disk now.
    fn flushed(&mut self, last: u64) {
        self.flushed_below = last + 1;
        while self.bytes > TAIL_BYTES
            && let Some(entry) = self.entries.pop_front_if(|entry| entry.log_id().index < self.flushed_below)
        {
            self.bytes -= size(&entry);
        }
    }

    fn unflush(&mut self, after: Option<u64>) {
        self.flushed_below = self.flushed_below.min(after.map_or(0, |after| after + 1));
    }

    fn truncate(&mut self, after: Option<u64>) {
        while let Some(entry) = self.entries.pop_back_if(|entry| Some(entry.log_id().index) > after) {
            self.bytes -= size(&entry);
        }
    }

    fn purge(&mut self, through: u64) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.log_id().index <= through) {
            self.bytes -= size(&entry);
        }
    }
}

/// About what an entry takes in memory.
fn size(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        EntryPayload::Normal(Payload(bytes)) => bytes.len(),
        EntryPayload::Blank => 0,
        EntryPayload::Membership(membership) => membership.nodes().count() * 64,
    };
    size_of::<Entry>() + payload
}

fn io_error(error: &redb::Error) -> io::Error {
    io::Error::other(error.to_string())
}

fn damaged(path: &std::path::Path, index: u64, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("entry {index} of the raft log {}: {what}", path.display()))
}

impl LogStore {
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

    /// Only queued: openraft waits for this before each apply.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(id) = committed else { return Ok(()) };
        self.shared.view().committed = Some(id);
        self.ask(Op::Committed(id)).await
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
