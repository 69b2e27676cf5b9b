//! The agent's startup and end, in the order in which they happen.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use muster_catalog::{Cause, CauseKind, Run, Store};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::running::Running;
use self::seat::Place;
use self::signals::{INTERRUPT, Signals, Told};
use crate::config::{self, AgentFlags, Config, Host, Loaded};
use crate::desk::disk::{self, Disk};
use crate::desk::{Bells, Cluster, Desk, Errand, Gossiping, LocalDesk, Lone, Member, Peers, PeersError, Quorum, Seat, Setup};
use crate::door::{dns, http, peer};
use crate::loops;
use crate::raft::Raft;
use crate::rpc::Rate;
use crate::telemetry::{self, Telemetry};

mod cluster;
mod found;
mod home;
mod listen;
mod running;
mod seat;
mod settings;
mod shed;
mod signals;
mod supervisor;

/// Waiting reads, writes under way and connections have this long to end after a signal; then they are cut.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// All of stopping, files included.
const STOP_MAX: Duration = Duration::from_secs(8);
/// What runs on threads of its own has this long when all else has ended.
const THREADS_WAIT: Duration = Duration::from_secs(1);
/// How long a leader looks for somebody to hand over to before it stops; it takes some milliseconds.
const HAND_OVER_MAX: Duration = Duration::from_millis(500);
/// Errands at once: a reload that waits behind another finds nothing new to do.
const ERRANDS_MAX: usize = 4;
/// Worker threads at most: the agent shares its host with what it looks after.
const WORKERS_MAX: usize = 4;

/// Runs `muster agent`.
pub(crate) fn agent(arguments: Vec<OsString>) -> ExitCode {
    let flags = match AgentFlags::parse(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let loaded = match config::load(&flags, &Host::this()) {
        Ok(loaded) => loaded,
        Err(faults) => return end(&anyhow!("{faults}")),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).thread_name("agent").enable_all().build();
    let ended = runtime.context("no runtime could be made").and_then(|runtime| {
        let ended = runtime.block_on(run(flags, loaded));
        runtime.shutdown_timeout(THREADS_WAIT);
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&error),
    }
}

/// Reads configuration as an agent would, for `muster validate`.
pub(crate) fn validate(paths: &[PathBuf], format: Option<&str>) -> Result<Vec<String>, String> {
    let format = match format.map(|name| <config::Format as clap::ValueEnum>::from_str(name, true)).transpose() {
        Ok(format) => format,
        Err(_) => return Err(format!("-config-format must be hcl, json or toml, not {:?}", format.unwrap_or_default())),
    };
    config::validate(paths, format, &Host::this()).map_err(|faults| faults.to_string())
}

/// Reads from configuration how fast gossip goes, and how the dead are waited for, for `muster simulate`.
pub(crate) fn timing(path: &Path) -> Result<(muster_gossip::Timing, config::AbsenceConfig), String> {
    let config = config::understood(&[path.to_owned()], None, &Host::this()).map_err(|faults| faults.to_string())?;
    Ok((cluster::timing(&config), config.cluster.absence))
}

/// Threads for HTTP and loops, and as many for DNS.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(WORKERS_MAX)
}

fn end(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "muster: {error:#}");
    ExitCode::FAILURE
}

/// Starts everything, runs until it is told to stop, ends everything.
async fn run(flags: AgentFlags, loaded: Loaded) -> Result<()> {
    let Loaded { config, warnings, files } = loaded;
    let telemetry = telemetry::start(settings::telemetry(&config))?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::new()?;
    let pid_file = config.pid_file.clone();
    let mut agent = Agent::start(flags, config, files, telemetry).await?;
    if let Some(path) = &pid_file {
        home::write_pid(path)?;
    }
    let ended = agent.serve(&mut signals).await;
    agent.stop(&mut signals).await;
    if let Some(path) = &pid_file {
        home::remove_pid(path);
    }
    ended
}

/// How an agent leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// An operator said so, or its host goes down.
    AtOnce,
    /// A signal ended it: it may be started again in a moment, and then it never left.
    UnlessItReturns,
}

