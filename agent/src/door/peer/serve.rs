//! The listener for other agents: how many may come, and how they are taken.
#![allow(clippy::disallowed_methods)] // Each connection is a task of its own; the tracker ends them with the door.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Caller, Rooms};
use crate::raft::Raft;
use crate::rpc::{self, Identity, Told, metrics};

/// Connections at once: some thousand client agents with a connection or two each. More wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16 << 10;
/// Connections at once that have not said hello: strangers must not take the places of peers.
const STRANGERS_MAX: usize = 256;
/// Pause of accepting while the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    pub(super) places: Arc<Semaphore>,
    pub(super) strangers: Arc<Semaphore>,
    pub(super) told: Told,
    /// How many connections of each node stand.
    pub(super) open: Mutex<BTreeMap<Uuid, usize>>,
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Door {
    /// A door of this agent's.
    pub(crate) fn new(identity: Identity, raft: Option<Raft>, rooms: Arc<dyn Rooms>) -> Self {
        let shared = Shared {
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            told: Told::default(),
            open: Mutex::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self { identity, raft, rooms, shared: Arc::new(shared) }
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

/// Serves until `stop` is ready: then nobody is let in any more, calls under way end within a bound, and the rest is cut.
pub(crate) async fn serve(door: Door, listener: TcpListener, stop: impl Future<Output = ()>) {
    let shared = door.shared.clone();
    tokio::select! {
        biased;
        () = stop => {}
        () = listen(door, listener) => {}
    }
    shared.closing.cancel();
    shared.tasks.close();
    shared.tasks.wait().await;
}

async fn listen(door: Door, listener: TcpListener) {
    let shared = &door.shared;
    let mut troubled = false;
    loop {
        let Ok(place) = shared.places.clone().acquire_owned().await else { return };
        match rpc::accept(&listener).await {
            Ok((stream, from)) => {
                metrics::METERS.accepted.increment(1);
                if std::mem::take(&mut troubled) {
                    tracing::info!("connections of peers are accepted again");
                }
                // no place for one more stranger: it is closed without a word
                if let Ok(stranger) = shared.strangers.clone().try_acquire_owned() {
                    shared.tasks.spawn(super::connection::run(door.clone(), stream, from, place, stranger));
                } else {
                    metrics::METERS.refused.increment(1);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                if !std::mem::replace(&mut troubled, true) {
                    tracing::warn!(%error, "no connection of a peer can be accepted at present; trying on");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
