//! The agent's startup and end, in the order in which they happen.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use muster_catalog::{AntiEntropy, Autopilot, Cause, CauseKind, Reader, Run, Store};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::config::{self, AgentFlags, Config, Host, Loaded};
use crate::desk::disk::{self, Disk};
use crate::desk::feed::{self, DiskCopy, Follower, Pulse, Source, Wants};
use crate::desk::{
    Bells, Cluster, Desk, Errand, Gossiping, LocalDesk, LocalSettings, Lone, Member, Peers, PeersError, Policy, Quorum, Seat,
    Setup,
};
use crate::door::{dns, http, peer};
use crate::loops;
use crate::raft::{self, Raft};
use crate::rpc::{Pool, Rate, frame};
use crate::telemetry::{self, Telemetry};

mod cluster;
mod found;
mod home;
mod listen;
mod shed;
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
/// How long after the start its last work is done: the first round of checks and of bringing them into the catalog.
const SETTLE_WAIT: Duration = Duration::from_secs(1);
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
    let telemetry = telemetry::start(telemetry_config(&config))?;
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
        let (bells, mut store) = (Bells::new(), Store::new());
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
        let (mut follower, mut wants) = (None, None);
        let (seat, raft) = if config.server {
            let (source, pulsing) = feed_source(&reader);
            let raft = Raft::start(raft_config(&config, id, pool.clone()), store, ringing(&bells, &source)).await?;
            let _ = pulsing.set(raft.clone());
            (Seat::Server { raft: raft.clone(), source }, Some(raft))
        } else {
            let (copy, age) = match dir {
                Some(dir) => {
                    let (copy, age) = DiskCopy::open(&dir.join("catalog"), &mut store)?;
                    (Some(copy), age)
                }
                None => (None, None),
            };
            wants = match config.cluster.replica {
                config::Replica::Full => None,
                replica => {
                    let kept = store.state().interest().cloned();
                    if kept.is_none() {
                        store.narrow();
                        store.publish();
                    }
                    let grows = replica == config::Replica::Interest;
                    Some(Wants::new(grows, &config.node_name, id, kept.as_ref()))
                }
            };
            let rng = SmallRng::seed_from_u64(seed);
            let (following, driver) = Follower::new(store, bells.clone(), copy, age, wants.clone(), rng);
            follower = Some(driver);
            (Seat::Client(following), None)
        };
        let own = Member::of(&config, id);
        let gossip = match &pool {
            Some(pool) => Some(cluster::gossip(&config, &own, run.epoch, pool, &peers).await?),
            None => None,
        };
        let handle = gossip.as_ref().map(|gossip| gossip.handle.clone());
        let (verdicts, taken) = mpsc::channel(muster_health::RESULTS_MAX);
        let docker_host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let tls = config.checks.tls.as_ref().map(|tls| checks_tls(tls, &config)).transpose()?;
        let checking = muster_health::Config { seed, tls, docker_host, ..muster_health::Config::default() };
        let (runner, driver) = muster_health::new(checking, verdicts);
        let (stop, stopping) = watch::channel(false);
        let (errands, inlet) = mpsc::channel(ERRANDS_MAX);
        let remembered = kept.verdicts.clone();
        let source = match &seat {
            Seat::Server { source, .. } => Some(source.clone()),
            Seat::Client(_) => None,
        };
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
            local: LocalDesk::new(runner, disk, kept, local_settings(&config)),
            cluster: cluster.clone(),
            forgetful: config.dev,
            hold: config.rpc_hold_timeout,
            default_reads_fail: config.http.default_reads == config::DefaultReads::Consul,
            max_stale: config.cluster.max_stale,
            server_address: server_address(&config),
            wants: wants.clone(),
            autopilot: autopilot(&config),
            stop: stopping,
            errands,
        });
        let (beyond, dns_errands) = dns::beyond(&desk);
        let (dns, dns_driver) = muster_dns::new(dns_config(&config), reader, beyond)?;
        tasks.spawn(dns::run(desk.clone(), dns_errands));
        tell_files(&desk, &config, &remembered).await;
        tasks.spawn(driver.run(desk.stopping()));
        let dns_stop = desk.stopping();
        tasks.spawn(async move {
            if let Err(error) = dns_driver.run(dns_sockets, dns_stop).await {
                tracing::error!(%error, "DNS ended");
            }
        });
        let mut peer_door = None;
        if let (Some(gossip), Some(pool)) = (gossip, &pool) {
            tasks.spawn(gossip.driver.run(gossip.sockets, desk.stopped()));
            tasks.spawn(cluster::watch(gossip.handle, desk.clone(), pool.clone()));
            if let (Some(raft), Some(address)) = (&raft, config.addresses.server) {
                let listener = listen::tcp(address).with_context(|| format!("RPC cannot listen on {address}"))?;
                let door = peer::Door::new(
                    pool.identity().clone(),
                    Some(raft.clone()),
                    peer::DeskRooms::new(desk.clone()),
                    rpc_limits(&config),
                );
                peer_door = Some(door.clone());
                tasks.spawn(peer::serve(door, listener, desk.stopped()));
            }
            if let Some(follower) = follower {
                let connect = feed::over(pool.clone(), wants, SmallRng::seed_from_u64(seed));
                tasks.spawn(follower.run(connect, cluster::lost(cluster.clone()), desk.stopping()));
            }
        }
        if let Some(source) = source {
            tasks.spawn(source.run(desk.stopping()));
        }
        let facts = Arc::new(http::AgentFacts::new(config.clone(), telemetry.metrics().clone()));
        let doorway = http::Doorway::new(http::Door::new(http_config(&config), desk.clone(), facts.clone()));
        tasks.spawn(http::serve(doorway.clone(), http_listeners, desk.stopping()));
        tasks.spawn(http::run_watches(doorway.clone()));
        let (upkeep, upkeep_stop) = (telemetry.metrics().clone().upkeep(), desk.stopping());
        tasks.spawn(async move {
            tokio::select! { () = upkeep => {}, () = upkeep_stop => {} }
        });
        for sink in sinks(&config) {
            let (feeding, stopping) = (telemetry.metrics().clone().feed(sink), desk.stopping());
            tasks.spawn(async move {
                tokio::select! { () = feeding => {}, () = stopping => {} }
            });
        }
        tasks.spawn(loops::show_gauges(desk.clone(), config.datacenter.clone()));
        tasks.spawn(loops::take_verdicts(desk.clone(), taken));
        tasks.spawn(loops::sync(desk.clone(), SmallRng::seed_from_u64(seed)));
        tasks.spawn(loops::reconcile(desk.clone(), patience(&config)));
        tasks.spawn(loops::keep_servers(desk.clone()));
        tasks.spawn(loops::listen_to_followers(desk.clone()));
        tasks.spawn(loops::expire_sessions(desk.clone()));
        if handle.is_some() && !config.disable_coordinates {
            tasks.spawn(loops::tell_place(desk.clone(), SmallRng::seed_from_u64(seed.rotate_left(32))));
        }
        if config.auto_reload {
            tasks.spawn(loops::follow_files(desk.clone(), flags.paths.clone()));
        }
        tasks.spawn(loops::judge_aliases(desk.clone()));
        tasks.spawn(loops::reap_critical(desk.clone()));
        let (give_up, gave_up) = mpsc::channel(1);
        let knows_others = found::knows_others(peers.kept().len(), config.cluster.join.retry.len(), &cluster);
        let joined = loops::stay_joined(desk.clone(), joining(&config), peers, SmallRng::seed_from_u64(!seed));
        tasks.spawn(async move {
            if let Err(error) = joined.await {
                let _ = give_up.send(error).await;
            }
        });
        let expect = if config.server { config.cluster.bootstrap_expect } else { 0 };
        tasks.spawn(found::Founding { desk: desk.clone(), gossip: handle.clone(), expect, knows_others }.run());
        tasks.spawn(settle(desk.clone()));
        tasks.spawn(supervisor::tell_ready(desk.clone()));
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
            peers: peer_door,
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
        self.desk.local().configure(local_settings(&self.config));
        self.desk.set_max_stale(self.config.cluster.max_stale);
        self.facts.configure(self.config.clone());
        self.doorway.replace(http_config(&self.config));
        self.desk.set_rpc_rate(self.config.cluster.rpc.rate, self.config.cluster.rpc.burst);
        if let Some(door) = &self.peers {
            door.bound(rpc_limits(&self.config));
        }
        self.telemetry.set_level(self.config.log.level).map_err(|error| error.to_string())?;
        self.telemetry.metrics().set_filter(filter(&self.config));
        self.dns.configure(dns_config(&self.config)).map_err(|error| error.to_string())?;
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

