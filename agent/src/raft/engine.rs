//! Starting raft, the handle the rest of the agent holds, and ending it.
#![allow(clippy::disallowed_methods)] // writes are timed; the watcher is raft's own task and ends with its runtime

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_catalog::{Index, Outcome, Proposal, Store};
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, ForwardToLeader, InitializeError, RaftError};
use openraft::{RaftMetrics, ReadPolicy, ServerState, SnapshotPolicy};
use tokio::sync::{Semaphore, oneshot, watch};
use uuid::Uuid;

use super::alarm::Alarm;
use super::error::{Failure, StartError, WriteError};
use super::log::{Dir, Log};
use super::machine::{Bells, Machine};
use super::metrics;
use super::network::Network;
use super::snapshot::Shelf;
use super::space::{DISK_RESERVE, Space};
use super::types::{Answer, Payload, Peer, RaftId, Types};

/// Largest encoded command. Consul's keys are at most 512 KB; a registration with everything in it stays far below.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;

/// Bytes of commands that may be between offer and outcome; beyond, a write is refused as [`WriteError::Busy`]. A disk that
/// syncs 250 times a second still takes four seconds' worth of small writes in this.
pub const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// What the smallest write counts for: 4096 of them fill [`IN_FLIGHT_BYTES_MAX`], which is also the number that measured best.
const IN_FLIGHT_STEP: usize = 4 << 10;

/// Log entries removed by one transaction: openraft's default of 1 makes each a commit of its own.
const PURGE_BATCH: u64 = 1024;

/// How long a peer may take to install a snapshot; 61 MB took 0.4 s on one host, a slow line takes its time.
const INSTALL_SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

type Engine = openraft::Raft<Types, Machine>;

/// What raft is told at the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where log and snapshots lie; `None` keeps them in memory.
    pub dir: Option<PathBuf>,
    /// The node whose voter this is.
    pub node: Uuid,
    /// How often a leader is heard of.
    pub heartbeat: Duration,
    /// Silence after which a server stands for election: somewhere from the first to the second.
    pub election: (Duration, Duration),
    /// Entries after which a snapshot is written.
    pub snapshot_threshold: u64,
    /// Entries kept behind a snapshot, for peers that are a little behind.
    pub trailing_logs: u64,
    /// Free space on the disk below which writes are refused.
    pub disk_reserve: u64,
}

impl Config {
    /// The calm timers: they are for silence only, a leader that is seen to be dead is replaced at once.
    pub fn new(dir: Option<PathBuf>, node: Uuid) -> Self {
        Self {
            dir,
            node,
            heartbeat: Duration::from_millis(100),
            election: (Duration::from_millis(400), Duration::from_millis(600)),
            snapshot_threshold: 16384,
            trailing_logs: 10240,
            disk_reserve: DISK_RESERVE,
        }
    }

    fn engine(&self) -> Result<openraft::Config, StartError> {
        let millis = |duration: Duration| duration.as_millis() as u64;
        let config = openraft::Config {
            cluster_name: "muster".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election.0),
            election_timeout_max: millis(self.election.1),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_threshold),
            max_in_snapshot_log_to_keep: self.trailing_logs,
            purge_batch_size: PURGE_BATCH,
            install_snapshot_timeout: millis(INSTALL_SNAPSHOT_TIMEOUT),
            backoff: "50ms".to_owned(),
            // a server that comes back with a stale clock of terms must not depose a leader that others hear
            enable_pre_vote: Some(true),
            // without it an old leader can block a connected quorum for ever (openraft issue 2080)
            quorum_loss_probe_interval: Some(3 * millis(self.election.1)),
            // a restarted leader would report itself leader in its old term until it hears of the new one
            enable_leader_restore: Some(false),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| StartError::Engine(error.to_string()))
    }
}

/// What this server is among the voters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Has the log, no vote.
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// Has stopped.
    Shutdown,
}

