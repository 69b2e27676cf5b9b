//! The one thread that writes the log: it takes all operations that wait, makes one commit of them, and answers them in order.
#![allow(clippy::disallowed_methods)] // commits are timed

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use openraft::entry::RaftEntry as _;
use openraft::storage::IOFlushed;
use redb::{ReadableTable as _, Table};
use tokio::sync::{mpsc, oneshot};

use super::file::{Acknowledged, ENTRIES, HEADER, PURGED, VOTE};
use super::shared::{self, Shared, io_error};
use crate::raft::alarm::Alarm;
use crate::raft::codec::{self, Kind};
use crate::raft::error::Failure;
use crate::raft::metrics;
use crate::raft::types::{Entry, LogId, Types, Vote};

/// Bytes of entries in one commit; more wait for the next. It bounds the memory of a transaction; at this size the fsync is
/// long paid for.
const COMMIT_BYTES_MAX: usize = 8 << 20;

/// Bytes of records in one row, from which on the next entry begins another: what a reader of one entry has to go through, and what a
/// purge may leave behind. Rows of some KB each cost no more a byte than longer ones.
const ROW_BYTES_MAX: usize = 48 << 10;

/// What the log is asked to do, in the order in which it must happen: a vote and the entries under it share one queue, for an
/// entry that is durable before its vote can lose committed data.
pub(super) enum Op {
    Append {
        entries: Vec<Entry>,
        done: IOFlushed<Types>,
    },
    Vote {
        vote: Vote,
        done: oneshot::Sender<Result<(), Arc<redb::Error>>>,
    },
    /// Everything above `after` goes, everything if `None`.
    Truncate {
        after: Option<u64>,
        done: oneshot::Sender<Result<(), Arc<redb::Error>>>,
    },
    Purge(LogId),
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Op::Append { entries, .. } => entries.iter().map(shared::size).sum(),
            Op::Vote { .. } | Op::Truncate { .. } | Op::Purge(_) => 64,
        }
    }

    fn answer(self, result: Result<(), &Arc<redb::Error>>) {
        match self {
            Op::Append { done, .. } => done.io_completed(result.map_err(|error| io_error(error))),
            Op::Vote { done, .. } | Op::Truncate { done, .. } => {
                done.send(result.map_err(Arc::clone)).ok(); // who asked has gone with the runtime
            }
            Op::Purge(_) => {}
        }
    }
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: mpsc::Receiver<Op>,
    /// `None` in memory.
    pub(super) acknowledged: Option<Acknowledged>,
    pub(super) alarm: Alarm,
    /// Where the log ends on the disk.
    pub(super) end: Option<u64>,
    /// The row that is being put together.
    pub(super) row: Row,
}

impl Writer {
    /// Runs until all senders are gone.
    pub(super) fn run(mut self) {
        let mut failed = None;
        while let Some(first) = self.queue.blocking_recv() {
            let mut bytes = first.bytes();
            let mut batch = vec![first];
            while bytes < COMMIT_BYTES_MAX
                && let Ok(op) = self.queue.try_recv()
            {
                bytes += op.bytes();
                batch.push(op);
            }
            if let Some(error) = &failed {
                batch.into_iter().for_each(|op| op.answer(Err(error)));
                continue;
            }
            match self.commit(&batch) {
                Ok(()) => batch.into_iter().for_each(|op| op.answer(Ok(()))),
                Err(error) => {
                    let error = Arc::new(error);
                    tracing::error!(path = %self.shared.path.display(), %error, "the raft log could not be written: this server stops");
                    self.alarm.raise(Failure::Log { path: self.shared.path.clone(), source: error.clone() });
                    batch.into_iter().for_each(|op| op.answer(Err(&error)));
                    failed = Some(error);
                }
            }
        }
        if failed.is_none()
            && let Some(acknowledged) = &self.acknowledged
        {
            // the last word, so that the next start applies at once what was applied here
            acknowledged.set(self.end, self.committed(self.end));
        }
    }

    /// What raft has committed, as far as it is on the disk.
    fn committed(&self, end: Option<u64>) -> Option<LogId> {
        let committed = self.shared.view().committed;
        committed.filter(|id| Some(id.index) <= end)
    }

