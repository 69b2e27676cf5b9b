//! The rows of the catalog: nodes, services, checks, keys; and an instance, which is what look-ups read.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use smol_str::SmolStr;
use uuid::Uuid;

use crate::cause::Cause;
use crate::definition::Definition;
use crate::meta::Meta;
use crate::name::{CheckId, NodeName, ServiceId, ServiceName};
use crate::status::{Health, Status, worst};

/// Position in the log, and so in the history of the catalog. The first change has 1 or more; 0 is "nothing yet".
pub type Index = u64;

/// A row: what was registered, and what the catalog adds to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row<T> {
    /// The node it belongs to, as it was written at the node's registration.
    pub node: NodeName,
    /// What was registered.
    pub value: T,
    /// The agent (node UUID) whose anti-entropy keeps this row; `None` for rows written through the catalog API.
    pub owner: Option<Uuid>,
    /// Of the owner's definition: rises with each new registration there. 0 without an owner.
    #[serde(default)]
    pub generation: u64,
    /// Why the row is as it is.
    pub cause: Arc<Cause>,
    /// Where it was made.
    pub create_index: Index,
    /// Where it was last really changed.
    pub modify_index: Index,
    /// Where its owner or generation changed after that, while nothing did that a reader can see; 0 for nowhere. A follower that
    /// resumes before it needs the row all the same.
    #[serde(default, skip_serializing_if = "is_nowhere")]
    pub owner_index: Index,
}

fn is_nowhere(index: &Index) -> bool {
    *index == 0
}

impl<T> Row<T> {
    /// Where anything of it last changed.
    pub(crate) fn touched_index(&self) -> Index {
        self.modify_index.max(self.owner_index)
    }
}

impl<T> Deref for Row<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Changes every row of a table that nobody else holds.
pub(crate) fn mend<K: Ord + Clone, V: Clone>(table: &mut OrdMap<K, Arc<V>>, mut change: impl FnMut(&mut V)) {
    let rows = std::mem::take(table).into_iter().map(|(key, mut row)| {
        change(Arc::make_mut(&mut row));
        (key, row)
    });
    *table = rows.collect();
}

/// A machine, real or made up, that services run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The node's UUID; registrations through the catalog API may leave it out.
    pub id: Option<Uuid>,
    /// IP address or host name.
    pub address: SmolStr,
    /// Addresses by name: `lan`, `wan`, `lan_ipv4`, …
    pub tagged_addresses: Meta,
    /// Free pairs.
    pub meta: Meta,
}

/// How many DNS answers an instance is worth beside others, by its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// While all checks pass; at least 1.
    pub passing: u16,
    /// While a check warns.
    pub warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// An address that is valid for some kind of asker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAddress {
    /// IP address or host name.
    pub address: SmolStr,
    /// Port; Consul does not check its range.
    pub port: i64,
}

/// A named port of a service that has several (Consul 1.22).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServicePort {
    /// The port's name.
    pub name: SmolStr,
    /// The port.
    pub port: i64,
    /// Whether it stands for the service where one port is asked for.
    pub default: bool,
}

/// Where a service runs, in a provider's terms.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Locality {
    /// Region.
    pub region: SmolStr,
    /// Zone within the region.
    pub zone: SmolStr,
}

/// One instance of a service, as it was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its id on the node.
    pub id: ServiceId,
    /// What look-ups ask for.
    pub name: ServiceName,
    /// Tags, in the order they were given.
    #[serde(default)]
    pub tags: Vec<SmolStr>,
    /// Own address; empty means the node's.
    #[serde(default)]
    pub address: SmolStr,
    /// Addresses by name.
    #[serde(default)]
    pub tagged_addresses: BTreeMap<SmolStr, ServiceAddress>,
    /// Free pairs.
    #[serde(default)]
    pub meta: Meta,
    /// Port; 0 for none. Consul does not check its range.
    #[serde(default)]
    pub port: i64,
    /// Path of a Unix socket, empty for none.
    #[serde(default)]
    pub socket_path: SmolStr,
    /// Whether tags that others change in the catalog survive anti-entropy.
    #[serde(default)]
    pub enable_tag_override: bool,
    /// Weights for DNS.
    #[serde(default)]
    pub weights: Weights,
    /// What few services have, out of line.
    #[serde(default)]
    pub rare: Option<Box<RareServiceFields>>,
}

/// Fields that few services set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RareServiceFields {
    /// `connect-proxy` and the like: kept and returned, without effect.
    pub kind: SmolStr,
    /// Where it runs.
    pub locality: Option<Locality>,
    /// Several named ports.
    pub ports: Vec<ServicePort>,
}

