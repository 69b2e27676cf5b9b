//! What other agents may ask of this one: commands for the log, questions about what servers hold, how far a read must see, feeds.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{Answer, Call, Caller, Rooms};
use crate::desk::Desk;
use crate::desk::feed::FeedRequest;
use crate::raft::decode_read_index;
use crate::rpc::{Code, Method, Part, Refusal};

/// Pieces of a feed on their way to a connection; a reader that is slower than this holds up its own feed alone, which then sends
/// fewer and larger pieces.
const PIECES_MAX: usize = 4;

/// The desk, as other agents see it.
pub(crate) struct DeskRooms(Desk);

impl DeskRooms {
    /// Calls go to this desk.
    pub(crate) fn new(desk: Desk) -> Arc<Self> {
        Arc::new(Self(desk))
    }
}

impl Rooms for DeskRooms {
    fn answer(&self, call: Call) -> BoxFuture<'static, Result<Answer, Refusal>> {
        let desk = self.0.clone();
        Box::pin(async move {
            match call.method {
                Method::Write => desk.write_for_another(call.body).await.map(Answer::Whole),
                Method::Query => desk.answer_letter(&call.body).await.map(Answer::Whole),
                Method::ReadIndex => read_index(&desk, &call).await.map(Answer::Whole),
                Method::Feed => feed(&desk, &call).map(Answer::Frames),
                Method::Order => desk.answer_order(&call.body).await.map(Answer::Whole),
                Method::Beat => beat(&desk, &call).map(Answer::Whole),
                Method::Save => desk.save_for_another(&call.body).await.map(Answer::Frames),
                method => Err(Refusal::new(Code::Method, format!("{} is not answered here", method.path()))),
            }
        })
    }

    /// A server's connections stand for as long as it runs.
    fn closed(&self, caller: Caller) {
        if caller.part == Part::Server {
            self.0.cluster().check(caller.node);
        }
    }
}

/// A follower lives.
fn beat(desk: &Desk, call: &Call) -> Result<Bytes, Refusal> {
    desk.quorum().source().ok_or_else(no_server)?.hear(call.caller.node);
    Ok(Bytes::new())
}

fn no_server() -> Refusal {
    Refusal::new(Code::Method, "this node is no server")
}

/// A client that asks follows this server, or another: what it will wait for is sent to it at once.
async fn read_index(desk: &Desk, call: &Call) -> Result<Bytes, Refusal> {
    let (Some(raft), Some(source)) = (desk.raft(), desk.quorum().source()) else { return Err(no_server()) };
    let answer = raft.answer_read_index(false).await?;
    if let Some(index) = decode_read_index(&answer) {
        source.flush(call.caller.node, index);
    }
    Ok(answer)
}

/// The frames of a feed, until either side ends it.
#[allow(clippy::disallowed_methods)] // A feed is a task of its own; it ends with its reader or its source.
fn feed(desk: &Desk, call: &Call) -> Result<mpsc::Receiver<Bytes>, Refusal> {
    let Some(source) = desk.quorum().source() else { return Err(no_server()) };
    let request: FeedRequest = muster_catalog::unpack(&call.body).map_err(|error| Refusal::new(Code::Body, error.to_string()))?;
    let mut frames = Box::pin(source.subscribe(call.caller.node, request.at(), request.interest));
    let (pieces, reader) = mpsc::channel(PIECES_MAX);
    let (cluster, follower) = (desk.cluster().clone(), call.caller.node);
    tokio::spawn(async move {
        loop {
            let piece = tokio::select! {
                piece = frames.next() => piece,
                () = pieces.closed() => break,
            };
            let Some(piece) = piece else { return };
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        // The follower went to another server, or it is dead: gossip finds out which.
        cluster.check(follower);
    });
    Ok(reader)
}
