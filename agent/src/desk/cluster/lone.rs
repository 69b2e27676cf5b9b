//! A cluster of one: an agent that has no gossip.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use muster_catalog::Coordinate;
use smol_str::SmolStr;
use tokio::sync::watch;
use uuid::Uuid;

use super::{ClusterError, KeyChange, Keyring, Member, Membership};
use crate::config::{Config, GossipKey};

/// An agent that has no gossip.
pub(crate) struct Lone {
    member: Mutex<Member>,
    /// The one to send with stands first.
    keys: Mutex<Vec<GossipKey>>,
    version: watch::Sender<u64>,
}

impl Lone {
    /// The agent of this configuration.
    pub(crate) fn new(config: &Config, id: Uuid) -> Self {
        let keys = Mutex::new(config.cluster.gossip.key.iter().cloned().collect());
        Self { member: Mutex::new(Member::of(config, id)), keys, version: watch::Sender::new(0) }
    }

    fn member(&self) -> MutexGuard<'_, Member> {
        self.member.lock().expect("no holder of this lock panics")
    }
}

impl Membership for Lone {
    fn members(&self) -> Vec<Member> {
        vec![self.member().clone()]
    }

    fn tell(&self, own: &Member) {
        *self.member() = own.clone();
        self.version.send_modify(|version| *version += 1);
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
        let known = self.member().name == name;
        async move { if known { Ok(()) } else { Err(ClusterError::NoSuchMember(name)) } }.boxed()
    }

    fn check(&self, _: Uuid) {}

    fn feed_silent(&self, _: Uuid) {}

    fn coordinate(&self) -> Coordinate {
        Coordinate::default()
    }

    fn fire(&self, _name: &str, _payload: Bytes) -> Result<bool, ClusterError> {
        Ok(false)
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