/// The signal of a terminal.
const INTERRUPT: &str = "SIGINT";

/// What a signal means.
enum Told {
    Reload,
    /// Print what is measured.
    Measures,
    Stop(&'static str),
}

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    measures: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let of = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Self {
            hangup: of(SignalKind::hangup())?,
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
            measures: of(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            _ = self.interrupt.recv() => Told::Stop(INTERRUPT),
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.measures.recv() => Told::Measures,
        }
    }
}

/// Others are not assembled yet: what needs them is refused, so that nobody waits for a cluster that does not come.
/// Raft's end, on an agent that has it.
async fn failed(raft: Option<&Raft>) -> anyhow::Error {
    match raft {
        Some(raft) => anyhow!(raft.failed().await),
        None => std::future::pending().await,
    }
}

/// Where others reach this agent's RPC.
fn server_address(config: &Config) -> SocketAddr {
    (config.addresses.advertise, config.addresses.server.map_or(0, |server| server.port())).into()
}

fn rpc_limits(config: &Config) -> peer::Limits {
    let rpc = &config.cluster.rpc;
    peer::Limits {
        handshake_timeout: rpc.handshake_timeout,
        connections_per_client_max: if rpc.max_conns_per_client == 0 { usize::MAX } else { rpc.max_conns_per_client },
    }
}

