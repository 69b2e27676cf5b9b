//! Commands that are written by another agent: gathered on the way there, stamped with the leader's time where they arrive.
//!
//! Whatever waits for one peer goes in one call, without waiting for more: a lone command leaves at once, and many come together
//! while calls are under way.
#![allow(clippy::disallowed_methods)] // each peer has a task that gathers, and each call one that waits; both end with the forwarder

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use metrics::Histogram;
use muster_catalog::{Index, Outcome, Proposal};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use uuid::Uuid;

use super::times;
use crate::raft::{Raft, RaftId, WriteError};
use crate::rpc::{CallError, Code, Method, Pool, Refusal};

/// Commands that may wait for one peer; more wait at their doors. A few rounds of what one agent may have in flight.
const WAITING_MAX: usize = 4096;
/// Commands in one call.
const BATCH_MAX: usize = 512;
/// Bytes of commands in one call, unless one alone is longer; half of what the method may carry.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Calls under way to one peer: one that waits for a slow disk does not hold up the next, and more would only make batches smaller.
const CALLS_MAX: usize = 4;
/// Peers that are remembered: leaders of a cluster's life.
const PEERS_MAX: usize = 16;

/// Brings commands to other agents. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Forwarder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: Pool,
    peers: Mutex<BTreeMap<Uuid, mpsc::Sender<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    proposal: Bytes,
    deadline: Duration,
    answer: oneshot::Sender<Forwarded>,
}

type Forwarded = Result<(Index, Outcome), ForwardError>;

/// A command that came back without an outcome.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ForwardError {
    /// It was certainly not written: another agent may be asked.
    #[error("the command did not get there: {0}")]
    Undone(String),
    /// It may have been written: retry it under the same number, which is then applied once.
    #[error("whether the command was written is not known: {0}")]
    Unknown(String),
    /// The agent that was asked says this of it.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Forwarder {
    pub(crate) fn new(pool: Pool) -> Self {
        Self(Arc::new(Inner { pool, peers: Mutex::default() }))
    }

    /// Has a command written by that node, which should be the leader, and waits for its outcome.
    pub(crate) async fn write(&self, to: Uuid, proposal: Bytes, deadline: Duration) -> Forwarded {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue(to);
        let waited = tokio::time::timeout(deadline, async {
            if queue.send(Waiting { proposal, deadline, answer }).await.is_err() {
                return Err(ForwardError::Undone("this agent is stopping".to_owned()));
            }
            answered.await.unwrap_or_else(|_| Err(ForwardError::Unknown("this agent is stopping".to_owned())))
        });
        waited.await.unwrap_or_else(|_| Err(ForwardError::Unknown(format!("no answer within {deadline:?}"))))
    }

    fn queue(&self, to: Uuid) -> mpsc::Sender<Waiting> {
        let mut peers = self.0.peers.lock().expect("no holder panics: a map of channels");
        if let Some(queue) = peers.get(&to).filter(|queue| !queue.is_closed()) {
            return queue.clone();
        }
        if peers.len() >= PEERS_MAX {
            peers.clear(); // what waits there is still sent: the senders' clones live as long as they wait
        }
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(gather(self.0.pool.clone(), to, waiting));
        peers.insert(to, queue.clone());
        queue
    }
}

/// Takes what waits, and sends it, as long as there is anybody who could have it sent.
async fn gather(pool: Pool, to: Uuid, mut waiting: mpsc::Receiver<Waiting>) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    let mut next: Option<Waiting> = None;
    loop {
        let Some(first) = (match next.take() {
            Some(first) => Some(first),
            None => waiting.recv().await,
        }) else {
            return;
        };
        let Ok(call) = calls.clone().acquire_owned().await else { return };
        let mut bytes = first.proposal.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(one) = waiting.try_recv()
        {
            if bytes + one.proposal.len() > BATCH_BYTES_MAX {
                next = Some(one);
                break;
            }
            bytes += one.proposal.len();
            batch.push(one);
        }
        let pool = pool.clone();
        tokio::spawn(async move {
            send(&pool, to, batch).await;
            drop(call);
        });
    }
}

