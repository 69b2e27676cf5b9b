//! Every question the catalog can be asked in that world, and its answer out of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};

use smol_str::SmolStr;

use super::model::Model;
use super::world::{IDS, KEYS, NODES, PREFIXES, SERVICES, SESSIONS};
use crate::interest::Part;
use crate::name::{NodeName, ServiceId, ServiceName};
use crate::query::{
    AllSessions, Ask, CatalogService, HealthService, KeyOne, KeysUnder, MetaFilter, NodeChecks, NodeServices, NodeSessions,
    Nodes, ServiceChecks, Services, SessionOne, StateChecks,
};
use crate::row::{Check, Entry, Index, Node, Row, Service};
use crate::state::State;
use crate::status::{Health, Status};
use crate::topic::Topic;

#[derive(Debug, Clone)]
pub(super) enum Question {
    Nodes(Nodes),
    Services(Services),
    CatalogService(CatalogService),
    HealthService(HealthService),
    NodeServices(NodeServices),
    NodeChecks(NodeChecks),
    ServiceChecks(ServiceChecks),
    StateChecks(StateChecks),
    KeyOne(KeyOne),
    KeysUnder(KeysUnder),
    SessionOne(SessionOne),
    NodeSessions(NodeSessions),
    AllSessions(AllSessions),
}

/// All of a row that an answer can show: who owns it under which generation is the owner's matter.
fn shown<T: Debug>(out: &mut String, row: &Row<T>) {
    let Row { node, value, cause, create_index, modify_index, .. } = row;
    write!(out, "{node} {value:?} {} {create_index} {modify_index}; ", cause.actor).expect("a string takes all");
}

fn show_all<'a, T: Debug + 'a>(rows: impl IntoIterator<Item = &'a Row<T>>) -> String {
    rows.into_iter().fold(String::new(), |mut out, row| {
        shown(&mut out, row);
        out
    })
}

fn show_instance<'a>(
    out: &mut String,
    node: &Row<Node>,
    service: &Row<Service>,
    checks: Option<(Health, impl IntoIterator<Item = &'a Row<Check>>)>,
) {
    shown(out, node);
    shown(out, service);
    if let Some((health, checks)) = checks {
        write!(out, "{health:?} {}", show_all(checks)).expect("a string takes all");
    }
}

/// An entry; with its cause where that is not a session's end, whose words the model does not know.
pub(super) fn show_entry(entry: &Entry) -> String {
    let Entry { key, value, flags, lock_index, session, cause, create_index, modify_index } = entry;
    let cause = if *lock_index == 0 && session.is_none() { cause.actor.as_str() } else { "" };
    format!("{key} {value:?} {flags} {lock_index} {session:?} {cause} {create_index} {modify_index}; ")
}

fn show_entries<'a>(out: &mut String, entries: impl Iterator<Item = &'a Entry>) {
    entries.for_each(|entry| out.push_str(&show_entry(entry)));
}

impl Question {
    pub(super) fn all() -> Vec<Self> {
        let metas: [MetaFilter; 2] = [vec![], vec![("rack".into(), "r1".into())]];
        let names = SERVICES.iter().map(|name| ServiceName::new(name).expect("a name").folded()).collect::<BTreeSet<_>>();
        let nodes: Vec<SmolStr> = NODES.iter().map(SmolStr::new).chain(IDS.iter().map(|id| id.to_string().into())).collect();
        let mut all = Vec::new();
        for node_meta in metas {
            all.push(Self::Nodes(Nodes { node_meta: node_meta.clone() }));
            all.push(Self::Services(Services { node_meta: node_meta.clone() }));
            for name in &names {
                for tags in [vec![], vec![SmolStr::new("a")]] {
                    let (name, node_meta) = (name.clone(), node_meta.clone());
                    all.push(Self::CatalogService(CatalogService {
                        name: name.clone(),
                        tags: tags.clone(),
                        node_meta: node_meta.clone(),
                    }));
                    all.push(Self::HealthService(HealthService { name, tags, node_meta }));
                }
                all.push(Self::ServiceChecks(ServiceChecks { name: name.clone(), node_meta: node_meta.clone() }));
            }
            for state in [None, Some(Health::Passing), Some(Health::Warning), Some(Health::Critical)] {
                all.push(Self::StateChecks(StateChecks { state, node_meta: node_meta.clone() }));
            }
        }
        for node in nodes {
            all.push(Self::NodeServices(NodeServices { node: node.clone() }));
            all.push(Self::NodeChecks(NodeChecks { node }));
        }
        all.extend(KEYS.iter().map(|key| Self::KeyOne(KeyOne { key: (*key).into() })));
        all.extend(PREFIXES.iter().map(|prefix| Self::KeysUnder(KeysUnder { prefix: (*prefix).into() })));
        all.extend(SESSIONS.iter().map(|id| Self::SessionOne(SessionOne { id: Some(*id) })));
        let nodes = NODES.iter().map(|name| NodeName::new(name).expect("a name").folded()).collect::<BTreeSet<_>>();
        all.extend(nodes.into_iter().map(|node| Self::NodeSessions(NodeSessions { node })));
        all.push(Self::AllSessions(AllSessions {}));
        all
    }

