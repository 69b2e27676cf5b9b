//! How long sessions live without being renewed: the leader's count, which stands still while it cannot be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use muster_catalog::{Index, State, Topic};
use uuid::Uuid;

/// A session ends at this many of its TTLs, as Consul's do; programs count on it (Patroni halves what it asks for).
const TTLS: u32 = 2;
/// What is counted of the time between two looks at most: a process that was stopped, or starved, heard no renewals meanwhile.
const STEP_MAX: Duration = Duration::from_secs(1);

/// The leader's count. Elsewhere it is empty.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// The term in which this server leads, and counts.
    term: Option<u64>,
    /// Time that counts; a renewal takes its end from it.
    now: Duration,
    /// When it was last looked at.
    looked: Option<Instant>,
    ends: BTreeMap<Uuid, Duration>,
    /// Those whose time is over: their end is on its way into the log, and they cannot be renewed any more.
    ending: BTreeSet<Uuid>,
    /// The index of the table of sessions at the last look.
    seen: Option<Index>,
}

impl Leases {
    /// This server does not lead: its count means nothing.
    pub(crate) fn forget(&self) {
        *self.lock() = Counted::default();
    }

    /// Takes the time; it counts if a majority was heard of a moment ago. Sessions that are new to the count have all their time
    /// before them. Gives those whose time is over.
    pub(crate) fn look(&self, term: u64, state: &State, now: Instant, is_heard: bool) -> Vec<Uuid> {
        let mut counted = self.lock();
        if counted.term != Some(term) {
            *counted = Counted { term: Some(term), ..Counted::default() }; // another one led meanwhile
        }
        let since = counted.looked.replace(now).map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        if is_heard {
            counted.now += since.min(STEP_MAX);
        }
        let index = state.index(&Topic::Sessions);
        if counted.seen.replace(index) != Some(index) {
            counted.take_in(state);
        }
        let over = |ends: &Duration| *ends <= counted.now;
        let over: Vec<Uuid> = counted.ends.iter().filter(|(_, ends)| over(ends)).map(|(id, _)| *id).collect();
        for id in &over {
            counted.ends.remove(id);
            counted.ending.insert(*id);
        }
        metrics::gauge!("session_ttl.active").set(counted.ends.len() as f64);
        over
    }

    /// A session begins anew to count; `false` if its time is over.
    pub(crate) fn renew(&self, id: Uuid, ttl: Duration) -> bool {
        let mut counted = self.lock();
        if counted.ending.contains(&id) {
            return false;
        }
        if counted.term.is_some() && !ttl.is_zero() {
            let ends = counted.now + ttl * TTLS;
            counted.ends.insert(id, ends);
        }
        true
    }

    /// Its end did not get into the log: it is tried again at the next look.
    pub(crate) fn try_again(&self, id: Uuid) {
        let mut counted = self.lock();
        let now = counted.now;
        if counted.ending.contains(&id) {
            counted.ends.insert(id, now); // it stays among those that cannot be renewed
        }
    }

    /// How long until the next one is over, if there is any.
    pub(crate) fn next(&self) -> Option<Duration> {
        let counted = self.lock();
        counted.ends.values().min().map(|ends| ends.saturating_sub(counted.now))
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().expect("no holder panics: numbers are compared")
    }
}