async fn send(pool: &Pool, to: Uuid, mut batch: Vec<Waiting>) {
    batch.retain(|one| !one.answer.is_closed()); // who asked has given up, and nothing was sent yet
    let Some(deadline) = batch.iter().map(|one| one.deadline).max() else { return };
    let body = join(batch.iter().map(|one| &one.proposal));
    let answers = match pool.call(to, Method::Write, body, deadline).await {
        Ok(answer) => match muster_catalog::unpack::<Vec<AnswerBody>>(&answer) {
            Ok(answers) if answers.len() == batch.len() => answers.into_iter().map(Forwarded::from).collect(),
            Ok(_) => vec![Err(ForwardError::Unknown("another number of answers came back".to_owned())); batch.len()],
            Err(error) => vec![Err(ForwardError::Unknown(error.to_string())); batch.len()],
        },
        Err(error) => vec![Err(not_done(&error)); batch.len()],
    };
    for (one, answer) in batch.into_iter().zip(answers) {
        one.answer.send(answer).ok(); // who asked has given up
    }
}

fn not_done(error: &CallError) -> ForwardError {
    if error.is_undone() { ForwardError::Undone(error.to_string()) } else { ForwardError::Unknown(error.to_string()) }
}

/// Commands one after the other, each with its length before it.
fn join<'a>(proposals: impl Iterator<Item = &'a Bytes>) -> Bytes {
    let mut body = BytesMut::new();
    for proposal in proposals {
        body.put_u32(proposal.len() as u32);
        body.put_slice(proposal);
    }
    body.freeze()
}

fn split(mut body: Bytes) -> Result<Vec<Bytes>, Refusal> {
    let mut proposals = Vec::new();
    while let Some(length) = body.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize) {
        body.advance(4);
        if length > body.len() || proposals.len() >= BATCH_MAX {
            return Err(Refusal::new(Code::Body, "the commands are not whole, or too many"));
        }
        proposals.push(body.split_to(length));
    }
    if body.is_empty() { Ok(proposals) } else { Err(Refusal::new(Code::Body, "the commands are not whole")) }
}

/// Writes the commands that another agent has sent here, and encodes what came of each. `now_ms` is this agent's clock, and no
/// earlier than the last time in the catalog: as the leader's it decides.
pub(crate) async fn write_forwarded(raft: &Raft, body: Bytes, now_ms: u64) -> Result<Bytes, Refusal> {
    let proposals = split(body)?;
    if !raft.is_leader() {
        // nothing is encoded anew for nobody
        let leader = raft.leader();
        let answers = vec![AnswerBody::from(Err(WriteError::NotLeader { leader })); proposals.len()];
        return Ok(encode(&answers));
    }
    // one that is not understood here would stop every server that is to apply it: it must not enter the log
    let mut answers: Vec<Option<AnswerBody>> = Vec::with_capacity(proposals.len());
    let mut stamped = Vec::with_capacity(proposals.len());
    let (began, mut timers) = (Instant::now(), Vec::with_capacity(proposals.len()));
    for proposal in proposals {
        match stamp(&proposal, now_ms) {
            Ok((bytes, timer)) => {
                stamped.push(bytes);
                timers.extend(timer);
                answers.push(None);
            }
            Err(what) => answers.push(Some(AnswerBody::not_understood(what))),
        }
    }
    let mut written = raft.write_many(stamped).await.into_iter();
    let took = began.elapsed().as_secs_f64() * 1e3;
    timers.into_iter().for_each(|timer| timer.record(took));
    let answers: Vec<AnswerBody> = answers
        .into_iter()
        .map(|answer| answer.unwrap_or_else(|| AnswerBody::from(written.next().unwrap_or(Err(WriteError::Stopped)))))
        .collect();
    Ok(encode(&answers))
}

fn encode(answers: &[AnswerBody]) -> Bytes {
    rmp_serde::to_vec_named(answers).expect("plain data can be written to memory").into()
}

/// A command with the leader's time in it; the door's own time is told in its cause alone. And what its time is told to.
fn stamp(proposal: &[u8], now_ms: u64) -> Result<(Bytes, Option<&'static Histogram>), String> {
    let mut proposal = Proposal::decode(proposal).map_err(|error| error.to_string())?;
    proposal.time_ms = now_ms;
    Ok((proposal.encode().into(), times::of(&proposal.command)))
}

// ---- what came of a command, as it travels -----------------------------------------------------

#[derive(Debug, Clone, Serialize, Deserialize)]
struct AnswerBody {
    #[serde(rename = "i", default)]
    index: Index,
    #[serde(rename = "o", default)]
    outcome: Option<Outcome>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    leader: Option<(Uuid, Uuid)>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    bytes: (u64, u64),
}

