//! `near=`: answers in the order of their round trips from a node.

use std::time::Duration;

use muster_catalog::{Coordinate, Coordinates, Near, fold};
use serde_json::{Value, json};
use smol_str::SmolStr;

use super::Door;
use crate::desk::{Consistency, Who};

/// A client asks a server where nodes are; one that takes longer leaves the order as it is. An order is not worth a wait.
const ASK_MAX: Duration = Duration::from_secs(1);
/// This agent's node.
const AGENT: &str = "_agent";

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

/// The order by distance from that node, if anybody knows where it is.
pub(super) async fn order(door: &Door, who: &Who, node: &SmolStr) -> Near {
    let all = Coordinates::default();
    let asked = tokio::time::timeout(ASK_MAX, door.desk.read(who, &all, Consistency::Stale, None)).await;
    let Ok(Ok(seen)) = asked else { return Near::default() };
    let node = fold(if node == AGENT { door.desk.name().as_str() } else { node.as_str() });
    Near::of(seen.answer.iter().find(|there| fold(there.node.as_str()) == node), seen.answer.iter())
}
