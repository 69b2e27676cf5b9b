//! What broke once, each by its name.

use std::sync::Arc;

use bytes::Bytes;
use smol_str::SmolStr;
use uuid::Uuid;

use super::written;
use crate::cause::{Cause, CauseKind};
use crate::command::{
    COMMANDS_IN_FLIGHT_MAX, Command, CreateSession, Deregister, Offer, Outcome, Proposal, Refusal, Register, Removed, Run, Target,
};
use crate::grave::GRAVES_MAX;
use crate::kv::{Kv, KvVerb};
use crate::meta::Meta;
use crate::name::{CheckId, NAME_BYTES_MAX, NodeName, ServiceId, ServiceName};
use crate::past::Subject;
use crate::query::{Ask, NodeChecks, NodeServices, ServiceChecks, Services, StateChecks};
use crate::row::{Check, Node, Service, Weights};
use crate::session::{Behavior, Session};
use crate::state::State;
use crate::status::Status;
use crate::store::{Applied, Store};
use crate::topic::Topic;
use crate::transaction::{Look, Op, RESULTS_BYTES_MAX, Transacted};

/// A store with one agent that sends it commands.
struct Desk {
    store: Store,
    index: u64,
    number: u64,
    run: Run,
    kind: CauseKind,
}

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);

impl Desk {
    fn new() -> Self {
        let run = Run { agent: Uuid::from_u128(1), epoch: 1 };
        let mut desk = Self { store: Store::new(), index: 0, number: 0, run, kind: CauseKind::Api };
        desk.send(Command::OpenRun);
        desk
    }

    fn proposal(&self, number: u64, command: Command) -> Proposal {
        Proposal {
            request: Uuid::from_u128(9),
            run: self.run,
            number,
            answered_below: number.saturating_sub(COMMANDS_IN_FLIGHT_MAX / 2),
            time_ms: 0,
            cause: Cause::new("t", self.kind, 0, ""),
            command,
        }
    }

    fn apply(&mut self, proposal: Proposal) -> Applied {
        self.index += 1;
        self.store.apply(self.index, proposal)
    }

    fn send(&mut self, command: Command) -> Applied {
        self.number += 1;
        self.apply(self.proposal(self.number, command))
    }

    fn register(&mut self, register: Register) -> Applied {
        self.send(Command::Register(register))
    }

    fn deregister(&mut self, node: &str, target: Target, owner: Option<Uuid>) -> Applied {
        self.send(Command::Deregister(Deregister { node: name(node), target, owner }))
    }

    fn set(&mut self, key: &str) -> Applied {
        let verb = KvVerb::Set { value: Bytes::from_static(b"v"), flags: 0, cas: None };
        self.send(Command::Kv(Kv { key: key.into(), verb }))
    }

    fn state(&self) -> &State {
        self.store.state()
    }
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("a name")
}

fn service_name(text: &str) -> ServiceName {
    ServiceName::new(text).expect("a name")
}

fn service_id(text: &str) -> ServiceId {
    ServiceId::new(text).expect("a name")
}

fn on(node: &str) -> Register {
    let about = Node { id: None, address: "10.0.0.1".into(), tagged_addresses: Meta::new(), meta: Meta::new() };
    Register { node: name(node), about: Some(about), services: vec![], checks: vec![], owner: None }
}

impl Register {
    fn id(mut self, id: Uuid) -> Self {
        self.about.as_mut().expect("it is told").id = Some(id);
        self
    }

    fn meta(mut self, value: &str) -> Self {
        self.about.as_mut().expect("it is told").meta = Meta::from([("rack".into(), value.into())]);
        self
    }

    fn by(mut self, owner: Uuid) -> Self {
        self.owner = Some(owner);
        self
    }

