//! Who is in the cluster. This server is alone in it: membership of others is not in this version.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::super::Door;
use super::super::call::{Answer, Answering, Call};
use super::super::error::HttpError;
use super::super::fields::MemberView;
use super::super::json;
use super::super::reply::Reply;
use super::facts::{Own, Pool};
use super::{TheDoor, soon};
use crate::config::Config;

/// Time for the name of a host to be resolved: longer than one lost packet and its repetition by the usual resolver (5 s).
const RESOLVE_WAIT: Duration = Duration::from_secs(6);

/// The status of a member that is alive.
const ALIVE: u8 = 1;

/// An empty `wan` is none.
fn pool(call: &Call) -> Pool {
    if call.query.filled("wan").is_some() { Pool::Wan } else { Pool::Lan }
}

pub(super) fn view(own: &Own) -> MemberView<'_> {
    MemberView { name: &own.name, address: &own.address, port: own.port, tags: &own.tags, status: ALIVE }
}

/// `GET members`.
pub(super) fn all(door: &Door, call: &Call) -> Answer {
    let pool = pool(call);
    match call.query.filled("segment") {
        Some(_) if pool == Pool::Wan => {
            return Err(HttpError::BadRequest("Cannot provide a segment with wan=true".to_owned()));
        }
        Some(segment) if segment != "_all" => {
            return Err(HttpError::Server("Network segments are not supported in this version of Consul".to_owned()));
        }
        _ => {}
    }
    let own = door.facts.own(pool, door.desk.id());
    let mut out = Vec::with_capacity(512);
    json::list(&mut out, [own].iter(), |out, own| json::object(out, &view(own)));
    Ok(Reply::json(out))
}

/// `PUT join/<address>`: joining oneself succeeds, as it does in Consul.
pub(super) fn join(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        let pool = if call.query.has("wan") { Pool::Wan } else { Pool::Lan };
        let address = { call }.rest;
        if address.is_empty() {
            return Err(HttpError::BadRequest("Missing address to join".to_owned()));
        }
        let config = door.facts.config();
        let failed = |why: &str| Err(HttpError::Server(format!("1 error occurred:\n\t* Failed to join {address}: {why}\n\n")));
        let Some(own) = (match pool {
            Pool::Lan => config.addresses.serf_lan,
            Pool::Wan => config.addresses.serf_wan,
        }) else {
            return failed("this agent has no port for that");
        };
        let with_port = with_port(&address, own.port());
        let found = match timeout(RESOLVE_WAIT, lookup_host(with_port)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return failed(&error.to_string()),
            Err(_) => return failed("its name could not be resolved in time"),
        };
        for found in found {
            if is_own(&config, own, found) {
                return Ok(Reply::nothing());
            }
        }
        failed("this version of muster runs a single server: it cannot join others")
    })
}

/// The address with the port that is meant where none is written.
fn with_port(address: &str, port: u16) -> String {
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if bare.parse::<std::net::Ipv6Addr>().is_ok() {
        return format!("[{bare}]:{port}");
    }
    if address.contains(':') { address.to_owned() } else { format!("{address}:{port}") }
}

fn is_own(config: &Config, own: SocketAddr, found: SocketAddr) -> bool {
    let addresses = &config.addresses;
    let ip = found.ip();
    let named = [own.ip(), addresses.bind, addresses.advertise, addresses.advertise_wan].contains(&ip);
    found.port() == own.port() && (named || (own.ip().is_unspecified() && ip.is_loopback()))
}

/// `PUT force-leave/<name>`: only what failed can be made to leave. This agent itself is alive: it stays, as in Consul.
pub(super) fn force_leave(door: &Door, call: &Call) -> Answer {
    let pool = if call.query.has("wan") { Pool::Wan } else { Pool::Lan };
    match door.facts.own(pool, door.desk.id()).name == call.rest.as_str() {
        true => Ok(Reply::nothing()),
        false => Err(HttpError::Server(format!("agent: No node found with name '{}'", call.rest))),
    }
}
