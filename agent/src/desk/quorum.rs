//! The way to the servers: this agent is one of them, or follows one and has its writes and questions carried there.
#![allow(clippy::disallowed_methods)] // retries have an end

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_catalog::{Index, Outcome, Refusal};
use rand::seq::IteratorRandom as _;
use uuid::Uuid;

use super::DeskError;
use super::feed::{Age, Following, Source};
use super::forward::{ForwardError, Forwarder};
use super::rounds::{any, rounds};
use crate::raft::{Raft, Rounds, WriteError};
use crate::rpc::{Frames, Method, Pool, Rate};

/// First pause before a command is tried again; a leader that was lost by evidence is replaced within some milliseconds.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Longest pause: more would be seen in how long a change of leaders takes.
const PAUSE_MAX: Duration = Duration::from_millis(25);
/// Time for one attempt at one server, all of it also for the last one: cut off, it would turn "nobody leads" into "not known". One
/// that was stopped in its tracks must not take all the time there is. A disk that is slower gets the command again, under the same
/// number.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
/// How long one that gave no answer is not asked first: another one leads within half a second of its silence.
const SILENT_FOR: Duration = Duration::from_secs(1);

/// Where this agent sits.
pub(crate) enum Seat {
    /// Among the servers.
    Server {
        /// Its part in the log.
        raft: Raft,
        /// What it tells its followers.
        source: Source,
    },
    /// Following one of them.
    Client(Following),
}

/// The way to the servers.
pub(crate) struct Quorum {
    seat: Seat,
    /// `None` for a server that can have no peers.
    away: Option<Away>,
    /// Of a client's requests.
    rate: Rate,
    /// Time for a request that does not wait by itself.
    patience: Duration,
}

/// How others are reached.
struct Away {
    pool: Pool,
    forwarder: Forwarder,
    /// A client's reads that wait for the same word.
    rounds: Option<Rounds>,
    /// Who led when it was last heard of.
    leader: Mutex<Option<Uuid>>,
    /// Who gave no answer, and when: others may take it for the leader a while longer.
    silent: Mutex<Option<(Uuid, Instant)>>,
}

impl Quorum {
    /// `pool` reaches the others; a client has nothing without it.
    pub(crate) fn new(seat: Seat, pool: Option<Pool>) -> Self {
        let away = pool.map(|pool| Away {
            forwarder: Forwarder::new(pool.clone()),
            rounds: match &seat {
                Seat::Client(following) => Some(rounds(pool.clone(), following.clone())),
                Seat::Server { .. } => None,
            },
            leader: Mutex::new(None),
            silent: Mutex::new(None),
            pool,
        });
        Self { seat, away, rate: Rate::new(None, 1), patience: Duration::MAX }
    }

    /// The same, with an operator's bounds (`limits.rpc_*`).
    pub(crate) fn bounded(self, rate: Rate, patience: Duration) -> Self {
        Self { rate, patience, ..self }
    }

    /// From now on a client makes so many requests a second.
    pub(super) fn set_rate(&self, per_second: Option<f64>, burst: u32) {
        self.rate.set(per_second, burst);
    }

