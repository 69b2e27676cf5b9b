//! How far a read must have seen: a word of the leader, asked for once for all reads that wait at that moment.

use std::time::Duration;

use bytes::Bytes;
use muster_catalog::Index;
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{LinearizableReadError, RaftError};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::error::WriteError;
use super::machine::Engine;
use super::metrics;
use super::status::{known, leader};
use crate::rpc::{Method, Pool};

/// Reads that may wait for a round; more are refused as [`WriteError::Busy`]. A round takes a millisecond.
const READERS_MAX: usize = 4096;
/// Time for a round: the leader itself asks a majority. A read that gets no answer says so, and its caller decides.
pub(crate) const ROUND_TIMEOUT: Duration = Duration::from_secs(2);

type Reader = oneshot::Sender<Result<Index, WriteError>>;

/// Where reads get in line.
#[derive(Debug, Clone)]
pub(crate) struct Rounds(mpsc::Sender<Reader>);

/// The reads in line.
#[derive(Debug)]
pub(crate) struct Asked(mpsc::Receiver<Reader>);

impl Rounds {
    /// A line, and its end where it is served.
    pub(crate) fn line() -> (Self, Asked) {
        let (reader, asked) = mpsc::channel(READERS_MAX);
        (Self(reader), Asked(asked))
    }

    /// The index of a round that begins after this call.
    pub(crate) async fn read_index(&self) -> Result<Index, WriteError> {
        let (reader, answer) = oneshot::channel();
        self.0.try_send(reader).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WriteError::Busy,
            mpsc::error::TrySendError::Closed(_) => WriteError::Stopped,
        })?;
        answer.await.unwrap_or(Err(WriteError::Stopped))
    }
}

impl Asked {
    /// All who wait now, once somebody does; none when nobody can any more. One round is made after the other: a read that comes
    /// while one is under way waits for the next, for who answers may have looked already.
    pub(crate) async fn next(&mut self) -> Option<Waiting> {
        let mut readers = vec![self.0.recv().await?];
        while let Ok(reader) = self.0.try_recv() {
            readers.push(reader);
        }
        Some(Waiting(readers))
    }
}

/// Reads that wait for the same round.
#[derive(Debug)]
pub(crate) struct Waiting(Vec<Reader>);

impl Waiting {
    /// Tells all of them.
    pub(crate) fn tell(self, index: &Result<Index, WriteError>) {
        for reader in self.0 {
            reader.send(index.clone()).ok(); // who asked may have gone
        }
    }
}

/// The answer as it travels.
#[derive(Serialize, Deserialize)]
struct Body {
    index: Index,
}

/// The answer for another agent.
pub(super) fn encode(index: Index) -> Bytes {
    rmp_serde::to_vec_named(&Body { index }).expect("a number can be written to memory").into()
}

/// Reads such an answer.
pub(crate) fn decode(answer: &[u8]) -> Option<Index> {
    muster_catalog::unpack::<Body>(answer).ok().map(|body| body.index)
}

/// The index as the leader knows it, once a majority has said that it still leads.
pub(super) async fn as_leader(engine: &Engine) -> Result<Index, WriteError> {
    match engine.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => {
            metrics::METERS.verify_leader.increment(1);
            Ok(linearizer.read_log_id().index())
        }
        Err(RaftError::APIError(error)) => {
            let leader = match &error {
                LinearizableReadError::ForwardToLeader(to) => known(to),
                _ => None,
            };
            Err(WriteError::NotLeader { leader })
        }
        Err(RaftError::Fatal(_)) => Err(WriteError::Stopped),
    }
}

/// Asks the leader for a follower's reads. Runs as long as raft does.
pub(super) async fn serve_rounds(engine: Engine, pool: Pool, mut asked: Asked) {
    while let Some(waiting) = asked.next().await {
        waiting.tell(&round(&engine, &pool).await);
    }
}

async fn round(engine: &Engine, pool: &Pool) -> Result<Index, WriteError> {
    let leads = leader(&engine.metrics().borrow_watched());
    let Some((id, node)) = leads else { return Err(WriteError::NotLeader { leader: None }) };
    if id == *engine.node_id() {
        return as_leader(engine).await;
    }
    match pool.call(node, Method::ReadIndex, Bytes::new(), ROUND_TIMEOUT).await {
        Ok(answer) => decode(&answer).ok_or(WriteError::NotLeader { leader: Some((id, node)) }),
        Err(error) => {
            tracing::debug!(%error, "the leader gave no read index");
            Err(WriteError::NotLeader { leader: Some((id, node)) })
        }
    }
}
