//! What other servers ask of raft here: decoded, handed to the engine, and the engine's word encoded.
#![allow(clippy::disallowed_methods)] // answers are timed

use std::io;
use std::time::Instant;

use bytes::Bytes;
use openraft::Snapshot;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::Fatal;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use uuid::Uuid;

use super::codec::Fault;
use super::engine::Raft;
use super::evidence::{self, Gone, Notice};
use super::lines::Caught;
use super::metrics;
use super::snapshot::{Gathering, SnapshotData};
use super::types::{RaftId, Types, Vote};
use super::wire::{Piece, PieceAnswer, Wire};
use crate::rpc::{Code, Detached, Method, Refusal};

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Refusal::new(Code::Body, format!("the body was not understood: {fault}"))
    }
}

fn stopped(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Stopping, format!("raft has stopped here: {error}"))
}

impl Raft {
    /// Answers a call of another server, of this raft id.
    pub(crate) async fn answer(&self, by: Uuid, method: Method, body: Bytes) -> Result<Bytes, Refusal> {
        let engine = &self.running.engine;
        let answer = match method {
            Method::Append => {
                let began = Instant::now();
                let rpc = AppendEntriesRequest::decode(&body)?;
                drop(body); // the entries were copied out of it
                let answer = engine.append_entries(rpc).await.map_err(stopped)?;
                metrics::METERS.rpc_append.record(began.elapsed().as_secs_f64() * 1e3);
                self.running.heard.note(&answer);
                answer.encode()
            }
            Method::Vote | Method::PreVote if !self.running.gate.is_open() => {
                return Err(Refusal::new(
                    Code::Busy,
                    "this server has just started, and asks what was seen of it before it votes",
                ));
            }
            Method::SeenLog => self.running.seen.of(RaftId(by)).encode(),
            Method::Vote => {
                let rpc = VoteRequest::<Types>::decode(&body)?;
                if rpc.vote.leader_id.voted_for == RaftId(by) {
                    self.running.seen.voted(RaftId(by), rpc.vote);
                }
                engine.vote(rpc).await.map_err(stopped)?.encode()
            }
            Method::PreVote => engine.pre_vote(VoteRequest::decode(&body)?).await.map_err(stopped)?.encode(),
            Method::TransferLeader => {
                let rpc = TransferLeaderRequest::decode(&body)?;
                let done: Result<_, Fatal<Types>> = engine.handle_transfer_leader(rpc).await;
                done.map_err(stopped)?.encode()
            }
            Method::LeaderGone => {
                self.notice(evidence::told(by, Gone::decode(&body)?));
                Vec::new()
            }
            Method::Snapshot => self.take_piece(Piece::decode(&body)?).await?.encode(),
            method => return Err(Refusal::new(Code::Method, format!("raft does not answer {}", method.path()))),
        };
        Ok(answer.into())
    }

    /// Takes the line of this voter's over to raft's own thread; what is held with it is given back when it has ended.
    pub(crate) fn take_line(&self, by: Uuid, line: Detached, held: impl Send + 'static) {
        if let Some(lines) = &self.running.lines {
            lines.try_send(Caught { by, line, held: Box::new(held) }).ok(); // then it is closed
        }
    }

    /// A connection of this voter's closed: if it is the leader's, that may be its end.
    pub(crate) fn peer_closed(&self, raft: Uuid) {
        self.notice(Notice::Closed(RaftId(raft)));
    }

    /// One that finds no room is lost: then the timers decide.
    fn notice(&self, notice: Notice) {
        if let Some(notices) = &self.running.notices {
            notices.try_send(notice).ok();
        }
    }

    /// Takes a piece of a snapshot; with the last one it is installed. There is one leader, so there is one snapshot under way;
    /// a first piece begins anew.
    async fn take_piece(&self, piece: Piece) -> Result<PieceAnswer, Refusal> {
        let vote = piece.vote();
        let ours = self.vote();
        if !vote.committed {
            return Err(Refusal::new(Code::Body, "a snapshot comes from a leader that was elected"));
        }
        if ours > vote {
            return Ok(PieceAnswer::new(Some(ours))); // of a leader that is none any more
        }
        let failed = |error: io::Error| Refusal::new(Code::Failed, format!("the snapshot was not taken: {error}"));
        let Ok(mut slot) = self.gathering.try_lock() else {
            return Err(Refusal::new(Code::Busy, "another piece of a snapshot is being written"));
        };
        if piece.offset == 0 {
            // it is written as it comes, and once more when it is installed; the engine takes a full disk there for a broken one
            if !self.has_room_for(piece.length.saturating_mul(2)) {
                return Err(Refusal::new(Code::Failed, format!("no room on the disk for a snapshot of {} bytes", piece.length)));
            }
            *slot = Some(Gathering::begin(self.dir(), piece.head.clone()).map_err(failed)?);
        }
        let gathering = slot.as_mut().filter(|gathering| gathering.head == piece.head);
        let Some(gathering) = gathering else {
            return Err(Refusal::new(Code::Failed, "the snapshot was not begun here"));
        };
        if let Err(error) = gathering.take(piece.offset, piece.data).await {
            *slot = None;
            return Err(failed(error));
        }
        if !piece.last {
            return Ok(PieceAnswer::new(None));
        }
        let Some(gathering) = slot.take() else { return Err(Refusal::new(Code::Failed, "the snapshot was not begun here")) };
        drop(slot);
        let (meta, state) = gathering.finish().await.map_err(failed)?;
        let index = meta.last_log_id.map(|id| id.index);
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Memory(Box::new(state)) };
        let began = Instant::now();
        let installed = self.running.engine.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        ::metrics::histogram!(metrics::RPC_INSTALL).record(began.elapsed().as_secs_f64() * 1e3);
        tracing::info!(index, "a snapshot of the leader was taken");
        Ok(PieceAnswer::new(Some(installed.vote)))
    }

    /// The newest vote that this server has given or heard of.
    pub(super) fn vote(&self) -> Vote {
        self.running.metrics.borrow_watched().vote
    }
}
