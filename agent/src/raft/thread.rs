//! Raft's thread: opens its files, runs the engine on a runtime of its own, and closes everything in order.
#![allow(clippy::disallowed_methods)] // the restore is timed

use std::sync::Arc;
use std::time::Instant;

use muster_catalog::Store;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::alarm::Alarm;
use super::config::Config;
use super::error::{Failure, StartError};
use super::evidence::{Evidence, NOTICES_MAX, Notice};
use super::growth::Growth;
use super::guard::{Gate, ask_before_voting};
use super::lines::{Caught, Heard, LINES_MAX, Lines};
use super::links::Links;
use super::load;
use super::log::{Dir, LastLog, Log};
use super::machine::{Bells, Engine, Machine, Position};
use super::metrics;
use super::network::Network;
use super::peers::Peers;
use super::rounds::{Rounds, serve_rounds};
use super::seen::SeenLogs;
use super::snapshot::Shelf;
use super::tidings::Awaited;
use super::types::{RaftId, Types};
use crate::error::chain;

/// What the handle needs of a raft that runs.
pub(super) struct Running {
    pub(super) engine: Engine,
    /// What raft says of itself, asked for with each read: a receiver that is kept, for a new one costs more than a look.
    pub(super) metrics: WatchReceiverOf<Types, RaftMetrics<Types>>,
    pub(super) id: RaftId,
    pub(super) pristine: bool,
    pub(super) applied: Arc<Position>,
    /// Where the log ends.
    pub(super) last: LastLog,
    /// What was seen of other servers' logs.
    pub(super) seen: SeenLogs,
    /// What their readers wait for.
    pub(super) awaited: Awaited,
    /// Which of them answer.
    pub(super) links: Links,
    /// Whether this server votes.
    pub(super) gate: Gate,
    /// To the task that judges whether the leader is gone; `None` without peers.
    pub(super) notices: Option<mpsc::Sender<Notice>>,
    /// To the task that serves the lines of leaders; `None` without peers.
    pub(super) lines: Option<mpsc::Sender<Caught>>,
    /// When a leader was last heard of.
    pub(super) heard: Heard,
    /// To the task that asks the leader for read indexes; `None` without peers.
    pub(super) rounds: Option<Rounds>,
    pub(super) alarm: Alarm,
    /// Set, or dropped with the last handle: the thread ends.
    pub(super) stop: watch::Sender<bool>,
}

