//! The desk: where commands, questions and orders arrive, and rights are asked.
#![allow(clippy::disallowed_methods)] // waits for a leader have an end

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use muster_catalog::{Autopilot, Command, NodeName, Reader, Run};
use smol_str::SmolStr;
use tokio::sync::{mpsc, oneshot, watch as channel};
use uuid::Uuid;

pub(crate) mod archive;
mod autopilot;
mod cluster;
pub(crate) mod disk;
mod events;
pub(crate) mod feed;
pub(crate) mod forward;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod leases;
mod local;
mod order;
mod peers;
mod quorum;
mod read;
mod renew;
mod rounds;
mod servers;
mod snapshot;
mod times;
mod travel;
mod watch;
mod write;

use crate::raft::{Raft, WriteError};
use crate::rpc::CallError;
pub(crate) use autopilot::{Health, ServerHealth};
#[cfg(test)]
pub(crate) use cluster::testing;
pub(crate) use cluster::{
    BOOTSTRAPPED_TAG, Cluster, ClusterError, ClusterOrder, Gossiping, KeyChange, Keyring, Lone, Member, RAFT_TAG, Standing,
    Unmet, carried,
};
pub(crate) use events::{EventFault, UserEvent};
use feed::Wants;
use leases::Leases;
pub(crate) use local::{LocalDesk, LocalSettings};
pub(crate) use order::{Errand, Order};
pub(crate) use peers::{Peers, PeersError};
pub(crate) use quorum::{Quorum, Seat};
pub(crate) use read::{Consistency, Seen, Wait};
pub(crate) use servers::ServerName;
pub(crate) use travel::{Question, Rows, Travel};
pub(crate) use watch::Bells;
use write::RunSession;

/// Who knocks.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// The secret it came with, if any: what [`allow`] will ask about once there are rights.
    #[allow(dead_code, reason = "rights come with ACLs; doors hand it over from the first day")]
    pub(crate) token: Option<Token>,
    /// Where it came from: an address, `unix`, or a part of this agent.
    pub(crate) from: SmolStr,
}

impl Who {
    /// Somebody at a door.
    pub(crate) fn outside(from: impl AsRef<str>, token: Option<Token>) -> Self {
        Self { token, from: SmolStr::new(from) }
    }
}

/// A secret of a caller's: never printed.
#[derive(Clone, PartialEq, Eq)]
#[allow(dead_code, reason = "as of `Who::token`")]
pub(crate) struct Token(pub(crate) SmolStr);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What somebody wants to do.
#[allow(dead_code, reason = "rights on commands come with ACLs; all three pass here from the first day")]
pub(crate) enum Act<'a> {
    Read,
    Write(&'a Command),
    Order(&'a Order, &'a Policy),
    /// A session is renewed.
    Renew(Uuid),
}

/// What the configuration allows callers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Policy {
    /// Whether checks that run programs may be registered over the API.
    pub(crate) script_checks_by_api: bool,
}

/// The one place where rights are asked. Without ACLs everything is allowed but what the configuration forbids.
pub(crate) fn allow(_who: &Who, act: &Act<'_>) -> Result<(), DeskError> {
    match act {
        Act::Order(order, policy) if order.runs_programs() && !policy.script_checks_by_api => Err(DeskError::ScriptsForbidden),
        Act::Read | Act::Write(_) | Act::Order(..) | Act::Renew(_) => Ok(()),
    }
}

