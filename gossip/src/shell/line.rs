//! A connection: greeted, sealed, each read with a deadline and each message with a bound.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use ring::rand::SecureRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Shared;
use crate::error::Refusal;
use crate::message::{Request, Response, put_refusal, read_refusal};
use crate::stream::{self, ANSWER_BYTES, GREETING_BYTES, NONCE_BYTES, PIECE_BYTES_MAX, REFUSAL_MARK, Sealed};
use crate::wire::Reader;

/// How long a connection may take to come about.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a greeting may take.
pub(crate) const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long each message may take, memberlist's TCP timeout; an answer may wait for knocks of the one asked.
pub(crate) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection after its greeting.
pub(super) struct Line {
    stream: TcpStream,
    sealed: Sealed,
    room: Arc<Semaphore>,
    /// Counts bytes.
    sent: Counter,
}

/// A message, and the room that it takes.
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Line {
    fn new(stream: TcpStream, sealed: Sealed, shared: &Shared) -> Self {
        Self { stream, sealed, room: shared.room.clone(), sent: shared.lock().meters().stream_sent() }
    }

    pub(super) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let bytes = self.sealed.seal(message).ok_or_else(|| broken("the message is too long"))?;
        self.sent.increment(bytes.len() as u64);
        within(MESSAGE_TIMEOUT, self.stream.write_all(&bytes)).await
    }

    /// The next message; none when the other side is done; a refusal, if there is no key in common to seal it with.
    pub(super) async fn receive(&mut self) -> io::Result<Option<Result<Message, Refusal>>> {
        within(MESSAGE_TIMEOUT, async {
            let (mut message, mut room) = (Vec::new(), None::<OwnedSemaphorePermit>);
            loop {
                let mut head = [0; 4];
                if self.stream.read(&mut head[..1]).await? == 0 {
                    return if message.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
                }
                self.stream.read_exact(&mut head[1..]).await?;
                let head = u32::from_be_bytes(head);
                let length = (head & !REFUSAL_MARK) as usize;
                if length > PIECE_BYTES_MAX {
                    return Err(broken("a piece is too long"));
                }
                if !message.is_empty() {
                    let more = self.room.clone().try_acquire_owned().map_err(|_| broken("no room for more long messages"))?;
                    match &mut room {
                        Some(room) => room.merge(more),
                        None => room = Some(more),
                    }
                }
                let mut piece = vec![0; length];
                self.stream.read_exact(&mut piece).await?;
                if head & REFUSAL_MARK != 0 {
                    return read_refusal(&mut Reader::new(&piece)).map(|refusal| Some(Err(refusal))).map_err(io::Error::other);
                }
                if self.sealed.open(piece, &mut message).map_err(io::Error::other)? {
                    return Ok(Some(Ok(Message { bytes: message, _room: room })));
                }
            }
        })
        .await
    }

    pub(super) async fn ask(&mut self, request: &Request) -> io::Result<Response> {
        self.send(&request.encode()).await?;
        match self.receive().await? {
            Some(Ok(message)) => Response::decode(&message.bytes).map_err(io::Error::other),
            Some(Err(refusal)) => Ok(Response::Refused(refusal)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

pub(super) fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

pub(super) async fn within<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(time, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn nonce(shared: &Shared) -> io::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    shared.random.fill(&mut nonce).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(nonce)
}

/// Connects and greets. The refusal is our own: the other side speaks no version that we do, or is no agent.
pub(super) async fn connect(shared: &Shared, addr: SocketAddr) -> io::Result<Result<Line, Refusal>> {
    shared.with(|core, _| core.meters().connected());
    let mut stream = within(CONNECT_TIMEOUT, TcpStream::connect(addr)).await?;
    stream.set_nodelay(true)?;
    let mut greeting = [0; GREETING_BYTES];
    within(GREETING_TIMEOUT, stream.read_exact(&mut greeting)).await?;
    let own = nonce(shared)?;
    let answer = shared.with(|core, _| stream::answer(&greeting, core.ring().primary(), own));
    let (answer, sealed) = match answer {
        Ok(answer) => answer,
        Err(refusal) => return Ok(Err(refusal)),
    };
    stream.write_all(&answer).await?;
    Ok(Ok(Line::new(stream, sealed, shared)))
}

/// Greets who connects. None: it was refused, and knows why.
pub(super) async fn accept(shared: &Arc<Shared>, mut stream: TcpStream, peer: SocketAddr) -> io::Result<Option<Line>> {
    stream.set_nodelay(true)?;
    let own = nonce(shared)?;
    let mut answer = [0; ANSWER_BYTES];
    within(GREETING_TIMEOUT, async {
        stream.write_all(&stream::greet(own)).await?;
        stream.read_exact(&mut answer).await.map(drop)
    })
    .await?;
    let sealed = shared.with(|core, _| stream::answered(&answer, core.ring(), own));
    match sealed {
        Ok(sealed) => Ok(Some(Line::new(stream, sealed, shared))),
        Err(refusal) => refuse_in_clear(shared, stream, peer, refusal).await.map(|()| None),
    }
}

/// Says why, and waits until it is read: a connection closed with unread bytes takes what was said with it.
async fn refuse_in_clear(shared: &Arc<Shared>, mut stream: TcpStream, peer: SocketAddr, refusal: Refusal) -> io::Result<()> {
    let mut body = Vec::new();
    put_refusal(&refusal, &mut body);
    shared.with(|core, now| core.refuse(peer, refusal, now));
    let head = REFUSAL_MARK | u32::try_from(body.len()).unwrap_or(0);
    within(GREETING_TIMEOUT, async {
        stream.write_all(&head.to_be_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        let (mut buffer, mut room) = ([0; 4096], PIECE_BYTES_MAX);
        loop {
            let count = stream.read(&mut buffer).await?;
            room = room.saturating_sub(count);
            if count == 0 || room == 0 {
                return Ok(());
            }
        }
    })
    .await
}
