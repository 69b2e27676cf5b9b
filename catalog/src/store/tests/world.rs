//! A small world of names, in which random commands meet each other often.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;
use smol_str::SmolStr;
use uuid::Uuid;

use super::model::Model;
use crate::cause::{Cause, CauseKind};
use crate::command::{
    COMMANDS_IN_FLIGHT_MAX, Command, CreateSession, Deregister, EndSession, Offer, Proposal, Register, Removed, Run, Target,
};
use crate::kv::{Kv, KvVerb};
use crate::meta::Meta;
use crate::name::{CheckId, NodeName, ServiceId, ServiceName};
use crate::row::{Check, Node, Service, Weights};
use crate::session::{Behavior, ServiceCheck, Session};
use crate::status::Status;
use crate::transaction::{Look, Op};

pub(super) const NODES: [&str; 5] = ["n1", "N1", "n2", "ä3", "Ä3"];
pub(super) const SERVICES: [&str; 4] = ["web", "Web", "db", "cache"];
pub(super) const SERVICE_IDS: [&str; 3] = ["s1", "s2", "S2"];
pub(super) const CHECK_IDS: [&str; 4] = ["c1", "c2", "c3", "serfHealth"];
pub(super) const KEYS: [&str; 7] = ["", "a", "a/1", "a/2", "b/1", "b/ä", "c"];
pub(super) const PREFIXES: [&str; 6] = ["", "a", "a/", "b/", "c", "zz"];
pub(super) const IDS: [Uuid; 3] = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3)];

/// Ids of sessions.
pub(super) const SESSIONS: [Uuid; 3] = [Uuid::from_u128(0x51), Uuid::from_u128(0x52), Uuid::from_u128(0x53)];

/// One step of a history; what depends on the state is settled when it is taken.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A command with the next number of its agent; how far back all numbers are answered, how many are left out.
    Fresh { agent: usize, behind: u64, skip: u64, kind: CauseKind, what: What },
    /// An earlier proposal once more.
    Again(prop::sample::Index),
    /// A command of the run before.
    Late { agent: usize, what: What },
    /// The session is opened: again, anew, or as an older one.
    Open { agent: usize, epoch: i64 },
    /// An entry without a command.
    Pass,
    /// One of the two stores is written out and read back.
    Snapshot,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Command(Command),
    /// A condition on a key: the right index, or one that is off by this.
    Cas {
        key: &'static str,
        off: u64,
        set: Option<&'static str>,
    },
}

fn text(all: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    select(all)
}

fn node_name() -> impl Strategy<Value = NodeName> {
    text(&NODES).prop_map(|text| NodeName::new(text).expect("a name"))
}

fn service_id() -> impl Strategy<Value = ServiceId> {
    text(&SERVICE_IDS).prop_map(|text| ServiceId::new(text).expect("a name"))
}

fn check_id() -> impl Strategy<Value = CheckId> {
    text(&CHECK_IDS).prop_map(|text| CheckId::new(text).expect("a name"))
}

fn meta() -> impl Strategy<Value = Meta> {
    select(vec![Meta::new(), Meta::from([("rack".into(), "r1".into())])])
}

fn about() -> impl Strategy<Value = Node> {
    let id = prop_oneof![2 => Just(None), 3 => select(IDS.to_vec()).prop_map(Some)];
    (id, text(&["10.0.0.1", "10.0.0.2"]), meta()).prop_map(|(id, address, meta)| Node {
        id,
        address: address.into(),
        tagged_addresses: Meta::new(),
        meta,
    })
}

fn cause() -> impl Strategy<Value = Option<Arc<Cause>>> {
    select(vec![None, Some(Arc::new(Cause::new("own", CauseKind::CheckResult, 7, "why")))])
}

fn service() -> impl Strategy<Value = Offer<Service>> {
    let tags = select(vec![vec![], vec![SmolStr::new("A")], vec![SmolStr::new("a"), SmolStr::new("b")]]);
    (service_id(), text(&SERVICES), tags, 0..2i64, 0..4u64, cause()).prop_map(|(id, name, tags, port, generation, cause)| Offer {
        value: Service {
            id,
            name: ServiceName::new(name).expect("a name"),
            tags,
            address: "".into(),
            tagged_addresses: Default::default(),
            meta: Meta::new(),
            port,
            socket_path: "".into(),
            enable_tag_override: false,
            weights: Weights::default(),
            rare: None,
        },
        generation,
        cause,
    })
}

