//! One HTTP connection to an agent, with a limit on time and on size.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::elements::Elements;
use super::error::Error;
use super::remote::{Address, AgentArgs, Remote};
use super::target::Target;

/// A host that does not take a connection within this time is not there: TCP sends its second SYN after 1 s, its third after 3.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long an answer, or the next piece of it, may take. An agent without a leader holds a request for
/// `rpc_hold_timeout` (7 s) and a leaving one for `leave_drain_time` (5 s) and more: well below this.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// The same after a file was sent: the servers write all of it before they answer.
const FILE_ANSWER_MAX: Duration = Duration::from_secs(3600);

/// Bytes of a file that are read at once.
const FILE_PIECE_BYTES: u64 = 64 * 1024;

/// A whole answer in memory: the catalog of 100 000 instances is about this size. Keys and values come piece by piece
/// and may be more in all; this then bounds one piece.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The text of a refusal is a line; more than this of it helps nobody.
const REFUSAL_BYTES_MAX: usize = 4096;

/// Speaks to one agent, over one connection for as long as the agent keeps it.
pub(crate) struct Client {
    remote: Remote,
    open: Option<Open>,
    /// `X-Consul-Index` of the last answer.
    index: Option<u64>,
}

struct Open {
    send: SendRequest<Sending>,
    /// Moves bytes; polled beside each request, since a command has no tasks. `None` once it has ended.
    driver: Option<Pin<Box<dyn Future<Output = hyper::Result<()>>>>>,
}

/// A whole answer: its status, and its body as far as it was kept.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    body: Bytes,
    address: String,
    /// `X-Consul-Index`.
    pub(crate) index: Option<u64>,
}

impl Client {
    pub(crate) fn new(args: &AgentArgs) -> Result<Client, Error> {
        Ok(Client::of(Remote::from_args(args)?))
    }

    /// One to another agent than the flags say.
    pub(crate) fn of(remote: Remote) -> Client {
        Client { remote, open: None, index: None }
    }

    pub(crate) async fn get(&mut self, target: &Target) -> Result<Answer, Error> {
        self.ask(Method::GET, target, Bytes::new()).await
    }

    pub(crate) async fn put(&mut self, target: &Target, body: Bytes) -> Result<Answer, Error> {
        self.ask(Method::PUT, target, body).await
    }

    pub(crate) async fn delete(&mut self, target: &Target) -> Result<Answer, Error> {
        self.ask(Method::DELETE, target, Bytes::new()).await
    }

    /// Gets a JSON list and hands each element over as it arrives; `false` if the agent has none (404).
    pub(crate) async fn each<T: DeserializeOwned>(
        &mut self,
        target: &Target,
        mut take: impl FnMut(T) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let address = self.remote.address.to_string();
        let (status, mut body) = self.send(Method::GET, target, Bytes::new().into(), ANSWER_MAX).await?;
        if status == StatusCode::NOT_FOUND {
            self.drain(&mut body, REFUSAL_BYTES_MAX).await?;
            return Ok(false);
        }
        if !status.is_success() {
            let body = self.drain(&mut body, REFUSAL_BYTES_MAX).await?;
            return Err(Answer { status, body, address, index: None }.refusal());
        }
        let not_json = |source| Error::NotJson { address: address.clone(), source };
        let mut elements = Elements::new(ANSWER_BYTES_MAX);
        while let Some(piece) = self.piece(&mut body).await? {
            elements.push(&piece);
            while let Some(element) = elements.next().map_err(|_| self.too_large())? {
                take(serde_json::from_slice(&element).map_err(not_json)?)?;
            }
        }
        elements.end().map_err(not_json)?;
        Ok(true)
    }

    /// Gets an answer and hands its pieces over as they come; there may be any time between two of them.
    pub(crate) async fn pieces(
        &mut self,
        target: &Target,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let address = self.remote.address.to_string();
        let (status, mut body) = self.send(Method::GET, target, Bytes::new().into(), ANSWER_MAX).await?;
        if !status.is_success() {
            let body = self.drain(&mut body, REFUSAL_BYTES_MAX).await?;
            return Err(Answer { status, body, address, index: None }.refusal());
        }
        while let Some(piece) = self.piece_within(&mut body, Duration::MAX).await? {
            take(&piece)?;
        }
        Ok(())
    }

