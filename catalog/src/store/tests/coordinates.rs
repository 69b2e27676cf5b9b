//! Where nodes are: placed, lost with them, and carried by snapshots.

use uuid::Uuid;

use crate::cause::{Cause, CauseKind};
use crate::command::{Command, Deregister, Proposal, Register, Run, Target};
use crate::coordinate::{Coordinate, Placed};
use crate::meta::Meta;
use crate::name::NodeName;
use crate::query::{Ask as _, Coordinates};
use crate::row::Node;
use crate::state::State;
use crate::store::{Applied, Store};
use crate::topic::Topic;

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
    let proposal = Proposal { request: Uuid::nil(), run, number: index, answered_below: index, time_ms: index, cause, command };
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
