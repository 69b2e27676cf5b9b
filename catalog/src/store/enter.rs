//! The follower's side of a feed: a batch becomes the same tables, the same instances and the same bells as at the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smallvec::SmallVec;

use super::Store;
use super::place::{OwnChecks, put_sorted};
use crate::error::EnterError;
use crate::feed::{Batch, Head, HostIndexes};
use crate::grave::Gone;
use crate::name::{CheckId, NodeName, ServiceId, ServiceName};
use crate::rebuild::{NodeRecord, ServiceIndexes};
use crate::row::{Check, Node, Row, Service};
use crate::state::{Host, State, TableIndexes};
use crate::status::Health;
use crate::topic::Topic;

/// Whose answers can be other ones.
#[derive(Debug, PartialEq, Eq)]
pub enum Touched {
    /// Those on these topics.
    Topics(BTreeSet<Topic>),
    /// All.
    All,
}

impl Touched {
    /// Whether nobody is to be woken.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Topics(topics) if topics.is_empty())
    }
}

impl Store {
    /// Makes an empty store one of a copy that holds nothing yet: no question is answered from it.
    pub fn narrow(&mut self) {
        (self.state.interest, self.state.is_copy) = (Some(Arc::default()), true);
    }

    /// Enters a batch: all of it or, if it does not follow on what is there, nothing. One that was entered before changes nothing.
    /// Readers see it when it is published.
    pub fn enter(&mut self, batch: Batch) -> Result<Touched, EnterError> {
        let Head { from, to, history, .. } = batch.head;
        let at = self.state.applied;
        let Some(from) = from else {
            if history == self.state.history && to < at {
                return Err(EnterError::Backwards { to, at });
            }
            self.state = State::of(batch);
            return Ok(Touched::All);
        };
        if history != self.state.history {
            return Err(EnterError::History);
        }
        if from > at {
            return Err(EnterError::Gap { from, at });
        }
        if to <= at {
            return Ok(Touched::Topics(BTreeSet::new()));
        }
        let before = self.state.clone();
        let mut entry = Entry { state: &mut self.state, before: &before, services: BTreeMap::new(), stale: BTreeSet::new() };
        Ok(Touched::Topics(entry.enter(batch)))
    }
}

impl State {
    /// What a batch with everything in it amounts to.
    pub fn of(batch: Batch) -> Self {
        let Batch { head, nodes, services, checks, buckets, marks, .. } = batch;
        let Head { to, time_ms, history, indexes, interest, .. } = head;
        let mut state = State { applied: to, time_ms, history, indexes, interest, is_copy: true, ..State::default() };
        nodes.into_iter().for_each(|node| state.add_node(node));
        services.into_iter().for_each(|row| state.add_service(row));
        checks.into_iter().for_each(|row| state.add_check(row));
        marks.into_iter().for_each(|mark| state.removals.keep(mark));
        state.assemble(buckets);
        state
    }
}

type ServiceKey = (NodeName, ServiceId);

/// A batch on its way in.
struct Entry<'a> {
    state: &'a mut State,
    before: &'a State,
    /// Services whose instances are to be made anew, with checks that are new to them.
    services: BTreeMap<ServiceKey, OwnChecks>,
    /// Nodes of which all instances are to be made anew.
    stale: BTreeSet<NodeName>,
}

