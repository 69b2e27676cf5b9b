//! The handle the rest of the agent holds: it starts raft, writes through it, asks it, ends it.
#![allow(clippy::disallowed_methods)] // writes are timed

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use muster_catalog::{Index, Outcome, Proposal, Store};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, ForwardToLeader, InitializeError, LinearizableReadError, RaftError};
use openraft::{RaftMetrics, ReadPolicy, ServerState};
use tokio::sync::{Semaphore, oneshot, watch};
use uuid::Uuid;

use super::config::Config;
use super::error::{Failure, StartError, WriteError};
use super::machine::Bells;
use super::metrics;
use super::space::Space;
use super::status::{Status, leader};
use super::thread::{self, Running};
use super::types::{Answer, Payload, Peer, RaftId, Types};

/// Largest encoded command. Consul's keys are at most 512 KB; a registration with everything in it stays far below.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;

/// Bytes of commands that may be between offer and outcome: it bounds what raft holds in memory for writers. Beyond, a write is
/// refused as [`WriteError::Busy`]; more than some hundred small ones at once gain nothing, as they share one fsync already.
pub const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// What the smallest write counts for: 4096 of them fill [`IN_FLIGHT_BYTES_MAX`], about what openraft takes in one append.
const IN_FLIGHT_STEP: usize = 4 << 10;

/// The handle; clones are the same raft. Callable from any runtime.
#[derive(Clone)]
pub struct Raft {
    pub(super) running: Arc<Running>,
    node: Uuid,
    space: Arc<Space>,
    pub(super) in_flight: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

impl std::fmt::Debug for Raft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raft").field("id", &self.running.id).finish_non_exhaustive()
    }
}

