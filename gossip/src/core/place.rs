//! Where this agent is among the others, found from the round trips of its own probes: Vivaldi with height, a filter for spikes,
//! an adjustment for what no such space can express, and gravity.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::Core;
use crate::coordinate::{Coordinate, DIMENSIONS, ERROR_MAX, FAR_MAX, HEIGHT_MIN, difference, magnitude};
use crate::identity::Identity;

// All numbers are serf's.
/// How much one measurement changes the error.
const ERROR_STEP: f64 = 0.25;
/// How far one measurement moves the point.
const MOVE_STEP: f64 = 0.25;
/// Measurements of one member of which the median counts (Ledlie et al., network coordinates in the wild).
const SPIKE_WINDOW: usize = 3;
/// Measurements over which the adjustment is made.
const ADJUSTMENT_WINDOW: usize = 20;
/// How weakly points are drawn to the origin, that all do not drift away together.
const GRAVITY: f64 = 150.0;
/// Below this, a distance or a time is none.
const ZERO: f64 = 1.0e-6;

/// Where this agent is.
#[derive(Debug)]
pub(super) struct Place {
    own: Coordinate,
    adjustments: VecDeque<f64>,
    /// The last measurements of each living member.
    measured: BTreeMap<Uuid, VecDeque<f64>>,
    /// It rides on every other ack: all of them would cost half as much again as a ping does.
    told: bool,
    rng: SmallRng,
}

impl Place {
    pub(super) fn new(seed: u64) -> Self {
        let (adjustments, measured) = (VecDeque::with_capacity(ADJUSTMENT_WINDOW), BTreeMap::new());
        Self { own: Coordinate::default(), adjustments, measured, told: false, rng: SmallRng::seed_from_u64(seed) }
    }

    pub(super) fn forget(&mut self, node: Uuid) {
        self.measured.remove(&node);
    }

    /// What goes with an ack.
    pub(super) fn tell(&mut self) -> Option<Coordinate> {
        self.told = !self.told;
        self.told.then_some(self.own)
    }

    /// A member that is there answered after this time. False: that cannot be, and nothing was changed.
    fn observe(&mut self, node: Uuid, there: &Coordinate, time: Duration) -> bool {
        let time = time.as_secs_f64();
        if !there.is_sound() || time > FAR_MAX {
            return false;
        }
        let time = self.without_spikes(node, time).max(ZERO);
        self.spring(there, time);
        self.adjust(there, time);
        self.gravitate();
        if !self.own.is_sound() {
            // Nothing that is sound leads here; a point that no member takes would be no point.
            (self.own, self.adjustments) = (Coordinate::default(), VecDeque::new());
        }
        true
    }

    /// The median of the last few.
    fn without_spikes(&mut self, node: Uuid, time: f64) -> f64 {
        let measured = self.measured.entry(node).or_default();
        if measured.len() >= SPIKE_WINDOW {
            measured.pop_front();
        }
        measured.push_back(time);
        let mut sorted: Vec<f64> = measured.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    /// Both ends of a spring whose rest length is the time: this one moves, the less the surer it is.
    fn spring(&mut self, there: &Coordinate, time: f64) {
        let distance = self.own.distance(there);
        let wrong = (distance - time).abs() / time;
        let weight = self.own.error / (self.own.error + there.error).max(ZERO);
        self.own.error = (ERROR_STEP * weight * wrong + self.own.error * (1.0 - ERROR_STEP * weight)).min(ERROR_MAX);
        self.push(MOVE_STEP * weight * (time - distance), there);
    }

    fn push(&mut self, force: f64, there: &Coordinate) {
        let away = difference(&self.own.vec, &there.vec);
        let far = magnitude(&away);
        let unit = if far > ZERO { away.map(|number| number / far) } else { self.random_unit() };
        self.own.vec = std::array::from_fn(|n| self.own.vec[n] + unit[n] * force);
        if far > ZERO {
            self.own.height = ((self.own.height + there.height) * force / far + self.own.height).max(HEIGHT_MIN);
        }
    }

    fn random_unit(&mut self) -> [f64; DIMENSIONS] {
        let random: [f64; DIMENSIONS] = std::array::from_fn(|_| self.rng.random::<f64>() - 0.5);
        let far = magnitude(&random);
        if far > ZERO {
            return random.map(|number| number / far);
        }
        std::array::from_fn(|n| if n == 0 { 1.0 } else { 0.0 })
    }

    fn adjust(&mut self, there: &Coordinate, time: f64) {
        if self.adjustments.len() >= ADJUSTMENT_WINDOW {
            self.adjustments.pop_front();
        }
        self.adjustments.push_back(time - self.own.raw_distance(there));
        self.own.adjustment = self.adjustments.iter().sum::<f64>() / (2.0 * ADJUSTMENT_WINDOW as f64);
    }

    fn gravitate(&mut self) {
        let origin = Coordinate::default();
        let far = self.own.distance(&origin) / GRAVITY;
        self.push(-(far * far), &origin);
    }
}

impl Core {
    /// Where this agent is among the others.
    pub(crate) fn coordinate(&self) -> Coordinate {
        self.place.own
    }