/// Raft as an operator sees it.
#[derive(Debug, Clone)]
pub struct Status {
    /// This voter.
    pub id: RaftId,
    /// What it is.
    pub role: Role,
    /// The current term.
    pub term: u64,
    /// The leader's voter and node, if one is known.
    pub leader: Option<(RaftId, Uuid)>,
    /// Last entry in the log.
    pub last_log_index: Index,
    /// Term of the last applied entry.
    pub last_log_term: u64,
    /// Last entry known to be committed.
    pub commit_index: Index,
    /// Last entry applied to the catalog.
    pub applied_index: Index,
    /// Entry the newest snapshot stands for; 0 if there is none.
    pub last_snapshot_index: Index,
    /// Its term.
    pub last_snapshot_term: u64,
    /// Voters other than this one.
    pub num_peers: usize,
    /// All servers: voter, node, and whether it votes.
    pub configuration: Vec<(RaftId, Uuid, bool)>,
    /// Entry that made the configuration.
    pub configuration_index: Index,
    /// Time since a majority was last heard of; only on a leader.
    pub last_contact: Option<Duration>,
}

/// The handle; clones are the same raft. Callable from any runtime.
#[derive(Clone)]
pub struct Raft {
    engine: Engine,
    node: Uuid,
    id: RaftId,
    pristine: bool,
    space: Arc<Space>,
    in_flight: Arc<Semaphore>,
    alarm: Alarm,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
}

