//! A connection of a probe, whatever it is made of, and what the HTTP clients on it share.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::text;

/// What bytes go over: TCP, TLS, a socket of this host. One type for all of them, so that each HTTP client is in the program
/// once; and no bare box, with whose lifetime the compiler cannot follow hyper's bounds.
pub(super) struct Wire(Box<dyn Stream>);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Wire {
    pub(super) fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Runs `main` while `connection` moves its bytes; ends with `main`.
pub(super) async fn beside<T>(main: impl Future<Output = T>, connection: impl Future) -> T {
    let (mut main, connection) = (pin!(main), pin!(connection));
    tokio::select! {
        biased;
        done = &mut main => return done,
        _ = connection => {}
    }
    main.await
}

/// The beginning of a body; the rest is never asked for. A body that breaks off has said what it has said.
pub(super) async fn begin_of(mut body: Incoming, bytes_max: usize) -> Vec<u8> {
    let mut begin = Vec::new();
    while begin.len() < bytes_max {
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Some(data) = frame.data_ref() {
            begin.extend_from_slice(&data[..data.len().min(bytes_max - begin.len())]);
        }
    }
    begin
}

/// A failure with all its causes: hyper's own messages leave them out.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let word = error.downcast_ref::<io::Error>().map_or_else(|| error.to_string(), text::system);
        text = format!("{text}: {word}");
        cause = error.source();
    }
    text
}
