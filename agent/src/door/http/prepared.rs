//! `/v1/query`: prepared queries.
#![allow(clippy::disallowed_methods)] // answers come in random order, so that load is spread

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode};
use muster_catalog::{
    AllQueries, Asker, CauseKind, Command, ExecuteQuery, Executed, Meta as Pairs, Outcome, PreparedQuery, QueryFailover,
    QueryOne, QueryRow, QueryService, QueryTemplate, ResolveQuery, SetQuery,
};
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};
use smol_str::SmolStr;
use uuid::Uuid;

use super::Door;
use super::call::{Answer, Answering, Call, Handler, Route};
use super::decode::Object;
use super::error::HttpError;
use super::json;
use super::options::{Family, ReadOptions};
use super::reply::{Meta, Reply};
use crate::config::duration;
use crate::desk::{Seen, Travel, Who};

/// The prefix that checks methods in its own way: its 405 lacks `OPTIONS`, and its `OPTIONS` has a body.
pub(super) const QUERY_PREFIX: &str = "/v1/query/";

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/v1/query",
        methods: &[(Method::GET, Handler::Soon(all)), (Method::POST, Handler::Soon(create))],
        namespaced: false,
    },
    Route {
        path: QUERY_PREFIX,
        methods: &[
            (Method::GET, Handler::Soon(get)),
            (Method::PUT, Handler::Soon(update)),
            (Method::DELETE, Handler::Soon(delete)),
        ],
        namespaced: false,
    },
];

/// What a token looks like that was hidden from its reader.
const HIDDEN: &str = "<hidden>";
/// What Consul's tables say of an id that is none.
const NO_UUID: &str = "index error: UUID must be 36 characters";

fn not_found() -> HttpError {
    HttpError::NotFound("Query not found".into())
}

fn wrong<T>(text: impl Into<String>) -> Result<T, HttpError> {
    Err(HttpError::Server(text.into()))
}

fn id_of(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok().filter(|_| text.len() == 36)
}

/// Reads at once: nobody waits for a query.
async fn look<A: Travel + Sync>(
    door: &Door,
    call: &Call,
    who: &Who,
    ask: &A,
) -> Result<(ReadOptions, Seen<A::Answer>), HttpError> {
    let options = ReadOptions::read(door, &call.query, &call.headers, Family::Catalog)?.at_once();
    options.must_be_here()?;
    let seen = options.ask(door, who, ask).await?;
    Ok((options, seen))
}

fn meta<T>(seen: &Seen<T>) -> Meta {
    Meta { index: seen.index, known_leader: seen.known_leader, last_contact_ms: seen.last_contact_ms }
}

/// `GET /v1/query`.
fn all(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        let (options, seen) = look(&door, &call, &call.who, &AllQueries {}).await?;
        let rows: Vec<Value> = seen.answer.iter().map(|row| shown(row)).collect();
        Ok(options.finish(Reply::json(Value::Array(rows).to_string()), meta(&seen)))
    })
}

/// `GET <id>`, `GET <id or name>/execute`, `GET <id or name>/explain`.
fn get(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        if let Some(name) = call.rest.strip_suffix("/execute") {
            return execute(&door, &call, name).await;
        }
        if let Some(name) = call.rest.strip_suffix("/explain") {
            return explain(&door, &call, name).await;
        }
        let Some(id) = id_of(&call.rest) else {
            ReadOptions::read(&door, &call.query, &call.headers, Family::Catalog)?;
            return Err(HttpError::ServerOfRead(format!("failed prepared query lookup: {NO_UUID}")));
        };
        let (options, seen) = look(&door, &call, &call.who, &QueryOne { id }).await?;
        let row = seen.answer.as_ref().ok_or_else(not_found)?;
        Ok(options.finish(Reply::json(Value::Array(vec![shown(row)]).to_string()), meta(&seen)))
    })
}

async fn explain(door: &Door, call: &Call, name: &str) -> Answer {
    let ask = ResolveQuery { name: SmolStr::new(name) };
    let (options, seen) = look(door, call, &call.who, &ask).await?;
    let meta = meta(&seen);
    let row = seen.answer.map_err(|fault| HttpError::ServerOfRead(fault.to_string()))?.ok_or_else(not_found)?;
    let mut body = about(meta, options.effective());
    body["Query"] = shown(&row);
    Ok(options.finish(Reply::json(body.to_string()), meta))
}

