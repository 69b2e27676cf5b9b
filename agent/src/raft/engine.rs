//! The handle the rest of the agent holds: it starts raft, writes through it, asks it, ends it.
#![allow(clippy::disallowed_methods)] // writes are timed

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_catalog::{Index, Outcome, Store};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use uuid::Uuid;

use super::config::Config;
use super::error::{Failure, StartError, WriteError};
use super::gather::{Gather, propose};
use super::machine::Bells;
use super::metrics;
use super::snapshot::Gathering;
use super::space::Space;
use super::status::{Status, leader};
use super::thread::{self, Running};
use super::types::{Payload, RaftId, Types};

/// Largest encoded command. Consul's keys are at most 512 KB; a registration with everything in it stays far below.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;

/// Bytes of commands that may be between offer and outcome: it bounds what raft holds in memory for writers. Beyond, a write is
/// refused as [`WriteError::Busy`]; more than some hundred small ones at once gain nothing, as they share one fsync already.
pub const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// What the smallest write counts for: 4096 of them fill [`IN_FLIGHT_BYTES_MAX`], about what openraft takes in one append.
const IN_FLIGHT_STEP: usize = 4 << 10;

/// How long a write waits while leadership is handed over; it takes some milliseconds.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Silence after which no leader is known any more: an election by timers is over in that time.
const SILENCE_MAX: Duration = Duration::from_millis(1500);

