//! Where nodes are in the space of round trips: what agents found out, and what is told from outside.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::interest::Part;
use crate::name::NodeName;
use crate::query::Ask;
use crate::row::Index;
use crate::state::State;
use crate::topic::Topic;
use smallvec::{SmallVec, smallvec};
use smol_str::SmolStr;

/// Dimensions of the space beside the height: Consul's.
pub const DIMENSIONS: usize = 8;

/// A point, in seconds but for the error. The distance between two is a round-trip time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
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

impl State {
    /// Where nodes are that are known to be somewhere, by name.
    pub fn coordinates(&self) -> impl Iterator<Item = &Arc<Placed>> {
        self.coordinates.values()
    }

    /// Where a node (in any case) is.
    pub fn coordinate(&self, node: &str) -> Option<&Arc<Placed>> {
        self.coordinates.get(&*crate::name::fold(node))
    }

    /// True if anything changed. Who is no node any more, or never was, is nowhere.
    pub(crate) fn set_coordinates(&mut self, placed: Vec<Placed>, index: Index) -> bool {
        let before = self.coordinates_index;
        for Placed { node, coordinate } in placed {
            let folded = node.folded();
            let Some(host) = self.nodes.get(&folded).filter(|_| coordinate.is_sound()) else { continue };
            if self.coordinates.get(&folded).is_none_or(|known| known.coordinate != coordinate) {
                let node = host.row.node.clone();
                self.coordinates.insert(folded, Arc::new(Placed { node, coordinate }));
                self.coordinates_index = index;
            }
        }
        self.coordinates_index != before
    }

    /// The node is gone. True if it was somewhere.
    pub(crate) fn drop_coordinate(&mut self, node: &NodeName, index: Index) -> bool {
        let was = self.coordinates.remove(node).is_some();
        if was {
            self.coordinates_index = index;
        }
        was
    }
}

/// Where one node is, or all are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Coordinates {
    /// Its name in any case; `None` is all.
    pub node: Option<SmolStr>,
}

impl Ask for Coordinates {
    type Answer = Vec<Arc<Placed>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        smallvec![Topic::Coordinates]
    }
    fn look(&self, state: &State) -> Self::Answer {
        match &self.node {
            Some(node) => state.coordinate(node).cloned().into_iter().collect(),
            None => state.coordinates().cloned().collect(),
        }
    }
    /// As with keys: no copy holds it. They change all the time, and are seldom asked for.
    fn part(&self) -> Part {
        Part::Keys
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::cause::{Cause, CauseKind};
    use crate::command::{Command, Deregister, Proposal, Register, Run, Target};
    use crate::meta::Meta;
    use crate::row::Node;
    use crate::store::{Applied, Store};

    fn name(text: &str) -> NodeName {
        NodeName::new(text).expect("a name")
    }

    fn at(x: f64) -> Coordinate {
        Coordinate { vec: [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], error: 0.5, adjustment: 0.0, height: 0.001 }
    }

    fn apply(store: &mut Store, command: Command) -> Applied {
        let index = store.state().last_applied() + 1;
        let cause = Cause::new("test", CauseKind::Api, 5, "");
        let run = Run { agent: Uuid::from_u128(1), epoch: 1 };
        // As it comes out of the log.
        let proposal =
            Proposal { request: Uuid::nil(), run, number: index, answered_below: index, time_ms: index, cause, command };
        store.apply(index, Proposal::decode(&proposal.encode()).expect("it was just written"))
    }

    fn registered(nodes: &[&str]) -> Store {
        let mut store = Store::new();
        apply(&mut store, Command::OpenRun);
        for node in nodes {
            let about = Node { id: None, address: "::1".into(), tagged_addresses: Meta::new(), meta: Meta::new() };
            let register = Register { node: name(node), about: Some(about), services: vec![], checks: vec![], owner: None };
            apply(&mut store, Command::Register(register));
        }
        store
    }

    fn place(store: &mut Store, node: &str, coordinate: Coordinate) -> bool {
        let applied = apply(store, Command::Place(vec![Placed { node: name(node), coordinate }]));
        applied.touched.contains(&Topic::Coordinates)
    }

    #[test]
    fn nodes_are_where_they_were_placed_until_they_go() {
        let mut store = registered(&["Web", "db"]);
        assert!(place(&mut store, "web", at(0.1)) && place(&mut store, "DB", at(0.3)));
        let index = store.state().index(&Topic::Coordinates);
        assert!(!place(&mut store, "db", at(0.3)), "it is there already");
        assert!(!place(&mut store, "nobody", at(0.3)), "no such node");
        assert!(!place(&mut store, "db", Coordinate { error: f64::NAN, ..at(0.2) }), "no number");
        assert_eq!(store.state().index(&Topic::Coordinates), index);
        let all = Coordinates::default().look(store.state());
        assert_eq!(all.iter().map(|placed| placed.node.as_str()).collect::<Vec<_>>(), ["db", "Web"]);
        assert!((all[0].coordinate.distance(&all[1].coordinate) - 0.202).abs() < 1e-9);
        let mut bytes = Vec::new();
        store.state().write_to(&mut bytes).expect("memory takes all");
        let read = State::read_from(&*bytes).expect("it was just written");
        assert_eq!((Coordinates::default().look(&read), read.index(&Topic::Coordinates)), (all, index));
        let gone = Deregister { node: name("Web"), target: Target::Node, owner: None };
        assert!(apply(&mut store, Command::Deregister(gone)).touched.contains(&Topic::Coordinates));
        assert_eq!(Coordinates { node: Some("web".into()) }.look(store.state()), []);
        assert!(store.state().index(&Topic::Coordinates) > index, "who waits for its end hears of it");
    }

    #[test]
    fn an_adjustment_never_makes_a_distance_negative() {
        let near = Coordinate { adjustment: -1.0, ..at(0.0) };
        assert!((near.distance(&at(0.01)) - 0.012).abs() < 1e-9);
        assert!((Coordinate { adjustment: -0.001, ..at(0.0) }.distance(&at(0.01)) - 0.011).abs() < 1e-9);
    }
}
