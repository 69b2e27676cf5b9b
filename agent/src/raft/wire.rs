//! Raft's calls as they travel: MessagePack maps of our own. openraft documents its serde forms as unstable: none is ever sent.
//!
//! A field may be added with a default; a field that is there keeps its name and its meaning.

use bytes::Bytes;
use openraft::entry::RaftEntry as _;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::codec::{Fault, LogIdBody, PayloadBody, VoteBody};
use super::types::{Entry, LogId, RaftId, Types, Vote};

/// What travels in a call or its answer.
pub(super) trait Wire: Sized {
    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Result<Self, Fault>;
}

/// What a fuzzer may throw at raft: the bodies of its calls.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &[u8]) {
    drop(AppendEntriesRequest::<Types>::decode(bytes));
    drop(VoteRequest::<Types>::decode(bytes));
    drop(TransferLeaderRequest::<Types>::decode(bytes));
    drop(Piece::decode(bytes));
}

fn pack(body: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(body).expect("our own bodies have no unserialisable part, and a Vec takes all bytes")
}

fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    muster_catalog::unpack(bytes).map_err(|error| Fault::Content(error.to_string()))
}

// ---- entries -----------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
struct AppendBody {
    vote: VoteBody,
    #[serde(default)]
    prev: Option<LogIdBody>,
    #[serde(default)]
    commit: Option<LogIdBody>,
    #[serde(default)]
    entries: Vec<EntryOnWire>,
}

/// Short names: there are many of them.
#[derive(Serialize, Deserialize)]
struct EntryOnWire {
    #[serde(rename = "t")]
    term: u64,
    #[serde(rename = "i")]
    index: u64,
    #[serde(rename = "p")]
    payload: PayloadBody,
}

impl Wire for AppendEntriesRequest<Types> {
    fn encode(&self) -> Vec<u8> {
        let on_wire = |entry: &Entry| {
            let id = entry.log_id();
            EntryOnWire { term: *id.leader_id, index: id.index, payload: PayloadBody::from(&entry.payload) }
        };
        pack(&AppendBody {
            vote: self.vote.into(),
            prev: self.prev_log_id.map(LogIdBody::from),
            commit: self.leader_commit.map(LogIdBody::from),
            entries: self.entries.iter().map(on_wire).collect(),
        })
    }

    /// Entries that do not follow one another would be taken for what they are not: they are refused here.
    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let body: AppendBody = unpack(bytes)?;
        let prev_log_id = body.prev.map(LogId::from);
        let mut next = prev_log_id.map_or(0, |prev| prev.index.saturating_add(1));
        let mut entries = Vec::with_capacity(body.entries.len());
        for EntryOnWire { term, index, payload } in body.entries {
            if index != next {
                return Err(Fault::Content(format!("entry {index} stands where {next} should")));
            }
            next = next.saturating_add(1);
            entries.push(Entry::new(LogId::new_term_index(term, index), payload.try_into()?));
        }
        Ok(Self { vote: body.vote.into(), prev_log_id, entries, leader_commit: body.commit.map(LogId::from) })
    }
}

const SUCCESS: u8 = 0;
const PARTIAL: u8 = 1;
const CONFLICT: u8 = 2;
const HIGHER_VOTE: u8 = 3;

#[derive(Serialize, Deserialize)]
struct AppendAnswer {
    code: u8,
    #[serde(default)]
    matching: Option<LogIdBody>,
    #[serde(default)]
    vote: Option<VoteBody>,
}

impl Wire for AppendEntriesResponse<Types> {
    fn encode(&self) -> Vec<u8> {
        let (code, matching, vote) = match self {
            AppendEntriesResponse::Success => (SUCCESS, None, None),
            AppendEntriesResponse::PartialSuccess(matching) => (PARTIAL, *matching, None),
            AppendEntriesResponse::Conflict => (CONFLICT, None, None),
            AppendEntriesResponse::HigherVote(vote) => (HIGHER_VOTE, None, Some(*vote)),
        };
        pack(&AppendAnswer { code, matching: matching.map(LogIdBody::from), vote: vote.map(VoteBody::from) })
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let AppendAnswer { code, matching, vote } = unpack(bytes)?;
        match (code, vote) {
            (SUCCESS, _) => Ok(AppendEntriesResponse::Success),
            (PARTIAL, _) => Ok(AppendEntriesResponse::PartialSuccess(matching.map(LogId::from))),
            (CONFLICT, _) => Ok(AppendEntriesResponse::Conflict),
            (HIGHER_VOTE, Some(vote)) => Ok(AppendEntriesResponse::HigherVote(vote.into())),
            (code, _) => Err(Fault::Content(format!("no answer to entries has the code {code}"))),
        }
    }
}

// ---- votes -------------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
struct VoteCall {
    vote: VoteBody,
    #[serde(default)]
    last: Option<LogIdBody>,
    /// The leader has handed over or is proven dead: voters do not wait for its lease to end.
    #[serde(default)]
    leadership_transfer: bool,
}

