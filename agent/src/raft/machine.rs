//! The state machine: committed entries become changes of the catalog. *Change, publish, answer, ring.*
#![allow(clippy::disallowed_methods)] // batches are timed

use std::collections::BTreeSet;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use muster_catalog::{Applied, DecodeError, Index, Proposal, State, Store, Topic};
use openraft::entry::RaftEntry as _;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::Notify;

use super::alarm::Alarm;
use super::error::Failure;
use super::growth::Growth;
use super::metrics::{self, Busy};
use super::snapshot::{Kept, Shelf, SnapshotData};
use super::types::{Answer, Entry, LogId, Payload, SnapshotMeta, StoredMembership, Types};
use crate::error::chain;

/// The engine over this state machine.
pub(super) type Engine = openraft::Raft<Types, Machine>;

type Snapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotData>;

/// Entries applied before they are published: a long stream after a restart is seen in steps, a usual batch in one.
const PUBLISH_EVERY: usize = 1024;

/// How often a snapshot is tried again that found no room on the disk.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(5);

/// Rings the bells of these topics.
type RingTouched = Box<dyn Fn(&BTreeSet<Topic>) + Send + Sync>;
/// Rings all bells.
type RingAll = Box<dyn Fn() + Send + Sync>;

/// Who is told that something changed. Called on raft's thread, after the change is published: they must not block.
pub struct Bells {
    /// Answers on these topics can be different now.
    pub touched: RingTouched,
    /// Everything can be: a snapshot was installed.
    pub all: RingAll,
}

/// The catalog as raft drives it.
pub(super) struct Machine {
    store: Store,
    last: Option<LogId>,
    /// Index of the last entry that readers see.
    pub(super) applied: Arc<Position>,
    /// Time spent on entries.
    pub(super) busy: Busy,
    membership: StoredMembership,
    bells: Bells,
    shelf: Arc<Shelf>,
    pub(super) growth: Growth,
    alarm: Alarm,
}

/// How far readers see.
#[derive(Debug, Default)]
pub(super) struct Position {
    index: AtomicU64,
    moved: Notify,
}

impl Position {
    pub(super) fn get(&self) -> Index {
        self.index.load(Ordering::Acquire)
    }

    fn set(&self, index: Index) {
        self.index.store(index, Ordering::Release);
        self.moved.notify_waiters();
    }

    /// Returns when readers see this entry.
    pub(super) async fn reaches(&self, index: Index) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.get() >= index {
                return;
            }
            moved.await;
        }
    }
}

/// What was applied and is not published yet.
#[derive(Default)]
struct Batch {
    touched: BTreeSet<Topic>,
    /// The tables were replaced: everything can be other.
    replaced: bool,
    answers: Vec<(ApplyResponder<Types>, Answer)>,
    entries: usize,
}

/// What came of one entry.
struct Done {
    answer: Answer,
    touched: BTreeSet<Topic>,
    replaced: bool,
}

impl Machine {
    /// Starts from the snapshot on the shelf, if there is one.
    pub(super) fn new(
        mut store: Store,
        bells: Bells,
        shelf: Arc<Shelf>,
        snapshot: Option<(SnapshotMeta, State)>,
        growth: Growth,
        alarm: Alarm,
    ) -> Self {
        let (mut last, mut membership) = (None, StoredMembership::default());
        if let Some((meta, state)) = snapshot {
            store.install(state);
            (bells.all)();
            last = meta.last_log_id;
            membership = meta.last_membership;
        }
        let applied = Arc::new(Position::default());
        applied.set(last.map_or(0, |id| id.index));
        Self { store, last, applied, busy: Busy::default(), membership, bells, shelf, growth, alarm }
    }

