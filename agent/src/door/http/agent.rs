//! `/v1/agent`: what this one agent was told to run, how that fares, and the agent itself.

use std::sync::Arc;

use http::{Method, StatusCode};
use muster_catalog::ServiceId;

use super::Door;
use super::call::{Answer, Call, Handler, Route};
use super::error::HttpError;
use super::filter::{Filter, Rows, parse_bool};
use super::query::Query;
use super::reply::Reply;
use crate::config::DefinitionError;
use crate::desk::{DeskError, Order, Unknown, Who};

mod about;
mod checks;
mod debug;
mod facts;
mod health;
mod measures;
mod members;
mod orders;
mod services;
mod stats;

pub(crate) use facts::AgentFacts;

const NO_ACL: Handler = Handler::Fixed(StatusCode::UNAUTHORIZED, "ACL support disabled");

/// Of what this agent runs.
const fn own(path: &'static str, methods: &'static [(Method, Handler)]) -> Route {
    Route { path, methods, namespaced: true }
}

/// Of the agent itself.
const fn agent(path: &'static str, methods: &'static [(Method, Handler)]) -> Route {
    Route { path, methods, namespaced: false }
}

pub(super) const ROUTES: &[Route] = &[
    own("/v1/agent/services", &[(Method::GET, Handler::Now(services::all))]),
    own("/v1/agent/service/", &[(Method::GET, Handler::Soon(services::one))]),
    own("/v1/agent/service/register", &[(Method::PUT, Handler::Soon(services::register))]),
    own("/v1/agent/service/deregister/", &[(Method::PUT, Handler::Soon(services::deregister))]),
    own("/v1/agent/service/maintenance/", &[(Method::PUT, Handler::Soon(services::maintenance))]),
    own("/v1/agent/checks", &[(Method::GET, Handler::Now(checks::all))]),
    own("/v1/agent/check/register", &[(Method::PUT, Handler::Soon(checks::register))]),
    own("/v1/agent/check/deregister/", &[(Method::PUT, Handler::Soon(checks::deregister))]),
    own("/v1/agent/check/pass/", &[(Method::PUT, Handler::Soon(checks::pass))]),
    own("/v1/agent/check/warn/", &[(Method::PUT, Handler::Soon(checks::warn))]),
    own("/v1/agent/check/fail/", &[(Method::PUT, Handler::Soon(checks::fail))]),
    own("/v1/agent/check/update/", &[(Method::PUT, Handler::Soon(checks::update))]),
    own("/v1/agent/health/service/id/", &[(Method::GET, Handler::Now(health::by_id))]),
    own("/v1/agent/health/service/name/", &[(Method::GET, Handler::Now(health::by_name))]),
    agent("/v1/agent/self", &[(Method::GET, Handler::Now(about::this))]),
    agent("/v1/agent/version", &[(Method::GET, Handler::Now(about::version))]),
    agent("/v1/agent/members", &[(Method::GET, Handler::Now(members::all))]),
    agent("/v1/agent/join/", &[(Method::PUT, Handler::Soon(members::join))]),
    agent("/v1/agent/force-leave/", &[(Method::PUT, Handler::Soon(members::force_leave))]),
    agent("/v1/agent/maintenance", &[(Method::PUT, Handler::Soon(orders::maintenance))]),
    agent("/v1/agent/reload", &[(Method::PUT, Handler::Soon(orders::reload))]),
    agent("/v1/agent/leave", &[(Method::PUT, Handler::Soon(orders::leave))]),
    agent("/v1/agent/metrics", &[(Method::GET, Handler::Now(measures::metrics))]),
    agent("/v1/agent/metrics/stream", &[(Method::GET, Handler::Soon(measures::stream))]),
    agent("/v1/agent/host", &[(Method::GET, Handler::Soon(measures::host))]),
    agent("/v1/agent/monitor", &[(Method::GET, Handler::Soon(orders::monitor))]),
    agent("/v1/agent/token/", &[(Method::PUT, NO_ACL)]),
];

/// Has the desk carry out an order. The answer has no body.
async fn obey(door: &Door, who: &Who, order: Order) -> Answer {
    door.desk.obey(who, order).await?;
    Ok(Reply::nothing())
}

/// Has the desk forget a row. That it knew none is as good: who repeats itself is not refused (as Consul 1.8.7).
async fn forget(door: &Door, who: &Who, order: Order) -> Answer {
    match door.desk.obey(who, order).await {
        Ok(()) | Err(DeskError::Unknown(_)) => Ok(Reply::nothing()),
        Err(error) => Err(error.into()),
    }
}

fn refused(error: DefinitionError) -> HttpError {
    match error {
        DefinitionError::Decode(text) => HttpError::Decode(text),
        DefinitionError::Invalid(text) => HttpError::BadRequest(text),
        DefinitionError::ScriptsDisabled => HttpError::Server(error.to_string()),
    }
}

/// The filter of a list. Unlike those of the catalog, its faults carry no index headers.
fn filter(call: &Call, rows: Rows) -> Result<Option<Filter>, HttpError> {
    Filter::read(call.query.get("filter"), rows).map_err(|error| match error.into() {
        HttpError::ServerOfRead(text) => HttpError::Server(text),
        other => other,
    })
}

/// Maintenance: `Some(reason)` switches it on, `None` off.
fn enable(query: &Query) -> Result<Option<String>, HttpError> {
    let bad = |text: String| Err(HttpError::BadRequest(text));
    let Some(enable) = query.get("enable") else { return bad("Missing value for enable".to_owned()) };
    match parse_bool(enable) {
        Some(true) => Ok(Some(query.get("reason").map(ToString::to_string).unwrap_or_default())),
        Some(false) => Ok(None),
        None => bad(format!("Invalid value for enable: {:?}", enable.as_str())),
    }
}

/// The service whose id stands in the path. What cannot be an id is the id of no service.
fn service_id(call: &Call) -> Result<ServiceId, HttpError> {
    ServiceId::new(&call.rest).map_err(|_| DeskError::Unknown(Unknown::Service(call.rest.to_string())).into())
}

/// A JSON value as Go would write it: `<`, `>` and `&` stand in texts alone, and escaped.
pub(super) fn go_json(value: &serde_json::Value) -> Vec<u8> {
    let plain = value.to_string();
    let mut out = Vec::with_capacity(plain.len());
    for byte in plain.bytes() {
        match byte {
            b'<' | b'>' | b'&' => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(byte),
        }
    }
    out
}

/// Warnings of a definition go to the log: Consul's clients have no place for them.
fn warn(warnings: &[String], call_from: &Who) {
    for warning in warnings {
        tracing::warn!(from = %call_from.from, "{warning}");
    }
}

/// A handler that waits, as the table of routes takes it.
fn soon<F>(answering: F) -> super::call::Answering
where
    F: Future<Output = Answer> + Send + 'static,
{
    Box::pin(answering)
}

type TheDoor = Arc<Door>;

#[cfg(test)]
mod tests;
