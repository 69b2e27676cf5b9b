//! Questions and answers on their way between agents; and what a feed brings that nobody meant to send.

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Model;
use super::questions::Question;
use super::world::{Clerk, Step, step};
use crate::feed::{Incoming, Intake};
use crate::name::ServiceName;
use crate::query::{
    Ask, CatalogService, HealthService, KeyOne, KeysUnder, NodeChecks, NodeServices, Nodes, ServiceChecks, Services, StateChecks,
};
use crate::state::State;
use crate::status::Health;
use crate::store::Store;

/// The state at the end of some steps.
fn after(steps: &[Step]) -> State {
    let (mut store, mut model, mut clerk) = (Store::new(), Model::default(), Clerk::default());
    let mut index = 0;
    for step in steps {
        for proposal in clerk.proposals(step, &model) {
            index += 1;
            model.apply(index, &proposal);
            store.apply(index, proposal);
        }
    }
    store.state().clone()
}

fn there_and_back<T: Serialize + DeserializeOwned + Debug>(sent: &T) -> T {
    let bytes = rmp_serde::to_vec_named(sent).expect("plain data");
    let read = rmp_serde::from_slice(&bytes).expect("it was just written");
    assert_eq!(format!("{read:?}"), format!("{sent:?}"));
    read
}

fn travels<A: Ask + Serialize + DeserializeOwned + Debug>(ask: &A, state: &State)
where
    A::Answer: Serialize + DeserializeOwned + Debug,
{
    there_and_back(&there_and_back(ask).look(state));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_question_that_travels_has_the_same_answer(steps in prop::collection::vec(step(), 1..30)) {
        let state = after(&steps);
        for question in Question::all() {
            match &question {
                Question::Nodes(ask) => travels(ask, &state),
                Question::Services(ask) => travels(ask, &state),
                Question::CatalogService(ask) => travels(ask, &state),
                Question::HealthService(ask) => travels(ask, &state),
                Question::NodeServices(ask) => travels(ask, &state),
                Question::NodeChecks(ask) => travels(ask, &state),
                Question::ServiceChecks(ask) => travels(ask, &state),
                Question::StateChecks(ask) => travels(ask, &state),
                Question::KeyOne(ask) => travels(ask, &state),
                Question::KeysUnder(ask) => travels(ask, &state),
                Question::SessionOne(ask) => travels(ask, &state),
                Question::NodeSessions(ask) => travels(ask, &state),
                Question::AllSessions(ask) => travels(ask, &state),
            }
        }
    }

    /// Whatever a damaged feed still says is entered, or is not; what is there can be asked for all the same.
    #[test]
    fn nothing_that_can_be_read_as_a_batch_breaks_a_store(
        steps in prop::collection::vec(step(), 1..30),
        cut in any::<Pick>(),
        damage in prop::collection::vec((any::<Pick>(), any::<u8>()), 1..4),
        whole in any::<bool>(),
    ) {
        let state = after(&steps);
        let earlier = after(&steps[..cut.index(steps.len())]);
        let batch = if whole { state.whole() } else { state.changes_from(&earlier).unwrap_or_else(|| state.whole()) };
        let mut bytes: Vec<u8> = batch.frames().flatten().collect();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut store = Store::new();
        store.install(earlier);
        for incoming in Intake::new().take(&bytes).unwrap_or_default() {
            if let Incoming::Batch(batch) = incoming {
                let _ = store.enter(*batch);
            }
        }
        for question in Question::all() {
            question.look(store.state());
            question.index(store.state());
        }
        let again: Vec<u8> = store.state().whole().frames().flatten().collect();
        prop_assert!(Intake::new().take(&again).is_ok());
    }
}

fn hex(value: &impl Serialize) -> String {
    rmp_serde::to_vec_named(value).expect("plain data").iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_form_of_every_question_stays_as_it_is() {
    let name = || ServiceName::new("web").expect("a name");
    let node_meta = || vec![("k".into(), "v".into())];
    assert_eq!(hex(&Nodes { node_meta: node_meta() }), "81a96e6f64655f6d6574619192a16ba176");
    assert_eq!(hex(&Services { node_meta: vec![] }), "81a96e6f64655f6d65746190");
    let tags = vec!["t".into()];
    let golden = "83a46e616d65a3776562a47461677391a174a96e6f64655f6d6574619192a16ba176";
    assert_eq!(hex(&CatalogService { name: name(), tags: tags.clone(), node_meta: node_meta() }), golden);
    assert_eq!(hex(&HealthService { name: name(), tags, node_meta: node_meta() }), golden);
    assert_eq!(hex(&NodeServices { node: "N".into() }), "81a46e6f6465a14e");
    assert_eq!(hex(&NodeChecks { node: "N".into() }), "81a46e6f6465a14e");
    assert_eq!(hex(&ServiceChecks { name: name(), node_meta: vec![] }), "82a46e616d65a3776562a96e6f64655f6d65746190");
    let critical = StateChecks { state: Some(Health::Critical), node_meta: vec![] };
    assert_eq!(hex(&critical), "82a57374617465a8637269746963616ca96e6f64655f6d65746190");
    assert_eq!(hex(&KeyOne { key: "k".into() }), "81a36b6579a16b");
    assert_eq!(hex(&KeysUnder { prefix: "k/".into() }), "81a6707265666978a26b2f");
    let older: HealthService = rmp_serde::from_slice(b"\x81\xa4name\xa3web").expect("the rest has defaults");
    assert_eq!(older, HealthService { name: name(), tags: vec![], node_meta: vec![] });
}
