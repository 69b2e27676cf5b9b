//! Questions: answered from the local store, at once or when the answer can have changed.
#![allow(clippy::manual_async_fn)] // an `async fn` holds its arguments twice, and there are thousands of these
#![allow(clippy::disallowed_methods)] // waits for a leader are timed

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use muster_catalog::{Ask, Index, Part, State};
use smallvec::SmallVec;
use uuid::Uuid;

use super::watch::Bell;
use super::{Act, Desk, DeskError, Travel, Who, allow, times};
use crate::raft::Raft;

/// A client's copy that has not got there within this time lags: the question is asked of a server instead. A change is sent to who waits
/// for it at once, so this is many times what it takes.
const LAG_MAX: Duration = Duration::from_millis(200);

/// How new an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// As new as what was acknowledged before the question.
    Default,
    /// Whatever this agent has.
    Stale,
    /// As `Default`, with the leader's word for it; never without a leader.
    Consistent,
}

/// Hold the answer until its index is above this one, or the time is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait {
    pub(crate) seen: Index,
    pub(crate) timeout: Duration,
}

/// An answer and what is known of its age.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    /// Never 0.
    pub(crate) index: Index,
    pub(crate) known_leader: bool,
    pub(crate) last_contact_ms: u64,
    pub(crate) answer: T,
}

