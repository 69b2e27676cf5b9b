//! Changes of nodes, services and checks, and of the instances made of them.

use std::sync::Arc;

use smallvec::SmallVec;
use smol_str::SmolStr;
use uuid::Uuid;

use super::Change;
use super::place::{OwnChecks, put_sorted};
use crate::cause::CauseKind;
use crate::command::{Deregister, Offer, Outcome, Refusal, Register, Removed, Target};
use crate::grave::Gone;
use crate::name::{CheckId, NodeName, ServiceId, ServiceName};
use crate::past::Subject;
use crate::removal::RemovalMark;
use crate::row::{Check, Node, Row, Service};
use crate::state::Host;
use crate::status::{Health, Status};
use crate::topic::Topic;

impl Change<'_> {
    /// Looks at everything first: all of it happens, or nothing.
    pub(super) fn register(&mut self, register: Register) -> Result<(), Refusal> {
        let Register { node: name, about, mut services, mut checks, owner } = register;
        let node = name.folded();
        let Admitted { leaving, former } = match &about {
            Some(about) => self.admit_node(&node, &name, about)?,
            None if !self.state.nodes.contains_key(&node) => return Err(Refusal::UnknownNode(SmolStr::new(name.as_str()))),
            None => Admitted::default(),
        };
        let renamed = about.as_ref().and_then(|about| about.id).filter(|_| former.is_some());
        if let Some(owner) = owner.filter(|owner| Some(*owner) != leaving && Some(*owner) != renamed) {
            let removals = &self.state.removals;
            services.retain(|offer| removals.admits(owner, &Removed::Service(offer.value.id.clone(), offer.generation)));
            checks.retain(|offer| removals.admits(owner, &Removed::Check(offer.value.id.clone(), offer.generation)));
        }
        for check in &mut checks {
            let Some(id) = &check.value.service_id else { continue };
            let offered = services.iter().map(|offer| &offer.value).rfind(|service| service.id == *id);
            let stays = |row: &&Arc<Row<Service>>| row.owner.is_none() || row.owner != leaving;
            let known = || self.state.services.get(&(node.clone(), id.clone())).filter(stays).map(|row| &row.value);
            let Some(service) = offered.or_else(known) else {
                if owner.is_some() {
                    continue; // Its service was removed meanwhile; the owner will read the mark.
                }
                return Err(Refusal::MissingService(SmolStr::new(name.as_str())));
            };
            check.value.service_name = Some(service.name.clone());
            check.value.service_tags = service.tags.clone();
        }
        checks.retain(|check| check.value.service_id.is_none() || check.value.service_name.is_some());
        if let Some(former) = former {
            self.remove_node(&former);
            self.stale = None; // it has no instances any more
        }
        if let Some(leaving) = leaving {
            self.forget_owner(&node, leaving);
        }
        if let Some(about) = about {
            self.put_node(&node, name, about);
        }
        for offer in services {
            if let Some(owner) = owner {
                self.state.removals.clear(owner, &Removed::Service(offer.value.id.clone(), offer.generation));
            }
            self.put_service(&node, offer, owner);
        }
        for offer in checks {
            if let Some(owner) = owner {
                self.state.removals.clear(owner, &Removed::Check(offer.value.id.clone(), offer.generation));
            }
            self.put_check(&node, offer, owner);
        }
        Ok(())
    }

    /// A UUID has one name, a name one UUID. Membership decides over both. A catalog API write may take a name only from a node
    /// that is known to be dead, and a UUID to another name only from one that is not known to live.
    fn admit_node(&self, node: &NodeName, name: &NodeName, about: &Node) -> Result<Admitted, Refusal> {
        let Some(id) = about.id else { return Ok(Admitted::default()) };
        let by_membership = self.cause.kind == CauseKind::Reconcile;
        let former = self.state.node_ids.get(&id).filter(|by| *by != node).cloned();
        if let Some(by) = former.as_ref().filter(|by| !by_membership && self.serf_health(by) == Some(Health::Passing)) {
            return Err(Refusal::NodeIdTaken { id, by: by.clone() });
        }
        let leaving = self.state.nodes.get(node).and_then(|host| host.row.id).filter(|held| *held != id);
        if let Some(held) = leaving.filter(|_| !by_membership && self.serf_health(node) != Some(Health::Critical)) {
            return Err(Refusal::NodeNameTaken { name: name.clone(), id: held });
        }
        Ok(Admitted { leaving, former })
    }

    /// What membership says of a node, if it knows it.
    fn serf_health(&self, node: &NodeName) -> Option<Health> {
        let host = self.state.nodes.get(node)?;
        host.checks.iter().find(|check| check.id.as_str() == SERF_HEALTH).map(|check| check.status.health())
    }

    /// The name passes to another UUID: what the old one kept goes in the same step.
    fn forget_owner(&mut self, node: &NodeName, owner: Uuid) {
        self.end_sessions_on(node, "the node's name passed to another one");
        let services: Vec<_> =
            self.state.services_of(node).filter(|row| row.owner == Some(owner)).map(|row| row.id.clone()).collect();
        for id in services {
            self.remove_service(node, &id, None);
        }
        let checks: Vec<_> =
            self.state.checks_of(node).filter(|row| row.owner == Some(owner)).map(|row| row.id.clone()).collect();
        for id in checks {
            self.remove_check(node, &id, None);
        }
        self.forget_id(owner);
    }

    /// The UUID stands for no node any more.
    fn forget_id(&mut self, id: Uuid) {
        self.state.node_ids.remove(&id);
        self.state.removals.forget(id);
        if id != self.agent {
            self.state.runs.forget(id);
        }
    }

    fn put_node(&mut self, node: &NodeName, name: NodeName, about: Node) {
        let old = self.state.nodes.get(node).cloned();
        if old.as_ref().is_some_and(|old| old.row.value == about && old.row.node == name) {
            return;
        }
        let (old_id, id) = (old.as_ref().and_then(|old| old.row.id), about.id);
        if let Some(old_id) = old_id.filter(|_| old_id != id) {
            self.state.node_ids.remove(&old_id);
            self.state.indexes.nodes_removed = self.index; // Whoever asks by that UUID finds nothing now.
            self.touch_node(&NodeName::of_id(old_id));
            self.touch(Topic::NodeChecks(NodeName::of_id(old_id)));
        }
        if let Some(id) = id {
            self.state.node_ids.insert(id, node.clone());
        }
        let row = Arc::new(Row {
            node: name,
            value: about,
            owner: None,
            generation: 0,
            cause: self.cause.clone(),
            create_index: old.as_ref().map_or(self.index, |old| old.row.create_index),
            modify_index: self.index,
            owner_index: 0,
        });
        let host = match old {
            Some(old) => Host { row, ..(*old).clone() },
            None => Host { row, checks: SmallVec::new(), index: self.index, checks_index: self.index },
        };
        self.state.nodes.insert(node.clone(), Arc::new(host));
        self.state.graves.fill(&Gone::Node(node.clone()));
        self.state.indexes.nodes = self.index;
        self.touch(Topic::Nodes);
        self.note_node(node, false);
        if old_id != id {
            self.note_node(node, true); // Whoever asks for its checks by that UUID finds them now.
        }
        for (service, own) in self.parts_on(node) {
            self.put_instance(node, service, own, true, false);
        }
    }

    fn put_instance(&mut self, node: &NodeName, service: Arc<Row<Service>>, own: OwnChecks, rows: bool, checks: bool) {
        let name = service.name.folded();
        let index = self.index;
        let Some(bucket) = self.state.place(node, service, own, index) else { return };
        let was = std::mem::replace(&mut bucket.index, index);
        if rows {
            bucket.rows_index = index;
        }
        if checks {
            bucket.checks_index = index;
        }
        self.state.note_bucket(&name, Some(was), Some(index));
        self.touch_service(name, rows, checks);
    }

    fn touch_service(&mut self, name: ServiceName, rows: bool, checks: bool) {
        if rows {
            self.touch(Topic::Service(name.clone()));
        }
        if checks {
            self.touch(Topic::ServiceChecks(name.clone()));
        }
        self.touch(Topic::Health(name));
    }

    fn put_service(&mut self, node: &NodeName, offer: Offer<Service>, owner: Option<Uuid>) {
        let Offer { value, generation, cause } = offer;
        let cause = cause.unwrap_or_else(|| self.cause.clone());
        let key = (node.clone(), value.id.clone());
        let old = self.state.services.get(&key).cloned();
        let (owner, generation) = keeper(old.as_deref(), owner, generation);
        let own = old.as_ref().map_or_else(SmallVec::new, |old| self.state.own_checks(node, old));
        let mut moved = false;
        if let Some(old) = &old {
            if old.value == value {
                if (old.owner, old.generation) != (owner, generation) {
                    // Nobody who reads can tell, so no index that readers see moves.
                    let row = Arc::new(Row { owner, generation, owner_index: self.index, ..(**old).clone() });
                    self.state.services.insert(key, row.clone());
                    self.state.place(node, row, own, self.index);
                }
                return;
            }
            if old.name.folded() != value.name.folded() {
                self.take_instance(node, old);
                moved = !own.is_empty();
            }
        }
        let id = value.id.clone();
        let host_name = self.state.nodes.get(node).map_or_else(|| node.clone(), |host| host.row.node.clone());
        let row = Arc::new(Row {
            node: host_name,
            value,
            owner,
            generation,
            cause: cause.clone(),
            create_index: old.map_or(self.index, |old| old.create_index),
            modify_index: self.index,
            owner_index: 0,
        });
        self.state.services.insert(key, row.clone());
        self.state.graves.fill(&Gone::Service(node.clone(), id.clone()));
        self.state.past.record(node, Subject::Service(id), self.index, None, false, &cause);
        self.state.indexes.services = self.index;
        self.touch(Topic::Services);
        self.note_node(node, false);
        let name = row.name.clone();
        self.put_instance(node, row, own, true, moved);
        if let Some(bucket) = self.state.buckets.get_mut(&name.folded()).filter(|bucket| bucket.name != name) {
            Arc::make_mut(bucket).name = name;
        }
    }

    fn note_node(&mut self, node: &NodeName, checks: bool) {
        let index = self.index;
        let Some(host) = self.state.nodes.get_mut(node) else { return };
        let host = Arc::make_mut(host);
        if checks {
            host.checks_index = index;
        } else {
            host.index = index;
        }
        for name in [Some(node.clone()), host.row.id.map(NodeName::of_id)].into_iter().flatten() {
            self.touch(if checks { Topic::NodeChecks(name) } else { Topic::Node(name) });
        }
    }

    fn put_check(&mut self, node: &NodeName, offer: Offer<Check>, owner: Option<Uuid>) {
        let Offer { value, generation, cause } = offer;
        let cause = cause.unwrap_or_else(|| self.cause.clone());
        let key = (node.clone(), value.id.clone());
        let old = self.state.checks.get(&key).cloned();
        let (owner, generation) = keeper(old.as_deref(), owner, generation);
        let same = old.as_ref().is_some_and(|old| old.value == value);
        if same && old.as_ref().is_some_and(|old| (old.owner, old.generation) == (owner, generation)) {
            return;
        }
        let host_name = self.state.nodes.get(node).map_or_else(|| node.clone(), |host| host.row.node.clone());
        let mut row = Row {
            node: host_name,
            value,
            owner,
            generation,
            cause: cause.clone(),
            create_index: old.as_ref().map_or(self.index, |old| old.create_index),
            modify_index: self.index,
            owner_index: 0,
        };
        if same {
            // The owner or the generation alone: nobody who reads can tell, so no index that readers see moves.
            if let Some(old) = &old {
                row.node = old.node.clone();
                row.cause = old.cause.clone();
                row.modify_index = old.modify_index;
                row.owner_index = self.index;
            }
            let row = Arc::new(row);
            self.state.checks.insert(key, row.clone());
            match self.with_check(node, row) {
                Some((service, own)) => {
                    self.state.place(node, service, own, self.index);
                }
                None => {
                    self.stale.get_or_insert_with(|| (node.clone(), Seen::ByNobody));
                }
            }
            return;
        }
        let old_status = old.as_ref().map(|old| old.status.clone());
        if old_status.as_ref() != Some(&row.status) {
            let subject = Subject::Check(row.id.clone());
            self.state.past.record(node, subject, self.index, Some(row.status.clone()), false, &cause);
        }
        if let Some(old) = old.filter(|old| old.service_id != row.service_id) {
            self.detach(node, &old);
        }
        self.note_check(node, [old_status.as_ref(), Some(&row.status)]);
        let row = Arc::new(row);
        self.state.checks.insert(key, row.clone());
        self.state.graves.fill(&Gone::Check(node.clone(), row.id.clone()));
        if row.status == Status::Critical {
            self.end_tied(node, &row.id, "is critical", &cause);
        }
        self.attach(node, row);
    }

    fn note_check(&mut self, node: &NodeName, statuses: [Option<&Status>; 2]) {
        self.state.indexes.checks = self.index;
        self.touch(Topic::State(None));
        for health in statuses.into_iter().flatten().filter_map(Status::listed) {
            *self.state.indexes.of_status(health) = self.index;
            self.touch(Topic::State(Some(health)));
        }
        self.note_node(node, true);
    }

    /// Puts a check where instances read it, in place of its older self.
    fn attach(&mut self, node: &NodeName, row: Arc<Row<Check>>) {
        match self.with_check(node, row) {
            Some((service, own)) => self.put_instance(node, service, own, false, true),
            None => self.stale = Some((node.clone(), Seen::ByReaders)),
        }
    }

    /// Puts a check of the node itself into it. Of one of a service: what its instance is to be made of.
    fn with_check(&mut self, node: &NodeName, row: Arc<Row<Check>>) -> Option<Parts> {
        let Some(id) = &row.service_id else {
            if let Some(host) = self.state.nodes.get_mut(node) {
                put_sorted(&mut Arc::make_mut(host).checks, row);
            }
            return None;
        };
        let service = self.state.services.get(&(node.clone(), id.clone()))?.clone();
        let mut own = self.state.own_checks(node, &service);
        put_sorted(&mut own, row);
        Some((service, own))
    }

    /// All instances of a node, with their own checks.
    fn parts_on(&self, node: &NodeName) -> Vec<Parts> {
        self.state.services_of(node).map(|service| (service.clone(), self.state.own_checks(node, service))).collect()
    }

    /// Takes a check from where instances read it.
    fn detach(&mut self, node: &NodeName, row: &Row<Check>) {
        match &row.service_id {
            Some(id) => {
                let Some(service) = self.state.services.get(&(node.clone(), id.clone())).cloned() else { return };
                let mut own = self.state.own_checks(node, &service);
                own.retain(|check| check.id != row.id);
                self.put_instance(node, service, own, false, true);
            }
            None => {
                if let Some(host) = self.state.nodes.get_mut(node) {
                    Arc::make_mut(host).checks.retain(|check| check.id != row.id);
                }
                self.stale = Some((node.clone(), Seen::ByReaders));
            }
        }
    }

    /// At the end of a command: the instances of a node whose own checks changed are made anew, once however many they were.
    pub(super) fn settle(&mut self) {
        let Some((node, seen)) = self.stale.take() else { return };
        for (service, own) in self.parts_on(&node) {
            match seen {
                Seen::ByReaders => self.put_instance(&node, service, own, false, false),
                Seen::ByNobody => {
                    self.state.place(&node, service, own, self.index);
                }
            }
        }
    }

    pub(super) fn deregister(&mut self, deregister: Deregister) -> Outcome {
        let Deregister { node, target, owner } = deregister;
        let node = node.folded();
        match target {
            Target::Node => self.remove_node(&node),
            Target::Service(id) => self.remove_service(&node, &id, Some(owner)),
            Target::Check(id) => self.remove_check(&node, &id, Some(owner)),
        }
        Outcome::Done
    }

    /// The node's own agent, if it lives, returns with what it keeps; its removal marks are void then, so they go too.
    pub(super) fn remove_node(&mut self, node: &NodeName) {
        let Some(host) = self.state.nodes.get(node).cloned() else { return };
        self.end_sessions_on(node, "its node is gone");
        let services: Vec<_> = self.state.services_of(node).map(|row| row.id.clone()).collect();
        for id in services {
            self.remove_service(node, &id, None);
        }
        let checks: Vec<_> = self.state.checks_of(node).map(|row| row.id.clone()).collect();
        for id in checks {
            self.remove_check(node, &id, None);
        }
        self.state.nodes.remove(node);
        if self.state.drop_coordinate(node, self.index) {
            self.touch(Topic::Coordinates);
        }
        if let Some(id) = host.row.id {
            self.forget_id(id);
            self.touch_node(&NodeName::of_id(id));
            self.touch(Topic::NodeChecks(NodeName::of_id(id)));
        }
        self.state.graves.dig(Gone::Node(node.clone()), self.index);
        self.state.indexes.nodes = self.index;
        self.state.indexes.nodes_removed = self.index;
        self.touch(Topic::Nodes);
        self.touch_node(node);
        self.touch(Topic::NodeChecks(node.clone()));
    }

    /// `by` is who removes it: its owner, somebody else (who leaves the owner a mark), or `None` when it goes with its node.
    pub(super) fn remove_service(&mut self, node: &NodeName, id: &ServiceId, by: Option<Option<Uuid>>) {
        let Some(row) = self.state.services.get(&(node.clone(), id.clone())).cloned() else { return };
        self.leave_mark(&row, by, |generation| Removed::Service(id.clone(), generation));
        for check in self.state.own_checks(node, &row) {
            self.bury_check(node, &check);
        }
        self.take_instance(node, &row);
        self.state.services.remove(&(node.clone(), id.clone()));
        self.state.graves.dig(Gone::Service(node.clone(), id.clone()), self.index);
        self.state.past.record(node, Subject::Service(id.clone()), self.index, None, true, &self.cause);
        self.state.indexes.services = self.index;
        self.touch(Topic::Services);
        self.note_node(node, false);
    }

    fn leave_mark<T>(&mut self, row: &Row<T>, by: Option<Option<Uuid>>, removed: impl FnOnce(u64) -> Removed) {
        if let (Some(owner), Some(by)) = (row.owner, by)
            && by != Some(owner)
        {
            self.state.removals.mark(RemovalMark {
                owner,
                removed: removed(row.generation),
                cause: self.cause.clone(),
                index: self.index,
                history: self.state.history,
            });
        }
    }

    fn take_instance(&mut self, node: &NodeName, row: &Row<Service>) {
        let name = row.name.folded();
        let Some(bucket) = self.state.buckets.get_mut(&name) else { return };
        let bucket = Arc::make_mut(bucket);
        let mut had_checks = false;
        if let Ok(at) = bucket.position(node, &row.id) {
            let gone = bucket.instances_mut().remove(at);
            had_checks = gone.checks.iter().any(|check| check.service_id.is_some());
        }
        let was = bucket.index;
        bucket.index = self.index;
        bucket.rows_index = self.index;
        if had_checks {
            bucket.checks_index = self.index;
        }
        let is = (!bucket.instances().is_empty()).then_some(self.index);
        self.state.note_bucket(&name, Some(was), is);
        if is.is_none() {
            self.state.buckets.remove(&name);
            self.state.indexes.services_removed = self.index;
            had_checks = true; // Its index is another one now, so whoever waits for its checks must look.
        }
        self.touch_service(name, true, had_checks);
    }

    pub(super) fn remove_check(&mut self, node: &NodeName, id: &CheckId, by: Option<Option<Uuid>>) {
        let Some(row) = self.state.checks.get(&(node.clone(), id.clone())).cloned() else { return };
        self.leave_mark(&row, by, |generation| Removed::Check(id.clone(), generation));
        self.bury_check(node, &row);
        self.detach(node, &row);
    }

    fn bury_check(&mut self, node: &NodeName, row: &Row<Check>) {
        self.state.checks.remove(&(node.clone(), row.id.clone()));
        self.state.graves.dig(Gone::Check(node.clone(), row.id.clone()), self.index);
        self.state.past.record(node, Subject::Check(row.id.clone()), self.index, None, true, &self.cause);
        self.note_check(node, [Some(&row.status), None]);
        let cause = self.cause.clone();
        self.end_tied(node, &row.id, "is gone", &cause);
    }
}

/// What has to go so that a node can have its name and its UUID.
#[derive(Debug, Default)]
struct Admitted {
    /// The UUID that had the name: what it kept goes.
    leaving: Option<Uuid>,
    /// The name that the UUID had: that node goes, with all its services and checks.
    former: Option<NodeName>,
}

/// Who can tell that a row changed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen {
    ByReaders,
    ByNobody,
}

/// What an instance is made of, besides its node.
type Parts = (Arc<Row<Service>>, OwnChecks);

/// The check that membership keeps.
pub(crate) const SERF_HEALTH: &str = "serfHealth";

/// A sync makes its agent the owner; a catalog API write leaves owner and generation as they are.
fn keeper<T>(old: Option<&Row<T>>, owner: Option<Uuid>, generation: u64) -> (Option<Uuid>, u64) {
    match (owner, old) {
        (Some(owner), _) => (Some(owner), generation),
        (None, Some(old)) => (old.owner, old.generation),
        (None, None) => (None, 0),
    }
}
