//! Followers: whatever way a batch came, who entered it has the servers' rows, answers and indexes, and has rung enough bells.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index as Pick;

use super::questions::Question;
use super::world::{Clerk, IDS, Step, What, step};
use super::{Model, rings, topics};
use crate::cause::CauseKind;
use crate::command::Command;
use crate::error::EnterError;
use crate::feed::{Batch, FRAME_BYTES_MAX, Incoming, Intake, Resume};
use crate::state::State;
use crate::store::{Store, Touched};
use crate::topic::Topic;

const FOLLOWERS: usize = 2;

#[derive(Debug, Clone)]
enum Move {
    /// The servers apply something.
    Step(Step),
    /// The next changes of a feed that is open, up to somewhere.
    Live { follower: usize, to: Pick },
    /// A batch that some server made for others: older, overlapping or too late.
    Foreign { follower: usize, from: Pick, to: Pick },
    /// Another server goes on, wherever that one is.
    Resume { follower: usize, server: Pick },
    /// Everything, from wherever a server is.
    Whole { follower: usize, server: Pick },
    /// The follower starts again from its own copy.
    Restart { follower: usize },
}

fn moves() -> impl Strategy<Value = Move> {
    let pick = any::<Pick>;
    prop_oneof![
        12 => step().prop_map(Move::Step),
        6 => (0..FOLLOWERS, pick()).prop_map(|(follower, to)| Move::Live { follower, to }),
        6 => (0..FOLLOWERS, pick(), pick()).prop_map(|(follower, from, to)| Move::Foreign { follower, from, to }),
        4 => (0..FOLLOWERS, pick()).prop_map(|(follower, server)| Move::Resume { follower, server }),
        1 => (0..FOLLOWERS, pick()).prop_map(|(follower, server)| Move::Whole { follower, server }),
        1 => (0..FOLLOWERS).prop_map(|follower| Move::Restart { follower }),
    ]
}

fn is_followed(topic: &Topic) -> bool {
    !matches!(topic, Topic::Key(_) | Topic::Prefix(_))
}

/// All states that servers were in, one an index, and followers.
struct Trail {
    store: Store,
    model: Model,
    states: Vec<State>,
    touched: Vec<BTreeSet<Topic>>,
    followers: [Store; FOLLOWERS],
    questions: Vec<Question>,
    topics: Vec<Topic>,
}

/// Over the wire, in frames.
fn sent(batch: &Batch) -> Batch {
    let mut intake = Intake::new();
    let mut arrived = Vec::new();
    for frame in batch.frames() {
        assert!(frame.len() <= FRAME_BYTES_MAX);
        arrived.extend(intake.take(&frame).expect("it was just written"));
    }
    assert!(intake.is_between());
    match arrived.pop() {
        Some(Incoming::Batch(batch)) if arrived.is_empty() => *batch,
        other => panic!("{other:?}"),
    }
}

fn bytes(state: &State) -> Vec<u8> {
    state.whole().frames().flatten().collect()
}

impl Trail {
    fn new() -> Self {
        let questions =
            Question::all().into_iter().filter(|question| !matches!(question, Question::KeyOne(_) | Question::KeysUnder(_)));
        Self {
            store: Store::new(),
            model: Model::default(),
            states: vec![State::default()],
            touched: vec![BTreeSet::new()],
            followers: std::array::from_fn(|_| Store::new()),
            questions: questions.collect(),
            topics: topics().into_iter().filter(is_followed).collect(),
        }
    }

    fn pick(&self, at: Pick) -> &State {
        at.get(&self.states)
    }

    fn step(&mut self, step: &Step, clerk: &mut Clerk) {
        for proposal in clerk.proposals(step, &self.model) {
            let index = self.states.len() as u64;
            self.model.apply(index, &proposal);
            let applied = self.store.apply(index, proposal);
            self.states.push(self.store.state().clone());
            self.touched.push(applied.touched.into_iter().filter(is_followed).collect());
        }
        match step {
            Step::Pass => {
                self.store.pass(self.states.len() as u64);
                self.states.push(self.store.state().clone());
                self.touched.push(BTreeSet::new());
            }
            Step::Snapshot => {
                let bytes = super::written(self.store.state());
                self.store.install(State::read_from(&*bytes).expect("it was just written"));
            }
            _ => {}
        }
    }

