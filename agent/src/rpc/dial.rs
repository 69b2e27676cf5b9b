//! Makes one connection to a peer: TCP, HTTP/2, hello.
#![allow(clippy::disallowed_methods)] // Each connection is driven by a task of its own, which ends with the connection.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;

use super::connect::{Stream, connect};
use super::hello::{HELLO_BYTES_MAX, Hello, meet};
use super::identity::Identity;
use super::method::{Class, Method};
use super::refusal::{Code, Refusal};
use super::target::Target;
use crate::error::chain;

/// Time for TCP alone: within a datacenter a lost SYN is sent again after one second, and more than that is no connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Time for HTTP/2 and hello, once TCP stands.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Silence after which a connection is asked whether its peer still lives, and the time for the answer: a host that lost its
/// power sends nothing, and the kernel alone would wait for minutes.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// What a peer may have sent without being read: of one answer, of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A connection's own buffer for what waits to be sent, for each call.
const SEND_BUFFER: usize = 1 << 20;

/// Through which calls are made.
pub(super) type Sender = http2::SendRequest<Full<Bytes>>;

/// Why there is no connection.
pub(super) struct NoConnection {
    pub(super) what: String,
    /// The two sides do not fit: worth an operator's attention, unlike a peer that is just not there.
    pub(super) mismatch: bool,
}

impl NoConnection {
    fn silent(what: impl Into<String>) -> Self {
        Self { what: what.into(), mismatch: false }
    }
}

/// Connects and says hello.
pub(super) async fn dial(identity: &Identity, address: SocketAddr, target: Target, class: Class) -> Result<Sender, NoConnection> {
    let stream = match timeout(CONNECT_TIMEOUT, connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(NoConnection::silent(format!("{address}: {error}"))),
        Err(_) => return Err(NoConnection::silent(format!("{address}: no connection within {CONNECT_TIMEOUT:?}"))),
    };
    match timeout(HELLO_TIMEOUT, greet(identity, stream, target, class)).await {
        Ok(Ok(sender)) => Ok(sender),
        Ok(Err(no)) => Err(NoConnection { what: format!("{address}: {}", no.what), ..no }),
        Err(_) => Err(NoConnection::silent(format!("{address}: connected, but no hello within {HELLO_TIMEOUT:?}"))),
    }
}

/// Says hello on a connection that stands.
pub(super) async fn greet(identity: &Identity, stream: Stream, target: Target, class: Class) -> Result<Sender, NoConnection> {
    let ended =
        |error: hyper::Error| NoConnection::silent(format!("connected, but it does not speak with us: {}", chain(&error)));
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ended)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(node = %target.node, ?class, error = chain(&error), "connection ended");
        }
    });
    let raft_to = match class {
        Class::Main => None,
        Class::Raft | Class::Bulk => target.raft,
    };
    let hello = Hello::new(identity, Some(target.node), raft_to);
    let mut request = Request::new(Full::new(Bytes::from(hello.encode())));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = Method::Hello.uri();
    let response = sender.send_request(request).await.map_err(ended)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), HELLO_BYTES_MAX).collect().await;
    let body = body.map_err(|error| NoConnection::silent(format!("its hello cannot be read: {error}")))?.to_bytes();
    let refused = |refusal: Refusal| NoConnection { mismatch: refusal.code != Code::Stopping, what: refusal.text };
    if !status.is_success() {
        return Err(refused(Refusal::decode(&body)));
    }
    let theirs = Hello::decode(&body).map_err(refused)?;
    if theirs.node != target.node {
        let text = format!("node {} was looked for, and node {} answers at this address", target.node, theirs.node);
        return Err(refused(Refusal::new(Code::Node, text)));
    }
    meet(identity, &theirs).map_err(refused)?;
    Ok(sender)
}
