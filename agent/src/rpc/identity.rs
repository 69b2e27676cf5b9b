//! What this agent says of itself to every peer.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What an agent does in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// Holds the catalog with others.
    Server,
    /// Everything else.
    Client,
}

/// What this agent says of itself. Clones are the same identity: what is learned later is told from then on.
#[derive(Debug, Clone)]
pub(crate) struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Uuid,
    datacenter: String,
    part: Part,
    cluster: ArcSwapOption<Uuid>,
    raft: ArcSwapOption<Uuid>,
}

impl Identity {
    /// An agent that knows no cluster yet, and has no raft id.
    pub(crate) fn new(node: Uuid, datacenter: impl Into<String>, part: Part) -> Self {
        let (cluster, raft) = (ArcSwapOption::empty(), ArcSwapOption::empty());
        Self(Arc::new(Inner { node, datacenter: datacenter.into(), part, cluster, raft }))
    }

    /// This node.
    pub(crate) fn node(&self) -> Uuid {
        self.0.node
    }

    /// Its datacenter.
    pub(crate) fn datacenter(&self) -> &str {
        &self.0.datacenter
    }

    /// What it is.
    pub(crate) fn part(&self) -> Part {
        self.0.part
    }

    /// Its cluster, once it was admitted to it in this run, or entered or founded it: without, it talks to nobody.
    pub(crate) fn cluster(&self) -> Option<Uuid> {
        self.0.cluster.load().as_deref().copied()
    }

    /// It belongs to this cluster from now on.
    pub(crate) fn set_cluster(&self, cluster: Uuid) {
        self.0.cluster.store(Some(Arc::new(cluster)));
    }

    /// It takes no part any more: another stands in its place.
    pub(crate) fn leave_cluster(&self) {
        self.0.cluster.store(None);
    }

    /// Its voter of the log; none on clients.
    pub(crate) fn raft(&self) -> Option<Uuid> {
        self.0.raft.load().as_deref().copied()
    }

    /// Its log was opened: this is its raft id.
    pub(crate) fn set_raft(&self, raft: Uuid) {
        self.0.raft.store(Some(Arc::new(raft)));
    }
}