/// What Consul puts beside such an answer.
fn about(meta: Meta, consistency: &str) -> Value {
    json!({
        "Index": meta.index,
        "LastContact": meta.last_contact_ms,
        "KnownLeader": meta.known_leader,
        "ConsistencyLevel": consistency,
    })
}

async fn execute(door: &Door, call: &Call, name: &str) -> Answer {
    let limit = match call.query.filled("limit").map(|text| (text, text.parse::<i64>())) {
        None => usize::MAX,
        // None, or less than none, is no limit.
        Some((_, Ok(limit))) => usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX),
        Some((text, Err(_))) => {
            let why = format!("Bad limit: strconv.Atoi: parsing {text:?}: invalid syntax");
            return Err(HttpError::BadRequest(why));
        }
    };
    let asker = Asker {
        near: call.query.filled("near").cloned().unwrap_or_default(),
        agent: SmolStr::new(door.desk.name().as_str()),
        address: source(call),
    };
    let ask = ExecuteQuery { name: SmolStr::new(name), asker };
    let (options, seen) = look(door, call, &call.who, &ask).await?;
    let meta = meta(&seen);
    let found = seen.answer.map_err(|fault| HttpError::ServerOfRead(fault.to_string()))?.ok_or_else(not_found)?;
    let Executed { row, mut instances, near } = found;
    // Equals, and all where no order is wanted, come as they fall.
    instances.shuffle(&mut rand::rng());
    near.sort(&mut instances, |instance| instance.node.node.as_str());
    instances.truncate(limit);
    let nodes = json::join(instances.iter().map(|instance| json::health_entry(instance, door.datacenter())));
    let mut body = about(meta, options.effective());
    body["Service"] = json!(row.query.service.service.as_str());
    body["DNS"] = json!({ "TTL": row.query.dns_ttl.as_str() });
    body["Datacenter"] = json!(door.datacenter());
    body["Failovers"] = json!(0);
    let mut text = body.to_string().into_bytes();
    text.pop();
    text.extend_from_slice(b",\"Nodes\":");
    text.extend_from_slice(&nodes);
    text.push(b'}');
    Ok(options.finish(Reply::json(text), meta))
}

/// Where a question comes from: a proxy says for whom it asks, as with Consul.
fn source(call: &Call) -> Option<IpAddr> {
    let forwarded =
        call.headers.get("X-Forwarded-For").and_then(|value| value.to_str().ok()?.split(',').next()?.trim().parse().ok());
    forwarded.or_else(|| call.who.from.parse::<SocketAddr>().ok().map(|from| from.ip().to_canonical()))
}

fn shown(row: &QueryRow) -> Value {
    let PreparedQuery { name, session, token, template, service, dns_ttl, .. } = &row.query;
    let template = template.clone().unwrap_or_default();
    // What is empty is `null`, as Go has it.
    let list = |texts: &[SmolStr]| if texts.is_empty() { Value::Null } else { json!(texts) };
    let pairs = |pairs: &Pairs| {
        let shown = pairs.iter().map(|(key, value)| (key.to_string(), json!(value.as_str())));
        if pairs.is_empty() { Value::Null } else { Value::Object(shown.collect()) }
    };
    // A template's tags that came out empty were a list before.
    let tags = if template.remove_empty_tags && service.tags.is_empty() { json!([]) } else { list(&service.tags) };
    json!({
        "ID": row.id.to_string(),
        "Name": name.as_str(),
        "Session": session.map(|session| session.to_string()).unwrap_or_default(),
        "Token": token.as_str(),
        "Template": {
            "Type": template.kind.as_str(),
            "Regexp": template.regexp.as_str(),
            "RemoveEmptyTags": template.remove_empty_tags,
        },
        "Service": {
            "Service": service.service.as_str(),
            "Failover": { "NearestN": service.failover.nearest, "Datacenters": list(&service.failover.datacenters) },
            "OnlyPassing": service.only_passing,
            "IgnoreCheckIDs": list(&service.ignore_check_ids),
            "Near": service.near.as_str(),
            "Tags": tags,
            "NodeMeta": pairs(&service.node_meta),
            "ServiceMeta": pairs(&service.service_meta),
            "Connect": false,
        },
        "DNS": { "TTL": dns_ttl.as_str() },
        "CreateIndex": row.create_index,
        "ModifyIndex": row.modify_index,
    })
}

/// `POST /v1/query`.
fn create(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let Call { body, who, .. } = call;
        let (id, query) = understand(&body.read_json().await?)?;
        if !id.is_empty() {
            return wrong("ID must be empty when creating a new prepared query");
        }
        let (id, query) = (Uuid::new_v4(), query.checked()?);
        write(&door, &who, Command::SetQuery(Box::new(SetQuery { id, create: true, query }))).await?;
        Ok(Reply::json(json!({ "ID": id.to_string() }).to_string()))
    })
}

