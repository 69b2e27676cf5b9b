//! The seam to the other servers: what raft says to a peer, over connections that look its address up each time they are made.
//!
//! Heartbeats and votes have a connection of their own, entries a plain line, and so have snapshots: nothing long delays a heartbeat. A
//! pre-vote is never granted by a call that did not happen (openraft's default would grant it).
#![allow(clippy::disallowed_methods)] // calls are timed

use std::future::Future;
use std::time::{Duration, Instant};

use ::metrics::Histogram;
use bytes::Bytes;
use futures_util::Stream;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use tokio::time::timeout;

use super::metrics::{REPLICATION_APPEND, REPLICATION_HEARTBEAT};
use super::seen::SeenLogs;
use super::snapshot::{Pieces, SnapshotData};
use super::tidings::{Awaited, gathered};
use super::types::{Peer, RaftId, Types, Vote};
use super::wire::{Piece, PieceAnswer, Wire};
use crate::rpc::{CallError, Line, Method, Pool, Target, metrics};

/// Time for entries to be written at a peer. openraft would give them one heartbeat: a disk that takes longer once would be
/// taken for a peer that is gone.
const APPEND_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest answer to entries.
const APPEND_ANSWER_BYTES_MAX: usize = 4 << 10;
/// Time for a piece of a snapshot.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the last piece: the peer reads all of it, checks it and writes it once more.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes connections; asked again for each vote round, heartbeat stream and snapshot.
#[derive(Clone)]
pub(super) struct Network {
    /// `None` where there are no peers: a server on its own.
    pool: Option<Pool>,
    seen: SeenLogs,
    awaited: Awaited,
}

impl Network {
    pub(super) fn new(pool: Option<Pool>, seen: SeenLogs, awaited: Awaited) -> Self {
        Self { pool, seen, awaited }
    }
}

/// A handle to one peer.
pub(super) struct Connection {
    network: Network,
    id: RaftId,
    target: Target,
    /// How long entries take, and heartbeats.
    appends: [Histogram; 2],
    /// Where entries go, once it was needed.
    line: Option<Line>,
    /// Entries are expected: without, nothing more than a heartbeat is sent.
    streams: bool,
}

/// The answers to a stream of calls.
type Answers<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;
type Answering<'s> = BoxFuture<'s, Result<Answers<'s>, RPCError<Types>>>;

/// A call without an answer, as openraft wants to hear it.
enum NoAnswer {
    /// Try again after a pause.
    Unreachable(Unreachable<Types>),
    /// The connection broke: try again.
    Broken(NetworkError<Types>),
}

impl From<CallError> for NoAnswer {
    fn from(error: CallError) -> Self {
        match error {
            CallError::MaybeSent { .. } => NoAnswer::Broken(NetworkError::from_string(error)),
            error => NoAnswer::Unreachable(Unreachable::from_string(error)),
        }
    }
}

impl From<NoAnswer> for RPCError<Types> {
    fn from(no: NoAnswer) -> Self {
        match no {
            NoAnswer::Unreachable(error) => RPCError::Unreachable(error),
            NoAnswer::Broken(error) => RPCError::Network(error),
        }
    }
}

impl From<NoAnswer> for StreamingError<Types> {
    fn from(no: NoAnswer) -> Self {
        match no {
            NoAnswer::Unreachable(error) => StreamingError::Unreachable(error),
            NoAnswer::Broken(error) => StreamingError::Network(error),
        }
    }
}

impl Connection {
    fn unreachable(&self, what: &str) -> NoAnswer {
        NoAnswer::Unreachable(Unreachable::from_string(format!("server {} of node {}: {what}", self.id, self.target.node)))
    }

    async fn ask<A: Wire>(&self, method: Method, body: Vec<u8>, limit: Duration) -> Result<A, NoAnswer> {
        let Some(pool) = &self.network.pool else {
            return Err(self.unreachable("this server was started without peers"));
        };
        let answer = pool.call(self.target, method, body, limit).await?;
        A::decode(&answer).map_err(|fault| self.unreachable(&format!("its answer is not understood: {fault}")))
    }