impl std::fmt::Debug for Raft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raft").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Raft {
    /// Opens the log and the newest snapshot, applies what is known to be committed, and starts raft on a thread of its own.
    pub async fn start(config: Config, store: Store, bells: Bells) -> Result<Self, StartError> {
        let (ready, started) = oneshot::channel();
        let (ended, stopped) = watch::channel(false);
        let serve = move || {
            serve(config, store, bells, stopped, ready);
            ended.send_replace(true);
        };
        std::thread::Builder::new()
            .name("raft".to_owned())
            .spawn(serve)
            .map_err(|error| StartError::Engine(format!("no thread for raft: {error}")))?;
        started.await.unwrap_or_else(|_| Err(StartError::Engine("its thread panicked".to_owned())))
    }

    /// This voter.
    pub fn id(&self) -> RaftId {
        self.id
    }

    /// Founds a cluster of this one server, if its log has never seen anything; otherwise does nothing. Returns whether it did.
    pub async fn initialize(&self) -> Result<bool, WriteError> {
        if !self.pristine {
            return Ok(false);
        }
        match self.engine.initialize(BTreeMap::from([(self.id, Peer { uuid: self.node })])).await {
            Ok(()) => Ok(true),
            Err(RaftError::APIError(InitializeError::NotAllowed(_) | InitializeError::NotInMembers(_))) => Ok(false),
            Err(RaftError::Fatal(_)) => Err(WriteError::Stopped),
        }
    }

    /// Proposes a command and waits until it is applied: its index and what came of it.
    ///
    /// Whoever drops the future does not take the command back.
    pub async fn write(&self, proposal: &Proposal) -> Result<(Index, Outcome), WriteError> {
        ::metrics::counter!(metrics::APPLY).increment(1);
        let started = Instant::now();
        if let Some(path) = self.space.full() {
            ::metrics::counter!(metrics::DISK_FULL).increment(1);
            return Err(WriteError::DiskFull { path: path.clone() });
        }
        let bytes = proposal.encode();
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(WriteError::TooLarge { bytes: bytes.len(), max: ENTRY_BYTES_MAX });
        }
        let steps = bytes.len().div_ceil(IN_FLIGHT_STEP).max(1) as u32;
        let Ok(_in_flight) = self.in_flight.try_acquire_many(steps) else {
            ::metrics::counter!(metrics::BUSY).increment(1);
            return Err(WriteError::Busy);
        };
        let written = self.engine.client_write(Payload(bytes.into())).await.map_err(|error| match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => WriteError::NotLeader { leader: known(&to) },
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => WriteError::Undecided,
            RaftError::APIError(_) | RaftError::Fatal(_) => WriteError::Stopped,
        })?;
        ::metrics::histogram!(metrics::COMMIT_TIME).record(started.elapsed().as_secs_f64() * 1e3);
        // only entries that are raft's own, or skipped, have no outcome, and this version does not propose what it would skip
        let Answer(Some(answer)) = written.data else { return Err(WriteError::Undecided) };
        Ok(answer)
    }

    /// The index that a read must have seen to be behind no acknowledged write; asks a majority that this server still leads.
    pub async fn read_index(&self) -> Result<Index, WriteError> {
        match self.engine.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(error)) => {
                let leader = match &error {
                    openraft::errors::LinearizableReadError::ForwardToLeader(to) => known(to),
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
        let metrics = self.engine.wait(None).metrics(settled, "leader with an applied entry of its term").await;
        metrics.map(|_| ()).map_err(|_| WriteError::Stopped)
    }

    /// The leader's voter and node, if one is known.
    pub fn leader(&self) -> Option<(RaftId, Uuid)> {
        leader(&self.engine.metrics().borrow_watched())
    }

    /// This server leads.
    pub fn is_leader(&self) -> bool {
        self.engine.is_leader()
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.engine.metrics().borrow_watched().current_term
    }

    /// Last entry in the log.
    pub fn last_log_index(&self) -> Index {
        self.engine.metrics().borrow_watched().last_log_index.unwrap_or(0)
    }

    /// Last entry applied to the catalog.
    pub fn applied_index(&self) -> Index {
        self.engine.metrics().borrow_watched().last_applied.map_or(0, |id| id.index)
    }

    /// Last entry known to be committed.
    pub fn commit_index(&self) -> Index {
        self.engine.metrics().borrow_watched().local_committed.map_or(0, |id| id.index)
    }

    /// All of it, of one moment.
    pub fn status(&self) -> Status {
        let metrics = self.engine.metrics();
        let m = metrics.borrow_watched();
        let membership = m.membership_config.membership();
        let voters: Vec<RaftId> = membership.voter_ids().collect();
        Status {
            id: self.id,
            role: match m.state {
                ServerState::Learner => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Shutdown,
            },
            term: m.current_term,
            leader: leader(&m),
            last_log_index: m.last_log_index.unwrap_or(0),
            last_log_term: m.last_applied.map_or(0, |id| *id.leader_id),
            commit_index: m.local_committed.map_or(0, |id| id.index),
            applied_index: m.last_applied.map_or(0, |id| id.index),
            last_snapshot_index: m.snapshot.map_or(0, |id| id.index),
            last_snapshot_term: m.snapshot.map_or(0, |id| *id.leader_id),
            num_peers: voters.iter().filter(|id| **id != self.id).count(),
            configuration: membership.nodes().map(|(id, peer)| (*id, peer.uuid, voters.contains(id))).collect(),
            configuration_index: m.membership_config.log_id().map_or(0, |id| id.index),
            last_contact: m.last_quorum_acked.map(|at| at.elapsed()),
        }
    }

    /// Asks for a snapshot now; it is written beside everything else.
    pub async fn trigger_snapshot(&self) -> Result<(), WriteError> {
        self.engine.trigger().snapshot().await.map_err(|_| WriteError::Stopped)
    }

    /// Returns when raft has stopped for good, with the reason: the agent tells it and exits.
    pub async fn failed(&self) -> Failure {
        self.alarm.raised().await
    }

    /// Ends raft; returns when its threads have ended and its files are closed. Writes under way are answered `Stopped`.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        let mut stopped = self.stopped.clone();
        stopped.wait_for(|stopped| *stopped).await.ok(); // a thread that is gone without a word has ended, too
    }
}

fn leader(m: &RaftMetrics<Types>) -> Option<(RaftId, Uuid)> {
    let id = m.current_leader?;
    let peer = m.membership_config.membership().get_node(&id)?;
    Some((id, peer.uuid))
}

fn known(to: &ForwardToLeader<Types>) -> Option<(RaftId, Uuid)> {
    Some((to.leader_id?, to.leader_node?.uuid))
}

