//! How far a read must have seen, on any server.

use bytes::Bytes;
use muster_catalog::Index;

use super::engine::Raft;
use super::error::WriteError;
use super::rounds::{as_leader, encode};
use crate::rpc::{Code, Refusal};

impl Raft {
    /// The index that a read must have seen to be behind no acknowledged write. The leader asks a majority that it still leads;
    /// a follower asks the leader. A lone voter needs nobody.
    pub async fn read_index(&self) -> Result<Index, WriteError> {
        match (&self.running.rounds, self.is_leader()) {
            (Some(rounds), false) => rounds.read_index().await,
            (None, _) | (_, true) => as_leader(&self.running.engine).await,
        }
    }

    /// As [`Raft::read_index`], but only where this server leads: what it answers another server, which must not be sent on.
    pub(crate) async fn read_index_as_leader(&self) -> Result<Index, WriteError> {
        as_leader(&self.running.engine).await
    }

    /// Answers an agent that asks for the read index; a server is not sent on to another.
    pub(crate) async fn answer_read_index(&self, asked_by_server: bool) -> Result<Bytes, Refusal> {
        let index = if asked_by_server { self.read_index_as_leader().await } else { self.read_index().await };
        match index {
            Ok(index) => {
                self.running.awaited.at(index);
                Ok(encode(index))
            }
            Err(error @ WriteError::Busy) => Err(Refusal::new(Code::Busy, error.to_string())),
            Err(error @ WriteError::Stopped) => Err(Refusal::new(Code::Stopping, error.to_string())),
            Err(error) => Err(Refusal::new(Code::NotLeader, error.to_string())),
        }
    }
}
