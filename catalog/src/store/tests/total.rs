//! Whatever the log holds, it is applied, written out and read back.

use proptest::prelude::*;
use uuid::Uuid;

use super::world::{Clerk, Step, step};
use super::{Model, written};
use crate::cause::{Cause, CauseKind};
use crate::command::{Command, Deregister, Offer, Outcome, Proposal, Refusal, Register, Removed, Run, Target};
use crate::kv::{Kv, KvVerb};
use crate::name::{CheckId, NodeName, ServiceId, ServiceName};
use crate::row::{Check, Node};
use crate::state::State;
use crate::store::Store;

fn proposal(number: u64, command: Command) -> Proposal {
    let run = Run { agent: Uuid::from_u128(1), epoch: 1 };
    let cause = Cause::new("a", CauseKind::Api, 0, "");
    Proposal { request: Uuid::nil(), run, number, answered_below: number, time_ms: 0, cause, command }
}

fn reads_back(store: &Store) {
    let bytes = written(store.state());
    let read = State::read_from(&*bytes).expect("it was just written");
    assert_eq!(written(&read), bytes);
}

/// Texts of all sorts, and those that lower case makes longer or reads by their place.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ȺΣİK ßaA]{1,8}", Just("Ⱥ".repeat(200)), Just("x".repeat(512))]
}

/// A row as bytes that name it so: the way in which every name of the log arrives.
fn named<T: serde::de::DeserializeOwned>(fields: &[(&str, &str)]) -> Option<T> {
    let fields: std::collections::BTreeMap<_, _> = fields.iter().copied().collect();
    rmp_serde::from_slice(&rmp_serde::to_vec(&fields).expect("plain data")).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_name_is_applied_and_read_back(texts in prop::collection::vec((text(), text(), text(), text()), 1..6)) {
        let mut store = Store::new();
        store.apply(1, proposal(0, Command::OpenRun));
        let mut number = 1;
        for (node, service, check, key) in texts {
            let Ok(node) = NodeName::new(node) else { continue };
            prop_assert_eq!(node.folded().folded(), node.folded());
            prop_assert_eq!(NodeName::new(node.folded().as_str()), Ok(node.folded()));
            let address = key.as_str();
            let about = Node { id: None, address: address.into(), tagged_addresses: Default::default(), meta: Default::default() };
            let services = named(&[("id", &service), ("name", &service), ("address", address)]).map(Offer::unowned);
            let of: Option<ServiceId> = services.as_ref().map(|offer: &Offer<crate::row::Service>| offer.value.id.clone());
            let mut checks: Vec<Offer<Check>> =
                named(&[("id", &check), ("name", &key), ("status", &key)]).map(Offer::unowned).into_iter().collect();
            checks.iter_mut().for_each(|offer| offer.value.service_id.clone_from(&of));
            let service_name = ServiceName::new(&service).ok();
            let register = Register { node: node.clone(), about: Some(about), services: services.into_iter().collect(), checks, owner: None };
            let commands = [
                Command::Register(register),
                Command::Kv(Kv { key: key.as_str().into(), verb: KvVerb::Set { value: key.clone().into(), flags: 0, cas: None } }),
                Command::Kv(Kv { key: key.as_str().into(), verb: KvVerb::Delete { cas: None } }),
                Command::Deregister(Deregister { node, target: Target::Node, owner: None }),
            ];
            for command in commands {
                let command = proposal(number, command);
                let sent = Proposal::decode(&command.encode()).expect("it was just written");
                prop_assert_eq!(&sent, &command);
                store.apply(number + 1, sent);
                number += 1;
                if let Some(name) = &service_name {
                    let _ = store.state().service(name.folded().as_str());
                }
            }
            reads_back(&store);
        }
    }

    #[test]
    fn a_command_is_applied_once_however_often_it_is_sent(
        sent in prop::collection::vec((0..40u64, 0..3u64, any::<bool>(), prop::bool::weighted(0.05)), 1..120),
    ) {
        let (mut store, mut floor, mut first) = (Store::new(), 0, std::collections::BTreeSet::new());
        store.apply(1, proposal(0, Command::OpenRun));
        for ((number, raise, again, reopen), index) in sent.into_iter().zip(2..) {
            if reopen {
                prop_assert_eq!(store.apply(index, proposal(0, Command::OpenRun)).outcome, Outcome::Done);
                continue;
            }
            // Applied a second time it would say that the key is there already.
            let verb = KvVerb::Set { value: Default::default(), flags: number, cas: Some(0) };
            let command = Command::Kv(Kv { key: format!("{number}").into(), verb });
            let below = if again { 0 } else { (floor + raise).min(number) };
            let applied = store.apply(index, Proposal { answered_below: below, ..proposal(number, command) });
            if number < floor {
                prop_assert_eq!(&applied.outcome, &Outcome::Refused(Refusal::OutsideWindow));
                prop_assert!(applied.touched.is_empty());
            } else {
                prop_assert_eq!(&applied.outcome, &Outcome::Kv(true));
                prop_assert_eq!(applied.touched.is_empty(), first.contains(&number));
                if first.insert(number) {
                    floor = floor.max(below);
                }
            }
        }
        prop_assert!(store.state().keys_under("").all(|entry| entry.create_index == entry.modify_index));
    }

    #[test]
    fn damaged_commands_that_can_be_read_can_be_applied(
        steps in prop::collection::vec(step(), 1..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 24),
    ) {
        let (mut store, mut clerk, mut model, mut index) = (Store::new(), Clerk::default(), Model::default(), 0);
        for step in steps.iter().filter(|step| !matches!(step, Step::Snapshot)) {
            for proposal in clerk.proposals(step, &model) {
                index += 1;
                model.apply(index, &proposal);
                store.apply(index, proposal);
            }
        }
        for (at, byte, value) in damage.into_iter().filter(|_| !clerk.sent.is_empty()) {
            let mut bytes = at.get(&clerk.sent).encode();
            let byte = byte.index(bytes.len());
            bytes[byte] = value;
            if let Ok(proposal) = Proposal::decode(&bytes) {
                index += 1;
                store.apply(index, proposal);
            }
        }
        reads_back(&store);
    }
}

