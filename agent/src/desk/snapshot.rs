//! Snapshots for operators: all of the catalog as a file, and back.
#![allow(clippy::disallowed_methods)] // a snapshot is written by a task of its own, which ends with its reader

use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use muster_catalog::{CHUNK_BYTES_MAX, CauseKind, Chunk, Command, Outcome, State, Switch};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::archive::{self, Archive, ArchiveError, Configuration, Origin, Peer};
use super::servers::{Server, Servers};
use super::{Act, Desk, DeskError, Who, allow};
use crate::rpc::{self, Code, Frames, Method};

/// Bytes of one piece on its way.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces on their way: a slow reader slows the writer down, and nobody's memory grows.
const PIECES_MAX: usize = 4;
/// How long a server may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(10);

/// A snapshot on its way out. It ends with an error if not all of it can be had.
pub(crate) struct Saved {
    pub(crate) index: u64,
    pub(crate) known_leader: bool,
    pub(crate) last_contact_ms: u64,
    pub(crate) pieces: mpsc::Receiver<io::Result<Bytes>>,
}

/// What is asked of another server. It travels: fields are only added.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct SaveRequest {
    stale: bool,
}

/// What comes before the pieces.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct SaveHead {
    index: u64,
    known_leader: bool,
    last_contact_ms: u64,
}

impl Desk {
    /// All of the catalog, as new as what was acknowledged before, or with `stale` as this server or any has it.
    pub(crate) async fn save(&self, who: &Who, stale: bool) -> Result<Saved, DeskError> {
        allow(who, &Act::Read)?;
        if self.raft().is_some() { self.save_here(stale).await } else { self.save_there(stale).await }
    }

    async fn save_here(&self, stale: bool) -> Result<Saved, DeskError> {
        if !stale {
            self.caught_up().await?;
        }
        let (known_leader, last_contact) = self.age();
        let state: Arc<State> = self.reader().load().clone();
        let origin = self.origin(&state);
        let (to, pieces) = mpsc::channel(PIECES_MAX);
        let saved = Saved { index: origin.index, known_leader, last_contact_ms: last_contact.as_millis() as u64, pieces };
        tokio::task::spawn_blocking(move || {
            let mut out = Pieces { to: to.clone(), piece: BytesMut::with_capacity(PIECE_BYTES) };
            if let Err(error) = archive::write(&state, origin, &mut out) {
                let _ = to.blocking_send(Err(error)); // The reader has gone, or hears of it.
            }
        });
        Ok(saved)
    }

    fn origin(&self, state: &State) -> Origin {
        let Servers { servers, index } = self.servers_here();
        let peer = |server: Server| Peer {
            suffrage: u8::from(!server.votes),
            id: server.raft.to_string(),
            address: server.address.map(|address| address.to_string()).unwrap_or_default(),
        };
        Origin {
            id: Uuid::new_v4(),
            index: state.last_applied(),
            term: self.raft().map_or(0, |raft| raft.status().term),
            configuration: Configuration { servers: servers.into_iter().map(peer).collect() },
            configuration_index: index,
            at_ms: self.clock_ms(),
            muster: env!("CARGO_PKG_VERSION").to_owned(),
            ..Origin::default() // what the archive finds out
        }
    }

    async fn save_there(&self, stale: bool) -> Result<Saved, DeskError> {
        let body = rmp_serde::to_vec_named(&SaveRequest { stale }).expect("plain data can be written to memory");
        let mut frames = self.quorum().stream(Method::Save, body.into(), BEGIN_MAX).await?;
        let head = frames.next().await.map_err(DeskError::Away)?.ok_or(DeskError::Foreign)?;
        let SaveHead { index, known_leader, last_contact_ms } = muster_catalog::unpack(&head).map_err(|_| DeskError::Foreign)?;
        let (to, pieces) = mpsc::channel(PIECES_MAX);
        tokio::spawn(pass_on(frames, to));
        Ok(Saved { index, known_leader, last_contact_ms, pieces })
    }

