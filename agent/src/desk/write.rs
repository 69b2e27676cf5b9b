//! Commands: numbered in this run's session of the log, stamped with the leader's time, and written once.
#![allow(clippy::disallowed_methods)] // writes are timed

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_catalog::{COMMANDS_IN_FLIGHT_MAX, Cause, CauseKind, Command, Index, Outcome, Proposal, Refusal, Run};
use tokio::sync::Notify;
use uuid::Builder;

use super::forward::write_forwarded;
use super::{Act, Desk, DeskError, Who, allow, times};
use crate::raft::Raft;
use crate::rpc::{self, Code};

/// How often a command is tried again in a new session when its own turned out to be unknown.
const REOPENINGS_MAX: u32 = 3;

/// How much longer a write takes until this agent's own readers see it, at most.
const OWN_WRITE_MAX: Duration = Duration::from_millis(100);

/// This run's session of the log.
#[derive(Debug)]
pub(crate) struct RunSession {
    numbers: Mutex<Numbers>,
    freed: Notify,
    /// Held while a session is opened: only one caller does it.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Numbers {
    run: Run,
    open: bool,
    next: u64,
    in_flight: BTreeSet<u64>,
}

/// One command's place in the session; given back when dropped.
struct Ticket<'a> {
    session: &'a RunSession,
    run: Run,
    number: u64,
    answered_below: u64,
}

impl RunSession {
    pub(crate) fn new(run: Run) -> Self {
        let numbers = Numbers { run, open: false, next: 1, in_flight: BTreeSet::new() };
        Self { numbers: Mutex::new(numbers), freed: Notify::new(), opening: tokio::sync::Mutex::new(()) }
    }

    /// Begins again under this epoch, if it is a later one.
    pub(super) fn raise(&self, epoch: u64) {
        let mut numbers = self.lock();
        if epoch > numbers.run.epoch {
            let run = Run { agent: numbers.run.agent, epoch };
            *numbers = Numbers { run, open: false, next: 1, in_flight: BTreeSet::new() };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Numbers> {
        self.numbers.lock().expect("no holder of this lock panics")
    }

    /// Waits until the window has room.
    async fn take(&self) -> Ticket<'_> {
        if let Some(ticket) = self.try_take() {
            return ticket;
        }
        loop {
            self.freed.notified().await; // one that is freed meanwhile is not missed: then this returns at once
            if let Some(ticket) = self.try_take() {
                self.freed.notify_one(); // one command that ends can make room for many
                return ticket;
            }
        }
    }

    fn try_take(&self) -> Option<Ticket<'_>> {
        let mut numbers = self.lock();
        let floor = numbers.in_flight.first().copied().unwrap_or(numbers.next);
        if numbers.next - floor >= COMMANDS_IN_FLIGHT_MAX {
            return None;
        }
        let number = numbers.next;
        numbers.next += 1;
        numbers.in_flight.insert(number);
        Some(Ticket { session: self, run: numbers.run, number, answered_below: floor.min(number) })
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut numbers = self.session.lock();
        if numbers.run == self.run {
            numbers.in_flight.remove(&self.number);
        }
        drop(numbers);
        self.session.freed.notify_one();
    }
}

impl Desk {
    /// Writes a command; it is durable and applied when this returns.
    pub(crate) async fn write(
        &self,
        who: &Who,
        command: Command,
        kind: CauseKind,
        reason: &str,
    ) -> Result<(Index, Outcome), DeskError> {
        allow(who, &Act::Write(&command))?;
        let cause = Cause::new(&who.from, kind, self.clock_ms(), reason);
        self.write_as(command, Arc::new(cause)).await
    }

