//! One follower, served out of the source from where it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::Stream;
use muster_catalog::{Batch, Interest, Position, State};
use tokio::sync::watch;
use uuid::Uuid;

use super::metrics;
use super::ring::{Made, Next};
use super::source::{Hurry, Source};

impl Source {
    /// The frames, ready to be sent, for the agent of this node, which is at this position: until the agent stops or the stream is
    /// dropped. Who reads them slowly gets fewer and larger batches.
    ///
    /// With an interest it begins with all that is of interest, and what follows is made for this follower alone.
    pub(crate) fn subscribe(
        &self,
        node: Uuid,
        at: Position,
        interest: Option<Interest>,
    ) -> impl Stream<Item = Bytes> + Send + use<> {
        futures_util::stream::unfold(Line::new(self.clone(), node, at, interest), |mut line| async move {
            let frame = line.next().await?;
            metrics::SOURCE.sent_bytes.increment(frame.len() as u64);
            Some((frame, line))
        })
    }
}

/// One follower's place.
struct Line {
    source: Source,
    node: Uuid,
    at: Position,
    beats: u64,
    news: watch::Receiver<u64>,
    hurry: Arc<Hurry>,
    queue: VecDeque<Bytes>,
    narrow: Option<Narrow>,
}

/// A follower that wants some of the rows.
struct Narrow {
    interest: Interest,
    /// What it was told up to; `None` before the beginning.
    told: Option<Arc<State>>,
}

impl Line {
    fn new(source: Source, node: Uuid, at: Position, interest: Option<Interest>) -> Self {
        let (hurry, news, beats) = source.admit(node);
        let first = source.beat_frame(); // So that it knows at once with whom it speaks.
        let narrow = interest.map(|interest| Narrow { interest, told: None });
        Self { source, node, at, beats, news, hurry, queue: [first].into(), narrow }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.queue.pop_front() {
                return Some(frame);
            }
            self.news.borrow_and_update();
            let (next, beat) = {
                let ring = self.source.ring();
                let beat = (ring.beats != self.beats).then(|| ring.beat.clone());
                self.beats = ring.beats;
                (ring.next(self.at), beat)
            };
            let made = match next {
                Next::End => return None,
                _ if self.narrow.is_some() => self.narrowed(beat.is_some()),
                Next::Batch(made) => Some(made),
                Next::Scan(base) => self.source.scan(self.at, base).await,
                Next::Wait if self.at.index < self.hurry.to.load(Ordering::Relaxed) => self.source.ahead(self.at),
                Next::Wait => None,
            };
            if let Some(made) = made {
                self.at = made.to;
                self.queue.extend(made.frames.iter().cloned());
            }
            self.queue.extend(beat);
            if self.queue.is_empty() {
                tokio::select! {
                    changed = self.news.changed() => changed.ok()?,
                    () = self.hurry.wake.notified() => {}
                }
            }
        }
    }

    /// What this follower is to be told next: everything of interest, then what changed of it. Where that is nothing, its position
    /// moves with the beats, or when it is in a hurry.
    fn narrowed(&mut self, beats: bool) -> Option<Made> {
        let Narrow { interest, told } = self.narrow.as_mut()?;
        let hurries = self.at.index < self.hurry.to.load(Ordering::Relaxed);
        let now = match self.source.ring().base.clone() {
            Some(base) if !hurries => base,
            _ => self.source.published(),
        };
        let changes = match told {
            Some(told) if told.history() == now.history() && told.last_applied() >= now.last_applied() => return None,
            Some(told) => now.changes_of(interest, told),
            None if now.history().is_none() => return None,
            None if self.at.history == now.history() && self.at.index > now.last_applied() => return None,
            None if self.at.history.is_some() && self.at.history != now.history() && !self.source.pulse().caught_up => {
                return None; // It may be this server that has not heard of the newer history yet.
            }
            None => None,
        };
        if changes.as_ref().is_some_and(Batch::is_empty) && !beats && !hurries {
            return None;
        }
        let batch = changes.unwrap_or_else(|| now.part(interest));
        *told = Some(now);
        Some(self.source.encode(&batch))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.source.dismiss(self.node, &self.hurry);
    }
}