impl Wire for VoteRequest<Types> {
    fn encode(&self) -> Vec<u8> {
        pack(&VoteCall {
            vote: self.vote.into(),
            last: self.last_log_id.map(LogIdBody::from),
            leadership_transfer: self.leadership_transfer,
        })
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let VoteCall { vote, last, leadership_transfer } = unpack(bytes)?;
        Ok(Self { vote: vote.into(), last_log_id: last.map(LogId::from), leadership_transfer })
    }
}

#[derive(Serialize, Deserialize)]
struct VoteAnswer {
    vote: VoteBody,
    granted: bool,
    #[serde(default)]
    last: Option<LogIdBody>,
}

impl Wire for VoteResponse<Types> {
    fn encode(&self) -> Vec<u8> {
        pack(&VoteAnswer { vote: self.vote.into(), granted: self.vote_granted, last: self.last_log_id.map(LogIdBody::from) })
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let VoteAnswer { vote, granted, last } = unpack(bytes)?;
        Ok(Self { vote: vote.into(), vote_granted: granted, last_log_id: last.map(LogId::from) })
    }
}

// ---- leadership --------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
struct TransferCall {
    from: VoteBody,
    to: Uuid,
    #[serde(default)]
    last: Option<LogIdBody>,
}

impl Wire for TransferLeaderRequest<Types> {
    fn encode(&self) -> Vec<u8> {
        pack(&TransferCall {
            from: (*self.from_leader()).into(),
            to: self.to_node_id().0,
            last: self.last_log_id().copied().map(LogIdBody::from),
        })
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let TransferCall { from, to, last } = unpack(bytes)?;
        Ok(Self::new(from.into(), RaftId(to), last.map(LogId::from)))
    }
}

#[derive(Serialize, Deserialize)]
struct TransferAnswer {
    code: u8,
    #[serde(default)]
    expected_vote: Option<VoteBody>,
    #[serde(default)]
    actual_vote: Option<VoteBody>,
    #[serde(default)]
    expected_log: Option<LogIdBody>,
    #[serde(default)]
    actual_log: Option<LogIdBody>,
}

const ACCEPTED: u8 = 0;
const VOTE_CHANGED: u8 = 1;
const LOG_NOT_FLUSHED: u8 = 2;

impl Wire for TransferLeaderResponse<Types> {
    fn encode(&self) -> Vec<u8> {
        let mut answer =
            TransferAnswer { code: ACCEPTED, expected_vote: None, actual_vote: None, expected_log: None, actual_log: None };
        match self {
            Ok(()) => {}
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                answer.code = VOTE_CHANGED;
                answer.expected_vote = Some((*expected).into());
                answer.actual_vote = Some((*actual).into());
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                answer.code = LOG_NOT_FLUSHED;
                answer.expected_log = expected.map(LogIdBody::from);
                answer.actual_log = actual.map(LogIdBody::from);
            }
        }
        pack(&answer)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let TransferAnswer { code, expected_vote, actual_vote, expected_log, actual_log } = unpack(bytes)?;
        match (code, expected_vote, actual_vote) {
            (ACCEPTED, ..) => Ok(Ok(())),
            (VOTE_CHANGED, Some(expected), Some(actual)) => {
                Ok(Err(TransferLeaderError::VoteChanged { expected: expected.into(), actual: actual.into() }))
            }
            (LOG_NOT_FLUSHED, ..) => Ok(Err(TransferLeaderError::LogNotFlushed {
                expected: expected_log.map(LogId::from),
                actual: actual_log.map(LogId::from),
            })),
            (code, ..) => Err(Fault::Content(format!("no answer to a hand-over has the code {code}"))),
        }
    }
}

// ---- snapshots ---------------------------------------------------------------------------------

/// A piece of a snapshot's file. The first has offset 0 and begins anew whatever was under way.
#[derive(Serialize, Deserialize)]
pub(super) struct Piece {
    vote: VoteBody,
    /// The head of the file, as it is sealed on disk: which entry it stands for, who the voters were.
    pub(super) head: Bytes,
    /// Bytes of the whole file, as far as its sender knows; 0 if not.
    #[serde(default)]
    pub(super) length: u64,
    pub(super) offset: u64,
    pub(super) data: Bytes,
    /// Nothing follows: the snapshot is to be installed.
    pub(super) last: bool,
}

impl Piece {
    pub(super) fn new(vote: Vote, head: Bytes, length: u64, (offset, data, last): (u64, Bytes, bool)) -> Self {
        Self { vote: vote.into(), head, length, offset, data, last }
    }

    pub(super) fn vote(&self) -> Vote {
        self.vote.into()
    }
}

impl Wire for Piece {
    fn encode(&self) -> Vec<u8> {
        pack(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        unpack(bytes)
    }
}

/// What the receiver says to a piece.
#[derive(Serialize, Deserialize)]
pub(super) struct PieceAnswer {
    /// Its vote, once the snapshot is installed or turned down for a newer leader's sake.
    #[serde(default)]
    vote: Option<VoteBody>,
}

impl PieceAnswer {
    pub(super) fn new(vote: Option<Vote>) -> Self {
        Self { vote: vote.map(VoteBody::from) }
    }

    pub(super) fn vote(&self) -> Option<Vote> {
        self.vote.map(Vote::from)
    }
}

impl Wire for PieceAnswer {
    fn encode(&self) -> Vec<u8> {
        pack(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        unpack(bytes)
    }
}
