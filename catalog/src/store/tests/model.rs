//! The catalog as plain ordered maps, changed without cleverness: what the store is compared with.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::cause::{Cause, CauseKind};
use crate::command::{
    COMMANDS_IN_FLIGHT_MAX, Command, Deregister, Kv, KvVerb, Offer, Outcome, Proposal, Refusal, Register, Removed, Target,
};
use crate::name::{CheckId, NodeName, ServiceId, ServiceName};
use crate::row::{Check, Entry, Index, Node, Row, Service};
use crate::status::Health;

/// The store's rows, and nothing that is made of them.
#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    pub(super) history: Option<Uuid>,
    pub(super) nodes: BTreeMap<NodeName, Row<Node>>,
    pub(super) services: BTreeMap<(NodeName, ServiceId), Row<Service>>,
    pub(super) checks: BTreeMap<(NodeName, CheckId), Row<Check>>,
    pub(super) keys: BTreeMap<String, Entry>,
    /// How each service was written by the last registration that changed an instance of it.
    pub(super) names: BTreeMap<ServiceName, ServiceName>,
    /// By owner, kind and id: generation and the index of the removal.
    pub(super) marks: BTreeMap<(Uuid, bool, String), (u64, Index)>,
    pub(super) runs: BTreeMap<Uuid, Session>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Session {
    pub(super) epoch: u64,
    floor: u64,
    outcomes: BTreeMap<u64, Outcome>,
}

fn mark_key(owner: Uuid, removed: &Removed) -> ((Uuid, bool, String), u64) {
    match removed {
        Removed::Service(id, generation) => ((owner, false, id.to_string()), *generation),
        Removed::Check(id, generation) => ((owner, true, id.to_string()), *generation),
    }
}

impl Model {
    pub(super) fn apply(&mut self, index: Index, proposal: &Proposal) -> Outcome {
        let Proposal { run, number, answered_below, cause, command, .. } = proposal;
        let known = self.runs.get(&run.agent);
        if *command == Command::OpenRun {
            return match known {
                Some(session) if session.epoch > run.epoch => Outcome::Refused(Refusal::UnknownRun),
                Some(session) if session.epoch == run.epoch => Outcome::Done,
                _ => {
                    self.runs.insert(run.agent, Session { epoch: run.epoch, ..Session::default() });
                    Outcome::Done
                }
            };
        }
        let Some(session) = known.filter(|session| session.epoch == run.epoch) else {
            return Outcome::Refused(Refusal::UnknownRun);
        };
        if let Some(outcome) = session.outcomes.get(number) {
            return outcome.clone();
        }
        let floor = session.floor.max(*answered_below);
        if *number < floor || *number >= floor.saturating_add(COMMANDS_IN_FLIGHT_MAX) {
            return Outcome::Refused(Refusal::OutsideWindow);
        }
        let session = self.runs.get_mut(&run.agent).expect("it was found above");
        session.floor = floor;
        session.outcomes.retain(|number, _| *number >= floor);

        let cause = Arc::new(cause.clone());
        let outcome = match command.clone() {
            Command::SetAutopilot(_)
            | Command::Stage(_)
            | Command::Switch(_)
            | Command::GiveUp(_)
            | Command::SetQuery(_)
            | Command::DeleteQuery(_) => unreachable!("this world does none of these"),
            Command::Found(history) => {
                if self.history != Some(history) {
                    self.marks.clear();
                }
                self.history = Some(history);
                Outcome::Done
            }
            Command::OpenRun => unreachable!("it was answered above"),
            Command::Register(register) => match self.register(index, &cause, run.agent, register) {
                Ok(()) => Outcome::Done,
                Err(refusal) => Outcome::Refused(refusal),
            },
            Command::Deregister(deregister) => self.deregister(index, run.agent, deregister),
            Command::Kv(kv) => self.kv(index, &cause, kv),
            Command::AcknowledgeRemovals(all) => {
                for removed in all {
                    let (key, generation) = mark_key(run.agent, &removed);
                    if self.marks.get(&key).is_some_and(|(marked, _)| *marked <= generation) {
                        self.marks.remove(&key);
                    }
                }
                Outcome::Done
            }
        };
        if let Some(session) = self.runs.get_mut(&run.agent).filter(|session| session.epoch == run.epoch) {
            session.outcomes.insert(*number, outcome.clone());
        }
        outcome
    }

