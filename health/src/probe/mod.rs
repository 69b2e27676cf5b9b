//! One look at a service: what is done, how long it may take, what it says.
#![allow(clippy::disallowed_methods)] // a probe reads the clock: its deadline is its own

mod dial;
mod exec;
mod http;
mod redirect;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;

use std::time::Duration;

use muster_catalog::{CheckDefinition, Probe};
use tokio::time::Instant;

pub(crate) use dial::Names;
pub(crate) use tls::Tls;

use crate::verdict::Outcome;
use crate::wheel::AHEAD_MAX;

/// Time limit of a script that names none, as Consul's.
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of the others.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);

/// What probes share.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    pub(crate) tls: Tls,
    pub(crate) names: Names,
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
        Probe::Ttl(_) | Probe::Alias(_) => None,
    }
}

fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout
}
