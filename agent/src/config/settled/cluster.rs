//! What a configuration says about the cluster: who makes it, how others are found, how they are watched.

use std::time::Duration;

use crate::config::join::JoinAddress;
use crate::config::key::GossipKey;

/// The cluster that this agent makes or joins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClusterConfig {
    /// Servers that must have met before they make a cluster: 1 is this one alone, 0 is never.
    pub(crate) bootstrap_expect: u32,
    /// How others are found.
    pub(crate) join: JoinConfig,
    /// How they are watched.
    pub(crate) gossip: GossipConfig,
    /// How servers come and go.
    pub(crate) autopilot: AutopilotConfig,
    /// Requests between agents.
    pub(crate) rpc: RpcConfig,
    /// What is done about members that are gone.
    pub(crate) absence: AbsenceConfig,
    /// What a client agent holds of the catalog.
    pub(crate) replica: Replica,
    /// Up to this age a client agent answers from its copy while no server can be asked.
    pub(crate) max_stale: Duration,
    /// Whether this agent takes its name and its UUID over from a member that still answers (`-replace`).
    pub(crate) replace: bool,
    /// Whether what is kept of another cluster is dropped at the start (`-forget-cluster`).
    pub(crate) forget_cluster: bool,
}

/// How others are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinConfig {
    /// Asked in turn until one of them has been joined.
    pub(crate) retry: Vec<JoinAddress>,
    /// Time between attempts.
    pub(crate) interval: Duration,
    /// Attempts after which the agent gives up and ends; `None` is never.
    pub(crate) attempts_max: Option<u32>,
    /// Whether an agent that left goes back to the members it knew.
    pub(crate) rejoin_after_leave: bool,
}

/// How members are watched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GossipConfig {
    /// The key that this configuration names; a kept key ring wins over it.
    pub(crate) key: Option<GossipKey>,
    /// Whether the key ring is kept in the data directory.
    pub(crate) keep_keyring: bool,
    /// Time between rounds of spreading news.
    pub(crate) gossip_interval: Duration,
    /// Members that each round goes to.
    pub(crate) gossip_nodes: usize,
    /// Time between probes.
    pub(crate) probe_interval: Duration,
    /// Time that an answer to a probe has.
    pub(crate) probe_timeout: Duration,
    /// News is told this often, times the logarithm of the number of members.
    pub(crate) retransmit_mult: u32,
    /// A suspicion lasts this many probe intervals at least, times the logarithm of the number of members.
    pub(crate) suspicion_mult: u32,
    /// How long a member that failed is kept.
    pub(crate) reconnect_timeout: Duration,
}

/// What is done about members that are gone. A leader's word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AbsenceConfig {
    /// An agent that is gone while its host lives is most likely being restarted: for so long its services stay in every answer.
    pub(crate) restart_grace: Duration,
    /// Where many members are lost at once and it may be the leader that is cut off, for so long at most they all stay.
    pub(crate) mass_loss_hold: Duration,
}

impl Default for AbsenceConfig {
    fn default() -> Self {
        Self { restart_grace: Duration::from_secs(5), mass_loss_hold: Duration::from_secs(60) }
    }
}

/// How servers come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AutopilotConfig {
    /// Whether servers that failed lose their vote when a new one has come.
    pub(crate) cleanup_dead_servers: bool,
    /// Silence after which a server is not healthy.
    pub(crate) last_contact_threshold: Duration,
    /// Entries that a healthy server may be behind.
    pub(crate) max_trailing_logs: u64,
    /// Voters that clean-up leaves at least; 0 is what the majority needs.
    pub(crate) min_quorum: u32,
    /// How long a new server must have been healthy before it votes.
    pub(crate) server_stabilization_time: Duration,
}

/// Requests between agents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RpcConfig {
    /// Time that a handshake has.
    pub(crate) handshake_timeout: Duration,
    /// Time that a request has which does not wait by itself.
    pub(crate) client_timeout: Duration,
    /// Most connections from one address; 0 is no limit.
    pub(crate) max_conns_per_client: usize,
    /// Requests of a client agent to servers each second; `None` is no limit.
    pub(crate) rate: Option<f64>,
    /// How many of them at once.
    pub(crate) burst: u32,
}

/// What a client agent holds of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replica {
    /// All of it.
    Full,
    /// What was asked for on this host.
    Interest,
    /// Nothing: each question travels to a server.
    None,
}