fn autopilot(config: &Config) -> Autopilot {
    let config::AutopilotConfig {
        cleanup_dead_servers,
        last_contact_threshold,
        max_trailing_logs,
        min_quorum,
        server_stabilization_time,
    } = config.cluster.autopilot;
    Autopilot { cleanup_dead_servers, last_contact_threshold, max_trailing_logs, min_quorum, server_stabilization_time }
}

fn raft_config(config: &Config, id: Uuid, peers: Option<Pool>) -> raft::Config {
    let dir = config.data_dir.as_ref().map(|dir| dir.join("raft"));
    let calm = raft::Config::new(dir, id);
    raft::Config {
        snapshot_threshold: config.raft.snapshot_threshold,
        trailing_logs: config.raft.trailing_logs,
        heartbeat: config.raft.patience(calm.heartbeat),
        election: (config.raft.patience(calm.election.0), config.raft.patience(calm.election.1)),
        peers,
        ..calm
    }
}

fn joining(config: &Config) -> loops::Joining {
    let join = &config.cluster.join;
    loops::Joining { addresses: join.retry.clone(), interval: join.interval, attempts_max: join.attempts_max }
}

fn telemetry_config(config: &Config) -> telemetry::Config {
    telemetry::Config {
        logs: telemetry::LogsConfig {
            level: config.log.level.to_owned(),
            json: config.log.json,
            file: config.log.file.clone().map(|path| telemetry::LogFileConfig {
                path,
                duration: config.log.rotate_duration,
                bytes: config.log.rotate_bytes,
                files: config.log.rotate_max_files,
            }),
            syslog: config.log.syslog,
        },
        metrics: telemetry::MetricsConfig {
            prefix: config.telemetry.metrics_prefix.clone(),
            host: (!config.telemetry.disable_hostname).then(|| config.node_name.to_string()),
            filter: filter(config),
            prometheus: !config.telemetry.prometheus_retention_time.is_zero(),
            host_metrics: config.telemetry.host_metrics.then(|| config.data_dir.clone().unwrap_or_else(|| PathBuf::from("/"))),
        },
    }
}

/// Where metrics are sent.
fn sinks(config: &Config) -> impl Iterator<Item = telemetry::SinkConfig> {
    let told = &config.telemetry;
    let tags = told.dogstatsd_tags.clone();
    let sink = |kind, address: &Option<String>| address.clone().map(|address| telemetry::SinkConfig { kind, address });
    let statsd = sink(telemetry::SinkKind::Statsd, &told.statsd);
    let statsite = sink(telemetry::SinkKind::Statsite, &told.statsite);
    let dogstatsd = sink(telemetry::SinkKind::Dogstatsd(tags), &told.dogstatsd);
    statsd.into_iter().chain(statsite).chain(dogstatsd)
}

fn filter(config: &Config) -> telemetry::Filter {
    telemetry::Filter::new(config.telemetry.prefix_filter.clone(), config.telemetry.filter_default)
}

fn http_config(config: &Config) -> http::Config {
    let headers = config.http.response_headers.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
    http::Config {
        dns_domains: std::iter::once(&config.dns.domain).chain(&config.dns.alt_domain).map(Into::into).collect(),
        allowed_hosts: config.http.allowed_hosts.iter().map(Into::into).collect(),
        pretty: config.http.pretty,
        ui: config.ui.clone(),
        response_headers: headers.collect(),
        block_endpoints: config.http.block_endpoints.clone(),
        allow_write_from: config.http.allow_write_http_from.clone(),
        // A client agent answers reads from its own copy, and what it asks of servers has a bound of its own (rpc_rate).
        request_limits: if config.server { config.http.request_limits } else { config::RequestLimits::default() },
        kv_value_bytes_max: config.http.kv_max_value_size,
        txn_bytes_max: config.http.txn_max_req_len,
        session_ttl_min: config.session_ttl_min,
        disable_kv_key_validation: config.disable_kv_key_validation,
        disable_unprintable_filter: config.disable_http_unprintable_char_filter,
        head_bytes_max: if config.http.max_header_bytes == 0 { http::HEAD_BYTES_MAX } else { config.http.max_header_bytes },
        discovery_max_stale: config.http.discovery_max_stale,
        default_query_time: config.http.default_query_time,
        max_query_time: config.http.max_query_time,
        use_cache: config.http.use_cache,
        translate_wan_addrs: config.translate_wan_addrs,
        connections_per_client_max: if config.http.max_conns_per_client == 0 {
            usize::MAX
        } else {
            config.http.max_conns_per_client
        },
        ..http::Config::new(&config.datacenter)
    }
}