impl Entry<'_> {
    /// Rows first, in the order in which they lean on each other; then what is made of them.
    fn enter(&mut self, batch: Batch) -> BTreeSet<Topic> {
        let Batch { head, nodes, hosts, services, checks, buckets, gone, marks, marks_gone } = batch;
        let mut touched = Bells::default();
        for gone in gone {
            if let Gone::Node(name) = &gone {
                touched.nodes.insert(name.clone());
            }
            self.bury(gone);
        }
        for node in nodes {
            touched.nodes.insert(self.put_node(node));
        }
        for host in hosts {
            touched.nodes.extend(self.put_indexes(host));
        }
        for row in services {
            let key = (row.node.folded(), row.id.clone());
            self.state.services.insert(key.clone(), row);
            self.services.entry(key).or_default();
        }
        checks.into_iter().for_each(|row| self.put_check(row));
        self.enter_marks(&head, marks, &marks_gone);
        touched.services = self.make_instances(&head);
        for indexes in buckets {
            touched.services.extend(self.put_bucket(indexes));
        }
        self.state.applied = head.to;
        self.state.time_ms = head.time_ms;
        self.state.indexes = TableIndexes { keys: self.state.indexes.keys, ..head.indexes };
        touched.between(self.before, self.state)
    }

    fn bury(&mut self, gone: Gone) {
        match gone {
            Gone::Node(name) => {
                if let Some(host) = self.state.nodes.remove(&name) {
                    self.forget_id(&name, &host.row);
                }
            }
            Gone::Service(node, id) => {
                let key = (node, id);
                if self.state.services.remove(&key).is_some() {
                    self.services.entry(key).or_default();
                }
            }
            Gone::Check(node, id) => {
                if let Some(row) = self.state.checks.remove(&(node.clone(), id)) {
                    self.loosen(&node, &row);
                }
            }
            Gone::Key(_) => {}
        }
    }

    /// The UUID stands for another node already, or for none.
    fn forget_id(&mut self, name: &NodeName, row: &Row<Node>) {
        if let Some(id) = row.id.filter(|id| self.state.node_ids.get(id) == Some(name)) {
            self.state.node_ids.remove(&id);
        }
    }

    fn put_node(&mut self, NodeRecord { row, index, checks_index }: NodeRecord) -> NodeName {
        let name = row.node.folded();
        let old = self.state.nodes.get(&name).cloned();
        if let Some(old) = &old {
            self.forget_id(&name, &old.row);
        }
        if let Some(id) = row.id {
            self.state.node_ids.insert(id, name.clone());
        }
        let checks = old.map_or_else(SmallVec::new, |old| old.checks.clone());
        self.state.nodes.insert(name.clone(), Arc::new(Host { row, checks, index, checks_index }));
        self.stale.insert(name.clone());
        name
    }

    fn put_indexes(&mut self, HostIndexes { name, index, checks_index }: HostIndexes) -> Option<NodeName> {
        let host = Arc::make_mut(self.state.nodes.get_mut(&name)?);
        (host.index, host.checks_index) = (index, checks_index);
        Some(name)
    }

    fn put_check(&mut self, row: Arc<Row<Check>>) {
        let node = row.node.folded();
        let old = self.state.checks.insert((node.clone(), row.id.clone()), row.clone());
        if let Some(old) = old.filter(|old| old.service_id != row.service_id) {
            self.loosen(&node, &old);
        }
        match &row.service_id {
            Some(id) => put_sorted(self.services.entry((node, id.clone())).or_default(), row),
            None => {
                if let Some(host) = self.state.nodes.get_mut(&node) {
                    put_sorted(&mut Arc::make_mut(host).checks, row);
                }
                self.stale.insert(node);
            }
        }
    }

    /// What had this check has it no more.
    fn loosen(&mut self, node: &NodeName, row: &Row<Check>) {
        match &row.service_id {
            Some(id) => {
                self.services.entry((node.clone(), id.clone())).or_default();
            }
            None => {
                if let Some(host) = self.state.nodes.get_mut(node) {
                    Arc::make_mut(host).checks.retain(|check| check.id != row.id);
                }
                self.stale.insert(node.clone());
            }
        }
    }

    fn enter_marks(&mut self, head: &Head, marks: Vec<Arc<crate::removal::RemovalMark>>, gone: &[crate::removal::MarkKey]) {
        if head.all_marks {
            self.state.removals = crate::removal::Removals::default();
        } else if head.from < Some(self.before.applied) {
            self.state.removals.drop_after(head.from.unwrap_or(0)); // Those that stay are in the batch.
        }
        gone.iter().for_each(|key| self.state.removals.drop_mark(key));
        marks.into_iter().for_each(|mark| self.state.removals.keep(mark));
    }

    /// Makes the instances anew of which a part changed; the names under which one is or was.
    fn make_instances(&mut self, head: &Head) -> BTreeSet<ServiceName> {
        for node in &self.stale {
            for service in self.state.services_of(node) {
                self.services.entry((node.clone(), service.id.clone())).or_default();
            }
        }
        let mut names = BTreeSet::new();
        for ((node, id), new) in std::mem::take(&mut self.services) {
            let key = (node.clone(), id.clone());
            let was = self.before.services.get(&key);
            let now = self.state.services.get(&key).cloned();
            let mut own = OwnChecks::new();
            for known in was.map(|was| self.before.own_checks(&node, was)).into_iter().flatten() {
                own.extend(self.still_of(&node, &id, &known.id));
            }
            new.into_iter().for_each(|check| put_sorted(&mut own, check));
            let stays = |was: &Row<Service>| now.as_ref().is_some_and(|now| now.name.folded() == was.name.folded());
            if let Some(was) = was.filter(|was| !stays(was)) {
                self.take_instance(&node, was);
                names.insert(was.name.folded());
            }
            if let Some(now) = now {
                names.insert(now.name.folded());
                self.state.place(&node, now, own, head.to);
            }
        }
        names
    }

    fn still_of(&self, node: &NodeName, service: &ServiceId, check: &CheckId) -> Option<Arc<Row<Check>>> {
        let row = self.state.checks.get(&(node.clone(), check.clone()))?;
        (row.service_id.as_ref() == Some(service)).then(|| row.clone())
    }

    fn take_instance(&mut self, node: &NodeName, was: &Row<Service>) {
        let name = was.name.folded();
        let Some(bucket) = self.state.buckets.get_mut(&name) else { return };
        let bucket = Arc::make_mut(bucket);
        if let Ok(at) = bucket.position(node, &was.id) {
            bucket.instances_mut().remove(at);
        }
        if bucket.instances().is_empty() {
            let index = bucket.index;
            self.state.buckets.remove(&name);
            self.state.note_bucket(&name, Some(index), None);
        }
    }

    fn put_bucket(&mut self, indexes: ServiceIndexes) -> Option<ServiceName> {
        let ServiceIndexes { name, rows_index, checks_index, index } = indexes;
        let folded = name.folded();
        let bucket = Arc::make_mut(self.state.buckets.get_mut(&folded)?);
        let was = bucket.index;
        (bucket.name, bucket.rows_index, bucket.checks_index, bucket.index) = (name, rows_index, checks_index, index);
        self.state.note_bucket(&folded, Some(was), Some(index));
        Some(folded)
    }
}