    pub(super) fn topics(&self) -> Vec<Topic> {
        match self {
            Self::Nodes(ask) => ask.topics().into_vec(),
            Self::Services(ask) => ask.topics().into_vec(),
            Self::CatalogService(ask) => ask.topics().into_vec(),
            Self::HealthService(ask) => ask.topics().into_vec(),
            Self::NodeServices(ask) => ask.topics().into_vec(),
            Self::NodeChecks(ask) => ask.topics().into_vec(),
            Self::ServiceChecks(ask) => ask.topics().into_vec(),
            Self::StateChecks(ask) => ask.topics().into_vec(),
            Self::KeyOne(ask) => ask.topics().into_vec(),
            Self::KeysUnder(ask) => ask.topics().into_vec(),
            Self::SessionOne(ask) => ask.topics().into_vec(),
            Self::NodeSessions(ask) => ask.topics().into_vec(),
            Self::AllSessions(ask) => ask.topics().into_vec(),
        }
    }

    pub(super) fn part(&self) -> Part {
        match self {
            Self::Nodes(ask) => ask.part(),
            Self::Services(ask) => ask.part(),
            Self::CatalogService(ask) => ask.part(),
            Self::HealthService(ask) => ask.part(),
            Self::NodeServices(ask) => ask.part(),
            Self::NodeChecks(ask) => ask.part(),
            Self::ServiceChecks(ask) => ask.part(),
            Self::StateChecks(ask) => ask.part(),
            Self::KeyOne(ask) => ask.part(),
            Self::KeysUnder(ask) => ask.part(),
            Self::SessionOne(ask) => ask.part(),
            Self::NodeSessions(ask) => ask.part(),
            Self::AllSessions(ask) => ask.part(),
        }
    }

    pub(super) fn index(&self, state: &State) -> Index {
        match self {
            Self::Nodes(ask) => ask.index(state),
            Self::Services(ask) => ask.index(state),
            Self::CatalogService(ask) => ask.index(state),
            Self::HealthService(ask) => ask.index(state),
            Self::NodeServices(ask) => ask.index(state),
            Self::NodeChecks(ask) => ask.index(state),
            Self::ServiceChecks(ask) => ask.index(state),
            Self::StateChecks(ask) => ask.index(state),
            Self::KeyOne(ask) => ask.index(state),
            Self::KeysUnder(ask) => ask.index(state),
            Self::SessionOne(ask) => ask.index(state),
            Self::NodeSessions(ask) => ask.index(state),
            Self::AllSessions(ask) => ask.index(state),
        }
    }

    /// The store's answer, as text.
    pub(super) fn look(&self, state: &State) -> String {
        let mut out = String::new();
        match self {
            Self::Nodes(ask) => out = show_all(ask.look(state).iter().map(|row| &**row)),
            Self::Services(ask) => write!(out, "{:?}", ask.look(state)).expect("a string takes all"),
            Self::CatalogService(ask) => {
                for instance in ask.look(state) {
                    show_instance(&mut out, &instance.node, &instance.service, None::<(Health, Vec<_>)>);
                }
            }
            Self::HealthService(ask) => {
                for instance in ask.look(state) {
                    let checks = Some((instance.health, instance.checks.iter().map(|check| &**check)));
                    show_instance(&mut out, &instance.node, &instance.service, checks);
                }
            }
            Self::NodeServices(ask) => {
                if let Some((node, services)) = ask.look(state) {
                    shown(&mut out, &node);
                    out += &show_all(services.iter().map(|row| &**row));
                }
            }
            Self::NodeChecks(ask) => out = show_all(ask.look(state).iter().map(|row| &**row)),
            Self::ServiceChecks(ask) => out = show_all(ask.look(state).iter().map(|row| &**row)),
            Self::StateChecks(ask) => out = show_all(ask.look(state).iter().map(|row| &**row)),
            Self::KeyOne(ask) => show_entries(&mut out, ask.look(state).iter().map(|entry| &**entry)),
            Self::KeysUnder(ask) => show_entries(&mut out, ask.look(state).iter().map(|entry| &**entry)),
            Self::SessionOne(ask) => write!(out, "{:?}", ask.look(state)).expect("a string takes all"),
            Self::NodeSessions(ask) => write!(out, "{:?}", ask.look(state)).expect("a string takes all"),
            Self::AllSessions(ask) => write!(out, "{:?}", ask.look(state)).expect("a string takes all"),
        }
        out
    }