    /// Sends a file, which is read as it is sent.
    pub(crate) async fn put_file(&mut self, target: &Target, file: File) -> Result<Answer, Error> {
        let length = file.metadata().map_err(|error| Error::Usage(format!("The file cannot be read: {error}")))?.len();
        let sending = Sending::File { file: Arc::new(file), at: 0, length };
        self.ask_within(Method::PUT, target, sending, FILE_ANSWER_MAX).await
    }

    /// Sends a body and takes a whole answer.
    pub(crate) async fn ask(&mut self, method: Method, target: &Target, body: Bytes) -> Result<Answer, Error> {
        self.ask_within(method, target, body.into(), ANSWER_MAX).await
    }

    async fn ask_within(&mut self, method: Method, target: &Target, body: Sending, limit: Duration) -> Result<Answer, Error> {
        let (status, mut incoming) = self.send(method, target, body, limit).await?;
        let index = self.index.take();
        let limit = if status.is_success() || status == StatusCode::CONFLICT { ANSWER_BYTES_MAX } else { REFUSAL_BYTES_MAX };
        let body = self.drain(&mut incoming, limit).await?;
        if status.is_success() && body.len() > limit {
            return Err(self.too_large());
        }
        Ok(Answer { status, body, address: self.remote.address.to_string(), index })
    }

    /// Sends one request and waits for the head of its answer. A kept connection that the agent closed meanwhile is
    /// replaced once: an unsent request was not seen by anybody.
    async fn send(
        &mut self,
        method: Method,
        target: &Target,
        body: Sending,
        limit: Duration,
    ) -> Result<(StatusCode, Incoming), Error> {
        loop {
            let reused = match &self.open {
                Some(open) if open.driver.is_some() && !open.send.is_closed() => true,
                _ => {
                    self.open = Some(connect(&self.remote.address).await?);
                    false
                }
            };
            let request = self.request(method.clone(), target, body.clone())?;
            let address = self.remote.address.to_string();
            let open = self.open.as_mut().expect("the lines above opened a connection");
            let answer = open.send.try_send_request(request);
            let answer = beside(&mut open.driver, limit, answer).await;
            match answer {
                None => return Err(Error::Timeout { address, seconds: limit.as_secs() }),
                Some(Ok(answer)) => {
                    let (head, body) = answer.into_parts();
                    let index = head.headers.get("x-consul-index").and_then(|index| index.to_str().ok()?.parse().ok());
                    self.index = index;
                    return Ok((head.status, body));
                }
                Some(Err(mut failed)) => {
                    let unsent = failed.take_message().is_some();
                    self.open = None;
                    if !(reused && unsent) {
                        return Err(Error::Broken { address, source: failed.into_error() });
                    }
                }
            }
        }
    }