/// What runs.
struct Agent {
    flags: AgentFlags,
    config: Config,
    desk: Desk,
    raft: Option<Raft>,
    gossip: Option<muster_gossip::Handle>,
    dns: muster_dns::Handle,
    telemetry: Telemetry,
    facts: Arc<http::AgentFacts>,
    doorway: Arc<http::Doorway>,
    /// The door of other agents, on servers.
    peers: Option<peer::Door>,
    errands: mpsc::Receiver<Errand>,
    /// Says that nobody could be joined.
    gave_up: mpsc::Receiver<loops::GaveUp>,
    /// Whether it leaves its cluster, and how.
    leaves: Option<Leave>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Agent {
    async fn start(flags: AgentFlags, config: Config, files: Vec<PathBuf>, telemetry: Telemetry) -> Result<Self> {
        let dir = config.data_dir.as_deref();
        if let Some(dir) = dir {
            home::prepare(dir)?;
        }
        let id = home::node_id(dir, config.node_id)?;
        let mut peers = Peers::open(dir)?;
        if config.cluster.forget_cluster {
            peers.forget()?;
        }
        let (bells, store) = (Bells::new(), Store::new());
        let reader = store.reader();
        let dns_sockets = muster_dns::Sockets::bind(&config.addresses.dns, workers())?;
        let http_listeners = listen::http(&config.addresses)?;
        let pool = if cluster::is_open(&config) { Some(cluster::pool(&config, id, &peers)) } else { None };
        let (disk, kept) = match dir {
            Some(dir) => {
                let (disk, kept) = Disk::open(&dir.join("local.redb"))?;
                (Some(disk), kept)
            }
            None => (None, disk::Kept { starts: 1, ..disk::Kept::default() }),
        };
        let run = Run { agent: id, epoch: kept.starts << 16 };
        let seed = id.as_u64_pair().0 ^ kept.starts;
        let mut tasks = JoinSet::new();
        let Place { seat, follower, wants } = if config.server {
            Place::server(&config, id, pool.clone(), store, &bells).await?
        } else {
            Place::client(&config, id, store, &bells, SmallRng::seed_from_u64(seed))?
        };
        let (raft, source) = match &seat {
            Seat::Server { raft, source } => (Some(raft.clone()), Some(source.clone())),
            Seat::Client(_) => (None, None),
        };
        let own = Member::of(&config, id);
        let gossip = match &pool {
            Some(pool) => Some(cluster::gossip(&config, &own, run.epoch, pool, &peers).await?),
            None => None,
        };
        let handle = gossip.as_ref().map(|gossip| gossip.handle.clone());
        let (verdicts, taken) = mpsc::channel(muster_health::RESULTS_MAX);
        let docker_host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let tls = config.checks.tls.as_ref().map(|tls| settings::checks_tls(tls, &config)).transpose()?;
        let checking = muster_health::Config { seed, tls, docker_host, ..muster_health::Config::default() };
        let (runner, driver) = muster_health::new(checking, verdicts);
        let (stop, stopping) = watch::channel(false);
        let (errands, inlet) = mpsc::channel(ERRANDS_MAX);
        let remembered = kept.verdicts.clone();
        let cluster = match &handle {
            Some(handle) => Cluster::new(id, config.addresses.clone(), Gossiping::new(handle.clone())),
            None => Cluster::new(id, config.addresses.clone(), Lone::new(&config, id)),
        };
        let desk = Desk::new(Setup {
            name: config.node_name.clone(),
            id,
            run,
            quorum: Quorum::new(seat, pool.clone())
                .bounded(Rate::new(config.cluster.rpc.rate, config.cluster.rpc.burst), config.cluster.rpc.client_timeout),
            reader: reader.clone(),
            bells,
            local: LocalDesk::new(runner, disk, kept, settings::local(&config)),
            cluster,
            forgetful: config.dev,
            hold: config.rpc_hold_timeout,
            default_reads_fail: config.http.default_reads == config::DefaultReads::Consul,
            max_stale: config.cluster.max_stale,
            server_address: settings::server_address(&config),
            wants: wants.clone(),
            autopilot: settings::autopilot(&config),
            stop: stopping,
            errands,
        });
        let (beyond, dns_errands) = dns::beyond(&desk);
        let (dns, dns_driver) = muster_dns::new(settings::dns(&config), reader, beyond)?;
        tasks.spawn(dns::run(desk.clone(), dns_errands));
        tell_files(&desk, &config, &remembered).await;
        tasks.spawn(driver.run(desk.stopping()));
        let dns_stop = desk.stopping();
        tasks.spawn(async move {
            if let Err(error) = dns_driver.run(dns_sockets, dns_stop).await {
                tracing::error!(%error, "DNS ended");
            }
        });
        let mut running = Running { tasks: &mut tasks, desk: &desk, config: &config, seed };
        let mut door = None;
        if let (Some(gossip), Some(pool)) = (gossip, pool) {
            door = running.others(gossip, &pool, raft.clone())?;
            if let Some(follower) = follower {
                running.follow(follower, pool, wants);
            }
        }
        if let Some(source) = source {
            running.tasks.spawn(source.run(desk.stopping()));
        }
        let facts = Arc::new(http::AgentFacts::new(config.clone(), telemetry.metrics().clone()));
        let doorway = http::Doorway::new(http::Door::new(settings::http(&config), desk.clone(), facts.clone()));
        running.tasks.spawn(http::serve(doorway.clone(), http_listeners, desk.stopping()));
        running.tasks.spawn(http::run_watches(doorway.clone()));
        running.measure(&telemetry);
        running.loops(taken, flags.paths.clone());
        let gave_up = running.company(handle.clone(), peers);
        running.settle();
        tracing::info!(node = %config.node_name, id = %id, files = files.len(), "agent runs");
        Ok(Self {
            flags,
            config,
            desk,
            raft,
            gossip: handle,
            dns,
            telemetry,
            facts,
            doorway,
            peers: door,
            errands: inlet,
            gave_up,
            leaves: None,
            stop,
            tasks,
        })
    }

    /// Serves until a signal or an order ends it, or raft cannot go on.
    async fn serve(&mut self, signals: &mut Signals) -> Result<()> {
        loop {
            tokio::select! {
                failure = failed(self.raft.as_ref()) => return Err(failure),
                Some(gave_up) = self.gave_up.recv() => return Err(anyhow!(gave_up)),
                signal = signals.next() => match signal {
                    Told::Reload => if let Err(faults) = self.reload().await {
                        tracing::error!("the configuration is as it was: {faults}");
                    },
                    Told::Measures => {
                        let _ = std::io::stderr().write_all(self.telemetry.metrics().text().as_bytes());
                    }
                    Told::Stop(name) => {
                        tracing::info!("stopping: {name}");
                        let leaves = match name {
                            INTERRUPT => !self.config.skip_leave_on_interrupt,
                            _ => self.config.leave_on_terminate,
                        };
                        self.leaves = match leaves {
                            false => None,
                            true if supervisor::host_is_stopping().await => Some(Leave::AtOnce),
                            true => Some(Leave::UnlessItReturns),
                        };
                        return Ok(());
                    }
                },
                errand = self.errands.recv() => match errand {
                    Some(Errand::Reload(done)) => {
                        let _ = done.send(self.reload().await);
                    }
                    Some(Errand::Leave(done)) => {
                        tracing::info!("leaving");
                        self.leaves = Some(Leave::AtOnce);
                        let _ = done.send(());
                        return Ok(());
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    /// Reads the configuration again: all of it is taken, or nothing. Services and checks of files change by difference.
    async fn reload(&mut self) -> Result<(), String> {
        supervisor::tell_reloading();
        let reloaded = self.take_over().await;
        supervisor::tell_reloaded();
        reloaded
    }

    async fn take_over(&mut self) -> Result<(), String> {
        let Loaded { config, warnings, .. } = config::load(&self.flags, &Host::this()).map_err(|faults| faults.to_string())?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let (config, keys) = self.config.reload_into(config);
        self.config = config;
        self.desk.local().configure(settings::local(&self.config));
        self.desk.set_max_stale(self.config.cluster.max_stale);
        self.facts.configure(self.config.clone());
        self.doorway.replace(settings::http(&self.config));
        self.desk.set_rpc_rate(self.config.cluster.rpc.rate, self.config.cluster.rpc.burst);
        if let Some(door) = &self.peers {
            door.bound(settings::rpc_limits(&self.config));
        }
        self.telemetry.set_level(self.config.log.level).map_err(|error| error.to_string())?;
        self.telemetry.metrics().set_filter(settings::filter(&self.config));
        self.dns.configure(settings::dns(&self.config)).map_err(|error| error.to_string())?;
        tell_files(&self.desk, &self.config, &[]).await;
        self.desk.cluster().tell(&Member::of(&self.config, self.desk.id()));
        tracing::info!(changed = ?keys.applied, "configuration reloaded");
        if !keys.restart.is_empty() {
            tracing::warn!(keys = ?keys.restart, "these take effect at the next start");
        }
        Ok(())
    }

    /// Doors close, waiting reads are answered, writes end, files are closed. A second signal ends at once.
    async fn stop(mut self, signals: &mut Signals) {
        supervisor::tell_stopping();
        self.go_from_others().await;
        self.stop.send_replace(true);
        let ended = async {
            let tasks = async { while self.tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(STOP_WAIT, tasks).await.is_err() {
                tracing::warn!("requests that did not end in time are cut");
            }
            self.desk.local().flush().await;
            if let Err(error) = self.forget_members() {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the next start may return to the cluster that was left"
                );
            }
            if let Some(raft) = self.raft.take() {
                raft.shutdown().await;
            }
        };
        let again = async { while !matches!(signals.next().await, Told::Stop(_)) {} };
        tokio::select! {
            _ = tokio::time::timeout(STOP_MAX, ended) => {}
            () = again => tracing::warn!("stopping at once"),
        }
    }
}

impl Agent {
    /// A leader hands over before it stops, and who leaves says so.
    async fn go_from_others(&self) {
        if let Some(raft) = self.raft.as_ref().filter(|raft| raft.is_leader() && !raft.is_alone()) {
            match raft.transfer_leader(None, HAND_OVER_MAX).await {
                Ok((_, node)) => tracing::info!(%node, "leadership is handed over"),
                Err(error) => tracing::warn!(%error, "leadership was not handed over: the others elect"),
            }
        }
        if let (Some(gossip), Some(leaves)) = (&self.gossip, self.leaves) {
            gossip.leave(leaves == Leave::AtOnce).await;
        }
    }

    /// Who has left does not return by itself, unless it is to.
    fn forget_members(&self) -> Result<(), PeersError> {
        if self.leaves.is_some() && !self.config.cluster.join.rejoin_after_leave {
            Peers::open(self.config.data_dir.as_deref())?.forget()?;
        }
        Ok(())
    }
}

/// Raft's end, on an agent that has it.
async fn failed(raft: Option<&Raft>) -> anyhow::Error {
    match raft {
        Some(raft) => anyhow!(raft.failed().await),
        None => std::future::pending().await,
    }
}

/// Makes the services and checks of definition files what the files say.
async fn tell_files(desk: &Desk, config: &Config, remembered: &[(muster_catalog::CheckId, disk::Verdict)]) {
    let services = config.services.iter().map(|told| (told.service.clone(), told.checks.clone())).collect();
    let checks = config.lone_checks.iter().map(|told| told.check.clone()).collect();
    let cause = Arc::new(Cause::new(desk.name(), CauseKind::DefinitionFile, desk.clock_ms(), "definition files"));
    if let Err(error) = desk.local().replace_files(services, checks, remembered, &cause).await {
        tracing::error!(%error, "what definition files replaced or removed may return at the next start");
    }
}
