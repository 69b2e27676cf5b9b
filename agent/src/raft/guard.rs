//! Before a server votes again after a restart it asks the others what they have seen of it: one that was started on an old
//! copy of its directory may have voted in terms that it has forgotten, and acknowledged entries that it has no more.
#![allow(clippy::disallowed_methods)] // a wait has an end

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::alarm::Alarm;
use super::codec::{Fault, LogIdBody, VoteBody};
use super::error::Failure;
use super::evidence::is_majority;
use super::log::{Had, LastLog};
use super::machine::Engine;
use super::types::{LogId, RaftId, Vote};
use super::wire::Wire;
use crate::rpc::{Method, Pool, Target};

/// How long votes wait for those who do not answer, once a majority with this one has: they may be down, and then the cluster needs
/// this one's vote. Without a majority there is no leader to be elected, and nothing is lost by waiting.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Time for one answer.
const ASK_TIMEOUT: Duration = Duration::from_millis(300);
/// Pause before those who did not answer are asked again: at first; while votes still wait, for there is no quorum; and once this
/// server votes.
const AGAIN: Duration = Duration::from_millis(30);
const AGAIN_WAITING: Duration = Duration::from_millis(200);
const AGAIN_LATER: Duration = Duration::from_secs(1);
/// How long the rest are asked by a server that votes: what a peer has seen it forgets at its own restart.
const ASK_MAX: Duration = Duration::from_secs(600);

/// Whether this server votes. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<AtomicBool>);

impl Gate {
    pub(super) fn new(open: bool) -> Self {
        Self(Arc::new(AtomicBool::new(open)))
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What a peer has seen of a voter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SeenOf {
    /// The newest vote that it was granted by it, or asked for.
    pub(super) vote: Option<Vote>,
    /// The last committed entry that was on its disk.
    pub(super) committed: Option<LogId>,
}

#[derive(Serialize, Deserialize)]
struct SeenBody {
    #[serde(default)]
    vote: Option<VoteBody>,
    #[serde(default)]
    committed: Option<LogIdBody>,
}

impl Wire for SeenOf {
    fn encode(&self) -> Vec<u8> {
        let body = SeenBody { vote: self.vote.map(VoteBody::from), committed: self.committed.map(LogIdBody::from) };
        rmp_serde::to_vec_named(&body).expect("numbers can be written to memory")
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let body: SeenBody = muster_catalog::unpack(bytes).map_err(|error| Fault::Content(error.to_string()))?;
        Ok(Self { vote: body.vote.map(Vote::from), committed: body.committed.map(LogId::from) })
    }
}

/// What is missing of what was seen.
fn missing(had: &Had, seen: &SeenOf) -> Option<String> {
    let last = had.last.map(|id| id.index);
    if let Some(committed) = seen.committed.map(|id| id.index)
        && last < Some(committed)
    {
        let end = last.map_or("is empty".to_owned(), |last| format!("ends at entry {last}"));
        return Some(format!("its log {end}, and was seen with entry {committed}"));
    }
    let term = |vote: Option<Vote>| vote.map(|vote| vote.leader_id.term);
    if term(had.vote) < term(seen.vote) {
        return Some(format!("it has voted in term {}, of which it knows nothing", term(seen.vote).unwrap_or_default()));
    }
    None
}

/// Asks the others, then opens the gate and lets this server stand for election; raises the alarm if it is an old copy.
pub(super) async fn ask_before_voting(engine: Engine, pool: Pool, log: LastLog, gate: Gate, alarm: Alarm) {
    let started = Instant::now();
    let own = *engine.node_id();
    let mut answered = BTreeSet::new();
    loop {
        let membership = engine.metrics().borrow_watched().membership_config.membership().clone();
        let others = membership.voter_ids().filter(|id| *id != own && !answered.contains(id));
        let others: Vec<(RaftId, Uuid)> = others.filter_map(|id| Some((id, membership.get_node(&id)?.uuid))).collect();
        for (id, node, seen) in join_all(others.iter().map(|(id, node)| ask(&pool, *id, *node))).await.into_iter().flatten() {
            // as it is now: while the question was out a leader may have sent what the answer tells of
            let Some(had) = log.had() else { return };
            if let Some(what) = missing(&had, &seen) {
                alarm.raise(Failure::OldCopy { by: node, what });
                return;
            }
            answered.insert(id);
        }
        let all = others.iter().all(|(id, _)| answered.contains(id));
        let enough = || is_majority(&membership, &answered.iter().copied().chain([own]).collect());
        if !gate.is_open() && (all || started.elapsed() >= WAIT_MAX && enough()) {
            gate.0.store(true, Ordering::Release);
            engine.runtime_config().elect(true);
            if others.is_empty() && answered.is_empty() {
                engine.trigger().elect(false).await.ok(); // a lone voter waits for nobody; raft may have ended
            }
        }
        match pause(all, gate.is_open(), started.elapsed()) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return,
        }
    }
}

/// When those who did not answer are asked again; `None` if they are not. As long as this server does not vote it asks on: a quorum
/// may come back after hours, and needs it then.
fn pause(all_answered: bool, votes: bool, asked_for: Duration) -> Option<Duration> {
    match votes {
        _ if all_answered => None,
        true => (asked_for < ASK_MAX).then_some(AGAIN_LATER),
        false if asked_for < WAIT_MAX => Some(AGAIN),
        false => Some(AGAIN_WAITING),
    }
}

async fn ask(pool: &Pool, id: RaftId, node: Uuid) -> Option<(RaftId, Uuid, SeenOf)> {
    let target = Target { node, raft: Some(id.0) };
    let answer = pool.call(target, Method::SeenLog, Bytes::new(), ASK_TIMEOUT).await.ok()?;
    Some((id, node, SeenOf::decode(&answer).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_vote_yet_asks_without_end() {
        assert_eq!(pause(false, false, Duration::ZERO), Some(AGAIN));
        assert_eq!(pause(false, false, 100 * ASK_MAX), Some(AGAIN_WAITING));
        assert_eq!(pause(false, true, WAIT_MAX), Some(AGAIN_LATER));
        assert_eq!(pause(false, true, ASK_MAX), None);
        assert_eq!(pause(true, true, Duration::ZERO), None);
    }

    #[test]
    fn what_was_seen_and_is_not_there_is_told() {
        let vote = |term| {
            Some(Vote {
                leader_id: openraft::impls::leader_id_std::LeaderId { term, voted_for: RaftId::from(1) },
                committed: false,
            })
        };
        let at = |index| Some(LogId::new_term_index(1, index));
        let had = Had { vote: vote(5), last: at(9) };
        assert_eq!(missing(&had, &SeenOf::default()), None);
        assert_eq!(missing(&had, &SeenOf { vote: vote(5), committed: at(9) }), None);
        assert!(missing(&had, &SeenOf { vote: None, committed: at(10) }).unwrap().contains("entry 10"));
        assert!(missing(&had, &SeenOf { vote: vote(6), committed: None }).unwrap().contains("term 6"));
        let nothing = Had { vote: None, last: None };
        assert!(missing(&nothing, &SeenOf { vote: vote(1), committed: None }).is_some());
        let seen = SeenOf { vote: vote(6), committed: at(3) };
        assert_eq!(SeenOf::decode(&seen.encode()).unwrap(), seen);
    }
}