impl Raft {
    /// Opens the log and the newest snapshot, applies what is known to be committed, and starts raft on a thread of its own.
    pub async fn start(config: Config, store: Store, bells: Bells) -> Result<Self, StartError> {
        let (ready, started) = oneshot::channel();
        let (ended, stopped) = watch::channel(false);
        let (node, space) = (config.node, Space::new(config.dir.clone(), config.disk_reserve));
        let run = move || {
            thread::serve(config, store, bells, ready);
            ended.send_replace(true);
        };
        let thread = std::thread::Builder::new().name("raft".to_owned()).spawn(run);
        thread.map_err(|error| StartError::Engine(format!("no thread for raft: {error}")))?;
        let started = started.await.unwrap_or_else(|_| Err(StartError::Engine("its thread panicked".to_owned())));
        let running = started?;
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX / IN_FLIGHT_STEP));
        Ok(Self { running: Arc::new(running), node, space: Arc::new(space), in_flight, stopped })
    }

    /// This voter.
    #[cfg(test)]
    pub fn id(&self) -> RaftId {
        self.running.id
    }

    /// Founds a cluster of this one server, if its log has never seen anything; otherwise does nothing. Returns whether it did.
    pub async fn initialize(&self) -> Result<bool, WriteError> {
        if !self.running.pristine {
            return Ok(false);
        }
        match self.running.engine.initialize(BTreeMap::from([(self.running.id, Peer { uuid: self.node })])).await {
            Ok(()) => Ok(true),
            Err(RaftError::APIError(InitializeError::NotAllowed(_) | InitializeError::NotInMembers(_))) => Ok(false),
            Err(RaftError::Fatal(_)) => Err(WriteError::Stopped),
        }
    }

    /// Refuses with [`WriteError::DiskFull`] while writes would be.
    pub fn room(&self) -> Result<(), WriteError> {
        match self.space.full() {
            None => Ok(()),
            Some(path) => {
                ::metrics::counter!(metrics::DISK_FULL).increment(1);
                Err(WriteError::DiskFull { path: path.clone() })
            }
        }
    }

    /// Proposes a command and waits until it is applied: its index and what came of it.
    ///
    /// Whoever drops the future does not take the command back.
    pub async fn write(&self, proposal: &Proposal) -> Result<(Index, Outcome), WriteError> {
        metrics::METERS.apply.increment(1);
        let started = Instant::now();
        self.room()?;
        let bytes = proposal.encode();
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(WriteError::TooLarge { bytes: bytes.len(), max: ENTRY_BYTES_MAX });
        }
        let steps = bytes.len().div_ceil(IN_FLIGHT_STEP).max(1) as u32;
        let Ok(_in_flight) = self.in_flight.try_acquire_many(steps) else {
            ::metrics::counter!(metrics::BUSY).increment(1);
            return Err(WriteError::Busy);
        };
        let written = self.running.engine.client_write(Payload(bytes.into())).await.map_err(|error| match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => WriteError::NotLeader { leader: known(&to) },
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => WriteError::Undecided,
            RaftError::APIError(_) | RaftError::Fatal(_) => WriteError::Stopped,
        })?;
        metrics::METERS.commit_time.record(started.elapsed().as_secs_f64() * 1e3);
        // only entries that are raft's own, or skipped, have no outcome, and this version does not propose what it would skip
        let Answer(Some(answer)) = written.data else { return Err(WriteError::Undecided) };
        Ok(answer)
    }

    /// The index that a read must have seen to be behind no acknowledged write; asks a majority that this server still leads.
    pub async fn read_index(&self) -> Result<Index, WriteError> {
        match self.running.engine.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(error)) => {
                let leader = match &error {
                    LinearizableReadError::ForwardToLeader(to) => known(to),
                    _ => None,
                };
                Err(WriteError::NotLeader { leader })
            }
            Err(RaftError::Fatal(_)) => Err(WriteError::Stopped),
        }
    }

    /// Returns once this server leads and everything in its log is applied: no read after this is behind what was acknowledged
    /// before a restart. Where another server leads it waits for this one's turn, so ask [`Raft::leader`] first.
    pub async fn settled(&self) -> Result<(), WriteError> {
        // an applied entry of the leader's own term: everything before it in the log is committed and applied, too
        let settled = |m: &RaftMetrics<Types>| {
            m.state == ServerState::Leader && m.last_applied.is_some_and(|applied| *applied.leader_id == m.current_term)
        };
        let metrics = self.running.engine.wait(None).metrics(settled, "leader with an applied entry of its term").await;
        metrics.map(|_| ()).map_err(|_| WriteError::Stopped)
    }

    /// The leader's voter and node, if one is known.
    pub fn leader(&self) -> Option<(RaftId, Uuid)> {
        leader(&self.running.engine.metrics().borrow_watched())
    }

    /// This server leads.
    pub fn is_leader(&self) -> bool {
        self.running.engine.is_leader()
    }

    /// Last entry applied to the catalog.
    pub fn applied_index(&self) -> Index {
        self.running.applied.load(Ordering::Acquire)
    }

    /// All of it, of one moment.
    pub fn status(&self) -> Status {
        Status::new(&self.running.engine.metrics().borrow_watched(), self.applied_index())
    }

    /// Asks for a snapshot now; it is written beside everything else.
    #[cfg(test)]
    pub async fn trigger_snapshot(&self) -> Result<(), WriteError> {
        self.running.engine.trigger().snapshot().await.map_err(|_| WriteError::Stopped)
    }

    /// Returns when raft has stopped for good, with the reason: the agent tells it and exits.
    pub async fn failed(&self) -> Failure {
        self.running.alarm.raised().await
    }

    /// Ends raft; returns when its threads have ended and its files are closed. Writes under way are answered `Stopped`.
    pub async fn shutdown(self) {
        self.running.stop.send_replace(true);
        let mut stopped = self.stopped.clone();
        stopped.wait_for(|stopped| *stopped).await.ok(); // a thread that is gone without a word has ended, too
    }
}

fn known(to: &ForwardToLeader<Types>) -> Option<(RaftId, Uuid)> {
    Some((to.leader_id?, to.leader_node?.uuid))
}
