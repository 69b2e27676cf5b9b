//! One look at a service: what is done, how long it may take, what it says.
#![allow(clippy::disallowed_methods)] // a probe reads the clock: its deadline is its own

mod deadline;
mod dial;
mod docker;
mod exec;
mod grpc;
mod h2ping;
mod http;
mod os_service;
mod redirect;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod udp;
mod wire;

use std::time::Duration;

use muster_catalog::{CheckDefinition, Probe};

use deadline::Deadline;
pub(crate) use dial::Names;
pub use tls::AgentTls;
pub(crate) use tls::Tls;

use crate::verdict::Outcome;
use crate::wheel::AHEAD_MAX;

/// Time limit of what runs a program and names none, as Consul's.
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of the others.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);

/// What probes share.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    pub(crate) tls: Tls,
    pub(crate) names: Names,
    /// The engine's address as `DOCKER_HOST` has it; empty is the usual one.
    pub(crate) docker_host: String,
    /// The program that speaks with the service manager; empty is the one of the path.
    pub(crate) systemctl: String,
}

/// Looks once; `None` for kinds at which there is nothing to look. Dropped half way, it leaves no process and no socket.
pub(crate) async fn look(definition: &CheckDefinition, tools: &Tools) -> Option<Outcome> {
    let limit = |default| match definition.timeout {
        None | Some(Duration::ZERO) => default,
        Some(timeout) => timeout.min(AHEAD_MAX),
    };
    let output_bytes_max = definition.output_bytes_max;
    match &definition.probe {
        Probe::Http(probe) => Some(http::look(probe, limit(SOCKET_TIMEOUT), output_bytes_max, tools).await),
        Probe::Tcp(probe) => Some(tcp::look(probe, limit(SOCKET_TIMEOUT), tools).await),
        Probe::Exec(probe) => Some(exec::look(probe, limit(EXEC_TIMEOUT), output_bytes_max).await),
        Probe::Grpc(probe) => Some(grpc::look(probe, limit(SOCKET_TIMEOUT), output_bytes_max, tools).await),
        Probe::H2Ping(probe) => Some(h2ping::look(probe, limit(SOCKET_TIMEOUT), tools).await),
        Probe::Udp(probe) => Some(udp::look(probe, limit(SOCKET_TIMEOUT), tools).await),
        Probe::Docker(probe) => Some(docker::look(probe, limit(EXEC_TIMEOUT), output_bytes_max, &tools.docker_host).await),
        Probe::OsService(probe) => {
            let systemctl = if tools.systemctl.is_empty() { "systemctl" } else { &tools.systemctl };
            Some(os_service::look(probe, limit(EXEC_TIMEOUT), output_bytes_max, systemctl).await)
        }
        Probe::Ttl(_) | Probe::Alias(_) => None,
    }
}
