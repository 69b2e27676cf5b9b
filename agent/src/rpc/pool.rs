//! Connections to peers: one for each peer and purpose, dialled when it is needed, once for all who need it at that moment.
#![allow(clippy::disallowed_methods)] // A dial is a task of its own, so that whoever gives up does not end it for the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::address::AddressBook;
use super::call::{self, Sent};
use super::dial::{self, NoConnection, Sender};
use super::error::CallError;
use super::frames::Frames;
use super::identity::Identity;
use super::method::{Class, Method};
use super::metrics;
use super::target::Target;
use super::told::Told;

/// Calls that may be unanswered at one peer and purpose: each holds a body and an answer. Waiting queries of one agent come to
/// one such number of streams at its server; more are refused at once, as nothing was sent.
const PENDING_MAX: usize = 4096;

/// Pause after a dial that failed: who asks within it is told the same without a dial. It is below all that raft waits for.
const DIAL_PAUSE: Duration = Duration::from_millis(20);

/// Peers that are remembered; beyond, those without a connection are forgotten.
const PEERS_MAX: usize = 1024;

/// The connections of this agent. Clones are the same pool. Nothing runs until the first call.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    identity: Identity,
    book: AddressBook,
    peers: Mutex<BTreeMap<(Target, Class), Arc<Peer>>>,
    told: Arc<Told>,
}

struct Peer {
    state: Mutex<State>,
    pending: Semaphore,
}

enum State {
    Idle,
    Dialling(watch::Receiver<Option<Dialled>>),
    Up(Sender),
    Down { until: Instant, what: Arc<str> },
}

