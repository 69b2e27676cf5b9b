//! What the connections of peers share: who we are, what answers them, and how many they are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Caller, Rooms};
use crate::raft::Raft;
use crate::rpc::{Identity, Told};

/// Connections at once: some thousand client agents with a connection or two each. More wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16 << 10;
/// Connections at once that have not said hello: strangers must not take the places of peers.
const STRANGERS_MAX: usize = 256;

/// What an operator may bound (`limits.rpc_*`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Time until the hello: who connects has something to say.
    pub(crate) handshake_timeout: Duration,
    /// Connections from one address; `usize::MAX` is no limit.
    pub(crate) connections_per_client_max: usize,
}

impl Default for Limits {
    /// Consul's.
    fn default() -> Self {
        Self { handshake_timeout: Duration::from_secs(5), connections_per_client_max: 100 }
    }
}

/// What calls are answered with. Clones are the same door.
#[derive(Clone)]
pub(crate) struct Door {
    pub(super) identity: Identity,
    /// `None` on clients: they have no log.
    pub(super) raft: Option<Raft>,
    pub(super) rooms: Arc<dyn Rooms>,
    pub(super) shared: Arc<Shared>,
}

/// What the connections of one door share.
pub(super) struct Shared {
    limits: Mutex<Limits>,
    pub(super) places: Arc<Semaphore>,
    pub(super) strangers: Arc<Semaphore>,
    pub(super) told: Told,
    /// How many connections of each node stand.
    pub(super) open: Mutex<BTreeMap<Uuid, usize>>,
    /// How many come from each address.
    pub(super) from: Mutex<BTreeMap<IpAddr, usize>>,
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Shared {
    /// A connection from there has ended.
    pub(super) fn gone(&self, from: IpAddr) {
        let mut all = self.from.lock().expect("no holder panics: a map of numbers");
        let from = from.to_canonical();
        let left = all.get_mut(&from).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == Some(0) {
            all.remove(&from);
        }
    }
}

impl Door {
    /// A door of this agent's.
    pub(crate) fn new(identity: Identity, raft: Option<Raft>, rooms: Arc<dyn Rooms>, limits: Limits) -> Self {
        let shared = Shared {
            limits: Mutex::new(limits),
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            told: Told::default(),
            open: Mutex::default(),
            from: Mutex::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self { identity, raft, rooms, shared: Arc::new(shared) }
    }

    /// Other bounds from now on.
    pub(crate) fn bound(&self, limits: Limits) {
        *self.shared.limits.lock().expect("no holder panics: two numbers are stored") = limits;
    }

    pub(super) fn limits(&self) -> Limits {
        *self.shared.limits.lock().expect("no holder panics: two numbers are stored")
    }

    /// Whether one more connection may come from there; it is counted until [`Shared::gone`].
    pub(super) fn admits(&self, from: IpAddr) -> bool {
        let most = self.limits().connections_per_client_max;
        let mut all = self.shared.from.lock().expect("no holder panics: a map of numbers");
        let count = all.entry(from.to_canonical()).or_default();
        let admitted = *count < most;
        *count += usize::from(admitted);
        admitted
    }

    /// One more connection of this node stands.
    pub(super) fn opened(&self, caller: Caller) {
        *self.shared.open.lock().expect("no holder panics: a map of numbers").entry(caller.node).or_default() += 1;
    }

    /// One less. The last one is told to the rooms.
    pub(super) fn closed(&self, caller: Caller) {
        let mut open = self.shared.open.lock().expect("no holder panics: a map of numbers");
        let left = open.get_mut(&caller.node).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            open.remove(&caller.node);
            drop(open);
            self.rooms.closed(caller);
        }
    }
}