    fn service(mut self, id: &str, name: &str, generation: u64) -> Self {
        let value = Service {
            id: service_id(id),
            name: service_name(name),
            tags: vec![],
            address: SmolStr::default(),
            tagged_addresses: Default::default(),
            meta: Meta::new(),
            port: 0,
            socket_path: SmolStr::default(),
            enable_tag_override: false,
            weights: Weights::default(),
            rare: None,
        };
        self.services.push(Offer { generation, ..Offer::unowned(value) });
        self
    }

    fn check(mut self, id: &str, status: &str, of: Option<&str>) -> Self {
        let value = Check {
            id: CheckId::new(id).expect("a name"),
            name: id.into(),
            status: Status::from_text(status),
            notes: SmolStr::default(),
            output: SmolStr::default(),
            service_id: of.map(service_id),
            service_name: None,
            service_tags: vec![],
            kind: SmolStr::default(),
            interval: SmolStr::default(),
            timeout: SmolStr::default(),
            definition: None,
        };
        self.checks.push(Offer::unowned(value));
        self
    }
}

/// Takes the answer's topics before, does something, and wants one of them rung and the index risen.
fn wakes<Q: Ask>(desk: &mut Desk, ask: &Q, act: impl FnOnce(&mut Desk) -> Applied) {
    let before = ask.index(desk.state());
    let touched = act(desk).touched;
    assert!(ask.topics().iter().any(|topic| touched.contains(topic)), "{:?} not in {touched:?}", ask.topics());
    assert!(ask.index(desk.state()) > before);
}

#[test]
fn a_question_by_uuid_is_woken() {
    let mut desk = Desk::new();
    desk.register(on("n").id(A));
    let services = NodeServices { node: A.to_string().into() };
    let checks = NodeChecks { node: A.to_string().into() };
    wakes(&mut desk, &services, |desk| desk.register(on("n").id(A).service("s", "web", 0)));
    wakes(&mut desk, &checks, |desk| desk.register(on("n").id(A).check("c", "passing", None)));
    wakes(&mut desk, &services, |desk| desk.register(on("n")));
    wakes(&mut desk, &checks, |desk| desk.register(on("n").id(A)));
    wakes(&mut desk, &services, |desk| desk.deregister("n", Target::Node, None));
}

#[test]
fn a_question_with_node_meta_is_woken_by_the_node() {
    let mut desk = Desk::new();
    desk.register(on("n").service("s", "web", 0).check("c", "passing", Some("s")));
    let node_meta = vec![("rack".into(), "r".into())];
    let of_service = ServiceChecks { name: service_name("web"), node_meta: node_meta.clone() };
    let of_state = StateChecks { state: None, node_meta };
    wakes(&mut desk, &of_service, |desk| desk.register(on("n").meta("r")));
    assert_eq!((of_service.look(desk.state()).len(), of_state.look(desk.state()).len()), (1, 1));
    wakes(&mut desk, &of_state, |desk| desk.register(on("n").meta("q")));
}

#[test]
fn checks_that_come_along_with_a_renamed_service_wake_those_who_know_them_by_the_new_name() {
    let mut desk = Desk::new();
    desk.register(on("n").service("s", "web", 0).check("c", "passing", Some("s")));
    let web = ServiceChecks { name: service_name("web"), node_meta: vec![] };
    wakes(&mut desk, &web, |desk| desk.register(on("n").service("s", "db", 0)));
    wakes(&mut desk, &web, |desk| desk.register(on("n").service("s", "web", 0)));
    assert_eq!(web.look(desk.state()).len(), 1);
}

#[test]
fn the_index_of_a_services_checks_does_not_fall_when_it_appears() {
    let mut desk = Desk::new();
    desk.register(on("n").service("s", "old", 0));
    desk.deregister("n", Target::Service(service_id("s")), None);
    let topic = Topic::ServiceChecks(service_name("web"));
    let before = desk.state().index(&topic);
    desk.register(on("n").service("s", "web", 0));
    assert!(desk.state().index(&topic) >= before);
}

