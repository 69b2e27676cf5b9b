//! What a follower is sent so that its catalog stays the servers': rows that changed, or all of them, and where that leads.
//!
//! A [`Batch`] holds each row as it is at its end, so it may be entered by whoever stands anywhere within it, and entering it
//! again changes nothing. Keys, sessions of the log and the kept history are not in it: questions about them travel.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::grave::Gone;
use crate::interest::Interest;
use crate::name::NodeName;
use crate::rebuild::{NodeRecord, ServiceIndexes};
use crate::removal::{MarkKey, RemovalMark};
use crate::row::{Check, Index, Row, Service};
use crate::state::{State, TableIndexes};

mod collect;
mod narrow;
mod wire;
pub use wire::{FRAME_BYTES_MAX, Frames, Incoming, Intake};

/// Where a follower is: everything up to this index of this history is in its catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// Which history; `None` before the first batch.
    pub history: Option<Uuid>,
    /// The last log index of which all changes are there, entries without rows included.
    pub index: Index,
}

/// How a server goes on with a follower.
#[derive(Debug)]
pub enum Resume {
    /// With what changed since.
    Changes(Batch),
    /// With everything: the follower has another history, or is further behind than tombstones are kept.
    Snapshot(Batch),
    /// Not yet: this server knows less than the follower does.
    Behind,
}

/// Changes of the catalog between two positions, or all of it; what a follower enters at once or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) head: Head,
    pub(crate) nodes: Vec<NodeRecord>,
    /// Nodes of which the indexes alone changed.
    pub(crate) hosts: Vec<HostIndexes>,
    pub(crate) services: Vec<Arc<Row<Service>>>,
    pub(crate) checks: Vec<Arc<Row<Check>>>,
    pub(crate) buckets: Vec<ServiceIndexes>,
    pub(crate) gone: Vec<Gone>,
    pub(crate) marks: Vec<Arc<RemovalMark>>,
    pub(crate) marks_gone: Vec<MarkKey>,
}

/// What is true of a batch as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whoever is at this index or later can enter it; `None`: anybody, for it is everything.
    pub(crate) from: Option<Index>,
    pub(crate) to: Index,
    pub(crate) time_ms: u64,
    pub(crate) history: Option<Uuid>,
    pub(crate) indexes: TableIndexes,
    /// Whether the marks are all there are.
    pub(crate) all_marks: bool,
    /// Of a batch with everything: which rows that is; `None` is all there are.
    pub(crate) interest: Option<Arc<Interest>>,
}

/// A node's topics' indexes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostIndexes {
    /// Folded.
    pub(crate) name: NodeName,
    pub(crate) index: Index,
    pub(crate) checks_index: Index,
}

/// What a server says each second to whoever follows it, changes or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Beat {
    /// The last log index that it has applied.
    pub applied: Index,
    /// The leader's time of the last command, milliseconds since 1970.
    pub time_ms: u64,
    /// Whether it knows a leader.
    pub known_leader: bool,
    /// How long ago it heard of one, in milliseconds; 0 on the leader itself.
    pub last_contact_ms: u64,
}

impl State {
    /// Where a follower with this state stands.
    pub fn position(&self) -> Position {
        Position { history: self.history, index: self.applied }
    }
}

impl Batch {
    /// Where whoever entered it stands.
    pub fn position(&self) -> Position {
        Position { history: self.head.history, index: self.head.to }
    }

    /// From where on it can be entered; `None` if it is everything.
    pub fn from(&self) -> Option<Index> {
        self.head.from
    }

    /// It follows on an earlier index too, for nothing changed from there to where it begins.
    pub fn reach_back(&mut self, from: Index) {
        self.head.from = self.head.from.map(|begins| begins.min(from));
    }

    /// How many rows it tells of, gone ones included.
    pub fn rows(&self) -> usize {
        self.nodes.len() + self.services.len() + self.checks.len() + self.gone.len()
    }

    /// Whether only the position moves.
    pub fn is_empty(&self) -> bool {
        self.rows() + self.hosts.len() + self.buckets.len() + self.marks.len() + self.marks_gone.len() == 0
    }
}
