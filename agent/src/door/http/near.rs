//! `near=`: answers in the order of their round trips from a node.

use std::sync::Arc;
use std::time::Duration;

use muster_catalog::{Coordinate, Coordinates, Placed};
use serde_json::{Value, json};
use smol_str::SmolStr;

use super::Door;
use crate::desk::{Consistency, Who};

/// A client asks a server where nodes are; one that takes longer leaves the order as it is. An order is not worth a wait.
const ASK_MAX: Duration = Duration::from_secs(1);
/// This agent's node.
const AGENT: &str = "_agent";

/// From where distances are measured, and to where; nothing, where they are not.
pub(super) struct Near(Option<(Coordinate, Vec<Arc<Placed>>)>);

/// Where this agent is.
pub(super) fn own(door: &Door) -> Coordinate {
    door.desk.cluster().coordinate()
}

/// As Consul spells it.
pub(super) fn shown(coordinate: &Coordinate) -> Value {
    let Coordinate { vec, error, adjustment, height } = coordinate;
    json!({ "Vec": vec.map(number), "Error": number(*error), "Adjustment": number(*adjustment), "Height": number(*height) })
}

/// As Go writes it: a whole number has no fraction.
fn number(number: f64) -> Value {
    // Nothing sound is larger than 10 (`FAR_MAX` of gossip); a larger one keeps its fraction.
    if number.fract() == 0.0 && number.abs() <= 1000.0 { Value::from(number as i64) } else { Value::from(number) }
}

impl Near {
    /// No order.
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// From that node, if anybody knows where it is.
    pub(super) async fn of(door: &Door, who: &Who, node: &SmolStr) -> Self {
        let all = Coordinates::default();
        let asked = tokio::time::timeout(ASK_MAX, door.desk.read(who, &all, Consistency::Stale, None)).await;
        let Ok(Ok(seen)) = asked else { return Self::nothing() };
        let name = if node == AGENT { door.desk.name().as_str() } else { node.as_str() };
        let there = seen.answer.iter().find(|placed| placed.node.as_str().eq_ignore_ascii_case(name));
        Self(there.map(|there| there.coordinate).map(|from| (from, seen.answer)))
    }

    /// Puts the nearest first, and those of whom nobody knows where they are last; equals stay in their order.
    pub(super) fn sort<T>(&self, rows: &mut [T], node: impl Fn(&T) -> &str) {
        let Some((from, placed)) = &self.0 else { return };
        let distances: std::collections::HashMap<String, f64, foldhash::fast::FixedState> =
            placed.iter().map(|one| (one.node.as_str().to_lowercase(), from.distance(&one.coordinate))).collect();
        let distance = |row: &T| distances.get(&node(row).to_lowercase()).copied().unwrap_or(f64::INFINITY);
        rows.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    }
}

#[cfg(test)]
mod tests {
    use muster_catalog::NodeName;

    use super::*;

    #[test]
    fn the_nearest_come_first_and_the_unknown_last() {
        let at = |node: &str, x: f64| {
            let coordinate = Coordinate { vec: [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], ..Coordinate::default() };
            Arc::new(Placed { node: NodeName::new(node).expect("a name"), coordinate })
        };
        let placed = vec![at("A", 0.0), at("b", 0.5), at("c", 0.1)];
        let mut rows = ["x", "b", "y", "C", "a"];
        Near(Some((placed[0].coordinate, placed))).sort(&mut rows, |row| row);
        assert_eq!(rows, ["a", "C", "b", "x", "y"]);
        Near::nothing().sort(&mut rows, |row| row);
        assert_eq!(rows, ["a", "C", "b", "x", "y"]);
    }
}
