//! Raft as an operator sees it.

use std::time::Duration;

use muster_catalog::Index;
use openraft::errors::ForwardToLeader;
use openraft::{Instant as _, RaftMetrics, ServerState};
use uuid::Uuid;

use super::types::{RaftId, Types};

/// What this server is among the voters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Has the log, no vote.
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// Has stopped.
    Shutdown,
}

/// Raft as an operator sees it.
#[derive(Debug, Clone)]
pub struct Status {
    /// What it is.
    pub role: Role,
    /// The current term.
    pub term: u64,
    /// The leader's voter and node, if one is known.
    pub leader: Option<(RaftId, Uuid)>,
    /// Last entry in the log.
    pub last_log_index: Index,
    /// Term of the last applied entry.
    pub last_log_term: u64,
    /// Last entry known to be committed.
    pub commit_index: Index,
    /// Last entry applied to the catalog.
    pub applied_index: Index,
    /// Entry the newest snapshot stands for; 0 if there is none.
    pub last_snapshot_index: Index,
    /// Its term.
    pub last_snapshot_term: u64,
    /// Voters other than this one.
    pub num_peers: usize,
    /// All servers: voter, node, and whether it votes.
    pub configuration: Vec<(RaftId, Uuid, bool)>,
    /// Entry that made the configuration.
    pub configuration_index: Index,
    /// Time since a majority was last heard of; only on a leader.
    pub last_contact: Option<Duration>,
}

impl Status {
    /// The engine's numbers, which follow a moment after what was applied.
    pub(super) fn new(m: &RaftMetrics<Types>, applied: Index) -> Self {
        let membership = m.membership_config.membership();
        let voters: Vec<RaftId> = membership.voter_ids().collect();
        Self {
            role: match m.state {
                ServerState::Learner => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Shutdown,
            },
            term: m.current_term,
            leader: leader(m),
            last_log_index: m.last_log_index.unwrap_or(0).max(applied),
            last_log_term: m.last_applied.map_or(0, |id| *id.leader_id),
            commit_index: m.local_committed.map_or(0, |id| id.index).max(applied),
            applied_index: applied,
            last_snapshot_index: m.snapshot.map_or(0, |id| id.index),
            last_snapshot_term: m.snapshot.map_or(0, |id| *id.leader_id),
            num_peers: voters.iter().filter(|id| **id != m.id).count(),
            configuration: membership.nodes().map(|(id, peer)| (*id, peer.uuid, voters.contains(id))).collect(),
            configuration_index: m.membership_config.log_id().map_or(0, |id| id.index),
            last_contact: m.last_quorum_acked.map(|at| at.elapsed()),
        }
    }
}

/// The leader's voter and node, if one is known.
pub(super) fn leader(m: &RaftMetrics<Types>) -> Option<(RaftId, Uuid)> {
    let id = m.current_leader?;
    let peer = m.membership_config.membership().get_node(&id)?;
    Some((id, peer.uuid))
}

/// The leader that an error names.
pub(super) fn known(to: &ForwardToLeader<Types>) -> Option<(RaftId, Uuid)> {
    Some((to.leader_id?, to.leader_node?.uuid))
}
