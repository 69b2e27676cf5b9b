//! What a leader sends over plain lines: each is served on raft's own thread, so that a batch of entries wakes no other.
#![allow(clippy::disallowed_methods)] // it is noted when a leader was heard

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::machine::Engine;
use super::metrics::METERS as RAFT;
use super::types::Types;
use super::wire::Wire as _;
use crate::error::chain;
use crate::rpc::{Detached, Identity, Line, Method, metrics};

/// Lines on their way to raft's thread; one that finds no room is closed, and its leader opens another.
pub(super) const LINES_MAX: usize = 64;

/// Silence after which a line is closed: a leader that has nothing to write sends heartbeats elsewhere, and opens another line when it
/// has; one whose host is gone would keep it for ever.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// When a leader was last heard of. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Option<Instant>>>);

impl Heard {
    /// What a leader said was answered so; one whose vote is refused leads no more.
    pub(super) fn note(&self, answer: &AppendEntriesResponse<Types>) {
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            *self.0.lock().expect("no holder panics: a moment is stored") = Some(Instant::now());
        }
    }

    /// How long ago.
    pub(super) fn ago(&self) -> Option<Duration> {
        self.0.lock().expect("no holder panics: a moment is stored").map(|at| at.elapsed())
    }
}

/// A line of another server's.
pub(super) struct Caught {
    pub(super) by: Uuid,
    pub(super) line: Detached,
    /// Given back when the line has ended.
    pub(super) held: Box<dyn Send>,
}

/// What lines are served with.
#[derive(Clone)]
pub(super) struct Lines {
    pub(super) engine: Engine,
    pub(super) identity: Identity,
    pub(super) heard: Heard,
}

impl Lines {
    /// Runs as long as raft does.
    pub(super) async fn serve(self, mut caught: mpsc::Receiver<Caught>) {
        let mut served = JoinSet::new();
        loop {
            tokio::select! {
                next = caught.recv() => match next {
                    Some(next) => {
                        served.spawn(self.clone().run(next));
                    }
                    None => return,
                },
                Some(_) = served.join_next() => {}
            }
        }
    }

    async fn run(self, Caught { by, line, held }: Caught) {
        let ended = match line.attach() {
            Ok(line) => self.answer(line).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %by, error, "a line of raft's ended");
        }
        drop(held);
    }

    /// One question after the other, until there is none, or one that has no answer.
    async fn answer(&self, mut line: Line) -> Result<(), String> {
        let told = |error: &(dyn std::error::Error + 'static)| chain(error);
        let most = Method::Append.body_bytes_max();
        loop {
            let body = timeout(SILENCE_MAX, line.next(most)).await.map_err(|error| told(&error))?;
            let Some(body) = body.map_err(|error| told(&error))? else { return Ok(()) };
            if self.identity.cluster().is_none() {
                return Err("this node takes no part in its cluster any more".to_owned());
            }
            let began = Instant::now();
            let rpc = AppendEntriesRequest::decode(&body).map_err(|error| told(&error))?;
            drop(body); // the entries were copied out of it
            let answer = self.engine.append_entries(rpc).await.map_err(|error| told(&error))?;
            self.heard.note(&answer);
            RAFT.rpc_append.record(began.elapsed().as_secs_f64() * 1e3);
            metrics::METERS.answered.increment(1);
            line.send(Bytes::from(answer.encode())).await.map_err(|error| told(&error))?;
        }
    }
}
