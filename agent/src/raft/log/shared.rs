//! What the log's writer and its readers share: the file, the state of the log, and the memory tail.

use std::collections::VecDeque;
use std::io;
use std::ops::{Bound, ControlFlow, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard};

use openraft::EntryPayload;
use openraft::entry::RaftEntry as _;
use redb::{Database, ReadableDatabase};

use super::file::{self, Misread};
use crate::raft::metrics;
use crate::raft::types::{Entry, LogId, Payload, Vote};

/// Flushed entries kept in memory: the state machine reads them a moment after their commit, and then no disk is asked.
/// A commit of 64 small writes is 20 KB; this holds fifty of them, or two of the largest keys.
pub(super) const TAIL_BYTES: usize = 1 << 20;

/// One log, open.
pub(super) struct Shared {
    pub(super) db: Database,
    pub(super) path: PathBuf,
    pub(super) view: Mutex<View>,
    pub(super) commits: AtomicU64,
}

/// The log as its readers see it: ahead of the disk by what is in the queue.
pub(super) struct View {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    pub(super) tail: Tail,
}

/// The newest entries without a gap: all that are not flushed, and some that are.
#[derive(Default)]
pub(super) struct Tail {
    pub(super) entries: VecDeque<Entry>,
    bytes: usize,
    /// All entries below this index are on disk.
    flushed_below: u64,
}

impl Shared {
    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("no holder panics: they move values in memory")
    }

    /// Entries of the range that the log has, without a gap; at most about `bytes_max` of them, but at least one.
    pub(super) fn read(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
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
        let tx = self.db.begin_read().map_err(|error| io_error(&error.into()))?;
        let read = file::each_entry(&tx, start, &mut |entry| {
            if entry.log_id().index >= end {
                return ControlFlow::Break(()); // what is asked for was never in the log, which begins behind it
            }
            let last = entry.log_id().index + 1 == end;
            *bytes += size(&entry);
            entries.push(entry);
            if last || *bytes >= bytes_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        read.map_err(|misread| match misread {
            Misread::Table(error) => io_error(&error),
            Misread::Missing { index, .. } | Misread::Entry { index, .. } => damaged(&self.path, index, &misread.to_string()),
        })?;
        if *bytes < bytes_max && entries.last().is_some_and(|last| last.log_id().index + 1 != end) {
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
    pub(super) fn push(&mut self, entry: Entry) {
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
    pub(super) fn flushed(&mut self, last: u64) {
        self.flushed_below = last + 1;
        while self.bytes > TAIL_BYTES
            && let Some(entry) = self.entries.pop_front_if(|entry| entry.log_id().index < self.flushed_below)
        {
            self.bytes -= size(&entry);
        }
    }

    pub(super) fn unflush(&mut self, after: Option<u64>) {
        self.flushed_below = self.flushed_below.min(after.map_or(0, |after| after + 1));
    }

    pub(super) fn truncate(&mut self, after: Option<u64>) {
        while let Some(entry) = self.entries.pop_back_if(|entry| Some(entry.log_id().index) > after) {
            self.bytes -= size(&entry);
        }
    }

    pub(super) fn purge(&mut self, through: u64) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.log_id().index <= through) {
            self.bytes -= size(&entry);
        }
    }
}

/// About what an entry takes in memory.
pub(super) fn size(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        EntryPayload::Normal(Payload(bytes)) => bytes.len(),
        EntryPayload::Blank => 0,
        EntryPayload::Membership(membership) => membership.nodes().count() * 64,
    };
    size_of::<Entry>() + payload
}

pub(super) fn io_error(error: &redb::Error) -> io::Error {
    io::Error::other(error.to_string())
}

fn damaged(path: &Path, index: u64, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("entry {index} of the raft log {}: {what}", path.display()))
}
