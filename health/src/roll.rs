//! What is looked after: each check with its definition, its beat or time limit, and its counters.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_catalog::{CheckDefinition, CheckId, Probe, Status};
use rand::rngs::SmallRng;

use crate::error::Error;
use crate::text;
use crate::ttl::Ttl;
use crate::verdict::{Outcome, Source, Thresholds, Verdict};
use crate::wheel::{Lane, Wheel};

/// How many runs may go on at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) sockets_max: usize,
    pub(crate) execs_max: usize,
}

/// All checks, and the decisions about them.
#[derive(Debug)]
pub(crate) struct Roll {
    bounds: Bounds,
    rng: SmallRng,
    rows: HashMap<CheckId, Row>,
    wheel: Wheel,
    ttl: Ttl,
    /// Tickets of the runs that go on.
    running: HashMap<CheckId, u64>,
    /// Runs that nobody wants any more; each is in `running`.
    unwanted: Vec<CheckId>,
    ticket: u64,
    turn: u64,
}

#[derive(Debug)]
struct Row {
    definition: Arc<CheckDefinition>,
    generation: u64,
    /// Which run its result may come from.
    ticket: u64,
    thresholds: Thresholds,
}

/// A run that is to start now.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) definition: Arc<CheckDefinition>,
    pub(crate) late: Duration,
}

impl Roll {
    pub(crate) fn new(bounds: Bounds, rng: SmallRng) -> Self {
        Self {
            bounds,
            rng,
            rows: HashMap::new(),
            wheel: Wheel::default(),
            ttl: Ttl::default(),
            running: HashMap::new(),
            unwanted: Vec::new(),
            ticket: 0,
            turn: 0,
        }
    }

    /// Looks after a check from now on, in place of what was known under its id. An alias needs no looking after.
    pub(crate) fn set(&mut self, definition: CheckDefinition, generation: u64, now: Instant) {
        let check = definition.id.clone();
        if let Some(row) = self.rows.get_mut(&check).filter(|row| *row.definition == definition) {
            // Told again as it was: its rhythm and its counters go on. Only a report's time starts anew.
            row.generation = generation;
            if let Probe::Ttl(ttl) = &definition.probe {
                self.ttl.set(check, *ttl, now);
            }
            return;
        }
        self.remove(&check);
        match &definition.probe {
            Probe::Alias(_) => return,
            Probe::Ttl(ttl) => self.ttl.set(check.clone(), *ttl, now),
            Probe::Http(_) | Probe::Tcp(_) | Probe::Grpc(_) | Probe::H2Ping(_) => self.beat(Lane::Socket, &definition, now),
            Probe::Udp(_) => self.beat(Lane::Datagram, &definition, now),
            Probe::Exec(_) | Probe::Docker(_) | Probe::OsService(_) => self.beat(Lane::Exec, &definition, now),
        }
        self.ticket += 1;
        let thresholds = Thresholds::new(&definition);
        self.rows.insert(check, Row { definition: Arc::new(definition), generation, ticket: self.ticket, thresholds });
    }

    fn beat(&mut self, lane: Lane, definition: &CheckDefinition, now: Instant) {
        self.wheel.set(definition.id.clone(), lane, definition.interval, now, &mut self.rng);
    }

    /// Forgets a check; a run of it that goes on is unwanted.
    pub(crate) fn remove(&mut self, check: &CheckId) {
        let Some(row) = self.rows.remove(check) else { return };
        self.wheel.remove(check);
        self.ttl.remove(check);
        if self.running.get(check) == Some(&row.ticket) {
            self.unwanted.push(check.clone());
        }
    }

    /// Takes a report of a TTL check.
    pub(crate) fn report(&mut self, check: &CheckId, status: Status, output: String, now: Instant) -> Result<Verdict, Error> {
        let row = self.rows.get(check).ok_or_else(|| Error::UnknownCheck(check.clone()))?;
        let output = text::head(output, row.definition.output_bytes_max);
        if !self.ttl.report(check, &output, now) {
            return Err(Error::NotTtl(check.clone()));
        }
        let generation = row.generation;
        Ok(self.verdict(check.clone(), generation, status, output, Source::Report))
    }

