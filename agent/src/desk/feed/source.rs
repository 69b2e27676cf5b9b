//! A server's side: each change is written once, and every follower reads it from where it is.
//!
//! Batches lie in a ring (`ring.rs`); a follower is a place in it (`line.rs`) and holds nothing else. Whoever falls out of the ring,
//! or comes from another server, is continued out of the tables.
#![allow(clippy::disallowed_methods)] // changes are gathered by the clock

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use muster_catalog::{Batch, Beat, Index, Position, Reader, Resume, State};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use uuid::Uuid;

use super::heard::{BEAT, Heard};
use super::ring::{Made, Ring};
use super::{beside, metrics};

/// The first change is sent at once, what comes within this time after it together: as long for each follower, for each is a write
/// of some 10 µs. A storm takes a fifth of a core at most.
const GATHER_A_FOLLOWER: Duration = Duration::from_micros(50);
/// The same, at least: what agents take from a storm, and how often it wakes them.
const GATHER_MIN: Duration = Duration::from_millis(2);
/// The same, at most: a look-up is never older than that for it.
const GATHER_MAX: Duration = Duration::from_millis(50);

/// How long what was collected out of the tables serves others too: after a server's restart all its followers come at once.
const SCAN_KEPT: Duration = Duration::from_secs(10);

/// What this server knows of the leader at the moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pulse {
    pub(crate) known_leader: bool,
    /// How long ago it heard of one; zero on the leader itself.
    pub(crate) last_contact: Duration,
    /// Whether it has applied what the leader had committed when they last spoke: only then is another history than a follower's
    /// a newer one.
    pub(crate) caught_up: bool,
}

type AskPulse = Box<dyn Fn() -> Pulse + Send + Sync>;
/// Puts a frame into the form in which it leaves: once, for all.
type Frame = fn(&[u8]) -> Bytes;

/// Where followers are served. Clones are the same.
#[derive(Clone)]
pub(crate) struct Source(Arc<Inner>);

struct Inner {
    reader: Reader,
    pulse: AskPulse,
    frame: Frame,
    ring: Mutex<Ring>,
    /// Held while the tables are looked through: one at a time, and those who wait take what it found.
    scan: tokio::sync::Mutex<Option<Scan>>,
    /// Rises whenever a follower may find something.
    news: watch::Sender<u64>,
    wake: Notify,
    hurries: Mutex<Hurries>,
    heard: Heard,
    #[cfg(test)]
    encoded: AtomicU64,
}

/// Followers that are not to wait for what is gathered.
#[derive(Default)]
struct Hurries {
    followers: HashMap<Uuid, Arc<Hurry>>,
    /// Those who want more than was published when they asked.
    late: Vec<Arc<Hurry>>,
    /// Up to here is known who wrote.
    seen: Option<Arc<State>>,
}

#[derive(Default)]
pub(super) struct Hurry {
    /// How far it is to be brought.
    pub(super) to: AtomicU64,
    pub(super) wake: Notify,
}

struct Scan {
    made: Made,
    at: Instant,
}

impl Source {
    /// Serves out of what `reader` sees, each frame as `frame` makes it.
    pub(crate) fn new(reader: Reader, pulse: impl Fn() -> Pulse + Send + Sync + 'static, frame: Frame) -> Self {
        Self(Arc::new(Inner {
            reader,
            pulse: Box::new(pulse),
            frame,
            ring: Mutex::new(Ring::default()),
            scan: tokio::sync::Mutex::new(None),
            news: watch::Sender::new(0),
            wake: Notify::new(),
            hurries: Mutex::new(Hurries::default()),
            heard: Heard::default(),
            #[cfg(test)]
            encoded: AtomicU64::new(0),
        }))
    }

    /// Something was published. Cheap: it may be called on raft's thread.
    pub(crate) fn changed(&self) {
        self.0.wake.notify_one();
    }

