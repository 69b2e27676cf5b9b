//! A plain line of another server's: who it is and whom it means is found out here, then it is raft's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::door::{Door, Shared};
use crate::rpc::{Code, Detached, Hello, Line, Part, Refusal, Stream, meet};

/// Whose line it is.
pub(super) struct Greeted {
    line: Detached,
    raft: Uuid,
}

/// Its place at this door, given back when the line has ended.
struct Place {
    shared: Arc<Shared>,
    from: SocketAddr,
    _place: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.gone(self.from.ip());
    }
}

/// Hears the hello and answers it; `None` if that was a no.
pub(super) async fn greet(door: &Door, stream: Stream) -> io::Result<Option<Greeted>> {
    let (mut line, theirs) = Line::greeted(stream).await?;
    let met = theirs.and_then(|theirs| {
        meet(&door.identity, &theirs)?;
        let server = theirs.raft.filter(|_| theirs.part == Part::Server && door.raft.is_some());
        server.map(|raft| (raft, theirs.node)).ok_or_else(|| Refusal::new(Code::Method, "a line is from one server to another"))
    });
    match met {
        Ok((raft, node)) => {
            line.welcome(&Hello::new(&door.identity, Some(node), None)).await?;
            Ok(Some(Greeted { line: line.detach()?, raft }))
        }
        Err(refusal) => {
            line.refuse(&refusal).await?;
            Ok(None)
        }
    }
}

/// Hands it to raft.
pub(super) fn hand_over(door: &Door, Greeted { line, raft: by }: Greeted, from: SocketAddr, place: OwnedSemaphorePermit) {
    let place = Place { shared: door.shared.clone(), from, _place: place };
    if let Some(raft) = &door.raft {
        raft.take_line(by, line, place);
    }
}
