//! Several operations at once: all of them, or none.

use std::sync::Arc;

use bytes::Bytes;
use smol_str::SmolStr;
use uuid::Uuid;

use super::Change;
use super::keys::Locked;
use crate::cause::{Cause, CauseKind};
use crate::command::{Offer, Refusal, Register};
use crate::kv::{Kv, KvVerb};
use crate::name::{CheckId, NodeName, ServiceId};
use crate::row::{Check, Entry, Index, Node, Row, Service};
use crate::state::State;
use crate::transaction::{Fault, Found, Look, Op, RESULTS_BYTES_MAX, Transacted};

/// What one operation gives, or why it cannot be done.
type Tried = Result<Vec<Found>, String>;

impl State {
    /// What a transaction would come to; what it changes is this copy.
    pub(crate) fn try_out(mut self, ops: &[Op]) -> Transacted {
        let index = self.applied;
        let cause = Cause::new("", CauseKind::Api, 0, "");
        Change::new(&mut self, index, Uuid::nil(), cause).transact(ops)
    }
}

impl Change<'_> {
    /// Tries each operation, the later ones seeing what the earlier ones did. If one fails, all is as it was; the others are
    /// tried all the same, so that all faults are told.
    pub(super) fn transact(&mut self, ops: &[Op]) -> Transacted {
        let (before, touched) = (self.state.clone(), self.touched.clone());
        let (mut found, mut faults, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (at, op) in ops.iter().enumerate() {
            match self.attempt(op) {
                Ok(more) => {
                    bytes += more.iter().map(Found::weight).sum::<usize>();
                    found.extend(more);
                    if bytes > RESULTS_BYTES_MAX {
                        faults.push(Fault { at, what: format!("the results have more than {RESULTS_BYTES_MAX} bytes") });
                        break;
                    }
                }
                Err(what) => faults.push(Fault { at, what }),
            }
            self.settle(); // the next one may be about another node
        }
        if faults.is_empty() {
            return Transacted::Done(found);
        }
        (*self.state, self.touched, self.stale) = (before, touched, None);
        Transacted::Failed(faults)
    }

    fn attempt(&mut self, op: &Op) -> Tried {
        match op {
            Op::Kv(kv) => self.change_key(kv),
            Op::Key { key, look } => self.look_at_key(key, look),
            Op::GetNode(id, name) => {
                let row = self.state.node(if id.is_empty() { name } else { id });
                Ok(vec![Found::Node(row.cloned().ok_or_else(|| format!("node {name:?} doesn't exist"))?)])
            }
            Op::SetNode(name, about, cas) => self.set_node(name, about, *cas),
            Op::DeleteNode(name, cas) => {
                let node = node_named(name);
                let index = node.as_ref().and_then(|node| self.state.nodes.get(node)).map(|host| host.row.modify_index);
                must_be(*cas, index, || format!("failed to delete node {name:?}, index is stale"))?;
                if let Some(node) = node {
                    self.remove_node(&node);
                }
                Ok(Vec::new())
            }
            Op::GetService(node, id) => {
                let row = self.service_row(node, id).ok_or_else(|| format!("service {id:?} on node {node:?} doesn't exist"))?;
                Ok(vec![Found::Service(row)])
            }
            Op::SetService(node, service, cas) => self.set_service(node, service, *cas),
            Op::DeleteService(node, id, cas) => {
                let row = self.service_row(node, id);
                let index = row.as_ref().map(|row| row.modify_index);
                must_be(*cas, index, || format!("failed to delete service {id:?} on node {node:?}, index is stale"))?;
                if let Some(row) = row {
                    self.remove_service(&row.node.folded(), &row.id, Some(None));
                }
                Ok(Vec::new())
            }
            Op::GetCheck(node, id) => {
                let row = self.check_row(node, id).ok_or_else(|| format!("check {id:?} on node {node:?} doesn't exist"))?;
                Ok(vec![Found::Check(row)])
            }
            Op::SetCheck(node, check, cas) => self.set_check(node, check, *cas),
            Op::DeleteCheck(node, id, cas) => {
                let row = self.check_row(node, id);
                let index = row.as_ref().map(|row| row.modify_index);
                must_be(*cas, index, || format!("failed to delete check {id:?} on node {node:?}, index is stale"))?;
                if let Some(row) = row {
                    self.remove_check(&row.node.folded(), &row.id, Some(None));
                }
                Ok(Vec::new())
            }
            Op::Refused(why) => Err(why.clone()),
        }
    }

    fn change_key(&mut self, Kv { key, verb }: &Kv) -> Tried {
        match verb {
            KvVerb::Set { value, flags, cas } => {
                if !self.set_key(key, value.clone(), *flags, *cas) {
                    return Err(format!("failed to set key {key:?}, index is stale"));
                }
            }
            KvVerb::Acquire { value, flags, session } => match self.lock_key(key, value.clone(), *flags, *session) {
                Ok(Locked::Done) => {}
                Ok(Locked::Held) => return Err(format!("failed to lock key {key:?}, lock is already held")),
                Ok(Locked::HeldBack) => return Err(format!("failed to lock key {key:?} due to lock delay")),
                Err(refusal) => return Err(refusal.to_string()),
            },
            KvVerb::Release { value, flags, session } => {
                if !self.unlock_key(key, value.clone(), *flags, *session) {
                    return Err(not_held(key));
                }
            }
            KvVerb::Delete { cas } => {
                let index = self.state.key(key).map(|entry| entry.modify_index);
                // An absent key is as good as a removed one.
                must_be(cas.filter(|_| index.is_some()), index, || format!("failed to delete key {key:?}, index is stale"))?;
                self.remove_key(key);
                return Ok(Vec::new());
            }
            KvVerb::DeleteTree => {
                self.remove_keys(key);
                return Ok(Vec::new());
            }
        }
        Ok(self.state.key(key).map(without_value).into_iter().collect())
    }

    fn look_at_key(&self, key: &SmolStr, look: &Look) -> Tried {
        let entry = self.state.key(key);
        match look {
            Look::Get => {
                let entry = entry.ok_or_else(|| format!("key {key:?} doesn't exist"))?;
                Ok(vec![Found::Key(entry.clone())])
            }
            Look::GetOrEmpty => Ok(vec![Found::Key(entry.cloned().unwrap_or_else(|| Arc::new(self.empty(key))))]),
            Look::GetTree => Ok(self.tree(key)),
            Look::CheckIndex(index) => {
                let entry = entry.ok_or_else(|| format!("failed to check index, key {key:?} doesn't exist"))?;
                let current = entry.modify_index;
                if current != *index {
                    return Err(format!("failed index check for key {key:?}, current modify index {current} != {index}"));
                }
                Ok(vec![without_value(entry)])
            }
            Look::CheckSession(session) => {
                let entry = entry.ok_or_else(|| format!("failed to check session, key {key:?} doesn't exist"))?;
                let current = entry.session.map(|session| session.to_string()).unwrap_or_default();
                if current != session.as_str() {
                    return Err(format!("failed session check for key {key:?}, current session {current:?} != {session:?}"));
                }
                Ok(vec![without_value(entry)])
            }
            Look::CheckNotExists if entry.is_some() => Err(format!("key {key:?} exists")),
            Look::CheckNotExists => Ok(Vec::new()),
        }
    }

    /// What is longer than all results may be need not be gathered to the end.
    fn tree(&self, prefix: &str) -> Vec<Found> {
        let mut bytes = 0;
        let mut all = Vec::new();
        for entry in self.state.keys_under(prefix) {
            let found = Found::Key(entry.clone());
            bytes += found.weight();
            all.push(found);
            if bytes > RESULTS_BYTES_MAX {
                break;
            }
        }
        all
    }

    fn empty(&self, key: &str) -> Entry {
        Entry {
            key: Arc::from(key),
            value: Bytes::new(),
            flags: 0,
            lock_index: 0,
            session: None,
            cause: self.cause.clone(),
            create_index: 0,
            modify_index: 0,
        }
    }

    fn set_node(&mut self, name: &NodeName, about: &Node, cas: Option<Index>) -> Tried {
        let node = name.folded();
        let index = self.state.nodes.get(&node).map_or(0, |host| host.row.modify_index);
        must_be(cas, Some(index), || format!("failed to set node {name:?}, index is stale"))?;
        let told =
            Register { node: name.clone(), about: Some(about.clone()), services: Vec::new(), checks: Vec::new(), owner: None };
        self.register(told).map_err(|refusal| refused(&refusal))?;
        Ok(self.state.nodes.get(&node).map(|host| Found::Node(host.row.clone())).into_iter().collect())
    }

    fn set_service(&mut self, node: &str, service: &Service, cas: Option<Index>) -> Tried {
        let (id, index) = (&service.id, self.service_row(node, service.id.as_str()).map_or(0, |row| row.modify_index));
        must_be(cas, Some(index), || format!("failed to set service {id:?} on node {node:?}, index is stale"))?;
        let name = NodeName::new(node).map_err(|_| missing_node())?;
        let told = Register {
            node: name,
            about: None,
            services: vec![Offer::unowned(service.clone())],
            checks: Vec::new(),
            owner: None,
        };
        self.register(told).map_err(|refusal| refused(&refusal))?;
        Ok(self.service_row(node, id.as_str()).map(Found::Service).into_iter().collect())
    }

    fn set_check(&mut self, node: &str, check: &Check, cas: Option<Index>) -> Tried {
        let (id, index) = (&check.id, self.check_row(node, check.id.as_str()).map_or(0, |row| row.modify_index));
        must_be(cas, Some(index), || format!("failed to set check {id:?} on node {node:?}, index is stale"))?;
        let name = NodeName::new(node).map_err(|_| missing_node())?;
        let told =
            Register { node: name, about: None, services: Vec::new(), checks: vec![Offer::unowned(check.clone())], owner: None };
        self.register(told).map_err(|refusal| refused(&refusal))?;
        Ok(self.check_row(node, id.as_str()).map(Found::Check).into_iter().collect())
    }

    fn service_row(&self, node: &str, id: &str) -> Option<Arc<Row<Service>>> {
        self.state.service_on(&node_named(node)?, &ServiceId::new(id).ok()?).cloned()
    }

    fn check_row(&self, node: &str, id: &str) -> Option<Arc<Row<Check>>> {
        self.state.check_on(&node_named(node)?, &CheckId::new(id).ok()?).cloned()
    }
}

/// A name as it is asked for: what cannot be one is nowhere.
fn node_named(text: &str) -> Option<NodeName> {
    NodeName::new(text).ok().map(|name| name.folded())
}

/// With an expected index there must be a row, or its absence told as 0, and it must have that index.
fn must_be(expected: Option<Index>, index: Option<Index>, stale: impl FnOnce() -> String) -> Result<(), String> {
    if expected.is_some() && expected != index { Err(stale()) } else { Ok(()) }
}

/// What is said of a key that the session does not hold.
fn not_held(key: &str) -> String {
    format!("failed to unlock key {key:?}, lock isn't held, or is held by another session")
}

fn missing_node() -> String {
    Refusal::MissingNode.to_string()
}

/// Consul's words for what a registration through the API is refused with otherwise.
fn refused(refusal: &Refusal) -> String {
    match refusal {
        Refusal::UnknownNode(_) => missing_node(),
        Refusal::MissingService(_) => "Missing service registration".to_owned(),
        refusal => refusal.to_string(),
    }
}

fn without_value(entry: &Arc<Entry>) -> Found {
    if entry.value.is_empty() {
        return Found::Key(entry.clone());
    }
    Found::Key(Arc::new(Entry { value: Bytes::new(), ..(**entry).clone() }))
}
