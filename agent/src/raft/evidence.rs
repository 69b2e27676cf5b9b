//! A lost leader is evidence: its connection closed, its port refuses, a majority of the voters has seen so. Then the one with
//! the longest log stands for election at once, and no timer is waited for.
//!
//! It gives up the leader's lease and nothing else: what is held is a real election, in a new term, which each voter still
//! refuses to a shorter log. Evidence against a leader that lives costs an election and loses nothing. Guards: only a voter;
//! once for each vote; the vote is committed, names that leader, and is this server's newest; a majority of the current voters,
//! this one included, holds the proof.
#![allow(clippy::disallowed_methods)] // each probe is a task of its own, which ends by itself

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::TransferLeaderRequest;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::codec::{Fault, LogIdBody, VoteBody};
use super::log::LastLog;
use super::machine::Engine;
use super::types::{LogId, Membership, RaftId, Vote};
use super::wire::Wire;
use crate::rpc::{Found, Method, Pool, Target};

/// Notices that may wait: a handful of connections close at once. One that is lost costs the timers.
pub(super) const NOTICES_MAX: usize = 64;

/// A killed process may accept for some milliseconds and then reset, so its port is asked again; measured 1 to 3 ms.
const PROBES_MAX: u32 = 50;
const PROBE_EVERY: Duration = Duration::from_millis(1);
/// No answer in this time is no proof: a stopped process, a dead host, a lost packet look the same.
const PROBE_TIMEOUT: Duration = Duration::from_millis(100);
/// Time to tell the others: over connections that stand, a millisecond is usual.
const TELL_TIMEOUT: Duration = Duration::from_millis(200);
/// How long the one with a majority waits for those voters that have not spoken yet, one of which may have a longer log.
const SETTLE: Duration = Duration::from_millis(3);

/// What the task is told.
#[derive(Debug)]
pub(super) enum Notice {
    /// A connection of this voter's closed here.
    Closed(RaftId),
    /// Another voter has seen the leader's port refuse.
    Told { by: RaftId, gone: Gone },
    /// This server has, or has not.
    Probed { vote: Vote, proven: bool },
    /// Enough was waited.
    Settled(Vote),
}

/// What voters tell one another: the leader of this vote is gone, and this is how far my log goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    pub(super) vote: Vote,
    pub(super) last: Option<LogId>,
}

#[derive(Serialize, Deserialize)]
struct GoneBody {
    vote: VoteBody,
    #[serde(default)]
    last: Option<LogIdBody>,
}

impl Wire for Gone {
    fn encode(&self) -> Vec<u8> {
        let body = GoneBody { vote: self.vote.into(), last: self.last.map(LogIdBody::from) };
        rmp_serde::to_vec_named(&body).expect("numbers can be written to memory")
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let body: GoneBody = muster_catalog::unpack(bytes).map_err(|error| Fault::Content(error.to_string()))?;
        Ok(Self { vote: body.vote.into(), last: body.last.map(LogId::from) })
    }
}

/// Gathers proofs and acts on them.
pub(super) struct Evidence {
    engine: Engine,
    pool: Pool,
    log: LastLog,
    notices: mpsc::Sender<Notice>,
    /// Who has proof about the leader of this vote, and how far its log goes.
    vote: Option<Vote>,
    proofs: BTreeMap<RaftId, Option<LogId>>,
    probing: bool,
    settling: bool,
    /// The vote on which this server has acted: once is enough.
    acted: Option<Vote>,
}

impl Evidence {
    pub(super) fn new(engine: Engine, pool: Pool, log: LastLog, notices: mpsc::Sender<Notice>) -> Self {
        let (vote, proofs) = (None, BTreeMap::new());
        Self { engine, pool, log, notices, vote, proofs, probing: false, settling: false, acted: None }
    }

    /// Runs as long as raft does.
    pub(super) async fn gather(mut self, mut waiting: mpsc::Receiver<Notice>) {
        while let Some(notice) = waiting.recv().await {
            self.take(notice).await;
        }
    }

    async fn take(&mut self, notice: Notice) {
        // the leader of the newest vote here, if it has one and this server may elect another
        let Some((vote, membership)) = self.standing() else { return };
        if self.vote != Some(vote) {
            self.vote = Some(vote);
            self.proofs.clear();
            (self.probing, self.settling) = (false, false);
        }
        match notice {
            Notice::Closed(id) if id == vote.leader_id.voted_for => self.probe(vote, &membership),
            Notice::Told { by, gone } if gone.vote == vote && is_voter(&membership, by) => {
                self.proofs.insert(by, gone.last);
                self.probe(vote, &membership);
                self.consider(vote, &membership).await;
            }
            Notice::Probed { vote: probed, proven } if probed == vote => {
                self.probing = false;
                if proven {
                    self.proofs.insert(self.own(), self.log.get());
                    self.tell(vote, &membership);
                    self.consider(vote, &membership).await;
                }
            }
            Notice::Settled(settled) if settled == vote => self.elect(vote, &membership).await,
            Notice::Closed(_) | Notice::Told { .. } | Notice::Probed { .. } | Notice::Settled(_) => {}
        }
    }

