//! One call: is it allowed, how long may it be, who answers it.
#![allow(clippy::disallowed_methods)] // calls are timed

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::door::Door;
use super::{Answer, Call, Caller};
use crate::rpc::{Code, DEADLINE_HEADER, HELLO_BYTES_MAX, Hello, Method, Part, Refusal, meet, metrics};

/// What the calls of one connection share.
pub(super) struct Connection {
    pub(super) door: Door,
    pub(super) from: SocketAddr,
    /// Set by the hello.
    pub(super) caller: OnceLock<Caller>,
    /// The two sides do not fit, or a stranger did not say hello: what is under way is answered, then it ends.
    pub(super) end: Notify,
    pub(super) greeted: Notify,
    /// Given back when the hello was said.
    pub(super) stranger: Mutex<Option<OwnedSemaphorePermit>>,
}

/// An answer as it leaves.
pub(super) enum Outgoing {
    Whole(Full<Bytes>),
    Frames(mpsc::Receiver<Bytes>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Outgoing::Whole(whole) => Pin::new(whole).poll_frame(context),
            Outgoing::Frames(frames) => frames.poll_recv(context).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Whole(whole) => whole.is_end_stream(),
            Outgoing::Frames(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Whole(whole) => whole.size_hint(),
            Outgoing::Frames(_) => SizeHint::default(),
        }
    }
}

/// Answers a request, whatever it is.
pub(super) async fn answer(connection: Arc<Connection>, request: Request<Incoming>) -> Response<Outgoing> {
    match take(&connection, request).await {
        Ok(Answer::Whole(bytes)) => {
            metrics::METERS.answered.increment(1);
            Response::new(Outgoing::Whole(Full::new(bytes)))
        }
        Ok(Answer::Frames(frames)) => {
            metrics::METERS.answered.increment(1);
            Response::new(Outgoing::Frames(frames))
        }
        Err(refusal) => {
            metrics::METERS.refused.increment(1);
            if refusal.code.ends_connection() {
                connection.end.notify_one();
            }
            let mut response = Response::new(Outgoing::Whole(Full::new(refusal.encode().into())));
            *response.status_mut() = StatusCode::CONFLICT;
            response
        }
    }
}

async fn take(connection: &Connection, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let path = request.uri().path();
    let Some(method) = Method::of(path).filter(|_| request.method() == http::Method::POST) else {
        let path: String = path.chars().take(64).collect();
        return Err(Refusal::new(Code::Method, format!("there is no method {path:?} here")));
    };
    if method == Method::Hello {
        return hello(connection, request).await;
    }
    let Some(caller) = connection.caller.get().copied() else {
        return Err(Refusal::new(Code::NoHello, "the first call on a connection is the hello"));
    };
    if connection.door.identity.cluster().is_none() {
        return Err(Refusal::new(Code::Cluster, "this node takes no part in its cluster any more"));
    }
    if method.is_raft() && caller.part != Part::Server {
        return Err(Refusal::new(Code::Method, format!("{} is for servers", method.path())));
    }
    let told = request.headers().get(DEADLINE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    let deadline = told.map_or(method.time_max(), Duration::from_millis).min(method.time_max());
    let began = Instant::now();
    let answering = async {
        let body = whole(request, method.body_bytes_max()).await?;
        within(connection, Call { caller, method, body }).await
    };
    let answer = match timeout(deadline, answering).await {
        Ok(answer) => answer,
        Err(_) => Err(Refusal::new(Code::Deadline, format!("it was not done within {deadline:?}"))),
    };
    if !method.is_raft() {
        metrics::served(method, answer.is_err()).record(began.elapsed().as_secs_f64() * 1e3);
    }
    answer
}

async fn within(connection: &Connection, call: Call) -> Result<Answer, Refusal> {
    let door = &connection.door;
    match call.method {
        Method::Ping => Ok(Answer::Whole(Bytes::new())),
        method if method.is_raft() => match (&door.raft, call.caller.raft) {
            (Some(raft), Some(by)) => raft.answer(by, method, call.body).await.map(Answer::Whole),
            (None, _) => Err(Refusal::new(Code::Method, "this node is no server")),
            (_, None) => Err(Refusal::new(Code::Method, "the caller has no log")),
        },
        Method::ReadIndex if call.caller.part == Part::Server => match &door.raft {
            Some(raft) => raft.answer_read_index(true).await.map(Answer::Whole),
            None => Err(Refusal::new(Code::Method, "this node is no server")),
        },
        _ => door.rooms.answer(call).await,
    }
}

async fn hello(connection: &Connection, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let (door, from) = (&connection.door, connection.from);
    let theirs = Hello::decode(&whole(request, HELLO_BYTES_MAX).await?)?;
    let met = meet(&door.identity, &theirs);
    let version = met.inspect_err(|refusal| {
        if door.shared.told.is_news(theirs.node, &refusal.text) {
            tracing::warn!(peer = %theirs.node, %from, "a peer was refused: {refusal}");
        }
    })?;
    let caller = Caller { node: theirs.node, part: theirs.part, raft: theirs.raft, version };
    if connection.caller.set(caller).is_err() {
        return Err(Refusal::new(Code::Method, "hello was said before"));
    }
    door.opened(caller);
    if door.shared.told.is_mended(theirs.node) {
        tracing::info!(peer = %theirs.node, %from, "the peer and this node talk again");
    }
    connection.stranger.lock().expect("no holder panics: a permit is dropped").take();
    connection.greeted.notify_one();
    Ok(Answer::Whole(Hello::new(&door.identity, Some(theirs.node), None).encode().into()))
}

async fn whole(request: Request<Incoming>, bytes_max: usize) -> Result<Bytes, Refusal> {
    match Limited::new(request.into_body(), bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Refusal::new(Code::TooLarge, format!("the body has more than {bytes_max} bytes")))
        }
        Err(error) => Err(Refusal::new(Code::Body, format!("the body ended early: {error}"))),
    }
}