    /// Time for a request that does not wait by itself.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    fn admits(&self) -> Result<(), WriteError> {
        if self.raft().is_some() || self.rate.admits() { Ok(()) } else { Err(WriteError::Busy) }
    }

    /// A server on its own, without followers.
    #[cfg(test)]
    pub(crate) fn alone(raft: Raft, reader: &muster_catalog::Reader) -> Self {
        let pulse = || super::feed::Pulse { known_leader: true, last_contact: Duration::ZERO, caught_up: true };
        Self::new(Seat::Server { raft, source: Source::new(reader.clone(), pulse, crate::rpc::frame) }, None)
    }

    /// The log, on a server.
    pub(crate) fn raft(&self) -> Option<&Raft> {
        match &self.seat {
            Seat::Server { raft, .. } => Some(raft),
            Seat::Client(_) => None,
        }
    }

    /// What a server tells its followers.
    pub(crate) fn source(&self) -> Option<&Source> {
        match &self.seat {
            Seat::Server { source, .. } => Some(source),
            Seat::Client(_) => None,
        }
    }

    /// How old what this agent has can be.
    pub(crate) fn age(&self) -> Age {
        match &self.seat {
            Seat::Server { raft, .. } => {
                let (known_leader, last_contact) = raft.contact();
                Age { known_leader, last_contact }
            }
            Seat::Client(following) => following.age(),
        }
    }

    /// The server that is followed, by a client.
    pub(crate) fn followed(&self) -> Option<Uuid> {
        match &self.seat {
            Seat::Server { .. } => None,
            Seat::Client(following) => following.server(),
        }
    }

    /// The pool, where there may be peers.
    pub(crate) fn pool(&self) -> Option<&Pool> {
        self.away.as_ref().map(|away| &away.pool)
    }

    /// Returns when this agent's readers see the entry, or the time is over: then it says no.
    pub(crate) async fn sees(&self, index: Index, most: Duration) -> bool {
        match &self.seat {
            Seat::Server { raft, .. } if raft.applied_index() >= index => true,
            Seat::Server { raft, .. } => Box::pin(tokio::time::timeout(most, raft.applied(index))).await.is_ok(),
            Seat::Client(following) => Box::pin(following.wait_for(index, most)).await,
        }
    }

    /// The index that a read must have seen to be behind nothing that was acknowledged before it.
    pub(crate) async fn read_index(&self) -> Result<Index, WriteError> {
        match (&self.seat, &self.away) {
            (Seat::Server { raft, .. }, _) => raft.read_index().await,
            (Seat::Client(_), Some(Away { rounds: Some(rounds), .. })) => rounds.read_index().await,
            (Seat::Client(_), _) => Err(WriteError::NotLeader { leader: None }),
        }
    }

    /// Asks one server after the other, the one that served last first.
    pub(crate) async fn ask(&self, method: Method, body: Bytes, deadline: Duration) -> Result<Bytes, DeskError> {
        self.admits()?;
        let away = self.away.as_ref().ok_or(DeskError::NoLeader)?;
        away.ask(method, body, deadline).await
    }

    /// The same for an answer in pieces.
    pub(crate) async fn stream(&self, method: Method, body: Bytes, begin: Duration) -> Result<Frames, DeskError> {
        self.admits()?;
        let away = self.away.as_ref().ok_or(DeskError::NoLeader)?;
        let mut last = DeskError::NoLeader;
        for server in away.servers() {
            match away.pool.stream(server, method, body.clone(), begin).await {
                Ok(frames) => return Ok(frames),
                Err(error) => last = DeskError::Away(error),
            }
        }
        Err(last)
    }

    /// Has an encoded command written by the leader, whoever that is and becomes: attempts are begun for as long as `hold`. It keeps
    /// its number in every attempt, so it is applied once.
    pub(crate) async fn write(&self, proposal: Bytes, hold: Duration) -> Result<(Index, Outcome), WriteError> {
        self.admits()?;
        let until = Instant::now() + hold;
        let (mut pause, mut undecided, mut asked) = (PAUSE_MIN, false, None);
        loop {
            match self.attempt(&proposal, &mut asked).await {
                Ok(written) => return first_of_all(undecided, written),
                Err(ForwardError::Write(WriteError::NotLeader { leader })) => self.heard_of(leader.map(|(_, node)| node)),
                Err(ForwardError::Write(WriteError::Undecided)) => undecided = true,
                Err(ForwardError::Write(error)) if undecided => {
                    tracing::debug!(%error, "a command whose first attempt got no answer");
                    return Err(WriteError::Undecided);
                }
                Err(ForwardError::Write(error)) => return Err(error),
                Err(ForwardError::Undone(what)) => {
                    tracing::debug!(what, "a command did not get to a server: trying again");
                    self.heard_of(None);
                }
                Err(ForwardError::Unknown(what)) => {
                    tracing::debug!(what, "a command got no answer: trying again under its number");
                    undecided = true;
                    self.is_lost(asked);
                }
            }
            if Instant::now() + pause >= until {
                return Err(if undecided { WriteError::Undecided } else { WriteError::NotLeader { leader: None } });
            }
            Box::pin(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&self, proposal: &Bytes, asked: &mut Option<Uuid>) -> Result<(Index, Outcome), ForwardError> {
        let nobody = || ForwardError::Write(WriteError::NotLeader { leader: None });
        let to = match &self.seat {
            Seat::Server { raft, .. } if raft.is_leader() => return Ok(raft.write_encoded(proposal.clone()).await?),
            Seat::Server { raft, .. } => raft.leader().map(|(_, node)| node),
            Seat::Client(_) => self.away.as_ref().and_then(Away::likely),
        };
        let away = self.away.as_ref().ok_or_else(nobody)?;
        let to = to.filter(|to| *to != away.pool.identity().node()).ok_or_else(nobody)?;
        *asked = Some(to);
        // on the heap: a leader's write is small without it, and there may be hundreds
        let written = Box::pin(away.forwarder.write(to, proposal.clone(), ATTEMPT_MAX));
        let Seat::Server { raft, .. } = &self.seat else { return written.await };
        let elsewhere = Box::pin(raft.leads_no_more(to));
        tokio::select! {
            written = written => written,
            () = elsewhere => Err(ForwardError::Unknown("another server leads".to_owned())),
        }
    }

    fn heard_of(&self, leader: Option<Uuid>) {
        if let Some(away) = &self.away {
            let leader = leader.filter(|node| !away.is_silent(*node));
            *away.leader.lock().expect("no holder panics: a number is stored") = leader;
        }
    }

    /// Nothing came back from this one.
    fn is_lost(&self, asked: Option<Uuid>) {
        if let (Some(away), Some(node)) = (&self.away, asked) {
            *away.silent.lock().expect("no holder panics: a number is stored") = Some((node, Instant::now()));
            let mut leader = away.leader.lock().expect("no holder panics: a number is stored");
            *leader = leader.filter(|leader| *leader != node);
        }
    }
}

/// What came of a command as a whole. A session that is gone refuses an attempt, and says nothing of the attempts before it: told
/// again in a new session, the command might be applied twice.
fn first_of_all(undecided: bool, (index, outcome): (Index, Outcome)) -> Result<(Index, Outcome), WriteError> {
    match outcome {
        Outcome::Refused(Refusal::UnknownRun | Refusal::OutsideWindow) if undecided => Err(WriteError::Undecided),
        outcome => Ok((index, outcome)),
    }
}

impl Away {
    /// The leader as last heard of, else any server that speaks: that one says who leads.
    fn likely(&self) -> Option<Uuid> {
        let mut leader = self.leader.lock().expect("no holder panics: a number is stored");
        if leader.is_none_or(|node| self.pool.book().get(node).is_none()) {
            let all = self.pool.book().all();
            let speaks = |node: &Uuid| !self.is_silent(*node);
            *leader = all.keys().copied().filter(speaks).choose(&mut rand::rng()).or_else(|| any(self.pool.book()));
        }
        *leader
    }

    fn is_silent(&self, node: Uuid) -> bool {
        let silent = *self.silent.lock().expect("no holder panics: a number is stored");
        silent.is_some_and(|(silent, at)| silent == node && at.elapsed() < SILENT_FOR)
    }

    /// The one that served last first.
    fn servers(&self) -> Vec<Uuid> {
        let mut servers: Vec<Uuid> = self.pool.book().all().keys().copied().collect();
        if let Some(first) = *self.leader.lock().expect("no holder panics: a number is stored") {
            servers.sort_by_key(|node| *node != first);
        }
        servers
    }

    async fn ask(&self, method: Method, body: Bytes, deadline: Duration) -> Result<Bytes, DeskError> {
        let until = Instant::now() + deadline;
        let mut last = DeskError::NoLeader;
        for server in self.servers() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match self.pool.call(server, method, body.clone(), left).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    tracing::debug!(%error, "a server did not answer: asking the next one");
                    last = DeskError::Away(error);
                }
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_may_have_been_written_is_not_told_again_in_a_new_session() {
        for refusal in [Refusal::UnknownRun, Refusal::OutsideWindow] {
            let refused = (7, Outcome::Refused(refusal));
            assert_eq!(first_of_all(true, refused.clone()), Err(WriteError::Undecided));
            assert_eq!(first_of_all(false, refused.clone()), Ok(refused), "nothing was written: it may be told again");
        }
        assert_eq!(first_of_all(true, (7, Outcome::Kv(true))), Ok((7, Outcome::Kv(true))));
    }
}
