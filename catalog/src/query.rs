//! What can be asked of the catalog: each question a struct of its own, with its own answer. Both can travel.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::autopilot::AutopilotRow;
use crate::coordinate::Placed;
use crate::interest::Part;
use crate::meta::Meta;
use crate::name::{NodeName, ServiceName};
use crate::row::{Check, Entry, Index, Instance, Node, Row, Service};
use crate::session::Session;
use crate::state::State;
use crate::status::Health;
use crate::topic::Topic;
use crate::transaction::{Op, Transacted};

/// A question. It names the topics on which it can wait, and looks the answer up in one consistent state.
pub trait Ask {
    /// What it is answered with.
    type Answer;
    /// Whose bells can mean another answer.
    fn topics(&self) -> SmallVec<[Topic; 1]>;
    /// The answer.
    fn look(&self, state: &State) -> Self::Answer;
    /// What it looks at, so that it can be told whether a copy has that.
    fn part(&self) -> Part {
        Part::Catalog
    }
    /// The index of the answer.
    fn index(&self, state: &State) -> Index {
        self.topics().iter().map(|topic| state.index(topic)).max().unwrap_or(0)
    }
}

/// Pairs that a node's meta must have, all of them.
pub type MetaFilter = Vec<(SmolStr, SmolStr)>;

fn has(meta: &Meta, wanted: &MetaFilter) -> bool {
    wanted.iter().all(|(key, value)| meta.get(key) == Some(value))
}

fn has_tags(service: &Service, wanted: &[SmolStr]) -> bool {
    wanted.iter().all(|tag| service.tags.iter().any(|has| has.eq_ignore_ascii_case(tag)))
}

/// All nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Nodes {
    /// Only those with these pairs.
    pub node_meta: MetaFilter,
}

impl Ask for Nodes {
    type Answer = Vec<Arc<Row<Node>>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        smallvec![Topic::Nodes]
    }
    fn look(&self, state: &State) -> Self::Answer {
        state.nodes().filter(|node| has(&node.meta, &self.node_meta)).cloned().collect()
    }
}

/// The names of all services.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Services {
    /// Only those on nodes with these pairs.
    #[serde(default)]
    pub node_meta: MetaFilter,
}

/// A service's name and the union of its instances' tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTags {
    /// The name.
    pub name: ServiceName,
    /// Its tags, sorted, each once.
    pub tags: Arc<[SmolStr]>,
}

impl Ask for Services {
    /// Sorted by name.
    type Answer = Vec<ServiceTags>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        if self.node_meta.is_empty() { smallvec![Topic::Services] } else { smallvec![Topic::Services, Topic::Nodes] }
    }
    fn look(&self, state: &State) -> Self::Answer {
        let mut all = Vec::with_capacity(state.services().len());
        for bucket in state.services() {
            if self.node_meta.is_empty() {
                all.push(ServiceTags { name: bucket.name().clone(), tags: bucket.tags().clone() });
                continue;
            }
            let mut instances = bucket.instances().iter().filter(|instance| has(&instance.node.meta, &self.node_meta)).peekable();
            if instances.peek().is_some() {
                let tags: BTreeSet<_> = instances.flat_map(|instance| &instance.service.tags).collect();
                all.push(ServiceTags { name: bucket.name().clone(), tags: tags.into_iter().cloned().collect() });
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// The instances of a service, whatever their health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogService {
    /// Its name, folded.
    pub name: ServiceName,
    /// Only those with all of these tags, in any case.
    #[serde(default)]
    pub tags: Vec<SmolStr>,
    /// Only those on nodes with these pairs.
    #[serde(default)]
    pub node_meta: MetaFilter,
}

impl Ask for CatalogService {
    type Answer = Vec<Arc<Instance>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        smallvec![Topic::Service(self.name.clone())]
    }
    fn part(&self) -> Part {
        Part::Service(self.name.clone())
    }
    fn look(&self, state: &State) -> Self::Answer {
        instances(state, &self.name, &self.tags, &self.node_meta)
    }
}

/// The instances of a service with their checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthService {
    /// Its name, folded.
    pub name: ServiceName,
    /// Only those with all of these tags, in any case.
    #[serde(default)]
    pub tags: Vec<SmolStr>,
    /// Only those on nodes with these pairs.
    #[serde(default)]
    pub node_meta: MetaFilter,
}

