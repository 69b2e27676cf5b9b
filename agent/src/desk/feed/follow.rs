//! A client's side: what a server tells enters the store; when the server goes, the next one goes on from there.
#![allow(clippy::disallowed_methods)] // silence and age are measured by the clock

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use muster_catalog::{Batch, Beat, EnterError, FeedError, Incoming, Index, Intake, Position, Store, Touched};
use rand::{Rng, RngExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::disk::DiskCopy;
use super::heard::BEAT;
use super::wants::{GATHER, Wants};
use super::{beside, metrics};
use crate::desk::watch::Bells;
use crate::error::chain;

/// Beats that may be missing before the feed is given up.
const BEATS_MISSED_MAX: u32 = 3;
/// How long a server may know no leader, or less than this agent does, before another one is tried: longer than an election takes.
const LAGGING_MAX: Duration = Duration::from_secs(5);
/// How long a server may take to begin a feed.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A feed that ended is replaced within this much: at random, for all followers of a server lose it at once.
const AGAIN: Duration = Duration::from_millis(100);
/// After several failures in a row within this much: often enough that a cluster that comes back is found at once.
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// A feed that a server began.
#[derive(Debug)]
pub(crate) struct Feed<S> {
    /// Whose it is.
    pub(crate) server: Uuid,
    pub(crate) frames: S,
}

/// Why a feed ended. Nothing is lost: the next one goes on from the position that was reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// No server took the request; another may.
    #[error("no server could be reached")]
    Connect(#[source] io::Error),
    /// The server took too long to begin.
    #[error("the server did not begin within {CONNECT_MAX:?}")]
    Slow,
    /// The connection broke.
    #[error("the feed broke")]
    Broken(#[source] io::Error),
    /// The server ended it.
    #[error("the server ended the feed")]
    Ended,
    /// Not even beats came.
    #[error("nothing was heard for {:?}", BEAT * BEATS_MISSED_MAX)]
    Silent,
    /// The server is cut off from its leader, or far behind: another one may not be.
    #[error("the server has known no leader, or less than this agent, for {LAGGING_MAX:?}")]
    Lagging,
    /// What came is no feed.
    #[error("the feed makes no sense")]
    Foreign(#[from] FeedError),
    /// Other rows are wanted than those it tells of: it is begun anew.
    #[error("other rows are wanted")]
    Widened,
    /// What came does not follow on what is here.
    #[error("the feed does not go on from here")]
    Astray(#[from] EnterError),
}

/// How a server that was followed was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Its feed broke: whether it lives is found out at once.
    Broken,
    /// Nothing was heard of it.
    Silent,
}

/// How old what this agent has can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Age {
    /// Whether the server that is followed knows a leader now.
    pub(crate) known_leader: bool,
    /// Since the last word of a leader; `None` if there never was one.
    pub(crate) last_contact: Option<Duration>,
}

/// What is known of the feed. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Following(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    position: watch::Sender<Position>,
    contact: Mutex<Contact>,
}

#[derive(Debug, Default)]
struct Contact {
    /// When the last beat came, and how old the leader's word was then.
    heard: Option<(Instant, Duration)>,
    known_leader: bool,
    server: Option<Uuid>,
}

impl Following {
    /// Where this agent's catalog is.
    #[cfg(test)]
    pub(crate) fn position(&self) -> Position {
        *self.0.position.borrow()
    }

    pub(crate) fn age(&self) -> Age {
        let contact = self.contact();
        let last_contact = contact.heard.map(|(at, before)| at.elapsed().saturating_add(before));
        Age { known_leader: contact.known_leader, last_contact }
    }

    /// The server that is followed at the moment.
    pub(crate) fn server(&self) -> Option<Uuid> {
        self.contact().server
    }

    /// Waits until readers see everything up to this index, at most this long; says whether they do.
    pub(crate) async fn wait_for(&self, index: Index, most: Duration) -> bool {
        let mut position = self.0.position.subscribe();
        let reached = position.wait_for(|position| position.index >= index);
        matches!(timeout(most, reached).await, Ok(Ok(_)))
    }

    fn contact(&self) -> MutexGuard<'_, Contact> {
        self.0.contact.lock().expect("no holder of this lock panics")
    }
}