    fn register(&mut self, index: Index, cause: &Arc<Cause>, agent: Uuid, register: Register) -> Result<(), Refusal> {
        let mut after = self.clone();
        let Register { node: name, about, mut services, mut checks, owner } = register;
        let node = name.folded();
        match about {
            None if !after.nodes.contains_key(&node) => return Err(Refusal::UnknownNode(name.as_str().into())),
            None => {}
            Some(about) => after.put_node(index, cause, agent, name.clone(), about)?,
        }
        let marks = after.marks.clone();
        let admits = |removed: Removed| {
            let marked =
                owner.map(|owner| mark_key(owner, &removed)).and_then(|(key, generation)| Some((marks.get(&key)?.0, generation)));
            marked.is_none_or(|(marked, generation)| marked < generation)
        };
        services.retain(|offer| admits(Removed::Service(offer.value.id.clone(), offer.generation)));
        checks.retain(|offer| admits(Removed::Check(offer.value.id.clone(), offer.generation)));
        for Offer { value, generation, cause: own } in services {
            if let Some(owner) = owner {
                after.marks.remove(&(owner, false, value.id.to_string()));
            }
            let key = (node.clone(), value.id.clone());
            let host = after.nodes[&node].node.clone();
            let old = after.services.get(&key);
            let row = offer(index, own.as_ref().unwrap_or(cause), host, old, value, owner, generation);
            if old.is_none_or(|old| old.value != row.value) {
                after.names.insert(row.name.folded(), row.name.clone());
            }
            after.services.insert(key, row);
        }
        for Offer { mut value, generation, cause: own } in checks {
            if let Some(id) = &value.service_id {
                let Some(service) = after.services.get(&(node.clone(), id.clone())) else {
                    if owner.is_some() {
                        continue;
                    }
                    return Err(Refusal::MissingService(name.as_str().into()));
                };
                value.service_name = Some(service.name.clone());
                value.service_tags = service.tags.clone();
            }
            if let Some(owner) = owner {
                after.marks.remove(&(owner, true, value.id.to_string()));
            }
            let key = (node.clone(), value.id.clone());
            let host = after.nodes[&node].node.clone();
            let old = after.checks.get(&key);
            let row = offer(index, own.as_ref().unwrap_or(cause), host, old, value, owner, generation);
            after.checks.insert(key, row);
        }
        *self = after;
        Ok(())
    }

    fn put_node(&mut self, index: Index, cause: &Arc<Cause>, agent: Uuid, name: NodeName, about: Node) -> Result<(), Refusal> {
        let node = name.folded();
        if let Some(id) = about.id {
            if let Some(by) = self.nodes.iter().find(|(at, row)| **at != node && row.id == Some(id)).map(|(at, _)| at.clone()) {
                let serf = (by.clone(), CheckId::new("serfHealth").expect("a name"));
                let lives = self
                    .checks
                    .get(&serf)
                    .is_some_and(|check| check.service_id.is_none() && check.status.health() == Health::Passing);
                if cause.kind != CauseKind::Reconcile && lives {
                    return Err(Refusal::NodeIdTaken { id, by });
                }
                self.remove_node(&by, agent);
            }
            if let Some(held) = self.nodes.get(&node).and_then(|row| row.id).filter(|held| *held != id) {
                let serf = (node.clone(), CheckId::new("serfHealth").expect("a name"));
                let dead = self
                    .checks
                    .get(&serf)
                    .is_some_and(|check| check.service_id.is_none() && check.status.health() == Health::Critical);
                if cause.kind != CauseKind::Reconcile && !dead {
                    return Err(Refusal::NodeNameTaken { name, id: held });
                }
                let gone: Vec<_> = self.services.iter().filter(|((at, _), row)| *at == node && row.owner == Some(held)).collect();
                for id in gone.into_iter().map(|((_, id), _)| id.clone()).collect::<Vec<_>>() {
                    self.services.remove(&(node.clone(), id.clone()));
                    self.checks.retain(|(at, _), check| *at != node || check.service_id.as_ref() != Some(&id));
                }
                self.checks.retain(|(at, _), check| *at != node || check.owner != Some(held));
                self.forget(held, agent);
            }
        }
        let old = self.nodes.get(&node);
        if old.is_some_and(|old| old.value == about && old.node == name) {
            return Ok(());
        }
        let row = Row {
            node: name,
            value: about,
            owner: None,
            generation: 0,
            cause: cause.clone(),
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: index,
            owner_index: 0,
        };
        self.nodes.insert(node, row);
        Ok(())
    }

