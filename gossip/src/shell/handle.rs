//! What the agent asks of its gossip.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::talk::Joined;
use super::{Shared, talk};
use crate::coordinate::Coordinate;
use crate::core::{Dial, Standing};
use crate::error::{Error, JoinError};
use crate::identity::Identity;
use crate::key::Keyring;
use crate::member::{Event, Member, Peer, Quiet, Reach, State};
use crate::message::KeyAct;
use crate::metrics::{Doubted, Dropped};
use crate::record::Record;

/// How long a good-bye may take: five rounds of gossip are one second.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many members are asked at once about their keys.
const KEYS_ASKED_AT_ONCE: usize = 16;

/// What the agent asks of its gossip. Orders need the driver to run.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// What members answered about their keyrings.
#[derive(Debug, Clone, Default)]
pub struct KeyAnswer {
    /// Each living member's name, and its keys, the primary first; or why it did not do as it was asked.
    pub nodes: Vec<(String, Result<Vec<String>, String>)>,
}

impl KeyAnswer {
    /// How many members have each key.
    pub fn keys(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for key in self.nodes.iter().filter_map(|(_, keys)| keys.as_ref().ok()).flatten() {
            *counts.entry(key.as_str()).or_default() += 1;
        }
        counts
    }

    /// How many members have each key as their primary.
    pub fn primary_keys(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for key in self.nodes.iter().filter_map(|(_, keys)| keys.as_ref().ok()?.first()) {
            *counts.entry(key.as_str()).or_default() += 1;
        }
        counts
    }

