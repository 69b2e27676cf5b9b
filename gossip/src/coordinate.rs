//! Network coordinates: points between which the distance is a round-trip time.

use bytes::BufMut;

use crate::wire::{Malformed, Reader};

/// Dimensions of the space beside the height: serf's number.
pub const DIMENSIONS: usize = 8;
/// The error of one that knows nothing yet, and the largest there is: serf's.
pub(crate) const ERROR_MAX: f64 = 1.5;
/// Least height, in seconds: with none at all a point could not leave the plane again. serf's.
pub(crate) const HEIGHT_MIN: f64 = 10.0e-6;
/// In seconds, nothing in a network is further away than this; what claims to be is made up.
pub(crate) const FAR_MAX: f64 = 10.0;

/// Where a member is (Dabek et al., Vivaldi). All but the error is in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coordinate {
    /// The point.
    pub vec: [f64; DIMENSIONS],
    /// How far it is to be trusted: 0 is exact.
    pub error: f64,
    /// What measurements were found to be off by, on average (Lee et al., on the suitability of Euclidean embedding).
    pub adjustment: f64,
    /// The way from the core of the network to the member, which is a part of all its distances.
    pub height: f64,
}

impl Default for Coordinate {
    fn default() -> Self {
        Self { vec: [0.0; DIMENSIONS], error: ERROR_MAX, adjustment: 0.0, height: HEIGHT_MIN }
    }
}

impl Coordinate {
    /// The distance without the adjustments.
    pub(crate) fn raw_distance(&self, to: &Self) -> f64 {
        magnitude(&difference(&self.vec, &to.vec)) + self.height + to.height
    }

    /// The estimated round-trip time, in seconds.
    pub fn distance(&self, to: &Self) -> f64 {
        let raw = self.raw_distance(to);
        let adjusted = raw + self.adjustment + to.adjustment;
        if adjusted > 0.0 { adjusted } else { raw }
    }

    /// Whether it can be one.
    pub fn is_sound(&self) -> bool {
        let near = |number: f64| number.is_finite() && number.abs() <= FAR_MAX;
        let sound_error = self.error.is_finite() && (0.0..=ERROR_MAX).contains(&self.error);
        self.vec.iter().all(|number| near(*number))
            && near(self.adjustment)
            && near(self.height)
            && self.height >= 0.0
            && sound_error
    }

    /// In single precision: what is lost is far below what can be measured.
    pub(crate) fn put(&self, to: &mut Vec<u8>) {
        self.vec.iter().chain([&self.error, &self.adjustment, &self.height]).for_each(|number| to.put_f32(*number as f32));
    }

    /// Whatever the numbers are: whether they are sound is asked later.
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut number = || from.array().map(|bytes| f64::from(f32::from_be_bytes(bytes)));
        let mut vec = [0.0; DIMENSIONS];
        for place in &mut vec {
            *place = number()?;
        }
        Ok(Self { vec, error: number()?, adjustment: number()?, height: number()? })
    }
}

pub(crate) fn difference(a: &[f64; DIMENSIONS], b: &[f64; DIMENSIONS]) -> [f64; DIMENSIONS] {
    std::array::from_fn(|n| a[n] - b[n])
}

pub(crate) fn magnitude(vec: &[f64; DIMENSIONS]) -> f64 {
    vec.iter().map(|number| number * number).sum::<f64>().sqrt()
}
