//! The tables of the catalog at one index, and every way to read them.

use std::sync::{Arc, OnceLock};

use imbl::{GenericHashMap, OrdMap, Vector};
use smallvec::SmallVec;
use smol_str::SmolStr;
use uuid::Uuid;

use crate::autopilot::{AutopilotRow, SetAutopilot};
use crate::coordinate::Placed;
use crate::grave::Graves;
use crate::interest::{Interest, Part};
use crate::name::{CheckId, NodeName, ServiceId, ServiceName, fold};
use crate::past::Past;
use crate::prepared::Queries;
use crate::removal::Removals;
use crate::restore::Staged;
use crate::row::{Check, Entry, Index, Instance, Node, Row, Service};
use crate::run::Runs;
use crate::session::{Session, Sessions};
use crate::status::{Health, Status};
use crate::topic::Topic;

type HashMap<K, V> = GenericHashMap<K, V, foldhash::fast::RandomState, imbl::shared_ptr::DefaultSharedPtr>;

/// All of the catalog at one index. Cloning it costs a few counters: the tables share their structure.
#[derive(Clone, Default)]
pub struct State {
    pub(crate) applied: Index,
    pub(crate) time_ms: u64,
    pub(crate) history: Option<Uuid>,
    pub(crate) nodes: OrdMap<NodeName, Arc<Host>>,
    pub(crate) node_ids: OrdMap<Uuid, NodeName>,
    pub(crate) services: OrdMap<(NodeName, ServiceId), Arc<Row<Service>>>,
    pub(crate) checks: OrdMap<(NodeName, CheckId), Arc<Row<Check>>>,
    pub(crate) buckets: HashMap<ServiceName, Arc<Bucket>>,
    /// The buckets by their last change: what a follower needs of them since then, without a look at all.
    pub(crate) buckets_by_index: OrdMap<(Index, ServiceName), ()>,
    pub(crate) keys: OrdMap<Arc<str>, Arc<Entry>>,
    pub(crate) sessions: Sessions,
    pub(crate) indexes: TableIndexes,
    pub(crate) graves: Graves,
    pub(crate) removals: Removals,
    pub(crate) runs: Runs,
    pub(crate) past: Past,
    pub(crate) autopilot: Option<Arc<AutopilotRow>>,
    /// By folded name. No feed tells them.
    pub(crate) coordinates: OrdMap<NodeName, Arc<Placed>>,
    pub(crate) coordinates_index: Index,
    /// A snapshot on its way into the place of all this.
    pub(crate) staged: Option<Staged>,
    pub(crate) queries: Queries,
    /// Whether this is what a follower was told: keys and queries are not in it.
    pub(crate) is_copy: bool,
    /// Which rows there are in a copy that does not have all.
    pub(crate) interest: Option<Arc<Interest>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("applied", &self.applied).field("indexes", &self.indexes).finish_non_exhaustive()
    }
}

/// A node with what a look at it needs at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) row: Arc<Row<Node>>,
    /// Checks of the node itself, by id.
    pub(crate) checks: SmallVec<[Arc<Row<Check>>; 1]>,
    /// Last change of the node or of a service on it.
    pub(crate) index: Index,
    /// Last change of a check on it.
    pub(crate) checks_index: Index,
}

/// All instances of a service.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub(crate) name: ServiceName,
    /// By node (folded), then id.
    instances: Vector<Arc<Instance>>,
    /// Last change of an instance or its node.
    pub(crate) rows_index: Index,
    /// Last change of a check of the service.
    pub(crate) checks_index: Index,
    /// Last change of either, or of a check of one of its nodes.
    pub(crate) index: Index,
    /// What its instances' tags come to, once somebody has asked.
    tags: OnceLock<Arc<[SmolStr]>>,
}

impl Bucket {
    /// The name as the last registration wrote it.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// Its instances, ordered by node and id; random access is logarithmic.
    pub fn instances(&self) -> &Vector<Arc<Instance>> {
        &self.instances
    }

