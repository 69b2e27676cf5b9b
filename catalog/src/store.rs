//! The one place where anything in the catalog changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use uuid::Uuid;

use crate::cause::Cause;
use crate::command::{Command, Outcome, Proposal, Refusal, Removed};
use crate::coordinate::Placed;
use crate::name::NodeName;
use crate::removal::Removals;
use crate::row::Index;
use crate::run::Admission;
use crate::state::State;
use crate::topic::Topic;

mod enter;
mod keys;
mod nodes;
mod place;
mod restore;
mod sessions;
mod transaction;
pub use enter::Touched;
pub(crate) use nodes::SERF_HEALTH;
#[cfg(test)]
mod tests;

/// What came of applying a command.
#[derive(Debug)]
pub struct Applied {
    /// What the client is told.
    pub outcome: Outcome,
    /// What can be answered differently now: whose bells are to be rung, once the state is published.
    pub touched: BTreeSet<Topic>,
    /// Whether everything can be: the tables were replaced.
    pub replaced: bool,
}

/// The writer's side: one task owns it. *Change, publish, ring.*
#[derive(Debug)]
pub struct Store {
    state: State,
    published: Arc<ArcSwap<State>>,
}

/// The readers' side: a consistent state without a lock.
#[derive(Debug, Clone)]
pub struct Reader {
    published: Arc<ArcSwap<State>>,
}

impl Reader {
    /// The newest published state, held as long as the guard is. Hold it briefly; clone the `Arc` to keep it.
    pub fn load(&self) -> Guard<Arc<State>> {
        self.published.load()
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty catalog.
    pub fn new() -> Self {
        let state = State::default();
        Self { published: Arc::new(ArcSwap::from_pointee(state.clone())), state }
    }

    /// A reader of what is published.
    pub fn reader(&self) -> Reader {
        Reader { published: self.published.clone() }
    }

    /// The state with everything that was applied, published or not.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Makes everything applied so far visible to readers.
    pub fn publish(&self) {
        self.published.store(Arc::new(self.state.clone()));
    }

    /// Replaces everything, as a snapshot says; publishes. Every bell is to be rung.
    pub fn install(&mut self, state: State) {
        self.state = state;
        self.publish();
    }

    /// An entry of the log without a command in it: only the position moves.
    pub fn pass(&mut self, index: Index) {
        self.state.applied = index;
    }

    /// Applies one command. Never fails: what a client got wrong is an outcome. A command whose number was applied
    /// before in its session gives the outcome of then, and touches nothing.
    pub fn apply(&mut self, index: Index, proposal: Proposal) -> Applied {
        let Proposal { run, number, answered_below, time_ms, cause, command, request: _ } = proposal;
        self.state.applied = index;
        self.state.time_ms = self.state.time_ms.max(time_ms);
        self.state.sessions.let_go(self.state.time_ms);
        self.state.drop_abandoned();
        if command == Command::OpenRun {
            return Applied { outcome: self.state.runs.open(run), touched: BTreeSet::new(), replaced: false };
        }
        if let Admission::Known(outcome) = self.state.runs.admit(run, number, answered_below) {
            return Applied { outcome, touched: BTreeSet::new(), replaced: false };
        }
        let switches = matches!(command, Command::Switch(_));
        let mut change = Change::new(&mut self.state, index, run.agent, cause);
        let outcome = match command {
            Command::OpenRun => Outcome::Done,
            Command::Found(history) => change.found(history),
            Command::Register(register) => outcome(change.register(register)),
            Command::Deregister(deregister) => change.deregister(deregister),
            Command::Kv(kv) => change.key(kv),
            Command::AcknowledgeRemovals(removed) => change.acknowledge(&removed),
            Command::SetAutopilot(set) => Outcome::Kv(change.state.set_autopilot(set, index)),
            Command::Place(placed) => change.place(placed),
            Command::CreateSession(create) => outcome(change.create_session(create.session)),
            Command::EndSession(end) => {
                let cause = change.cause.clone();
                change.end_session(end.id, &cause.reason, &cause);
                Outcome::Done
            }
            Command::Transaction(ops) => Outcome::Transaction(change.transact(&ops)),
            Command::Stage(chunk) => outcome(change.state.stage(chunk)),
            Command::Switch(switch) => outcome(change.state.switch(switch, index)),
            Command::GiveUp(restore) => {
                change.state.give_up(restore);
                Outcome::Done
            }
            Command::SetQuery(set) => {
                let State { queries, sessions, .. } = &mut *change.state;
                told(queries.set(*set, sessions, &change.cause, index))
            }
            Command::DeleteQuery(id) => told(change.state.queries.delete(id, index)),
        };
        change.settle();
        let touched = change.touched;
        self.state.runs.keep(run, number, outcome.to_keep());
        let replaced = switches && outcome == Outcome::Done;
        Applied { outcome, touched, replaced }
    }
}

fn outcome(result: Result<(), Refusal>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(refusal) => Outcome::Refused(refusal),
    }
}

/// What a query cannot be, in Consul's words.
fn told(result: Result<(), String>) -> Outcome {
    outcome(result.map_err(|what| Refusal::Query(what.into())))
}

/// One command at work.
struct Change<'a> {
    state: &'a mut State,
    index: Index,
    /// The agent that proposed it.
    agent: Uuid,
    cause: Arc<Cause>,
    touched: BTreeSet<Topic>,
    /// The node whose instances are to be made anew at the end, because checks of its own changed.
    stale: Option<(NodeName, nodes::Seen)>,
}

impl<'a> Change<'a> {
    fn new(state: &'a mut State, index: Index, agent: Uuid, cause: Cause) -> Self {
        Self { state, index, agent, cause: Arc::new(cause), touched: BTreeSet::new(), stale: None }
    }

    fn found(&mut self, history: Uuid) -> Outcome {
        if self.state.history != Some(history) {
            self.state.removals = Removals::default(); // A mark of another history means nothing.
        }
        self.state.history = Some(history);
        Outcome::Done
    }

    fn acknowledge(&mut self, removed: &[Removed]) -> Outcome {
        for removed in removed {
            self.state.removals.acknowledge(self.agent, removed);
        }
        Outcome::Done
    }

    fn place(&mut self, placed: Vec<Placed>) -> Outcome {
        if self.state.set_coordinates(placed, self.index) {
            self.touch(Topic::Coordinates);
        }
        Outcome::Done
    }

    fn touch(&mut self, topic: Topic) {
        self.touched.insert(topic);
    }

    fn touch_node(&mut self, node: &NodeName) {
        self.touched.insert(Topic::Node(node.clone()));
    }
}