fn check() -> impl Strategy<Value = Offer<Check>> {
    let status = text(&["passing", "warning", "critical", "critical", "odd"]);
    let of = prop_oneof![2 => Just(None), 3 => service_id().prop_map(Some)];
    (check_id(), status, of, text(&["", "out"]), 0..4u64, cause()).prop_map(
        |(id, status, service_id, output, generation, cause)| Offer {
            value: Check {
                name: id.as_str().into(),
                id,
                status: Status::from_text(status),
                notes: "".into(),
                output: output.into(),
                service_id,
                service_name: None,
                service_tags: vec![],
                kind: "".into(),
                interval: "".into(),
                timeout: "".into(),
                definition: None,
            },
            generation,
            cause,
        },
    )
}

fn owner() -> impl Strategy<Value = Option<Uuid>> {
    prop_oneof![Just(None), select(IDS[..2].to_vec()).prop_map(Some)]
}

fn removed() -> impl Strategy<Value = Removed> {
    prop_oneof![
        (service_id(), 0..4u64).prop_map(|(id, generation)| Removed::Service(id, generation)),
        (check_id(), 0..4u64).prop_map(|(id, generation)| Removed::Check(id, generation)),
    ]
}

fn session() -> impl Strategy<Value = Session> {
    let checks = || prop::collection::vec(check_id(), 0..2);
    let behavior = select(vec![Behavior::Release, Behavior::Delete]);
    (select(SESSIONS.to_vec()), node_name(), prop::option::of(checks()), checks(), select(vec![-1, 0, 1, 30_000_000]), behavior)
        .prop_map(|(id, node, node_checks, of_services, lock_delay_ns, behavior)| Session {
            id,
            name: "".into(),
            node,
            node_checks,
            service_checks: Some(of_services.into_iter().map(|id| ServiceCheck { id, namespace: "".into() }).collect()),
            checks: vec![],
            lock_delay_ns,
            behavior,
            ttl: "".into(),
            ttl_ns: 0,
            cause: Arc::new(Cause::new("", CauseKind::Api, 0, "")),
            create_index: 0,
        })
}

fn kv() -> impl Strategy<Value = Kv> {
    let value = || text(&["x", "y"]).prop_map(|text| Bytes::from_static(text.as_bytes()));
    let locks = || (value(), 0..2u64, select(SESSIONS.to_vec()));
    let verb = prop_oneof![
        2 => (value(), 0..2u64).prop_map(|(value, flags)| KvVerb::Set { value, flags, cas: None }),
        1 => Just(KvVerb::Delete { cas: None }),
        6 => locks().prop_map(|(value, flags, session)| KvVerb::Acquire { value, flags, session }),
        3 => locks().prop_map(|(value, flags, session)| KvVerb::Release { value, flags, session }),
    ];
    (text(&KEYS), verb).prop_map(|(key, verb)| Kv { key: key.into(), verb })
}

fn op() -> impl Strategy<Value = Op> {
    let look = (text(&KEYS), select(vec![Look::Get, Look::CheckNotExists]));
    prop_oneof![
        4 => kv().prop_map(Op::Kv),
        2 => look.prop_map(|(key, look)| Op::Key { key: key.into(), look }),
        1 => text(&NODES).prop_map(|node| Op::DeleteNode(node.into(), None)),
        2 => (text(&NODES), check()).prop_map(|(node, offer)| Op::SetCheck(node.into(), offer.value, None)),
    ]
}