    /// Members that did not do as they were asked, and why.
    pub fn errors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.nodes.iter().filter_map(|(name, keys)| Some((name.as_str(), keys.as_ref().err()?.as_str())))
    }
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// All members, this agent first. Waits for nothing.
    pub fn members(&self) -> Arc<[Member]> {
        Arc::clone(&self.shared.members.load())
    }

    /// What happens from now on. Who falls behind is told so by the channel, and looks at [`Handle::members`].
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Rises whenever [`Handle::members`], or who waits, changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// This agent: UUID, epoch and gossip address.
    pub fn identity(&self) -> Identity {
        self.shared.lock().identity()
    }

    /// The cluster this agent belongs to.
    pub fn cluster(&self) -> Option<Uuid> {
        self.shared.lock().cluster()
    }

    /// Whether this agent was admitted and takes part.
    pub fn is_inside(&self) -> bool {
        *self.shared.standing.borrow() == Standing::Inside
    }

    /// Why this agent went quiet, if it did.
    pub fn quiet(&self) -> Option<Quiet> {
        match &*self.shared.standing.borrow() {
            Standing::Quiet(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Agents that wait for a cluster, as this one does, heard in the last seconds.
    pub fn waiting(&self) -> Vec<(Identity, Record)> {
        self.shared.lock().waiting()
    }

    /// Founds a cluster under a new id, or enters the one this agent belonged to without asking anybody. The id is kept before it
    /// is used. False: it belongs to another cluster already, or a living
    /// member holds its UUID or name.
    pub async fn found(&self, cluster: Uuid) -> Result<bool, Error> {
        talk::found(&self.shared, cluster).await
    }

    /// Asks each address to be let in, all at once.
    pub async fn join(&self, addrs: impl IntoIterator<Item = SocketAddr>) -> Vec<(SocketAddr, Result<Joined, JoinError>)> {
        let mut tries = JoinSet::new();
        for addr in addrs {
            let shared = self.shared.clone();
            tries.spawn(async move {
                let joined = match &*shared.standing.borrow() {
                    Standing::Inside | Standing::Outside => Ok(()),
                    Standing::Quiet(why) => Err(Error::Out(why.to_string())),
                    Standing::Leaving(_) | Standing::Left => Err(Error::Out("it has left".to_owned())),
                };
                match joined {
                    Ok(()) => (addr, talk::converse(&shared, &Dial::Join(addr)).await),
                    Err(source) => (addr, Err(JoinError::Own { addr, source })),
                }
            });
        }
        tries.join_all().await
    }

    /// Says good-bye and waits until some members have heard it. `for_good`: not to be back in a moment.
    pub async fn leave(&self, for_good: bool) {
        let mut standing = self.shared.standing.subscribe();
        self.shared.with(|core, now| core.leave(for_good, now));
        let left = standing.wait_for(|standing| matches!(standing, Standing::Left | Standing::Quiet(_)));
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, left).await;
    }

    /// Makes a failed member one that left, everywhere.
    pub fn force_leave(&self, name: &str) -> Result<(), Error> {
        self.shared.with(|core, now| core.force_leave(name, now))
    }

    /// Has a member that failed or left dropped from the list, everywhere: Consul's `-prune`.
    pub fn prune(&self, name: &str) {
        self.shared.with(|core, now| core.prune(name, now));
    }

    /// Exchanges this node's tags and metadata; members hear of it.
    pub fn update(&self, tags: BTreeMap<String, String>, meta: BTreeMap<String, String>) -> Result<(), Error> {
        self.shared.with(|core, now| core.describe(tags, meta, now))
    }

    /// Does something with the keyring of each living member, this agent's included.
    pub async fn keys(&self, act: &KeyAct) -> Result<KeyAnswer, Error> {
        let own = talk::own_keys(&self.shared, act).await;
        if let Err(Error::Key(crate::KeyError::NotEncrypted)) = own {
            return Err(crate::KeyError::NotEncrypted.into());
        }
        let members = self.members();
        let name = members.first().map_or_else(String::new, |member| member.name().to_owned());
        let mut nodes = vec![(name, own.map_err(|error| chain(&error)))];
        let mut others = members.iter().skip(1).filter(|member| member.state == State::Alive).cloned();
        let mut asked = JoinSet::new();
        loop {
            while asked.len() < KEYS_ASKED_AT_ONCE
                && let Some(member) = others.next()
            {
                let (shared, act) = (self.shared.clone(), act.clone());
                asked.spawn(async move {
                    let keys = talk::ask_keys(&shared, member.identity.addr, &act).await;
                    (member.record.name.clone(), keys)
                });
            }
            match asked.join_next().await {
                Some(Ok(answer)) => nodes.push(answer),
                Some(Err(_)) => {}
                None => break,
            }
        }
        nodes.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(KeyAnswer { nodes })
    }

    /// This agent's keyring.
    pub fn keyring(&self) -> Keyring {
        self.shared.lock().ring().clone()
    }

    /// Does something with this agent's keyring alone.
    pub async fn own_keys(&self, act: &KeyAct) -> Result<Vec<String>, Error> {
        talk::own_keys(&self.shared, act).await
    }

    /// Members to find again after a restart, the living first: to be kept on disk now and then.
    pub fn kept_peers(&self) -> Vec<Peer> {
        self.shared.lock().kept_peers()
    }

    /// Looks for a member over TCP, from here and from two others: a feed of it closed without a good-bye, say. What comes of it is
    /// an [`Event::Checked`]; one that refuses is buried at once, one that is silent is looked at further. False: no living member
    /// has that UUID.
    pub fn check(&self, node: Uuid) -> bool {
        self.shared.with(|core, now| core.check(node, now))
    }

    /// A member's feed has been silent for longer than its beats allow: it is looked at, and accused if it answers nobody. To be
    /// called once per silence, and not while many feeds are silent: then it is this agent that hears nothing. False: no living
    /// member has that UUID.
    pub fn feed_silent(&self, node: Uuid) -> bool {
        self.shared.with(|core, now| core.feed_silent(node, now))
    }

    /// Tells all members, this agent included, of an event. Gives its time, by Lamport's clock.
    pub fn fire(&self, name: &str, payload: Bytes) -> Result<u64, Error> {
        self.shared.with(|core, now| core.fire(name, payload, now))
    }

    /// All living members, and how they are reached from here.
    pub fn reach(&self) -> Vec<(Uuid, Reach)> {
        self.shared.lock().reach()
    }

    /// Where this agent is among the others, in the space of round trips.
    pub fn coordinate(&self) -> Coordinate {
        self.shared.lock().coordinate()
    }

    /// How badly this agent fares as a member, 0 to 7: Lifeguard's local health.
    pub fn health(&self) -> u8 {
        self.shared.lock().health()
    }

    /// How many accusations and burials were not believed, by cause.
    pub fn doubts(&self) -> BTreeMap<Doubted, u64> {
        self.shared.lock().doubts()
    }

    /// How many coordinates of others, and times of round trips, could not be and were not taken.
    pub fn misplacements(&self) -> u64 {
        self.shared.lock().misplacements()
    }

    /// How many packets were dropped, by cause.
    pub fn drops(&self) -> BTreeMap<Dropped, u64> {
        self.shared.lock().drops()
    }
}

/// An error and what is below it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text = format!("{text}: {error}");
        below = error.source();
    }
    text
}
