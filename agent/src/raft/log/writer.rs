//! The one thread that writes the log: it takes all operations that wait, makes one commit of them, and answers them in order.
#![allow(clippy::disallowed_methods)] // commits are timed

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use openraft::entry::RaftEntry as _;
use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::file::{Acknowledged, COMMITTED, ENTRIES, HEADER, PURGED, VOTE};
use super::shared::{self, Shared, io_error};
use crate::raft::alarm::Alarm;
use crate::raft::codec::{self, Kind};
use crate::raft::error::Failure;
use crate::raft::metrics;
use crate::raft::types::{Entry, LogId, Types, Vote};

/// Bytes of entries in one commit; more wait for the next. It bounds the memory of a transaction; at this size the fsync is
/// long paid for.
const COMMIT_BYTES_MAX: usize = 8 << 20;

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
    /// Written with the next commit, not by one of its own: without it a restart learns the same from the next leader.
    Committed(LogId),
    Purge(LogId),
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Op::Append { entries, .. } => entries.iter().map(shared::size).sum(),
            Op::Vote { .. } | Op::Truncate { .. } | Op::Committed(_) | Op::Purge(_) => 64,
        }
    }

    fn answer(self, result: Result<(), &Arc<redb::Error>>) {
        match self {
            Op::Append { done, .. } => done.io_completed(result.map_err(|error| io_error(error))),
            Op::Vote { done, .. } | Op::Truncate { done, .. } => {
                done.send(result.map_err(Arc::clone)).ok(); // who asked has gone with the runtime
            }
            Op::Committed(_) | Op::Purge(_) => {}
        }
    }
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: mpsc::Receiver<Op>,
    /// `None` in memory.
    pub(super) acknowledged: Option<Acknowledged>,
    pub(super) alarm: Alarm,
    /// Waits for the next commit.
    pub(super) committed: Option<LogId>,
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
            match self.write(&batch) {
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
        if failed.is_none() && self.committed.is_some() {
            // the last word, so that the next start applies at once what was applied here
            if let Err(error) = self.commit(&[]) {
                tracing::warn!(path = %self.shared.path.display(), %error, "the last commit index was not noted");
            }
        }
    }

    fn write(&mut self, batch: &[Op]) -> Result<(), redb::Error> {
        let mut waits = false;
        for op in batch {
            match op {
                Op::Committed(id) => self.committed = Some(*id),
                _ => waits = true,
            }
        }
        if waits { self.commit(batch) } else { Ok(()) }
    }

    /// One transaction, one fsync.
    fn commit(&mut self, batch: &[Op]) -> Result<(), redb::Error> {
        let started = Instant::now();
        let (mut count, mut bytes) = (0, 0);
        // where the log ends after this commit, and the lowest end on the way there
        let (mut end, mut lowest): (Option<Option<u64>>, Option<Option<u64>>) = (None, None);
        #[cfg(test)]
        slow::wait(&self.shared.path);
        let tx = self.shared.db.begin_write()?;
        {
            let mut header = tx.open_table(HEADER)?;
            let mut table = tx.open_table(ENTRIES)?;
            for op in batch {
                match op {
                    Op::Append { entries, .. } => {
                        for entry in entries {
                            let index = entry.log_id().index;
                            let record = codec::seal_entry(entry);
                            table.insert(index, record.as_slice())?;
                            count += 1;
                            bytes += record.len();
                            end = Some(Some(index));
                        }
                    }
                    Op::Vote { vote, .. } => {
                        header.insert(VOTE, codec::seal_vote(vote).as_slice())?;
                    }
                    Op::Truncate { after, .. } => {
                        let first = after.map_or(0, |after| after + 1);
                        table.retain_in(first.., |_, _| false)?;
                        end = Some(*after);
                        lowest = Some(lowest.map_or(*after, |lowest| lowest.min(*after)));
                    }
                    Op::Purge(id) => {
                        table.retain_in(..=id.index, |_, _| false)?;
                        header.insert(PURGED, codec::seal_log_id(Kind::Purged, *id).as_slice())?;
                    }
                    Op::Committed(_) => {}
                }
            }
            if let Some(id) = self.committed {
                header.insert(COMMITTED, codec::seal_log_id(Kind::Committed, id).as_slice())?;
            }
        }
        if let (Some(lowest), Some(acknowledged)) = (lowest, &self.acknowledged) {
            acknowledged.set(lowest);
        }
        tx.commit()?;
        self.committed = None;
        if let (Some(end), Some(acknowledged)) = (end, &self.acknowledged) {
            acknowledged.set(end);
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
                Op::Committed(_) | Op::Purge(_) => {}
            }
        }
    }
}

/// Disks that take their time, for tests.
#[cfg(test)]
pub(super) mod slow {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;
    use std::time::Duration;

    static DISKS: Mutex<BTreeMap<PathBuf, Duration>> = Mutex::new(BTreeMap::new());

    /// Each commit of the log in this directory takes so much longer.
    pub(in crate::raft) fn slow_disk(dir: &Path, by: Duration) {
        DISKS.lock().unwrap().insert(dir.to_owned(), by);
    }

    pub(super) fn wait(log: &Path) {
        let by = log.parent().and_then(|dir| DISKS.lock().unwrap().get(dir).copied());
        std::thread::sleep(by.unwrap_or_default());
    }
}
