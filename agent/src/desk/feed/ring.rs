//! What was told lately, for all followers: each finds its place in it by its position alone.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use muster_catalog::{Index, Position, State};

/// Bytes of batches that are kept for followers that are a little behind: some thousand changes. Older ones come out of the tables.
const RING_BYTES_MAX: usize = 4 << 20;

/// Batches kept, however small they are: close to a minute of the fastest feed.
const RING_BATCHES_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct Ring {
    /// The catalog of which the ring tells everything; `None` while nobody follows.
    pub(super) base: Option<Arc<State>>,
    /// Where the newest batch ends. The base may be further on: then nothing changed in between that is fed.
    pub(super) head: Index,
    /// Each begins where the one before it ends.
    batches: VecDeque<Made>,
    bytes: usize,
    /// From the head to where the catalog was when somebody was in a hurry.
    pub(super) ahead: Option<Made>,
    pub(super) beat: Bytes,
    pub(super) beats: u64,
    pub(super) followers: usize,
    pub(super) closed: bool,
}

/// A batch in its frames.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) from: Option<Index>,
    pub(super) to: Position,
    pub(super) frames: Arc<[Bytes]>,
    pub(super) bytes: usize,
}

/// How a follower goes on.
pub(super) enum Next {
    Batch(Made),
    /// What it needs is in the tables alone.
    Scan(Arc<State>),
    /// It has everything that was sent.
    Wait,
    /// The agent stops.
    End,
}

impl Ring {
    pub(super) fn forget(&mut self) {
        (self.base, self.ahead, self.bytes) = (None, None, 0);
        self.batches.clear();
    }

    /// Begins to tell of what comes after this state, unless it has begun; where it is.
    pub(super) fn begin(&mut self, now: &Arc<State>) -> (Arc<State>, Index) {
        if self.base.is_none() {
            self.head = now.last_applied();
        }
        (self.base.get_or_insert_with(|| now.clone()).clone(), self.head)
    }

    pub(super) fn push(&mut self, made: Made, base: Arc<State>) {
        self.bytes += made.bytes;
        (self.head, self.base, self.ahead) = (made.to.index, Some(base), None);
        self.batches.push_back(made);
        while self.bytes > RING_BYTES_MAX || self.batches.len() > RING_BATCHES_MAX {
            let Some(oldest) = self.batches.pop_front() else { return };
            self.bytes -= oldest.bytes;
        }
    }

    /// Whether somebody at this position needs nothing but what is in the ring.
    pub(super) fn continues(&self, at: Position) -> bool {
        let Some(base) = &self.base else { return false };
        let start = self.batches.front().map_or(Some(self.head), |oldest| oldest.from);
        at.history == base.history() && Some(at.index) >= start
    }

    pub(super) fn next(&self, at: Position) -> Next {
        if self.closed {
            return Next::End;
        }
        let Some(base) = &self.base else { return Next::Wait };
        if !self.continues(at) {
            return Next::Scan(base.clone());
        }
        let place = self.batches.partition_point(|made| made.to.index <= at.index);
        self.batches.get(place).map_or(Next::Wait, |made| Next::Batch(made.clone()))
    }
}
