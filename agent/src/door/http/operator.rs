//! `/v1/operator`: the key ring of gossip, and the servers as raft has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use muster_catalog::{Usage, UsageCounts};
use serde_json::{Value, json};

use super::Door;
use super::call::{Answering, Call, Handler, Route};
use super::decode::Object;
use super::error::HttpError;
use super::filter::parse_bool;
use super::options::{Family, ReadOptions};
use super::query::Query;
use super::reply::{Meta, Reply};
use crate::config::GossipKey;
use crate::desk::{ClusterOrder, KeyChange, Keyring, Order, ServerName, Who};

const fn route(path: &'static str, methods: &'static [(Method, Handler)]) -> Route {
    Route { path, methods, namespaced: false }
}

mod autopilot;

pub(super) const ROUTES: &[Route] = &[
    route("/v1/operator/autopilot/configuration", autopilot::CONFIGURATION),
    route("/v1/operator/autopilot/health", autopilot::HEALTH),
    route("/v1/operator/autopilot/state", autopilot::STATE),
    route("/v1/operator/usage", &[(Method::GET, Handler::Soon(usage))]),
    route("/v1/operator/raft/configuration", &[(Method::GET, Handler::Soon(servers))]),
    route("/v1/operator/raft/peer", &[(Method::DELETE, Handler::Soon(remove_server))]),
    route(
        "/v1/operator/raft/transfer-leader",
        &[(Method::POST, Handler::Soon(transfer_leader)), (Method::PUT, Handler::Soon(transfer_leader))],
    ),
    route(
        "/v1/operator/keyring",
        &[
            (Method::GET, Handler::Soon(keys)),
            (Method::POST, Handler::Soon(install_key)),
            (Method::PUT, Handler::Soon(use_key)),
            (Method::DELETE, Handler::Soon(remove_key)),
        ],
    ),
];

/// Most members that one may ask a key request to be relayed by (Consul's).
const RELAY_FACTOR_MAX: i64 = 5;

fn bad<T>(text: impl Into<String>) -> Result<T, HttpError> {
    Err(HttpError::BadRequest(text.into()))
}

async fn obey(door: &Door, who: &Who, order: ClusterOrder) -> Result<(), HttpError> {
    Ok(door.desk.obey(who, Order::Cluster(order)).await?)
}

/// `GET usage`: how much is in the catalog.
fn usage(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        let options = ReadOptions::read(&door, &call.query, &call.headers, Family::Catalog)?;
        options.must_be_here()?;
        let who = { call }.who;
        let seen = options.ask(&door, &who, &Usage {}).await?;
        let meta = Meta { index: seen.index, known_leader: seen.known_leader, last_contact_ms: seen.last_contact_ms };
        let UsageCounts { nodes, services, instances, own } = seen.answer;
        let counts = json!({
            "Nodes": nodes,
            "Services": services,
            "ServiceInstances": instances,
            "ConnectServiceInstances": {},
            "BillableServiceInstances": instances - own,
        });
        let mut all = serde_json::Map::new();
        all.insert(door.datacenter().to_owned(), counts);
        let body = json!({
            "Usage": all,
            "Index": meta.index,
            "LastContact": meta.last_contact_ms,
            "KnownLeader": meta.known_leader,
            "ConsistencyLevel": options.effective(),
            "NotModified": false,
            "Backend": 0,
            "ResultsFilteredByACLs": false,
        });
        Ok(options.finish(Reply::json(body.to_string()), meta))
    })
}

/// `GET raft/configuration`.
fn servers(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let found = door.desk.servers(&{ call }.who).await?;
        let servers: Vec<Value> = found
            .servers
            .iter()
            .map(|server| {
                json!({
                    "ID": server.node.to_string(),
                    "Node": server.name.as_deref().unwrap_or("(unknown)"),
                    "Address": server.address.map(|address| address.to_string()).unwrap_or_default(),
                    "Leader": server.leader,
                    "ProtocolVersion": "3",
                    "Voter": server.votes,
                    "LastIndex": server.last_index,
                    "RaftID": server.raft.as_str(),
                })
            })
            .collect();
        Ok(Reply::json(json!({ "Servers": servers, "Index": found.index }).to_string()))
    })
}

