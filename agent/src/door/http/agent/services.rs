//! The services of this agent: listed, read one by one, registered and deregistered.

use std::hash::{BuildHasher, Hasher};
use std::pin::pin;
use std::time::Duration;

use foldhash::quality::FixedState;
use http::{HeaderName, HeaderValue};
use muster_catalog::LocalService;
use smol_str::SmolStr;

use super::super::Door;
use super::super::call::{Answer, Answering, Call};
use super::super::error::HttpError;
use super::super::fields::AgentServiceView;
use super::super::filter::Rows;
use super::super::json;
use super::super::options::hold;
use super::super::query::Query;
use super::super::reply::Reply;
use super::{TheDoor, enable, filter, forget, obey, refused, service_id, soon, warn};
use crate::config::service_from_body;
use crate::desk::Order;

const CONTENT_HASH: HeaderName = HeaderName::from_static("x-consul-contenthash");

/// `GET services`.
pub(super) fn all(door: &Door, call: &Call) -> Answer {
    let filter = filter(call, Rows::Services)?;
    let datacenter = door.datacenter();
    let mut out = Vec::with_capacity(1024);
    door.desk.local().look(|local| {
        let all = local.services().values().map(|local| view(local, "", datacenter));
        let shown = all.filter(|view| filter.as_ref().is_none_or(|filter| filter.admits(view)));
        json::map(&mut out, shown.map(|view| (view.service.id.as_str(), view)), |out, view| json::object(out, &view));
    });
    Ok(Reply::json(out))
}

fn view<'a>(local: &'a LocalService, content_hash: &'a str, datacenter: &'a str) -> AgentServiceView<'a> {
    AgentServiceView { service: &local.service, content_hash, datacenter }
}

/// `GET service/<id>`; held while the reader has what its `hash` names.
pub(super) fn one(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        let (_, timeout) = hold(&door, &call.query)?;
        let seen = call.query.filled("hash").cloned();
        let id = { call }.rest;
        if let Some(seen) = seen {
            wait_past(&door, &id, &seen, timeout).await;
        }
        let mut out = Vec::with_capacity(512);
        let hash = door.desk.local().look(|local| {
            let local = local.services().get(id.as_str())?;
            let hash = content_hash(local, door.datacenter());
            json::object(&mut out, &view(local, &hash, door.datacenter()));
            Some(hash)
        });
        let hash = hash.ok_or_else(|| HttpError::NotFound(format!("unknown service ID: {id}")))?;
        let hash = HeaderValue::from_str(&hash).expect("hexadecimal digits are visible ASCII");
        Ok(Reply::json(out).with_header(CONTENT_HASH, hash))
    })
}

/// Returns when the service is no longer what this hash stands for, or the time is over, or the agent stops.
async fn wait_past(door: &Door, id: &SmolStr, seen: &str, timeout: Duration) {
    let mut version = door.desk.local().version();
    let mut over = pin!(tokio::time::sleep(timeout));
    let mut stop = pin!(door.desk.stopping());
    let mut known = None;
    loop {
        version.mark_unchanged();
        // Most changes are of others: one told again has a new generation, and only then can its hash differ.
        let now = door.desk.local().look(|local| local.services().get(id.as_str()).map(|local| local.generation));
        if now.is_none() || now != known {
            let hash = door
                .desk
                .local()
                .look(|local| local.services().get(id.as_str()).map(|local| content_hash(local, door.datacenter())));
            if hash.as_deref() != Some(seen) {
                return;
            }
            known = now;
        }
        tokio::select! {
            changed = version.changed() => if changed.is_err() { return },
            () = &mut over => return,
            () = &mut stop => return,
        }
    }
}

/// Names what a reader sees of a service: 128 bits, so that two of its states never share a name.
fn content_hash(local: &LocalService, datacenter: &str) -> String {
    let mut shown = Vec::with_capacity(512);
    json::object(&mut shown, &view(local, "", datacenter));
    let half = |seed: u64| {
        let mut hasher = FixedState::with_seed(seed).build_hasher();
        hasher.write(&shown);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(1), half(2))
}

/// `PUT service/register`.
pub(super) fn register(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        let replace_checks = replaces(&call.query);
        let Call { body, who, .. } = call;
        let told = service_from_body(&body.read_json().await?, door.facts.config().checks.over_http()).map_err(refused)?;
        warn(&told.warnings, &who);
        let order = Order::RegisterService { service: Box::new(told.service), checks: told.checks, replace_checks };
        obey(&door, &who, order).await
    })
}

/// The parameter alone means yes; any other value than `true` means no.
fn replaces(query: &Query) -> bool {
    query.get("replace-existing-checks").is_some_and(|value| matches!(value.as_str(), "" | "true"))
}

/// `PUT service/deregister/<id>`.
pub(super) fn deregister(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        if call.rest.is_empty() {
            return Err(HttpError::Server("ServiceID missing".to_owned()));
        }
        let order = Order::DeregisterService(service_id(&call)?);
        forget(&door, &{ call }.who, order).await
    })
}

/// `PUT service/maintenance/<id>`.
pub(super) fn maintenance(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        if call.rest.is_empty() {
            return Err(HttpError::BadRequest("Missing service ID".to_owned()));
        }
        let on = enable(&call.query)?;
        let order = Order::ServiceMaintenance { service: service_id(&call)?, on };
        obey(&door, &{ call }.who, order).await
    })
}