fn dns_config(config: &Config) -> muster_dns::Config {
    let dns = &config.dns;
    muster_dns::Config {
        domain: dns.domain.clone(),
        alt_domain: dns.alt_domain.clone(),
        datacenter: config.datacenter.clone(),
        node_name: config.node_name.as_str().into(),
        allow_stale: dns.allow_stale,
        max_stale: dns.max_stale,
        max_stale_alone: config.cluster.max_stale,
        node_ttl: dns.node_ttl,
        service_ttl: dns.service_ttl.clone(),
        only_passing: dns.only_passing,
        enable_truncate: dns.enable_truncate,
        udp_answer_limit: dns.udp_answer_limit,
        a_record_limit: dns.a_record_limit,
        disable_compression: dns.disable_compression,
        enable_additional_node_meta_txt: dns.node_meta_txt,
        negative_answer: dns.negative_answer,
        recursors: dns.recursors.clone(),
        recursor_random: dns.recursor_random,
        recursor_timeout: dns.recursor_timeout,
        soa: muster_dns::Soa { refresh: dns.soa.refresh, retry: dns.soa.retry, expire: dns.soa.expire, min_ttl: dns.soa.min_ttl },
    }
}

/// How long members that are gone are waited for.
fn patience(config: &Config) -> loops::Patience {
    let config::AbsenceConfig { restart_grace, mass_loss_hold } = config.cluster.absence;
    loops::Patience { restart_grace, mass_loss_hold }
}

/// What followers are served from. It looks at raft, and raft rings it, so it learns of raft when that has started.
fn feed_source(reader: &Reader) -> (Source, Arc<OnceLock<Raft>>) {
    let raft: Arc<OnceLock<Raft>> = Arc::default();
    let pulsing = raft.clone();
    let pulse = move || match raft.get() {
        Some(raft) => {
            let (known_leader, last_contact) = raft.contact();
            Pulse {
                known_leader,
                last_contact: last_contact.unwrap_or(Duration::MAX),
                caught_up: known_leader && raft.is_level(),
            }
        }
        None => Pulse { known_leader: false, last_contact: Duration::MAX, caught_up: false },
    };
    (Source::new(reader.clone(), pulse, frame), pulsing)
}

fn ringing(bells: &Arc<Bells>, source: &Source) -> raft::Bells {
    let (touched, all) = ((bells.clone(), source.clone()), (bells.clone(), source.clone()));
    raft::Bells {
        touched: Box::new(move |topics| {
            touched.0.ring(topics);
            touched.1.changed();
        }),
        all: Box::new(move || {
            all.0.ring_all();
            all.1.changed();
        }),
    }
}

fn local_settings(config: &Config) -> LocalSettings {
    LocalSettings {
        policy: Policy { script_checks_by_api: config.checks.remote_scripts },
        output_delay: config.checks.update_interval,
        discard_output: config.checks.discard_output,
        anti_entropy: match config.checks.anti_entropy {
            config::AntiEntropy::Muster => AntiEntropy::OwnRows,
            config::AntiEntropy::Consul => AntiEntropy::WholeNode,
        },
    }
}

/// Reads what checks over TLS introduce themselves with.
fn checks_tls(tls: &config::ChecksTls, config: &Config) -> Result<muster_health::AgentTls> {
    let identity = tls.identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    let name = tls.server_name.clone().unwrap_or_else(|| config.node_name.as_str().to_owned());
    muster_health::AgentTls::load(&tls.roots, identity, name).context("enable_agent_tls_for_checks")
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

/// Gives back what only the start needed, once it is over.
async fn settle(desk: Desk) {
    let over = async {
        let _ = desk.caught_up().await;
        tokio::time::sleep(SETTLE_WAIT).await;
    };
    tokio::select! {
        () = over => shed::code(),
        () = desk.stopping() => {}
    }
}
