//! An answer on its way out: what a handler says, and how it becomes bytes and headers.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use muster_catalog::Part;
use tokio::sync::mpsc;

use super::answers::{GZIP_BYTES_MIN, Rendered, pack, unpack};
use super::asked::Counted;
use super::json;
use crate::desk::Consistency;

/// What a reader is told of the age of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) index: u64,
    pub(super) known_leader: bool,
    pub(super) last_contact_ms: u64,
}

/// What an answer that can be sent again was made from, beside the state: nothing but this and its request made it what it is.
#[derive(Debug)]
pub(super) struct Repeats {
    pub(super) part: Part,
    pub(super) consistency: Consistency,
    pub(super) last_contact_ms: u64,
    /// What the question counts, each time.
    pub(super) counted: Option<Counted>,
}

/// What a handler answers.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    content: Content,
    meta: Option<Meta>,
    consistency: Option<&'static str>,
    /// Answered from this agent's own copy on request (`?cached`): how old that is, in seconds.
    age: Option<u64>,
    headers: Vec<(HeaderName, HeaderValue)>,
    counted: Option<Counted>,
    repeats: Option<Repeats>,
}

#[derive(Debug)]
enum Content {
    Nothing,
    Json(Bytes),
    Shared(Arc<Rendered>),
    Text(Cow<'static, str>),
    /// With a type of its own, packed already.
    Packed(&'static str, &'static [u8]),
    /// With a type of its own.
    Other(&'static str, Bytes),
    /// The same, in pieces as they come.
    Stream(&'static str, mpsc::Receiver<io::Result<Bytes>>),
}

impl Reply {
    fn new(status: StatusCode, content: Content) -> Self {
        Self { status, content, meta: None, consistency: None, age: None, headers: Vec::new(), counted: None, repeats: None }
    }

    /// 200 and no body.
    pub(super) fn nothing() -> Self {
        Self::new(StatusCode::OK, Content::Nothing)
    }

    /// A status and no body.
    pub(super) fn bare(status: StatusCode) -> Self {
        Self::new(status, Content::Nothing)
    }

    /// 200 and compact JSON.
    pub(super) fn json(json: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::OK, Content::Json(json.into()))
    }

    /// 200 and `true` or `false`.
    pub(super) fn truth(truth: bool) -> Self {
        Self::json(Bytes::from_static(if truth { b"true" } else { b"false" }))
    }

    /// 200 and JSON that other readers get too.
    pub(super) fn shared(rendered: Arc<Rendered>) -> Self {
        Self::new(StatusCode::OK, Content::Shared(rendered))
    }

    /// A status and plain text.
    pub(super) fn text(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, Content::Text(text.into()))
    }

    /// 200 and bytes of another type.
    pub(super) fn other(content_type: &'static str, bytes: Bytes) -> Self {
        Self::new(StatusCode::OK, Content::Other(content_type, bytes))
    }

    /// 200 and bytes of another type that are packed by gzip: unpacked for who does not take that.
    pub(super) fn packed(content_type: &'static str, packed: &'static [u8]) -> Self {
        Self::new(StatusCode::OK, Content::Packed(content_type, packed))
    }

    /// 200 and pieces of another type, as they come: never packed, so that each is seen at once. An error among them breaks the
    /// connection, so that nobody takes a part for the whole.
    pub(super) fn stream(content_type: &'static str, pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self::new(StatusCode::OK, Content::Stream(content_type, pieces))
    }

    /// The same under another status.
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with the index headers.
    pub(super) fn with_meta(mut self, meta: Meta) -> Self {
        self.meta = Some(meta);
        self
    }

    /// The same, saying how consistent the read was.
    pub(super) fn with_consistency(mut self, consistency: &'static str) -> Self {
        self.consistency = Some(consistency);
        self
    }

    /// The same, as an answer from the agent's own copy.
    pub(super) fn with_age(mut self, seconds: Option<u64>) -> Self {
        self.age = seconds;
        self
    }

    /// The same with one more header.
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same, knowing what its question counted.
    pub(super) fn counted(mut self, counted: Counted) -> Self {
        self.counted = Some(counted);
        self
    }

    /// The same, which can be sent again as long as it would be read from the same state.
    pub(super) fn repeating(mut self, part: Part, consistency: Consistency) -> Self {
        if let Some(Meta { known_leader: true, last_contact_ms, .. }) = self.meta {
            self.repeats = Some(Repeats { part, consistency, last_contact_ms, counted: self.counted.take() });
        }
        self
    }

    /// What it takes to send it again.
    pub(super) fn take_repeats(&mut self) -> Option<Repeats> {
        self.repeats.take()
    }

    /// The bytes: indented or packed if the client wants them so.
    pub(super) fn into_response(self, style: &Style, common: &Common) -> Response<Flow> {
        let Self { status, content, meta, consistency, age, headers: own, counted: _, repeats: _ } = self;
        let is_json = matches!(content, Content::Json(_) | Content::Shared(_));
        let usual = meta.filter(|_| is_json && consistency.is_some());
        let is_usual = usual.is_some();
        let mut headers = usual.map_or_else(|| common.all.clone(), |meta| common.reads(meta.index));
        let mut stream = None;
        let (content_type, mut body, mut packed) = match content {
            Content::Stream(content_type, pieces) => {
                stream = Some(pieces);
                (Some(content_type), Bytes::new(), None)
            }
            Content::Nothing => (None, Bytes::new(), None),
            Content::Json(json) => (Some("application/json"), json, None),
            Content::Shared(rendered) if style.pretty || !style.gzip => {
                (Some("application/json"), rendered.plain().clone(), None)
            }
            Content::Shared(rendered) => (Some("application/json"), rendered.plain().clone(), rendered.packed()),
            Content::Text(text) => (Some("text/plain; charset=utf-8"), into_bytes(text), None),
            Content::Packed(content_type, bytes) if style.gzip => (Some(content_type), Bytes::new(), Some(bytes.into())),
            Content::Packed(content_type, bytes) => (Some(content_type), unpack(bytes), None),
            Content::Other(content_type, bytes) => (Some(content_type), bytes, None),
        };
        if style.pretty && content_type == Some("application/json") {
            body = json::indent(&body);
        }
        if style.gzip && packed.is_none() && body.len() >= GZIP_BYTES_MIN {
            packed = Some(pack(&body));
        }
        if let Some(packed) = packed {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            body = packed;
        }
        if let Some(content_type) = content_type.filter(|_| !is_usual) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(Meta { index, known_leader, last_contact_ms }) = meta {
            if !is_usual {
                headers.insert(INDEX, index_value(index));
                headers.insert(QUERY_BACKEND, HeaderValue::from_static("blocking-query"));
            }
            if !is_usual || !known_leader {
                headers.insert(KNOWN_LEADER, HeaderValue::from_static(if known_leader { "true" } else { "false" }));
            }
            if !is_usual || last_contact_ms > 0 {
                say_age(&mut headers, last_contact_ms);
            }
        }
        if let Some(consistency) = consistency.filter(|consistency| !is_usual || *consistency != "leader") {
            headers.insert(CONSISTENCY, HeaderValue::from_static(consistency));
        }
        if let Some(age) = age {
            headers.insert(X_CACHE, HeaderValue::from_static("HIT"));
            headers.insert(http::header::AGE, HeaderValue::from(age));
        }
        for (name, value) in own {
            headers.insert(name, value);
        }
        let mut response = Response::new(stream.map_or_else(|| Flow::whole(body), Flow::Pieces));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// A body on its way out.
pub(super) enum Flow {
    Whole(Full<Bytes>),
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl Flow {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Flow::Whole(whole) => Pin::new(whole).poll_frame(context).map_err(|never| match never {}),
            Flow::Pieces(pieces) => pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Flow::Whole(whole) => whole.is_end_stream(),
            Flow::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Flow::Whole(whole) => whole.size_hint(),
            Flow::Pieces(_) => SizeHint::default(),
        }
    }
}

fn into_bytes(text: Cow<'static, str>) -> Bytes {
    match text {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    }
}

/// The headers that answers begin with. A map that is cloned takes a quarter of the instructions of one that is filled: each name
/// that goes into it is hashed, and a look-up's answer has nine.
#[derive(Debug)]
pub(super) struct Common {
    all: HeaderMap,
    /// What a read that is answered in JSON says when there is a leader and nothing is old. The first of them is a place for its index.
    reads: HeaderMap,
}

impl Common {
    /// What all answers have, and these beside.
    pub(super) fn new(mut all: HeaderMap) -> Self {
        all.append(VARY, HeaderValue::from_static("Accept-Encoding"));
        let mut reads = HeaderMap::from_iter([(INDEX, index_value(0))]);
        reads.extend(all.clone());
        for (name, value) in [
            (CONTENT_TYPE, "application/json"),
            (KNOWN_LEADER, "true"),
            (LAST_CONTACT, "0"),
            (QUERY_BACKEND, "blocking-query"),
            (CONSISTENCY, "leader"),
        ] {
            reads.insert(name, HeaderValue::from_static(value));
        }
        Self { all, reads }
    }

    fn reads(&self, index: u64) -> HeaderMap {
        let mut headers = self.reads.clone();
        if let Some(first) = headers.values_mut().next() {
            *first = index_value(index);
        }
        headers
    }
}

/// How old an answer can be.
pub(super) fn say_age(headers: &mut HeaderMap, last_contact_ms: u64) {
    headers.insert(LAST_CONTACT, HeaderValue::from(last_contact_ms));
}

fn index_value(index: u64) -> HeaderValue {
    HeaderValue::from(index.max(1))
}

const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");
const QUERY_BACKEND: HeaderName = HeaderName::from_static("x-consul-query-backend");
const CONSISTENCY: HeaderName = HeaderName::from_static("x-consul-effective-consistency");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// How the client wants its answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Style {
    /// Indented JSON.
    pub(super) pretty: bool,
    /// Packed.
    pub(super) gzip: bool,
}
