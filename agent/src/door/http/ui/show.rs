//! The catalog as the page reads it: compact JSON, with the cause of everything.

use muster_catalog::{Cause, CauseKind, Check, Health, Instance, Meta, Node, NodeName, Row, Service, State, Subject, Topic};

use super::super::json;

fn name_of(out: &mut Vec<u8>, name: &'static str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &'static str, value: &str) {
    name_of(out, name);
    json::text(out, value);
    out.push(b',');
}

fn number(out: &mut Vec<u8>, name: &'static str, value: i64) {
    name_of(out, name);
    out.extend_from_slice(value.to_string().as_bytes());
    out.push(b',');
}

fn meta(out: &mut Vec<u8>, name: &'static str, pairs: &Meta) {
    name_of(out, name);
    json::map(out, pairs.iter(), |out, value| json::text(out, value));
    out.push(b',');
}

/// Each field has left a comma behind it.
fn close(out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(b'}');
}

fn health(health: Health) -> &'static str {
    match health {
        Health::Passing => "passing",
        Health::Warning => "warning",
        Health::Critical => "critical",
    }
}

fn kind(kind: CauseKind) -> &'static str {
    match kind {
        CauseKind::Api => "API",
        CauseKind::Sync => "agent",
        CauseKind::CheckResult => "check result",
        CauseKind::TtlExpired => "TTL expired",
        CauseKind::CriticalTooLong => "critical for too long",
        CauseKind::Maintenance => "maintenance",
        CauseKind::DefinitionFile => "definition file",
        CauseKind::Reconcile => "membership",
        CauseKind::SessionExpired => "session expired",
        CauseKind::Start => "start",
    }
}

/// `[when, status, kind, actor, reason]`.
fn change(out: &mut Vec<u8>, status: &str, cause: &Cause) {
    out.push(b'[');
    out.extend_from_slice(cause.at_ms.to_string().as_bytes());
    for part in [status, kind(cause.kind), &cause.actor, &cause.reason] {
        out.push(b',');
        json::text(out, part);
    }
    out.push(b']');
}

/// Why it is as it is, and what was before; only servers keep the latter.
fn causes(out: &mut Vec<u8>, state: &State, node: &NodeName, subject: &Subject, status: &str, cause: &Cause) {
    name_of(out, "cause");
    change(out, status, cause);
    out.push(b',');
    let past = state.past(node, subject);
    if !past.is_empty() {
        name_of(out, "past");
        json::list(out, past.iter().rev(), |out, past| {
            let status = past.status.as_ref().map_or(if past.removed { "removed" } else { "" }, |status| status.as_str());
            change(out, status, &past.cause);
        });
        out.push(b',');
    }
}

fn check(out: &mut Vec<u8>, state: &State, row: &Row<Check>) {
    out.push(b'{');
    text(out, "id", row.id.as_str());
    text(out, "name", &row.name);
    text(out, "status", row.status.as_str());
    text(out, "output", &row.output);
    text(out, "notes", &row.notes);
    text(out, "type", &row.kind);
    text(out, "interval", &row.interval);
    text(out, "of", if row.service_id.is_some() { "service" } else { "node" });
    causes(out, state, &row.node.folded(), &Subject::Check(row.id.clone()), row.status.as_str(), &row.cause);
    close(out);
}

/// An instance; its node's part is left out where the node has been told.
fn instance<'a>(
    out: &mut Vec<u8>,
    state: &State,
    node: Option<&Row<Node>>,
    row: &Row<Service>,
    health_of: Health,
    checks: impl Iterator<Item = &'a Row<Check>>,
) {
    out.push(b'{');
    text(out, "node", row.node.as_str());
    if let Some(node) = node {
        text(out, "nodeAddress", &node.address);
    }
    text(out, "service", row.name.as_str());
    text(out, "id", row.id.as_str());
    text(out, "address", &row.address);
    number(out, "port", row.port);
    text(out, "status", health(health_of));
    name_of(out, "tags");
    json::list(out, row.tags.iter(), |out, tag| json::text(out, tag));
    out.push(b',');
    meta(out, "meta", &row.meta);
    number(out, "owned", i64::from(row.owner.is_some()));
    causes(out, state, &row.node.folded(), &Subject::Service(row.id.clone()), "", &row.cause);
    name_of(out, "checks");
    json::list(out, checks, |out, row| check(out, state, row));
    close(out);
}

/// A service with its instances; `None` if there is none of that name.
pub(super) fn service(state: &State, folded: &str) -> Option<Vec<u8>> {
    let bucket = state.service(folded)?;
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    text(&mut out, "name", bucket.name().as_str());
    name_of(&mut out, "instances");
    json::list(&mut out, bucket.instances().iter(), |out, one| {
        let Instance { node, service, checks, health, .. } = &**one;
        instance(out, state, Some(node), service, *health, checks.iter().map(|check| &**check));
    });
    close(&mut out);
    Some(out)
}