    /// One transaction, one fsync.
    fn commit(&mut self, batch: &[Op]) -> Result<(), redb::Error> {
        let started = Instant::now();
        let (mut count, mut bytes) = (0, 0);
        // where the log ends after this commit, and the lowest end on the way there
        let (mut end, mut lowest) = (self.end, None);
        #[cfg(test)]
        slow::wait(&self.shared.path);
        let tx = self.shared.db.begin_write()?;
        {
            let mut table = tx.open_table(ENTRIES)?;
            for op in batch {
                match op {
                    Op::Append { entries, .. } => {
                        for entry in entries {
                            bytes += self.row.push(&mut table, entry)?;
                            count += 1;
                            end = Some(entry.log_id().index);
                        }
                    }
                    Op::Vote { vote, .. } => {
                        tx.open_table(HEADER)?.insert(VOTE, codec::seal_vote(vote).as_slice())?;
                    }
                    Op::Truncate { after, .. } => {
                        self.row.finish(&mut table)?;
                        truncate(&mut table, after.map_or(0, |after| after + 1))?;
                        end = *after;
                        lowest = Some(lowest.map_or(*after, |lowest: Option<u64>| lowest.min(*after)));
                    }
                    Op::Purge(id) => {
                        self.row.finish(&mut table)?;
                        purge(&mut table, id.index)?;
                        tx.open_table(HEADER)?.insert(PURGED, codec::seal_log_id(Kind::Purged, *id).as_slice())?;
                        end = end.max(Some(id.index));
                    }
                }
            }
            self.row.finish(&mut table)?;
        }
        if let (Some(lowest), Some(acknowledged)) = (lowest, &self.acknowledged) {
            acknowledged.set(lowest, self.committed(lowest));
        }
        tx.commit()?;
        self.end = end;
        if let Some(acknowledged) = &self.acknowledged {
            acknowledged.set(end, self.committed(end));
        }
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.flushed(batch);
        if count > 0 {
            metrics::METERS.store_logs.record(started.elapsed().as_secs_f64() * 1e3);
            metrics::METERS.logs_per_batch.record(f64::from(count));
            metrics::METERS.log_batch_size.record(bytes as f64);
        }
        Ok(())
    }

    /// What is on disk need not stay in memory, and what a reader may rely on is told.
    fn flushed(&self, batch: &[Op]) {
        let mut view = self.shared.view();
        for op in batch {
            match op {
                Op::Append { entries, .. } => {
                    if let Some(entry) = entries.last() {
                        view.tail.flushed(entry.log_id().index);
                    }
                }
                Op::Vote { vote, .. } => view.vote = Some(*vote),
                Op::Truncate { after, .. } => view.tail.unflush(*after),
                Op::Purge(_) => {}
            }
        }
    }
}

/// Entries that are written together, as they lie on the disk.
#[derive(Default)]
pub(super) struct Row {
    first: u64,
    records: Vec<u8>,
}

impl Row {
    /// Puts an entry behind the others, and says how many bytes it takes.
    fn push(&mut self, table: &mut Entries<'_>, entry: &Entry) -> Result<usize, redb::Error> {
        if self.records.len() >= ROW_BYTES_MAX {
            self.finish(table)?;
        }
        let before = self.records.len();
        if before == 0 {
            self.first = entry.log_id().index;
        }
        codec::seal_entry(&mut self.records, entry);
        Ok(self.records.len() - before)
    }

    fn finish(&mut self, table: &mut Entries<'_>) -> Result<(), redb::Error> {
        if !self.records.is_empty() {
            table.insert(self.first, self.records.as_slice())?;
            self.records.clear();
            self.records.shrink_to(ROW_BYTES_MAX);
        }
        Ok(())
    }
}

type Entries<'t> = Table<'t, u64, &'static [u8]>;

/// Takes out everything from this entry on.
fn truncate(table: &mut Entries<'_>, first: u64) -> Result<(), redb::Error> {
    table.retain_in(first.., |_, _| false)?;
    let cut = match table.range(..first)?.next_back().transpose()? {
        Some((key, row)) => {
            let (key, row) = (key.value(), row.value());
            let kept = (first - key).try_into().unwrap_or(usize::MAX);
            let kept = codec::records(row).take(kept).map(|record| record.map(<[u8]>::len)).sum::<Result<usize, _>>();
            let kept = kept.map_err(|fault| redb::Error::Corrupted(format!("the row of entry {key}: {fault}")))?;
            (kept < row.len()).then(|| (key, row[..kept].to_vec()))
        }
        None => None,
    };
    if let Some((key, kept)) = cut {
        table.insert(key, kept.as_slice())?;
    }
    Ok(())
}

/// Takes out the rows that have nothing behind this entry.
fn purge(table: &mut Entries<'_>, last: u64) -> Result<(), redb::Error> {
    let row = table.range(..=last)?.next_back().transpose()?;
    let Some((key, row)) = row.map(|(key, row)| (key.value(), codec::records(row.value()).count() as u64)) else { return Ok(()) };
    let end = if key + row > last + 1 { key } else { last + 1 };
    table.retain_in(..end, |_, _| false)?;
    Ok(())
}

/// Disks that take their time, for tests.
#[cfg(test)]
pub(crate) mod slow {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;
    use std::time::Duration;

    static DISKS: Mutex<BTreeMap<PathBuf, Duration>> = Mutex::new(BTreeMap::new());

    /// Each commit of the log in this directory takes so much longer.
    pub(crate) fn slow_disk(dir: &Path, by: Duration) {
        DISKS.lock().unwrap().insert(dir.to_owned(), by);
    }

    pub(super) fn wait(log: &Path) {
        let by = log.parent().and_then(|dir| DISKS.lock().unwrap().get(dir).copied());
        std::thread::sleep(by.unwrap_or_default());
    }
}