/// `DELETE raft/peer`: by id or by address.
fn remove_server(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let name = match (call.query.filled("id"), call.query.filled("address")) {
            (Some(id), None) => ServerName::Id(id.clone()),
            (None, Some(address)) => ServerName::Address(address.clone()),
            (None, None) => {
                return bad("Must specify either ?id with the server's ID or ?address with IP:port of peer to remove");
            }
            (Some(_), Some(_)) => return bad("Must specify only one of ?id or ?address"),
        };
        obey(&door, &{ call }.who, ClusterOrder::RemoveServer(name)).await?;
        Ok(Reply::nothing())
    })
}

/// `POST raft/transfer-leader`: to the server of that id, or to whichever is best.
fn transfer_leader(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let to = call.query.filled("id").cloned().map(ServerName::Id);
        obey(&door, &{ call }.who, ClusterOrder::TransferLeader(to)).await?;
        Ok(Reply::json(r#"{"Success":true}"#))
    })
}

/// Whether only this agent's own key ring is meant. Both options are read for their faults: there is no relaying here.
fn local_only(query: &Query, list: bool) -> Result<bool, HttpError> {
    if let Some(text) = query.filled("relay-factor") {
        match text.parse::<i64>() {
            Err(_) => return bad(format!("Error parsing relay factor: strconv.Atoi: parsing {text:?}: invalid syntax")),
            Ok(factor) if !(0..=RELAY_FACTOR_MAX).contains(&factor) => {
                return bad(format!("Invalid relay-factor: Relay factor must be in range: [0, {RELAY_FACTOR_MAX}]"));
            }
            Ok(_) => {}
        }
    }
    match query.filled("local-only").map(|text| (text, parse_bool(text))) {
        None => Ok(false),
        Some((text, None)) => bad(format!("Error parsing local-only: strconv.ParseBool: parsing {text:?}: invalid syntax")),
        Some((_, Some(true))) if !list => bad("Invalid use of local-only: local-only can only be set for list requests"),
        Some((_, Some(local))) => Ok(local),
    }
}

/// `GET keyring`: the keys, and how many members have each.
fn keys(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        let local = local_only(&call.query, true)?;
        let ring = door.desk.keys(&{ call }.who, local).await?;
        let datacenter = door.datacenter();
        let servers = door.desk.cluster().members().iter().filter(|member| member.is_server()).count();
        let mut pools = vec![pool(&ring, datacenter, None)];
        // Servers are in the pool of all datacenters too, and there is one key ring for both.
        if !local && door.facts.config().server {
            pools.insert(0, pool(&ring, datacenter, Some(servers)));
        }
        Ok(Reply::json(Value::Array(pools).to_string()))
    })
}

/// A pool's key ring; `servers` is how many members it has at most, if it is that of all datacenters.
fn pool(ring: &Keyring, datacenter: &str, servers: Option<usize>) -> Value {
    let at_most = servers.unwrap_or(usize::MAX);
    let counts = |keys: &BTreeMap<GossipKey, usize>| -> BTreeMap<String, usize> {
        keys.iter().map(|(key, members)| (key.base64(), (*members).min(at_most))).collect()
    };
    let mut pool = json!({
        "WAN": servers.is_some(),
        "Datacenter": datacenter,
        "Segment": "",
        "Keys": counts(&ring.keys),
        "PrimaryKeys": counts(&ring.primary),
        "NumNodes": ring.members.min(at_most),
    });
    if let (false, Some(fields)) = (ring.messages.is_empty(), pool.as_object_mut()) {
        fields.insert("Messages".to_owned(), json!(ring.messages));
    }
    pool
}

/// `POST keyring`.
fn install_key(door: Arc<Door>, call: Call) -> Answering {
    change_keys(door, call, KeyChange::Install)
}

/// `PUT keyring`.
fn use_key(door: Arc<Door>, call: Call) -> Answering {
    change_keys(door, call, KeyChange::Use)
}

/// `DELETE keyring`.
fn remove_key(door: Arc<Door>, call: Call) -> Answering {
    change_keys(door, call, KeyChange::Remove)
}

fn change_keys(door: Arc<Door>, call: Call, change: KeyChange) -> Answering {
    Box::pin(async move {
        local_only(&call.query, false)?;
        let Call { body, who, .. } = call;
        let mut object = Object::parse(&body.read_json().await?)?;
        let text = object.text("Key")?;
        object.finish()?;
        let key = GossipKey::parse(&text).map_err(|wanted| HttpError::Server(format!("the key {wanted}")))?;
        obey(&door, &who, ClusterOrder::Key(change, key)).await?;
        Ok(Reply::nothing())
    })
}