/// A node with its checks and services; `None` if there is none of that name.
pub(super) fn node(state: &State, name: &str) -> Option<Vec<u8>> {
    let row = state.node(name)?;
    let folded = row.node.folded();
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    text(&mut out, "name", row.node.as_str());
    text(&mut out, "address", &row.address);
    text(&mut out, "id", &row.id.map(|id| id.to_string()).unwrap_or_default());
    meta(&mut out, "meta", &row.meta);
    name_of(&mut out, "cause");
    change(&mut out, "", &row.cause);
    out.push(b',');
    name_of(&mut out, "checks");
    let own = state.checks_of(&folded).filter(|check| check.service_id.is_none());
    json::list(&mut out, own, |out, row| check(out, state, row));
    out.push(b',');
    name_of(&mut out, "services");
    json::list(&mut out, state.services_of(&folded), |out, service| {
        let of = || state.checks_of(&folded).filter(|check| check.service_id.as_ref() == Some(&service.id));
        let worst = muster_catalog::worst(of().map(|check| &check.status));
        instance(out, state, None, service, worst, of().map(|check| &**check));
    });
    close(&mut out);
    Some(out)
}

/// A line of the list of services: `[name, [tag…], passing, warning, critical, nodes]`, by instances.
fn service_line(out: &mut Vec<u8>, bucket: &muster_catalog::Bucket) {
    let instances = bucket.instances();
    let mut counts = [0_usize; 3];
    let mut nodes = 0;
    let mut tags: Vec<&str> = Vec::new();
    let mut last: Option<&Instance> = None;
    for one in instances {
        counts[one.health as usize] += 1;
        nodes += usize::from(last.is_none_or(|last| last.node.node != one.node.node));
        last = Some(one);
        tags.extend(one.service.tags.iter().map(|tag| tag.as_str()));
        if tags.len() > TAGS_MAX * 4 {
            tags.sort_unstable();
            tags.dedup();
            tags.truncate(TAGS_MAX);
        }
    }
    tags.sort_unstable();
    tags.dedup();
    tags.truncate(TAGS_MAX);
    out.push(b'[');
    json::text(out, bucket.name().as_str());
    out.push(b',');
    json::list(out, tags.iter(), |out, tag| json::text(out, tag));
    for count in counts.into_iter().chain([nodes]) {
        out.extend_from_slice(format!(",{count}").as_bytes());
    }
    out.push(b']');
}

/// Tags told of a service in the list: what a person reads in a line, and some more to search in.
const TAGS_MAX: usize = 32;

/// A line of the list of nodes: `[name, address, services, passing, warning, critical]`, by checks.
fn node_line(out: &mut Vec<u8>, state: &State, row: &Row<Node>) {
    let folded = row.node.folded();
    let mut counts = [0_usize; 3];
    for check in state.checks_of(&folded) {
        counts[check.status.health() as usize] += 1;
    }
    out.push(b'[');
    json::text(out, row.node.as_str());
    out.push(b',');
    json::text(out, &row.address);
    for count in [state.services_of(&folded).count()].into_iter().chain(counts) {
        out.extend_from_slice(format!(",{count}").as_bytes());
    }
    out.push(b']');
}

/// The lists: of all, or of what is not as it was in `before`, with the names of what is gone. Writes fields of an object.
pub(super) fn lists(out: &mut Vec<u8>, before: Option<&State>, state: &State) {
    let changed = |folded: &str, index| before.is_none_or(|before| before.service(folded).map(|old| old.index()) != Some(index));
    name_of(out, "services");
    let services = state.services().filter(|bucket| changed(bucket.name().folded().as_str(), bucket.index()));
    json::list(out, services, |out, bucket| service_line(out, bucket));
    out.push(b',');
    name_of(out, "nodes");
    let stand = |state: &State, name: &NodeName| {
        [Topic::Node(name.clone()), Topic::NodeChecks(name.clone())].map(|topic| state.index(&topic))
    };
    let moved = |row: &Row<Node>| {
        let name = row.node.folded();
        before.is_none_or(|before| before.node(name.as_str()).is_none() || stand(before, &name) != stand(state, &name))
    };
    json::list(out, state.nodes().filter(|row| moved(row)), |out, row| node_line(out, state, row));
    out.push(b',');
    let Some(before) = before else { return };
    name_of(out, "goneServices");
    let gone = before.services().filter(|bucket| state.service(bucket.name().folded().as_str()).is_none());
    json::list(out, gone, |out, bucket| json::text(out, bucket.name().as_str()));
    out.push(b',');
    name_of(out, "goneNodes");
    let gone = before.nodes().filter(|row| state.node(row.node.as_str()).is_none());
    json::list(out, gone, |out, row| json::text(out, row.node.as_str()));
    out.push(b',');
}

/// The head of what the page is told: who tells it, and how old it is. Leaves the object open.
pub(super) fn head(out: &mut Vec<u8>, datacenter: &str, node: &str, server: bool, known_leader: bool, age_ms: u64) {
    out.push(b'{');
    text(out, "dc", datacenter);
    text(out, "agent", node);
    text(out, "version", crate::config::MUSTER_VERSION);
    number(out, "server", i64::from(server));
    number(out, "leader", i64::from(known_leader));
    number(out, "age", i64::try_from(age_ms).unwrap_or(i64::MAX));
}

/// Ends the object.
pub(super) fn end(out: &mut Vec<u8>) {
    close(out);
}