    fn apply_entry(&mut self, entry: Entry) -> io::Result<Done> {
        let id = entry.log_id();
        let done = match entry.payload {
            EntryPayload::Blank => self.pass(id.index),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(id), membership);
                self.pass(id.index)
            }
            EntryPayload::Normal(payload) => {
                self.growth.grow(payload.0.len());
                self.apply_command(id.index, &payload)?
            }
        };
        self.last = Some(id);
        Ok(done)
    }

    fn pass(&mut self, index: Index) -> Done {
        self.store.pass(index);
        Done { answer: Answer(None), touched: BTreeSet::new(), replaced: false }
    }

    fn apply_command(&mut self, index: Index, payload: &Payload) -> io::Result<Done> {
        let proposal = match Proposal::decode(&payload.0) {
            Ok(proposal) => proposal,
            Err(DecodeError::UnknownCommand { tag, skippable: true }) => {
                tracing::warn!(index, tag, "an unknown command that may be skipped is skipped: newer servers know it");
                return Ok(self.pass(index));
            }
            // skipping it would make this server's catalog differ from the others', silently
            Err(error) => return Err(self.stop(Failure::Entry { index, source: Arc::new(error) })),
        };
        // apply is total; should it panic all the same, nothing of it is published, and the failure names the entry
        let store = &mut self.store;
        match std::panic::catch_unwind(AssertUnwindSafe(|| store.apply(index, proposal))) {
            Ok(Applied { outcome, touched, replaced }) => Ok(Done { answer: Answer(Some((index, outcome))), touched, replaced }),
            Err(_) => Err(self.stop(Failure::Apply { index })),
        }
    }

    fn stop(&self, failure: Failure) -> io::Error {
        tracing::error!(error = chain(&failure), "an entry cannot be applied: this server stops");
        let error = io::Error::other(chain(&failure));
        self.alarm.raise(failure);
        error
    }

    /// Publish, answer, ring: who wrote is not made to wait for the thousands who read.
    fn finish(&self, batch: Batch) {
        if batch.entries == 0 {
            return;
        }
        self.store.publish();
        self.applied.set(self.store.state().last_applied());
        // the last one first: who waits for a batch asks after its first, and is woken once, when all answers are there
        for (responder, answer) in batch.answers.into_iter().rev() {
            responder.send(answer);
        }
        if batch.replaced {
            (self.bells.all)();
        } else {
            (self.bells.touched)(&batch.touched); // Even if that is nothing: feeds tell how far the log is.
        }
    }

    fn snapshot_meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let started = Instant::now();
        let mut batch = Batch::default();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let Done { answer, touched, replaced } = match self.apply_entry(entry) {
                Ok(done) => done,
                Err(error) => {
                    self.finish(batch); // what came before the entry is applied, and its writers are told so
                    return Err(error);
                }
            };
            batch.entries += 1;
            batch.touched.extend(touched);
            batch.replaced |= replaced;
            batch.answers.extend(responder.map(|responder| (responder, answer)));
            if batch.entries >= PUBLISH_EVERY {
                self.finish(std::mem::take(&mut batch));
            }
        }
        self.finish(batch);
        self.growth.weigh(|| self.shelf.bytes());
        let took = started.elapsed();
        self.busy.add(took);
        metrics::METERS.fsm_apply.record(took.as_secs_f64() * 1e3);
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let begun = Instant::now();
        self.growth.begin();
        let builder = Builder { begun, meta: self.snapshot_meta(), state: self.store.state().clone(), shelf: self.shelf.clone() };
        ::metrics::histogram!(metrics::SNAPSHOT_CREATE).record(begun.elapsed().as_secs_f64() * 1e3);
        builder
    }

    /// From a peer. It is read whole before anything is replaced.
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let state = match snapshot {
            SnapshotData::Memory(state) => *state,
            file @ SnapshotData::File(_) => {
                let read = blocking(move || file.read().map_err(io::Error::other)).await?;
                if read.0 != *meta {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot is not the one that was announced"));
                }
                read.1
            }
        };
        let (shelf, kept, copy) = (self.shelf.clone(), meta.clone(), state.clone());
        blocking(move || shelf.keep(kept, copy)).await?;
        self.store.install(state);
        self.growth.begin();
        self.last = meta.last_log_id;
        self.applied.set(self.store.state().last_applied());
        self.membership = meta.last_membership.clone();
        (self.bells.all)();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.shelf.current().map(|Kept { meta, data }| Snapshot { meta, snapshot: data }))
    }
}

/// Writes one snapshot of one state, beside raft's thread: a long write there would cost the leader its office.
pub(super) struct Builder {
    begun: Instant,
    meta: SnapshotMeta,
    state: State,
    shelf: Arc<Shelf>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        loop {
            let started = Instant::now();
            let (shelf, meta, state) = (self.shelf.clone(), self.meta.clone(), self.state.clone());
            match blocking(move || shelf.keep(meta, state)).await {
                Ok(Kept { meta, data }) => {
                    let took = started.elapsed();
                    ::metrics::histogram!(metrics::SNAPSHOT_PERSIST).record(took.as_secs_f64() * 1e3);
                    ::metrics::histogram!(metrics::SNAPSHOT_TAKE).record(self.begun.elapsed().as_secs_f64() * 1e3);
                    let index = meta.last_log_id.map(|id| id.index);
                    tracing::info!(index, took_ms = took.as_millis() as u64, "snapshot written");
                    return Ok(Snapshot { meta, snapshot: data });
                }
                // raft takes an error here for a broken disk and ends; a full one only makes the log longer for a while
                Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    tracing::warn!(%error, "no room for a snapshot; it is tried again");
                    tokio::time::sleep(SNAPSHOT_RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
