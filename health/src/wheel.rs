//! When each check is due: an ordered set of instants, so that a waiting check costs a row and no task.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use muster_catalog::CheckId;
use rand::{Rng, RngExt};

/// Longest time anything here is set ahead. A definition may ask for centuries, which a clock cannot add.
pub(crate) const AHEAD_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Which bound a check's runs count against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// A connection: a descriptor and some kilobytes.
    Socket,
    /// A datagram: a descriptor too, and held for the whole time limit where nobody answers. Apart from connections, because
    /// many such would otherwise keep those waiting.
    Datagram,
    /// A program: a process and what it does.
    Exec,
}

impl Lane {
    pub(crate) const ALL: [Lane; 3] = [Lane::Socket, Lane::Datagram, Lane::Exec];
}

/// One run that is to start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) check: CheckId,
    /// How long ago it was due.
    pub(crate) late: Duration,
}

/// The beats of all probed checks.
///
/// A check is in `due` exactly while it does not run: so there are never two runs of one check, whatever is redefined meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    beats: HashMap<CheckId, Beat>,
    due: HashMap<Lane, BTreeSet<(Instant, CheckId)>>,
    /// Runs that have started and not ended, also those of checks removed or redefined since.
    running: HashMap<CheckId, Lane>,
    counts: HashMap<Lane, usize>,
}

#[derive(Debug)]
struct Beat {
    lane: Lane,
    interval: Duration,
    planned: Instant,
    /// Whether the run that goes on is this beat's; if not, it belongs to an earlier definition.
    taken: bool,
}

impl Wheel {
    /// Has `check` run every `interval`, the first time after a random part of it.
    pub(crate) fn set(&mut self, check: CheckId, lane: Lane, interval: Duration, now: Instant, rng: &mut impl Rng) {
        self.remove(&check);
        let interval = interval.clamp(muster_catalog::INTERVAL_MIN, AHEAD_MAX);
        let planned = now + interval.mul_f64(rng.random::<f64>());
        if !self.running.contains_key(&check) {
            self.due.entry(lane).or_default().insert((planned, check.clone()));
        }
        self.beats.insert(check, Beat { lane, interval, planned, taken: false });
    }

    /// Forgets `check`. A run that goes on is not forgotten until [`Wheel::done`].
    pub(crate) fn remove(&mut self, check: &CheckId) {
        if let Some(beat) = self.beats.remove(check)
            && let Some(due) = self.due.get_mut(&beat.lane)
        {
            due.remove(&(beat.planned, check.clone()));
        }
    }

    /// When the next run of `lane` is due.
    pub(crate) fn next(&self, lane: Lane) -> Option<Instant> {
        self.due.get(&lane)?.first().map(|(at, _)| *at)
    }

    /// Takes the run of `lane` that has been due longest; it runs until [`Wheel::done`].
    pub(crate) fn take(&mut self, lane: Lane, now: Instant) -> Option<Due> {
        let due = self.due.get_mut(&lane)?;
        if due.first()?.0 > now {
            return None;
        }
        let (at, check) = due.pop_first()?;
        self.running.insert(check.clone(), lane);
        *self.counts.entry(lane).or_default() += 1;
        if let Some(beat) = self.beats.get_mut(&check) {
            beat.taken = true;
        }
        Some(Due { check, late: now.saturating_duration_since(at) })
    }

    /// The run of `check` has ended: its next beat is the first one after `now`; what was missed meanwhile is not made up.
    pub(crate) fn done(&mut self, check: &CheckId, now: Instant) {
        if let Some(lane) = self.running.remove(check)
            && let Some(count) = self.counts.get_mut(&lane)
        {
            *count -= 1;
        }
        let Some(beat) = self.beats.get_mut(check) else { return };
        if beat.taken {
            beat.taken = false;
            beat.planned = next_beat(beat.planned, beat.interval, now);
        }
        self.due.entry(beat.lane).or_default().insert((beat.planned, check.clone()));
    }

    /// How many runs of `lane` go on.
    pub(crate) fn running(&self, lane: Lane) -> usize {
        self.counts.get(&lane).copied().unwrap_or(0)
    }
}