    /// Writes a command of the agent's own.
    pub(crate) async fn write_as(&self, command: Command, cause: Arc<Cause>) -> Result<(Index, Outcome), DeskError> {
        // Where another server leads, it is told there.
        let timer = times::of(&command).filter(|_| self.raft().is_some_and(Raft::is_leader));
        let began = Instant::now();
        let mut reopenings = 0;
        loop {
            if !self.session().lock().open {
                Box::pin(self.open_session()).await?; // once in a run: not a part of each write's future
            }
            let ticket = self.session().take().await;
            let (index, outcome) = self.propose(&ticket, command.clone(), &cause).await?;
            match outcome {
                // Refused before it was applied, so it may be told again in a new session.
                Outcome::Refused(Refusal::UnknownRun | Refusal::OutsideWindow) if reopenings < REOPENINGS_MAX => {
                    reopenings += 1;
                    self.renew_session(ticket.run);
                }
                outcome => {
                    if let Some(timer) = timer {
                        timer.record(began.elapsed().as_secs_f64() * 1e3);
                    }
                    return Ok((index, outcome));
                }
            }
        }
    }

    /// Writes a command that only the leader may mean: where another server leads by now, it is not sent there.
    pub(crate) async fn write_as_leader(&self, command: Command, cause: &Cause) -> Result<(), DeskError> {
        let Some(raft) = self.raft() else { return Err(DeskError::NoLeader) };
        self.open_session().await?;
        let ticket = self.session().take().await;
        let proposal = self.proposal(&ticket, command, cause);
        match raft.write_encoded(proposal.encode().into()).await? {
            (_, Outcome::Refused(refusal @ (Refusal::UnknownRun | Refusal::OutsideWindow))) => {
                self.renew_session(ticket.run);
                Err(DeskError::Refused(refusal))
            }
            _ => Ok(()),
        }
    }

    /// Writes commands that another agent sent here, if this server leads.
    pub(crate) async fn write_for_another(&self, body: Bytes) -> Result<Bytes, rpc::Refusal> {
        let Some(raft) = self.raft() else { return Err(rpc::Refusal::new(Code::Method, "this node is no server")) };
        let now_ms = self.clock_ms().max(self.reader().load().time_ms());
        write_forwarded(raft, body, now_ms).await
    }

    fn proposal(&self, ticket: &Ticket<'_>, command: Command, cause: &Cause) -> Proposal {
        Proposal {
            request: Builder::from_random_bytes(rand::random()).into_uuid(), // no system call, as there is one in each `Uuid::new_v4`
            run: ticket.run,
            number: ticket.number,
            answered_below: ticket.answered_below,
            time_ms: self.clock_ms().max(self.reader().load().time_ms()),
            cause: cause.clone(),
            command,
        }
    }

    async fn propose(&self, ticket: &Ticket<'_>, command: Command, cause: &Cause) -> Result<(Index, Outcome), DeskError> {
        let proposal = self.proposal(ticket, command, cause);
        let (index, outcome) = self.quorum().write(proposal.encode().into(), self.0.hold).await?;
        // Who asked may read here next; a copy that is slower than this is not waited for.
        self.quorum().sees(index, OWN_WRITE_MAX).await;
        Ok((index, outcome))
    }

    /// Opens the session of this run in the log, once.
    async fn open_session(&self) -> Result<(), DeskError> {
        let _only_one = self.session().opening.lock().await;
        let run = {
            let numbers = self.session().lock();
            if numbers.open {
                return Ok(());
            }
            numbers.run
        };
        let cause = Cause::new(self.name(), CauseKind::Start, self.clock_ms(), "");
        let ticket = Ticket { session: self.session(), run, number: 0, answered_below: 0 };
        let (_, outcome) = self.propose(&ticket, Command::OpenRun, &cause).await?;
        if outcome == Outcome::Done {
            self.session().lock().open = true;
        } else {
            self.renew_session(run);
        }
        Ok(())
    }

    /// The log does not know this run, or knows a later one: begin another.
    fn renew_session(&self, run: Run) {
        let mut numbers = self.session().lock();
        if numbers.run == run {
            let renewed = Run { agent: run.agent, epoch: run.epoch + 1 };
            *numbers = Numbers { run: renewed, open: false, next: 1, in_flight: BTreeSet::new() };
        }
    }
}