const NOT_LEADER: &str = "not_leader";
const UNDECIDED: &str = "undecided";
const BUSY: &str = "busy";
const DISK_FULL: &str = "disk_full";
const TOO_LARGE: &str = "too_large";
const STOPPED: &str = "stopped";
const NOT_UNDERSTOOD: &str = "not_understood";

impl AnswerBody {
    fn failed(error: ErrorBody) -> Self {
        Self { index: 0, outcome: None, error: Some(error) }
    }

    fn not_understood(text: String) -> Self {
        Self::failed(ErrorBody { code: NOT_UNDERSTOOD.to_owned(), text, ..ErrorBody::default() })
    }
}

impl From<Result<(Index, Outcome), WriteError>> for AnswerBody {
    fn from(written: Result<(Index, Outcome), WriteError>) -> Self {
        let error = match written {
            Ok((index, outcome)) => return Self { index, outcome: Some(outcome), error: None },
            Err(error) => error,
        };
        let mut body = ErrorBody::default();
        let code = match error {
            WriteError::NotLeader { leader } => {
                body.leader = leader.map(|(id, node)| (id.uuid(), node));
                NOT_LEADER
            }
            WriteError::Undecided => UNDECIDED,
            WriteError::Busy => BUSY,
            WriteError::DiskFull { path } => {
                body.text = path.to_string_lossy().into_owned();
                DISK_FULL
            }
            WriteError::TooLarge { bytes, max } => {
                body.bytes = (bytes as u64, max as u64);
                TOO_LARGE
            }
            WriteError::Stopped => STOPPED,
        };
        body.code = code.to_owned();
        Self::failed(body)
    }
}

impl From<AnswerBody> for Forwarded {
    fn from(body: AnswerBody) -> Self {
        let error = match (body.outcome, body.error) {
            (Some(outcome), None) => return Ok((body.index, outcome)),
            (None, None) => return Err(ForwardError::Unknown("the answer holds neither an outcome nor an error".to_owned())),
            (_, Some(error)) => error,
        };
        Err(match error.code.as_str() {
            NOT_LEADER => {
                let leader = error.leader.map(|(id, node)| (RaftId::of(id), node));
                WriteError::NotLeader { leader }.into()
            }
            UNDECIDED => WriteError::Undecided.into(),
            BUSY => WriteError::Busy.into(),
            DISK_FULL => WriteError::DiskFull { path: PathBuf::from(error.text) }.into(),
            TOO_LARGE => WriteError::TooLarge { bytes: error.bytes.0 as usize, max: error.bytes.1 as usize }.into(),
            NOT_UNDERSTOOD => ForwardError::Undone(format!("the leader does not understand it: {}", error.text)),
            // of that server; whether it was logged is not known
            STOPPED => ForwardError::Unknown("raft has stopped there".to_owned()),
            other => ForwardError::Unknown(format!("an error of a kind that is not known here: {other}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_as_they_were_joined() {
        let proposals = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![7; 70_000])];
        let body = join(proposals.iter());
        assert_eq!(split(body.clone()).unwrap(), proposals);
        for end in 1..8 {
            assert_eq!(split(body.slice(..end)).is_ok(), end == 7, "cut at {end}");
        }
        assert!(split(join(vec![Bytes::new(); BATCH_MAX + 1].iter())).is_err());
    }

    #[test]
    fn every_answer_comes_back_as_it_was() {
        let leader = Some((RaftId::of(Uuid::from_u128(1)), Uuid::from_u128(2)));
        let errors = [
            WriteError::NotLeader { leader },
            WriteError::NotLeader { leader: None },
            WriteError::Undecided,
            WriteError::Busy,
            WriteError::DiskFull { path: PathBuf::from("/d") },
            WriteError::TooLarge { bytes: 9, max: 8 },
        ];
        let mut bodies: Vec<AnswerBody> = errors.iter().cloned().map(|error| Err(error).into()).collect();
        bodies.push(Ok((7, Outcome::Kv(true))).into());
        bodies.push(Err(WriteError::Stopped).into());
        let read: Vec<AnswerBody> = muster_catalog::unpack(&encode(&bodies)).unwrap();
        let mut read = read.into_iter().map(Forwarded::from);
        for error in errors {
            assert!(matches!(read.next(), Some(Err(ForwardError::Write(same))) if same == error));
        }
        assert!(matches!(read.next(), Some(Ok((7, Outcome::Kv(true))))));
        assert!(matches!(read.next(), Some(Err(ForwardError::Unknown(_)))));
    }
}