#[test]
fn a_command_of_thousands_of_rows_is_applied() {
    let mut store = Store::new();
    store.apply(1, proposal(0, Command::OpenRun));
    let about = Node { id: None, address: "".into(), tagged_addresses: Default::default(), meta: Default::default() };
    let service = |n: usize| named(&[("id", &*format!("s{n}")), ("name", "web")]).map(Offer::unowned).expect("names");
    let check =
        |n: usize| named(&[("id", &*format!("c{n}")), ("name", ""), ("status", "passing")]).map(Offer::unowned).expect("names");
    let mut register = Register {
        node: NodeName::new("n").expect("a name"),
        about: Some(about),
        services: (0..2000).map(service).collect(),
        checks: (0..2000).map(check).collect(),
        owner: None,
    };
    for (n, offer) in register.checks.iter_mut().enumerate().filter(|(n, _)| n % 20 > 0) {
        offer.value.service_id = Some(ServiceId::new(format!("s{n}")).expect("a name"));
    }
    let removed = (0..50_000).map(|n| Removed::Check(CheckId::new(format!("c{n}")).expect("a name"), n)).collect();
    for (number, command) in (1..).zip([Command::Register(register), Command::AcknowledgeRemovals(removed)]) {
        store.apply(number + 1, proposal(number, command));
    }
    let bucket = store.state().service("web").expect("it was registered");
    assert_eq!(bucket.instances().iter().map(|instance| instance.checks.len()).sum::<usize>(), 2000 * 100 + 1900);
    let gone = Deregister { node: NodeName::new("n").expect("a name"), target: Target::Node, owner: None };
    assert_eq!(store.apply(9, proposal(3, Command::Deregister(gone))).touched.len(), 9);
    assert_eq!(store.state().instance_count(), 0);
}