/// What was told of: among its topics are those to ring.
#[derive(Default)]
struct Bells {
    nodes: BTreeSet<NodeName>,
    services: BTreeSet<ServiceName>,
}

impl Bells {
    /// An index that moved means that the answer may be another one. That of something absent moves with its whole table, which
    /// is nobody's news.
    fn between(&self, before: &State, after: &State) -> BTreeSet<Topic> {
        let mut touched = BTreeSet::new();
        for name in &self.nodes {
            touch_node(name, before, after, &mut touched);
        }
        for name in &self.services {
            touch_service(name, before, after, &mut touched);
        }
        let (was, is) = (&before.indexes, &after.indexes);
        let mut tables = vec![
            (was.nodes, is.nodes, Topic::Nodes),
            (was.services, is.services, Topic::Services),
            (was.checks, is.checks, Topic::State(None)),
        ];
        for health in [Health::Passing, Health::Warning, Health::Critical] {
            let index = |indexes: &TableIndexes| *indexes.clone().of_status(health);
            tables.push((index(was), index(is), Topic::State(Some(health))));
        }
        touched.extend(tables.into_iter().filter(|(was, is, _)| was != is).map(|(_, _, topic)| topic));
        touched
    }
}

fn touch_node(name: &NodeName, before: &State, after: &State, touched: &mut BTreeSet<Topic>) {
    let (was, is) = (before.nodes.get(name), after.nodes.get(name));
    let ids = [was, is].map(|host| host.and_then(|host| host.row.id));
    let rows = was.map(|host| host.index) != is.map(|host| host.index);
    let checks = match (was, is) {
        (Some(was), Some(is)) => was.checks_index != is.checks_index,
        (None, Some(is)) => is.row.id.is_some() || after.checks_of(name).next().is_some(),
        (Some(_), None) => true,
        (None, None) => false,
    };
    let moved = ids[0] != ids[1];
    for (alias, moved) in
        std::iter::once((name.clone(), false)).chain(ids.into_iter().flatten().map(|id| (NodeName::of_id(id), moved)))
    {
        if checks || moved {
            touched.insert(Topic::NodeChecks(alias.clone()));
        }
        if rows || moved {
            touched.insert(Topic::Node(alias));
        }
    }
}

fn touch_service(name: &ServiceName, before: &State, after: &State, touched: &mut BTreeSet<Topic>) {
    let (rows, checks, health) = match (before.buckets.get(name), after.buckets.get(name)) {
        (Some(was), Some(is)) => (was.rows_index != is.rows_index, was.checks_index != is.checks_index, was.index != is.index),
        (None, Some(is)) => {
            let checks = is.instances().iter().any(|instance| instance.checks.iter().any(|check| check.service_id.is_some()));
            (true, checks, true)
        }
        (Some(_), None) => (true, true, true),
        (None, None) => (false, false, false),
    };
    if rows {
        touched.insert(Topic::Service(name.clone()));
    }
    if checks {
        touched.insert(Topic::ServiceChecks(name.clone()));
    }
    if health {
        touched.insert(Topic::Health(name.clone()));
    }
}