impl Ask for HealthService {
    type Answer = Vec<Arc<Instance>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        smallvec![Topic::Health(self.name.clone())]
    }
    fn part(&self) -> Part {
        Part::Service(self.name.clone())
    }
    fn look(&self, state: &State) -> Self::Answer {
        instances(state, &self.name, &self.tags, &self.node_meta)
    }
}

fn instances(state: &State, name: &ServiceName, tags: &[SmolStr], node_meta: &MetaFilter) -> Vec<Arc<Instance>> {
    let Some(bucket) = state.service(name.as_str()) else { return Vec::new() };
    let wanted = |instance: &&Arc<Instance>| has_tags(&instance.service, tags) && has(&instance.node.meta, node_meta);
    bucket.instances().iter().filter(wanted).cloned().collect()
}

/// One node and the services on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeServices {
    /// Its name in any case, or its UUID.
    pub node: SmolStr,
}

/// A node's folded name, or its UUID as text: a node is touched under both.
fn node_topic(node: &SmolStr, topic: impl Fn(NodeName) -> Topic) -> SmallVec<[Topic; 1]> {
    match NodeName::new(node) {
        Ok(name) => smallvec![topic(name.folded())],
        Err(_) => smallvec![Topic::Nodes],
    }
}

impl Ask for NodeServices {
    type Answer = Option<(Arc<Row<Node>>, Vec<Arc<Row<Service>>>)>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        node_topic(&self.node, Topic::Node)
    }
    fn part(&self) -> Part {
        Part::Node(self.node.clone())
    }
    fn look(&self, state: &State) -> Self::Answer {
        let node = state.node(&self.node)?;
        Some((node.clone(), state.services_of(&node.node.folded()).cloned().collect()))
    }
}

/// The checks on one node, its services' included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChecks {
    /// Its name in any case, or its UUID.
    pub node: SmolStr,
}

impl Ask for NodeChecks {
    type Answer = Vec<Arc<Row<Check>>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        node_topic(&self.node, Topic::NodeChecks)
    }
    fn part(&self) -> Part {
        Part::Node(self.node.clone())
    }
    fn look(&self, state: &State) -> Self::Answer {
        let Some(node) = state.node(&self.node) else { return Vec::new() };
        state.checks_of(&node.node.folded()).cloned().collect()
    }
}

/// The checks of a service's instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChecks {
    /// Its name, folded.
    pub name: ServiceName,
    /// Only those on nodes with these pairs.
    #[serde(default)]
    pub node_meta: MetaFilter,
}

impl Ask for ServiceChecks {
    type Answer = Vec<Arc<Row<Check>>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        let checks = Topic::ServiceChecks(self.name.clone());
        if self.node_meta.is_empty() { smallvec![checks] } else { smallvec![checks, Topic::Service(self.name.clone())] }
    }
    fn part(&self) -> Part {
        Part::Service(self.name.clone())
    }
    fn look(&self, state: &State) -> Self::Answer {
        let Some(bucket) = state.service(self.name.as_str()) else { return Vec::new() };
        let on = bucket.instances().iter().filter(|instance| has(&instance.node.meta, &self.node_meta));
        on.flat_map(|instance| instance.checks.iter().filter(|check| check.service_id.is_some())).cloned().collect()
    }
}

/// All checks of a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChecks {
    /// The status; `None` is any.
    pub state: Option<Health>,
    /// Only those on nodes with these pairs.
    #[serde(default)]
    pub node_meta: MetaFilter,
}

impl Ask for StateChecks {
    type Answer = Vec<Arc<Row<Check>>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        let checks = Topic::State(self.state);
        if self.node_meta.is_empty() { smallvec![checks] } else { smallvec![checks, Topic::Nodes] }
    }
    fn look(&self, state: &State) -> Self::Answer {
        let on = |check: &&Arc<Row<Check>>| {
            self.node_meta.is_empty() || state.node(check.node.as_str()).is_some_and(|node| has(&node.meta, &self.node_meta))
        };
        let of = |check: &&Arc<Row<Check>>| match self.state {
            None => true,
            Some(health) => check.status.listed() == Some(health),
        };
        state.checks().filter(of).filter(on).cloned().collect()
    }
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOne {
    /// The key.
    pub key: Arc<str>,
}