type Dialled = Result<Sender, Arc<str>>;

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("node", &self.0.identity.node()).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of an agent that says this of itself, and finds others by this book.
    pub(crate) fn new(identity: Identity, book: AddressBook) -> Self {
        Self(Arc::new(Inner { identity, book, peers: Mutex::default(), told: Arc::default() }))
    }

    /// What this agent says of itself.
    pub(crate) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Where others are.
    pub(crate) fn book(&self) -> &AddressBook {
        &self.0.book
    }

    /// Asks a peer and waits for its whole answer, at most for `deadline`, the dial included.
    pub(crate) async fn call(
        &self,
        to: impl Into<Target>,
        method: Method,
        body: impl Into<Bytes>,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let (to, body) = (to.into(), body.into());
        let node = to.node;
        let asked = self.counted(to, method, deadline, async {
            let response = self.send(to, method, body, deadline).await?;
            call::whole(node, response).await
        });
        asked.await
    }

    /// Asks a peer for an answer in pieces; `deadline` is for its beginning. Dropping the frames ends it at the peer.
    pub(crate) async fn stream(
        &self,
        to: impl Into<Target>,
        method: Method,
        body: impl Into<Bytes>,
        deadline: Duration,
    ) -> Result<Frames, CallError> {
        let (to, body) = (to.into(), body.into());
        let response = self.counted(to, method, deadline, self.send(to, method, body, deadline)).await?;
        Ok(Frames::new(to.node, response.into_body()))
    }

    /// Whether a connection stands at this moment.
    #[cfg(test)]
    pub(crate) fn is_up(&self, to: impl Into<Target>, class: Class) -> bool {
        let peers = self.peers();
        let peer = peers.get(&(to.into(), class));
        peer.is_some_and(|peer| matches!(&*peer.state(), State::Up(sender) if !sender.is_closed()))
    }

    async fn counted<T>(
        &self,
        to: Target,
        method: Method,
        deadline: Duration,
        asking: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        metrics::METERS.call.increment(1);
        let peer = self.peer(to, method.class());
        let Ok(_pending) = peer.pending.try_acquire() else {
            metrics::METERS.call_failed.increment(1);
            return Err(CallError::NotSent { node: to.node, what: "too many calls to it are under way".into() });
        };
        let asked = tokio::time::timeout(deadline, asking).await;
        let asked = asked.unwrap_or(Err(CallError::Timeout { node: to.node, after: deadline }));
        if asked.is_err() {
            metrics::METERS.call_failed.increment(1);
        }
        asked
    }

    async fn send(
        &self,
        to: Target,
        method: Method,
        body: Bytes,
        deadline: Duration,
    ) -> Result<http::Response<hyper::body::Incoming>, CallError> {
        let (node, peer) = (to.node, self.peer(to, method.class()));
        let not_sent = |what: Arc<str>| CallError::NotSent { node, what };
        if self.0.identity.cluster().is_none() {
            return Err(not_sent("this agent is in no cluster".into()));
        }
        let mut again = true;
        loop {
            let mut sender = self.sender(to, method.class(), &peer).await.map_err(not_sent)?;
            match call::send(&mut sender, node, method, body.clone(), deadline).await {
                Ok(Sent::Accepted(response)) => return Ok(response),
                // the connection was broken before; a new one gets one try
                Ok(Sent::NotSent(what)) => {
                    peer.drop_closed();
                    if !std::mem::take(&mut again) {
                        return Err(not_sent(what.into()));
                    }
                }
                Err(CallError::Refused { refusal, .. }) if refusal.code.ends_connection() => {
                    peer.drop_connection();
                    return Err(CallError::Refused { node, refusal });
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<(Target, Class), Arc<Peer>>> {
        self.0.peers.lock().expect("no holder panics: a map of handles")
    }

    fn peer(&self, to: Target, class: Class) -> Arc<Peer> {
        let mut peers = self.peers();
        if let Some(peer) = peers.get(&(to, class)) {
            return peer.clone();
        }
        if peers.len() >= PEERS_MAX {
            peers.retain(|_, peer| Arc::strong_count(peer) > 1 || matches!(&*peer.state(), State::Up(_) | State::Dialling(_)));
        }
        let peer = Arc::new(Peer { state: Mutex::new(State::Idle), pending: Semaphore::new(PENDING_MAX) });
        peers.insert((to, class), peer.clone());
        peer
    }

    /// The connection that stands, or the one that is being dialled.
    async fn sender(&self, to: Target, class: Class, peer: &Arc<Peer>) -> Dialled {
        let mut dialling = {
            let mut state = peer.state();
            match &*state {
                State::Up(sender) if !sender.is_closed() => return Ok(sender.clone()),
                State::Down { until, what } if Instant::now() < *until => return Err(what.clone()),
                State::Dialling(dialling) if dialling.has_changed().is_ok() => dialling.clone(),
                State::Idle | State::Up(_) | State::Down { .. } | State::Dialling(_) => {
                    let (tell, dialling) = watch::channel(None);
                    *state = State::Dialling(dialling.clone());
                    tokio::spawn(self.clone().dial(to, class, peer.clone(), tell));
                    dialling
                }
            }
        };
        match dialling.wait_for(Option::is_some).await {
            Ok(dialled) => dialled.clone().expect("it was waited for"),
            Err(_) => Err("this agent is stopping".into()), // its runtime ended, and the dial with it
        }
    }

    async fn dial(self, to: Target, class: Class, peer: Arc<Peer>, tell: watch::Sender<Option<Dialled>>) {
        let dialled = match self.0.book.get(to.node) {
            Some(address) => dial::dial(&self.0.identity, address, to, class).await,
            None => Err(NoConnection { what: "its address is not known".to_owned(), mismatch: false }),
        };
        let (state, dialled) = match dialled {
            Ok(sender) => {
                if self.0.told.is_mended(to.node) {
                    tracing::info!(peer = %to.node, "the peer and this node talk again");
                }
                (State::Up(sender.clone()), Ok(sender))
            }
            Err(NoConnection { what, mismatch }) => {
                if mismatch && self.0.told.is_news(to.node, &what) {
                    tracing::warn!(peer = %to.node, "no connection to this peer: {what}");
                }
                let what: Arc<str> = what.into();
                (State::Down { until: Instant::now() + DIAL_PAUSE, what: what.clone() }, Err(what))
            }
        };
        *peer.state() = state;
        tell.send_replace(Some(dialled));
    }
}

impl Peer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics: handles are moved")
    }

    fn drop_closed(&self) {
        let mut state = self.state();
        if matches!(&*state, State::Up(sender) if sender.is_closed()) {
            *state = State::Idle;
        }
    }

    fn drop_connection(&self) {
        let mut state = self.state();
        if matches!(&*state, State::Up(_)) {
            *state = State::Idle;
        }
    }
}
