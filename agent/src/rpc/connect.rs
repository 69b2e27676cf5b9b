//! The one place where a connection to another agent is made or taken: TLS comes in here, and nowhere else.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

/// A connection, from either side.
pub(crate) type Stream = TcpStream;

/// Connects; how long it may take is the caller's to say.
pub(super) async fn connect(address: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    prepare(&stream);
    Ok(stream)
}

/// Takes the next connection. An IPv4 address that came through an IPv6 socket is told as what it is.
pub(crate) async fn accept(listener: &TcpListener) -> io::Result<(Stream, SocketAddr)> {
    let (stream, from) = listener.accept().await?;
    prepare(&stream);
    Ok((stream, SocketAddr::new(from.ip().to_canonical(), from.port())))
}

/// Without it a small call would wait for the acknowledgement of the one before it.
fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "calls may be slower: TCP_NODELAY cannot be set");
    }
}
