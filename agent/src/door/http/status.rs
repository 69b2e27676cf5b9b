//! `/v1/status`: who leads, and who could.

use std::sync::Arc;

use http::Method;

use super::Door;
use super::call::{Answer, Answering, Call, Handler, Route};
use super::json;
use super::reply::Reply;

pub(super) const ROUTES: &[Route] = &[
    Route { path: "/v1/status/leader", methods: &[(Method::GET, Handler::Now(leader))], namespaced: false },
    Route { path: "/v1/status/peers", methods: &[(Method::GET, Handler::Soon(peers))], namespaced: false },
];

/// The leader's address; empty if there is none, with 200 all the same: scripts wait for it that way.
fn leader(door: &Door, call: &Call) -> Answer {
    door.must_be_here(call)?;
    let leader = door.leader_address().map(|address| address.to_string()).unwrap_or_default();
    let mut out = Vec::new();
    json::text(&mut out, &leader);
    Ok(Reply::json(out))
}

fn peers(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let servers = door.desk.servers(&{ call }.who).await?.servers;
        let voters = servers.iter().filter(|server| server.votes);
        let peers: Vec<String> = voters.filter_map(|server| server.address).map(|address| address.to_string()).collect();
        Ok(Reply::json(json::texts(peers.iter().map(String::as_str))))
    })
}
