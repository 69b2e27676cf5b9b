//! A copy of some services and nodes answers what it covers as the servers do, with the same indexes, and rings for it.

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use smol_str::SmolStr;

use super::follow::sent;
use super::questions::Question;
use super::world::{Clerk, IDS, Step, What, step};
use super::{Model, rings};
use crate::cause::CauseKind;
use crate::command::Command;
use crate::interest::{Interest, Part};
use crate::name::ServiceName;
use crate::state::State;
use crate::store::{Store, Touched};

#[allow(clippy::large_enum_variant)] // a few hundred of them at once
#[derive(Debug, Clone)]
enum Move {
    Step(Step),
    /// The copy is brought to where some later state is.
    Changes(Pick),
    /// It is begun anew with another interest.
    Anew(usize),
    /// It is read from its own disk.
    Restart,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        8 => step().prop_map(Move::Step),
        6 => any::<Pick>().prop_map(Move::Changes),
        1 => (0..4_usize).prop_map(Move::Anew),
        1 => Just(Move::Restart),
    ]
}

fn interest(number: usize) -> Interest {
    let service = |name: &str| ServiceName::new(name).expect("a name").folded();
    let mut interest = Interest { owner: Some(IDS[0]), ..Interest::default() };
    if number > 0 {
        interest.services.insert(service("web"));
    }
    if number > 1 {
        interest.nodes.insert(SmolStr::new("n1"));
    }
    if number > 2 {
        interest.services.insert(service("db"));
        interest.nodes.insert(IDS[1].to_string().into());
    }
    interest
}

struct Trail {
    store: Store,
    model: Model,
    states: Vec<State>,
    copy: Store,
    interest: Interest,
    questions: Vec<Question>,
}

impl Trail {
    fn step(&mut self, step: &Step, clerk: &mut Clerk) {
        for proposal in clerk.proposals(step, &self.model) {
            let index = self.states.len() as u64;
            self.model.apply(index, &proposal);
            self.store.apply(index, proposal);
            self.states.push(self.store.state().clone());
        }
        if matches!(step, Step::Pass) {
            self.store.pass(self.states.len() as u64);
            self.states.push(self.store.state().clone());
        }
    }

    fn take(&mut self, step: &Move, clerk: &mut Clerk) {
        let at = self.copy.state().position();
        match step {
            Move::Step(step) => return self.step(step, clerk),
            Move::Changes(to) => {
                let old = &self.states[at.index as usize];
                let later = &self.states[at.index as usize..];
                let to = to.get(later);
                let same = to.history() == at.history;
                let batch = to.changes_of(&self.interest, old).filter(|_| same);
                let batch = batch.unwrap_or_else(|| to.part(&self.interest));
                let before = self.copy.state().clone();
                let touched = self.copy.enter(sent(&batch)).expect("it goes on from there");
                self.rang(&before, &touched);
            }
            Move::Anew(number) => {
                self.interest = interest(*number);
                let last = self.states.last().expect("there is always one");
                self.copy.enter(sent(&last.part(&self.interest))).expect("it is everything");
            }
            Move::Restart => {
                let batch = sent(&self.copy.state().whole());
                self.copy = Store::new();
                self.copy.enter(batch).expect("it is everything");
            }
        }
        self.agree();
    }

    fn agree(&self) {
        let state = self.copy.state();
        let server = &self.states[state.position().index as usize];
        assert_eq!(state.interest(), Some(&self.interest));
        for question in self.questions.iter().filter(|question| state.covers(&question.part())) {
            assert_eq!(question.look(state), question.look(server), "{question:?}");
            assert_eq!(question.index(state), question.index(server), "{question:?}");
        }
        let marks = |state: &State| state.removals_of(IDS[0]).cloned().collect::<Vec<_>>();
        assert_eq!(marks(state), marks(server));
    }

    fn rang(&self, before: &State, touched: &Touched) {
        let Touched::Topics(touched) = touched else { return };
        for question in self.questions.iter().filter(|question| before.covers(&question.part())) {
            if question.look(before) != question.look(self.copy.state()) {
                assert!(question.topics().iter().any(|topic| rings(touched, topic)), "{question:?} was not woken");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_narrow_copy_answers_what_it_covers_as_the_servers_do(moves in prop::collection::vec(moves(), 1..60)) {
        let mut trail = Trail {
            store: Store::new(),
            model: Model::default(),
            states: vec![State::default()],
            copy: Store::new(),
            interest: interest(1),
            questions: Question::all(),
        };
        let mut clerk = Clerk::default();
        let found = What::Command(Command::Found(IDS[2]));
        trail.step(&Step::Fresh { agent: 0, behind: 0, skip: 0, kind: CauseKind::Start, what: found }, &mut clerk);
        trail.take(&Move::Anew(1), &mut clerk);
        for step in &moves {
            trail.take(step, &mut clerk);
        }
    }
}

#[test]
fn a_copy_that_holds_nothing_yet_covers_nothing() {
    let mut store = Store::new();
    store.narrow();
    let web = Part::Service(ServiceName::new("web").expect("a name"));
    assert!(!store.state().covers(&web) && !store.state().covers(&Part::Catalog));
    assert!(State::default().covers(&web) && !State::default().covers(&Part::Keys));
}

#[test]
fn what_is_at_an_address_is_part_of_an_interest() {
    let mut interest = Interest::default();
    let address = Part::Address([192, 0, 2, 1].into());
    assert!(!interest.covers(&address) && interest.widen(&address) && interest.covers(&address));
    assert!(!interest.widen(&Part::Catalog));
    let node = Part::Node("Ä3".into());
    assert!(interest.widen(&node) && interest.covers(&Part::Node("ä3".into())));
}