    /// Makes batches and beats until the agent stops; then all feeds end.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut due, mut at) = (false, Instant::now());
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = sleep_until(at), if due => {
                    due = false;
                    if self.make(false) {
                        at = Instant::now() + self.gather();
                    }
                }
                () = self.0.wake.notified() => {
                    due = Instant::now() < at;
                    if !due && self.make(false) {
                        at = Instant::now() + self.gather();
                    }
                    self.hurry();
                }
                _ = beat.tick() => self.beat().await,
            }
        }
        self.ring().closed = true;
        self.tell();
    }

    /// How long what comes after a change is gathered.
    fn gather(&self) -> Duration {
        let followers = u32::try_from(self.ring().followers).unwrap_or(u32::MAX);
        GATHER_A_FOLLOWER.saturating_mul(followers).clamp(GATHER_MIN, GATHER_MAX)
    }

    /// Where the agent of this node will be told that it is in a hurry, and that there is something new; and the beats so far.
    pub(super) fn admit(&self, node: Uuid) -> (Arc<Hurry>, watch::Receiver<u64>, u64) {
        let (hurry, news) = (Arc::new(Hurry::default()), self.0.news.subscribe());
        self.hurries().followers.insert(node, hurry.clone());
        let beats = {
            let mut ring = self.ring();
            ring.followers += 1;
            ring.begin(&self.published());
            ring.beats
        };
        metrics::SOURCE.followers.increment(1.0);
        self.0.heard.open(node);
        (hurry, news, beats)
    }

    /// The end of what [`Source::admit`] began.
    pub(super) fn dismiss(&self, node: Uuid, hurry: &Arc<Hurry>) {
        self.ring().followers -= 1;
        metrics::SOURCE.followers.decrement(1.0);
        self.0.heard.close(node);
        let mut hurries = self.hurries();
        hurries.late.retain(|late| !Arc::ptr_eq(late, hurry));
        if hurries.followers.get(&node).is_some_and(|known| Arc::ptr_eq(known, hurry)) {
            hurries.followers.remove(&node);
        }
    }

    /// Brings the agent of this node up to this index as soon as it is published, without waiting for more to send with it.
    pub(crate) fn flush(&self, node: Uuid, to: Index) {
        let mut hurries = self.hurries();
        let Some(hurry) = hurries.followers.get(&node).cloned() else { return };
        hurry.to.fetch_max(to, Ordering::Relaxed);
        hurry.wake.notify_one();
        if self.0.reader.load().last_applied() < to && !hurries.late.iter().any(|late| Arc::ptr_eq(late, &hurry)) {
            hurries.late.push(hurry);
            drop(hurries);
            self.changed(); // It may have been published just before it was noted.
        }
    }

    /// The agent of this node, which follows, is heard.
    pub(crate) fn hear(&self, node: Uuid) {
        self.0.heard.beat(node, Instant::now());
    }

    /// Followers that fell silent, each told once; to be asked once a [`BEAT`].
    pub(crate) fn silent(&self) -> Vec<Uuid> {
        self.0.heard.silent(Instant::now())
    }

    /// Whoever wrote something sees it at once, and so does who asked for it before it was there.
    fn hurry(&self) {
        let now = self.published();
        let mut hurries = self.hurries();
        if hurries.followers.is_empty() {
            hurries.seen = None;
            return;
        }
        let writers = hurries.seen.replace(now.clone()).map(|seen| now.writers_since(&seen)).unwrap_or_default();
        for hurry in writers.iter().filter_map(|writer| hurries.followers.get(writer)) {
            hurry.to.fetch_max(now.last_applied(), Ordering::Relaxed);
            hurry.wake.notify_one();
        }
        hurries.late.retain(|late| {
            let waits = late.to.load(Ordering::Relaxed) > now.last_applied();
            if !waits {
                late.wake.notify_one();
            }
            waits
        });
    }

    #[cfg(test)]
    pub(super) fn encoded(&self) -> u64 {
        self.0.encoded.load(Ordering::Relaxed)
    }

    pub(super) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().expect("no holder of this lock panics")
    }

    fn hurries(&self) -> MutexGuard<'_, Hurries> {
        self.0.hurries.lock().expect("no holder of this lock panics")
    }

    pub(super) fn pulse(&self) -> Pulse {
        (self.0.pulse)()
    }

    fn tell(&self) {
        self.0.news.send_modify(|news| *news = news.wrapping_add(1));
    }

    pub(super) fn published(&self) -> Arc<State> {
        Arc::clone(&self.0.reader.load())
    }

    /// Closes a batch with what was published since the last one, and says whether there is anything in it. One without rows is made
    /// only if it is asked for: the position alone can wait for the next beat. Called by [`Source::run`] alone.
    fn make(&self, also_empty: bool) -> bool {
        let now = self.published();
        let (base, head) = {
            let mut ring = self.ring();
            if ring.followers == 0 {
                ring.forget();
                return false;
            }
            ring.begin(&now)
        };
        match now.changes_from(&base) {
            Some(batch) if batch.is_empty() && (!also_empty || batch.position().index == head) => {
                self.ring().base = Some(now);
                return false;
            }
            Some(mut batch) => {
                batch.reach_back(head);
                let made = self.encode(&batch);
                self.ring().push(made, now);
            }
            // Another history, or so many removals that not all are remembered: everybody is continued out of the tables.
            None => {
                let mut ring = self.ring();
                ring.forget();
                ring.begin(&now);
            }
        }
        self.tell();
        true
    }

    async fn beat(&self) {
        self.make(true);
        let frame = self.beat_frame();
        {
            let mut ring = self.ring();
            ring.beat = frame;
            ring.beats += 1;
        }
        self.tell();
        if let Ok(mut scan) = self.0.scan.try_lock() {
            let old = scan.as_ref().is_some_and(|scan| scan.at.elapsed() > SCAN_KEPT);
            if old {
                *scan = None;
            }
        }
    }

    /// It tells where the ring is, for whoever reads it has read that far.
    pub(super) fn beat_frame(&self) -> Bytes {
        let Pulse { known_leader, last_contact, .. } = self.pulse();
        let base = self.ring().base.clone();
        let state = base.unwrap_or_else(|| self.published());
        let last_contact_ms = u64::try_from(last_contact.as_millis()).unwrap_or(u64::MAX);
        let beat = Beat { applied: state.last_applied(), time_ms: state.time_ms(), known_leader, last_contact_ms };
        (self.0.frame)(&beat.frame())
    }

    pub(super) fn encode(&self, batch: &Batch) -> Made {
        let frames: Arc<[Bytes]> = beside(batch.rows(), || batch.frames().map(|frame| (self.0.frame)(&frame)).collect());
        let bytes = frames.iter().map(Bytes::len).sum();
        metrics::SOURCE.encoded.increment(1);
        metrics::SOURCE.encoded_bytes.increment(bytes as u64);
        #[cfg(test)]
        self.0.encoded.fetch_add(1, Ordering::Relaxed);
        Made { from: batch.from(), to: batch.position(), frames, bytes }
    }

    /// What was made since the head for those in a hurry; `None` if there is nothing.
    pub(super) fn ahead(&self, at: Position) -> Option<Made> {
        let now = self.published();
        let (base, head) = {
            let ring = self.ring();
            if let Some(made) = ring.ahead.as_ref().filter(|made| made.to == now.position()) {
                return Some(made.clone()).filter(|made| made.to.index > at.index);
            }
            (ring.base.clone()?, ring.head)
        };
        let mut batch = now.changes_from(&base).filter(|batch| batch.position().index > at.index)?;
        batch.reach_back(head);
        let made = self.encode(&batch);
        let mut ring = self.ring();
        if ring.head == head {
            ring.ahead = Some(made.clone());
        }
        Some(made)
    }

    /// Out of the tables as they were where the ring goes on; `None` if the follower is to wait.
    pub(super) async fn scan(&self, at: Position, base: Arc<State>) -> Option<Made> {
        let same_history = at.history == base.history();
        if base.history().is_none() || (same_history && at.index >= base.last_applied()) {
            return None;
        }
        if !same_history && at.history.is_some() && !self.pulse().caught_up {
            return None; // It may be this server that has not heard of the newer history yet.
        }
        let everything = !base.reaches_back_to(at);
        let mut scan = self.0.scan.lock().await;
        if let Some(scan) = scan.as_ref().filter(|scan| self.serves(&scan.made, at, everything)) {
            return Some(scan.made.clone());
        }
        metrics::SOURCE.scans.increment(1);
        let source = self.clone();
        let collect = move || match base.since(at) {
            Resume::Changes(batch) | Resume::Snapshot(batch) => Some(source.encode(&batch)),
            Resume::Behind => None,
        };
        let made = tokio::task::spawn_blocking(collect).await.ok()??;
        *scan = Some(Scan { made: made.clone(), at: Instant::now() });
        Some(made)
    }

    /// Whether a batch continues a follower at this position, and the ring goes on after it.
    fn serves(&self, made: &Made, at: Position, everything: bool) -> bool {
        let fits = match made.from {
            None => everything,
            Some(from) => !everything && from <= at.index && at.index < made.to.index,
        };
        fits && self.ring().continues(made.to)
    }
}
