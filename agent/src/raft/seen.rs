//! How much committed log each peer was seen to have: one that returns with less was restored from an old copy of its disk, or
//! its disk lies about what is written. It may have forgotten votes as well, so nothing of it counts any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use uuid::Uuid;

use super::guard::SeenOf;
use super::types::{LogId, RaftId, Types, Vote};

/// Voters that are remembered: those of a cluster over its life, as far as a leader has seen it.
const VOTERS_MAX: usize = 256;

/// What this server has seen of others: while it led, and when they stood for election. Clones are the same memory.
#[derive(Clone, Debug, Default)]
pub(super) struct SeenLogs(Arc<Mutex<BTreeMap<RaftId, Seen>>>);

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Last entry that was committed and on the peer's disk.
    committed: Option<LogId>,
    /// The newest vote that it has granted this server, or asked it for.
    vote: Option<Vote>,
    /// It has been seen with less since.
    lost: bool,
}

/// A peer has less than it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it had entry {had} on its disk and has it no more: its data directory is an old copy, or the disk lost what it had \
     written. Stop it, move its data directory away and start it again: it then joins as a new server"
)]
pub(super) struct LostLog {
    had: u64,
}

impl SeenLogs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RaftId, Seen>> {
        self.0.lock().expect("no holder panics: they compare numbers")
    }

    /// Takes note of a peer's answer to entries, and tells whether it can be believed.
    pub(super) fn judge(
        &self,
        id: RaftId,
        node: Uuid,
        rpc: &AppendEntriesRequest<Types>,
        answer: &AppendEntriesResponse<Types>,
    ) -> Result<(), LostLog> {
        use openraft::entry::RaftEntry as _;
        let mut all = self.lock();
        if all.len() >= VOTERS_MAX && !all.contains_key(&id) {
            all.clear();
        }
        let seen = all.entry(id).or_default();
        let had = seen.committed.map_or(0, |id| id.index);
        match answer {
            _ if seen.lost => return Err(LostLog { had }),
            AppendEntriesResponse::Success => {
                let matching = rpc.entries.last().map(|entry| entry.log_id()).or(rpc.prev_log_id);
                // only what is committed can never be taken back in order
                seen.committed = seen.committed.max(matching.min(rpc.leader_commit));
            }
            // an entry that is committed and was there is not: no leader has ever asked a peer to remove one
            AppendEntriesResponse::Conflict if seen.committed.is_some() && rpc.prev_log_id <= seen.committed => {
                seen.lost = true;
                let lost = LostLog { had };
                tracing::error!(peer = %node, voter = %id, "a server is not let in: {lost}");
                return Err(lost);
            }
            AppendEntriesResponse::Conflict | AppendEntriesResponse::PartialSuccess(_) | AppendEntriesResponse::HigherVote(_) => {
            }
        }
        Ok(())
    }

    /// The peer has granted this server its vote, or stands for election itself: either is on its disk before it says so.
    pub(super) fn voted(&self, id: RaftId, vote: Vote) {
        let mut all = self.lock();
        if all.len() < VOTERS_MAX || all.contains_key(&id) {
            let seen = all.entry(id).or_default();
            if seen.vote.is_none_or(|known| known < vote) {
                seen.vote = Some(vote);
            }
        }
    }

    /// What was seen of the peer: it asks when it starts.
    pub(super) fn of(&self, id: RaftId) -> SeenOf {
        let seen = self.lock().get(&id).copied().unwrap_or_default();
        SeenOf { vote: seen.vote, committed: seen.committed }
    }

    /// Whether the peer was seen with less log than it had.
    pub(super) fn is_lost(&self, id: RaftId) -> bool {
        self.lock().get(&id).is_some_and(|seen| seen.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(prev: u64, commit: u64) -> AppendEntriesRequest<Types> {
        let leader_id = openraft::impls::leader_id_std::LeaderId { term: 1, voted_for: RaftId::from(9) };
        let vote = openraft::Vote { leader_id, committed: true };
        let at = |index| Some(LogId::new_term_index(1, index));
        AppendEntriesRequest { vote, prev_log_id: at(prev), entries: Vec::new(), leader_commit: at(commit) }
    }

    #[test]
    fn only_a_committed_entry_that_was_there_and_is_not_is_a_loss() {
        let (seen, id, node) = (SeenLogs::default(), RaftId::from(1), Uuid::from_u128(1));
        let judge = |rpc: &AppendEntriesRequest<Types>, answer| seen.judge(id, node, rpc, &answer);
        assert_eq!(judge(&append(9, 9), AppendEntriesResponse::Conflict), Ok(()), "nothing was seen yet");
        assert_eq!(judge(&append(9, 5), AppendEntriesResponse::Success), Ok(()));
        assert_eq!(judge(&append(7, 5), AppendEntriesResponse::Conflict), Ok(()), "it was never committed");
        assert!(!seen.is_lost(id));
        assert_eq!(judge(&append(5, 5), AppendEntriesResponse::Conflict), Err(LostLog { had: 5 }));
        assert_eq!(judge(&append(3, 9), AppendEntriesResponse::Success), Err(LostLog { had: 5 }), "nothing of it counts");
        assert!(seen.is_lost(id) && !seen.is_lost(RaftId::from(2)));
    }
}
