//! Where nodes are in the space of round trips: what agents found out, and what is told from outside.

use serde::{Deserialize, Serialize};

use crate::name::NodeName;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f64) -> Coordinate {
        Coordinate { vec: [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], error: 0.5, adjustment: 0.0, height: 0.001 }
    }

    #[test]
    fn an_adjustment_never_makes_a_distance_negative() {
        let near = Coordinate { adjustment: -1.0, ..at(0.0) };
        assert!((near.distance(&at(0.01)) - 0.012).abs() < 1e-9);
        assert!((Coordinate { adjustment: -0.001, ..at(0.0) }.distance(&at(0.01)) - 0.011).abs() < 1e-9);
    }
}
