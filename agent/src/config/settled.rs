//! What a configuration means: every value checked, every default filled in.

mod cluster;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use muster_catalog::{Meta, NodeName};
use uuid::Uuid;

use super::address::Listen;
use super::definition::{DefinitionLimits, LoneCheck, ServiceDefinition};
use super::watch::WatchConfig;
pub(crate) use cluster::{AbsenceConfig, AutopilotConfig, ClusterConfig, GossipConfig, JoinConfig, Replica, RpcConfig};

/// What the configuration means: every value checked and every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Whether everything stays in memory and answers are printed prettily (`-dev`).
    pub(crate) dev: bool,
    /// Whether this agent holds the catalog.
    pub(crate) server: bool,
    /// Whether a server without data makes a cluster of its own: one server is expected, and that is this one.
    pub(crate) bootstrap: bool,
    /// Others.
    pub(crate) cluster: ClusterConfig,
    /// Where everything is kept; `None` under `-dev`.
    pub(crate) data_dir: Option<PathBuf>,
    /// Lower case.
    pub(crate) datacenter: String,
    /// Lower case; the datacenter itself unless given.
    pub(crate) primary_datacenter: String,
    /// This node's name.
    pub(crate) node_name: NodeName,
    /// This node's id, if it is prescribed; else it is made once and kept in the data directory.
    pub(crate) node_id: Option<Uuid>,
    /// Free pairs of this node.
    pub(crate) node_meta: Meta,
    /// Whether the configuration is read again when its files change.
    pub(crate) auto_reload: bool,
    /// File that holds the process id.
    pub(crate) pid_file: Option<PathBuf>,
    /// Whether SIGTERM announces a leave.
    pub(crate) leave_on_terminate: bool,
    /// Whether SIGINT stops without a leave.
    pub(crate) skip_leave_on_interrupt: bool,
    /// Where this agent listens and what it tells others.
    pub(crate) addresses: Addresses,
    /// DNS.
    pub(crate) dns: DnsConfig,
    /// HTTP.
    pub(crate) http: HttpConfig,
    /// The web page; `None` where there is none.
    pub(crate) ui: Option<UiConfig>,
    /// Checks and services.
    pub(crate) checks: ChecksConfig,
    /// Services of files.
    pub(crate) services: Vec<ServiceDefinition>,
    /// Checks of files that stand outside services.
    pub(crate) lone_checks: Vec<LoneCheck>,
    /// What is watched, and who is told.
    pub(crate) watches: Vec<WatchConfig>,
    /// Raft.
    pub(crate) raft: RaftConfig,
    /// Logs.
    pub(crate) log: LogConfig,
    /// Metrics.
    pub(crate) telemetry: TelemetryConfig,
    /// Shortest TTL of a session.
    pub(crate) session_ttl_min: Duration,
    /// Whether askers from other datacenters get WAN addresses.
    pub(crate) translate_wan_addrs: bool,
    /// Whether network coordinates are off.
    pub(crate) disable_coordinates: bool,
    /// Whether keys that climb out of their folder (`a/../b`) are taken.
    pub(crate) disable_kv_key_validation: bool,
    /// Whether paths of HTTP requests may hold letters that nobody can see.
    pub(crate) disable_http_unprintable_char_filter: bool,
    /// Whether debugging endpoints answer.
    pub(crate) enable_debug: bool,
    /// How long a leaving agent goes on answering.
    pub(crate) leave_drain_time: Duration,
    /// How long a request waits for a leader.
    pub(crate) rpc_hold_timeout: Duration,
}

/// Where this agent listens and what it tells others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Addresses {
    /// Where the ports between agents are opened.
    pub(crate) bind: IpAddr,
    /// What other agents are told.
    pub(crate) advertise: IpAddr,
    /// What agents of other datacenters are told.
    pub(crate) advertise_wan: IpAddr,
    /// `lan`, `lan_ipv4`, `wan`, …: the node's addresses by name.
    pub(crate) tagged: Meta,
    /// HTTP listeners; none if the port is -1.
    pub(crate) http: Vec<Listen>,
    /// DNS listeners, UDP and TCP; none if the port is -1.
    pub(crate) dns: Vec<SocketAddr>,
    /// Raft and RPC of servers; `None` if the port is -1.
    pub(crate) server: Option<SocketAddr>,
    /// Gossip; `None` if the port is -1.
    pub(crate) serf_lan: Option<SocketAddr>,
    /// Gossip between datacenters; `None` if the port is -1.
    pub(crate) serf_wan: Option<SocketAddr>,
    /// Owner and mode of listeners that are files.
    pub(crate) unix_sockets: UnixSockets,
}