    /// The answer as the model has it, as text.
    pub(super) fn expect(&self, model: &Model) -> String {
        let mut out = String::new();
        let has = |node: &NodeName, wanted: &MetaFilter| {
            wanted.iter().all(|(key, value)| model.nodes[node].meta.get(key) == Some(value))
        };
        let instances =
            |name: &ServiceName, tags: &[SmolStr], meta: &MetaFilter| -> Vec<(&(NodeName, ServiceId), &Row<Service>)> {
                let all = model.services.iter().filter(|((node, _), row)| row.name.folded() == *name && has(node, meta));
                all.filter(|(_, row)| tags.iter().all(|tag| row.tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))).collect()
            };
        let node_of = |text: &SmolStr| {
            let folded = NodeName::new(text).expect("a name").folded();
            let by_id = |(_, row): &(&NodeName, &Row<Node>)| row.id.is_some_and(|id| id.to_string() == *text);
            model.nodes.get_key_value(&folded).or_else(|| model.nodes.iter().find(by_id))
        };
        match self {
            Self::Nodes(ask) => {
                out = show_all(model.nodes.iter().filter(|(node, _)| has(node, &ask.node_meta)).map(|(_, row)| row));
            }
            Self::Services(ask) => {
                let mut all: BTreeMap<&ServiceName, BTreeSet<SmolStr>> = BTreeMap::new();
                for ((node, _), row) in model.services.iter().filter(|((node, _), _)| has(node, &ask.node_meta)) {
                    let _ = node;
                    all.entry(&model.names[&row.name.folded()]).or_default().extend(row.tags.iter().cloned());
                }
                let all: Vec<_> = all
                    .into_iter()
                    .map(|(name, tags)| crate::query::ServiceTags { name: name.clone(), tags: tags.into_iter().collect() })
                    .collect();
                write!(out, "{all:?}").expect("a string takes all");
            }
            Self::CatalogService(ask) => {
                for ((node, _), row) in instances(&ask.name, &ask.tags, &ask.node_meta) {
                    show_instance(&mut out, &model.nodes[node], row, None::<(Health, Vec<_>)>);
                }
            }
            Self::HealthService(ask) => {
                for ((node, id), row) in instances(&ask.name, &ask.tags, &ask.node_meta) {
                    let checks = model.checks_of_instance(node, id);
                    let health = checks.iter().map(|check| check.status.health()).max().unwrap_or(Health::Passing);
                    show_instance(&mut out, &model.nodes[node], row, Some((health, checks)));
                }
            }
            Self::NodeServices(ask) => {
                if let Some((node, row)) = node_of(&ask.node) {
                    shown(&mut out, row);
                    out += &show_all(model.services.iter().filter(|((at, _), _)| at == node).map(|(_, row)| row));
                }
            }
            Self::NodeChecks(ask) => {
                if let Some((node, _)) = node_of(&ask.node) {
                    out = show_all(model.checks.iter().filter(|((at, _), _)| at == node).map(|(_, row)| row));
                }
            }
            Self::ServiceChecks(ask) => {
                for ((node, id), _) in instances(&ask.name, &[], &ask.node_meta) {
                    let own = model.checks_of_instance(node, id).into_iter().filter(|check| check.service_id.is_some());
                    out += &show_all(own);
                }
            }
            Self::StateChecks(ask) => {
                let of = |check: &&Row<Check>| match (ask.state, &check.status) {
                    (None, _) => true,
                    (Some(_), Status::Other(_)) => false,
                    (Some(health), status) => status.health() == health,
                };
                let all = model.checks.iter().filter(|((node, _), _)| has(node, &ask.node_meta));
                out = show_all(all.map(|(_, row)| row).filter(of));
            }
            Self::KeyOne(ask) => show_entries(&mut out, model.keys.get(&*ask.key).into_iter()),
            Self::KeysUnder(ask) => {
                show_entries(&mut out, model.keys.values().filter(|entry| entry.key.starts_with(&*ask.prefix)));
            }
            Self::SessionOne(ask) => {
                let session = ask.id.and_then(|id| model.sessions.get(&id));
                write!(out, "{session:?}").expect("a string takes all");
            }
            Self::NodeSessions(ask) => {
                let all: Vec<_> = model.sessions.values().filter(|session| session.node.folded() == ask.node).collect();
                write!(out, "{all:?}").expect("a string takes all");
            }
            Self::AllSessions(_) => {
                write!(out, "{:?}", model.sessions.values().collect::<Vec<_>>()).expect("a string takes all");
            }
        }
        out
    }
}
