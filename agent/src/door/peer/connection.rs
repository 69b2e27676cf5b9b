//! One connection of a peer, from its hello to its end.
#![allow(clippy::disallowed_methods)] // the hello has until a moment

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::answer::{self, Connection};
use super::door::Door;
use super::line;
use crate::rpc::{Line, Stream, metrics};

/// Time for answers under way when a connection is to end.
const CLOSING_DEADLINE: Duration = Duration::from_secs(1);
/// Calls at once on one connection: what a caller may have unanswered (`rpc/pool.rs`).
const STREAMS_MAX: u32 = 4096;
/// Calls that were given up before they were looked at: a burst of them is no attack, as up to all may be given up at once.
const GIVEN_UP_MAX: usize = STREAMS_MAX as usize;
/// Longest headers of a call: a path, a deadline.
const HEADERS_BYTES_MAX: u32 = 8 << 10;
/// Silence after which a peer is asked whether it lives, and the time for its answer.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// What a peer may send before it is read: of one body, of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What may wait to be sent, for each call.
const SEND_BUFFER: usize = 1 << 20;

/// Serves one connection until either side ends it, or it is handed to raft.
pub(super) async fn run(
    door: Door,
    stream: Stream,
    from: SocketAddr,
    place: OwnedSemaphorePermit,
    stranger: OwnedSemaphorePermit,
) {
    let until = Instant::now() + door.limits().handshake_timeout;
    let greeting = &door;
    let first = async move {
        if !Line::is_wanted(&stream).await? {
            return Ok(First::Calls(stream));
        }
        line::greet(greeting, stream).await.map(First::Line)
    };
    let first: io::Result<First> = tokio::select! {
        first = timeout_at(until, first) => first.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        () = door.shared.closing.cancelled() => Err(io::ErrorKind::Interrupted.into()),
    };
    match first {
        Ok(First::Calls(stream)) => serve(door, stream, from, (place, stranger), until).await,
        Ok(First::Line(Some(greeted))) => line::hand_over(&door, greeted, from, place),
        Ok(First::Line(None)) | Err(_) => {
            metrics::METERS.refused.increment(1);
            tracing::debug!(%from, "a connection ended that was not one of a peer");
            door.shared.gone(from.ip());
        }
    }
}

/// What a connection turns out to be.
enum First {
    /// HTTP/2.
    Calls(Stream),
    /// A line, or it was refused.
    Line(Option<line::Greeted>),
}

async fn serve(
    door: Door,
    stream: Stream,
    from: SocketAddr,
    (place, stranger): (OwnedSemaphorePermit, OwnedSemaphorePermit),
    hello_until: Instant,
) {
    let closing = door.shared.closing.clone();
    let connection = Arc::new(Connection {
        door,
        from,
        caller: OnceLock::new(),
        end: Notify::new(),
        greeted: Notify::new(),
        stranger: Mutex::new(Some(stranger)),
    });
    let shared = connection.clone();
    let service = service_fn(move |request| {
        let answering = answer::answer(shared.clone(), request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(GIVEN_UP_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = Box::pin(served);
    let no_hello = async {
        tokio::select! {
            () = sleep_until(hello_until) => {}
            () = connection.greeted.notified() => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = served.as_mut() => Some(ended),
        () = connection.end.notified() => None,
        () = no_hello => None,
        () = closing.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            timeout(CLOSING_DEADLINE, served.as_mut()).await.unwrap_or(Ok(()))
        }
    };
    match connection.caller.get() {
        Some(caller) => {
            if let Err(error) = ended {
                tracing::debug!(peer = %caller.node, %from, %error, "connection ended");
            }
            if let (Some(raft), Some(id)) = (&connection.door.raft, caller.raft) {
                raft.peer_closed(id);
            }
            connection.door.closed(*caller);
        }
        None => {
            metrics::METERS.refused.increment(1);
            tracing::debug!(%from, error = ?ended.err(), "a connection ended that was not one of a peer");
        }
    }
    connection.door.shared.gone(from.ip());
    drop(place);
}