/// `PUT <id>`.
fn update(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        if let Some(refused) = is_get_alone(&call.rest, &Method::PUT) {
            return Ok(refused);
        }
        let Call { rest, body, who, .. } = call;
        let (_, query) = understand(&body.read_json().await?)?;
        let id = must_be_id(&rest)?;
        let query = query.checked()?;
        write(&door, &who, Command::SetQuery(Box::new(SetQuery { id, create: false, query }))).await?;
        Ok(Reply::nothing())
    })
}

/// `DELETE <id>`.
fn delete(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        if let Some(refused) = is_get_alone(&call.rest, &Method::DELETE) {
            return Ok(refused);
        }
        let id = must_be_id(&call.rest)?;
        write(&door, &{ call }.who, Command::DeleteQuery(id)).await?;
        Ok(Reply::nothing())
    })
}

fn is_get_alone(rest: &str, method: &Method) -> Option<Reply> {
    let alone = rest.ends_with("/execute") || rest.ends_with("/explain");
    alone.then(|| {
        Reply::text(StatusCode::METHOD_NOT_ALLOWED, format!("method {method} not allowed"))
            .with_header(http::header::ALLOW, HeaderValue::from_static("GET"))
    })
}

fn must_be_id(text: &str) -> Result<Uuid, HttpError> {
    let lookup = || HttpError::Server(format!("Prepared Query lookup failed: failed prepared query lookup: {NO_UUID}"));
    id_of(text).ok_or_else(lookup)
}

async fn write(door: &Door, who: &Who, command: Command) -> Result<(), HttpError> {
    match door.desk.write(who, command, CauseKind::Api, "query").await? {
        (_, Outcome::Refused(refusal)) => wrong(refusal.to_string()),
        _ => Ok(()),
    }
}

/// A definition as it was written.
struct Written {
    query: PreparedQuery,
    session: SmolStr,
    nearest: i64,
    connect: bool,
}

fn understand(body: &[u8]) -> Result<(SmolStr, Written), HttpError> {
    let mut object = Object::parse(body)?;
    let (id, name, session) = (object.text("ID")?, object.text("Name")?, object.text("Session")?);
    let token = object.text("Token")?;
    let template = object.object("Template")?.map(read_template).transpose()?;
    let (service, nearest, connect) = object.object("Service")?.map(read_service).transpose()?.unwrap_or_default();
    let dns_ttl = match object.object("DNS")? {
        None => SmolStr::default(),
        Some(mut dns) => {
            let ttl = dns.text("TTL")?;
            dns.finish()?;
            ttl
        }
    };
    object.ignore(&["CreateIndex", "ModifyIndex"]);
    object.finish()?;
    let template = template.filter(|template| !template.kind.is_empty());
    let query = PreparedQuery { name, session: None, token, template, service, dns_ttl, dns_ttl_seconds: None };
    Ok((id, Written { query, session, nearest, connect }))
}

fn read_template(mut object: Object) -> Result<QueryTemplate, HttpError> {
    let template = QueryTemplate {
        kind: object.text("Type")?,
        regexp: object.text("Regexp")?,
        remove_empty_tags: object.truth("RemoveEmptyTags")?,
    };
    object.finish()?;
    Ok(template)
}

fn read_service(mut object: Object) -> Result<(QueryService, i64, bool), HttpError> {
    let (mut nearest, mut datacenters) = (0, Vec::new());
    if let Some(mut failover) = object.object("Failover")? {
        nearest = failover.number("NearestN")?;
        datacenters = failover.texts("Datacenters")?;
        for target in failover.list("Targets")? {
            let mut target = Object::of(target, "Targets")?;
            let (datacenter, peer) = (target.text("Datacenter")?, target.text("Peer")?);
            target.finish()?;
            if !peer.is_empty() {
                return wrong("Invalid prepared query: cluster peering is not offered: name a datacenter");
            }
            datacenters.push(datacenter);
        }
        failover.finish()?;
    }
    let service = QueryService {
        service: object.text("Service")?,
        failover: QueryFailover { nearest: 0, datacenters },
        only_passing: object.truth("OnlyPassing")?,
        ignore_check_ids: object.texts("IgnoreCheckIDs")?,
        near: object.text("Near")?,
        tags: object.texts("Tags")?,
        node_meta: object.pairs("NodeMeta")?,
        service_meta: object.pairs("ServiceMeta")?,
    };
    let connect = object.truth("Connect")?;
    object.finish()?;
    Ok((service, nearest, connect))
}

