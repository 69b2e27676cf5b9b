//! A copy of the catalog that holds the rows of some services and nodes alone, and what a question looks at.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::name::{ServiceName, fold};

/// What a question looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The instances of a service (folded name).
    Service(ServiceName),
    /// A node by name or UUID, with what is on it.
    Node(SmolStr),
    /// The nodes and services at an address.
    Address(IpAddr),
    /// More than can be named.
    Catalog,
    /// Keys, which no copy holds.
    Keys,
    /// What stands under the name or id of a prepared query, which no copy holds.
    Query(SmolStr),
}

/// Which rows a copy is made of. It travels between agents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Interest {
    /// Nodes with everything on them, by folded name or UUID.
    pub nodes: BTreeSet<SmolStr>,
    /// Services with all instances, their nodes and checks, by folded name.
    pub services: BTreeSet<ServiceName>,
    /// What is at these addresses; only in a copy that is not kept up.
    pub addresses: BTreeSet<IpAddr>,
    /// Whose marks of removal.
    pub owner: Option<Uuid>,
}

impl Interest {
    /// Whether all that the question looks at is in such a copy.
    pub fn covers(&self, part: &Part) -> bool {
        match part {
            Part::Service(name) => self.services.contains(name),
            Part::Node(node) => self.nodes.contains(&*fold(node)),
            Part::Address(address) => self.addresses.contains(address),
            Part::Catalog | Part::Keys | Part::Query(_) => false,
        }
    }

    /// The same with what the question looks at; `false` if that cannot be named.
    pub fn widen(&mut self, part: &Part) -> bool {
        match part {
            Part::Service(name) => self.services.insert(name.clone()),
            Part::Node(node) => self.nodes.insert(SmolStr::new(&*fold(node))),
            Part::Address(address) => self.addresses.insert(*address),
            Part::Catalog | Part::Keys | Part::Query(_) => return false,
        };
        true
    }
}
