//! `/v1/status`: who leads, and who could.

use std::sync::Arc;

use http::Method;

use super::Door;
use super::call::{Answering, Call, Handler, Route};
use super::error::HttpError;
use super::json;
use super::reply::Reply;

pub(super) const ROUTES: &[Route] = &[
    Route { path: "/v1/status/leader", methods: &[(Method::GET, Handler::Soon(leader))], namespaced: false },
    Route { path: "/v1/status/peers", methods: &[(Method::GET, Handler::Soon(peers))], namespaced: false },
];

/// The leader's address; empty if there is none, with 200 all the same: scripts wait for it that way.
fn leader(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let servers = door.desk.servers(&{ call }.who).await.unwrap_or_default();
        let leader = servers.leader().and_then(|leader| leader.address);
        let mut out = Vec::new();
        json::text(&mut out, &leader.map(|address| address.to_string()).unwrap_or_default());
        Ok(Reply::json(out))
    })
}

fn peers(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let servers = door.desk.servers(&{ call }.who).await?;
        if servers.leader().is_none() {
            return Err(HttpError::Server("No cluster leader".into()));
        }
        let voters = servers.servers.iter().filter(|server| server.votes);
        let peers: Vec<String> = voters.filter_map(|server| server.address).map(|address| address.to_string()).collect();
        Ok(Reply::json(json::texts(peers.iter().map(String::as_str))))
    })
}