/// The handle; clones are the same raft. Callable from any runtime.
#[derive(Clone)]
pub struct Raft {
    pub(super) running: Arc<Running>,
    node: Uuid,
    dir: Option<Arc<Path>>,
    space: Arc<Space>,
    pub(super) in_flight: Arc<Semaphore>,
    gather: Gather,
    /// True while leadership is handed over: new writes wait, for a moment.
    pub(super) pause: Arc<watch::Sender<bool>>,
    /// A leader's snapshot on its way in.
    pub(super) gathering: Arc<tokio::sync::Mutex<Option<Gathering>>>,
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
        let dir = config.dir.as_deref().map(Arc::from);
        let run = move || {
            thread::serve(config, store, bells, ready);
            ended.send_replace(true);
        };
        let thread = std::thread::Builder::new().name("raft".to_owned()).spawn(run);
        thread.map_err(|error| StartError::Engine(format!("no thread for raft: {error}")))?;
        let started = started.await.unwrap_or_else(|_| Err(StartError::Engine("its thread panicked".to_owned())));
        let running = started?;
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX / IN_FLIGHT_STEP));
        let (pause, gathering) = (Arc::new(watch::Sender::new(false)), Arc::default());
        Ok(Self {
            running: Arc::new(running),
            node,
            dir,
            space: Arc::new(space),
            in_flight,
            gather: Gather::default(),
            pause,
            gathering,
            stopped,
        })
    }

    /// This voter.
    pub fn id(&self) -> RaftId {
        self.running.id
    }

    /// Founds a cluster of this one server, if its log has never seen anything; otherwise does nothing. Returns whether it did.
    pub async fn initialize(&self) -> Result<bool, WriteError> {
        self.found(&BTreeMap::from([(self.running.id, self.node)])).await
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

    /// Whether the disk takes so many bytes and keeps its reserve.
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        self.space.has_room_for(bytes)
    }

    /// Proposes a command and waits until it is applied: its index and what came of it.
    ///
    /// Whoever drops the future does not take the command back.
    #[cfg(test)]
    pub async fn write(&self, proposal: &muster_catalog::Proposal) -> Result<(Index, Outcome), WriteError> {
        self.write_encoded(proposal.encode().into()).await
    }

    /// As [`Raft::write`], of a command that is encoded already.
    pub async fn write_encoded(&self, bytes: Bytes) -> Result<(Index, Outcome), WriteError> {
        metrics::METERS.apply.increment(1);
        let started = Instant::now();
        self.room()?;
        self.go().await;
        let alone = self.in_flight.available_permits() == IN_FLIGHT_BYTES_MAX / IN_FLIGHT_STEP;
        let _in_flight = self.admit(&bytes)?;
        let written = self.gather.write(&self.running.engine, Payload(bytes), alone).await;
        metrics::METERS.commit_time.record(started.elapsed().as_secs_f64() * 1e3);
        written
    }

    /// Proposes many commands at once, in this order; each gets its own answer, in the same order.
    pub async fn write_many(&self, commands: Vec<Bytes>) -> Vec<Result<(Index, Outcome), WriteError>> {
        metrics::METERS.apply.increment(commands.len() as u64);
        let started = Instant::now();
        if let Err(full) = self.room() {
            return vec![Err(full); commands.len()];
        }
        let mut answers: Vec<Result<(Index, Outcome), WriteError>> = Vec::with_capacity(commands.len());
        self.go().await;
        let (mut permits, mut admitted) = (Vec::with_capacity(commands.len()), Vec::with_capacity(commands.len()));
        for bytes in commands {
            answers.push(Err(WriteError::Stopped)); // until another answer comes
            match self.admit(&bytes) {
                Ok(permit) => {
                    permits.push(permit);
                    admitted.push((answers.len() - 1, Payload(bytes)));
                }
                Err(error) => *answers.last_mut().expect("it was just pushed") = Err(error),
            }
        }
        let (places, payloads): (Vec<usize>, Vec<Payload>) = admitted.into_iter().unzip();
        for (place, written) in places.into_iter().zip(propose(&self.running.engine, payloads).await) {
            answers[place] = written;
        }
        // whoever sent them here waits until its own readers see them
        if let Some(last) = answers.iter().flatten().map(|(index, _)| *index).max() {
            self.running.awaited.at(last);
        }
        metrics::METERS.commit_time.record(started.elapsed().as_secs_f64() * 1e3);
        answers
    }

    /// Returns at once, or when leadership has been handed over.
    async fn go(&self) {
        if *self.pause.borrow() {
            let waited = async { self.pause.subscribe().wait_for(|paused| !paused).await.is_ok() };
            Box::pin(tokio::time::timeout(PAUSE_MAX, waited)).await.ok(); // a write that comes too early is told who leads
        }
    }

    /// Whether there is room for one more command under way.
    fn admit(&self, bytes: &Bytes) -> Result<SemaphorePermit<'_>, WriteError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(WriteError::TooLarge { bytes: bytes.len(), max: ENTRY_BYTES_MAX });
        }
        let steps = bytes.len().div_ceil(IN_FLIGHT_STEP).max(1) as u32;
        self.in_flight.try_acquire_many(steps).map_err(|_| {
            ::metrics::counter!(metrics::BUSY).increment(1);
            WriteError::Busy
        })
    }

    /// Returns once this server leads and everything in its log is applied: no read after this is behind what was acknowledged
    /// before a restart. Where another server leads it waits for this one's turn, so ask [`Raft::leader`] first.
    pub async fn settled(&self) -> Result<(), WriteError> {
        let engine = &self.running.engine;
        // Whoever follows is told of each entry by the metrics as a whole, and of what it is by these alone.
        let mut states = engine.server_metrics();
        // an applied entry of the leader's own term: everything before it in the log is committed and applied, too
        let settled = |m: &RaftMetrics<Types>| {
            m.state == ServerState::Leader && m.last_applied.is_some_and(|applied| *applied.leader_id == m.current_term)
        };
        loop {
            until(&mut states, |state| state == ServerState::Leader).await?;
            let wait = engine.wait(None);
            tokio::select! {
                metrics = wait.metrics(settled, "leader with an applied entry of its term") => {
                    return metrics.map(|_| ()).map_err(|_| WriteError::Stopped);
                }
                over = until(&mut states, |state| state != ServerState::Leader) => over?,
            }
        }
    }

    /// The leader's voter and node, if one is known.
    pub fn leader(&self) -> Option<(RaftId, Uuid)> {
        leader(&self.running.metrics.borrow_watched())
    }

    /// No other server has a vote: what this one has applied is all there is.
    pub fn is_alone(&self) -> bool {
        // without rounds it was started without peers
        self.running.rounds.is_none() || self.is_the_only_voter(&self.running.metrics.borrow_watched())
    }

    fn is_the_only_voter(&self, metrics: &RaftMetrics<Types>) -> bool {
        let voters = metrics.membership_config.membership().get_joint_config();
        matches!(voters.as_slice(), [all] if all.len() == 1 && all.contains(&self.running.id))
    }

    /// Whether a leader is known, and how long ago it was last heard of: 0 on the leader itself while a majority hears it.
    pub fn contact(&self) -> (bool, Option<Duration>) {
        let metrics = self.running.metrics.borrow_watched();
        if metrics.state == ServerState::Leader {
            if self.running.rounds.is_none() || self.is_the_only_voter(&metrics) {
                return (true, Some(Duration::ZERO)); // nobody acknowledges anything to the only voter
            }
            let acked = metrics.last_quorum_acked.map(|at| openraft::Instant::elapsed(&*at));
            let hears = acked.is_none_or(|ago| ago < SILENCE_MAX);
            return (hears, if hears { Some(Duration::ZERO) } else { acked });
        }
        let heard = self.running.heard.ago();
        (metrics.current_leader.is_some() && heard.is_some_and(|ago| ago < SILENCE_MAX), heard)
    }

    /// Everything that is known to be committed is applied.
    pub fn is_level(&self) -> bool {
        let committed = self.running.metrics.borrow_watched().local_committed.map_or(0, |id| id.index);
        self.applied_index() >= committed
    }

    /// Returns when that node is not the leader as far as is known here: what waits for its answer may look elsewhere.
    pub async fn leads_no_more(&self, node: Uuid) {
        let elsewhere = |m: &RaftMetrics<Types>| leader(m).is_none_or(|(_, leads)| leads != node);
        self.running.engine.wait(None).metrics(elsewhere, "another leader, or none").await.ok(); // raft has ended: it leads no more
    }

    /// This server leads.
    pub fn is_leader(&self) -> bool {
        self.running.engine.is_leader()
    }

    /// Last entry applied to the catalog.
    pub fn applied_index(&self) -> Index {
        self.running.applied.get()
    }

    /// All of it, of one moment.
    pub fn status(&self) -> Status {
        Status::new(&self.running.metrics.borrow_watched(), self.applied_index())
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

    /// Returns when readers see this entry.
    pub async fn applied(&self, index: Index) {
        self.running.applied.reaches(index).await;
    }

    /// Where its files lie; `None` in memory.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Ends raft; returns when its threads have ended and its files are closed. Writes under way are answered `Stopped`.
    pub async fn shutdown(self) {
        self.running.stop.send_replace(true);
        let mut stopped = self.stopped.clone();
        stopped.wait_for(|stopped| *stopped).await.ok(); // a thread that is gone without a word has ended, too
    }
}

type States = WatchReceiverOf<Types, RaftServerMetrics<Types>>;

/// Returns once this holds of what the server is.
async fn until(states: &mut States, holds: impl Fn(ServerState) -> bool) -> Result<(), WriteError> {
    while !holds(states.borrow_watched().state) {
        states.changed().await.map_err(|_| WriteError::Stopped)?;
    }
    Ok(())
}
