//! Who is in the cluster, and who is brought in or counted out.

use std::net::SocketAddr;

use smol_str::{SmolStr, format_smolstr};

use super::super::Door;
use super::super::call::{Answer, Answering, Call};
use super::super::error::HttpError;
use super::super::fields::MemberView;
use super::super::filter::Rows;
use super::super::json;
use super::super::reply::Reply;
use super::{TheDoor, filter, obey, soon};
use crate::config::JoinAddress;
use crate::desk::{ClusterError, ClusterOrder, DeskError, Member, Order, Standing, Unmet};

/// Which of the two pools of members is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pool {
    /// Of this datacenter.
    Lan,
    /// Of the servers of all datacenters: there is one.
    Wan,
}

impl Pool {
    /// The members of a pool, as it knows them.
    fn members(self, door: &Door) -> Vec<Member> {
        let members = door.desk.cluster().members();
        match self {
            Pool::Lan => members,
            Pool::Wan => members.into_iter().filter(Member::is_server).map(|member| across(door, member)).collect(),
        }
    }
}

/// A server as other datacenters would know it.
fn across(door: &Door, member: Member) -> Member {
    let config = door.facts.config();
    let own = member.id == door.desk.id();
    let ip = if own { config.addresses.advertise_wan } else { member.address.ip() };
    let port = member.tag("wan_join_port").parse().unwrap_or_else(|_| member.address.port());
    Member { name: format_smolstr!("{}.{}", member.name, door.datacenter()), address: SocketAddr::new(ip, port), ..member }
}

/// A member as clients see it.
fn view<T>(member: &Member, look: impl FnOnce(&MemberView<'_>) -> T) -> T {
    let address = member.address.ip().to_string();
    let well = member.standing == Standing::Alive && !member.unwell;
    look(&MemberView {
        name: &member.name,
        address: &address,
        port: member.address.port(),
        tags: &member.tags,
        status: member.standing.number(),
        cause: if well { "" } else { &member.why },
        wrong: member.wrong,
    })
}

/// Shows a member.
pub(super) fn show(out: &mut Vec<u8>, member: &Member) {
    view(member, |view| json::object(out, view));
}

/// `GET members`. An empty `wan` is none.
pub(super) fn all(door: &Door, call: &Call) -> Answer {
    let pool = if call.query.filled("wan").is_some() { Pool::Wan } else { Pool::Lan };
    match (call.query.filled("segment").map(SmolStr::as_str), pool) {
        (None | Some("_all"), _) => {} // Consul's own command line says it of each pool
        (Some(_), Pool::Wan) => return Err(HttpError::BadRequest("Cannot provide a segment with wan=true".to_owned())),
        (Some(_), Pool::Lan) => {
            return Err(HttpError::Server("Network segments are not supported in this version of Consul".to_owned()));
        }
    }
    let filter = filter(call, Rows::Members)?;
    let mut out = Vec::with_capacity(1024);
    let members = pool.members(door);
    let admitted = |member: &&Member| filter.as_ref().is_none_or(|filter| view(member, |view| filter.admits(view)));
    json::list(&mut out, members.iter().filter(admitted), show);
    Ok(Reply::json(out))
}

/// `PUT join/<address>`: joining oneself succeeds, as it does in Consul.
pub(super) fn join(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        let across = call.query.has("wan");
        let Call { rest, who, .. } = call;
        if rest.is_empty() {
            return Err(HttpError::BadRequest("Missing address to join".to_owned()));
        }
        let failed = |why: String| DeskError::Cluster(ClusterError::NobodyMet(vec![Unmet { asked: rest.to_string(), why }]));
        let address = JoinAddress::parse(&rest).map_err(failed)?;
        if across {
            return match is_own_wan(&door, &address) {
                true => Ok(Reply::nothing()),
                false => Err(failed("this version of muster does not join datacenters to each other".to_owned()).into()),
            };
        }
        obey(&door, &who, Order::Cluster(ClusterOrder::Join(vec![address]))).await
    })
}

/// Whether that is where this server would be met from other datacenters.
fn is_own_wan(door: &Door, address: &JoinAddress) -> bool {
    let config = door.facts.config();
    let (JoinAddress::Address(ip, port), Some(own)) = (address, config.addresses.serf_wan) else { return false };
    let named = [own.ip(), config.addresses.bind, config.addresses.advertise_wan].contains(ip);
    port.is_none_or(|port| port == own.port()) && (named || (own.ip().is_unspecified() && ip.is_loopback()))
}

/// `PUT force-leave/<name>`: what failed counts as left. A member that is alive says so and stays, as in Consul.
pub(super) fn force_leave(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        let prune = call.query.has("prune");
        let across = call.query.has("wan");
        let Call { rest, who, .. } = call;
        let name = match across {
            false => rest,
            // Servers are in both pools, there under a longer name.
            true => match rest.strip_suffix(door.datacenter()).and_then(|name| name.strip_suffix('.')) {
                Some(name) => SmolStr::new(name),
                None => return Err(DeskError::Cluster(ClusterError::NoSuchMember(rest)).into()),
            },
        };
        obey(&door, &who, Order::Cluster(ClusterOrder::ForceLeave { name, prune })).await
    })
}
