//! The leader's word on how far a read must have seen, which a follower asks for once for all reads that wait at that moment.

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
pub(super) const READERS_MAX: usize = 4096;
/// Time for a round: the leader itself asks a majority. A read that gets no answer says so, and its caller decides.
const ROUND_TIMEOUT: Duration = Duration::from_secs(2);

/// Who waits for a round.
pub(super) type Reader = oneshot::Sender<Result<Index, WriteError>>;

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

/// Asks the leader, one round after the other: a read that comes while one is under way waits for the next, for the leader may
/// have looked already. Runs as long as raft does.
pub(super) async fn serve_rounds(engine: Engine, pool: Pool, mut asked: mpsc::Receiver<Reader>) {
    while let Some(first) = asked.recv().await {
        let mut readers = vec![first];
        while let Ok(reader) = asked.try_recv() {
            readers.push(reader);
        }
        let index = round(&engine, &pool).await;
        for reader in readers {
            reader.send(index.clone()).ok(); // who asked has gone
        }
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