    /// The tags of all its instances, sorted, each once. The first who asks after a change makes them: a list of all services looks at
    /// each instance of those alone that have changed.
    pub fn tags(&self) -> &Arc<[SmolStr]> {
        self.tags.get_or_init(|| {
            let mut tags: Vec<SmolStr> = Vec::new();
            for tag in self.instances.iter().flat_map(|instance| &instance.service.tags) {
                if let Err(at) = tags.binary_search(tag) {
                    tags.insert(at, tag.clone());
                }
            }
            tags.into()
        })
    }

    /// Its instances, to be changed.
    pub(crate) fn instances_mut(&mut self) -> &mut Vector<Arc<Instance>> {
        self.tags = OnceLock::new();
        &mut self.instances
    }

    /// Last change of anything that health answers show: with the name it identifies this version of the bucket.
    pub fn index(&self) -> Index {
        self.index
    }
}

/// Where each table last changed: topics' indexes as state, never a maximum over rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct TableIndexes {
    pub(crate) nodes: Index,
    pub(crate) nodes_removed: Index,
    pub(crate) services: Index,
    pub(crate) services_removed: Index,
    pub(crate) checks: Index,
    pub(crate) passing: Index,
    pub(crate) warning: Index,
    pub(crate) critical: Index,
    pub(crate) keys: Index,
}

impl TableIndexes {
    pub(crate) fn of_status(&mut self, health: Health) -> &mut Index {
        match health {
            Health::Passing => &mut self.passing,
            Health::Warning => &mut self.warning,
            Health::Critical => &mut self.critical,
        }
    }
}

impl State {
    /// The last log index that was applied.
    pub fn last_applied(&self) -> Index {
        self.applied
    }

    /// The leader's time of the last command, in milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// The id of this history: bootstrap and restore make a new one.
    pub fn history(&self) -> Option<Uuid> {
        self.history
    }

    /// The index of a topic: what an answer on it carries. A topic without rows has its table's last removal
    /// (a key that is absent: its table's last change, as Consul), so that its reader can wait for it to appear.
    pub fn index(&self, topic: &Topic) -> Index {
        let tables = &self.indexes;
        match topic {
            Topic::Nodes => tables.nodes,
            Topic::Services => tables.services,
            Topic::Node(name) => self.node_index(name, |host| host.index),
            Topic::NodeChecks(name) => self.node_index(name, |host| host.checks_index),
            Topic::Service(name) => self.buckets.get(name).map_or(tables.services_removed, |bucket| bucket.rows_index),
            Topic::Health(name) => self.buckets.get(name).map_or(tables.services_removed, |bucket| bucket.index),
            Topic::ServiceChecks(name) => self.buckets.get(name).map_or(tables.services_removed, |bucket| bucket.checks_index),
            Topic::State(None) => tables.checks,
            Topic::State(Some(health)) => tables.clone().of_status(*health).to_owned(),
            Topic::Key(key) => self.keys.get(&**key).map_or(tables.keys, |entry| entry.modify_index),
            Topic::Prefix(prefix) => self.prefix_index(prefix),
            Topic::Coordinates => self.coordinates_index,
            Topic::Sessions => self.sessions.index(),
            Topic::NodeSessions(node) => self.sessions.index_on(node),
            Topic::Session(id) => self.sessions.index_of(*id),
        }
    }

    /// A UUID may also be the name of another node, now or before: its index does not fall when that one goes.
    fn node_index(&self, name: &NodeName, of: impl Fn(&Host) -> Index) -> Index {
        let removed = self.indexes.nodes_removed;
        match self.nodes.get(name) {
            Some(host) => of(host),
            None => self.host_by_id(name.as_str()).map_or(removed, |host| of(host).max(removed)),
        }
    }

    /// The highest change or removal under a prefix; the table's last change where there is none, or for the empty prefix.
    fn prefix_index(&self, prefix: &str) -> Index {
        if prefix.is_empty() {
            return self.indexes.keys;
        }
        let written = self.keys_under(prefix).map(|entry| entry.modify_index).max();
        match written.max(self.graves.last_key_under(prefix)) {
            Some(index) => index.max(self.graves.trimmed().1),
            None => self.indexes.keys,
        }
    }