fn next_beat(planned: Instant, interval: Duration, now: Instant) -> Instant {
    let past = now.saturating_duration_since(planned).as_nanos() % interval.as_nanos().max(1);
    let ahead = interval - Duration::from_nanos(u64::try_from(past).unwrap_or(0));
    now.max(planned) + ahead
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(text: &str) -> CheckId {
        CheckId::new(text).expect("a name")
    }

    fn start() -> (Wheel, Instant, SmallRng) {
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from
        let now = Instant::now();
        (Wheel::default(), now, SmallRng::seed_from_u64(1))
    }

    #[test]
    fn first_runs_spread_over_the_interval() {
        let (mut wheel, now, mut rng) = start();
        for n in 0..1000 {
            wheel.set(id(&format!("c{n}")), Lane::Socket, 10 * SECOND, now, &mut rng);
        }
        for second in 1..=10 {
            let mut runs = 0;
            while wheel.take(Lane::Socket, now + second * SECOND).is_some() {
                runs += 1;
            }
            assert!((60..140).contains(&runs), "{runs} in second {second}");
        }
    }

    #[test]
    fn a_run_that_outlasts_its_interval_delays_the_next_and_is_not_made_up() {
        let (mut wheel, now, mut rng) = start();
        wheel.set(id("c"), Lane::Exec, 10 * SECOND, now, &mut rng);
        let first = wheel.next(Lane::Exec).expect("it is planned");
        assert!(wheel.take(Lane::Exec, first).is_some());
        assert_eq!(wheel.next(Lane::Exec), None);
        wheel.done(&id("c"), first + 35 * SECOND);
        assert_eq!(wheel.next(Lane::Exec), Some(first + 40 * SECOND));
    }

    #[test]
    fn a_run_that_starts_late_keeps_the_beat() {
        let (mut wheel, now, mut rng) = start();
        wheel.set(id("c"), Lane::Socket, 10 * SECOND, now, &mut rng);
        let first = wheel.next(Lane::Socket).expect("it is planned");
        assert_eq!(wheel.take(Lane::Socket, first + 3 * SECOND).expect("it is due").late, 3 * SECOND);
        wheel.done(&id("c"), first + 4 * SECOND);
        assert_eq!(wheel.next(Lane::Socket), Some(first + 10 * SECOND));
    }

    #[test]
    fn redefined_while_it_runs_it_waits_for_that_run() {
        let (mut wheel, now, mut rng) = start();
        wheel.set(id("c"), Lane::Socket, SECOND, now, &mut rng);
        assert!(wheel.take(Lane::Socket, now + SECOND).is_some());
        wheel.set(id("c"), Lane::Exec, SECOND, now + SECOND, &mut rng);
        assert!(wheel.take(Lane::Exec, now + 9 * SECOND).is_none());
        assert_eq!((wheel.running(Lane::Socket), wheel.running(Lane::Exec)), (1, 0));
        wheel.done(&id("c"), now + 9 * SECOND);
        assert!(wheel.take(Lane::Exec, now + 9 * SECOND).is_some());
    }

    #[test]
    fn an_interval_of_centuries_is_no_overflow() {
        let (mut wheel, now, mut rng) = start();
        wheel.set(id("c"), Lane::Socket, Duration::MAX, now, &mut rng);
        assert!(wheel.take(Lane::Socket, now + AHEAD_MAX).is_some());
        wheel.done(&id("c"), now + AHEAD_MAX);
        assert!(wheel.next(Lane::Socket).is_some());
    }

    #[derive(Debug, Clone)]
    enum Act {
        Set(u8, bool, u64),
        Remove(u8),
        Take(bool),
        Done(u8),
        Pass(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..5u8, any::<bool>(), 0..20_000u64).prop_map(|(n, exec, ms)| Act::Set(n, exec, ms)),
            (0..5u8).prop_map(Act::Remove),
            any::<bool>().prop_map(Act::Take),
            any::<bool>().prop_map(Act::Take),
            (0..5u8).prop_map(Act::Done),
            (0..5u8).prop_map(Act::Done),
            (0..5_000u64).prop_map(Act::Pass),
        ]
    }

    proptest! {
        #[test]
        fn never_two_runs_of_one_check_none_of_a_removed_one_and_none_is_lost(acts in prop::collection::vec(act(), 0..300)) {
            let (mut wheel, mut now, mut rng) = start();
            let mut told = std::collections::BTreeMap::new();
            let mut running = std::collections::BTreeSet::new();
            let lane = |exec| if exec { Lane::Exec } else { Lane::Socket };
            for act in acts {
                match act {
                    Act::Set(n, exec, ms) => {
                        wheel.set(id(&n.to_string()), lane(exec), Duration::from_millis(ms), now, &mut rng);
                        told.insert(id(&n.to_string()), (lane(exec), Duration::from_millis(ms).max(SECOND)));
                    }
                    Act::Remove(n) => {
                        wheel.remove(&id(&n.to_string()));
                        told.remove(&id(&n.to_string()));
                    }
                    Act::Take(exec) => {
                        if let Some(due) = wheel.take(lane(exec), now) {
                            prop_assert_eq!(told.get(&due.check).map(|told| told.0), Some(lane(exec)));
                            prop_assert!(running.insert(due.check), "two runs at once");
                        }
                    }
                    Act::Done(n) => {
                        if running.remove(&id(&n.to_string())) {
                            wheel.done(&id(&n.to_string()), now);
                        }
                    }
                    Act::Pass(ms) => now += Duration::from_millis(ms),
                }
                prop_assert_eq!(wheel.running(Lane::Socket) + wheel.running(Lane::Exec), running.len());
                let waiting: usize = wheel.due.values().map(BTreeSet::len).sum();
                prop_assert_eq!(waiting, told.keys().filter(|check| !running.contains(*check)).count());
            }
            for (check, (_, interval)) in &told {
                let planned = wheel.beats[check].planned;
                prop_assert!(planned <= now + *interval);
            }
        }

        #[test]
        fn quick_runs_come_once_an_interval(intervals in prop::collection::vec(1_000..9_000u64, 1..20), seed in any::<u64>()) {
            let (mut wheel, begin, _) = start();
            let mut rng = SmallRng::seed_from_u64(seed);
            for (n, ms) in intervals.iter().enumerate() {
                wheel.set(id(&n.to_string()), Lane::Socket, Duration::from_millis(*ms), begin, &mut rng);
            }
            let mut runs = vec![0u64; intervals.len()];
            let end = begin + 60 * SECOND;
            while let Some(at) = wheel.next(Lane::Socket).filter(|at| *at < end) {
                let due = wheel.take(Lane::Socket, at).expect("it is due");
                runs[due.check.as_str().parse::<usize>().expect("a number")] += 1;
                wheel.done(&due.check, at + Duration::from_millis(300));
            }
            for (ms, runs) in intervals.iter().zip(runs) {
                prop_assert!((60_000 / ms..=60_000 / ms + 1).contains(&runs), "{runs} runs every {ms} ms");
            }
        }
    }
}
