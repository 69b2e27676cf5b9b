//! What openraft is told about muster: who a voter is, what an entry carries, what a command answers.

use std::fmt;

use bytes::Bytes;
use muster_catalog::{Index, Outcome};
use uuid::Uuid;

openraft::declare_raft_types!(
    /// The types openraft is compiled for.
    pub(super) Types:
        D = Payload,
        R = Answer,
        NodeId = RaftId,
        Node = Peer,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, RaftId>,
);

pub(super) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(super) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(super) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(super) type Membership = openraft::Membership<RaftId, Peer>;
pub(super) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;

/// One voter of the log: random, born with the log file and kept in it.
///
/// A wiped disk is thereby a new voter, never an old one with amnesia.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RaftId(pub(super) Uuid);

impl RaftId {
    /// As peers tell it.
    pub fn of(raft: Uuid) -> Self {
        Self(raft)
    }

    /// As it is told to peers.
    pub fn uuid(self) -> Uuid {
        self.0
    }

    /// A fresh id for a log file that is about to be made.
    pub(super) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl From<u64> for RaftId {
    /// openraft's storage suite names its servers by small numbers.
    fn from(number: u64) -> Self {
        Self(Uuid::from_u128(u128::from(number)))
    }
}

impl fmt::Display for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose voter it is. No address: those come from gossip or the kept peer list, at each connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The muster node.
    pub uuid: Uuid,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.fmt(f)
    }
}

/// An encoded proposal, as it is on disk, on the wire and when it is applied: one form, encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Payload(pub(super) Bytes);

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What applying an entry gave: its index and the store's outcome; `None` for entries that are raft's own.
#[derive(Debug)]
pub(super) struct Answer(pub(super) Option<(Index, Outcome)>);
