//! The catalog as plain ordered maps, changed without cleverness: what the store is compared with.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::cause::{Cause, CauseKind};
use crate::command::{COMMANDS_IN_FLIGHT_MAX, Command, Deregister, Offer, Outcome, Proposal, Refusal, Register, Removed, Target};
use crate::kv::{Kv, KvVerb};
use crate::name::{CheckId, NodeName, ServiceId, ServiceName};
use crate::row::{Check, Entry, Index, Node, Row, Service};
use crate::session::{Behavior, Session};
use crate::status::Health;
use crate::status::Status;
use crate::transaction::{Fault, Found, Look, Op, Transacted};

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
    pub(super) runs: BTreeMap<Uuid, Run>,
    pub(super) sessions: BTreeMap<Uuid, Session>,
    /// Keys that cannot be locked until then.
    pub(super) held_back: BTreeMap<String, u64>,
    time_ms: u64,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Run {
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

/// What readers see.
type Rows = (
    BTreeMap<NodeName, Row<Node>>,
    BTreeMap<(NodeName, ServiceId), Row<Service>>,
    BTreeMap<(NodeName, CheckId), Row<Check>>,
    BTreeMap<String, Entry>,
    BTreeMap<Uuid, Session>,
);

impl Model {
    pub(super) fn rows(&self) -> Rows {
        (self.nodes.clone(), self.services.clone(), self.checks.clone(), self.keys.clone(), self.sessions.clone())
    }

    pub(super) fn apply(&mut self, index: Index, proposal: &Proposal) -> Outcome {
        let Proposal { run, number, answered_below, cause, command, .. } = proposal;
        self.time_ms = self.time_ms.max(proposal.time_ms);
        let now = self.time_ms;
        self.held_back.retain(|_, until| *until > now);
        let known = self.runs.get(&run.agent);
        if *command == Command::OpenRun {
            return match known {
                Some(session) if session.epoch > run.epoch => Outcome::Refused(Refusal::UnknownRun),
                Some(session) if session.epoch == run.epoch => Outcome::Done,
                _ => {
                    self.runs.insert(run.agent, Run { epoch: run.epoch, ..Run::default() });
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
            | Command::Place(_)
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
            Command::CreateSession(create) => match self.create_session(index, &cause, create.session) {
                Ok(()) => Outcome::Done,
                Err(refusal) => Outcome::Refused(refusal),
            },
            Command::EndSession(end) => {
                self.end_session(index, &cause, end.id);
                Outcome::Done
            }
            Command::Transaction(ops) => Outcome::Transaction(self.transact(index, &cause, run.agent, &ops)),
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
        self.sweep(index, &cause);
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
        after.sweep(index, cause);
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
            after.sweep(index, cause);
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
                let on = self.sessions.values().filter(|session| session.node.folded() == node).map(|session| session.id);
                for id in on.collect::<Vec<_>>() {
                    self.end_session(index, cause, id);
                }
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

    fn create_session(&mut self, index: Index, cause: &Arc<Cause>, session: Session) -> Result<(), Refusal> {
        let node = session.node.folded();
        if !self.nodes.contains_key(&node) {
            return Err(Refusal::MissingNode);
        }
        if self.sessions.contains_key(&session.id) {
            return Err(Refusal::SessionTaken(session.id));
        }
        for id in session.ties() {
            match self.checks.get(&(node.clone(), id.clone())) {
                None => return Err(Refusal::MissingCheck(id.clone())),
                Some(check) if check.status == Status::Critical => return Err(Refusal::CriticalCheck(id.clone())),
                Some(_) => {}
            }
        }
        self.sessions.insert(session.id, Session { cause: cause.clone(), create_index: index, ..session });
        Ok(())
    }

    fn end_session(&mut self, index: Index, cause: &Arc<Cause>, id: Uuid) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for (key, entry) in &mut self.keys {
            if entry.session == Some(id) {
                let delay = session.lock_delay_ns.max(0).unsigned_abs().div_ceil(1_000_000);
                if delay > 0 {
                    self.held_back.insert(key.clone(), self.time_ms + delay);
                }
                *entry = Entry { session: None, cause: cause.clone(), modify_index: index, ..entry.clone() };
                if session.behavior == Behavior::Delete {
                    entry.modify_index = 0; // to go below
                }
            }
        }
        self.keys.retain(|_, entry| entry.modify_index > 0);
    }

    /// Ends the sessions that lack their node or a check, or have a critical one.
    fn sweep(&mut self, index: Index, cause: &Arc<Cause>) {
        let over = |session: &&Session| {
            let node = session.node.folded();
            let well =
                |id: &CheckId| self.checks.get(&(node.clone(), id.clone())).is_some_and(|check| check.status != Status::Critical);
            !self.nodes.contains_key(&node) || !session.ties().all(well)
        };
        let over: Vec<Uuid> = self.sessions.values().filter(over).map(|session| session.id).collect();
        for id in over {
            self.end_session(index, cause, id);
        }
    }

    fn transact(&mut self, index: Index, cause: &Arc<Cause>, agent: Uuid, ops: &[Op]) -> Transacted {
        let before = self.clone();
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        for (at, op) in ops.iter().enumerate() {
            match self.attempt(index, cause, agent, op) {
                Ok(more) => found.extend(more),
                Err(what) => faults.push(Fault { at, what }),
            }
            self.sweep(index, cause);
        }
        if faults.is_empty() {
            return Transacted::Done(found);
        }
        *self = before;
        Transacted::Failed(faults)
    }

    fn attempt(&mut self, index: Index, cause: &Arc<Cause>, agent: Uuid, op: &Op) -> Result<Option<Found>, String> {
        let key_of = |entry: &Entry, value| {
            let value = if value { entry.value.clone() } else { bytes::Bytes::new() };
            Some(Found::Key(Arc::new(Entry { value, ..entry.clone() })))
        };
        match op {
            Op::Kv(kv) => {
                let key = kv.key.as_str();
                let held_back = self.held_back.contains_key(key);
                let (writes, fault) = match &kv.verb {
                    KvVerb::Set { .. } => (true, format!("failed to set key {key:?}, index is stale")),
                    KvVerb::Delete { .. } => (false, format!("failed to delete key {key:?}, index is stale")),
                    KvVerb::DeleteTree => (false, String::new()),
                    KvVerb::Acquire { .. } if held_back => (true, format!("failed to lock key {key:?} due to lock delay")),
                    KvVerb::Acquire { .. } => (true, format!("failed to lock key {key:?}, lock is already held")),
                    KvVerb::Release { .. } => {
                        (true, format!("failed to unlock key {key:?}, lock isn't held, or is held by another session"))
                    }
                };
                match self.kv(index, cause, kv.clone()) {
                    Outcome::Kv(true) if writes => Ok(key_of(&self.keys[key], false)),
                    Outcome::Kv(true) => Ok(None),
                    Outcome::Kv(false) => Err(fault),
                    Outcome::Refused(refusal) => Err(refusal.to_string()),
                    other => panic!("no outcome of a key: {other:?}"),
                }
            }
            Op::Key { key, look: Look::Get } => match self.keys.get(key.as_str()) {
                Some(entry) => Ok(key_of(entry, true)),
                None => Err(format!("key {key:?} doesn't exist")),
            },
            Op::Key { key, look: Look::CheckNotExists } => match self.keys.contains_key(key.as_str()) {
                true => Err(format!("key {key:?} exists")),
                false => Ok(None),
            },
            Op::DeleteNode(name, None) => {
                self.remove_node(&NodeName::new(name).expect("a name").folded(), agent);
                Ok(None)
            }
            Op::SetCheck(node, check, None) => {
                let node = NodeName::new(node).expect("a name");
                let checks = vec![Offer::unowned(check.clone())];
                let told = Register { node: node.clone(), about: None, services: vec![], checks, owner: None };
                match self.register(index, cause, agent, told) {
                    Ok(()) => Ok(Some(Found::Check(Arc::new(self.checks[&(node.folded(), check.id.clone())].clone())))),
                    Err(Refusal::UnknownNode(_)) => Err("Missing node registration".to_owned()),
                    Err(Refusal::MissingService(_)) => Err("Missing service registration".to_owned()),
                    Err(refusal) => Err(refusal.to_string()),
                }
            }
            other => unreachable!("not in this world: {other:?}"),
        }
    }

    fn kv(&mut self, index: Index, cause: &Arc<Cause>, Kv { key, verb }: Kv) -> Outcome {
        let old = self.keys.get(key.as_str()).cloned();
        let now = old.as_ref().map_or(0, |old| old.modify_index);
        let holder = old.as_ref().and_then(|old| old.session);
        let (value, flags, lock_index, session) = match verb {
            KvVerb::Set { cas, .. } if cas.is_some_and(|cas| cas != now) => return Outcome::Kv(false),
            KvVerb::Set { value, flags, .. } => (value, flags, 0, holder),
            KvVerb::Delete { cas } => {
                if old.is_some() && cas.is_some_and(|cas| cas != now) {
                    return Outcome::Kv(false);
                }
                self.keys.remove(key.as_str());
                return Outcome::Kv(true);
            }
            KvVerb::DeleteTree => {
                self.keys.retain(|at, _| !at.starts_with(key.as_str()));
                return Outcome::Kv(true);
            }
            KvVerb::Acquire { .. } if self.held_back.contains_key(key.as_str()) => return Outcome::Kv(false),
            KvVerb::Acquire { session, .. } if !self.sessions.contains_key(&session) => {
                return Outcome::Refused(Refusal::UnknownSession(session));
            }
            KvVerb::Acquire { session, .. } if holder.is_some_and(|holder| holder != session) => return Outcome::Kv(false),
            KvVerb::Acquire { value, flags, session } => {
                let locks = old.as_ref().map_or(0, |old| old.lock_index);
                (value, flags, if holder.is_some() { locks } else { locks + 1 }, Some(session))
            }
            KvVerb::Release { session, .. } if holder != Some(session) => return Outcome::Kv(false),
            KvVerb::Release { value, flags, .. } => (value, flags, old.as_ref().map_or(0, |old| old.lock_index), None),
        };
        let entry = Entry {
            key: key.as_str().into(),
            value,
            flags,
            lock_index,
            session,
            cause: cause.clone(),
            create_index: old.as_ref().map_or(index, |old| old.create_index),
            modify_index: index,
        };
        let shown = |entry: &Entry| (entry.value.clone(), entry.flags, entry.lock_index, entry.session);
        if old.is_none_or(|old| shown(&old) != shown(&entry)) {
            self.keys.insert(key.to_string(), entry);
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