    fn own(&self) -> RaftId {
        *self.engine.node_id()
    }

    fn standing(&self) -> Option<(Vote, Membership)> {
        let metrics = self.engine.metrics();
        let metrics = metrics.borrow_watched();
        let (vote, own) = (metrics.vote, self.own());
        let membership = metrics.membership_config.membership();
        let of_another = vote.committed && vote.leader_id.voted_for != own;
        (of_another && is_voter(membership, own)).then(|| (vote, membership.clone()))
    }

    /// Knocks at the leader's port until it refuses or answers.
    fn probe(&mut self, vote: Vote, membership: &Membership) {
        let leader = vote.leader_id.voted_for;
        if self.probing || self.acted == Some(vote) || self.proofs.contains_key(&self.own()) {
            return;
        }
        let Some(peer) = membership.get_node(&leader) else { return };
        self.probing = true;
        let (pool, notices) = (self.pool.clone(), self.notices.clone());
        let target = Target { node: peer.uuid, raft: Some(leader.0) };
        tokio::spawn(async move {
            let proven = is_refused(&pool, target).await;
            notices.send(Notice::Probed { vote, proven }).await.ok(); // raft has ended
        });
    }

    /// Tells the other voters; nobody waits for them.
    fn tell(&self, vote: Vote, membership: &Membership) {
        let gone = Bytes::from(Gone { vote, last: self.log.get() }.encode());
        let (own, leader) = (self.own(), vote.leader_id.voted_for);
        for (id, peer) in membership.nodes() {
            if *id == own || *id == leader || !is_voter(membership, *id) {
                continue;
            }
            let (pool, gone, target) = (self.pool.clone(), gone.clone(), Target { node: peer.uuid, raft: Some(id.0) });
            tokio::spawn(async move {
                if let Err(error) = pool.call(target, Method::LeaderGone, gone, TELL_TIMEOUT).await {
                    tracing::debug!(%error, "a voter was not told that the leader is gone");
                }
            });
        }
    }

    /// A majority has proof: elect at once if nobody else can come, soon if somebody can.
    async fn consider(&mut self, vote: Vote, membership: &Membership) {
        let own = self.own();
        if self.acted == Some(vote) || self.settling || !self.proofs.contains_key(&own) {
            return;
        }
        let holders: BTreeSet<RaftId> = self.proofs.keys().copied().collect();
        if !is_majority(membership, &holders) {
            return;
        }
        let leader = vote.leader_id.voted_for;
        if membership.voter_ids().all(|id| id == leader || holders.contains(&id)) {
            self.elect(vote, membership).await;
            return;
        }
        self.settling = true;
        let notices = self.notices.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SETTLE).await;
            notices.send(Notice::Settled(vote)).await.ok(); // raft has ended
        });
    }

    /// The one with the longest log stands; of equal ones the lowest id.
    async fn elect(&mut self, vote: Vote, membership: &Membership) {
        let own = self.own();
        let voters = self.proofs.iter().filter(|(id, _)| is_voter(membership, **id));
        let best = voters.max_by(|(a, log_a), (b, log_b)| log_a.cmp(log_b).then(b.cmp(a))).map(|(id, _)| *id);
        if self.acted == Some(vote) || best.is_none() {
            return;
        }
        self.acted = Some(vote);
        let leader = vote.leader_id.voted_for;
        if best != Some(own) {
            tracing::info!(%leader, "the leader is gone: its port refuses; another server stands for election");
            return;
        }
        tracing::info!(%leader, proofs = self.proofs.len(), "the leader is gone: its port refuses; this server stands for election");
        let request = TransferLeaderRequest::new(vote, own, self.log.get());
        let engine = self.engine.clone();
        tokio::spawn(async move {
            match engine.handle_transfer_leader(request).await {
                Ok(Ok(())) => {}
                Ok(Err(stale)) => tracing::info!(%stale, "the election was not held: something newer was heard"),
                Err(fatal) => tracing::debug!(%fatal, "no election: raft has ended"),
            }
        });
    }
}

fn is_voter(membership: &Membership, id: RaftId) -> bool {
    membership.voter_ids().any(|voter| voter == id)
}

/// A majority of each set of voters: there are two while a change is under way.
pub(super) fn is_majority(membership: &Membership, holders: &BTreeSet<RaftId>) -> bool {
    let sets = membership.get_joint_config();
    !sets.is_empty() && sets.iter().all(|voters| voters.intersection(holders).count() > voters.len() / 2)
}

async fn is_refused(pool: &Pool, target: Target) -> bool {
    for _ in 0..PROBES_MAX {
        match pool.probe(target, PROBE_TIMEOUT).await {
            Found::Refused => return true,
            Found::Alive | Found::Silence => return false,
            Found::Ended => tokio::time::sleep(PROBE_EVERY).await,
        }
    }
    false
}

/// The voter of a peer that sent this.
pub(super) fn told(by: Uuid, gone: Gone) -> Notice {
    Notice::Told { by: RaftId(by), gone }
}