fn what() -> impl Strategy<Value = What> {
    let services = prop::collection::vec(service(), 0..3);
    let checks = prop::collection::vec(check(), 0..3);
    let register = (node_name(), prop::option::weighted(0.8, about()), services, checks, owner())
        .prop_map(|(node, about, services, checks, owner)| Register { node, about, services, checks, owner })
        .prop_map(Command::Register);
    let target = prop_oneof![
        1 => Just(Target::Node),
        3 => service_id().prop_map(Target::Service),
        3 => check_id().prop_map(Target::Check),
    ];
    let deregister =
        (node_name(), target, owner()).prop_map(|(node, target, owner)| Command::Deregister(Deregister { node, target, owner }));
    let set = (text(&KEYS), text(&["x", "y"]), 0..2u64).prop_map(|(key, value, flags)| {
        let value = Bytes::from_static(value.as_bytes());
        Command::Kv(Kv { key: key.into(), verb: KvVerb::Set { value, flags, cas: None } })
    });
    let delete = text(&KEYS).prop_map(|key| Command::Kv(Kv { key: key.into(), verb: KvVerb::Delete { cas: None } }));
    let tree = text(&PREFIXES).prop_map(|key| Command::Kv(Kv { key: key.into(), verb: KvVerb::DeleteTree }));
    let cas = (text(&KEYS), 0..2u64, prop::option::of(text(&["x", "y"])));
    prop_oneof![
        12 => register.prop_map(What::Command),
        5 => deregister.prop_map(What::Command),
        3 => set.prop_map(What::Command),
        2 => delete.prop_map(What::Command),
        1 => tree.prop_map(What::Command),
        2 => cas.prop_map(|(key, off, set)| What::Cas { key, off, set }),
        1 => prop::collection::vec(removed(), 0..3).prop_map(|all| What::Command(Command::AcknowledgeRemovals(all))),
        1 => select(IDS[..2].to_vec()).prop_map(|id| What::Command(Command::Found(id))),
        4 => session().prop_map(|session| What::Command(Command::CreateSession(CreateSession { session }))),
        1 => select(SESSIONS.to_vec()).prop_map(|id| What::Command(Command::EndSession(EndSession { id }))),
        6 => kv().prop_map(|kv| What::Command(Command::Kv(kv))),
        3 => prop::collection::vec(op(), 0..4).prop_map(|ops| What::Command(Command::Transaction(ops))),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let kind = select(vec![CauseKind::Api, CauseKind::Sync, CauseKind::Reconcile]);
    let skip = prop_oneof![8 => Just(0), 1 => 1..4u64, 1 => COMMANDS_IN_FLIGHT_MAX - 2..COMMANDS_IN_FLIGHT_MAX + 3];
    prop_oneof![
        20 => (0..2usize, 0..6u64, skip, kind, what())
            .prop_map(|(agent, behind, skip, kind, what)| Step::Fresh { agent, behind, skip, kind, what }),
        3 => any::<prop::sample::Index>().prop_map(Step::Again),
        1 => (0..2usize, what()).prop_map(|(agent, what)| Step::Late { agent, what }),
        1 => (0..2usize, -1..2i64).prop_map(|(agent, epoch)| Step::Open { agent, epoch }),
        1 => Just(Step::Pass),
        1 => Just(Step::Snapshot),
    ]
}

/// Numbers proposals as agents would.
#[derive(Default)]
pub(super) struct Clerk {
    epoch: [u64; 2],
    next: [u64; 2],
    pub(super) sent: Vec<Proposal>,
}

impl Clerk {
    /// The proposals that a step amounts to; none if it is not about commands.
    pub(super) fn proposals(&mut self, step: &Step, model: &Model) -> Vec<Proposal> {
        match step {
            Step::Fresh { agent, behind, skip, kind, what } => {
                let mut all = Vec::new();
                if model.runs.get(&IDS[*agent]).is_none_or(|session| session.epoch != self.epoch[*agent]) {
                    self.epoch[*agent] += 1;
                    self.next[*agent] = 1;
                    all.push(self.proposal(*agent, 0, 0, CauseKind::Start, Command::OpenRun));
                }
                let number = self.next[*agent] + skip;
                if *skip < 10 {
                    self.next[*agent] = number + 1;
                }
                let below = self.next[*agent].saturating_sub(*behind);
                let command = what.command(model);
                all.push(self.proposal(*agent, number, below.min(number), *kind, command));
                self.sent.extend(all.iter().cloned());
                all
            }
            Step::Again(at) if self.sent.is_empty() => {
                let _ = at;
                Vec::new()
            }
            Step::Again(at) => vec![at.get(&self.sent).clone()],
            Step::Late { agent, what } => {
                let mut late = self.proposal(*agent, 1, 0, CauseKind::Api, what.command(model));
                late.run.epoch = late.run.epoch.saturating_sub(1);
                vec![late]
            }
            Step::Open { agent, epoch } => {
                let mut open = self.proposal(*agent, 0, 0, CauseKind::Start, Command::OpenRun);
                open.run.epoch = open.run.epoch.saturating_add_signed(*epoch);
                vec![open]
            }
            Step::Pass | Step::Snapshot => Vec::new(),
        }
    }

    fn proposal(&self, agent: usize, number: u64, answered_below: u64, kind: CauseKind, command: Command) -> Proposal {
        Proposal {
            request: Uuid::from_u128(9),
            run: Run { agent: IDS[agent], epoch: self.epoch[agent] },
            number,
            answered_below,
            time_ms: number * 10,
            cause: Cause::new(format!("agent-{agent}"), kind, number, ""),
            command,
        }
    }
}

impl What {
    fn command(&self, model: &Model) -> Command {
        match self {
            What::Command(command) => command.clone(),
            What::Cas { key, off, set } => {
                let cas = Some(model.keys.get(*key).map_or(0, |entry| entry.modify_index) + off);
                let verb = match set {
                    Some(value) => KvVerb::Set { value: Bytes::from_static(value.as_bytes()), flags: 0, cas },
                    None => KvVerb::Delete { cas },
                };
                Command::Kv(Kv { key: (*key).into(), verb })
            }
        }
    }
}