    /// The first ack of a probe of our own, with where its sender is.
    pub(super) fn measured(&mut self, from: Identity, there: &Coordinate, sent: Instant, now: Instant) {
        if !self.place.observe(from.node, there, now.saturating_duration_since(sent)) {
            self.meters.misplaced();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(time: f64) -> Duration {
        Duration::from_secs_f64(time / 1000.0)
    }

    /// Three sites 40, 60 and 90 ms apart, four members each, with a way of its own of up to 2 ms each; `spikes`: so many of a
    /// hundred measurements take half a second more.
    fn settled(spikes: u32) -> (Vec<Place>, impl Fn(usize, usize) -> f64) {
        let real = |a: usize, b: usize| {
            let way = |n: usize| 0.2 + (n % 4) as f64 * 0.6;
            let between = match (a / 4, b / 4) {
                (x, y) if x == y => 0.1,
                (0, 1) | (1, 0) => 40.0,
                (1, 2) | (2, 1) => 60.0,
                _ => 90.0,
            };
            way(a) + way(b) + between
        };
        let mut places: Vec<Place> = (0..12).map(Place::new).collect();
        let mut rng = SmallRng::seed_from_u64(7);
        for _ in 0..1000 {
            for n in 0..places.len() {
                let with = (n + rng.random_range(1..places.len())) % places.len();
                let spike = if rng.random_range(0..100) < spikes { 500.0 } else { 0.0 };
                let time = real(n, with) * rng.random_range(0.97..1.03) + spike;
                let there = places[with].own;
                assert!(places[n].observe(Uuid::from_u128(with as u128), &there, ms(time)));
            }
        }
        (places, real)
    }

    fn median_error(places: &[Place], real: impl Fn(usize, usize) -> f64) -> f64 {
        let pairs = (0..12).flat_map(|a| (0..a).map(move |b| (a, b)));
        let mut errors: Vec<f64> =
            pairs.map(|(a, b)| (places[a].own.distance(&places[b].own) * 1000.0 - real(a, b)).abs() / real(a, b)).collect();
        errors.sort_by(f64::total_cmp);
        errors[errors.len() / 2]
    }

    #[test]
    fn distances_come_to_be_round_trips_spikes_or_not() {
        for spikes in [0, 3] {
            let (places, real) = settled(spikes);
            let error = median_error(&places, real);
            assert!(error < 0.10, "{error} with {spikes} % spikes");
            assert!(places.iter().all(|place| place.own.error < 0.5 && place.own.is_sound()));
            let held: usize = places.iter().map(|place| place.measured.values().map(VecDeque::len).sum::<usize>()).sum();
            assert!(held <= 12 * 11 * SPIKE_WINDOW, "{held}");
        }
    }

    #[test]
    fn what_cannot_be_moves_nobody() {
        let mut place = Place::new(1);
        let good = Coordinate { error: 0.5, ..Coordinate::default() };
        let with = |change: fn(&mut Coordinate)| {
            let mut bad = good;
            change(&mut bad);
            bad
        };
        let bad = [
            with(|bad| bad.vec[3] = f64::NAN),
            with(|bad| bad.vec[0] = f64::INFINITY),
            with(|bad| bad.vec[7] = -1000.0),
            with(|bad| bad.error = -0.1),
            with(|bad| bad.error = f64::NAN),
            with(|bad| bad.height = -1.0),
            with(|bad| bad.height = f64::NEG_INFINITY),
            with(|bad| bad.adjustment = 1e300),
        ];
        for bad in bad {
            assert!(!place.observe(Uuid::nil(), &bad, ms(1.0)), "{bad:?}");
        }
        assert!(!place.observe(Uuid::nil(), &good, Duration::from_secs(11)));
        assert_eq!((place.own, place.measured.len()), (Coordinate::default(), 0));
        assert!(place.observe(Uuid::nil(), &good, Duration::ZERO), "two on one host may take no time at all");
        assert!(place.own.is_sound());
    }

    #[test]
    fn nothing_that_is_sound_makes_one_that_is_not() {
        let (mut place, mut rng) = (Place::new(2), SmallRng::seed_from_u64(3));
        for n in 0..20_000 {
            let there = Coordinate {
                vec: std::array::from_fn(|_| rng.random_range(-FAR_MAX..=FAR_MAX)),
                error: rng.random_range(0.0..=ERROR_MAX),
                adjustment: rng.random_range(-FAR_MAX..=FAR_MAX),
                height: rng.random_range(0.0..=FAR_MAX),
            };
            assert!(place.observe(Uuid::from_u128(n % 50), &there, Duration::from_secs_f64(rng.random_range(0.0..10.0))));
            assert!(place.own.is_sound(), "after {n}");
        }
    }
}