    /// A node by name (in any case) or by UUID.
    pub fn node(&self, name_or_id: &str) -> Option<&Arc<Row<Node>>> {
        self.host(name_or_id).map(|host| &host.row)
    }

    fn host(&self, name_or_id: &str) -> Option<&Arc<Host>> {
        self.nodes.get(&*fold(name_or_id)).or_else(|| self.host_by_id(name_or_id))
    }

    /// In the hyphenated form alone: it is the one under which a topic knows a UUID.
    fn host_by_id(&self, id: &str) -> Option<&Arc<Host>> {
        let id = Uuid::parse_str(id).ok().filter(|_| id.len() == uuid::fmt::Hyphenated::LENGTH)?;
        self.nodes.get(self.node_ids.get(&id)?)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Arc<Row<Node>>> {
        self.nodes.values().map(|host| &host.row)
    }

    /// The services of a node (folded name), by id.
    pub fn services_of<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Arc<Row<Service>>> {
        self.services.range((node.clone(), ServiceId::least())..).take_while(move |((at, _), _)| at == node).map(|(_, row)| row)
    }

    /// One service on a node (folded name).
    pub fn service_on(&self, node: &NodeName, id: &ServiceId) -> Option<&Arc<Row<Service>>> {
        self.services.get(&(node.clone(), id.clone()))
    }

    /// The checks of a node (folded name), its services' included, by id.
    pub fn checks_of<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Arc<Row<Check>>> {
        self.checks.range((node.clone(), CheckId::least())..).take_while(move |((at, _), _)| at == node).map(|(_, row)| row)
    }

    /// One check on a node (folded name).
    pub fn check_on(&self, node: &NodeName, id: &CheckId) -> Option<&Arc<Row<Check>>> {
        self.checks.get(&(node.clone(), id.clone()))
    }

    /// All checks, by node and id.
    pub fn checks(&self) -> impl Iterator<Item = &Arc<Row<Check>>> {
        self.checks.values()
    }

    /// The instances of a service, by its folded name.
    pub fn service(&self, folded: &str) -> Option<&Arc<Bucket>> {
        self.buckets.get(folded)
    }

    /// All services, in no order.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<Bucket>> {
        self.buckets.values()
    }

    /// How many instances all services have together.
    pub fn instance_count(&self) -> usize {
        self.services.len()
    }

    /// A key.
    pub fn key(&self, key: &str) -> Option<&Arc<Entry>> {
        self.keys.get(key)
    }

    /// All keys that begin with `prefix`, in byte order.
    pub fn keys_under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Entry>> {
        use std::ops::Bound::{Included, Unbounded};
        self.keys
            .range::<_, str>((Included(prefix), Unbounded))
            .map(|(_, entry)| entry)
            .take_while(move |entry| entry.key.starts_with(prefix))
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// A session.
    pub fn session(&self, id: Uuid) -> Option<&Arc<Session>> {
        self.sessions.get(id)
    }

    /// All sessions, by id.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = &Arc<Session>> {
        self.sessions.iter()
    }

