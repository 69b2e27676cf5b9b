//! The door for other agents: who knocks says hello first, then asks by method; raft's own calls go straight into raft.
//!
//! Whatever else a peer may ask is answered by the [`Rooms`] that the door was given. Foreign bytes, foreign clusters, calls
//! before the hello and bodies beyond their bound are refused and counted; none of them reaches a room.

mod answer;
mod connection;
mod door;
mod line;
mod rooms;
mod serve;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::rpc::{Method, Part, Refusal};

pub(crate) use door::{Door, Limits};
pub(crate) use rooms::DeskRooms;
pub(crate) use serve::serve;

/// Who knocked, as it said in its hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The node.
    pub(crate) node: Uuid,
    /// What it is.
    pub(crate) part: Part,
    /// Its voter of the log, if it has one.
    pub(crate) raft: Option<Uuid>,
    /// The protocol version that both speak.
    pub(crate) version: u16,
}

/// A call that was let in.
#[derive(Debug)]
pub(crate) struct Call {
    /// Who asks.
    pub(crate) caller: Caller,
    /// What.
    pub(crate) method: Method,
    /// With what.
    pub(crate) body: Bytes,
}

/// What a call gets.
#[derive(Debug)]
pub(crate) enum Answer {
    /// All at once.
    Whole(Bytes),
    /// In pieces, each made by [`crate::rpc::frame`]; the stream ends when the other end of the channel is dropped, and the
    /// channel is closed when the caller has gone.
    Frames(mpsc::Receiver<Bytes>),
}

/// The rooms behind this door: every method but the hello, the ping and raft's own. A call whose caller has gone is dropped
/// where it stands.
pub(crate) trait Rooms: Send + Sync + 'static {
    /// Answers a call, or says why not.
    fn answer(&self, call: Call) -> BoxFuture<'static, Result<Answer, Refusal>>;

    /// The last connection of a node has closed: with a goodbye, or without.
    fn closed(&self, _caller: Caller) {}
}