    fn request(&self, method: Method, target: &Target, body: Sending) -> Result<Request<Sending>, Error> {
        let mut builder = Request::builder()
            .method(method)
            .uri(target.as_str())
            .header(header::HOST, self.remote.address.host())
            .header(header::USER_AGENT, concat!("muster/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.remote.token {
            let mut token = HeaderValue::from_str(token)
                .map_err(|_| Error::Usage("The token holds characters that HTTP cannot carry".to_owned()))?;
            token.set_sensitive(true);
            builder = builder.header("X-Consul-Token", token);
        }
        builder.body(body).map_err(|error| Error::Usage(format!("This cannot be asked over HTTP: {error}")))
    }

    /// Up to `limit` bytes and the piece that reaches past it.
    async fn drain(&mut self, body: &mut Incoming, limit: usize) -> Result<Bytes, Error> {
        let mut all = Vec::new();
        while let Some(piece) = self.piece(body).await? {
            all.extend_from_slice(&piece);
            if all.len() > limit {
                self.open = None; // what is still to come would stand before the next answer
                break;
            }
        }
        Ok(all.into())
    }

    async fn piece(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, Error> {
        self.piece_within(body, ANSWER_MAX).await
    }

    async fn piece_within(&mut self, body: &mut Incoming, limit: Duration) -> Result<Option<Bytes>, Error> {
        let address = || self.remote.address.to_string();
        let mut none = None;
        let driver = self.open.as_mut().map_or(&mut none, |open| &mut open.driver);
        loop {
            match beside(driver, limit, body.frame()).await {
                None => return Err(Error::Timeout { address: address(), seconds: limit.as_secs() }),
                Some(None) => return Ok(None),
                Some(Some(Err(source))) => return Err(Error::Broken { address: address(), source }),
                Some(Some(Ok(frame))) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }

    fn too_large(&self) -> Error {
        Error::TooLarge { address: self.remote.address.to_string(), limit: ANSWER_BYTES_MAX }
    }
}

impl Answer {
    /// The body of an answer that says the thing was done.
    pub(crate) fn done(self) -> Result<Bytes, Error> {
        if self.status.is_success() { Ok(self.body) } else { Err(self.refusal()) }
    }

    pub(crate) fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let address = self.address.clone();
        serde_json::from_slice(&self.done()?).map_err(|source| Error::NotJson { address, source })
    }

    /// The operations of a transaction that failed, in their order, and why.
    pub(crate) fn refused(self) -> Result<Vec<(usize, String)>, Error> {
        let told: serde_json::Value =
            serde_json::from_slice(&self.body).map_err(|source| Error::NotJson { address: self.address, source })?;
        let one = |fault: &serde_json::Value| {
            let at = fault["OpIndex"].as_u64().and_then(|at| usize::try_from(at).ok());
            (at.unwrap_or(usize::MAX), fault["What"].as_str().unwrap_or_default().to_owned())
        };
        let mut all: Vec<_> = told["Errors"].as_array().into_iter().flatten().map(one).collect();
        all.sort();
        all.dedup_by_key(|(at, _)| *at);
        Ok(all)
    }

    fn refusal(self) -> Error {
        let kept = &self.body[..self.body.len().min(REFUSAL_BYTES_MAX)];
        let text: String = String::from_utf8_lossy(kept).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = match text.trim() {
            "" => self.status.canonical_reason().unwrap_or("no text").to_owned(),
            text => text.to_owned(),
        };
        Error::Answer { status: self.status.as_u16(), text }
    }
}

/// A body on its way out.
#[derive(Clone)]
enum Sending {
    Whole(Bytes),
    File { file: Arc<File>, at: u64, length: u64 },
}

impl From<Bytes> for Sending {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl Sending {
    fn next(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Whole(bytes) => Ok(std::mem::take(bytes)),
            Self::File { file, at, length } => {
                let mut piece = vec![0; length.saturating_sub(*at).min(FILE_PIECE_BYTES) as usize];
                file.read_exact_at(&mut piece, *at)?; // a command has nothing else to do meanwhile
                *at += piece.len() as u64;
                Ok(piece.into())
            }
        }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = self.get_mut().next();
        Poll::Ready(match next {
            Ok(piece) if piece.is_empty() => None,
            piece => Some(piece.map(Frame::data)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::File { at, length, .. } => length.saturating_sub(*at),
        })
    }
}

async fn connect(address: &Address) -> Result<Open, Error> {
    let fault = |source| Error::Connect { address: address.to_string(), source };
    let slow = |_| fault(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} s", CONNECT_MAX.as_secs())));
    match address {
        Address::Tcp { host, port } => {
            let stream = timeout(CONNECT_MAX, TcpStream::connect((host.as_str(), *port))).await.map_err(slow)?.map_err(fault)?;
            stream.set_nodelay(true).map_err(fault)?;
            handshake(address, stream).await
        }
        Address::Unix(path) => {
            let stream = timeout(CONNECT_MAX, UnixStream::connect(path)).await.map_err(slow)?.map_err(fault)?;
            handshake(address, stream).await
        }
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + 'static>(address: &Address, stream: S) -> Result<Open, Error> {
    let (send, driver) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|source| Error::Broken { address: address.to_string(), source })?;
    Ok(Open { send, driver: Some(Box::pin(driver)) })
}

/// Waits for `work` while the connection moves; `None` when it takes longer than `limit`.
async fn beside<T>(
    driver: &mut Option<Pin<Box<dyn Future<Output = hyper::Result<()>>>>>,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    let both = async {
        if let Some(moving) = driver {
            tokio::select! {
                biased;
                done = &mut work => return done,
                // Its error, if any, reaches `work` too, with what it means for the request.
                _ = moving => *driver = None,
            }
        }
        work.await
    };
    timeout(limit, both).await.ok()
}