impl Counted {
    fn take_in(&mut self, state: &State) {
        let now = self.now;
        let mut ends = BTreeMap::new();
        for session in state.sessions().filter(|session| session.ttl_ns > 0) {
            let full = now + Duration::from_nanos(session.ttl_ns) * TTLS;
            if !self.ending.contains(&session.id) || self.ends.contains_key(&session.id) {
                ends.insert(session.id, self.ends.get(&session.id).copied().unwrap_or(full));
            }
        }
        self.ends = ends;
        self.ending.retain(|id| state.session(*id).is_some());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // tests read the clock

    use std::sync::Arc;

    use muster_catalog::{
        Behavior, Cause, CauseKind, Command, CreateSession, Node, NodeName, Proposal, Register, Run, Session, Store,
    };

    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    /// A catalog with one session of ten seconds.
    fn store() -> Store {
        let mut store = Store::new();
        let cause = Cause::new("t", CauseKind::Api, 0, "");
        let node = NodeName::new("n").unwrap();
        let about = Node { id: None, address: "a".into(), tagged_addresses: Default::default(), meta: Default::default() };
        let session = Session {
            id: ID,
            name: "".into(),
            node: node.clone(),
            node_checks: None,
            service_checks: None,
            checks: vec![],
            lock_delay_ns: 0,
            behavior: Behavior::Release,
            ttl: "10s".into(),
            ttl_ns: 10_000_000_000,
            cause: Arc::new(cause.clone()),
            create_index: 0,
        };
        let register = Register { node, about: Some(about), services: vec![], checks: vec![], owner: None };
        let commands = [Command::OpenRun, Command::Register(register), Command::CreateSession(CreateSession { session })];
        for (number, command) in commands.into_iter().enumerate() {
            let number = number as u64;
            let run = Run { agent: Uuid::from_u128(1), epoch: 1 };
            let proposal =
                Proposal { request: Uuid::nil(), run, number, answered_below: 0, time_ms: 0, cause: cause.clone(), command };
            store.apply(number + 1, proposal);
        }
        assert!(store.state().session(ID).is_some());
        store
    }

    /// Looks each half second, for so long; when it was over, if it was.
    fn pass(leases: &Leases, state: &State, from: &mut Instant, halves: u32, is_heard: bool) -> Option<u32> {
        (0..halves).find(|_| {
            *from += Duration::from_millis(500);
            !leases.look(1, state, *from, is_heard).is_empty()
        })
    }

    #[test]
    fn a_session_is_over_at_twice_its_ttl_after_it_was_last_renewed() {
        let (leases, store, mut now) = (Leases::default(), store(), Instant::now());
        leases.look(1, store.state(), now, true);
        assert_eq!(pass(&leases, store.state(), &mut now, 30, true), None);
        assert!(leases.renew(ID, Duration::from_secs(10)));
        assert_eq!(pass(&leases, store.state(), &mut now, 39, true), None);
        assert_eq!(leases.next(), Some(Duration::from_millis(500)));
        assert_eq!(pass(&leases, store.state(), &mut now, 9, true), Some(0));
        assert!(!leases.renew(ID, Duration::from_secs(10)), "its end is on its way");
        leases.try_again(ID);
        assert!(!leases.renew(ID, Duration::from_secs(10)));
        assert_eq!(pass(&leases, store.state(), &mut now, 9, true), Some(0));
    }

    #[test]
    fn what_cannot_be_heard_and_what_was_slept_does_not_count() {
        let (leases, store, mut now) = (Leases::default(), store(), Instant::now());
        leases.look(1, store.state(), now, true);
        assert_eq!(pass(&leases, store.state(), &mut now, 1000, false), None);
        now += Duration::from_secs(3600);
        assert!(leases.look(1, store.state(), now, true).is_empty());
        assert_eq!(leases.next(), Some(Duration::from_secs(19)));
    }

    #[test]
    fn a_new_leader_gives_all_of_the_time_again() {
        let (leases, store, mut now) = (Leases::default(), store(), Instant::now());
        leases.look(1, store.state(), now, true);
        assert_eq!(pass(&leases, store.state(), &mut now, 39, true), None);
        leases.forget();
        assert!(leases.renew(ID, Duration::from_secs(10)), "whoever leads now will count it");
        assert_eq!(leases.next(), None);
        leases.look(1, store.state(), now, true);
        assert_eq!(pass(&leases, store.state(), &mut now, 39, true), None);
        assert!(leases.look(2, store.state(), now, true).is_empty());
        assert_eq!(leases.next(), Some(Duration::from_secs(20)));
    }
}
