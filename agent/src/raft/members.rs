//! Who the servers are: founding a cluster, letting servers in and out, handing leadership over.
#![allow(clippy::disallowed_methods)] // waits have an end

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::{ChangeMembers, RaftMetrics, ServerState};
use tokio::sync::watch;
use uuid::Uuid;

use super::engine::Raft;
use super::error::{MemberError, WriteError};
use super::links::{Missing, Server};
use super::status::known;
use super::types::{Peer, RaftId, Types};

/// Entries that a learner may be behind when it is given its vote: it catches up while the change is under way, and until
/// then its missing acknowledgement would hold up writes.
const LAG_MAX: u64 = 256;
/// How long a server that is let in may take to catch up; 61 MB of state and 200 000 entries took 0.4 s.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);
/// How often progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A follower that has not answered for this long is not handed the leadership: three heartbeats.
const SILENCE_MAX: Duration = Duration::from_millis(300);

impl Raft {
    /// Founds a cluster of these servers, if this one's log has never seen anything and its directory names no other servers;
    /// returns whether it did. Every server must be given the same set, or only one of them any: the one with the lowest raft
    /// id ([`Raft::is_founder`]) does it, the others wait.
    pub async fn found(&self, servers: &BTreeMap<RaftId, Uuid>) -> Result<bool, WriteError> {
        if !self.running.pristine || !servers.contains_key(&self.running.id) {
            return Ok(false);
        }
        let members: BTreeMap<RaftId, Peer> = servers.iter().map(|(id, node)| (*id, Peer { uuid: *node })).collect();
        match self.running.engine.initialize(members).await {
            Ok(()) => Ok(true),
            Err(RaftError::APIError(InitializeError::NotAllowed(_) | InitializeError::NotInMembers(_))) => Ok(false),
            Err(RaftError::Fatal(_)) => Err(WriteError::Stopped),
        }
    }

    /// Whether of these servers this one is to found the cluster.
    pub fn is_founder(&self, servers: &BTreeMap<RaftId, Uuid>) -> bool {
        servers.keys().next() == Some(&self.running.id)
    }

    /// Whether this server's log has never seen anything, and nothing in its directory names a cluster.
    pub fn is_pristine(&self) -> bool {
        self.running.pristine && self.running.metrics.borrow_watched().membership_config.log_id().is_none()
    }

    /// All servers of the cluster, with what the leader knows of each.
    pub fn servers(&self) -> Vec<Server> {
        let metrics = self.running.engine.metrics();
        let metrics = metrics.borrow_watched();
        servers(&metrics, &self.running.seen)
    }

    /// Voters that this server does not hear, and since when.
    pub fn missing(&self) -> Vec<Missing> {
        self.running.links.missing()
    }

    /// Lets a server in: it learns the log first and gets its vote when it has caught up. Voters of the same node under another
    /// raft id, and those in `replaced`, go in the same change: a disk that was wiped never counts twice. Only on the leader.
    pub async fn add_server(&self, id: RaftId, node: Uuid, replaced: &BTreeSet<RaftId>) -> Result<(), MemberError> {
        if self.running.seen.is_lost(id) {
            return Err(MemberError::LostLog { id, node });
        }
        let before = self.servers();
        let is_voter = |id: RaftId| before.iter().any(|server| server.id == id && server.voter);
        let gone: BTreeSet<RaftId> = before
            .iter()
            .filter(|server| server.id != id && (server.node == node || replaced.contains(&server.id)))
            .map(|server| server.id)
            .collect();
        if is_voter(id) && gone.is_empty() {
            return Ok(());
        }
        if !is_voter(id) {
            let learner = self.running.engine.add_learner(id, Peer { uuid: node }, false).await;
            learner.map_err(|error| member_error(&error))?;
            self.caught_up(id, node).await?;
        }
        let (old_voters, old_learners): (BTreeSet<RaftId>, BTreeSet<RaftId>) = gone.iter().partition(|id| is_voter(**id));
        let mut changes = vec![ChangeMembers::AddVoterIds(BTreeSet::from([id]))];
        if !old_voters.is_empty() {
            changes.push(ChangeMembers::RemoveVoters(old_voters));
        }
        if !old_learners.is_empty() {
            changes.push(ChangeMembers::RemoveNodes(old_learners));
        }
        let changed = self.running.engine.change_membership(ChangeMembers::Batch(changes), false).await;
        changed.map_err(|error| member_error(&error))?;
        tracing::info!(server = %id, %node, replaced = ?gone, "a server votes now");
        Ok(())
    }

