//! How far a client's reads must have seen: a server's word, asked for once for all reads that wait at that moment.
#![allow(clippy::disallowed_methods)] // the rounds are a task of their own, which ends with its last reader

use std::time::Duration;

use bytes::Bytes;
use muster_catalog::Index;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::feed::Following;
use crate::raft::{WriteError, decode_read_index};
use crate::rpc::{AddressBook, CallError, Code, Method, Pool};

/// Reads that may wait for a round; more are refused as [`WriteError::Busy`]. A round takes a millisecond.
const READERS_MAX: usize = 4096;
/// Time for a round, at one server.
const ROUND_TIMEOUT: Duration = Duration::from_secs(2);

type Reader = oneshot::Sender<Result<Index, WriteError>>;

/// Where reads get in line.
#[derive(Debug)]
pub(crate) struct Rounds(mpsc::Sender<Reader>);

impl Rounds {
    /// Asks over this pool: the server that is followed, if there is one, for that one hurries what is asked for. Rounds are made
    /// while somebody asks for them.
    pub(super) fn new(pool: Pool, following: Following) -> Self {
        let (reader, asked) = mpsc::channel(READERS_MAX);
        tokio::spawn(serve(pool, following, asked));
        Self(reader)
    }

    /// The index of a round that begins after this call.
    pub(super) async fn read_index(&self) -> Result<Index, WriteError> {
        let (reader, answer) = oneshot::channel();
        self.0.try_send(reader).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WriteError::Busy,
            mpsc::error::TrySendError::Closed(_) => WriteError::Stopped,
        })?;
        answer.await.unwrap_or(Err(WriteError::Stopped))
    }
}

/// One round after the other: a read that comes while one is under way waits for the next, for the server may have looked already.
async fn serve(pool: Pool, following: Following, mut asked: mpsc::Receiver<Reader>) {
    let mut server = None;
    while let Some(first) = asked.recv().await {
        let mut readers = vec![first];
        while let Ok(reader) = asked.try_recv() {
            readers.push(reader);
        }
        server = following.server().or(server);
        let index = round(&pool, &mut server).await;
        for reader in readers {
            let _ = reader.send(index.clone()); // who asked may have gone
        }
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
