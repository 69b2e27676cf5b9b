//! Where this agent's node is, told to the catalog: seldom, and only where it has moved.
#![allow(clippy::disallowed_methods)] // The loop reads the clock: when it told it last.

use std::time::Duration;

use muster_catalog::{CauseKind, Command, Coordinate, Placed};
use rand::{Rng, RngExt};
use tokio::time::Instant;

use crate::desk::{Desk, Who};

/// At least this much between two, as Consul's agents.
const EVERY_MIN: Duration = Duration::from_secs(15);
/// All agents together tell no more than so many a second, as Consul's.
const A_SECOND: f64 = 64.0;
/// A move of less than this, in seconds, is none: below it all is noise.
const MOVED: f64 = 0.000_25;
/// And so is a change of the error below this.
const SURER: f64 = 0.1;
/// It is told again after this, moved or not: the node may have been registered anew.
const AGAIN: Duration = Duration::from_secs(600);

/// Runs until the agent stops.
pub(crate) async fn tell_place(desk: Desk, mut rng: impl Rng) {
    let mut stop = std::pin::pin!(desk.stopping());
    let mut told: Option<(Coordinate, Instant)> = None;
    loop {
        let members = desk.cluster().members().len();
        let every = EVERY_MIN.max(Duration::from_secs_f64(members as f64 / A_SECOND));
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(every.mul_f64(rng.random_range(0.9..1.1))) => {}
        }
        let coordinate = desk.cluster().coordinate();
        let known = desk.reader().load().node(desk.name().as_str()).is_some();
        let news = told.is_none_or(|(before, at)| moved(&before, &coordinate) || at.elapsed() >= AGAIN);
        // One that is alone tells it too: it has no distance to itself, which is asked for.
        if !known || !news {
            continue;
        }
        let command = Command::Place(vec![Placed { node: desk.name().clone(), coordinate }]);
        let who = Who::outside(desk.name().as_str(), None);
        match desk.write(&who, command, CauseKind::Sync, "where it is").await {
            Ok(_) => told = Some((coordinate, Instant::now())),
            Err(error) => tracing::debug!(%error, "where this node is could not be told"),
        }
    }
}

fn moved(before: &Coordinate, now: &Coordinate) -> bool {
    let squares = before.vec.iter().zip(&now.vec).map(|(a, b)| (a - b) * (a - b));
    let far = squares.sum::<f64>().sqrt() + (before.height - now.height).abs() + (before.adjustment - now.adjustment).abs();
    far > MOVED || (before.error - now.error).abs() > SURER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_no_move() {
        let here = Coordinate { error: 0.3, height: 0.001, ..Coordinate::default() };
        let there = |x, error, height| Coordinate { vec: [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], error, height, ..here };
        assert!(!moved(&here, &there(0.0001, 0.35, 0.0011)));
        assert!(moved(&here, &there(0.001, 0.3, 0.001)) && moved(&here, &there(0.0, 0.3, 0.002)));
        assert!(moved(&here, &there(0.0, 0.5, 0.001)));
    }
}
