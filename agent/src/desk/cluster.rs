//! This agent among others: what doors and loops ask of gossip, and of the servers.

mod error;
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

use futures_util::future::BoxFuture;
use muster_catalog::Index;
use smol_str::SmolStr;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Act, Desk, DeskError, Who, allow};
use crate::config::{Addresses, GossipKey, JoinAddress};

pub(crate) use error::{ClusterError, Unmet};
pub(crate) use keys::{KeyChange, Keyring};
pub(crate) use lone::Lone;
pub(crate) use member::{Member, Standing};

/// What an agent does among others: the assembly puts gossip behind it.
pub(crate) trait Membership: Send + Sync {
    /// Everybody that is known, this agent included.
    fn members(&self) -> Vec<Member>;
    /// Rises whenever that changes.
    fn version(&self) -> watch::Receiver<u64>;
    /// Meets the agents at these addresses, and says of each what came of it.
    fn join(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'_, Vec<(SocketAddr, Result<(), String>)>>;
    /// Has a member that failed count as one that left; `prune` drops it from the list at once.
    fn force_leave(&self, name: SmolStr, prune: bool) -> BoxFuture<'_, Result<(), ClusterError>>;
    /// The keys that members have; of this one alone if `local`.
    fn keys(&self, local: bool) -> BoxFuture<'_, Result<Keyring, ClusterError>>;
    /// Changes the key ring of every member.
    fn change_keys(&self, change: KeyChange, key: GossipKey) -> BoxFuture<'_, Result<(), ClusterError>>;
}

/// The servers as raft knows them: the assembly puts raft behind it, or at a client agent the way to a server.
pub(crate) trait Voters: Send + Sync {
    /// Where the leader takes requests, if one is known.
    fn leader(&self) -> Option<SocketAddr>;
    /// All servers.
    fn servers(&self) -> BoxFuture<'_, Result<Servers, ClusterError>>;
    /// Takes a server's vote away.
    fn remove(&self, server: Server) -> BoxFuture<'_, Result<(), ClusterError>>;
    /// Has another server lead: this one, or whichever is best.
    fn transfer(&self, to: Option<Server>) -> BoxFuture<'_, Result<(), ClusterError>>;
}

/// The servers, and the log entry that made them such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Servers {
    pub(crate) servers: Vec<Server>,
    pub(crate) index: Index,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// The id of its voter in raft: another one after its disk was wiped.
    pub(crate) raft: SmolStr,
    /// Its node.
    pub(crate) node: Uuid,
    /// The node's name, if gossip knows it.
    pub(crate) name: Option<SmolStr>,
    /// Where it takes requests, if that is known.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) leader: bool,
    pub(crate) votes: bool,
    /// The last entry that it is known to have.
    pub(crate) last_index: Index,
}

/// How an operator names a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerName {
    /// The id of its voter, or of its node.
    Id(SmolStr),
    /// Where it takes requests.
    Address(SmolStr),
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
    voters: Box<dyn Voters>,
}

impl Cluster {
    /// The agent with this id and these addresses, among others.
    pub(crate) fn new(
        id: Uuid,
        addresses: Addresses,
        membership: impl Membership + 'static,
        voters: impl Voters + 'static,
    ) -> Self {
        Self(Arc::new(Inner { id, addresses, membership: Box::new(membership), voters: Box::new(voters) }))
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

    /// Rises whenever membership changes.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.0.membership.version()
    }

    /// Where the leader takes requests, if one is known.
    pub(crate) fn leader(&self) -> Option<SocketAddr> {
        self.0.voters.leader()
    }

    /// All servers.
    pub(crate) async fn servers(&self) -> Result<Servers, ClusterError> {
        self.0.voters.servers().await
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

    async fn obey(&self, order: ClusterOrder) -> Result<(), ClusterError> {
        let Inner { membership, voters, .. } = &*self.0;
        match order {
            ClusterOrder::Join(addresses) => self.join(&addresses).await.map(|_| ()),
            ClusterOrder::ForceLeave { name, prune } => membership.force_leave(name, prune).await,
            ClusterOrder::Key(change, key) => membership.change_keys(change, key).await,
            ClusterOrder::RemoveServer(name) => voters.remove(self.server(&name).await?).await,
            ClusterOrder::TransferLeader(None) => voters.transfer(None).await,
            ClusterOrder::TransferLeader(Some(name)) => voters.transfer(Some(self.server(&name).await?)).await,
        }
    }

    /// The one server of that name: two may have one node's id, of which the older one lost its disk.
    async fn server(&self, name: &ServerName) -> Result<Server, ClusterError> {
        let servers = self.servers().await?.servers;
        let mut found: Vec<Server> = match name {
            ServerName::Address(text) => {
                let address = text.parse().ok();
                servers.into_iter().filter(|server| server.address.is_some() && server.address == address).collect()
            }
            ServerName::Id(text) => {
                let id = Uuid::try_parse(text).ok();
                let voter = servers.iter().find(|server| server.raft.eq_ignore_ascii_case(text)).cloned();
                match voter {
                    Some(voter) => vec![voter],
                    None => servers.into_iter().filter(|server| Some(server.node) == id).collect(),
                }
            }
        };
        match (found.pop(), found.is_empty(), name) {
            (Some(server), true, _) => Ok(server),
            (None, _, ServerName::Id(id)) => Err(ClusterError::NoSuchServer { what: "id", name: id.clone() }),
            (None, _, ServerName::Address(address)) => Err(ClusterError::NoSuchServer { what: "address", name: address.clone() }),
            (Some(last), false, _) => {
                found.push(last);
                Err(ClusterError::SeveralServers(found.into_iter().map(|server| server.raft).collect()))
            }
        }
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

    /// All servers.
    pub(crate) async fn servers(&self, who: &Who) -> Result<Servers, DeskError> {
        allow(who, &Act::Read)?;
        Ok(self.until_stop(self.cluster().servers()).await??)
    }

    pub(super) async fn obey_about_cluster(&self, order: ClusterOrder) -> Result<(), DeskError> {
        Ok(self.until_stop(self.cluster().obey(order)).await??)
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
