//! How a check is run: what an agent was told, and the shape in which a registrant tells the catalog of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::name::{CheckId, NodeName, ServiceId};
use crate::status::Status;

/// Shortest interval of a probe: Consul raises shorter ones to it.
pub const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Output kept of one run, in bytes, unless the check or the agent says otherwise.
pub const OUTPUT_BYTES_MAX_DEFAULT: usize = 4096;
/// Shortest time after which a critical service may be deregistered: shorter ones are raised to it.
pub const DEREGISTER_AFTER_MIN: Duration = Duration::from_secs(60);

/// A check that an agent runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckDefinition {
    /// Its id on this node.
    pub id: CheckId,
    /// Its name for people.
    pub name: SmolStr,
    /// What the registrant notes about it.
    #[serde(default)]
    pub notes: SmolStr,
    /// The service it judges; `None` for a check of the whole node.
    #[serde(default)]
    pub service_id: Option<ServiceId>,
    /// The status until the first result; critical unless given.
    #[serde(default)]
    pub status: Option<Status>,
    /// What is done to find out.
    pub probe: Probe,
    /// How often a probe runs; at least [`INTERVAL_MIN`]. Unused by TTL and alias.
    #[serde(default)]
    pub interval: Duration,
    /// Time limit of one run; `None` is 30 s where a program runs and 10 s for the others.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// Successes in a row before it passes again.
    #[serde(default)]
    pub success_before_passing: u32,
    /// Failures in a row before it warns; `None` is as `failures_before_critical`.
    #[serde(default)]
    pub failures_before_warning: Option<u32>,
    /// Failures in a row before it is critical.
    #[serde(default)]
    pub failures_before_critical: u32,
    /// Critical this long without a break, its service is deregistered.
    #[serde(default)]
    pub deregister_critical_service_after: Option<Duration>,
    /// Output kept of one run, in bytes.
    #[serde(default = "output_bytes_max_default")]
    pub output_bytes_max: usize,
}

fn output_bytes_max_default() -> usize {
    OUTPUT_BYTES_MAX_DEFAULT
}

/// What is done to find out how a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A request; 2xx passes, 429 warns, all else is critical.
    Http(HttpProbe),
    /// A connection; passes when it opens.
    Tcp(TcpProbe),
    /// A program; exit 0 passes, 1 warns, all else is critical.
    Exec(ExecProbe),
    /// Nothing: somebody reports in time, or it turns critical after this long.
    Ttl(Duration),
    /// As another service or node is.
    Alias(AliasProbe),
    /// A question after gRPC's health protocol; passes when the service is serving.
    Grpc(GrpcProbe),
    /// An HTTP/2 ping; passes when it is acknowledged.
    H2Ping(TcpProbe),
    /// An empty datagram; passes unless it is refused.
    Udp(UdpProbe),
    /// A program in a container; judged as a program here.
    Docker(DockerProbe),
    /// A service of the host's service manager; passes while it runs.
    OsService(OsServiceProbe),
}

impl Probe {
    /// Consul's word for it, as `Type` shows it.
    pub fn kind(&self) -> &'static str {
        match self {
            Probe::Http(_) => "http",
            Probe::Tcp(_) => "tcp",
            Probe::Exec(_) => "script",
            Probe::Ttl(_) => "ttl",
            Probe::Alias(_) => "alias",
            Probe::Grpc(_) => "grpc",
            Probe::H2Ping(_) => "h2ping",
            Probe::Udp(_) => "udp",
            Probe::Docker(_) => "docker",
            Probe::OsService(_) => "os_service",
        }
    }

    /// Whether it runs a program that the registrant chose, here or in a container.
    pub fn runs_program(&self) -> bool {
        matches!(self, Probe::Exec(_) | Probe::Docker(_))
    }
}

/// An HTTP request as a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpProbe {
    /// `http://` or `https://` address.
    pub url: String,
    /// Method; empty is GET.
    pub method: String,
    /// Headers, each with its values.
    pub header: BTreeMap<String, Vec<String>>,
    /// Request body.
    pub body: String,
    /// Whether a redirect is an answer in itself.
    pub disable_redirects: bool,
    /// Whether redirects to other hosts are followed too; by default only those on the same host are.
    pub follow_foreign_redirects: bool,
    /// Name expected in the certificate; empty is the URL's host.
    pub tls_server_name: String,
    /// Whether any certificate is taken.
    pub tls_skip_verify: bool,
}

/// A TCP connection as a probe, for itself or for a ping on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpProbe {
    /// `host:port`.
    pub address: String,
    /// Whether a TLS handshake belongs to success.
    pub tls: bool,
    /// Name expected in the certificate; empty is the address's host.
    pub tls_server_name: String,
    /// Whether any certificate is taken.
    pub tls_skip_verify: bool,
}

/// A question after gRPC's health protocol as a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GrpcProbe {
    /// `host:port`, or `host:port/service` to ask for one of a server's services.
    pub target: String,
    /// Whether it is asked over TLS.
    pub tls: bool,
    /// Name expected in the certificate; empty is the target's host.
    pub tls_server_name: String,
    /// Whether any certificate is taken.
    pub tls_skip_verify: bool,
}

/// A datagram as a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UdpProbe {
    /// `host:port`.
    pub address: String,
}

/// A program in a container as a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerProbe {
    /// The container's id or name.
    pub container: String,
    /// Program and arguments.
    pub args: Vec<String>,
}

/// A service of the host as a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OsServiceProbe {
    /// Its name at the service manager.
    pub name: String,
}

/// A program as a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecProbe {
    /// Program and arguments; no shell is involved.
    pub args: Vec<String>,
}

/// Another's health as a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AliasProbe {
    /// The node; `None` is this one.
    pub node: Option<NodeName>,
    /// The service; `None` is the node itself.
    pub service: Option<ServiceId>,
}

/// What a registrant told the catalog of how its check is run (`Definition` of a check row): kept and returned.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Definition {
    /// URL of an HTTP check.
    pub http: String,
    /// TLS name.
    pub tls_server_name: String,
    /// Whether any certificate is taken.
    pub tls_skip_verify: bool,
    /// HTTP headers.
    pub header: BTreeMap<String, Vec<String>>,
    /// HTTP method.
    pub method: String,
    /// HTTP body.
    pub body: String,
    /// Whether redirects are not followed.
    pub disable_redirects: bool,
    /// Address of a TCP check.
    pub tcp: String,
    /// TLS on a TCP check.
    pub tcp_use_tls: bool,
    /// Address of a UDP check.
    pub udp: String,
    /// Address of an HTTP/2 ping check.
    pub h2ping: String,
    /// TLS on an HTTP/2 ping check.
    pub h2ping_use_tls: bool,
    /// Name of an operating-system service.
    pub os_service: String,
    /// Output kept, in bytes.
    pub output_bytes_max: u64,
    /// How often.
    pub interval: Duration,
    /// Time limit.
    pub timeout: Duration,
    /// Critical this long, the service goes.
    pub deregister_critical_service_after: Duration,
    /// Program and arguments.
    pub script_args: Vec<String>,
    /// Container of a docker check.
    pub docker_container_id: String,
    /// Shell of a docker check.
    pub shell: String,
    /// Address of a gRPC check.
    pub grpc: String,
    /// TLS on a gRPC check.
    pub grpc_use_tls: bool,
    /// Node of an alias check.
    pub alias_node: String,
    /// Service of an alias check.
    pub alias_service: String,
    /// Time limit of a TTL check.
    pub ttl: Duration,
}
