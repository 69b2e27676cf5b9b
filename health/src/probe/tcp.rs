//! A check that a port takes connections.

use std::time::Duration;

use muster_catalog::{Status, TcpProbe};

use super::wire::Wire;
use super::{Deadline, Tools, dial};
use crate::verdict::Outcome;

pub(super) async fn look(probe: &TcpProbe, timeout: Duration, tools: &Tools) -> Outcome {
    match connect(probe, &Deadline::new(timeout), tools).await {
        Ok(()) => Outcome::new(Status::Passing, format!("TCP connect {}: Success", probe.address)),
        Err(why) => Outcome::critical(why),
    }
}

async fn connect(probe: &TcpProbe, deadline: &Deadline, tools: &Tools) -> Result<(), String> {
    let TcpProbe { address, tls, tls_server_name, tls_skip_verify } = probe;
    let tls = tls.then_some((tls_server_name.as_str(), *tls_skip_verify, None));
    open(address, tls, deadline, tools).await.map(drop)
}

/// Connects to `host:port`; with `tls` (the name expected unless it is empty, whether any certificate is taken, the protocol
/// that is to be spoken) it shakes hands too.
pub(super) async fn open(
    address: &str,
    tls: Option<(&str, bool, Option<&str>)>,
    deadline: &Deadline,
    tools: &Tools,
) -> Result<Wire, String> {
    let (host, port) = dial::split(address)?;
    let stream = dial::connect(host, port, &tools.names, deadline).await?;
    let Some((name, skip_verify, protocol)) = tls else { return Ok(Wire::new(stream)) };
    let handshake = tools.tls.wrap(stream, name, host, skip_verify, protocol);
    let late = |_| Err(format!("tls: handshake with {address}: i/o timeout"));
    deadline.bound(handshake).await.unwrap_or_else(late)
}
