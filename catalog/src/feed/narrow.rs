//! Batches for a copy that holds some services and nodes alone.
//!
//! A node is in such a copy if it is named, or while a wanted service is on it. It may stay behind when the last one has gone: no
//! question about it is answered from there, and it is sent again with the next one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Batch, Interest};
use crate::grave::Gone;
use crate::name::NodeName;
use crate::rebuild::{NodeRecord, ServiceIndexes};
use crate::row::{Address, Check, Row, Service};
use crate::state::State;

impl State {
    /// All that is of interest, as one batch.
    pub fn part(&self, interest: &Interest) -> Batch {
        let wanted = Wanted::new(interest, self);
        let mut head = self.head(0);
        (head.from, head.interest, head.all_marks) = (None, Some(Arc::new(interest.clone())), true);
        let mut batch = Batch { head, ..Batch::default() };
        let mut nodes = wanted.nodes.clone();
        let mut found = BTreeSet::new();
        for node in &wanted.nodes {
            found.extend(self.services_of(node).map(|row| (node.clone(), row.id.clone())));
        }
        let buckets = interest.services.iter().filter_map(|name| self.service(name.as_str()));
        let instances = buckets.flat_map(|bucket| bucket.instances().iter());
        found.extend(instances.map(|instance| (instance.node.node.folded(), instance.service.id.clone())));
        for address in &interest.addresses {
            let is = |text: &str| matches(text, *address);
            nodes.extend(self.nodes().filter(|node| is(&node.address)).map(|node| node.node.folded()));
            let rows = self.services.iter().filter(|(_, row)| is(&row.address));
            found.extend(rows.map(|(key, _)| key.clone()));
        }
        batch.services = found.iter().filter_map(|key| self.services.get(key)).cloned().collect();
        nodes.extend(found.into_iter().map(|(node, _)| node));
        batch.nodes = nodes.iter().filter_map(|name| self.nodes.get(name)).map(|host| NodeRecord::from(&**host)).collect();
        let checks = nodes.iter().flat_map(|node| self.checks_of(node));
        batch.checks = checks.filter(|check| check.service_id.is_none() || wanted.has_check(check)).cloned().collect();
        let names: BTreeSet<_> = batch.services.iter().map(|row| row.name.folded()).collect();
        batch.buckets = names.iter().filter_map(|name| self.buckets.get(name)).map(|it| ServiceIndexes::from(&**it)).collect();
        batch.marks = self.removals.iter().filter(|mark| Some(mark.owner) == interest.owner).cloned().collect();
        batch
    }

    /// What of the changes from an older state is of interest; see [`State::changes_from`]. `None` also if the copy must be begun
    /// anew.
    pub fn changes_of(&self, interest: &Interest, old: &State) -> Option<Batch> {
        let mut batch = self.changes_from(old)?;
        let (was, is) = (Wanted::new(interest, old), Wanted::new(interest, self));
        if was.nodes != is.nodes {
            return None; // A name stands for another node: what is on that one has not changed, and is new to the copy.
        }
        // What is of interest no more is gone for the copy, though it goes on under another name.
        let left = |key: &(NodeName, _)| old.services.get(key).is_some_and(|row| was.has_service(row));
        batch.services.retain(|row| {
            let key = (row.node.folded(), row.id.clone());
            let stays = is.has_service(row);
            if !stays && left(&key) {
                batch.gone.push(Gone::Service(key.0, key.1));
            }
            stays
        });
        // Their nodes and checks may be new to the copy, though nothing changed there.
        let nodes: BTreeSet<NodeName> = batch.services.iter().map(|row| row.node.folded()).collect();
        batch.nodes.retain(|node| !nodes.contains(&node.row.node.folded()) && is.has_node(&node.row.node.folded()));
        batch.hosts.retain(|host| !nodes.contains(&host.name) && is.has_node(&host.name));
        batch.checks.retain(|row| {
            let node = row.node.folded();
            let stays = is.has_check(row);
            let before = || old.checks.get(&(node.clone(), row.id.clone()));
            if !stays && before().is_some_and(|before| was.has_check(before)) {
                batch.gone.push(Gone::Check(node.clone(), row.id.clone()));
            }
            stays && !nodes.contains(&node)
        });
        for node in &nodes {
            batch.nodes.extend(self.nodes.get(node).map(|host| NodeRecord::from(&**host)));
            batch.checks.extend(self.checks_of(node).filter(|check| is.has_check(check)).cloned());
        }
        let named: BTreeSet<_> = is.nodes.iter().flat_map(|node| self.services_of(node)).map(|row| row.name.folded()).collect();
        batch.buckets.retain(|bucket| {
            let name = bucket.name.folded();
            interest.services.contains(&name) || named.contains(&name)
        });
        batch.marks.retain(|mark| Some(mark.owner) == interest.owner);
        batch.marks_gone.retain(|(owner, _)| Some(*owner) == interest.owner);
        Some(batch)
    }
}

fn matches(text: &str, address: std::net::IpAddr) -> bool {
    match (Address::parse(text), address) {
        (Address::V4(octets), std::net::IpAddr::V4(address)) => octets == address.octets(),
        (Address::V6(octets), std::net::IpAddr::V6(address)) => octets == address.octets(),
        _ => false,
    }
}

/// An interest in one state.
struct Wanted<'a> {
    interest: &'a Interest,
    state: &'a State,
    nodes: BTreeSet<NodeName>,
}

impl<'a> Wanted<'a> {
    fn new(interest: &'a Interest, state: &'a State) -> Self {
        let nodes = interest.nodes.iter().filter_map(|node| Some(state.node(node)?.node.folded())).collect();
        Self { interest, state, nodes }
    }

    fn has_service(&self, row: &Row<Service>) -> bool {
        self.interest.services.contains(&row.name.folded()) || self.nodes.contains(&row.node.folded())
    }

    fn has_node(&self, node: &NodeName) -> bool {
        self.nodes.contains(node) || self.state.services_of(node).any(|row| self.interest.services.contains(&row.name.folded()))
    }

    fn has_check(&self, row: &Row<Check>) -> bool {
        let node = row.node.folded();
        match &row.service_id {
            Some(id) => self.state.service_on(&node, id).is_some_and(|service| self.has_service(service)),
            None => self.has_node(&node),
        }
    }
}
