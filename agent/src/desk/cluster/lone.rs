//! A cluster of one: a server that nobody is with.

use std::net::SocketAddr;
use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use smol_str::{SmolStr, ToSmolStr as _};
use tokio::sync::watch;
use uuid::Uuid;

use super::{ClusterError, KeyChange, Keyring, Member, Membership, Server, Servers, Voters};
use crate::config::{Config, GossipKey};
use crate::raft::Raft;

/// A server that nobody is with.
pub(crate) struct Lone {
    member: Member,
    /// The one to send with stands first.
    keys: Mutex<Vec<GossipKey>>,
    version: watch::Sender<u64>,
}

/// The one voter, which is that server.
pub(crate) struct LoneVoters {
    member: Member,
    raft: Raft,
}

impl Lone {
    /// The server of this configuration.
    pub(crate) fn new(config: &Config, id: Uuid, raft: Raft) -> (Self, LoneVoters) {
        let member = Member::of(config, id);
        let keys = Mutex::new(config.cluster.gossip.key.iter().cloned().collect());
        (Self { member: member.clone(), keys, version: watch::Sender::new(0) }, LoneVoters { member, raft })
    }
}

impl Membership for Lone {
    fn members(&self) -> Vec<Member> {
        vec![self.member.clone()]
    }

    fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn join(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'_, Vec<(SocketAddr, Result<(), String>)>> {
        let nobody = "this agent has no gossip: it cannot join others";
        async move { addresses.into_iter().map(|address| (address, Err(nobody.to_owned()))).collect() }.boxed()
    }

    fn force_leave(&self, name: SmolStr, _prune: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        // This agent is alive: it stays, as in Consul.
        let known = self.member.name == name;
        async move { if known { Ok(()) } else { Err(ClusterError::NoSuchMember(name)) } }.boxed()
    }

    fn keys(&self, _local: bool) -> BoxFuture<'_, Result<Keyring, ClusterError>> {
        let keys = self.keys.lock().expect("no holder of this lock panics").clone();
        async move {
            let Some(primary) = keys.first().cloned() else { return Err(ClusterError::NotEncrypted) };
            Ok(Keyring {
                keys: keys.into_iter().map(|key| (key, 1)).collect(),
                primary: [(primary, 1)].into(),
                members: 1,
                messages: Default::default(),
            })
        }
        .boxed()
    }

    fn change_keys(&self, change: KeyChange, key: GossipKey) -> BoxFuture<'_, Result<(), ClusterError>> {
        let changed = changed(&mut self.keys.lock().expect("no holder of this lock panics"), change, key);
        async move { changed }.boxed()
    }
}

fn changed(keys: &mut Vec<GossipKey>, change: KeyChange, key: GossipKey) -> Result<(), ClusterError> {
    let refuse = |why: &str| Err(ClusterError::Keys(why.to_owned()));
    let at = keys.iter().position(|known| *known == key);
    match (change, at) {
        _ if keys.is_empty() => Err(ClusterError::NotEncrypted),
        (KeyChange::Install, None) => {
            keys.push(key);
            Ok(())
        }
        (KeyChange::Install, Some(_)) => Ok(()),
        (KeyChange::Use, Some(at)) => {
            keys.swap(0, at);
            Ok(())
        }
        (KeyChange::Use, None) => refuse("the key is not installed: install it first"),
        (KeyChange::Remove, Some(0)) => refuse("the key is the one that members send with: use another one first"),
        (KeyChange::Remove, Some(at)) => {
            keys.remove(at);
            Ok(())
        }
        (KeyChange::Remove, None) => Ok(()),
    }
}

impl Voters for LoneVoters {
    fn leader(&self) -> Option<SocketAddr> {
        self.raft.leader().and_then(|_| self.address())
    }

    fn servers(&self) -> BoxFuture<'_, Result<Servers, ClusterError>> {
        async move {
            let status = self.raft.status();
            let Some((leader, _)) = status.leader else { return Err(ClusterError::NoLeader) };
            let servers = status.configuration.iter().map(|(raft, node, votes)| Server {
                raft: raft.to_smolstr(),
                node: *node,
                name: Some(self.member.name.clone()).filter(|_| *node == self.member.id),
                address: self.address().filter(|_| *node == self.member.id),
                leader: *raft == leader,
                votes: *votes,
                last_index: status.last_log_index,
            });
            Ok(Servers { servers: servers.collect(), index: status.configuration_index })
        }
        .boxed()
    }

    fn remove(&self, _server: Server) -> BoxFuture<'_, Result<(), ClusterError>> {
        async { Err(ClusterError::Raft("the only server cannot be removed: nobody would hold the catalog".to_owned())) }.boxed()
    }

    fn transfer(&self, _to: Option<Server>) -> BoxFuture<'_, Result<(), ClusterError>> {
        async { Err(ClusterError::Raft("there is no other server that could lead".to_owned())) }.boxed()
    }
}

impl LoneVoters {
    /// Where this server takes requests: the address is told also where its port is off.
    fn address(&self) -> Option<SocketAddr> {
        Some(self.member.server_address().unwrap_or_else(|| SocketAddr::new(self.member.address.ip(), 0)))
    }
}
