//! The store against a plain model: the same rows, the same outcomes, the same answers, and bells for all that changed.

mod coordinates;
mod follow;
mod model;
mod narrow;
mod questions;
mod regressions;
mod tied;
mod total;
mod travel;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use self::model::Model;
use self::questions::Question;
use self::world::{Clerk, IDS, KEYS, NODES, PREFIXES, SERVICES, SESSIONS, Step, step};
use super::{Applied, Store};
use crate::command::{Command, Proposal};
use crate::name::{NodeName, ServiceName};
use crate::row::Index;
use crate::state::State;
use crate::status::Health;
use crate::topic::Topic;

fn topics() -> Vec<Topic> {
    let mut all = vec![Topic::Nodes, Topic::Services, Topic::State(None)];
    all.extend([Health::Passing, Health::Warning, Health::Critical].map(|health| Topic::State(Some(health))));
    let nodes = NODES.iter().map(|name| (*name).to_owned()).chain(IDS.iter().map(ToString::to_string));
    for name in nodes.map(|name| NodeName::new(name).expect("a name").folded()).collect::<BTreeSet<_>>() {
        all.extend([Topic::Node(name.clone()), Topic::NodeChecks(name.clone()), Topic::NodeSessions(name)]);
    }
    for name in SERVICES.iter().map(|name| ServiceName::new(name).expect("a name").folded()).collect::<BTreeSet<_>>() {
        all.extend([Topic::Service(name.clone()), Topic::Health(name.clone()), Topic::ServiceChecks(name)]);
    }
    all.extend(KEYS.iter().map(|key| Topic::Key((*key).into())));
    all.extend(PREFIXES.iter().map(|prefix| Topic::Prefix((*prefix).into())));
    all.extend(SESSIONS.iter().map(|id| Topic::Session(*id)));
    all.push(Topic::Sessions);
    all
}

fn rings(touched: &BTreeSet<Topic>, topic: &Topic) -> bool {
    match topic {
        Topic::Prefix(prefix) => touched.iter().any(|touched| matches!(touched, Topic::Key(key) if key.starts_with(&**prefix))),
        topic => touched.contains(topic),
    }
}

fn written(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.write_to(&mut bytes).expect("memory takes all");
    bytes
}