#[test]
fn a_change_of_the_node_does_not_rewrite_a_services_name() {
    let mut desk = Desk::new();
    desk.register(on("n1").service("s", "Web", 0));
    desk.register(on("n2").service("s", "web", 0));
    let applied = desk.register(on("n1").meta("r"));
    assert!(!applied.touched.contains(&Topic::Services));
    assert_eq!(Services::default().look(desk.state())[0].name.as_str(), "web");
}

#[test]
fn a_refused_registration_leaves_removal_marks() {
    let mut desk = Desk::new();
    desk.register(on("n").id(A).check("serfHealth", "passing", None));
    desk.register(on("n").id(A).by(A).service("s", "web", 1));
    desk.deregister("n", Target::Service(service_id("s")), None);
    let refused = desk.register(on("other").id(A).by(A).service("s", "web", 2));
    assert!(matches!(refused.outcome, Outcome::Refused(Refusal::NodeIdTaken { .. })));
    assert_eq!(desk.state().removals_of(A).count(), 1);
}

#[test]
fn a_uuid_takes_another_name_unless_its_node_lives() {
    for status in [None, Some("critical"), Some("passing")] {
        let mut desk = Desk::new();
        desk.register(on("old").id(A).service("s", "web", 0).check("c", "passing", Some("s")));
        if let Some(status) = status {
            desk.register(on("old").id(A).check("serfHealth", status, None));
        }
        desk.register(on("new").service("t", "db", 0).check("c", "critical", None));
        let renamed = desk.register(on("new").id(A).service("u", "web", 0));
        let state = desk.state();
        if status == Some("passing") {
            assert!(matches!(renamed.outcome, Outcome::Refused(Refusal::NodeIdTaken { .. })));
            assert_eq!(state.nodes().count(), 2);
            // membership knows that it is the same agent under another name
            desk.kind = CauseKind::Reconcile;
            assert_eq!(desk.register(on("new").id(A)).outcome, Outcome::Done);
            assert!(desk.state().node("old").is_none());
            continue;
        }
        assert_eq!(renamed.outcome, Outcome::Done);
        assert!(state.node("old").is_none() && state.node("new").is_some_and(|row| row.id == Some(A)));
        let web = state.service("web").expect("it is on the new node").instances();
        assert_eq!(web.len(), 1);
        assert_eq!((web[0].node.node.as_str(), web[0].checks.len()), ("new", 1));
        assert_eq!(state.checks().count(), 1);
        assert!(renamed.touched.contains(&Topic::Node(name("old").folded())));
    }
}

#[test]
fn a_mark_of_another_history_holds_nothing_back() {
    let mut desk = Desk::new();
    desk.register(on("n").id(A).by(A).service("s", "web", 1));
    desk.deregister("n", Target::Service(service_id("s")), None);
    desk.register(on("n").id(A).by(A).service("s", "web", 1));
    assert!(desk.state().service("web").is_none());
    desk.send(Command::Found(B));
    desk.register(on("n").id(A).by(A).service("s", "web", 1));
    assert!(desk.state().service("web").is_some());
}

#[test]
fn no_check_stays_with_a_service_that_leaves_with_its_owner() {
    let mut desk = Desk::new();
    desk.register(on("n").id(A).by(A).service("s", "web", 1));
    desk.kind = CauseKind::Reconcile;
    let applied = desk.register(on("n").id(B).check("c", "critical", Some("s")));
    assert!(matches!(applied.outcome, Outcome::Refused(Refusal::MissingService(_))));
    assert!(desk.state().service("web").is_some(), "all or nothing");
    desk.register(on("n").id(B).by(B).check("c", "critical", Some("s")));
    assert!(desk.state().service("web").is_none());
    assert_eq!(desk.state().checks().count(), 0);
}

#[test]
fn a_check_names_the_last_of_two_services_with_one_id() {
    let mut desk = Desk::new();
    desk.register(on("n").service("s", "web", 0).service("s", "db", 0).check("c", "passing", Some("s")));
    let check = desk.state().checks().next().expect("it was registered").clone();
    assert_eq!(check.service_name.as_ref().map(ServiceName::as_str), Some("db"));
}