impl Desk {
    /// Answers a question. A waiting one takes the bell, looks, and sleeps until it rings, its time is over, or the
    /// agent stops: then the answer is what it is.
    ///
    /// Written as a block, here and below: a function that is `async` holds its arguments twice, and there are thousands of these.
    pub(crate) fn read<'a, A: Travel + Sync>(
        &'a self,
        who: &'a Who,
        ask: &'a A,
        consistency: Consistency,
        wait: Option<&'a Wait>,
    ) -> impl Future<Output = Result<Seen<A::Answer>, DeskError>> + Send + 'a {
        async move {
            self.asked(who, &ask.part())?;
            let travel = || Box::pin(self.carry(who, ask.question(), consistency, wait, |bytes| ask.read(bytes)));
            if !self.holds(&self.reader().load(), &ask.part()) {
                return travel().await;
            }
            // The futures of short waits are on the heap, and gone when the long one begins.
            let fresh = self.is_at_once(consistency)
                || match Box::pin(self.freshen(ask.part(), consistency)).await {
                    Err(DeskError::Behind) if self.raft().is_none() => return travel().await,
                    fresh => fresh?,
                };
            if let Some(wait) = wait.filter(|wait| wait.seen > 0) {
                self.wait_past(ask, wait).await;
            }
            // A copy may have been narrowed meanwhile.
            let Some(mut seen) = self.look(ask) else { return travel().await };
            seen.known_leader &= fresh;
            let (age, most) = (Duration::from_millis(seen.last_contact_ms), self.max_stale());
            if !seen.known_leader && age > most {
                return Err(DeskError::TooOld { age, most });
            }
            Ok(seen)
        }
    }

    /// Whether what was read from that state would be read from it again now, without asking anybody: then it counts as read, and this
    /// is how old it can be, in milliseconds.
    pub(crate) fn reads_again(&self, who: &Who, part: &Part, consistency: Consistency, then: &Weak<State>) -> Option<u64> {
        if !self.is_at_once(consistency) {
            return None;
        }
        let (known_leader, last_contact) = self.age();
        let state = self.reader().load();
        let stands = known_leader && std::ptr::eq(Arc::as_ptr(&state), then.as_ptr()) && self.holds(&state, part);
        (stands && self.asked(who, part).is_ok()).then_some(last_contact.as_millis() as u64)
    }

    /// Somebody asks: he may, and is counted, and a copy of a part of the catalog hears what it should hold.
    fn asked(&self, who: &Who, part: &Part) -> Result<(), DeskError> {
        allow(who, &Act::Read)?;
        if self.raft().is_some() {
            times::asked();
        }
        if let Some(wants) = self.wants() {
            wants.note(part);
        }
        Ok(())
    }

    /// Whether nobody has to be asked for an answer so new.
    pub(crate) fn is_at_once(&self, consistency: Consistency) -> bool {
        consistency == Consistency::Stale || (consistency == Consistency::Default && self.is_caught_up())
    }

    /// Whether the answer is as new as it was asked for; otherwise it is as old as this agent's rows are, and says so. Without a
    /// leader the catalog is told as far as it is known: a look-up must not need the quorum.
    async fn freshen(&self, part: Part, consistency: Consistency) -> Result<bool, DeskError> {
        let content = consistency == Consistency::Default && part != Part::Keys && !self.0.default_reads_fail;
        // who waits for nobody but itself has all that was acknowledged as soon as it leads again
        let alone = self.raft().is_some_and(Raft::is_alone);
        let patience = if content && !alone { Duration::ZERO } else { self.0.hold };
        let began = Instant::now();
        let fresh = self.fresh(patience, self.lag_max()).await;
        if consistency == Consistency::Consistent {
            times::sure().record(began.elapsed().as_secs_f64() * 1e3);
        }
        match fresh {
            Ok(()) => Ok(true),
            Err(DeskError::NoLeader) if content && self.reader().load().history().is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a leader is known, and how old what this agent has can be.
    pub(crate) fn age(&self) -> (bool, Duration) {
        let age = self.quorum().age();
        (age.known_leader, age.last_contact.unwrap_or_else(|| self.0.begun.elapsed()))
    }

    /// How long a question waits for what it must see: a client's goes to a server then.
    fn lag_max(&self) -> Option<Duration> {
        self.raft().is_none().then_some(LAG_MAX)
    }

    /// Whether all that the question looks at is in this agent's copy; a server has everything.
    fn holds(&self, state: &State, part: &Part) -> bool {
        self.raft().is_some() || state.covers(part)
    }

    /// The answer as it stands; `None` if this agent's copy does not hold it.
    fn look<A: Ask>(&self, ask: &A) -> Option<Seen<A::Answer>> {
        let (known_leader, last_contact) = self.age();
        let state = self.reader().load();
        self.holds(&state, &ask.part()).then(|| Seen {
            index: ask.index(&state).max(1),
            known_leader,
            last_contact_ms: last_contact.as_millis() as u64,
            answer: ask.look(&state),
        })
    }

    fn wait_past<'a, A: Ask + Sync>(&'a self, ask: &'a A, wait: &'a Wait) -> impl Future<Output = ()> + Send + 'a {
        async move {
            let history = self.reader().load().history();
            if self.is_past(ask, wait.seen, history) {
                return;
            }
            let waiting = self.bells().wait();
            let bells: SmallVec<[Bell; 1]> = ask.topics().iter().map(|topic| self.bells().take(topic)).collect();
            let mut over = pin!(tokio::time::sleep(wait.timeout));
            loop {
                let mut rings: SmallVec<[_; 1]> = bells.iter().map(|bell| Box::pin(bell.rung())).collect();
                for ring in &mut rings {
                    ring.as_mut().enable();
                }
                if self.is_past(ask, wait.seen, history) || self.stops() {
                    return;
                }
                let rung = poll_fn(|context| {
                    if over.as_mut().poll(context).is_ready() {
                        return Poll::Ready(false);
                    }
                    if rings.iter_mut().any(|ring| ring.as_mut().poll(context).is_ready()) {
                        return Poll::Ready(true);
                    }
                    Poll::Pending
                });
                if !rung.await {
                    return;
                }
                waiting.woken();
            }
        }
    }

    /// An in-memory agent's history is new at each start: an index from its future is one of a history that is gone,
    /// and waiting for it would be waiting for nothing. So it is when another history begins while somebody waits.
    fn is_past<A: Ask>(&self, ask: &A, seen: Index, history: Option<Uuid>) -> bool {
        let state = self.reader().load();
        let gone = state.history() != history || (self.forgetful() && seen > state.last_applied());
        gone || ask.index(&state).max(1) > seen || !self.holds(&state, &ask.part())
    }
}
