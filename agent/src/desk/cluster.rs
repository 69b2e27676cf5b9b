//! This agent among others: what doors and loops ask of gossip.

mod error;
mod gossiping;
mod keys;
mod lone;
mod member;
mod resolve;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use muster_catalog::Coordinate;
use smol_str::SmolStr;
use tokio::sync::watch;
use uuid::Uuid;

use super::servers::ServerName;
use super::{Act, Desk, DeskError, Who, allow};
use crate::config::{Addresses, GossipKey, JoinAddress};

pub(crate) use error::{ClusterError, Unmet};
pub(crate) use gossiping::{BOOTSTRAPPED_TAG, Gossiping, RAFT_TAG, carried};
pub(crate) use keys::{KeyChange, Keyring};
pub(crate) use lone::Lone;
pub(crate) use member::{Member, Standing};

/// Counter: feeds that fell silent, told to gossip.
const SILENT: &str = "feed.silent";

/// What an agent does among others: the assembly puts gossip behind it.
pub(crate) trait Membership: Send + Sync {
    /// Everybody that is known, this agent included.
    fn members(&self) -> Vec<Member>;
    /// Rises whenever that changes.
    fn version(&self) -> watch::Receiver<u64>;
    /// Tells the others what this agent is now.
    fn tell(&self, own: &Member);
    /// Meets the agents at these addresses, and says of each what came of it.
    fn join(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'_, Vec<(SocketAddr, Result<(), String>)>>;
    /// Has a member that failed count as one that left; `prune` drops it from the list at once.
    fn force_leave(&self, name: SmolStr, prune: bool) -> BoxFuture<'_, Result<(), ClusterError>>;
    /// A connection of that member ended without a good-bye: others find out at once whether it lives.
    fn check(&self, node: Uuid);
    /// A feed of that member's fell silent: it is looked at, and accused if it answers nobody.
    fn feed_silent(&self, node: Uuid);
    /// Where this agent is among the others, in the space of round trips.
    fn coordinate(&self) -> Coordinate;
    /// Tells all members of an event. False: nobody carries it, and it does not come back here either.
    fn fire(&self, name: &str, payload: Bytes) -> Result<bool, ClusterError>;
    /// The keys that members have; of this one alone if `local`.
    fn keys(&self, local: bool) -> BoxFuture<'_, Result<Keyring, ClusterError>>;
    /// Changes the key ring of every member.
    fn change_keys(&self, change: KeyChange, key: GossipKey) -> BoxFuture<'_, Result<(), ClusterError>>;
}

/// What one agent is told to do about its cluster.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ClusterOrder {
    /// Meet others.
    Join(Vec<JoinAddress>),
    /// Have a member that failed count as one that left.
    ForceLeave { name: SmolStr, prune: bool },
    /// Change the key ring of all members.
    Key(KeyChange, GossipKey),
    /// Take a server's vote away.
    RemoveServer(ServerName),
    /// Have another server lead.
    TransferLeader(Option<ServerName>),
}

/// The cluster as this agent knows it. Clones are the same.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    id: Uuid,
    addresses: Addresses,
    membership: Box<dyn Membership>,
}

impl Cluster {
    /// The agent with this id and these addresses, among others.
    pub(crate) fn new(id: Uuid, addresses: Addresses, membership: impl Membership + 'static) -> Self {
        Self(Arc::new(Inner { id, addresses, membership: Box::new(membership) }))
    }

    /// Everybody that is known, by name.
    pub(crate) fn members(&self) -> Vec<Member> {
        let mut members = self.0.membership.members();
        members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        members
    }

    /// This agent as the others know it.
    pub(crate) fn own(&self) -> Option<Member> {
        self.0.membership.members().into_iter().find(|member| member.id == self.0.id)
    }

    /// Whether nobody else is alive here.
    pub(crate) fn is_alone(&self) -> bool {
        let own = self.0.id;
        !self.0.membership.members().iter().any(|member| member.id != own && member.standing == Standing::Alive)
    }

    /// Tells the others what this agent is now.
    pub(crate) fn tell(&self, own: &Member) {
        self.0.membership.tell(own);
    }