#[test]
fn a_new_owner_is_seen_in_instances_too() {
    let mut desk = Desk::new();
    desk.register(on("n").service("s", "web", 0).check("c", "passing", Some("s")).check("d", "passing", None));
    let index = desk.state().index(&Topic::Health(service_name("web")));
    let applied =
        desk.register(on("n").by(A).service("s", "web", 1).check("c", "passing", Some("s")).check("d", "passing", None));
    assert!(applied.touched.is_empty());
    let bucket = desk.state().service("web").expect("it was registered");
    assert_eq!(bucket.index(), index);
    assert!(bucket.instances()[0].checks.iter().all(|check| check.owner == Some(A)));
}

#[test]
fn a_text_of_the_registrants_wakes_nobody_who_waits_for_warnings() {
    let mut desk = Desk::new();
    let applied = desk.register(on("n").check("c", "odd", None));
    assert!(!applied.touched.contains(&Topic::State(Some(crate::status::Health::Warning))));
}

#[test]
fn the_index_of_an_empty_prefix_does_not_fall_when_tombstones_are_trimmed() {
    let mut desk = Desk::new();
    for n in 0..=GRAVES_MAX {
        desk.set(&format!("x/{n}"));
    }
    desk.set("kept/1");
    desk.set("gone/1");
    desk.send(Command::Kv(Kv { key: "gone/1".into(), verb: KvVerb::Delete { cas: None } }));
    let topics = ["", "x/", "kept/", "gone/", "never/"].map(|prefix| Topic::Prefix(prefix.into()));
    let before = topics.clone().map(|topic| desk.state().index(&topic));
    for tree in ["x/1", "x/2", "x/"] {
        let before = topics.clone().map(|topic| desk.state().index(&topic));
        desk.send(Command::Kv(Kv { key: tree.into(), verb: KvVerb::DeleteTree }));
        for (topic, before) in topics.iter().zip(before) {
            assert!(desk.state().index(topic) >= before, "{topic:?}");
        }
    }
    assert_eq!(desk.state().graves.iter().count(), GRAVES_MAX);
    assert!(desk.state().graves.trimmed().1 > 0);
    let read = State::read_from(&*written(desk.state())).expect("it was just written");
    for (topic, before) in topics.iter().zip(before) {
        assert!(desk.state().index(topic) >= before, "{topic:?}");
        assert_eq!(read.index(topic), desk.state().index(topic), "{topic:?}");
    }
}

#[test]
fn a_name_that_grows_in_lower_case_can_be_read_back() {
    let long = "Ⱥ".repeat(NAME_BYTES_MAX / 2);
    assert!(NodeName::new(&long).is_err());
    let fits = "Ⱥ".repeat(NAME_BYTES_MAX / 3);
    let mut desk = Desk::new();
    desk.register(on(&fits).service("s", &fits, 0).check("c", "passing", None));
    desk.deregister(&fits, Target::Node, None);
    State::read_from(&*written(desk.state())).expect("tombstones and past hold the folded name");
}

#[test]
fn two_stores_with_the_same_log_write_the_same_bytes() {
    let fill = || {
        let mut desk = Desk::new();
        for n in 0..40 {
            desk.register(on("n").service(&format!("s{n}"), &format!("service-{n}"), 0));
        }
        written(desk.state())
    };
    assert_eq!(fill(), fill());
}

#[test]
fn a_removed_row_of_others_comes_back_with_a_higher_generation_alone() {
    let mut desk = Desk::new();
    desk.register(on("n").id(A).by(A).service("s", "web", 1));
    desk.deregister("n", Target::Service(service_id("s")), Some(A));
    assert_eq!(desk.state().removals_of(A).count(), 0, "its owner removed it");
    desk.register(on("n").id(A).by(A).service("s", "web", 1));
    desk.deregister("n", Target::Service(service_id("s")), None);
    desk.register(on("n").id(A).by(A).service("s", "web", 1));
    assert!(desk.state().service("web").is_none());
    desk.register(on("n").id(A).by(A).service("s", "web", 2));
    assert!(desk.state().service("web").is_some());
    assert_eq!(desk.state().removals_of(A).count(), 0);
}

