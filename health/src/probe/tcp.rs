//! A check that a port takes connections.

use std::time::Duration;

use muster_catalog::{Status, TcpProbe};
use tokio::time::{Instant, timeout_at};

use super::{Tools, deadline, dial};
use crate::verdict::Outcome;

pub(super) async fn look(probe: &TcpProbe, timeout: Duration, tools: &Tools) -> Outcome {
    match connect(probe, deadline(timeout), tools).await {
        Ok(()) => Outcome::new(Status::Passing, format!("TCP connect {}: Success", probe.address)),
        Err(why) => Outcome::critical(why),
    }
}

async fn connect(probe: &TcpProbe, deadline: Instant, tools: &Tools) -> Result<(), String> {
    let (host, port) = dial::split(&probe.address)?;
    let stream = dial::connect(host, port, &tools.names, deadline).await?;
    if probe.tls {
        let name = if probe.tls_server_name.is_empty() { host } else { &probe.tls_server_name };
        let handshake = tools.tls.wrap(stream, name, probe.tls_skip_verify);
        let late = |_| Err(format!("tls: handshake with {}: i/o timeout", probe.address));
        timeout_at(deadline, handshake).await.unwrap_or_else(late)?;
    }
    Ok(())
}
