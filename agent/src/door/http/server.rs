//! Listeners and connections: bounded in number, in time and in what each may send before it is answered.
#![allow(clippy::disallowed_methods)] // Each connection is a task of its own; the tracker in `serve` ends them.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use smol_str::{SmolStr, format_smolstr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Doorway;
use super::limit::{Limit, Place, Visit};
use super::patience::Patience;
use super::rules::{self, By, Peer};

/// Time for a request's head, and for the pause before the next one: what a client that sends a byte a second gets.
/// nginx ends idle connections after 75 s; clients are used to that.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
/// Longest head of a request, in bytes: a filter, a token and whatever proxies add. More gets 431.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Below this hyper cannot read a request at all.
const HEAD_BYTES_MIN: usize = 8 << 10;
/// Time for answers under way when the door closes.
const CLOSING_DEADLINE: Duration = Duration::from_secs(5);
/// Pause of accepting while the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Refused connections that are held open until the client has read why; more of them are just closed.
const REFUSED_MAX: usize = 64;
/// Time for that.
const REFUSED_DEADLINE: Duration = Duration::from_secs(1);
/// Silence after which the kernel asks whether the other end of a connection still lives: a waiting reader may be gone.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Where the door listens.
#[derive(Debug)]
pub(crate) enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a socket in the file system.
    Unix(UnixListener),
}

/// Serves until `stop` is ready: then listeners close, waiting reads are answered, and connections end within a bound.
pub(crate) async fn serve(doorway: Arc<Doorway>, listeners: Vec<Listener>, stop: impl Future<Output = ()>) {
    let connections_max = doorway.now().config.connections_max;
    let house = Arc::new(House {
        doorway,
        limit: Arc::new(Limit::new(connections_max)),
        refused: Arc::new(Semaphore::new(REFUSED_MAX)),
        closing: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    for listener in listeners {
        let listening = house.clone().listen(listener);
        house.tasks.spawn(listening);
    }
    stop.await;
    house.closing.cancel();
    house.doorway.now().desk.wake_readers();
    house.tasks.close();
    house.tasks.wait().await;
}

/// What listeners and connections share.
struct House {
    doorway: Arc<Doorway>,
    limit: Arc<Limit>,
    refused: Arc<Semaphore>,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl House {
    async fn listen(self: Arc<Self>, listener: Listener) {
        let by = match &listener {
            Listener::Tcp(tcp) => match tcp.local_addr() {
                Ok(address) if !address.ip().is_loopback() => By::Network,
                _ => By::Loopback,
            },
            Listener::Unix(_) => By::Unix,
        };
        let mut troubled = false;
        loop {
            let accepting = async {
                let place = self.limit.place().await;
                match &listener {
                    Listener::Tcp(tcp) => tcp.accept().await.map(|(stream, from)| {
                        let peer = Peer { from: format_smolstr!("{from}"), ip: Some(canonical(from.ip())), by };
                        self.clone().admit_tcp(stream, peer, place);
                    }),
                    Listener::Unix(unix) => unix.accept().await.map(|(stream, _)| {
                        let peer = Peer { from: SmolStr::new_static("unix"), ip: None, by };
                        self.clone().admit(stream, peer, place);
                    }),
                }
            };
            let accepted = tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                accepted = accepting => accepted,
            };
            match accepted {
                Ok(()) if troubled => {
                    troubled = false;
                    tracing::info!("connections are accepted again");
                }
                Ok(()) => {}
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    if !troubled {
                        troubled = true;
                        tracing::warn!(%error, "no connection can be accepted at present; trying on");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit_tcp(self: Arc<Self>, stream: TcpStream, peer: Peer, place: Place) {
        // Both only make it better: without them an answer is slower, and a dead client is noticed later.
        let _ = stream.set_nodelay(true);
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        self.admit(stream, peer, place);
    }

    fn admit<S>(self: Arc<Self>, stream: S, peer: Peer, place: Place)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let per_client_max = self.doorway.now().config.connections_per_client_max;
        match self.limit.admit(peer, place, per_client_max) {
            Ok(visit) => {
                let connection = self.clone().connection(stream, visit);
                self.tasks.spawn(connection);
            }
            Err(peer) => self.refuse(stream, &peer),
        }
    }

    fn refuse<S>(&self, stream: S, peer: &Peer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        tracing::debug!(peer = %peer.from, "too many connections from this address");
        if let Ok(permit) = self.refused.clone().try_acquire_owned() {
            self.tasks.spawn(async move {
                let _ = timeout(REFUSED_DEADLINE, tell_too_many(stream)).await;
                drop(permit);
            });
        }
    }

    /// One connection. All of it lives as long as a reader that waits, so each part is in it once: a block, where a function that
    /// is `async` would hold its arguments twice, and what hyper makes is made where it stays.
    fn connection<S>(self: Arc<Self>, stream: S, visit: Visit) -> impl Future<Output = ()> + Send + 'static
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(stream);
        let head_bytes_max = self.doorway.now().config.head_bytes_max.max(HEAD_BYTES_MIN);
        async move {
            let service = service_fn(|request| rules::answer(&self.doorway.now(), &visit.peer, request));
            let mut connection = pin!(
                http1::Builder::new()
                    .timer(Patience::new(HEAD_DEADLINE))
                    .header_read_timeout(HEAD_DEADLINE)
                    .max_buf_size(head_bytes_max)
                    .half_close(false)
                    .title_case_headers(true)
                    .serve_connection(stream, service)
            );
            let ended = tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = self.closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    Box::pin(timeout(CLOSING_DEADLINE, connection)).await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = ended {
                tracing::debug!(peer = %visit.peer.from, %error, "connection ended");
            }
        }
    }
}

/// An IPv4 address that came through an IPv6 socket is the same client.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// Said before the request was read; then the client's bytes are drained, so that the kernel does not take the answer back.
async fn tell_too_many<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    const TEXT: &str = "Your IP is issuing too many concurrent connections, please rate limit your calls\n";
    let head =
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\nConnection: close\r\n";
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{TEXT}", TEXT.len()).as_bytes()).await?;
    stream.shutdown().await?;
    let mut drain = [0; 1024];
    while stream.read(&mut drain).await? > 0 {}
    Ok(())
}