    /// Asks over the plain line. One that was opened before may have been closed since: then a new one gets a try, for entries may be
    /// told twice. A line whose answer was not waited for is given up.
    async fn ask_on_line(&mut self, body: Bytes) -> Result<Bytes, NoAnswer> {
        let Some(pool) = self.network.pool.clone() else {
            return Err(self.unreachable("this server was started without peers"));
        };
        loop {
            let (mut line, is_new) = match self.line.take() {
                Some(line) => (line, false),
                None => (pool.line(self.target).await?, true),
            };
            match line.ask(body.clone(), APPEND_ANSWER_BYTES_MAX).await {
                Ok(answer) => {
                    self.line = Some(line);
                    return Ok(answer);
                }
                Err(error) if is_new => return Err(NoAnswer::Broken(NetworkError::new(&error))),
                Err(_) => {}
            }
        }
    }

    async fn append(&mut self, body: Vec<u8>) -> Result<AppendEntriesResponse<Types>, NoAnswer> {
        if !self.streams {
            return self.ask(Method::Append, body, APPEND_TIMEOUT).await;
        }
        metrics::METERS.call.increment(1);
        let answer = timeout(APPEND_TIMEOUT, self.ask_on_line(body.into())).await;
        let answer = answer.unwrap_or_else(|_| Err(self.unreachable(&format!("no answer within {APPEND_TIMEOUT:?}"))));
        let answer = answer.inspect_err(|_| metrics::METERS.call_failed.increment(1))?;
        Wire::decode(&answer).map_err(|fault| self.unreachable(&format!("its answer is not understood: {fault}")))
    }

    /// Only a peer that says so has granted a vote: whatever else happens is no answer.
    async fn ask_vote(
        &self,
        method: Method,
        rpc: &VoteRequest<Types>,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer = self.ask(method, rpc.encode(), option.hard_ttl()).await;
        answer.map_err(|no| match no {
            NoAnswer::Broken(error) => RPCError::Unreachable(Unreachable::new(&error)),
            no => no.into(),
        })
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: RaftId, node: &Peer) -> Connection {
        let peer = target.to_string();
        let appends =
            [REPLICATION_APPEND, REPLICATION_HEARTBEAT].map(|name| ::metrics::histogram!(name, "peer_id" => peer.clone()));
        let to = Target { node: node.uuid, raft: Some(target.0) };
        Connection { network: self.clone(), id: target, target: to, appends, line: None, streams: false }
    }
}

impl RaftNetworkV2<Types> for Connection {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let began = Instant::now();
        let answer = self.append(rpc.encode()).await?;
        self.appends[usize::from(rpc.entries.is_empty())].record(began.elapsed().as_secs_f64() * 1e3);
        match self.network.seen.judge(self.id, self.target.node, &rpc, &answer) {
            Ok(()) => Ok(answer),
            Err(lost) => Err(self.unreachable(&lost.to_string()).into()),
        }
    }

    fn stream_append<'s, S>(&'s mut self, input: S, option: RPCOption) -> Answering<'s>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        self.streams = true;
        let input = gathered(input, &self.network.awaited);
        stream_append_sequential(self, input, option)
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer = self.ask_vote(Method::Vote, &rpc, &option).await?;
        if answer.vote_granted {
            self.network.seen.voted(self.id, rpc.vote);
        }
        Ok(answer)
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(Method::PreVote, &rpc, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = async {
            let failed = |error: std::io::Error| self.unreachable(&format!("the snapshot cannot be read: {error}"));
            let mut pieces = Pieces::of(snapshot.meta, snapshot.snapshot).await.map_err(failed)?;
            loop {
                let (offset, data, last) = pieces.next().await.map_err(failed)?;
                let limit = if last { INSTALL_TIMEOUT } else { PIECE_TIMEOUT };
                let piece = Piece::new(vote, pieces.head.clone(), pieces.length, (offset, Bytes::from(data), last));
                let answer: PieceAnswer = self.ask(Method::Snapshot, piece.encode(), limit).await?;
                match answer.vote() {
                    Some(vote) => return Ok(SnapshotResponse::new(vote)),
                    None if last => return Err(self.unreachable("it took the whole snapshot and said nothing").into()),
                    None => {}
                }
            }
        };
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        Ok(self.ask(Method::TransferLeader, req.encode(), option.hard_ttl()).await?)
    }
}