    fn take(&mut self, step: &Move, clerk: &mut Clerk) {
        match step {
            Move::Step(step) => self.step(step, clerk),
            Move::Live { follower, to } => {
                let old = &self.states[self.followers[*follower].state().position().index as usize];
                let to = self.pick(*to);
                if old.position().history == self.followers[*follower].state().position().history
                    && let Some(batch) = to.changes_from(old)
                {
                    self.enter(*follower, &batch);
                }
            }
            Move::Foreign { follower, from, to } => {
                if let Some(batch) = self.pick(*to).changes_from(self.pick(*from)) {
                    self.enter(*follower, &batch);
                }
            }
            Move::Resume { follower, server } => {
                let position = self.followers[*follower].state().position();
                match self.pick(*server).since(position) {
                    Resume::Changes(batch) => {
                        assert!(self.enter(*follower, &batch).is_ok());
                        assert_eq!(self.followers[*follower].state().position(), batch.position());
                    }
                    Resume::Snapshot(batch) => {
                        assert_ne!(position.history, batch.position().history, "no tombstone was dropped");
                        assert!(self.enter(*follower, &batch).is_ok());
                    }
                    Resume::Behind => {
                        let server = self.pick(*server).position();
                        assert!(server.index < position.index || server.history.is_none());
                    }
                }
            }
            Move::Whole { follower, server } => {
                let batch = self.pick(*server).whole();
                let _ = self.enter(*follower, &batch);
            }
            Move::Restart { follower } => {
                let batch = sent(&self.followers[*follower].state().whole());
                let mut again = Store::new();
                assert_eq!(again.enter(batch), Ok(Touched::All));
                self.followers[*follower] = again;
                self.agree(*follower);
            }
        }
    }

    fn enter(&mut self, follower: usize, batch: &Batch) -> Result<(), EnterError> {
        let before = self.followers[follower].state().clone();
        let (was, to) = (before.position(), batch.position());
        let entered = self.followers[follower].enter(sent(batch));
        let is = self.followers[follower].state().position();
        match &entered {
            Err(error) => {
                match (error, batch.from()) {
                    (EnterError::Gap { .. }, from) => assert!(from > Some(was.index)),
                    (EnterError::History, _) => assert_ne!(was.history, to.history),
                    (EnterError::Backwards { .. }, from) => assert!(from.is_none() && to.index < was.index),
                }
                assert_eq!((is, bytes(&before)), (was, bytes(self.followers[follower].state())), "{error} changed something");
            }
            Ok(touched) if batch.from().is_some() && to.index <= was.index => {
                assert!(touched.is_nothing());
                assert_eq!((is, bytes(&before)), (was, bytes(self.followers[follower].state())));
            }
            Ok(touched) => {
                assert_eq!(is, to);
                self.agree(follower);
                self.rang(follower, &before, touched);
                if let Touched::Topics(touched) = touched
                    && is.index == was.index + 1
                {
                    // A command may ring for what it undoes itself.
                    let there = &self.touched[is.index as usize];
                    assert!(touched.is_subset(there), "more bells than at the servers: {touched:?}, {there:?}");
                }
            }
        }
        entered.map(|_| ())
    }

    /// The follower is what the servers were at that index.
    fn agree(&self, follower: usize) {
        let state = self.followers[follower].state();
        let server = &self.states[state.position().index as usize];
        assert_eq!(state.position(), server.position());
        assert_eq!(state.nodes, server.nodes);
        assert_eq!(state.node_ids, server.node_ids);
        assert_eq!(state.services, server.services);
        assert_eq!(state.checks, server.checks);
        assert_eq!(state.buckets_by_index, server.buckets_by_index);
        assert_eq!(bytes(state), bytes(server));
        for topic in &self.topics {
            assert_eq!(state.index(topic), server.index(topic), "{topic:?}");
        }
        for question in &self.questions {
            assert_eq!(question.look(state), question.look(server), "{question:?}");
            assert_eq!(question.index(state), question.index(server), "{question:?}");
        }
        for bucket in state.services() {
            for instance in bucket.instances() {
                let node = instance.node.node.folded();
                assert!(Arc::ptr_eq(&instance.node, &state.nodes[&node].row));
                assert!(Arc::ptr_eq(&instance.service, &state.services[&(node.clone(), instance.service.id.clone())]));
                for check in &instance.checks {
                    assert!(Arc::ptr_eq(check, &state.checks[&(node.clone(), check.id.clone())]));
                }
            }
        }
    }

    fn rang(&self, follower: usize, before: &State, touched: &Touched) {
        let Touched::Topics(touched) = touched else { return };
        let state = self.followers[follower].state();
        for question in &self.questions {
            if question.look(before) != question.look(state) {
                assert!(question.topics().iter().any(|topic| rings(touched, topic)), "{question:?} was not woken");
            }
        }
        for topic in touched {
            assert!(state.index(topic) > before.index(topic), "{topic:?} rang without a new index");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_follower_is_what_the_servers_were(moves in prop::collection::vec(moves(), 1..60)) {
        let (mut trail, mut clerk) = (Trail::new(), Clerk::default());
        let found = What::Command(Command::Found(IDS[2]));
        trail.step(&Step::Fresh { agent: 0, behind: 0, skip: 0, kind: CauseKind::Start, what: found }, &mut clerk);
        for step in &moves {
            trail.take(step, &mut clerk);
        }
        let last = trail.states.last().expect("there is always one").clone();
        for follower in 0..FOLLOWERS {
            let position = trail.followers[follower].state().position();
            if let Resume::Changes(batch) | Resume::Snapshot(batch) = last.since(position) {
                prop_assert!(trail.enter(follower, &batch).is_ok());
            }
            prop_assert_eq!(trail.followers[follower].state().position(), last.position());
        }
    }
}