    /// The same for an agent that has no log: frames, the head first, and an empty one at the end.
    pub(crate) async fn save_for_another(&self, body: &[u8]) -> Result<mpsc::Receiver<Bytes>, rpc::Refusal> {
        let request: SaveRequest =
            muster_catalog::unpack(body).map_err(|error| rpc::Refusal::new(Code::Body, error.to_string()))?;
        if self.raft().is_none() {
            return Err(rpc::Refusal::new(Code::Method, "this node is no server"));
        }
        let saved = self.save_here(request.stale).await.map_err(|error| rpc::Refusal::new(Code::Failed, error.to_string()))?;
        let Saved { index, known_leader, last_contact_ms, mut pieces } = saved;
        let head = SaveHead { index, known_leader, last_contact_ms };
        let head = rmp_serde::to_vec_named(&head).expect("plain data can be written to memory");
        let (to, frames) = mpsc::channel(PIECES_MAX);
        tokio::spawn(async move {
            if to.send(rpc::frame(&head)).await.is_err() {
                return;
            }
            while let Some(piece) = pieces.recv().await {
                let Ok(piece) = piece else { return };
                if to.send(rpc::frame(&piece)).await.is_err() {
                    return;
                }
            }
            let _ = to.send(rpc::frame(b"")).await; // Who reads may have gone.
        });
        Ok(frames)
    }

    /// Puts what a file holds into the place of the whole catalog. It is checked to its end before anything is written; then it
    /// goes through the log in chunks, beside the live tables, and one last entry switches. What fails before that changes nothing.
    pub(crate) async fn restore(&self, who: &Who, file: File) -> Result<(), DeskError> {
        allow(who, &Act::Write(&Command::GiveUp(Uuid::nil())))?;
        let file = Arc::new(file);
        let checked = file.clone();
        blocking(move || {
            (&*checked).rewind()?;
            Archive::open(&*checked)?.survey(None)
        })
        .await?;
        let restore = Uuid::new_v4();
        tracing::warn!(by = %who.from, "a snapshot is restored: it takes the place of the whole catalog");
        let restored = self.send_chunks(who, restore, file).await;
        match &restored {
            Ok(()) => tracing::warn!(by = %who.from, "a snapshot was restored"),
            Err(error) => {
                tracing::error!(by = %who.from, %error, "a snapshot was not restored");
                // What lies beside the tables is dropped after a while anyway.
                let _ = self.write(who, Command::GiveUp(restore), CauseKind::Api, "snapshot").await;
            }
        }
        restored
    }

    async fn send_chunks(&self, who: &Who, restore: Uuid, file: Arc<File>) -> Result<(), DeskError> {
        let opened = file.clone();
        let mut archive = blocking(move || {
            (&*opened).rewind()?;
            Archive::open(SharedFile(opened))
        })
        .await?;
        let mut offset = 0;
        loop {
            let (read, bytes) = blocking(move || {
                let piece = archive.piece(CHUNK_BYTES_MAX)?;
                Ok((archive, Bytes::from(piece)))
            })
            .await?;
            archive = read;
            if bytes.is_empty() {
                break;
            }
            let length = bytes.len() as u64;
            self.write_step(who, Command::Stage(Chunk { restore, offset, bytes })).await?;
            offset += length;
        }
        self.write_step(who, Command::Switch(Switch { restore, length: offset, history: Uuid::new_v4() })).await
    }

    async fn write_step(&self, who: &Who, command: Command) -> Result<(), DeskError> {
        match self.write(who, command, CauseKind::Api, "snapshot").await? {
            (_, Outcome::Refused(refusal)) => Err(DeskError::NotRestored(refusal.to_string())),
            _ => Ok(()),
        }
    }
}

async fn pass_on(mut frames: Frames, to: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let piece = match frames.next().await {
            Ok(Some(piece)) if piece.is_empty() => return, // the end, in order
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => Err(io::Error::other("the server did not send all of the snapshot")),
            Err(error) => Err(io::Error::other(error)),
        };
        let ended = piece.is_err();
        if to.send(piece).await.is_err() || ended {
            return;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static) -> Result<T, DeskError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| DeskError::Stopping)?;
    done.map_err(|error| DeskError::Archive(Arc::new(error)))
}

/// A file that several hold.
struct SharedFile(Arc<File>);

impl io::Read for SharedFile {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(to)
    }
}

/// Gathers what is written into pieces.
struct Pieces {
    to: mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let piece = self.piece.split().freeze();
        self.to.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
