//! Questions to the API from within this agent: the same handlers, without a connection.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use smol_str::SmolStr;

use super::Door;
use super::body::Body;
use super::call::{Call, Handler};
use super::path;
use super::query::Query;
use super::reply::{Reply, Style};
use super::routes::{Found, find};
use crate::desk::{Token, Who};

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `X-Consul-Index`, 0 where there is none.
    pub(super) index: u64,
    pub(super) body: Bytes,
}

/// `GET` of a path with its options.
pub(super) async fn get(door: &Arc<Door>, target: &str) -> Answer {
    let reply = ask(door, target).await;
    let response = reply.into_response(&Style::default(), &door.common);
    let status = response.status();
    let index = response.headers().get("x-consul-index").and_then(|index| index.to_str().ok()?.parse().ok());
    let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Answer { status, index: index.unwrap_or(0), body }
}

async fn ask(door: &Arc<Door>, target: &str) -> Reply {
    let (written, query) = target.split_once('?').unwrap_or((target, ""));
    let (Ok(decoded), Some(query)) = (path::decode(written), Query::parse(query)) else {
        return Reply::bare(StatusCode::BAD_REQUEST);
    };
    let Found::Route(known, rest) = find(&decoded) else { return Reply::bare(StatusCode::NOT_FOUND) };
    let who = Who::outside("watch", query.filled("token").map(|token| Token(token.clone())));
    let call =
        Call { rest: SmolStr::new(rest), query, headers: HeaderMap::new(), body: Body::none(), who, gzip: false, keeps: false };
    let answer = match known.handler(&Method::GET) {
        Some(Handler::Now(answer)) => answer(door, &call),
        Some(Handler::Soon(answer)) => answer(door.clone(), call).await,
        Some(Handler::Fixed(..)) | None => return Reply::bare(StatusCode::NOT_IMPLEMENTED),
    };
    answer.unwrap_or_else(|error| error.reply())
}