    /// The sessions on a node (folded name), by id.
    pub fn sessions_on(&self, node: &NodeName) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.on(node)
    }

    /// What others removed of this owner's rows and it has not acknowledged.
    pub fn removals_of(&self, owner: Uuid) -> impl Iterator<Item = &crate::removal::RemovalMark> {
        self.removals.of(owner)
    }

    /// The kept changes of a service or a check, oldest first, present or gone.
    pub fn past(&self, node: &NodeName, subject: &crate::past::Subject) -> &[crate::past::Change] {
        self.past.of(node, subject)
    }

    /// How servers come and go, if it was set.
    pub fn autopilot(&self) -> Option<&Arc<AutopilotRow>> {
        self.autopilot.as_ref()
    }

    pub(crate) fn set_autopilot(&mut self, set: SetAutopilot, index: Index) -> bool {
        let old = self.autopilot.as_ref();
        if set.cas.is_some_and(|expected| expected != old.map_or(0, |row| row.modify_index)) {
            return false;
        }
        let create_index = old.map_or(index, |row| row.create_index);
        self.autopilot = Some(Arc::new(AutopilotRow { settings: set.settings, create_index, modify_index: index }));
        true
    }

    /// Where nodes are that are known to be somewhere, by name.
    pub fn coordinates(&self) -> impl Iterator<Item = &Arc<Placed>> {
        self.coordinates.values()
    }

    /// Where a node (in any case) is.
    pub fn coordinate(&self, node: &str) -> Option<&Arc<Placed>> {
        self.coordinates.get(&*fold(node))
    }

    /// True if anything changed. Who is no node any more, or never was, is nowhere.
    pub(crate) fn set_coordinates(&mut self, placed: Vec<Placed>, index: Index) -> bool {
        let before = self.coordinates_index;
        for Placed { node, coordinate } in placed {
            let folded = node.folded();
            let Some(host) = self.nodes.get(&folded).filter(|_| coordinate.is_sound()) else { continue };
            if self.coordinates.get(&folded).is_none_or(|known| known.coordinate != coordinate) {
                let node = host.row.node.clone();
                self.coordinates.insert(folded, Arc::new(Placed { node, coordinate }));
                self.coordinates_index = index;
            }
        }
        self.coordinates_index != before
    }

    /// The node is gone. True if it was somewhere.
    pub(crate) fn drop_coordinate(&mut self, node: &NodeName, index: Index) -> bool {
        let was = self.coordinates.remove(node).is_some();
        if was {
            self.coordinates_index = index;
        }
        was
    }

    /// Whether this copy holds all that a question looks at.
    pub fn covers(&self, part: &Part) -> bool {
        match (part, &self.interest) {
            (Part::Query(name), _) => !self.is_copy || self.queries.was_told(name),
            (part, None) => *part != Part::Keys,
            (part, Some(interest)) => interest.covers(part),
        }
    }

    /// Whether this is a follower's copy, which lacks what is asked of servers alone.
    pub fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Which rows this copy is made of; `None` is all.
    pub fn interest(&self) -> Option<&Interest> {
        self.interest.as_deref()
    }

    /// A bucket's last change is at another index than it was; `None` where there is no bucket.
    pub(crate) fn note_bucket(&mut self, name: &ServiceName, was: Option<Index>, is: Option<Index>) {
        if was == is {
            return;
        }
        if let Some(was) = was {
            self.buckets_by_index.remove(&(was, name.clone()));
        }
        if let Some(is) = is {
            self.buckets_by_index.insert((is, name.clone()), ());
        }
    }

    /// The buckets that changed after this index.
    pub(crate) fn buckets_after(&self, index: Index) -> impl Iterator<Item = &Arc<Bucket>> {
        let from = (index.saturating_add(1), ServiceName::least());
        self.buckets_by_index.range(from..).filter_map(|((_, name), ())| self.buckets.get(name))
    }

    /// The instance of a service on a node (folded name).
    pub(crate) fn instance(&self, service: &str, node: &NodeName, id: &ServiceId) -> Option<&Arc<Instance>> {
        let bucket = self.buckets.get(service)?;
        bucket.instances.get(bucket.position(node, id).ok()?)
    }
}

impl Bucket {
    /// All its indexes begin where it does: those of an absent service are above 0, and none may fall.
    pub(crate) fn new(name: ServiceName, index: Index) -> Self {
        Self { name, instances: Vector::new(), rows_index: index, checks_index: index, index, tags: OnceLock::new() }
    }

    /// Where an instance is, or belongs.
    pub(crate) fn position(&self, node: &NodeName, id: &ServiceId) -> Result<usize, usize> {
        self.instances.binary_search_by(|instance| {
            let at = fold(instance.node.node.as_str());
            (*at).cmp(node.as_str()).then_with(|| instance.service.id.cmp(id))
        })
    }
}

/// Which text `health/state/<text>` accepts as a status.
pub fn state_named(text: &str) -> Option<Option<Health>> {
    match Status::from_text(text) {
        Status::Other(other) if other == SmolStr::new_static("any") => Some(None),
        Status::Other(_) => None,
        status => Some(Some(status.health())),
    }
}
