//! How this agent's services fare, told by the status code: what load balancers ask each host.

use std::collections::BTreeMap;

use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, StatusCode};
use muster_catalog::{Check, CheckId, Health, LocalService, NODE_MAINTENANCE, SERVICE_MAINTENANCE_PREFIX};

use super::super::Door;
use super::super::call::{Answer, Call};
use super::super::error::HttpError;
use super::super::fields::{AgentServiceView, Fields, See, Shown, Value};
use super::super::json;
use super::super::reply::Reply;

pub(super) const REASON: HeaderName = HeaderName::from_static("x-consul-reason");

/// The worst of a service's checks and the node's, in rising order of badness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Aggregate {
    Of(Health),
    Maintenance,
}

impl Aggregate {
    fn of<'a>(checks: impl IntoIterator<Item = &'a Check>) -> Self {
        let one = |check: &Check| match is_maintenance(&check.id) {
            true => Aggregate::Maintenance,
            false => Aggregate::Of(check.status.health()),
        };
        checks.into_iter().map(one).max().unwrap_or(Aggregate::Of(Health::Passing))
    }

    fn word(self) -> &'static str {
        match self {
            Aggregate::Of(Health::Passing) => "passing",
            Aggregate::Of(Health::Warning) => "warning",
            Aggregate::Of(Health::Critical) => "critical",
            Aggregate::Maintenance => "maintenance",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Aggregate::Of(Health::Passing) => StatusCode::OK,
            Aggregate::Of(Health::Warning) => StatusCode::TOO_MANY_REQUESTS,
            Aggregate::Of(Health::Critical) | Aggregate::Maintenance => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

fn is_maintenance(id: &CheckId) -> bool {
    id.as_str() == NODE_MAINTENANCE || id.as_str().starts_with(SERVICE_MAINTENANCE_PREFIX)
}

/// `GET health/service/id/<id>`.
pub(super) fn by_id(door: &Door, call: &Call) -> Answer {
    let id = call.rest.as_str();
    if id.is_empty() {
        return Err(HttpError::BadRequest("Missing serviceID".to_owned()));
    }
    let mut out = Vec::with_capacity(512);
    let aggregate = door.desk.local().look(|local| {
        let service = local.services().get(id)?;
        let checks: Vec<&Check> = local
            .checks()
            .values()
            .map(|local| &local.check)
            .filter(|check| check.service_id.as_ref().is_none_or(|of| of.as_str() == id))
            .collect();
        Some(show(&mut out, door, service, &checks))
    });
    let Some(aggregate) = aggregate else {
        let json = r#"{"AggregatedStatus":"critical","Service":null,"Checks":null}"#;
        return Ok(answer(call, StatusCode::NOT_FOUND, &format!("ServiceId {id} not found"), json.into()));
    };
    Ok(answer(call, aggregate.status(), aggregate.word(), out))
}

/// `GET health/service/name/<name>`.
pub(super) fn by_name(door: &Door, call: &Call) -> Answer {
    let name = call.rest.as_str();
    if name.is_empty() {
        return Err(HttpError::BadRequest("Missing service Name".to_owned()));
    }
    let mut out = Vec::with_capacity(1024);
    let worst = door.desk.local().look(|local| {
        let mut of_node: Vec<&Check> = Vec::new();
        let mut of_services: BTreeMap<&str, Vec<&Check>> = BTreeMap::new();
        for local in local.checks().values() {
            match &local.check.service_id {
                Some(id) => of_services.entry(id.as_str()).or_default().push(&local.check),
                None => of_node.push(&local.check),
            }
        }
        let mut worst = None;
        let services = local.services().values().filter(|local| local.service.name.as_str() == name);
        json::list(&mut out, services, |out, service| {
            let mut checks = of_services.remove(service.service.id.as_str()).unwrap_or_default();
            checks.extend(&of_node);
            worst = worst.max(Some(show(out, door, service, &checks)));
        });
        worst
    });
    Ok(match worst {
        Some(worst) => answer(call, worst.status(), worst.word(), out),
        None => answer(call, StatusCode::NOT_FOUND, &format!("ServiceName {name} Not Found"), out),
    })
}

/// Writes one service with its checks.
fn show(out: &mut Vec<u8>, door: &Door, local: &LocalService, checks: &[&Check]) -> Aggregate {
    let aggregate = Aggregate::of(checks.iter().copied());
    let service = AgentServiceView { service: &local.service, content_hash: "", datacenter: door.datacenter() };
    out.extend_from_slice(br#"{"AggregatedStatus":"#);
    json::text(out, aggregate.word());
    out.extend_from_slice(br#","Service":"#);
    json::object(out, &service);
    out.extend_from_slice(br#","Checks":"#);
    let node = door.desk.name().as_str();
    json::list(out, checks.iter(), |out, check| json::object(out, &CheckInfo { node, check }));
    out.push(b'}');
    aggregate
}

/// The code says it all; the reader gets the details as JSON, or the one word as text.
fn answer(call: &Call, status: StatusCode, reason: &str, json: Vec<u8>) -> Reply {
    let reply = match wants_text(call) {
        true => Reply::other("text/plain", reason.to_owned().into()),
        false => Reply::json(json),
    };
    let reply = reply.with_status(status);
    match HeaderValue::from_bytes(reason.as_bytes()) {
        Ok(value) => reply.with_header(REASON, value),
        Err(_) => reply, // A name that no header can hold stands in the body.
    }
}

fn wants_text(call: &Call) -> bool {
    let accepts = call.headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain"));
    accepts || call.query.get("format").is_some_and(|format| format == "text")
}

/// A check as this endpoint alone shows it: without its kind and tags, and with an empty definition written out.
struct CheckInfo<'a> {
    node: &'a str,
    check: &'a Check,
}

const NO_DEFINITION: &str = concat!(
    r#"{"Interval":"0s","Timeout":"0s","DeregisterCriticalServiceAfter":"0s","HTTP":"","Header":null,"#,
    r#""Method":"","Body":"","TLSSkipVerify":false,"TCP":""}"#
);

impl Fields for CheckInfo<'_> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        let check = self.check;
        to.field("Node", Value::Text(self.node), Shown::Always);
        to.field("CheckID", Value::Text(check.id.as_str()), Shown::Always);
        to.field("Name", Value::Text(&check.name), Shown::Always);
        to.field("Status", Value::Text(check.status.as_str()), Shown::Always);
        to.field("Notes", Value::Text(&check.notes), Shown::Always);
        to.field("Output", Value::Text(&check.output), Shown::Always);
        to.field("ServiceID", Value::Text(check.service_id.as_ref().map_or("", |id| id.as_str())), Shown::Always);
        to.field("ServiceName", Value::Text(check.service_name.as_ref().map_or("", |name| name.as_str())), Shown::Always);
        to.field("ServiceTags", Value::Fixed("null"), Shown::Always);
        to.field("Type", Value::Text(""), Shown::Always);
        to.field("ExposedPort", Value::Number(0), Shown::Always);
        to.field("Definition", Value::Fixed(NO_DEFINITION), Shown::Always);
        to.field("CreateIndex", Value::Count(0), Shown::Always);
        to.field("ModifyIndex", Value::Count(0), Shown::Always);
    }
}