/// Owner and mode of listeners that are files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct UnixSockets {
    /// User name or number; `None` leaves it.
    pub(crate) user: Option<String>,
    /// Group name or number; `None` leaves it.
    pub(crate) group: Option<String>,
    /// Permission bits; `None` leaves them.
    pub(crate) mode: Option<u32>,
}

/// `dns_config` and what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DnsConfig {
    /// Without the last dot, lower case.
    pub(crate) domain: String,
    /// A second one; without the last dot, lower case.
    pub(crate) alt_domain: Option<String>,
    /// Whom other names are asked of, in this order.
    pub(crate) recursors: Vec<SocketAddr>,
    /// Whether they are asked in another order each time.
    pub(crate) recursor_random: bool,
    /// How long each is waited for.
    pub(crate) recursor_timeout: Duration,
    /// What is said of a service when none of its instances may be told.
    pub(crate) negative_answer: muster_dns::NegativeAnswer,
    /// Whether answers may be behind the leader.
    pub(crate) allow_stale: bool,
    /// By how much.
    pub(crate) max_stale: Duration,
    /// TTL of node answers.
    pub(crate) node_ttl: Duration,
    /// TTL of service answers, by name, by `prefix*`, or `*`.
    pub(crate) service_ttl: BTreeMap<String, Duration>,
    /// Whether a cut answer over UDP says so (TC).
    pub(crate) enable_truncate: bool,
    /// Whether a warning takes an instance out.
    pub(crate) only_passing: bool,
    /// Whether names are written out in full.
    pub(crate) disable_compression: bool,
    /// Most answers over UDP without EDNS.
    pub(crate) udp_answer_limit: usize,
    /// Most address records in any answer; 0 is no limit.
    pub(crate) a_record_limit: usize,
    /// Whether node answers carry the node's meta data as TXT.
    pub(crate) node_meta_txt: bool,
    /// Start of authority.
    pub(crate) soa: Soa,
}

/// Seconds of the SOA record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Soa {
    /// Refresh.
    pub(crate) refresh: u32,
    /// Retry.
    pub(crate) retry: u32,
    /// Expire.
    pub(crate) expire: u32,
    /// How long a "no" may be kept.
    pub(crate) min_ttl: u32,
}

/// `http_config` and what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HttpConfig {
    /// Whether JSON is always indented.
    pub(crate) pretty: bool,
    /// Path prefixes that are refused.
    pub(crate) block_endpoints: Vec<String>,
    /// Headers of every answer.
    pub(crate) response_headers: BTreeMap<String, String>,
    /// Who may write; empty is everybody.
    pub(crate) allow_write_http_from: Vec<IpNet>,
    /// Whether `?cached` is heeded.
    pub(crate) use_cache: bool,
    /// Most bytes of a request's headers.
    pub(crate) max_header_bytes: usize,
    /// Names besides the usual that `Host` may have.
    pub(crate) allowed_hosts: Vec<String>,
    /// Most connections of one address; 0 is no limit.
    pub(crate) max_conns_per_client: usize,
    /// How many requests a server takes.
    pub(crate) request_limits: RequestLimits,
    /// Largest value of a key.
    pub(crate) kv_max_value_size: usize,
    /// Largest transaction.
    pub(crate) txn_max_req_len: usize,
    /// How long a blocking read waits if it does not say.
    pub(crate) default_query_time: Duration,
    /// How long it waits at most.
    pub(crate) max_query_time: Duration,
    /// Over zero, catalog and health reads are stale by default, with this bound.
    pub(crate) discovery_max_stale: Duration,
    /// What a default read does without a leader.
    pub(crate) default_reads: DefaultReads,
}

/// How many requests a server takes over HTTP, each second and over a short time ten times as many.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct RequestLimits {
    /// Whether more of them are refused, or only counted; `None` is neither.
    pub(crate) refuses: Option<bool>,
    /// Reads a second; `None` is no limit.
    pub(crate) reads: Option<f64>,
    /// Writes a second; `None` is no limit.
    pub(crate) writes: Option<f64>,
}

