//! A request as handlers see it, and what a handler is.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use smol_str::SmolStr;

use super::Door;
use super::body::Body;
use super::error::HttpError;
use super::query::Query;
use super::reply::Reply;
use crate::desk::Who;

/// What a handler gives back.
pub(super) type Answer = Result<Reply, HttpError>;
/// A handler at work.
pub(super) type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A request as handlers see it.
#[derive(Debug)]
pub(super) struct Call {
    /// What stands behind the route's path, decoded: a name, an id, a key.
    pub(super) rest: SmolStr,
    /// Its options.
    pub(super) query: Query,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its body, not read yet.
    pub(super) body: Body,
    /// Who sent it.
    pub(super) who: Who,
    /// Whether the answer will be packed.
    pub(super) gzip: bool,
    /// Whether it will be kept, if it can be sent again.
    pub(super) keeps: bool,
}

/// What answers a request.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// Answers at once.
    Now(fn(&Door, &Call) -> Answer),
    /// Reads a body, writes, or waits. It drops the call before it waits: a waiting reader is to be small.
    Soon(fn(Arc<Door>, Call) -> Answering),
    /// Always the same.
    Fixed(StatusCode, &'static str),
}

/// A path. One that ends in a slash stands for everything below it.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) methods: &'static [(Method, Handler)],
    /// Whether Consul Enterprise would look at `ns` there: elsewhere it is ignored.
    pub(super) namespaced: bool,
}
