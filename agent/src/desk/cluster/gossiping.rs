//! Membership by gossip.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use muster_catalog::Coordinate;
use muster_gossip::{Ground, Handle, Joined, KeyAct, KeyAnswer, Kind, State};
use smol_str::{SmolStr, format_smolstr};
use tokio::sync::watch;

use super::{ClusterError, KeyChange, Keyring, Member, Membership, Standing};
use crate::config::GossipKey;
use crate::error::chain;

/// Membership by gossip.
pub(crate) struct Gossiping {
    handle: Handle,
}

impl Gossiping {
    /// As this handle sees it.
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle }
    }
}

/// Tags under this are not of Consul's: a node's addresses by name, and what servers tell each other.
const OWN: &str = "muster.";
/// Of those, an address's name follows.
const ADDRESS: &str = "muster.address.";
/// The id of a server's voter of the log.
pub(crate) const RAFT_TAG: &str = "muster.raft";
/// Whether a server's log belongs to a cluster of servers.
pub(crate) const BOOTSTRAPPED_TAG: &str = "muster.bootstrapped";

/// What gossip carries of this member: its tags, and what is written about it.
pub(crate) fn carried(member: &Member, more: &[(&str, String)]) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let pair = |(key, value): (&SmolStr, &SmolStr)| (key.to_string(), value.to_string());
    let mut tags: BTreeMap<String, String> = member.tags.iter().map(pair).collect();
    tags.extend(member.tagged.iter().map(|(name, address)| (format!("{ADDRESS}{name}"), address.to_string())));
    tags.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    (tags, member.meta.iter().map(pair).collect())
}

/// Accusers that are named; how many more there are is told.
const NAMED_MAX: usize = 3;

/// Why a member stands as it does: whose word it is, and for one that is suspected or failed, what its accusers tried.
fn why(member: &muster_gossip::Member, among: &[muster_gossip::Member]) -> SmolStr {
    let name = |node: uuid::Uuid| {
        let known = among.iter().find(|other| other.node() == node);
        known.map_or_else(|| SmolStr::new(node.to_string()), |known| SmolStr::new(known.name()))
    };
    if let (false, Some(port)) = (member.is_suspect(), member.degraded()) {
        return format_smolstr!("degraded: it is alive, and does not answer this agent over {}", port.as_str());
    }
    let kind = if member.is_suspect() { "suspected" } else { member.cause.kind.as_str() };
    let accusers = &member.accusations;
    if !accusers.is_empty() {
        let named = accusers.iter().take(NAMED_MAX).map(|one| format!("{} ({})", name(one.by), one.ground.as_str()));
        let more = match accusers.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return format_smolstr!("{kind}, by the word of {}{more}", named.collect::<Vec<_>>().join(", "));
    }
    match member.cause.by.filter(|by| *by != member.node()) {
        Some(by) => format_smolstr!("{kind}, by the word of {}", name(by)),
        None => SmolStr::new_static(kind),
    }
}

impl From<&muster_gossip::Member> for Member {
    fn from(member: &muster_gossip::Member) -> Self {
        Self::seen(member, &[])
    }
}

impl Member {
    /// As gossip sees it; others are named as they are known among these.
    pub(crate) fn seen(member: &muster_gossip::Member, among: &[muster_gossip::Member]) -> Self {
        let record = &member.record;
        let pair = |key: &str, value: &String| (SmolStr::new(key), SmolStr::new(value));
        let tags = record.tags.iter().filter(|(key, _)| !key.starts_with(OWN)).map(|(key, value)| pair(key, value));
        let addresses = record.tags.iter().filter_map(|(key, value)| Some(pair(key.strip_prefix(ADDRESS)?, value)));
        Self {
            name: SmolStr::new(member.name()),
            id: member.node(),
            address: member.identity.addr,
            tags: tags.collect(),
            tagged: addresses.collect(),
            meta: record.meta.iter().map(|(key, value)| pair(key, value)).collect(),
            raft: member.tag(RAFT_TAG).and_then(|id| id.parse().ok()),
            why: why(member, among),
            may_return: match member.state {
                State::Alive => false,
                State::Left => member.cause.kind == Kind::Stopped,
                State::Failed => {
                    member.cause.kind == Kind::Refused || member.accusations.iter().any(|one| one.ground == Ground::Refused)
                }
            },
            accusers: match member.state {
                State::Alive | State::Left => Vec::new(),
                State::Failed if member.accusations.is_empty() => member.cause.by.into_iter().collect(),
                State::Failed => member.accusations.iter().map(|one| one.by).collect(),
            },
            wrong: member.wrong,
            unwell: member.is_suspect() || member.degraded().is_some(),
            standing: match member.state {
                State::Alive => Standing::Alive,
                State::Left => Standing::Left,
                State::Failed => Standing::Failed,
            },
        }
    }
}