    fn remove_node(&mut self, node: &NodeName, agent: Uuid) {
        if let Some(row) = self.nodes.remove(node) {
            self.services.retain(|(at, _), _| at != node);
            self.checks.retain(|(at, _), _| at != node);
            if let Some(id) = row.id {
                self.forget(id, agent);
            }
        }
    }

    fn forget(&mut self, id: Uuid, agent: Uuid) {
        self.marks.retain(|(owner, _, _), _| *owner != id);
        if id != agent {
            self.runs.remove(&id);
        }
    }

    fn deregister(&mut self, index: Index, agent: Uuid, deregister: Deregister) -> Outcome {
        let Deregister { node, target, owner: by } = deregister;
        let node = node.folded();
        match target {
            Target::Node => self.remove_node(&node, agent),
            Target::Service(id) => {
                if let Some(row) = self.services.remove(&(node.clone(), id.clone())) {
                    self.checks.retain(|(at, _), check| *at != node || check.service_id.as_ref() != Some(&id));
                    if let Some(owner) = row.owner.filter(|owner| by != Some(*owner)) {
                        self.marks.insert((owner, false, id.to_string()), (row.generation, index));
                    }
                }
            }
            Target::Check(id) => {
                if let Some(row) = self.checks.remove(&(node, id.clone()))
                    && let Some(owner) = row.owner.filter(|owner| by != Some(*owner))
                {
                    self.marks.insert((owner, true, id.to_string()), (row.generation, index));
                }
            }
        }
        Outcome::Done
    }

    fn kv(&mut self, index: Index, cause: &Arc<Cause>, Kv { key, verb }: Kv) -> Outcome {
        let old = self.keys.get(key.as_str()).cloned();
        let now = old.as_ref().map_or(0, |old| old.modify_index);
        match verb {
            KvVerb::Set { value, flags, cas } => {
                if cas.is_some_and(|cas| cas != now) {
                    return Outcome::Kv(false);
                }
                if old.as_ref().is_some_and(|old| old.value == value && old.flags == flags) {
                    return Outcome::Kv(true);
                }
                let entry = Entry {
                    key: key.as_str().into(),
                    value,
                    flags,
                    lock_index: 0,
                    session: None,
                    cause: cause.clone(),
                    create_index: old.map_or(index, |old| old.create_index),
                    modify_index: index,
                };
                self.keys.insert(key.to_string(), entry);
            }
            KvVerb::Delete { cas } => {
                if old.is_some() && cas.is_some_and(|cas| cas != now) {
                    return Outcome::Kv(false);
                }
                self.keys.remove(key.as_str());
            }
            KvVerb::DeleteTree => self.keys.retain(|at, _| !at.starts_with(key.as_str())),
        }
        Outcome::Kv(true)
    }

    /// The checks of an instance, in their order: its own by id, then the node's by id.
    pub(super) fn checks_of_instance(&self, node: &NodeName, id: &ServiceId) -> Vec<&Row<Check>> {
        let on = |wanted: Option<&ServiceId>| {
            let all = self.checks.iter().filter(|((at, _), _)| at == node).map(|(_, check)| check);
            all.filter(|check| check.service_id.as_ref() == wanted).collect::<Vec<_>>()
        };
        let mut all = on(Some(id));
        all.extend(on(None));
        all
    }
}

/// What becomes of a row that is offered.
fn offer<T: PartialEq>(
    index: Index,
    cause: &Arc<Cause>,
    host: NodeName,
    old: Option<&Row<T>>,
    value: T,
    owner: Option<Uuid>,
    generation: u64,
) -> Row<T> {
    let (owner, generation) = match (owner, old) {
        (Some(owner), _) => (Some(owner), generation),
        (None, Some(old)) => (old.owner, old.generation),
        (None, None) => (None, 0),
    };
    match old {
        Some(old) if old.value == value => Row {
            node: old.node.clone(),
            value,
            owner,
            generation,
            cause: old.cause.clone(),
            create_index: old.create_index,
            modify_index: old.modify_index,
            owner_index: if (old.owner, old.generation) == (owner, generation) { old.owner_index } else { index },
        },
        old => Row {
            node: host,
            value,
            owner,
            generation,
            cause: cause.clone(),
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: index,
            owner_index: 0,
        },
    }
}
