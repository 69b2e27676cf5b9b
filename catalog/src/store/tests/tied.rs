//! Prepared queries that go with a session.

use std::sync::Arc;

use uuid::Uuid;

use crate::cause::{Cause, CauseKind};
use crate::command::{Command, CreateSession, Deregister, EndSession, Outcome, Proposal, Register, Run, Target};
use crate::meta::Meta;
use crate::name::NodeName;
use crate::prepared::{PreparedQuery, QueryService, SetQuery};
use crate::row::Node;
use crate::session::{Behavior, Session};
use crate::state::State;
use crate::store::Store;

const SESSION: Uuid = Uuid::from_u128(7);

fn node() -> NodeName {
    NodeName::new("n").expect("a name")
}

fn apply(store: &mut Store, command: Command) -> Outcome {
    let index = store.state().last_applied() + 1;
    let cause = Cause::new("test", CauseKind::Api, 5, "");
    let run = Run { agent: Uuid::from_u128(1), epoch: 1 };
    let proposal = Proposal { request: Uuid::nil(), run, number: index, answered_below: index, time_ms: index, cause, command };
    store.apply(index, Proposal::decode(&proposal.encode()).expect("it was just written")).outcome
}

fn open_session(store: &mut Store) {
    let session = Session {
        id: SESSION,
        name: "".into(),
        node: node(),
        node_checks: None,
        service_checks: None,
        checks: vec![],
        lock_delay_ns: 0,
        behavior: Behavior::Release,
        ttl: "".into(),
        ttl_ns: 0,
        cause: Arc::new(Cause::new("test", CauseKind::Api, 5, "")),
        create_index: 0,
    };
    assert_eq!(apply(store, Command::CreateSession(CreateSession { session })), Outcome::Done);
}

fn set(store: &mut Store, id: u128, name: &str, session: Option<Uuid>) -> Outcome {
    let service = QueryService { service: "web".into(), ..QueryService::default() };
    let query = PreparedQuery { name: name.into(), session, service, ..PreparedQuery::default() };
    let create = store.state().queries.rows.get(&Uuid::from_u128(id)).is_none();
    apply(store, Command::SetQuery(Box::new(SetQuery { id: Uuid::from_u128(id), create, query })))
}

fn names(state: &State) -> Vec<String> {
    state.queries.iter().map(|row| row.query.name.to_string()).collect()
}

/// Of a store with a session and four queries, of which the first is tied to it, and the last was until it was changed.
fn filled() -> Store {
    let mut store = Store::new();
    apply(&mut store, Command::OpenRun);
    let about = Node { id: None, address: "::1".into(), tagged_addresses: Meta::new(), meta: Meta::new() };
    let register = Register { node: node(), about: Some(about), services: vec![], checks: vec![], owner: None };
    apply(&mut store, Command::Register(register));
    open_session(&mut store);
    for (id, name, session) in
        [(1, "tied", Some(SESSION)), (2, "free", None), (3, "", Some(SESSION)), (4, "freed", Some(SESSION))]
    {
        assert_eq!(set(&mut store, id, name, session), Outcome::Done);
    }
    assert_eq!(set(&mut store, 4, "freed", None), Outcome::Done);
    store
}

#[test]
fn a_query_goes_with_its_session() {
    let store = filled();
    // Also out of a snapshot.
    let mut bytes = Vec::new();
    store.state().write_to(&mut bytes).expect("memory takes all");
    let mut restored = Store::new();
    restored.install(State::read_from(&*bytes).expect("it was just written"));
    for mut store in [store, restored] {
        let before = store.state().queries.index();
        assert_eq!(apply(&mut store, Command::EndSession(EndSession { id: SESSION })), Outcome::Done);
        assert_eq!(names(store.state()), ["free", "freed"]);
        assert!(store.state().queries.index() > before && store.state().resolve_query("tied").expect("it resolves").is_none());
        // The names are free again, and what ended again ends nothing.
        assert_eq!(set(&mut store, 9, "tied", None), Outcome::Done);
        open_session(&mut store);
        apply(&mut store, Command::EndSession(EndSession { id: SESSION }));
        assert_eq!(names(store.state()), ["free", "freed", "tied"]);
    }
}

#[test]
fn a_query_goes_with_its_sessions_node_and_needs_a_session_that_is_there() {
    let mut store = filled();
    apply(&mut store, Command::Deregister(Deregister { node: node(), target: Target::Node, owner: None }));
    assert_eq!(names(store.state()), ["free", "freed"]);
    let refused = set(&mut store, 9, "other", Some(SESSION));
    assert!(
        matches!(&refused, Outcome::Refused(why) if why.to_string() == format!("invalid session \"{SESSION}\"")),
        "{refused:?}"
    );
}