impl Membership for Gossiping {
    fn members(&self) -> Vec<Member> {
        let members = self.handle.members();
        members.iter().map(|member| Member::seen(member, &members)).collect()
    }

    fn version(&self) -> watch::Receiver<u64> {
        self.handle.changes()
    }

    fn tell(&self, own: &Member) {
        let kept: Vec<(&str, String)> = self.handle.members().first().map_or(Vec::new(), |known| {
            let own = [RAFT_TAG, BOOTSTRAPPED_TAG].into_iter();
            own.filter_map(|key| Some((key, known.tag(key)?.to_owned()))).collect()
        });
        let (tags, meta) = carried(own, &kept);
        if let Err(error) = self.handle.update(tags, meta) {
            tracing::error!(error = chain(&error), "other members do not learn what was changed here");
        }
    }

    fn join(&self, addresses: Vec<SocketAddr>) -> BoxFuture<'_, Vec<(SocketAddr, Result<(), String>)>> {
        async move {
            let told = |(address, joined): (SocketAddr, Result<Joined, muster_gossip::JoinError>)| match joined {
                // Who waits for a cluster as well was met; both are let in as soon as there is one.
                Ok(Joined::In | Joined::Waiting) => (address, Ok(())),
                Err(error) => (address, Err(chain(&error))),
            };
            self.handle.join(addresses).await.into_iter().map(told).collect()
        }
        .boxed()
    }

    fn force_leave(&self, name: SmolStr, prune: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        async move {
            let known = self.handle.members().iter().find(|member| member.name() == name).map(|member| member.state);
            match known {
                None => return Err(ClusterError::NoSuchMember(name)),
                Some(State::Failed) => {
                    self.handle.force_leave(&name).map_err(|error| ClusterError::Raft(chain(&error)))?;
                }
                Some(State::Alive | State::Left) => {} // one that lives stays, as in Consul
            }
            if prune {
                self.handle.prune(&name);
            }
            Ok(())
        }
        .boxed()
    }

    fn check(&self, node: uuid::Uuid) {
        // One that nobody knows, or that is dead already, is none to look for.
        let _ = self.handle.check(node);
    }

    fn feed_silent(&self, node: uuid::Uuid) {
        let _ = self.handle.feed_silent(node); // as above
    }

    fn coordinate(&self) -> Coordinate {
        let muster_gossip::Coordinate { vec, error, adjustment, height } = self.handle.coordinate();
        Coordinate { vec, error, adjustment, height }
    }

    fn fire(&self, name: &str, payload: Bytes) -> Result<bool, ClusterError> {
        self.handle.fire(name, payload).map(|_| true).map_err(|error| ClusterError::NotFired(chain(&error)))
    }

    fn keys(&self, local: bool) -> BoxFuture<'_, Result<Keyring, ClusterError>> {
        async move {
            if local {
                let keys = self.handle.own_keys(&KeyAct::List).await.map_err(|error| failed(&error))?;
                return Ok(ring(&KeyAnswer { nodes: vec![(String::new(), Ok(keys))] }));
            }
            Ok(ring(&self.handle.keys(&KeyAct::List).await.map_err(|error| failed(&error))?))
        }
        .boxed()
    }

    fn change_keys(&self, change: KeyChange, key: GossipKey) -> BoxFuture<'_, Result<(), ClusterError>> {
        async move {
            let text = key.base64();
            let act = match change {
                KeyChange::Install => KeyAct::Install(text),
                KeyChange::Use => KeyAct::Use(text),
                KeyChange::Remove => KeyAct::Remove(text),
            };
            let answer = self.handle.keys(&act).await.map_err(|error| failed(&error))?;
            let errors: Vec<String> = answer.errors().map(|(name, why)| format!("{name}: {why}")).collect();
            if errors.is_empty() { Ok(()) } else { Err(ClusterError::Keys(errors.join("; "))) }
        }
        .boxed()
    }
}

fn failed(error: &muster_gossip::Error) -> ClusterError {
    match error {
        muster_gossip::Error::Key(muster_gossip::KeyError::NotEncrypted) => ClusterError::NotEncrypted,
        error => ClusterError::Keys(chain(error)),
    }
}

fn ring(answer: &KeyAnswer) -> Keyring {
    let counted = |counts: BTreeMap<&str, usize>| {
        counts.into_iter().filter_map(|(key, count)| Some((GossipKey::parse(key).ok()?, count))).collect()
    };
    Keyring {
        keys: counted(answer.keys()),
        primary: counted(answer.primary_keys()),
        members: answer.nodes.iter().filter(|(_, keys)| keys.is_ok()).count(),
        messages: answer.errors().map(|(name, why)| (name.to_owned(), why.to_owned())).collect(),
    }
}
