//! Where nodes are in the space of round trips: what agents found out, and what is told from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::name::{NodeName, fold};

/// Dimensions of the space beside the height: Consul's.
pub const DIMENSIONS: usize = 8;

/// A point, in seconds but for the error. The distance between two is a round-trip time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Coordinate {
    /// The point.
    pub vec: [f64; DIMENSIONS],
    /// How far it is to be trusted: 0 is exact.
    pub error: f64,
    /// What measurements were found to be off by.
    pub adjustment: f64,
    /// The way from the core of the network to the node.
    pub height: f64,
}

/// Of one that has measured nothing yet: Consul's.
impl Default for Coordinate {
    fn default() -> Self {
        Self { vec: [0.0; DIMENSIONS], error: 1.5, adjustment: 0.0, height: 10.0e-6 }
    }
}

impl Coordinate {
    /// Whether all of it are numbers that one can reckon with.
    pub fn is_sound(&self) -> bool {
        self.vec.iter().chain([&self.error, &self.adjustment, &self.height]).all(|number| number.is_finite())
    }

    /// The estimated round-trip time, in seconds.
    pub fn distance(&self, to: &Self) -> f64 {
        let squares = self.vec.iter().zip(&to.vec).map(|(a, b)| (a - b) * (a - b));
        let raw = squares.sum::<f64>().sqrt() + self.height + to.height;
        let adjusted = raw + self.adjustment + to.adjustment;
        if adjusted > 0.0 { adjusted } else { raw }
    }
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// The node.
    pub node: NodeName,
    /// Its place.
    pub coordinate: Coordinate,
}

/// An order: by the round trip from a node. Where nobody knows where that is, there is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Near {
    /// Comes before all others, wherever it is.
    first: SmolStr,
    /// By folded name.
    distances: BTreeMap<SmolStr, f64>,
}

impl Near {
    /// From there, if that is known, to all of these.
    pub fn of<'p>(from: Option<&Arc<Placed>>, placed: impl Iterator<Item = &'p Arc<Placed>>) -> Self {
        let to = |from: &Coordinate, one: &Placed| (SmolStr::new(&*fold(one.node.as_str())), from.distance(&one.coordinate));
        let distances = from.map(|from| placed.map(|one| to(&from.coordinate, one)).collect());
        Self { first: SmolStr::default(), distances: distances.unwrap_or_default() }
    }

    /// The same, with this node before all others.
    #[must_use]
    pub fn first(self, node: &str) -> Self {
        Self { first: SmolStr::new(&*fold(node)), ..self }
    }

    /// Puts the nearest first, and those of whom nobody knows where they are last; equals stay in their order.
    pub fn sort<T>(&self, rows: &mut [T], node: impl Fn(&T) -> &str) {
        if self.first.is_empty() && self.distances.is_empty() {
            return;
        }
        rows.sort_by_cached_key(|row| {
            let name = fold(node(row));
            let distance = self.distances.get(&*name).copied().unwrap_or(f64::INFINITY);
            // Distances are not negative, so that their bits are in their order.
            if *name == *self.first { 0 } else { distance.max(0.0).to_bits().saturating_add(1) }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f64) -> Coordinate {
        Coordinate { vec: [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], error: 0.5, adjustment: 0.0, height: 0.001 }
    }

    #[test]
    fn the_nearest_come_first_and_the_unknown_last() {
        let placed = |node: &str, x: f64| Arc::new(Placed { node: NodeName::new(node).expect("a name"), coordinate: at(x) });
        let placed = [placed("A", 0.0), placed("b", 0.5), placed("c", 0.1)];
        let mut rows = ["x", "b", "y", "C", "a"];
        Near::of(Some(&placed[0]), placed.iter()).sort(&mut rows, |row| row);
        assert_eq!(rows, ["a", "C", "b", "x", "y"]);
        Near::of(None, placed.iter()).sort(&mut rows, |row| row);
        Near::default().sort(&mut rows, |row| row);
        assert_eq!(rows, ["a", "C", "b", "x", "y"]);
        Near::of(Some(&placed[1]), placed.iter()).first("Y").sort(&mut rows, |row| row);
        assert_eq!(rows, ["y", "b", "C", "a", "x"]);
        Near::default().first("c").sort(&mut rows, |row| row);
        assert_eq!(rows, ["C", "y", "b", "a", "x"]);
    }

    #[test]
    fn an_adjustment_never_makes_a_distance_negative() {
        let near = Coordinate { adjustment: -1.0, ..at(0.0) };
        assert!((near.distance(&at(0.01)) - 0.012).abs() < 1e-9);
        assert!((Coordinate { adjustment: -0.001, ..at(0.0) }.distance(&at(0.01)) - 0.011).abs() < 1e-9);
    }
}