impl Ask for KeyOne {
    type Answer = Option<Arc<Entry>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        smallvec![Topic::Key(self.key.clone())]
    }
    fn part(&self) -> Part {
        Part::Keys
    }
    fn look(&self, state: &State) -> Self::Answer {
        state.key(&self.key).cloned()
    }
}

/// All keys under a prefix, in byte order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysUnder {
    /// The prefix.
    pub prefix: Arc<str>,
}

impl Ask for KeysUnder {
    type Answer = Vec<Arc<Entry>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        smallvec![Topic::Prefix(self.prefix.clone())]
    }
    fn part(&self) -> Part {
        Part::Keys
    }
    fn look(&self, state: &State) -> Self::Answer {
        state.keys_under(&self.prefix).cloned().collect()
    }
}

/// One session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOne {
    /// Its id; `None` is one that no session has.
    pub id: Option<Uuid>,
}

impl Ask for SessionOne {
    type Answer = Option<Arc<Session>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        smallvec![self.id.map_or(Topic::Sessions, Topic::Session)]
    }
    /// As with keys: no copy holds it.
    fn part(&self) -> Part {
        Part::Keys
    }
    fn look(&self, state: &State) -> Self::Answer {
        state.session(self.id?).cloned()
    }
}

/// The sessions on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSessions {
    /// Its name, folded.
    pub node: NodeName,
}

impl Ask for NodeSessions {
    type Answer = Vec<Arc<Session>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        smallvec![Topic::NodeSessions(self.node.clone())]
    }
    /// As with keys: no copy holds them.
    fn part(&self) -> Part {
        Part::Keys
    }
    fn look(&self, state: &State) -> Self::Answer {
        state.sessions_on(&self.node).cloned().collect()
    }
}

/// All sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AllSessions {}

impl Ask for AllSessions {
    type Answer = Vec<Arc<Session>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        smallvec![Topic::Sessions]
    }
    /// As with keys: no copy holds them.
    fn part(&self) -> Part {
        Part::Keys
    }
    fn look(&self, state: &State) -> Self::Answer {
        state.sessions().cloned().collect()
    }
}

/// A transaction that only reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What it reads; what would change something changes a copy.
    pub ops: Vec<Op>,
}

impl Ask for Reading {
    type Answer = Transacted;
    /// Nobody waits for it.
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        SmallVec::new()
    }
    fn look(&self, state: &State) -> Self::Answer {
        state.clone().try_out(&self.ops)
    }
    /// As with keys: no copy holds them.
    fn part(&self) -> Part {
        Part::Keys
    }
}

/// How it was set, if it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AutopilotSet {}

impl Ask for AutopilotSet {
    type Answer = Option<Arc<AutopilotRow>>;
    /// Nobody waits for it.
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        SmallVec::new()
    }
    fn look(&self, state: &State) -> Self::Answer {
        state.autopilot().cloned()
    }
    fn index(&self, state: &State) -> Index {
        state.autopilot().map_or(0, |row| row.modify_index)
    }
    /// As with keys: no copy holds it.
    fn part(&self) -> Part {
        Part::Keys
    }
}

/// Where one node is, or all are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Coordinates {
    /// Its name in any case; `None` is all.
    pub node: Option<SmolStr>,
}

impl Ask for Coordinates {
    type Answer = Vec<Arc<Placed>>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        smallvec![Topic::Coordinates]
    }
    fn look(&self, state: &State) -> Self::Answer {
        match &self.node {
            Some(node) => state.coordinate(node).cloned().into_iter().collect(),
            None => state.coordinates().cloned().collect(),
        }
    }
    /// As with keys: no copy holds it. They change all the time, and are seldom asked for.
    fn part(&self) -> Part {
        Part::Keys
    }
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {}

/// How much there is of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageCounts {
    /// Nodes.
    pub nodes: usize,
    /// Names of services.
    pub services: usize,
    /// Instances of them.
    pub instances: usize,
    /// Instances that are the servers themselves.
    pub own: usize,
}

impl Ask for Usage {
    type Answer = UsageCounts;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        SmallVec::from_iter([Topic::Nodes, Topic::Services])
    }
    fn look(&self, state: &State) -> Self::Answer {
        UsageCounts {
            nodes: state.nodes().len(),
            services: state.services().len(),
            instances: state.instance_count(),
            own: state.service("consul").map_or(0, |bucket| bucket.instances().len()),
        }
    }
}
