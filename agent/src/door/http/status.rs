//! `/v1/status`: who leads, and who could.

use http::Method;

use super::Door;
use super::call::{Answer, Call, Handler, Route};
use super::error::HttpError;
use super::json;
use super::reply::Reply;

pub(super) const ROUTES: &[Route] = &[
    Route { path: "/v1/status/leader", methods: &[(Method::GET, Handler::Now(leader))], namespaced: false },
    Route { path: "/v1/status/peers", methods: &[(Method::GET, Handler::Now(peers))], namespaced: false },
];

/// The leader's address; empty if there is none, with 200 all the same: scripts wait for it that way.
fn leader(door: &Door, call: &Call) -> Answer {
    door.must_be_here(call)?;
    let leader = door.leader_address().map(|address| address.to_string()).unwrap_or_default();
    let mut out = Vec::new();
    json::text(&mut out, &leader);
    Ok(Reply::json(out))
}

fn peers(door: &Door, call: &Call) -> Answer {
    door.must_be_here(call)?;
    if door.leader_address().is_none() {
        return Err(HttpError::Server("No cluster leader".into()));
    }
    let peers: Vec<String> = door.peer_addresses().iter().map(ToString::to_string).collect();
    Ok(Reply::json(json::texts(peers.iter().map(String::as_str))))
}