    /// Rises whenever membership changes.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.0.membership.version()
    }

    /// A connection of that member ended without a good-bye. That proves nothing: it is looked for, from here and from others.
    pub(crate) fn check(&self, node: Uuid) {
        self.0.membership.check(node);
    }

    /// A feed of that member's fell silent, in either direction.
    pub(crate) fn feed_silent(&self, node: Uuid) {
        metrics::counter!(SILENT).increment(1);
        self.0.membership.feed_silent(node);
    }

    /// Where this agent is among the others, in the space of round trips.
    pub(crate) fn coordinate(&self) -> Coordinate {
        self.0.membership.coordinate()
    }

    /// Tells all members of an event. False: nobody carries it.
    pub(super) fn fire(&self, name: &str, payload: Bytes) -> Result<bool, ClusterError> {
        self.0.membership.fire(name, payload)
    }

    /// The keys that members have; of this one alone if `local`.
    pub(crate) async fn keys(&self, local: bool) -> Result<Keyring, ClusterError> {
        self.0.membership.keys(local).await
    }

    /// Meets others, and says how many: one is enough, unless all fail. This agent itself counts as met.
    pub(crate) async fn join(&self, addresses: &[JoinAddress]) -> Result<usize, ClusterError> {
        let Some(port) = self.0.addresses.serf_lan.map(|address| address.port()) else {
            return Err(ClusterError::NoGossip);
        };
        let mut unmet = Vec::new();
        let mut to_meet = Vec::new();
        let mut met = 0;
        for (asked, found) in resolve::all(addresses, port).await {
            match found {
                Err(why) => unmet.push(Unmet { asked: asked.to_string(), why }),
                Ok(found) if found.iter().any(|address| self.is_own(*address)) => met += 1,
                Ok(found) => to_meet.extend(found),
            }
        }
        to_meet.sort_unstable();
        to_meet.dedup();
        if !to_meet.is_empty() {
            for (address, result) in self.0.membership.join(to_meet).await {
                match result {
                    Ok(()) => met += 1,
                    Err(why) => unmet.push(Unmet { asked: address.to_string(), why }),
                }
            }
        }
        if met > 0 || unmet.is_empty() { Ok(met) } else { Err(ClusterError::NobodyMet(unmet)) }
    }

    /// Whether that is where this agent itself is met.
    fn is_own(&self, address: SocketAddr) -> bool {
        let Addresses { bind, advertise, serf_lan, .. } = &self.0.addresses;
        let Some(own) = serf_lan else { return false };
        let ip: IpAddr = address.ip();
        let named = [own.ip(), *bind, *advertise].contains(&ip);
        address.port() == own.port() && (named || (own.ip().is_unspecified() && ip.is_loopback()))
    }
}

impl Desk {
    /// The cluster as this agent knows it.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    /// The keys that members have.
    pub(crate) async fn keys(&self, who: &Who, local: bool) -> Result<Keyring, DeskError> {
        allow(who, &Act::Read)?;
        Ok(self.until_stop(self.cluster().keys(local)).await??)
    }

    pub(super) async fn obey_about_cluster(&self, who: &Who, order: ClusterOrder) -> Result<(), DeskError> {
        let membership = &self.cluster().0.membership;
        let done = async {
            match order {
                ClusterOrder::Join(addresses) => Ok(self.cluster().join(&addresses).await.map(|_| ())?),
                ClusterOrder::ForceLeave { name, prune } => Ok(membership.force_leave(name, prune).await?),
                ClusterOrder::Key(change, key) => Ok(membership.change_keys(change, key).await?),
                ClusterOrder::RemoveServer(name) => self.remove_server(who, &name).await,
                ClusterOrder::TransferLeader(to) => self.transfer_leader(who, to.as_ref()).await,
            }
        };
        self.until_stop(done).await?
    }

    /// Waits for others no longer than this agent lives.
    async fn until_stop<T>(&self, waiting: impl Future<Output = T>) -> Result<T, DeskError> {
        tokio::select! {
            biased;
            done = waiting => Ok(done),
            () = self.stopping() => Err(DeskError::Stopping),
        }
    }
}
