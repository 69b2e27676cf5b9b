//! A state made of rows that were written elsewhere: out of a snapshot, or out of a feed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::name::ServiceName;
use crate::row::{Check, Index, Instance, Node, Row, Service};
use crate::state::{Bucket, Host, State};

/// A node with its topics' indexes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) row: Arc<Row<Node>>,
    pub(crate) index: Index,
    pub(crate) checks_index: Index,
}

/// A service's name as it was written last, and its topics' indexes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServiceIndexes {
    pub(crate) name: ServiceName,
    pub(crate) rows_index: Index,
    pub(crate) checks_index: Index,
    pub(crate) index: Index,
}

impl From<&Host> for NodeRecord {
    fn from(host: &Host) -> Self {
        Self { row: host.row.clone(), index: host.index, checks_index: host.checks_index }
    }
}

impl From<&Bucket> for ServiceIndexes {
    fn from(bucket: &Bucket) -> Self {
        let Bucket { name, rows_index, checks_index, index, .. } = bucket;
        Self { name: name.clone(), rows_index: *rows_index, checks_index: *checks_index, index: *index }
    }
}

impl State {
    pub(crate) fn add_node(&mut self, NodeRecord { row, index, checks_index }: NodeRecord) {
        let node = row.node.folded();
        if let Some(id) = row.id {
            self.node_ids.insert(id, node.clone());
        }
        self.nodes.insert(node, Arc::new(Host { row, checks: SmallVec::new(), index, checks_index }));
    }

    pub(crate) fn add_service(&mut self, row: Arc<Row<Service>>) {
        self.services.insert((row.node.folded(), row.id.clone()), row);
    }

    pub(crate) fn add_check(&mut self, row: Arc<Row<Check>>) {
        self.checks.insert((row.node.folded(), row.id.clone()), row);
    }

    /// Makes instances and buckets out of the rows that were added.
    pub(crate) fn assemble(&mut self, indexes: Vec<ServiceIndexes>) {
        let mut own: BTreeMap<_, SmallVec<[Arc<Row<Check>>; 2]>> = BTreeMap::new();
        for ((node, _), check) in &self.checks {
            match &check.service_id {
                Some(id) => own.entry((node.clone(), id.clone())).or_default().push(check.clone()),
                None => {
                    if let Some(host) = self.nodes.get_mut(node) {
                        Arc::make_mut(host).checks.push(check.clone());
                    }
                }
            }
        }
        let mut buckets: BTreeMap<ServiceName, Bucket> = BTreeMap::new();
        for (key, service) in &self.services {
            let Some(host) = self.nodes.get(&key.0) else { continue };
            let checks = own.remove(key).unwrap_or_default().into_iter().chain(host.checks.iter().cloned());
            let instance = Instance::new(host.row.clone(), service.clone(), checks);
            let name = service.name.folded();
            buckets
                .entry(name)
                .or_insert_with(|| Bucket::new(service.name.clone(), 0))
                .instances_mut()
                .push_back(Arc::new(instance));
        }
        for ServiceIndexes { name, rows_index, checks_index, index } in indexes {
            if let Some(bucket) = buckets.get_mut(&name.folded()) {
                (bucket.name, bucket.rows_index, bucket.checks_index, bucket.index) = (name, rows_index, checks_index, index);
            }
        }
        self.buckets_by_index = buckets.iter().map(|(name, bucket)| ((bucket.index, name.clone()), ())).collect();
        self.buckets = buckets.into_iter().map(|(name, bucket)| (name, Arc::new(bucket))).collect();
    }
}