/// The writer of a client's store.
pub(crate) struct Follower<R> {
    store: Store,
    bells: Arc<Bells>,
    copy: Option<DiskCopy>,
    following: Following,
    /// The last beat, until everything before it is here.
    beat: Option<(Beat, Instant)>,
    /// `None`: everything.
    wants: Option<Wants>,
    rng: R,
}

impl<R: Rng> Follower<R> {
    /// Goes on from what the store has: out of the copy on disk, if there is one, `age` old.
    pub(crate) fn new(
        store: Store,
        bells: Arc<Bells>,
        copy: Option<DiskCopy>,
        age: Option<Duration>,
        wants: Option<Wants>,
        rng: R,
    ) -> (Following, Self) {
        let contact = Contact { heard: age.map(|age| (Instant::now(), age)), ..Contact::default() };
        let position = watch::Sender::new(store.state().position());
        let following = Following(Arc::new(Shared { position, contact: Mutex::new(contact) }));
        (following.clone(), Self { store, bells, copy, following, beat: None, wants, rng })
    }

    /// Follows one server after the other until the agent stops. `connect` takes any that answers, and each time another one, if
    /// there is one. `lost` hears of servers that went without a good-bye.
    pub(crate) async fn run<C, F, S>(mut self, mut connect: C, lost: impl Fn(Uuid, Lost), stop: impl Future<Output = ()>)
    where
        C: FnMut(Position) -> F,
        F: Future<Output = io::Result<Feed<S>>>,
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let mut stop = std::pin::pin!(stop);
        let mut failures = 0;
        loop {
            let mut heard = false;
            let ended = tokio::select! {
                () = &mut stop => break,
                ended = self.follow_one(&mut connect, &mut heard) => ended,
            };
            if matches!(ended, FollowError::Widened) {
                tokio::time::sleep(GATHER).await;
                continue;
            }
            metrics::FOLLOW.connected.set(0.0);
            let server = {
                let mut contact = self.following.contact();
                contact.known_leader = false;
                contact.server.take()
            };
            match (&ended, server) {
                (FollowError::Broken(_), Some(server)) => lost(server, Lost::Broken),
                (FollowError::Silent, Some(server)) => lost(server, Lost::Silent),
                _ => {}
            }
            failures = if heard { 0 } else { failures + 1 };
            if failures <= 1 {
                tracing::warn!(error = %chain(&ended), "no server is followed: look-ups are answered with what is known");
            } else {
                tracing::debug!(error = %chain(&ended), failures, "still no server is followed");
            }
            let most = AGAIN.saturating_mul(2_u32.saturating_pow(failures.min(8))).min(AGAIN_MAX);
            let pause = most.mul_f64(self.rng.random_range(0.0..1.0));
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(pause) => self.note_age(),
            }
        }
        if let Some(copy) = &self.copy {
            copy.flush().await;
        }
    }

    /// Follows one server until that ends; `heard` says whether it ever said anything.
    async fn follow_one<C, F, S>(&mut self, connect: &mut C, heard: &mut bool) -> FollowError
    where
        C: FnMut(Position) -> F,
        F: Future<Output = io::Result<Feed<S>>>,
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let from = self.goes_on_from();
        let wanted = self.wants.as_ref().map_or(0, Wants::version);
        self.beat = None;
        let Feed { server, mut frames } = match timeout(CONNECT_MAX, connect(from)).await {
            Ok(Ok(feed)) => feed,
            Ok(Err(error)) => return FollowError::Connect(error),
            Err(_) => return FollowError::Slow,
        };
        let (mut intake, mut entered) = (Intake::new(), false);
        let mut good_at = Instant::now();
        loop {
            let frame = tokio::select! {
                biased;
                () = widened(self.wants.as_ref(), wanted) => return FollowError::Widened,
                frame = timeout(BEAT * BEATS_MISSED_MAX, frames.next()) => frame,
            };
            let frame = match frame {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return FollowError::Broken(error),
                Ok(None) => return FollowError::Ended,
                Err(_) => return FollowError::Silent,
            };
            metrics::FOLLOW.received_bytes.increment(frame.len() as u64);
            if !*heard {
                *heard = true;
                self.following.contact().server = Some(server);
                metrics::FOLLOW.connected.set(1.0);
                tracing::info!(%server, index = from.index, "a server is followed");
            }
            let done = match intake.take(&frame) {
                Ok(done) => done,
                Err(error) => return error.into(),
            };
            for incoming in done {
                match incoming {
                    Incoming::Beat(beat) => {
                        self.hear(beat, entered);
                        if beat.known_leader && beat.applied >= self.store.state().last_applied() {
                            good_at = Instant::now();
                        } else if good_at.elapsed() > LAGGING_MAX {
                            return FollowError::Lagging;
                        }
                    }
                    Incoming::Batch(batch) => {
                        if !std::mem::replace(&mut entered, true) && batch.from().is_some() {
                            metrics::FOLLOW.resumes.increment(1);
                        }
                        if let Err(error) = self.enter(*batch) {
                            return error.into();
                        }
                        self.confirm(true);
                    }
                }
            }
        }
    }

    /// A copy of some rows is no beginning for one of all.
    fn goes_on_from(&self) -> Position {
        let state = self.store.state();
        if self.wants.is_none() && state.interest().is_some() { Position::default() } else { state.position() }
    }

    fn hear(&mut self, beat: Beat, entered: bool) {
        self.following.contact().known_leader = beat.known_leader;
        self.beat = Some((beat, Instant::now()));
        self.confirm(entered);
        self.note_age();
    }

    /// A beat makes what is here as new as the server's word of its leader, once everything before it has been entered: not while
    /// the changes missed are still on their way, nor while the server knows less than this agent and none of that came from there.
    fn confirm(&mut self, entered: bool) {
        let Some((beat, heard_at)) = self.beat else { return };
        let at = self.store.state().last_applied();
        if at < beat.applied || (at > beat.applied && !entered) {
            return;
        }
        self.beat = None;
        let before = Duration::from_millis(beat.last_contact_ms);
        {
            let mut contact = self.following.contact();
            // A server that has not heard of its leader for longer than this agent has says nothing new.
            if contact.heard.is_some_and(|(at, known)| before > at.elapsed().saturating_add(known)) {
                return;
            }
            contact.heard = Some((heard_at, before));
        }
        if let Some(copy) = &self.copy {
            copy.note_age(before);
        }
    }

    fn note_age(&self) {
        if let Some(age) = self.following.age().last_contact {
            metrics::FOLLOW.age.set(age.as_secs_f64() * 1e3);
        }
    }

    /// Change, publish, ring.
    fn enter(&mut self, batch: Batch) -> Result<(), EnterError> {
        let (rows, everything) = (batch.rows(), batch.from().is_none());
        let kept = self.copy.as_ref().filter(|_| !everything).map(|copy| copy.frames(&batch));
        let before = self.store.state().position();
        let touched = beside(rows, || self.store.enter(batch))?;
        let position = self.store.state().position();
        // Everything at the same position may be other rows than before: those of a wider interest.
        if position == before && !everything {
            return Ok(());
        }
        self.store.publish();
        self.following.0.position.send_replace(position);
        match &touched {
            Touched::All => self.bells.ring_all(),
            Touched::Topics(topics) => self.bells.ring(topics),
        }
        let meters = &*metrics::FOLLOW;
        meters.batches.increment(1);
        meters.changes.increment(rows as u64);
        meters.position.set(position.index as f64);
        if everything {
            meters.snapshots.increment(1);
            tracing::info!(index = position.index, rows, part = self.wants.is_some(), "the catalog was taken over");
        }
        if let Some(copy) = &self.copy {
            match kept.flatten() {
                Some(frames) => copy.append(frames),
                None => copy.rewrite(),
            }
        }
        Ok(())
    }
}

async fn widened(wants: Option<&Wants>, from: u64) {
    match wants {
        Some(wants) => wants.changed(from).await,
        None => std::future::pending().await,
    }
}