/// Returns when raft has ended, by request or by a failure.
pub(super) fn serve(config: Config, store: Store, bells: Bells, ready: oneshot::Sender<Result<Running, StartError>>) {
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
    let (applied, busy, due) = (machine.applied.clone(), machine.busy.clone(), machine.growth.due.clone());
    let (stop, mut stopping) = watch::channel(false);
    let (id, pristine, writer) = (log.raft_id, log.pristine, log.writer);
    let seen = SeenLogs::default();
    let awaited = Awaited::default();
    let network = Network::new(config.peers.clone(), seen.clone(), awaited.clone());
    let (last, links) = (log.store.last(), Links::default());
    let peers = config.peers.as_ref().map(|pool| {
        pool.identity().set_raft(id.0);
        let kept = config.dir.as_deref().map(|dir| Peers::open(dir, pool.book()));
        (pool.clone(), kept)
    });
    let knows_peers = peers.as_ref().is_some_and(|(_, kept)| kept.as_ref().is_some_and(|kept| !kept.nodes().is_empty()));
    let gate = Gate::new(peers.is_none() || pristine);
    runtime.block_on(async {
        let engine = match config.engine() {
            Ok(mut settings) => {
                // one that has been a member asks the others before it stands for election
                settings.enable_elect = gate.is_open();
                Engine::new(id, Arc::new(settings), network, log.store, machine).await
            }
            Err(error) => {
                ready.send(Err(error)).ok();
                return;
            }
        };
        let engine = match engine {
            Ok(engine) => engine,
            Err(fatal) => {
                let told = alarm.failure().map_or_else(|| fatal.to_string(), |failure| chain(&failure));
                ready.send(Err(StartError::Engine(told))).ok();
                return;
            }
        };
        let mut company = JoinSet::new();
        company.spawn(load::tell(engine.clone(), last.clone(), busy));
        company.spawn(keep_short(engine.clone(), due));
        let (mut notices, mut rounds, mut lines, heard) = (None, None, None, Heard::default());
        if let Some((pool, kept)) = peers {
            let (tell, waiting) = mpsc::channel(NOTICES_MAX);
            company.spawn(Evidence::new(engine.clone(), pool.clone(), last.clone(), tell.clone()).gather(waiting));
            if !gate.is_open() {
                let asking = ask_before_voting(engine.clone(), pool.clone(), last.clone(), gate.clone(), alarm.clone());
                company.spawn(asking);
            }
            let (catch, caught) = mpsc::channel(LINES_MAX);
            let serving = Lines { engine: engine.clone(), identity: pool.identity().clone(), heard: heard.clone() };
            company.spawn(serving.serve(caught));
            company.spawn(links.clone().keep(engine.clone(), pool.clone(), kept));
            let (ask, asked) = Rounds::line();
            company.spawn(serve_rounds(engine.clone(), pool, asked));
            (notices, rounds, lines) = (Some(tell), Some(ask), Some(catch));
        }
        let running = Running {
            metrics: engine.metrics(),
            engine: engine.clone(),
            id,
            pristine: pristine && !knows_peers,
            applied,
            last: last.clone(),
            seen,
            awaited,
            links,
            gate,
            notices,
            lines,
            heard,
            rounds,
            alarm: alarm.clone(),
            stop,
        };
        if ready.send(Ok(running)).is_ok() {
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => {} // or all handles are gone
                () = died(&engine, &alarm) => {}
            }
        }
        drop(company);
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
        let growth = Growth::new(config.snapshot_threshold);
        let machine = Machine::new(store, bells, Arc::new(shelf), snapshot, growth, alarm.clone());
        Ok(Self { dir, log, machine })
    }
}

/// Has a snapshot made each time that one is due; where one is being made, raft passes it over, and it is asked for again.
async fn keep_short(engine: Engine, due: Arc<Notify>) {
    loop {
        due.notified().await;
        if engine.trigger().snapshot().await.is_err() {
            return; // raft has ended
        }
    }
}

/// Counts what this server became. Who leads has stood for election, however short that was.
fn count(before: Option<ServerState>, now: ServerState) {
    let name = match now {
        ServerState::Candidate => metrics::STATE_CANDIDATE,
        ServerState::Leader => metrics::STATE_LEADER,
        ServerState::Follower => metrics::STATE_FOLLOWER,
        ServerState::Learner | ServerState::Shutdown => return,
    };
    if now == ServerState::Leader && before != Some(ServerState::Candidate) {
        ::metrics::counter!(metrics::STATE_CANDIDATE).increment(1);
    }
    ::metrics::counter!(name).increment(1);
}

/// Returns when the engine has ended by itself, and raises the alarm if nobody did. It sees every change of state on its way.
async fn died(engine: &Engine, alarm: &Alarm) {
    // These change with what the server is, not with each entry.
    let mut states = engine.server_metrics();
    let mut state = None;
    loop {
        let now = states.borrow_watched().state;
        if state != Some(now) {
            count(state.replace(now), now);
        }
        tokio::select! {
            changed = states.changed() => {
                if changed.is_err() {
                    let why = engine.metrics().borrow_watched().running_state.clone();
                    alarm.raise(Failure::Engine(why.err().map_or("its core has ended".to_owned(), |fatal| fatal.to_string())));
                    return;
                }
            }
            _ = alarm.raised() => return,
        }
    }
}