impl Written {
    /// The definition, if it can be kept; faults in the order in which Consul finds them.
    fn checked(self) -> Result<PreparedQuery, HttpError> {
        let Self { mut query, session, nearest, connect } = self;
        let invalid = |what: String| wrong(format!("Invalid prepared query: {what}"));
        if query.name.is_empty() && query.template.is_none() && session.is_empty() {
            return invalid("Must be bound to a session".to_owned());
        }
        if query.token == HIDDEN {
            return invalid(format!(
                "Bad Token '{HIDDEN}', it looks like a query definition with a redacted token was submitted"
            ));
        }
        if query.service.service.is_empty() {
            return invalid("Must provide a Service name to query".to_owned());
        }
        query.service.failover.nearest = match u32::try_from(nearest) {
            Ok(nearest) => nearest,
            Err(_) => return invalid(format!("Bad NearestN '{nearest}', must be >= 0")),
        };
        for (key, value) in query.service.node_meta.iter().chain(query.service.service_meta.iter()) {
            if key.is_empty() {
                return invalid(format!("Couldn't load metadata pair ('', '{value}'): Key cannot be blank"));
            }
        }
        if connect {
            return invalid("Connect is not offered: there is no service mesh".to_owned());
        }
        if !query.dns_ttl.is_empty() {
            query.dns_ttl_seconds = match duration::parse_ns(&query.dns_ttl) {
                Err(_) => {
                    let ttl = &query.dns_ttl;
                    return invalid(format!("Bad DNS TTL '{ttl}': time: invalid duration {ttl:?}"));
                }
                Ok(ns) if ns < 0 => return invalid(format!("DNS TTL '{ns}', must be >=0")),
                Ok(ns) => Some(u32::try_from(ns / 1_000_000_000).unwrap_or(u32::MAX)),
            };
        }
        if !session.is_empty() {
            query.session = match id_of(&session) {
                None => return wrong(format!("invalid session: {NO_UUID}")),
                Some(session) => Some(session),
            };
        }
        query.check().or_else(|fault| wrong(format!("failed compiling template: {fault}")))?;
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(body: &str) -> String {
        match understand(body.as_bytes()).and_then(|(_, written)| written.checked()) {
            Ok(query) => panic!("{query:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn faults_are_told_in_consuls_words() {
        let with = |more: &str| format!(r#"{{"Name":"q","Service":{{"Service":"s"{more}}}}}"#);
        for (body, text) in [
            (r#"{"Service":{"Service":"s"}}"#.to_owned(), "Invalid prepared query: Must be bound to a session"),
            (r#"{"Name":"q"}"#.to_owned(), "Invalid prepared query: Must provide a Service name to query"),
            (with(r#","Failover":{"NearestN":-1}"#), "Invalid prepared query: Bad NearestN '-1', must be >= 0"),
            (
                with(r#","NodeMeta":{"":"b"}"#),
                "Invalid prepared query: Couldn't load metadata pair ('', 'b'): Key cannot be blank",
            ),
            (with(r#","Connect":true"#), "Invalid prepared query: Connect is not offered: there is no service mesh"),
            (
                r#"{"Name":"q","Session":"junk","Service":{"Service":"s"}}"#.to_owned(),
                "invalid session: index error: UUID must be 36 characters",
            ),
            (
                r#"{"Name":"q","DNS":{"TTL":"-1s"},"Service":{"Service":"s"}}"#.to_owned(),
                "Invalid prepared query: DNS TTL '-1000000000', must be >=0",
            ),
            (
                r#"{"Name":"q","Template":{"Type":"x"},"Service":{"Service":"s"}}"#.to_owned(),
                "failed compiling template: Bad Template.Type 'x'",
            ),
            (
                r#"{"Name":"q","Template":{"Type":"name_prefix_match"},"Service":{"Service":"${"}}"#.to_owned(),
                "failed compiling template: Bad format '${' in Service.Service: parse error: syntax error",
            ),
        ] {
            assert_eq!(fault(&body), text);
        }
        for body in ["", "junk", "[]", r#"{"Name":1}"#, r#"{"Service":[]}"#, r#"{"Service":{"Tags":"x"}}"#, r#"{"Bogus":1}"#] {
            assert!(fault(body).starts_with("Request decode failed: "), "{body}");
        }
    }
}