/// A store, its twin that is written out and read back now and then, the model, and what was seen of them before.
struct Bench {
    store: Store,
    twin: Store,
    model: Model,
    questions: Vec<Question>,
    topics: Vec<Topic>,
    answers: Vec<String>,
    asked_at: Vec<Index>,
    indexes: Vec<Index>,
    index: Index,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            store: Store::new(),
            twin: Store::new(),
            model: Model::default(),
            questions: Question::all(),
            topics: topics(),
            answers: Vec::new(),
            asked_at: Vec::new(),
            indexes: Vec::new(),
            index: 0,
        };
        bench.look();
        bench
    }

    fn look(&mut self) {
        let state = self.store.state();
        self.answers = self.questions.iter().map(|question| question.look(state)).collect();
        self.asked_at = self.questions.iter().map(|question| question.index(state)).collect();
        self.indexes = self.topics.iter().map(|topic| state.index(topic)).collect();
    }

    fn apply(&mut self, proposal: &Proposal) {
        self.index += 1;
        let before = self.model.rows();
        let expected = self.model.apply(self.index, proposal);
        let Applied { outcome, touched, .. } = self.store.apply(self.index, proposal.clone());
        assert_eq!(outcome, expected, "{proposal:?}");
        let twin = self.twin.apply(self.index, proposal.clone());
        assert_eq!((&twin.outcome, &twin.touched), (&outcome, &touched), "a restored store goes on otherwise");
        self.rows_agree();
        self.instances_agree();

        let (answers, asked_at, indexes) =
            (std::mem::take(&mut self.answers), std::mem::take(&mut self.asked_at), std::mem::take(&mut self.indexes));
        self.look();
        for (at, question) in self.questions.iter().enumerate() {
            assert_eq!(self.answers[at], question.expect(&self.model), "{question:?} after {proposal:?}");
            if answers[at] != self.answers[at] {
                assert!(question.topics().iter().any(|topic| rings(&touched, topic)), "{question:?} not woken by {proposal:?}");
                assert!(self.asked_at[at] > asked_at[at], "{question:?} has another answer at the same index: {proposal:?}");
            }
        }
        for (at, topic) in self.topics.iter().enumerate() {
            assert!(self.indexes[at] >= indexes[at], "{topic:?} fell {} → {}: {proposal:?}", indexes[at], self.indexes[at]);
            if rings(&touched, topic) {
                assert_eq!(self.indexes[at], self.index, "{topic:?} rang without a new index: {proposal:?}");
            }
        }
        // What a transaction writes and takes back wakes its readers all the same: each operation is one of its own.
        let there_and_back = matches!(proposal.command, Command::Transaction(_));
        if before == self.model.rows() && !there_and_back {
            assert_eq!(touched, BTreeSet::new(), "nothing changed by {proposal:?}");
        }
        if touched.is_empty() {
            assert_eq!(indexes, self.indexes, "nothing was touched by {proposal:?}");
        }
    }

    fn rows_agree(&self) {
        let (state, model) = (self.store.state(), &self.model);
        assert!(state.nodes.iter().map(|(name, host)| (name, &*host.row)).eq(model.nodes.iter()), "nodes differ");
        assert!(state.services.iter().map(|(key, row)| (key, &**row)).eq(model.services.iter()), "services differ");
        assert!(state.checks.iter().map(|(key, row)| (key, &**row)).eq(model.checks.iter()), "checks differ");
        let shown = questions::show_entry;
        assert!(state.keys.values().map(|entry| shown(entry)).eq(model.keys.values().map(shown)), "keys differ");
        assert!(state.sessions().map(|session| &**session).eq(model.sessions.values()), "sessions differ");
        for session in model.sessions.keys() {
            let held = model.keys.values().filter(|entry| entry.session == Some(*session)).map(|entry| entry.key.clone());
            assert_eq!(state.sessions.keys_of(*session), held.collect::<Vec<_>>());
        }
        let held_back: BTreeMap<_, _> = state.sessions.held_back().map(|(until, key)| (key.to_string(), until)).collect();
        assert_eq!(held_back, model.held_back);
        let ids: BTreeMap<_, _> = model.nodes.iter().filter_map(|(name, row)| Some((row.id?, name.clone()))).collect();
        assert!(state.node_ids.iter().map(|(id, name)| (*id, name.clone())).eq(ids), "node ids differ");
        let marks = state.removals.iter().map(|mark| (mark.owner, mark.removed.clone(), mark.index)).collect::<BTreeSet<_>>();
        let expected = model.marks.iter().map(|((owner, check, id), (generation, index))| {
            let removed = if *check {
                crate::command::Removed::Check(crate::name::CheckId::new(id).expect("a name"), *generation)
            } else {
                crate::command::Removed::Service(crate::name::ServiceId::new(id).expect("a name"), *generation)
            };
            (*owner, removed, *index)
        });
        assert_eq!(marks, expected.collect::<BTreeSet<_>>());
        assert_eq!(state.history(), model.history);
    }

    /// Instances are the join of the rows, and the very same rows.
    fn instances_agree(&self) {
        let (state, model) = (self.store.state(), &self.model);
        let mut expected: BTreeMap<ServiceName, Vec<_>> = BTreeMap::new();
        for ((node, id), row) in &model.services {
            expected.entry(row.name.folded()).or_default().push((node, id, row));
        }
        assert_eq!(state.buckets.keys().cloned().collect::<BTreeSet<_>>(), expected.keys().cloned().collect());
        for (name, expected) in expected {
            let bucket = state.service(name.as_str()).expect("it was listed");
            assert_eq!(bucket.name(), &model.names[&name]);
            assert_eq!(bucket.instances().len(), expected.len());
            for (instance, (node, id, row)) in bucket.instances().iter().zip(expected) {
                assert_eq!((&*instance.node, &*instance.service), (&model.nodes[node], row));
                let checks = model.checks_of_instance(node, id);
                assert!(instance.checks.iter().map(|check| &**check).eq(checks.iter().copied()), "{:?}", instance.checks);
                assert_eq!(instance.health, crate::status::worst(checks.iter().map(|check| &check.status)));
                assert!(std::sync::Arc::ptr_eq(&instance.service, &state.services[&(node.clone(), id.clone())]));
                for check in &instance.checks {
                    assert!(std::sync::Arc::ptr_eq(check, &state.checks[&(node.clone(), check.id.clone())]));
                }
            }
        }
        for (name, host) in &state.nodes {
            let own = model.checks.iter().filter(|((node, _), check)| node == name && check.service_id.is_none());
            assert!(host.checks.iter().map(|check| &**check).eq(own.map(|(_, check)| check)));
        }
    }

    fn step(&mut self, step: &Step, clerk: &mut Clerk) {
        match step {
            Step::Snapshot => {
                let bytes = written(self.twin.state());
                let read = State::read_from(&*bytes).expect("it was just written");
                assert_eq!(written(&read), bytes);
                for (at, question) in self.questions.iter().enumerate() {
                    assert_eq!(question.look(&read), self.answers[at], "{question:?}");
                    assert_eq!(question.index(&read), self.asked_at[at], "{question:?}");
                }
                for (at, topic) in self.topics.iter().enumerate() {
                    assert_eq!(read.index(topic), self.indexes[at], "{topic:?}");
                }
                self.twin.install(read);
            }
            Step::Pass => {
                self.index += 1;
                self.store.pass(self.index);
                self.twin.pass(self.index);
            }
            step => {
                for proposal in clerk.proposals(step, &self.model) {
                    self.apply(&proposal);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_the_model(steps in prop::collection::vec(step(), 1..40)) {
        let (mut bench, mut clerk) = (Bench::new(), Clerk::default());
        for step in &steps {
            bench.step(step, &mut clerk);
        }
        prop_assert_eq!(written(bench.store.state()), written(bench.twin.state()));
    }
}