    /// The next TTL check whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Verdict> {
        let (check, output) = self.ttl.take(now)?;
        let generation = self.rows.get(&check)?.generation;
        Some(self.verdict(check, generation, Status::Critical, output, Source::Expiry))
    }

    /// The next run that is due and for which there is room.
    pub(crate) fn start(&mut self, now: Instant) -> Option<Start> {
        let due = Lane::ALL.into_iter().find_map(|lane| if self.has_room(lane) { self.wheel.take(lane, now) } else { None })?;
        let row = self.rows.get(&due.check)?;
        self.running.insert(due.check, row.ticket);
        Some(Start { definition: row.definition.clone(), late: due.late })
    }

    /// A run ended; `None` if it was broken off. Its outcome counts if the check is still defined as it was when it started.
    pub(crate) fn ended(&mut self, check: &CheckId, outcome: Option<Outcome>, now: Instant) -> Option<Verdict> {
        self.wheel.done(check, now);
        let ticket = self.running.remove(check);
        let outcome = outcome?;
        let row = self.rows.get_mut(check).filter(|row| Some(row.ticket) == ticket)?;
        let status = row.thresholds.judge(&outcome)?;
        let generation = row.generation;
        Some(self.verdict(check.clone(), generation, status, outcome.output, Source::Probe))
    }

    /// The runs to break off.
    pub(crate) fn unwanted(&mut self) -> Vec<CheckId> {
        std::mem::take(&mut self.unwanted)
    }

    /// When there is something to do next, unless something happens before.
    pub(crate) fn next(&self) -> Option<Instant> {
        let lanes = Lane::ALL.into_iter().filter(|lane| self.has_room(*lane));
        lanes.filter_map(|lane| self.wheel.next(lane)).chain(self.ttl.next()).min()
    }

    fn has_room(&self, lane: Lane) -> bool {
        let max = match lane {
            Lane::Socket | Lane::Datagram => self.bounds.sockets_max,
            Lane::Exec => self.bounds.execs_max,
        };
        self.wheel.running(lane) < max
    }

    fn verdict(&mut self, check: CheckId, generation: u64, status: Status, output: String, source: Source) -> Verdict {
        self.turn += 1;
        Verdict { check, generation, turn: self.turn, status, output, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use muster_catalog::{AliasProbe, TcpProbe};
    use rand::SeedableRng;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> (Roll, Instant) {
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from
        let now = Instant::now();
        (Roll::new(Bounds { sockets_max: 2, execs_max: 1 }, SmallRng::seed_from_u64(1)), now)
    }

    fn tcp(id: &str) -> CheckDefinition {
        testing::check(id, Probe::Tcp(TcpProbe::default()))
    }

    fn id(text: &str) -> CheckId {
        CheckId::new(text).expect("a name")
    }

    fn passing() -> Option<Outcome> {
        Some(Outcome::new(Status::Passing, "fine".into()))
    }

    #[test]
    fn no_more_runs_than_there_is_room_for_and_then_no_waking() {
        let (mut roll, now) = start();
        for check in ["a", "b", "c"] {
            roll.set(tcp(check), 1, now);
        }
        let later = now + SECOND;
        let first = roll.start(later).expect("a run");
        assert!(roll.start(later).is_some());
        assert!(roll.start(later).is_none());
        assert_eq!(roll.next(), None);
        let verdict = roll.ended(&first.definition.id, passing(), later).expect("a verdict");
        assert_eq!((verdict.status, verdict.source, verdict.generation), (Status::Passing, Source::Probe, 1));
        assert!(roll.next().is_some());
        assert!(roll.start(later).is_some());
    }

    #[test]
    fn the_result_of_an_earlier_definition_is_nobodys() {
        let (mut roll, now) = start();
        roll.set(tcp("a"), 1, now);
        assert!(roll.start(now + SECOND).is_some());
        roll.set(CheckDefinition { notes: "other".into(), ..tcp("a") }, 2, now + SECOND);
        assert_eq!(roll.unwanted(), [id("a")]);
        assert!(roll.start(now + 3 * SECOND).is_none());
        assert_eq!(roll.ended(&id("a"), passing(), now + 3 * SECOND), None);
        assert!(roll.start(now + 3 * SECOND).is_some());
        assert_eq!(roll.ended(&id("a"), passing(), now + 3 * SECOND).expect("a verdict").generation, 2);
    }

    #[test]
    fn told_again_as_it_was_it_keeps_its_run_its_beat_and_its_counters() {
        let (mut roll, now) = start();
        let patient = || CheckDefinition { failures_before_critical: 2, ..tcp("a") };
        roll.set(patient(), 1, now);
        assert!(roll.start(now + SECOND).is_some());
        assert!(roll.ended(&id("a"), passing(), now + SECOND).is_some());
        let beat = roll.next().expect("a next beat");
        assert!(roll.start(beat).is_some());
        roll.set(patient(), 2, beat);
        assert!(roll.unwanted().is_empty());
        let failure = || Some(Outcome::critical("gone".into()));
        assert_eq!(roll.ended(&id("a"), failure(), beat), None);
        assert_eq!(roll.next(), Some(beat + SECOND));
        assert!(roll.start(beat + SECOND).is_some());
        let verdict = roll.ended(&id("a"), failure(), beat + SECOND).expect("the second failure");
        assert_eq!((verdict.status, verdict.generation), (Status::Critical, 2));
    }

    #[test]
    fn a_check_that_becomes_ttl_while_it_runs_is_reported_at_once() {
        let (mut roll, now) = start();
        roll.set(tcp("a"), 1, now);
        assert!(roll.start(now + SECOND).is_some());
        roll.set(testing::ttl("a", SECOND), 2, now + SECOND);
        assert!(roll.report(&id("a"), Status::Passing, "up".into(), now + SECOND).is_ok());
        assert_eq!(roll.ended(&id("a"), passing(), now + SECOND), None);
        assert_eq!(roll.expire(now + 2 * SECOND).expect("an expiry").status, Status::Critical);
    }

    #[test]
    fn a_report_has_a_higher_turn_than_the_expiry_it_overtakes() {
        let (mut roll, now) = start();
        roll.set(testing::ttl("a", SECOND), 1, now);
        let expiry = roll.expire(now + SECOND).expect("an expiry");
        let report = roll.report(&id("a"), Status::Passing, "x".repeat(5000), now + SECOND).expect("it is TTL");
        assert!(report.turn > expiry.turn);
        assert!(report.output.ends_with("x ... (captured 4096 of 5000 bytes)"));
    }

    #[test]
    fn two_thousand_overdue_checks_half_of_which_time_out_find_back_to_their_beat() {
        const CHECKS: u32 = 2_000;
        let (interval, timeout, quick) = (10 * SECOND, SECOND, SECOND / 200);
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from
        let begin = Instant::now();
        let mut roll = Roll::new(Bounds { sockets_max: 256, execs_max: 1 }, SmallRng::seed_from_u64(35));
        for n in 0..CHECKS {
            roll.set(CheckDefinition { interval, ..tcp(&n.to_string()) }, 1, begin);
        }
        // The machine stood still for an interval: now all of them are due together.
        let woken = begin + interval;
        let mut now = woken;
        let mut ends = std::collections::BTreeSet::new();
        let mut started: HashMap<CheckId, Vec<Instant>> = HashMap::new();
        while now < woken + 5 * interval {
            while let Some(start) = roll.start(now) {
                let check = start.definition.id.clone();
                let takes = if check.as_str().ends_with(['1', '3', '5', '7', '9']) { timeout } else { quick };
                ends.insert((now + takes, check.clone()));
                started.entry(check).or_default().push(now);
            }
            assert!(ends.len() <= 256);
            let next = roll.next().into_iter().chain(ends.first().map(|(at, _)| *at)).min();
            now = next.expect("there always is a next").max(now);
            while ends.first().is_some_and(|(at, _)| *at <= now) {
                let (_, check) = ends.pop_first().expect("it was just seen");
                assert!(roll.ended(&check, passing(), now).is_some());
            }
        }
        let all_seen_after = started.values().map(|starts| starts[0] - woken).max().expect("there are some");
        assert!(all_seen_after < 5 * SECOND, "{all_seen_after:?} until each was looked at");
        assert_eq!(started.len(), CHECKS as usize);
        for starts in started.values() {
            // The backlog takes 2 × 1,000 s of waiting through 256 runs: after an interval each beat is kept.
            let settled: Vec<Instant> = starts.iter().copied().filter(|at| *at > woken + interval).collect();
            let gaps: Vec<Duration> = settled.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(gaps.len() >= 2, "{} beats in four intervals", settled.len());
            assert!(gaps.iter().all(|gap| (interval.mul_f64(0.9)..=interval.mul_f64(1.1)).contains(gap)), "{gaps:?}");
        }
    }

    #[test]
    fn only_ttl_checks_take_reports() {
        let (mut roll, now) = start();
        roll.set(tcp("a"), 1, now);
        roll.set(testing::check("b", Probe::Alias(AliasProbe::default())), 1, now);
        let report = |roll: &mut Roll, check| roll.report(&id(check), Status::Passing, String::new(), now);
        assert_eq!(report(&mut roll, "a"), Err(Error::NotTtl(id("a"))));
        assert_eq!(report(&mut roll, "b"), Err(Error::UnknownCheck(id("b"))));
    }
}