    /// Takes servers out, all at once. What is left must hold a quorum that answers; the leader itself is not among them (hand
    /// over first). Only on the leader.
    pub async fn remove_servers(&self, ids: &BTreeSet<RaftId>) -> Result<(), MemberError> {
        if ids.contains(&self.running.id) {
            return Err(MemberError::IsLeader);
        }
        let all = self.servers();
        let left: Vec<&Server> = all.iter().filter(|server| server.voter && !ids.contains(&server.id)).collect();
        let lives = |server: &Server| server.last_contact.is_none_or(|silence| silence < SILENCE_MAX * 2);
        let answering = left.iter().filter(|server| lives(server)).count();
        if left.is_empty() || answering <= left.len() / 2 {
            return Err(MemberError::Quorum { left: left.len(), answering });
        }
        let named = all.iter().filter(|server| ids.contains(&server.id));
        let (voters, learners): (Vec<&Server>, Vec<&Server>) = named.partition(|server| server.voter);
        let set = |servers: Vec<&Server>| servers.iter().map(|server| server.id).collect::<BTreeSet<_>>();
        let mut changes = Vec::new();
        if !voters.is_empty() {
            changes.push(ChangeMembers::RemoveVoters(set(voters)));
        }
        if !learners.is_empty() {
            changes.push(ChangeMembers::RemoveNodes(set(learners)));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let changed = self.running.engine.change_membership(ChangeMembers::Batch(changes), false).await;
        changed.map_err(|error| member_error(&error))?;
        tracing::info!(servers = ?ids, "servers were taken out of the cluster");
        Ok(())
    }

    /// Hands leadership over, to this voter or to the one that is furthest; returns who leads then. Writes wait meanwhile: the
    /// old leader takes none from the moment it hands over, and a target that is level can begin at once. A target that turns
    /// out to be dead costs the election timers, so only one that answers is asked.
    pub async fn transfer_leader(&self, to: Option<RaftId>, limit: Duration) -> Result<(RaftId, Uuid), MemberError> {
        if !self.is_leader() {
            return Err(MemberError::NotLeader { leader: self.leader() });
        }
        let until = Instant::now() + limit;
        let _pause = Pause::begin(&self.pause);
        let target = loop {
            match self.level_follower(to)? {
                Some(target) => break target,
                None if Instant::now() >= until => return Err(MemberError::NobodyLevel),
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        self.running.engine.trigger().transfer_leader(target).await.map_err(|_| MemberError::Stopped)?;
        let own = self.running.id;
        let other_leads = |m: &RaftMetrics<Types>| m.current_leader.is_some_and(|leader| leader != own);
        let left = until.saturating_duration_since(Instant::now());
        let waited = self.running.engine.wait(Some(left)).metrics(other_leads, "another leader").await;
        match waited.ok().and_then(|metrics| super::status::leader(&metrics)) {
            Some(leader) => Ok(leader),
            None => Err(MemberError::TransferTimeout { to: target }),
        }
    }

    /// The voter to hand over to, if it has all that this leader has.
    fn level_follower(&self, to: Option<RaftId>) -> Result<Option<RaftId>, MemberError> {
        let last = self.running.last.get().map(|id| id.index);
        let own = self.running.id;
        let voters = self.servers().into_iter().filter(|server| server.voter && server.id != own);
        let wanted: Vec<Server> = voters.filter(|server| to.is_none_or(|to| to == server.id)).collect();
        if wanted.is_empty() {
            return Err(MemberError::NoSuchVoter { id: to });
        }
        let answers = |server: &&Server| server.last_contact.is_some_and(|silence| silence < SILENCE_MAX) && !server.lost_log;
        let level = wanted.iter().filter(answers).find(|server| server.matching >= last);
        Ok(level.map(|server| server.id))
    }

    /// Returns when the learner is close behind.
    async fn caught_up(&self, id: RaftId, node: Uuid) -> Result<(), MemberError> {
        let until = Instant::now() + CATCH_UP_MAX;
        loop {
            if !self.is_leader() {
                return Err(MemberError::NotLeader { leader: self.leader() });
            }
            let last = self.running.last.get().map_or(0, |id| id.index);
            let servers = self.servers();
            match servers.iter().find(|server| server.id == id) {
                Some(server) if server.lost_log => return Err(MemberError::LostLog { id, node }),
                Some(server) if server.matching.is_some_and(|index| index + LAG_MAX >= last) => return Ok(()),
                Some(_) | None if Instant::now() >= until => return Err(MemberError::Slow { id, node }),
                Some(_) | None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

/// New writes wait as long as one of these lives.
struct Pause<'a>(&'a watch::Sender<bool>);

impl<'a> Pause<'a> {
    fn begin(pause: &'a watch::Sender<bool>) -> Self {
        pause.send_replace(true);
        Self(pause)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

fn servers(metrics: &RaftMetrics<Types>, seen: &super::seen::SeenLogs) -> Vec<Server> {
    use openraft::Instant as _;
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<RaftId> = membership.voter_ids().collect();
    let leads = metrics.state == ServerState::Leader;
    let server = |(id, peer): (&RaftId, &Peer)| {
        let own = *id == metrics.id;
        let matched = metrics.replication.as_ref().and_then(|all| all.get(id)).copied().flatten();
        let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(id)).copied().flatten();
        Server {
            id: *id,
            node: peer.uuid,
            voter: voters.contains(id),
            matching: if own { metrics.last_log_index } else { matched.map(|id| id.index) }.filter(|_| leads),
            last_contact: heard.map(|at| at.elapsed()).filter(|_| leads && !own),
            lost_log: seen.is_lost(*id),
        }
    };
    membership.nodes().map(server).collect()
}

fn member_error(error: &RaftError<Types, ClientWriteError<Types>>) -> MemberError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => MemberError::NotLeader { leader: known(to) },
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => MemberError::Undecided,
        RaftError::APIError(error) => MemberError::Refused { what: error.to_string() },
        RaftError::Fatal(_) => MemberError::Stopped,
    }
}
