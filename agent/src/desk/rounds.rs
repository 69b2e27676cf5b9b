//! How far a client's reads must have seen: a server's word, asked for once for all reads that wait at that moment.
#![allow(clippy::disallowed_methods)] // the rounds are a task of their own, which ends with its last reader

use bytes::Bytes;
use muster_catalog::Index;
use uuid::Uuid;

use super::feed::Following;
use crate::raft::{Asked, ROUND_TIMEOUT, Rounds, WriteError, decode_read_index};
use crate::rpc::{AddressBook, CallError, Code, Method, Pool};

/// Where reads get in line: for the server that is followed, if there is one, for that one hurries what is asked for. Rounds are
/// made while somebody asks for them.
pub(super) fn rounds(pool: Pool, following: Following) -> Rounds {
    let (rounds, asked) = Rounds::line();
    tokio::spawn(serve(pool, following, asked));
    rounds
}

async fn serve(pool: Pool, following: Following, mut asked: Asked) {
    let mut server = None;
    while let Some(waiting) = asked.next().await {
        server = following.server().or(server);
        waiting.tell(&round(&pool, &mut server).await);
    }
}

/// This server is asked, then once another one.
async fn round(pool: &Pool, server: &mut Option<Uuid>) -> Result<Index, WriteError> {
    let nobody = Err(WriteError::NotLeader { leader: None });
    for _ in 0..2 {
        let Some(node) = server.filter(|node| pool.book().get(*node).is_some()).or_else(|| any(pool.book())) else {
            return nobody;
        };
        *server = Some(node);
        match pool.call(node, Method::ReadIndex, Bytes::new(), ROUND_TIMEOUT).await {
            Ok(answer) => return decode_read_index(&answer).ok_or(WriteError::NotLeader { leader: None }),
            Err(CallError::Refused { refusal, .. }) if refusal.code == Code::Busy => return Err(WriteError::Busy),
            Err(error) => {
                tracing::debug!(%error, "no read index: asking another server");
                *server = None;
            }
        }
    }
    nobody
}

/// Any server: another one each time, so that one that cannot help is not asked for ever.
pub(super) fn any(book: &AddressBook) -> Option<Uuid> {
    let all = book.all();
    let turn = rand::RngExt::random_range(&mut rand::rng(), 0..all.len().max(1));
    all.keys().nth(turn).copied()
}
