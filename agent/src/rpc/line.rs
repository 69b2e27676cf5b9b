//! A plain line to one voter: a hello each way, then questions and answers in turn, each behind its length.
//!
//! The entries of the log go over it, and nothing else. A call by HTTP/2 costs both sides several times what a small batch of entries
//! does, and its connection lives on another thread than raft; a question here is one write and one read, on raft's own.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::connect::{Stream, connect};
use super::error::CallError;
use super::hello::{HELLO_BYTES_MAX, Hello, meet};
use super::pool::Pool;
use super::refusal::Refusal;
use super::target::Target;

/// What it begins with. HTTP/2 begins with `PRI `: neither is taken for the other.
const MARK: [u8; 4] = *b"mLn1";

/// Time to connect and say hello.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

const LENGTH_BYTES: usize = 4;
/// Room for what is read at once: a usual batch of entries.
const READ_BYTES: usize = 64 << 10;

/// The first byte of the answer to a hello.
const WELCOME: u8 = 0;
const REFUSED: u8 = 1;

/// A line, at either end.
#[derive(Debug)]
pub(crate) struct Line {
    stream: Stream,
    buffer: BytesMut,
}

/// A line on its way from one runtime to another.
#[derive(Debug)]
pub(crate) struct Detached {
    stream: std::net::TcpStream,
    buffer: BytesMut,
}

impl Pool {
    /// Opens a line to a voter. What is asked on it the caller bounds in time, and drops the line when it has given up a question.
    pub(crate) async fn line(&self, to: Target) -> Result<Line, CallError> {
        let node = to.node;
        let not_sent = |what: String| CallError::NotSent { node, what: what.into() };
        let address = self.book().get(node).ok_or_else(|| not_sent("its address is not known".to_owned()))?;
        let failed = |error: io::Error| not_sent(format!("{address}: {error}"));
        let opened = timeout(OPEN_TIMEOUT, async {
            let mut line = Line::new(connect(address).await.map_err(failed)?);
            line.stream.write_all(&MARK).await.map_err(failed)?;
            line.send(Bytes::from(Hello::new(self.identity(), Some(node), to.raft).encode())).await.map_err(failed)?;
            let closed = || not_sent(format!("{address}: it closed the line"));
            let mut answer = line.next(HELLO_BYTES_MAX).await.map_err(failed)?.ok_or_else(closed)?;
            let refused = |refusal| CallError::Refused { node, refusal };
            match answer.try_get_u8() {
                Ok(WELCOME) => {
                    let theirs = Hello::decode(&answer).map_err(refused)?;
                    meet(self.identity(), &theirs).map_err(refused)?;
                    Ok(line)
                }
                _ => Err(refused(Refusal::decode(&answer))),
            }
        });
        opened.await.unwrap_or_else(|_| Err(not_sent(format!("{address}: no line within {OPEN_TIMEOUT:?}"))))
    }
}

impl Line {
    fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Whether a connection that was taken wants to be a line. It waits for the first bytes, and leaves them to be read again.
    pub(crate) async fn is_wanted(stream: &Stream) -> io::Result<bool> {
        let mut first = [0; MARK.len()];
        loop {
            let read = stream.peek(&mut first).await?;
            if read == first.len() || read == 0 || first[..read] != MARK[..read] {
                return Ok(first == MARK);
            }
            tokio::time::sleep(Duration::from_millis(1)).await; // four bytes do not come in two parts, but for who wants to see what happens
        }
    }

    /// Takes the other side's hello from a connection that wants to be a line.
    pub(crate) async fn greeted(stream: Stream) -> io::Result<(Self, Result<Hello, Refusal>)> {
        let mut line = Self::new(stream);
        line.stream.read_exact(&mut [0; MARK.len()]).await?;
        let hello = line.next(HELLO_BYTES_MAX).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let theirs = Hello::decode(&hello);
        Ok((line, theirs))
    }

    /// Answers the hello.
    pub(crate) async fn welcome(&mut self, ours: &Hello) -> io::Result<()> {
        self.send(Bytes::from([&[WELCOME], &ours.encode()[..]].concat())).await
    }

    /// Answers the hello with a no.
    pub(crate) async fn refuse(&mut self, refusal: &Refusal) -> io::Result<()> {
        self.send(Bytes::from([&[REFUSED], &refusal.encode()[..]].concat())).await
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(&mut self, body: Bytes, bytes_max: usize) -> io::Result<Bytes> {
        self.send(body).await?;
        self.next(bytes_max).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Sends one question or answer.
    pub(crate) async fn send(&mut self, body: Bytes) -> io::Result<()> {
        let length = (body.len() as u32).to_be_bytes();
        self.stream.write_all_buf(&mut Buf::chain(&length[..], body)).await
    }

    /// The next question or answer; `None` if the other side has closed the line before it.
    pub(crate) async fn next(&mut self, bytes_max: usize) -> io::Result<Option<Bytes>> {
        loop {
            let mut wanted = LENGTH_BYTES;
            if let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() {
                let length = u32::from_be_bytes(*length) as usize;
                if length > bytes_max {
                    let what = format!("a piece of {length} bytes, and {bytes_max} are the most");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                wanted += length;
                if self.buffer.len() >= wanted {
                    self.buffer.advance(LENGTH_BYTES);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
            }
            self.buffer.reserve((wanted - self.buffer.len()).max(READ_BYTES));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Takes it off this runtime.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(Detached { stream: self.stream.into_std()?, buffer: self.buffer })
    }
}

impl Detached {
    /// Goes on with it on the runtime that this is called on.
    pub(crate) fn attach(self) -> io::Result<Line> {
        Ok(Line { stream: Stream::from_std(self.stream)?, buffer: self.buffer })
    }
}