/// The web page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UiConfig {
    /// Where it begins: `/ui/`.
    pub(crate) path: String,
    /// Files that stand in its place.
    pub(crate) dir: Option<PathBuf>,
}

/// What a default read of catalog and health does while there is no leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DefaultReads {
    /// It answers from here, and says so.
    Muster,
    /// It fails, as Consul's does.
    Consul,
}

/// What anti-entropy does with rows on this node that nobody owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AntiEntropy {
    /// It leaves them.
    Muster,
    /// It removes them, as Consul's does.
    Consul,
}

/// Checks and services of this agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChecksConfig {
    /// Whether checks told over HTTP may run programs.
    pub(crate) remote_scripts: bool,
    /// Whether checks of files may run programs.
    pub(crate) local_scripts: bool,
    /// How often new output alone is written.
    pub(crate) update_interval: Duration,
    /// Output kept of one run, in bytes.
    pub(crate) output_bytes_max: usize,
    /// Whether output is not kept at all.
    pub(crate) discard_output: bool,
    /// What happens to rows that nobody owns.
    pub(crate) anti_entropy: AntiEntropy,
    /// The agent's TLS, if checks over TLS use it.
    pub(crate) tls: Option<ChecksTls>,
}

/// With what checks over TLS judge and introduce themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChecksTls {
    /// Files and directories of roots; without any the system's.
    pub(crate) roots: Vec<PathBuf>,
    /// Certificate and key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Name expected where a check names none; `None` is the node's name.
    pub(crate) server_name: Option<String>,
}

/// Raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RaftConfig {
    /// Scales the timers: up to 5 they are as they are, at 10 they are twice as long.
    pub(crate) multiplier: u32,
    /// Entries after which a snapshot is made.
    pub(crate) snapshot_threshold: u64,
    /// Entries kept behind a snapshot.
    pub(crate) trailing_logs: u64,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub(crate) level: &'static str,
    /// JSON instead of text.
    pub(crate) json: bool,
    /// The facility as which it goes to syslog too.
    pub(crate) syslog: Option<u8>,
    /// A file besides stderr.
    pub(crate) file: Option<PathBuf>,
    /// A new file is begun after this long.
    pub(crate) rotate_duration: Duration,
    /// A new file is begun after this many bytes; 0 is never.
    pub(crate) rotate_bytes: u64,
    /// Old files kept; `None` is all.
    pub(crate) rotate_max_files: Option<usize>,
}

/// Metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TelemetryConfig {
    /// How long a metric that is silent is shown to Prometheus; zero is off.
    pub(crate) prometheus_retention_time: Duration,
    /// Whether gauges go without the host's name.
    pub(crate) disable_hostname: bool,
    /// First part of every name.
    pub(crate) metrics_prefix: String,
    /// Prefixes that are shown (`true`) or hidden.
    pub(crate) prefix_filter: Vec<(bool, String)>,
    /// Whether metrics that no prefix matches are shown.
    pub(crate) filter_default: bool,
    /// Where statsd listens.
    pub(crate) statsd: Option<String>,
    /// Where statsite listens.
    pub(crate) statsite: Option<String>,
    /// Where dogstatsd listens.
    pub(crate) dogstatsd: Option<String>,
    /// What it is told with each metric.
    pub(crate) dogstatsd_tags: Vec<String>,
    /// Whether this host is measured too.
    pub(crate) host_metrics: bool,
}

impl RaftConfig {
    /// A timer of raft's as long as the multiplier makes it. Consul's default of 5 is ours too; below it there is nothing to
    /// gain, because a leader that is seen to be dead is replaced without waiting.
    pub(crate) fn patience(&self, timer: Duration) -> Duration {
        timer * self.multiplier.max(5) / 5
    }
}

impl ChecksConfig {
    /// What definitions of files may do.
    pub(crate) fn of_files(&self) -> DefinitionLimits {
        DefinitionLimits { output_bytes_max: self.output_bytes_max, scripts: self.local_scripts }
    }

    /// What definitions told over HTTP may do.
    pub(crate) fn over_http(&self) -> DefinitionLimits {
        DefinitionLimits { output_bytes_max: self.output_bytes_max, scripts: self.remote_scripts }
    }
}