#[test]
fn acknowledging_an_older_removal_leaves_a_newer_mark() {
    let mut desk = Desk::new();
    desk.run = Run { agent: A, epoch: 1 };
    desk.send(Command::OpenRun);
    desk.register(on("n").id(A).by(A).service("s", "web", 2));
    desk.deregister("n", Target::Service(service_id("s")), None);
    desk.send(Command::AcknowledgeRemovals(vec![Removed::Service(service_id("s"), 1)]));
    assert_eq!(desk.state().removals_of(A).count(), 1);
    desk.send(Command::AcknowledgeRemovals(vec![Removed::Service(service_id("s"), 2)]));
    assert_eq!(desk.state().removals_of(A).count(), 0);
}

#[test]
fn a_window_holds_256_numbers_and_moves_with_what_is_answered() {
    let mut desk = Desk::new();
    let cas = |n: u64| {
        Command::Kv(Kv { key: format!("k{n}").into(), verb: KvVerb::Set { value: Bytes::new(), flags: n, cas: Some(0) } })
    };
    let send = |desk: &mut Desk, number: u64, below: u64| {
        let proposal = Proposal { answered_below: below, ..desk.proposal(number, cas(number)) };
        desk.apply(proposal).outcome
    };
    let outside = Outcome::Refused(Refusal::OutsideWindow);
    assert_eq!(send(&mut desk, 10, 10), Outcome::Kv(true));
    assert_eq!(send(&mut desk, 9, 0), outside, "all below 10 are answered");
    assert_eq!(send(&mut desk, 10 + COMMANDS_IN_FLIGHT_MAX, 0), outside);
    assert_eq!(send(&mut desk, 9 + COMMANDS_IN_FLIGHT_MAX, 0), Outcome::Kv(true));
    assert_eq!(send(&mut desk, 10, 10), Outcome::Kv(true), "the outcome of then: the key is there by now");
    assert_eq!(send(&mut desk, 11 + COMMANDS_IN_FLIGHT_MAX, 12), Outcome::Kv(true));
    assert_eq!(send(&mut desk, 10, 10), outside, "its outcome is not kept any more, and it is not applied again");
    assert_eq!(send(&mut desk, u64::MAX, u64::MAX), Outcome::Kv(true));
    desk.run.epoch = 2;
    assert_eq!(send(&mut desk, 1, 0), Outcome::Refused(Refusal::UnknownRun));
    desk.send(Command::OpenRun);
    assert_eq!(send(&mut desk, 1, 0), Outcome::Kv(true));
    desk.run.epoch = 1;
    assert_eq!(send(&mut desk, 2, 0), Outcome::Refused(Refusal::UnknownRun));
    assert_eq!(desk.send(Command::OpenRun).outcome, Outcome::Refused(Refusal::UnknownRun));
}

#[test]
fn autopilot_is_set_on_condition_and_survives_a_snapshot() {
    let mut state = State::default();
    let set = |quorum, cas| crate::autopilot::SetAutopilot {
        settings: crate::autopilot::Autopilot { min_quorum: quorum, ..Default::default() },
        cas,
    };
    assert!(!state.set_autopilot(set(1, Some(3)), 4));
    assert_eq!(state.autopilot(), None);
    assert!(state.set_autopilot(set(1, Some(0)), 4) && state.set_autopilot(set(2, None), 5));
    assert!(!state.set_autopilot(set(3, Some(4)), 6) && state.set_autopilot(set(3, Some(5)), 7));
    let mut bytes = Vec::new();
    state.write_to(&mut bytes).expect("memory takes all");
    let read = State::read_from(&*bytes).expect("it was just written");
    let row = read.autopilot().expect("it was set");
    assert_eq!((row.settings.min_quorum, row.create_index, row.modify_index), (3, 4, 7));
    assert_eq!(crate::query::Ask::index(&crate::query::AutopilotSet {}, &read), 7);
}

