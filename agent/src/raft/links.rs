//! The connections to the other voters, kept open so that what is urgent need not dial; and since when which of them is missing.
#![allow(clippy::disallowed_methods)] // silences are timed

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use muster_catalog::Index;
use openraft::async_runtime::watch::WatchReceiver as _;
use uuid::Uuid;

use super::machine::Engine;
use super::peers::Peers;
use super::types::RaftId;
use crate::rpc::{Method, Pool, Target};

/// How often each voter is asked whether it is there: below the shortest election timeout.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Time for its answer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// Silence after which a voter is told to be missing: one lost answer is nothing.
const MISSING_AFTER: Duration = Duration::from_secs(2);

/// A voter that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its raft id.
    pub id: RaftId,
    /// Its node.
    pub node: Uuid,
    /// How long nothing was heard of it by this server; since this server's start if it never was.
    pub silence: Duration,
    /// What the last attempt met.
    pub what: String,
}

/// What is known of the connections. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Links(Arc<Mutex<BTreeMap<RaftId, Link>>>);

#[derive(Debug, Clone)]
struct Link {
    node: Uuid,
    answered: Instant,
    what: String,
}

impl Links {
    /// Voters that have not answered for a while.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let now = Instant::now();
        let links = self.0.lock().expect("no holder panics: a map of numbers");
        let silent = links.iter().map(|(id, link)| (id, link, now.duration_since(link.answered)));
        let missing = silent.filter(|(_, _, silence)| *silence >= MISSING_AFTER);
        missing.map(|(id, link, silence)| Missing { id: *id, node: link.node, silence, what: link.what.clone() }).collect()
    }

    /// Asks each other voter again and again. Runs as long as raft does.
    pub(super) async fn keep(self, engine: Engine, pool: Pool, mut peers: Option<Peers>) {
        let own = *engine.node_id();
        let mut told: Option<String> = None;
        loop {
            let (servers, voters) = {
                let metrics = engine.metrics();
                let metrics = metrics.borrow_watched();
                let membership = metrics.membership_config.membership();
                let servers: BTreeMap<RaftId, Uuid> = membership.nodes().map(|(id, peer)| (*id, peer.uuid)).collect();
                let voters: Vec<RaftId> = membership.voter_ids().collect();
                (servers, voters)
            };
            if let Some(peers) = &mut peers {
                peers.keep(servers.iter().filter(|(id, _)| **id != own), pool.book()).await;
            }
            let others: Vec<(RaftId, Uuid)> =
                voters.iter().filter(|id| **id != own).filter_map(|id| Some((*id, *servers.get(id)?))).collect();
            self.forget_others(&others);
            let asked = others.iter().map(|(id, node)| self.ask(&pool, *id, *node));
            join_all(asked).await;
            self.tell(&voters, &mut told);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn ask(&self, pool: &Pool, id: RaftId, node: Uuid) {
        let target = Target { node, raft: Some(id.0) };
        let answer = pool.call(target, Method::Ping, Vec::new(), LOOK_TIMEOUT).await;
        let now = Instant::now();
        let mut links = self.0.lock().expect("no holder panics: a map of numbers");
        let link = links.entry(id).or_insert(Link { node, answered: now, what: String::new() });
        match answer {
            Ok(_) => link.answered = now,
            Err(error) => link.what = error.to_string(),
        }
    }

    fn forget_others(&self, voters: &[(RaftId, Uuid)]) {
        let mut links = self.0.lock().expect("no holder panics: a map of numbers");
        links.retain(|id, _| voters.iter().any(|(voter, _)| voter == id));
    }

    /// Says once when a quorum is missing, and once when it is there again.
    fn tell(&self, voters: &[RaftId], told: &mut Option<String>) {
        let missing = self.missing();
        let present = voters.len().saturating_sub(missing.len());
        let quorum = voters.len() / 2 + 1;
        if voters.is_empty() || present >= quorum {
            if told.take().is_some() {
                tracing::info!(present, voters = voters.len(), "a quorum of servers is in reach again");
            }
            return;
        }
        let names: Vec<String> = missing.iter().map(|one| one.node.to_string()).collect();
        let names = names.join(", ");
        if told.as_ref() != Some(&names) {
            let since: Vec<String> =
                missing.iter().map(|one| format!("node {} for {:.0?} ({})", one.node, one.silence, one.what)).collect();
            tracing::error!(
                present,
                voters = voters.len(),
                quorum,
                "no quorum: writes and consistent reads wait until enough servers are back. Missing: {}",
                since.join("; ")
            );
            *told = Some(names);
        }
    }
}

/// How far a server has got, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its raft id.
    pub id: RaftId,
    /// Its node.
    pub node: Uuid,
    /// It votes; otherwise it only learns.
    pub voter: bool,
    /// Last entry that it is known to have; only on a leader.
    pub matching: Option<Index>,
    /// When it last answered; only on a leader, and not of itself.
    pub last_contact: Option<Duration>,
    /// It returned with less log than it had: nothing of it counts.
    pub lost_log: bool,
}
