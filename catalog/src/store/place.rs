//! Where instances are read: made of a node, a service and checks, and put into the service's bucket.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::name::NodeName;
use crate::row::{Check, Index, Instance, Row, Service};
use crate::state::{Bucket, State};

/// The checks of one service, by id.
pub(super) type OwnChecks = SmallVec<[Arc<Row<Check>>; 2]>;

impl State {
    /// The checks of one service, as its instance has them.
    pub(super) fn own_checks(&self, node: &NodeName, service: &Row<Service>) -> OwnChecks {
        let name = service.name.folded();
        let Some(instance) = self.instance(name.as_str(), node, &service.id) else { return SmallVec::new() };
        instance.checks.iter().filter(|check| check.service_id.is_some()).cloned().collect()
    }

    /// Makes an instance anew and puts it where it is read; no index moves but those of a bucket that has to be made.
    pub(super) fn place(
        &mut self,
        node: &NodeName,
        service: Arc<Row<Service>>,
        own: OwnChecks,
        at: Index,
    ) -> Option<&mut Bucket> {
        let host = self.nodes.get(node)?;
        let instance = Instance::new(host.row.clone(), service.clone(), own.into_iter().chain(host.checks.iter().cloned()));
        let name = service.name.folded();
        if !self.buckets.contains_key(&name) {
            let bucket = Bucket::new(service.name.clone(), at);
            self.buckets.insert(name.clone(), Arc::new(bucket));
            self.note_bucket(&name, None, Some(at));
        }
        let bucket = Arc::make_mut(self.buckets.get_mut(&name).expect("it was put there above"));
        match bucket.position(node, &service.id) {
            Ok(at) => {
                bucket.instances_mut().set(at, Arc::new(instance));
            }
            Err(at) => bucket.instances_mut().insert(at, Arc::new(instance)),
        }
        Some(bucket)
    }
}

/// Puts a check among others, ordered by id, in place of its older self.
pub(super) fn put_sorted<const N: usize>(checks: &mut SmallVec<[Arc<Row<Check>>; N]>, row: Arc<Row<Check>>) {
    match checks.binary_search_by(|check| check.id.cmp(&row.id)) {
        Ok(at) => checks[at] = row,
        Err(at) => checks.insert(at, row),
    }
}