const SESSION: Uuid = Uuid::from_u128(0x51);

fn session(check: &str) -> Command {
    let session = Session {
        id: SESSION,
        name: SmolStr::default(),
        node: name("n"),
        node_checks: Some(vec![CheckId::new(check).expect("a name")]),
        service_checks: None,
        checks: vec![],
        lock_delay_ns: 0,
        behavior: Behavior::Release,
        ttl: SmolStr::default(),
        ttl_ns: 0,
        cause: Arc::new(Cause::new("", CauseKind::Api, 0, "")),
        create_index: 0,
    };
    Command::CreateSession(CreateSession { session })
}

#[test]
fn the_end_of_a_session_is_kept_with_what_ended_it() {
    let mut desk = Desk::new();
    desk.register(on("n").check("c", "passing", None));
    assert_eq!(desk.send(session("c")).outcome, Outcome::Done);
    assert_eq!(desk.send(session("c")).outcome, Outcome::Refused(Refusal::SessionTaken(SESSION)));
    let verb = KvVerb::Acquire { value: Bytes::new(), flags: 0, session: SESSION };
    assert_eq!(desk.send(Command::Kv(Kv { key: "k".into(), verb })).outcome, Outcome::Kv(true));
    desk.register(on("n").check("c", "critical", None));
    assert_eq!(desk.state().session(SESSION), None);
    let why = format!("session {SESSION} ended: check c is critical");
    let entry = desk.state().key("k").expect("it is released, not removed");
    assert_eq!((entry.session, entry.lock_index, entry.cause.reason.as_str()), (None, 1, why.as_str()));
    let kept = desk.state().past(&name("n"), &Subject::Session(SESSION));
    assert_eq!(
        kept.iter().map(|change| (change.removed, change.cause.reason.as_str())).collect::<Vec<_>>(),
        [(true, why.as_str())]
    );
}

#[test]
fn results_of_a_transaction_that_are_too_large_to_keep_are_given_once() {
    let mut desk = Desk::new();
    let value = Bytes::from(vec![7; 70_000]);
    let set = Op::Kv(Kv { key: "k".into(), verb: KvVerb::Set { value, flags: 0, cas: None } });
    let get = Op::Key { key: "k".into(), look: Look::Get };
    let both = Command::Transaction(vec![set.clone(), get]);
    desk.number += 1;
    let proposal = desk.proposal(desk.number, both);
    let first = desk.apply(proposal.clone()).outcome;
    assert!(matches!(&first, Outcome::Transaction(Transacted::Done(found)) if found.len() == 2), "{first:?}");
    assert_eq!(desk.apply(proposal).outcome, Outcome::Transaction(Transacted::Forgotten));
    let small = desk.send(Command::Transaction(vec![set])).outcome;
    let again = desk.proposal(desk.number, Command::Found(A));
    assert_eq!(desk.apply(again).outcome, small);
}

#[test]
fn results_of_a_transaction_have_a_bound() {
    let mut desk = Desk::new();
    for number in 0..3 {
        let verb = KvVerb::Set { value: Bytes::from(vec![0; RESULTS_BYTES_MAX / 2]), flags: 0, cas: None };
        desk.send(Command::Kv(Kv { key: format!("k/{number}").into(), verb }));
    }
    let tree = Op::Key { key: "k/".into(), look: Look::GetTree };
    let set = Op::Kv(Kv { key: "new".into(), verb: KvVerb::Set { value: Bytes::new(), flags: 0, cas: None } });
    let Outcome::Transaction(Transacted::Failed(faults)) = desk.send(Command::Transaction(vec![set, tree])).outcome else {
        panic!("it is too large")
    };
    assert_eq!((faults.len(), faults[0].at, desk.state().key("new")), (1, 1, None));
}
