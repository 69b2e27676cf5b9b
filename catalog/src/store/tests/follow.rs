//! Followers: whatever way a batch came, who entered it has the servers' rows, answers and indexes, and has rung enough bells.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index as Pick;

use super::questions::Question;
use super::world::{Clerk, IDS, Step, What, step};
use super::{Model, rings, topics};
use crate::cause::{Cause, CauseKind};
use crate::command::{Command, Deregister, Offer, Outcome, Proposal, Register, Run, Target};
use crate::error::EnterError;
use crate::feed::{Batch, FRAME_BYTES_MAX, Incoming, Intake, Resume};
use crate::grave::GRAVES_MAX;
use crate::interest::Part;
use crate::kv::{Kv, KvVerb};
use crate::meta::Meta;
use crate::name::{CheckId, NodeName, ServiceId, ServiceName};
use crate::row::{Check, Node, Service, Weights};
use crate::state::State;
use crate::status::Status;
use crate::store::{Store, Touched};
use crate::topic::Topic;

const FOLLOWERS: usize = 2;

#[allow(clippy::large_enum_variant)] // a few hundred of them at once
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
    use Topic::{Key, NodeSessions, Prefix, Session, Sessions};
    !matches!(topic, Key(_) | Prefix(_) | Sessions | NodeSessions(_) | Session(_))
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
pub(super) fn sent(batch: &Batch) -> Batch {
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
        let questions = Question::all().into_iter().filter(|question| question.part() != Part::Keys);
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
                    let _ = self.enter(*follower, &batch);
                }
            }
            Move::Foreign { follower, from, to } => {
                if let Some(batch) = self.pick(*to).changes_from(self.pick(*from)) {
                    let _ = self.enter(*follower, &batch);
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

/// A store that agent 1 told of a service on each of some nodes.
struct Servers {
    store: Store,
    index: u64,
}

impl Servers {
    fn new() -> Self {
        let mut servers = Self { store: Store::new(), index: 0 };
        servers.send(Command::OpenRun);
        servers.send(Command::Found(IDS[2]));
        servers
    }

    fn send(&mut self, command: Command) -> State {
        let before = self.store.state().clone();
        let number = self.index;
        self.index += 1;
        let applied = self.store.apply(
            self.index,
            Proposal {
                request: IDS[0],
                run: Run { agent: IDS[0], epoch: 1 },
                number,
                answered_below: number,
                time_ms: 0,
                cause: Cause::new("t", CauseKind::Api, 0, ""),
                command,
            },
        );
        assert!(!matches!(applied.outcome, Outcome::Refused(_)));
        before
    }

    fn register(&mut self, node: &str, status: &str) -> State {
        self.send(registration(node, status))
    }

    fn remove(&mut self, node: &str) -> State {
        let node = NodeName::new(node).expect("a name");
        self.send(Command::Deregister(Deregister { node, target: Target::Node, owner: None }))
    }
}

fn registration(node: &str, status: &str) -> Command {
    let service = ServiceId::new("s").expect("a name");
    let register = Register {
        node: NodeName::new(node).expect("a name"),
        about: Some(Node { id: None, address: "10.0.0.1".into(), tagged_addresses: Meta::new(), meta: Meta::new() }),
        services: vec![Offer::unowned(Service {
            id: service.clone(),
            name: ServiceName::new("web").expect("a name"),
            tags: vec![],
            address: "".into(),
            tagged_addresses: Default::default(),
            meta: Meta::new(),
            port: 80,
            socket_path: "".into(),
            enable_tag_override: false,
            weights: Weights::default(),
            rare: None,
        })],
        checks: vec![Offer::unowned(Check {
            id: CheckId::new("c").expect("a name"),
            name: "".into(),
            status: Status::from_text(status),
            notes: "".into(),
            output: "".into(),
            service_id: Some(service),
            service_name: None,
            service_tags: vec![],
            kind: "".into(),
            interval: "".into(),
            timeout: "".into(),
            definition: None,
        })],
        owner: None,
    };
    Command::Register(register)
}

#[test]
fn answers_made_ready_stay_where_nothing_changed() {
    let mut servers = Servers::new();
    servers.register("a", "passing");
    servers.register("b", "passing");
    let mut follower = Store::new();
    follower.enter(sent(&servers.store.state().whole())).expect("it is everything");
    let instances =
        |store: &Store| -> Vec<_> { store.state().service("web").expect("it is there").instances().iter().cloned().collect() };
    let first = instances(&follower);
    first.iter().for_each(|instance| drop(instance.json.set("ready".into())));
    let old = servers.register("b", "critical");
    let batch = servers.store.state().changes_from(&old).expect("it is the same history");
    assert_eq!((batch.rows(), batch.services.len(), batch.nodes.len()), (1, 0, 0), "one check changed: {batch:?}");
    follower.enter(sent(&batch)).expect("it follows");
    let then = instances(&follower);
    assert!(Arc::ptr_eq(&first[0], &then[0]));
    assert!(then[1].json.get().is_none() && then[1].health == crate::status::Health::Critical);
}

#[test]
fn who_is_behind_the_tombstones_is_sent_everything() {
    let mut servers = Servers::new();
    servers.register("a", "passing");
    servers.register("gone", "passing");
    let old = servers.store.state().clone();
    servers.remove("gone");
    let removed = servers.store.state().clone();
    assert!(matches!(removed.since(old.position()), Resume::Changes(_)));
    let Command::Register(mut many) = registration("b", "passing") else { panic!("it is one") };
    let one = many.services[0].clone();
    let of = |n: usize| Service {
        id: ServiceId::new(format!("s{n}")).expect("a name"),
        name: ServiceName::new(format!("s{n}")).expect("a name"),
        ..one.value.clone()
    };
    many.services = (0..GRAVES_MAX).map(|n| Offer::unowned(of(n))).collect();
    many.checks.clear();
    servers.send(Command::Register(many));
    servers.remove("b");
    let state = servers.store.state();
    assert!(state.graves.trimmed().0 >= removed.position().index);
    assert!(matches!(state.since(old.position()), Resume::Snapshot(_)));
    assert!(state.changes_from(&old).is_none());
    let trimmed = crate::feed::Position { index: state.graves.trimmed().0, ..old.position() };
    assert!(matches!(state.since(trimmed), Resume::Changes(_)));
}

#[test]
fn keys_are_not_fed_and_their_tombstones_keep_no_follower_back() {
    let mut servers = Servers::new();
    servers.register("a", "passing");
    let old = servers.store.state().clone();
    let set = KvVerb::Set { value: "v".into(), flags: 0, cas: None };
    let sets = (0..=GRAVES_MAX).map(|n| Kv { key: format!("k{n}").into(), verb: set.clone() });
    for kv in sets.chain([Kv { key: "k".into(), verb: KvVerb::DeleteTree }]) {
        servers.send(Command::Kv(kv));
    }
    assert_ne!(servers.store.state().graves.trimmed().1, 0);
    let Resume::Changes(batch) = servers.store.state().since(old.position()) else { panic!("no row was lost") };
    assert!(batch.is_empty());
    assert!(servers.store.state().changes_from(&old).expect("nor here").is_empty());
}

#[test]
fn a_server_that_knows_less_makes_the_follower_wait() {
    let mut servers = Servers::new();
    let behind = servers.register("a", "passing");
    let mut follower = Store::new();
    follower.enter(sent(&servers.store.state().whole())).expect("it is everything");
    let at = follower.state().position();
    assert!(matches!(behind.since(at), Resume::Behind));
    let error = follower.enter(sent(&behind.whole())).expect_err("it leads back");
    assert_eq!(error, EnterError::Backwards { to: at.index - 1, at: at.index });
    assert!(matches!(State::default().since(at), Resume::Behind), "it has not read its log");
}