/// Why the desk could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeskError {
    /// Nothing was changed or read: there is no leader, or this server is still reading its log. Later may do.
    #[error("No cluster leader")]
    NoLeader,
    /// Nothing was changed: programs as checks are switched off for callers of the API.
    #[error("Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true")]
    ScriptsForbidden,
    /// Nothing was changed: the caller named something that is not there.
    #[error("{0}")]
    Unknown(Unknown),
    /// The catalog refused what this agent itself told it.
    #[error("the catalog refused it")]
    Refused(#[source] muster_catalog::Refusal),
    /// Nothing was read: this agent's copy has not reached what was acknowledged, and no server answered instead. Later may do.
    #[error("this agent's copy of the catalog is behind the servers'")]
    Behind,
    /// Nothing was read: what this agent knows is older than its configuration lets it tell. Later may do.
    #[error("no server has been heard of for {age:?}, which is more than max_stale ({most:?})")]
    TooOld { age: Duration, most: Duration },
    /// The last of the servers that were asked gave no answer.
    #[error("no server answered")]
    Away(#[source] CallError),
    /// A server's answer was not understood: it is of another version.
    #[error("the answer of a server was not understood")]
    Foreign,
    /// The write did not become durable, or it is not known whether it did.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It could not be kept on disk: what was asked may hold until the agent stops, and is to be told again then.
    #[error("this agent cannot keep its local state: {0:#}")]
    Disk(Arc<anyhow::Error>),
    /// The reload was refused as a whole; the message lists every fault.
    #[error("{0}")]
    Reload(String),
    /// Nothing was changed: the file is no snapshot, or not whole.
    #[error("{0}")]
    Archive(Arc<archive::ArchiveError>),
    /// The catalog is as it was: the log took not all of the snapshot, or its rows cannot be read.
    #[error("the snapshot was not restored: {0}")]
    NotRestored(String),
    /// Nothing was told to anybody.
    #[error(transparent)]
    Event(#[from] EventFault),
    /// About the cluster; what was changed is said there.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

/// What a caller named that is not there, or not of the kind that is needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("Unknown service ID {0:?}. Ensure that the service ID is passed, not the service name.")]
    Service(String),
    #[error("Unknown check ID {0:?}. Ensure that the check ID is passed, not the check name.")]
    Check(String),
    #[error("CheckID {0:?} does not have associated TTL")]
    NotTtl(String),
    #[error("ServiceID {0:?} does not exist")]
    ServiceOfCheck(String),
}

/// One server's desk. Clones are the same desk.
#[derive(Clone)]
pub(crate) struct Desk(Arc<Inner>);

struct Inner {
    name: NodeName,
    id: Uuid,
    quorum: Quorum,
    reader: Reader,
    bells: Arc<Bells>,
    session: RunSession,
    leases: Leases,
    local: LocalDesk,
    cluster: Cluster,
    caught_up: AtomicBool,
    forgetful: bool,
    hold: Duration,
    default_reads_fail: bool,
    /// In milliseconds.
    max_stale: AtomicU64,
    server_address: SocketAddr,
    wants: Option<Wants>,
    watched: autopilot::Watched,
    events: events::Events,
    /// No leader can have been heard of for longer.
    begun: Instant,
    stop: channel::Receiver<bool>,
    errands: mpsc::Sender<Errand>,
}

/// What a desk stands on.
pub(crate) struct Setup {
    /// This node's name.
    pub(crate) name: NodeName,
    /// Its UUID.
    pub(crate) id: Uuid,
    /// This run.
    pub(crate) run: Run,
    pub(crate) quorum: Quorum,
    pub(crate) reader: Reader,
    pub(crate) bells: Arc<Bells>,
    pub(crate) local: LocalDesk,
    /// This agent among others.
    pub(crate) cluster: Cluster,
    /// Whether nothing is kept on disk.
    pub(crate) forgetful: bool,
    /// How long a question waits for a leader (Consul's `rpc_hold_timeout`).
    pub(crate) hold: Duration,
    /// Whether default reads of the catalog fail without a leader, as Consul's do.
    pub(crate) default_reads_fail: bool,
    /// Up to this age answers are given while no server can be asked.
    pub(crate) max_stale: Duration,
    /// Where others reach this agent's RPC, if it is a server.
    pub(crate) server_address: SocketAddr,
    /// Which rows a client's copy is to hold; `None` is all.
    pub(crate) wants: Option<Wants>,
    /// How servers come and go, as this agent's configuration has it.
    pub(crate) autopilot: Autopilot,
    /// Turns true when the agent stops.
    pub(crate) stop: channel::Receiver<bool>,
    /// To the assembly, which alone can reload and end.
    pub(crate) errands: mpsc::Sender<Errand>,
}

impl Desk {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup {
            name,
            id,
            run,
            quorum,
            reader,
            bells,
            local,
            cluster,
            forgetful,
            hold,
            default_reads_fail,
            max_stale,
            server_address,
            wants,
            autopilot,
            stop,
            errands,
        } = setup;
        let (session, leases, caught_up) = (RunSession::new(run), Leases::default(), AtomicBool::new(false));
        let inner = Inner {
            name,
            id,
            quorum,
            reader,
            bells,
            session,
            leases,
            local,
            cluster,
            caught_up,
            forgetful,
            hold,
            default_reads_fail,
            max_stale: AtomicU64::new(milliseconds(max_stale)),
            server_address,
            wants,
            watched: autopilot::Watched::new(autopilot),
            events: events::Events::new(),
            begun: Instant::now(),
            stop,
            errands,
        };
        Self(Arc::new(inner))
    }

    /// This node's name.
    pub(crate) fn name(&self) -> &NodeName {
        &self.0.name
    }

    /// This node's UUID: the owner of what it syncs.
    pub(crate) fn id(&self) -> Uuid {
        self.0.id
    }

    /// What can be read without asking.
    pub(crate) fn reader(&self) -> &Reader {
        &self.0.reader
    }

    /// Where servers and clients reach this server.
    fn server_address(&self) -> SocketAddr {
        self.0.server_address
    }

    /// Which rows this agent's copy is to hold; `None` is all.
    pub(crate) fn wants(&self) -> Option<&Wants> {
        self.0.wants.as_ref()
    }

    /// The way to the servers.
    pub(crate) fn quorum(&self) -> &Quorum {
        &self.0.quorum
    }

    /// The log; a client has none.
    pub(crate) fn raft(&self) -> Option<&Raft> {
        self.0.quorum.raft()
    }

    pub(crate) fn bells(&self) -> &Arc<Bells> {
        &self.0.bells
    }

    /// What this agent was told to run.
    pub(crate) fn local(&self) -> &LocalDesk {
        &self.0.local
    }

    /// Up to this age answers are given from now on while no server can be asked.
    pub(crate) fn set_max_stale(&self, most: Duration) {
        self.0.max_stale.store(milliseconds(most), Ordering::Relaxed);
    }

    /// From now on a client makes so many requests to servers a second.
    pub(crate) fn set_rpc_rate(&self, per_second: Option<f64>, burst: u32) {
        self.0.quorum.set_rate(per_second, burst);
    }

    fn max_stale(&self) -> Duration {
        Duration::from_millis(self.0.max_stale.load(Ordering::Relaxed))
    }

    /// The cluster knows a later life of this agent than it does itself: its commands must not seem older than those.
    pub(crate) fn raise_epoch(&self, epoch: u64) {
        self.session().raise(epoch);
    }

    fn session(&self) -> &RunSession {
        &self.0.session
    }

    fn forgetful(&self) -> bool {
        self.0.forgetful
    }

    /// Wall-clock milliseconds since 1970.
    #[allow(clippy::disallowed_methods)] // The desk is where time enters: it stamps what the cores are told.
    pub(crate) fn clock_ms(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    /// Returns when the agent begins to stop.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.0.stop.clone();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// The agent stops: reads that wait are to be answered.
    fn stops(&self) -> bool {
        *self.0.stop.borrow()
    }

    /// Wakes every read that waits; those that find the agent stopping are answered.
    pub(crate) fn wake_readers(&self) {
        self.0.bells.ring_all();
    }

    /// Returns a moment after the agent begins to stop, when what others were told has left it.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let stopping = self.stopping();
        async move {
            stopping.await;
            tokio::time::sleep(LAST_WORDS).await;
        }
    }

    async fn reload(&self) -> Result<(), DeskError> {
        let (done, is_done) = oneshot::channel();
        self.run(Errand::Reload(done), is_done).await?.map_err(DeskError::Reload)
    }

    async fn leave(&self) -> Result<(), DeskError> {
        let (done, is_done) = oneshot::channel();
        self.run(Errand::Leave(done), is_done).await
    }

    /// Hands an errand over and waits for it; once the agent stops, none is run any more.
    async fn run<T>(&self, errand: Errand, is_done: oneshot::Receiver<T>) -> Result<T, DeskError> {
        let ran = async {
            self.0.errands.send(errand).await.map_err(|_| DeskError::Stopping)?;
            is_done.await.map_err(|_| DeskError::Stopping)
        };
        tokio::select! {
            biased;
            ran = ran => ran,
            () = self.stopping() => Err(DeskError::Stopping),
        }
    }

    /// Whether no answer from here can be behind what was acknowledged, without asking anybody: the only voter has all there is.
    fn is_caught_up(&self) -> bool {
        self.0.caught_up.load(Ordering::Acquire) && self.raft().is_some_and(Raft::is_alone)
    }

    /// Returns once no answer from here is behind what was acknowledged before the call; at the latest after Consul's
    /// `rpc_hold_timeout`.
    pub(crate) async fn caught_up(&self) -> Result<(), DeskError> {
        self.fresh(self.0.hold, None).await
    }

    /// As [`Desk::caught_up`]; tries for this long, and at least once. `lag`: how long the copy may take to get there.
    async fn fresh(&self, patience: Duration, lag: Option<Duration>) -> Result<(), DeskError> {
        if self.is_caught_up() {
            return Ok(());
        }
        let until = Instant::now() + patience;
        let tried = async {
            let mut pause = FRESH_RETRY;
            loop {
                let tried = match self.raft() {
                    Some(raft) if raft.is_alone() => self.settled(raft, patience).await,
                    _ => self.level(until, lag).await,
                };
                match tried {
                    Err(DeskError::NoLeader) if Instant::now() + pause < until => tokio::time::sleep(pause).await,
                    tried => return tried,
                }
                pause = (pause * 2).min(FRESH_RETRY_MAX);
            }
        };
        tokio::select! {
            biased;
            tried = tried => tried,
            () = self.stopping() => Err(DeskError::Stopping),
        }
    }

    /// The only voter knows what is committed once it has applied an entry of its own term.
    async fn settled(&self, raft: &Raft, patience: Duration) -> Result<(), DeskError> {
        match tokio::time::timeout(patience.max(ROUND_MAX), raft.settled()).await {
            Ok(Ok(())) => {
                self.0.caught_up.store(true, Ordering::Release);
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(DeskError::NoLeader),
        }
    }

    /// Asks how far it must be, and waits until it is there.
    async fn level(&self, until: Instant, lag: Option<Duration>) -> Result<(), DeskError> {
        let left = || until.saturating_duration_since(Instant::now());
        let index = match tokio::time::timeout(left().max(ROUND_MAX), self.quorum().read_index()).await {
            Ok(Ok(index)) => index,
            Ok(Err(WriteError::Busy)) => return Err(WriteError::Busy.into()),
            Ok(Err(_)) | Err(_) => return Err(DeskError::NoLeader),
        };
        if self.quorum().sees(index, lag.unwrap_or(left().max(ROUND_MAX))).await { Ok(()) } else { Err(DeskError::Behind) }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How much longer others reach this agent when it stops.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// First and longest pause before it is asked again how far a read must have seen.
const FRESH_RETRY: Duration = Duration::from_millis(2);
const FRESH_RETRY_MAX: Duration = Duration::from_millis(50);
/// How long a read that would rather have an old answer than none waits for a leader's word, and for its copy to get there:
/// several times what a change of leaders by evidence takes.
const ROUND_MAX: Duration = Duration::from_millis(500);
