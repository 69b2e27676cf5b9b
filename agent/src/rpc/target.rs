//! Whom a call is for.

use uuid::Uuid;

/// Whom a call is for: a node, and where raft is concerned the one voter that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    /// The node.
    pub(crate) node: Uuid,
    /// Its voter: one with another raft id refuses.
    pub(crate) raft: Option<Uuid>,
}

impl From<Uuid> for Target {
    fn from(node: Uuid) -> Self {
        Self { node, raft: None }
    }
}