/// Raft's thread: opens, runs, closes.
fn serve(
    config: Config,
    store: Store,
    bells: Bells,
    stopped: watch::Receiver<bool>,
    ready: oneshot::Sender<Result<Raft, StartError>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ready.send(Err(StartError::Engine(format!("no runtime for raft: {error}")))).ok();
            return;
        }
    };
    let alarm = Alarm::new();
    // the directory's lock is held until the log is closed
    let opened = match Opened::open(&config, store, bells, &alarm) {
        Ok(opened) => opened,
        Err(error) => {
            ready.send(Err(error)).ok();
            return;
        }
    };
    let Opened { dir, log, machine } = opened;
    let (stop, mut stopping) = watch::channel(false);
    let (id, pristine, writer) = (log.raft_id, log.pristine, log.writer);
    runtime.block_on(async {
        let engine = match config.engine() {
            Ok(settings) => Engine::new(id, Arc::new(settings), Network, log.store, machine).await,
            Err(error) => {
                ready.send(Err(error)).ok();
                return;
            }
        };
        let engine = match engine {
            Ok(engine) => engine,
            Err(fatal) => {
                let told = alarm.failure().map_or_else(|| fatal.to_string(), |failure| failure.to_string());
                ready.send(Err(StartError::Engine(told))).ok();
                return;
            }
        };
        let raft = Raft {
            engine: engine.clone(),
            node: config.node,
            id,
            pristine,
            space: Arc::new(Space::new(config.dir, config.disk_reserve)),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX / IN_FLIGHT_STEP)),
            alarm: alarm.clone(),
            stop,
            stopped,
        };
        if ready.send(Ok(raft)).is_ok() {
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => {} // or all handles are gone
                () = died(&engine, &alarm) => {}
            }
        }
        engine.shutdown().await.ok(); // it cannot be joined twice, and nobody else does
    });
    // ends every task of raft's, and with them the handles of the log
    drop(runtime);
    writer.join().ok(); // a panic there was raised already
    drop(dir);
}

struct Opened {
    dir: Option<Dir>,
    log: Log,
    machine: Machine,
}

impl Opened {
    fn open(config: &Config, store: Store, bells: Bells, alarm: &Alarm) -> Result<Self, StartError> {
        let started = Instant::now();
        let dir = config.dir.as_deref().map(Dir::lock).transpose()?;
        let (shelf, snapshot) = Shelf::open(dir.as_ref().map(|dir| dir.path.as_path()))?;
        let reaches = snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id).map(|id| id.index);
        if let (Some(dir), Some(index)) = (&dir, reaches) {
            ::metrics::gauge!(metrics::RESTORE_DURATION).set(started.elapsed().as_secs_f64() * 1e3);
            if !dir.has_log() {
                let what = format!("there is a snapshot of entry {index}, and no log");
                return Err(StartError::Incomplete { dir: dir.path.clone(), what });
            }
        }
        let log = Log::open(dir.as_ref(), alarm.clone())?;
        // openraft would take a log without its beginning for a catalog that was empty
        if let (Some(dir), Some(purged)) = (&dir, log.purged)
            && reaches < Some(purged.index)
        {
            let what = match reaches {
                Some(index) => format!("the log begins after entry {}, the newest snapshot is of entry {index}", purged.index),
                None => format!("the log begins after entry {}, and there is no snapshot", purged.index),
            };
            return Err(StartError::Incomplete { dir: dir.path.clone(), what });
        }
        let machine = Machine::new(store, bells, Arc::new(shelf), snapshot, alarm.clone());
        Ok(Self { dir, log, machine })
    }
}

/// Returns when the engine has ended by itself, and raises the alarm if nobody did.
async fn died(engine: &Engine, alarm: &Alarm) {
    let mut metrics = engine.metrics();
    loop {
        if let Err(fatal) = &metrics.borrow_watched().running_state {
            alarm.raise(Failure::Engine(fatal.to_string()));
            return;
        }
        tokio::select! {
            changed = metrics.changed() => {
                if changed.is_err() {
                    alarm.raise(Failure::Engine("its core has ended".to_owned()));
                    return;
                }
            }
            _ = alarm.raised() => return,
        }
    }
}
