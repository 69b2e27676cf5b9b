//! A check that a server answers an HTTP/2 ping (RFC 9113, 6.7): a handful of frames, written and read here.

use std::time::Duration;

use muster_catalog::{Status, TcpProbe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wire::Wire;
use super::{Deadline, Tools, tcp};
use crate::verdict::Outcome;

/// What begins a connection: the preface, then settings (no pushes), then a ping.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\
    \x00\x00\x08\x06\x00\x00\x00\x00\x00muster!?";
const PAYLOAD: &[u8; 8] = b"muster!?";
/// Most that a server may send before it acknowledges; its settings and windows have some hundred bytes.
const BYTES_MAX: usize = 64 * 1024;
/// Longest frame of a peer that was granted no more (RFC 9113, 4.2).
const FRAME_BYTES_MAX: usize = 16 * 1024;

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

pub(super) async fn look(probe: &TcpProbe, timeout: Duration, tools: &Tools) -> Outcome {
    let TcpProbe { address, tls, tls_server_name, tls_skip_verify } = probe;
    let tls = tls.then_some((tls_server_name.as_str(), *tls_skip_verify, Some("h2")));
    let deadline = Deadline::new(timeout);
    let mut wire = match tcp::open(address, tls, &deadline, tools).await {
        Ok(wire) => wire,
        Err(why) => return Outcome::critical(format!("Failed to dial to {address}: {why}")),
    };
    match deadline.bound(ping(&mut wire)).await.unwrap_or_else(|_| Err("context deadline exceeded".to_owned())) {
        Ok(()) => Outcome::new(Status::Passing, "HTTP2 ping was successful".to_owned()),
        Err(why) => Outcome::critical(format!("HTTP2 ping failed: {why}")),
    }
}

async fn ping(wire: &mut Wire) -> Result<(), String> {
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        _ => crate::text::system(&error),
    };
    wire.write_all(BEGIN).await.map_err(broken)?;
    wire.flush().await.map_err(broken)?;
    let (mut first, mut taken) = (true, 0);
    while taken < BYTES_MAX {
        let mut head = [0; 9];
        wire.read_exact(&mut head).await.map_err(broken)?;
        let [a, b, c, kind, flags, ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if std::mem::take(&mut first) && (kind != SETTINGS || flags & ACK != 0) {
            let http1 = if head.starts_with(b"HTTP/1") { ": it is in HTTP/1" } else { "" };
            return Err(format!("the answer does not begin as HTTP/2{http1}"));
        }
        if length > FRAME_BYTES_MAX {
            return Err(format!("a frame of {length} bytes"));
        }
        let mut payload = vec![0; length];
        wire.read_exact(&mut payload).await.map_err(broken)?;
        taken += head.len() + length;
        match (kind, flags & ACK != 0) {
            (PING, true) if payload == PAYLOAD => return Ok(()),
            (PING, false) if length == PAYLOAD.len() => {
                let mut answer = vec![0, 0, 8, PING, ACK, 0, 0, 0, 0];
                answer.extend_from_slice(&payload);
                wire.write_all(&answer).await.map_err(broken)?;
            }
            (SETTINGS, false) => wire.write_all(&[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]).await.map_err(broken)?,
            (GOAWAY, _) => {
                let code = payload.get(4..8).and_then(|code| code.try_into().ok()).map_or(0, u32::from_be_bytes);
                return Err(format!("the server goes away with error {code}"));
            }
            _ => continue,
        }
        wire.flush().await.map_err(broken)?;
    }
    Err(format!("no acknowledgement within {BYTES_MAX} bytes"))
}