/// A check as the catalog holds it: its verdict, not how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its id on the node.
    pub id: CheckId,
    /// Its name for people.
    pub name: SmolStr,
    /// The verdict.
    pub status: Status,
    /// What the registrant notes about it.
    #[serde(default)]
    pub notes: SmolStr,
    /// What the last run printed; bounded where it is made.
    #[serde(default)]
    pub output: SmolStr,
    /// The service it judges; `None` for a check of the whole node.
    #[serde(default)]
    pub service_id: Option<ServiceId>,
    /// That service's name, filled in by apply.
    #[serde(default)]
    pub service_name: Option<ServiceName>,
    /// That service's tags, filled in by apply.
    #[serde(default)]
    pub service_tags: Vec<SmolStr>,
    /// `http`, `ttl`, …; empty if the registrant did not say.
    #[serde(default)]
    pub kind: SmolStr,
    /// How often it runs, as text; empty if unknown.
    #[serde(default)]
    pub interval: SmolStr,
    /// Its time limit, as text; empty if unknown.
    #[serde(default)]
    pub timeout: SmolStr,
    /// What the registrant told of how it is run: returned as given, run by nobody here.
    #[serde(default)]
    pub definition: Option<Box<Definition>>,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key: any UTF-8 text.
    pub key: Arc<str>,
    /// The value.
    pub value: Bytes,
    /// The client's own bits.
    pub flags: u64,
    /// How often it was acquired; stays 0 until locks are used.
    pub lock_index: u64,
    /// The session that holds it.
    pub session: Option<Uuid>,
    /// Why it is as it is.
    pub cause: Arc<Cause>,
    /// Where it was made.
    pub create_index: Index,
    /// Where it was last really changed.
    pub modify_index: Index,
}

/// One place where a service can be reached, with all that a look-up needs of it: rebuilt whenever one of the three changes.
#[derive(Debug)]
pub struct Instance {
    /// The machine.
    pub node: Arc<Row<Node>>,
    /// The service on it.
    pub service: Arc<Row<Service>>,
    /// The service's own checks and the node's.
    pub checks: SmallVec<[Arc<Row<Check>>; 2]>,
    /// The worst of the checks.
    pub health: Health,
    /// The health entry in Consul's JSON, rendered by the first reader that needs it.
    pub json: OnceLock<Bytes>,
    /// The address in the form DNS copies into answers, made by the first look-up that needs it.
    pub address: OnceLock<Address>,
}

/// What of an instance travels: all else is made of it.
#[derive(Serialize, Deserialize)]
struct Parts {
    node: Arc<Row<Node>>,
    service: Arc<Row<Service>>,
    checks: Vec<Arc<Row<Check>>>,
}

impl Serialize for Instance {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { node, service, checks, .. } = self;
        Parts { node: node.clone(), service: service.clone(), checks: checks.to_vec() }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Instance {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Parts { node, service, checks } = Parts::deserialize(from)?;
        Ok(Self::new(node, service, checks))
    }
}

/// What an instance's address is to DNS: its own, else the node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 address.
    V6([u8; 16]),
    /// A host name.
    Name(SmolStr),
}

impl Address {
    /// Reads an address as it stands in a row.
    pub fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(std::net::IpAddr::V4(ip)) => Address::V4(ip.octets()),
            Ok(std::net::IpAddr::V6(ip)) => Address::V6(ip.octets()),
            Err(_) => Address::Name(SmolStr::new(text)),
        }
    }
}

impl Instance {
    /// Puts the three together.
    pub fn new(node: Arc<Row<Node>>, service: Arc<Row<Service>>, checks: impl IntoIterator<Item = Arc<Row<Check>>>) -> Self {
        let checks: SmallVec<[Arc<Row<Check>>; 2]> = checks.into_iter().collect();
        let health = worst(checks.iter().map(|check| &check.status));
        Self { node, service, checks, health, json: OnceLock::new(), address: OnceLock::new() }
    }

    /// Where to reach it: the service's own address, else the node's.
    pub fn address(&self) -> &Address {
        self.address.get_or_init(|| {
            let own = &self.service.address;
            Address::parse(if own.is_empty() { &self.node.address } else { own })
        })
    }

    /// Its weight in DNS: by its health.
    pub fn weight(&self) -> u16 {
        match self.health {
            Health::Passing => self.service.weights.passing,
            Health::Warning | Health::Critical => self.service.weights.warning,
        }
    }
}
