//! What the page asks of the catalog: all of it, one service or one node, as one state to look into.

use std::sync::Arc;

use muster_catalog::{Ask, Interest, NodeName, Part, ServiceName, State, Topic};
use smallvec::{SmallVec, smallvec};

use super::super::Door;
use super::super::call::{Answering, Call};
use super::super::error::HttpError;
use super::super::options::{Family, ReadOptions, read};
use super::super::reply::Reply;
use super::show;
use crate::desk::{Question, Rows, Travel};

/// A state that holds all of a part of the catalog.
pub(super) struct Extract(pub(super) Part);

impl Ask for Extract {
    type Answer = State;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        match &self.0 {
            Part::Service(name) => smallvec![Topic::Health(name.clone())],
            Part::Node(node) => match NodeName::new(node) {
                Ok(name) => smallvec![Topic::Node(name.folded()), Topic::NodeChecks(name.folded())],
                Err(_) => smallvec![Topic::Nodes],
            },
            _ => smallvec![Topic::Services, Topic::Nodes, Topic::State(None)],
        }
    }
    fn look(&self, state: &State) -> State {
        state.clone()
    }
    fn part(&self) -> Part {
        self.0.clone()
    }
}

/// A client agent whose copy is a part asks a server for the rows. It is not woken by checks there: such a page is as old as its
/// longest wait, and one service or node only until the copy holds that too.
impl Travel for Extract {
    fn question(&self) -> Question {
        self.rows().question()
    }

    fn read(&self, bytes: &[u8]) -> Option<State> {
        Rows::state(&self.rows().read(bytes)?)
    }
}

impl Extract {
    fn rows(&self) -> Rows {
        let mut interest = Interest::default();
        let named = interest.widen(&self.0);
        Rows { of: named.then_some(interest) }
    }
}

/// One function for both, so that it is compiled once.
type Render = Box<dyn FnOnce(&Door, State) -> Reply + Send>;

/// `service?name=…`: its instances, their checks, and why each is as it is.
pub(super) fn service(door: Arc<Door>, call: Call) -> Answering {
    let name = call.query.get("name").map(|name| name.as_str()).unwrap_or_default();
    let ask = ServiceName::new(name).map_err(|error| HttpError::BadRequest(format!("Invalid service name: {error}")));
    answer(door, call, ask.map(|name| (Part::Service(name.folded()), show::service as Show)))
}

/// `node?name=…`: its checks, and the services on it with theirs.
pub(super) fn node(door: Arc<Door>, call: Call) -> Answering {
    let name = call.query.get("name").map(|name| name.as_str()).unwrap_or_default();
    let ask = NodeName::new(name).map_err(|error| HttpError::BadRequest(format!("Invalid node name: {error}")));
    answer(door, call, ask.map(|name| (Part::Node(name.as_str().into()), show::node as Show)))
}

/// Renders what the state has under a folded name, or nothing.
type Show = fn(&State, &str) -> Option<Vec<u8>>;

fn answer(door: Arc<Door>, call: Call, wanted: Result<(Part, Show), HttpError>) -> Answering {
    read(door, call, |door, call| {
        let options = ReadOptions::read(door, &call.query, &call.headers, Family::Catalog)?;
        let (part, show) = wanted?;
        let name = match &part {
            Part::Service(name) => name.as_str().to_owned(),
            Part::Node(name) => name.to_string(),
            _ => String::new(),
        };
        let render: Render = Box::new(move |_, state| match show(&state, &name) {
            Some(json) => Reply::json(json),
            None => Reply::json("null"),
        });
        Ok((options, Extract(part), render))
    })
}
