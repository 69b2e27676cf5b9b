//! What Consul calls the fields of each row: the one table that JSON is written from and filters look into.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_catalog::{
    Behavior, Check, CheckId, Definition, Instance, Locality, Meta, Node, Row, Service, ServiceAddress, ServiceCheck,
    ServicePort, Session, Weights,
};
use smol_str::SmolStr;
use uuid::Uuid;

/// A thing with named fields, in the order in which Consul prints them.
pub(super) trait Fields {
    /// Shows every field to `to`.
    fn show<'a>(&'a self, to: &mut dyn See<'a>);
}

/// Who looks at fields: the writer of JSON, or a filter on its way to one of them.
pub(super) trait See<'a> {
    /// A field.
    fn field(&mut self, name: &'static str, value: Value<'a>, shown: Shown);
}

/// When a field is printed, and whether filters know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Always printed.
    Always,
    /// Left out when it is empty, zero or false.
    Filled,
    /// Always printed; no filter can ask for it.
    Unasked,
    /// Left out when it is empty, zero or false; no filter can ask for it.
    FilledUnasked,
}

/// The value of a field.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A UUID; the text is empty where there is none.
    Id(Option<Uuid>),
    /// A duration, printed as Go's text.
    Duration(Duration),
    /// A whole number.
    Number(i64),
    /// A whole number that is never negative.
    Count(u64),
    /// Yes or no.
    Truth(bool),
    /// A list of texts: `[]` when empty.
    Texts(&'a [SmolStr]),
    /// A list of texts of another making: `[]` when empty.
    Strings(&'a [String]),
    /// Pairs: `null` when empty.
    Pairs(&'a Meta),
    /// Pairs: `{}` when empty.
    PairsAlways(&'a Meta),
    /// Header lines by name.
    Headers(&'a BTreeMap<String, Vec<String>>),
    /// Addresses by name.
    Addresses(&'a BTreeMap<SmolStr, ServiceAddress>),
    /// Named ports.
    Ports(&'a [ServicePort]),
    /// The checks of an instance.
    Checks(&'a [Arc<Row<Check>>]),
    /// The checks of services that a session is tied to.
    ServiceChecks(&'a [ServiceCheck]),
    /// An object; `null` where there is none.
    Object(Option<&'a dyn Fields>),
    /// Fixed JSON.
    Fixed(&'static str),
}

/// What the mesh would have to say of a service without it.
const NO_PROXY: &str = r#"{"Mode":"","MeshGateway":{},"Expose":{}}"#;

/// A node as `catalog/nodes` and `health/service` show it.
pub(super) struct NodeView<'a> {
    pub(super) node: &'a Row<Node>,
    pub(super) datacenter: &'a str,
}

impl Fields for NodeView<'_> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        let node = self.node;
        to.field("ID", Value::Id(node.id), Shown::Always);
        to.field("Node", Value::Text(node.node.as_str()), Shown::Always);
        to.field("Address", Value::Text(&node.address), Shown::Always);
        to.field("Datacenter", Value::Text(self.datacenter), Shown::Always);
        to.field("TaggedAddresses", Value::Pairs(&node.tagged_addresses), Shown::Always);
        to.field("Meta", Value::Pairs(&node.meta), Shown::Always);
        to.field("CreateIndex", Value::Count(node.create_index), Shown::Unasked);
        to.field("ModifyIndex", Value::Count(node.modify_index), Shown::Unasked);
    }
}

/// An instance as `catalog/service` shows it, health left out.
pub(super) struct ServiceNodeView<'a> {
    pub(super) node: &'a Row<Node>,
    pub(super) service: &'a Row<Service>,
    pub(super) datacenter: &'a str,
}

impl Fields for ServiceNodeView<'_> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        let (node, service) = (self.node, self.service);
        let (kind, locality, ports) = rare(service);
        to.field("ID", Value::Id(node.id), Shown::Always);
        to.field("Node", Value::Text(node.node.as_str()), Shown::Always);
        to.field("Address", Value::Text(&node.address), Shown::Always);
        to.field("Datacenter", Value::Text(self.datacenter), Shown::Always);
        to.field("TaggedAddresses", Value::Pairs(&node.tagged_addresses), Shown::Always);
        to.field("NodeMeta", Value::Pairs(&node.meta), Shown::Always);
        to.field("ServiceKind", Value::Text(kind), Shown::Always);
        to.field("ServiceID", Value::Text(service.id.as_str()), Shown::Always);
        to.field("ServiceName", Value::Text(service.name.as_str()), Shown::Always);
        to.field("ServiceTags", Value::Texts(&service.tags), Shown::Always);
        to.field("ServiceAddress", Value::Text(&service.address), Shown::Always);
        to.field("ServiceTaggedAddresses", Value::Addresses(&service.tagged_addresses), Shown::Filled);
        to.field("ServiceWeights", Value::Object(Some(&service.weights)), Shown::Always);
        to.field("ServiceMeta", Value::PairsAlways(&service.meta), Shown::Always);
        to.field("ServicePort", Value::Number(service.port), Shown::Always);
        to.field("ServicePorts", Value::Ports(ports), Shown::FilledUnasked);
        to.field("ServiceSocketPath", Value::Text(&service.socket_path), Shown::Always);
        to.field("ServiceEnableTagOverride", Value::Truth(service.enable_tag_override), Shown::Always);
        to.field("ServiceProxy", Value::Fixed(NO_PROXY), Shown::Unasked);
        to.field("ServiceConnect", Value::Fixed("{}"), Shown::Unasked);
        to.field("ServiceLocality", Value::Object(locality), Shown::Unasked);
        to.field("CreateIndex", Value::Count(service.create_index), Shown::Unasked);
        to.field("ModifyIndex", Value::Count(service.modify_index), Shown::Unasked);
    }
}

type Rare<'a> = (&'a str, Option<&'a dyn Fields>, &'a [ServicePort]);

fn rare(service: &Service) -> Rare<'_> {
    match &service.rare {
        Some(rare) => (&rare.kind, rare.locality.as_ref().map(|locality| locality as &dyn Fields), &rare.ports),
        None => ("", None, &[]),
    }
}

/// A service as `health/service` and `catalog/node` show it.
impl Fields for Row<Service> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        let service = &self.value;
        let (kind, locality, ports) = rare(service);
        to.field("Kind", Value::Text(kind), Shown::Filled);
        to.field("ID", Value::Text(service.id.as_str()), Shown::Always);
        to.field("Service", Value::Text(service.name.as_str()), Shown::Always);
        to.field("Tags", Value::Texts(&service.tags), Shown::Always);
        to.field("Address", Value::Text(&service.address), Shown::Always);
        to.field("TaggedAddresses", Value::Addresses(&service.tagged_addresses), Shown::Filled);
        to.field("Meta", Value::Pairs(&service.meta), Shown::Always);
        to.field("Port", Value::Number(service.port), Shown::Filled);
        to.field("Ports", Value::Ports(ports), Shown::FilledUnasked);
        to.field("SocketPath", Value::Text(&service.socket_path), Shown::Filled);
        to.field("Weights", Value::Object(Some(&service.weights)), Shown::Always);
        to.field("EnableTagOverride", Value::Truth(service.enable_tag_override), Shown::Always);
        to.field("Locality", Value::Object(locality), Shown::FilledUnasked);
        to.field("Proxy", Value::Fixed(NO_PROXY), Shown::Unasked);
        to.field("Connect", Value::Fixed("{}"), Shown::Unasked);
        to.field("PeerName", Value::Text(""), Shown::Unasked);
        to.field("CreateIndex", Value::Count(self.create_index), Shown::Unasked);
        to.field("ModifyIndex", Value::Count(self.modify_index), Shown::Unasked);
    }
}

/// A service as the agent that runs it shows it (`agent/services`, `agent/service/<id>`).
pub(super) struct AgentServiceView<'a> {
    pub(super) service: &'a Service,
    /// Hash of what is shown; empty leaves it out.
    pub(super) content_hash: &'a str,
    pub(super) datacenter: &'a str,
}

impl Fields for AgentServiceView<'_> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        let service = self.service;
        let (kind, locality, ports) = rare(service);
        to.field("Kind", Value::Text(kind), Shown::Filled);
        to.field("ID", Value::Text(service.id.as_str()), Shown::Always);
        to.field("Service", Value::Text(service.name.as_str()), Shown::Always);
        to.field("Tags", Value::Texts(&service.tags), Shown::Always);
        to.field("Meta", Value::PairsAlways(&service.meta), Shown::Always);
        to.field("Port", Value::Number(service.port), Shown::Always);
        to.field("Ports", Value::Ports(ports), Shown::FilledUnasked);
        to.field("Address", Value::Text(&service.address), Shown::Always);
        to.field("SocketPath", Value::Text(&service.socket_path), Shown::Filled);
        to.field("TaggedAddresses", Value::Addresses(&service.tagged_addresses), Shown::Filled);
        to.field("Weights", Value::Object(Some(&service.weights)), Shown::Always);
        to.field("EnableTagOverride", Value::Truth(service.enable_tag_override), Shown::Always);
        to.field("ContentHash", Value::Text(self.content_hash), Shown::FilledUnasked);
        to.field("Locality", Value::Object(locality), Shown::FilledUnasked);
        to.field("Datacenter", Value::Text(self.datacenter), Shown::FilledUnasked);
    }
}

/// A row as transactions show it: lists of tags without any are `null`.
pub(super) struct NullTags<'a>(pub(super) &'a dyn Fields);

impl Fields for NullTags<'_> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        self.0.show(&mut EmptyIsNull(to));
    }
}

struct EmptyIsNull<'t, 'a>(&'t mut dyn See<'a>);

impl<'a> See<'a> for EmptyIsNull<'_, 'a> {
    fn field(&mut self, name: &'static str, value: Value<'a>, shown: Shown) {
        let value = if matches!(value, Value::Texts([])) { Value::Fixed("null") } else { value };
        self.0.field(name, value, shown);
    }
}

impl Fields for Weights {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        to.field("Passing", Value::Number(i64::from(self.passing)), Shown::Always);
        to.field("Warning", Value::Number(i64::from(self.warning)), Shown::Always);
    }
}

impl Fields for ServiceAddress {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        to.field("Address", Value::Text(&self.address), Shown::Always);
        to.field("Port", Value::Number(self.port), Shown::Always);
    }
}

impl Fields for ServicePort {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        to.field("Name", Value::Text(&self.name), Shown::Always);
        to.field("Port", Value::Number(self.port), Shown::Always);
        to.field("Default", Value::Truth(self.default), Shown::Always);
    }
}

impl Fields for Locality {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        to.field("Region", Value::Text(&self.region), Shown::Always);
        to.field("Zone", Value::Text(&self.zone), Shown::Always);
    }
}

/// A check with the node it is on.
impl Fields for Row<Check> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        show_check(self.node.as_str(), &self.value, [self.create_index, self.modify_index], to);
    }
}

/// A check as the agent that runs it shows it: it has no place in the catalog's history.
pub(super) struct AgentCheckView<'a> {
    pub(super) node: &'a str,
    pub(super) check: &'a Check,
}

impl Fields for AgentCheckView<'_> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        show_check(self.node, self.check, [0, 0], to);
    }
}

fn show_check<'a>(node: &'a str, check: &'a Check, [create, modify]: [u64; 2], to: &mut dyn See<'a>) {
    static EMPTY: std::sync::LazyLock<Definition> = std::sync::LazyLock::new(Definition::default);
    to.field("Node", Value::Text(node), Shown::Always);
    to.field("CheckID", Value::Text(check.id.as_str()), Shown::Always);
    to.field("Name", Value::Text(&check.name), Shown::Always);
    to.field("Status", Value::Text(check.status.as_str()), Shown::Always);
    to.field("Notes", Value::Text(&check.notes), Shown::Always);
    to.field("Output", Value::Text(&check.output), Shown::Always);
    to.field("ServiceID", Value::Text(check.service_id.as_ref().map_or("", |id| id.as_str())), Shown::Always);
    to.field("ServiceName", Value::Text(check.service_name.as_ref().map_or("", |name| name.as_str())), Shown::Always);
    to.field("ServiceTags", Value::Texts(&check.service_tags), Shown::Always);
    to.field("Type", Value::Text(&check.kind), Shown::Always);
    to.field("Interval", Value::Text(&check.interval), Shown::Always);
    to.field("Timeout", Value::Text(&check.timeout), Shown::Always);
    to.field("ExposedPort", Value::Number(0), Shown::Always);
    let definition = check.definition.as_deref().unwrap_or(&EMPTY);
    to.field("Definition", Value::Object(Some(definition)), Shown::Always);
    to.field("CreateIndex", Value::Count(create), Shown::Unasked);
    to.field("ModifyIndex", Value::Count(modify), Shown::Unasked);
}

impl Fields for Definition {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        let mut filled = |name, value| to.field(name, value, Shown::Filled);
        filled("Interval", Value::Duration(self.interval));
        filled("Timeout", Value::Duration(self.timeout));
        filled("DeregisterCriticalServiceAfter", Value::Duration(self.deregister_critical_service_after));
        filled("HTTP", Value::Text(&self.http));
        filled("TLSServerName", Value::Text(&self.tls_server_name));
        filled("TLSSkipVerify", Value::Truth(self.tls_skip_verify));
        filled("Header", Value::Headers(&self.header));
        filled("Method", Value::Text(&self.method));
        filled("Body", Value::Text(&self.body));
        filled("DisableRedirects", Value::Truth(self.disable_redirects));
        filled("TCP", Value::Text(&self.tcp));
        filled("TCPUseTLS", Value::Truth(self.tcp_use_tls));
        filled("UDP", Value::Text(&self.udp));
        filled("H2PING", Value::Text(&self.h2ping));
        filled("OSService", Value::Text(&self.os_service));
        filled("H2PingUseTLS", Value::Truth(self.h2ping_use_tls));
        filled("OutputMaxSize", Value::Count(self.output_bytes_max));
        filled("ScriptArgs", Value::Strings(&self.script_args));
        filled("DockerContainerID", Value::Text(&self.docker_container_id));
        filled("Shell", Value::Text(&self.shell));
        filled("GRPC", Value::Text(&self.grpc));
        filled("GRPCUseTLS", Value::Truth(self.grpc_use_tls));
        filled("AliasNode", Value::Text(&self.alias_node));
        filled("AliasService", Value::Text(&self.alias_service));
        filled("TTL", Value::Count(u64::try_from(self.ttl.as_nanos()).unwrap_or(u64::MAX)));
    }
}

/// An instance with its node and checks, as `health/service` shows it.
pub(super) struct HealthView<'a> {
    node: NodeView<'a>,
    service: &'a Row<Service>,
    checks: &'a [Arc<Row<Check>>],
}

impl<'a> HealthView<'a> {
    pub(super) fn new(instance: &'a Instance, datacenter: &'a str) -> Self {
        Self { node: NodeView { node: &instance.node, datacenter }, service: &instance.service, checks: &instance.checks }
    }
}

impl Fields for HealthView<'_> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        to.field("Node", Value::Object(Some(&self.node)), Shown::Always);
        to.field("Service", Value::Object(Some(self.service)), Shown::Always);
        to.field("Checks", Value::Checks(self.checks), Shown::Always);
    }
}

/// A session as `session/*` shows it.
pub(super) struct SessionView<'a> {
    session: &'a Session,
    node_checks: Option<Vec<SmolStr>>,
    checks: Vec<SmolStr>,
}

impl<'a> SessionView<'a> {
    pub(super) fn new(session: &'a Session) -> Self {
        let texts = |all: &Vec<CheckId>| all.iter().map(SmolStr::new).collect();
        Self { session, node_checks: session.node_checks.as_ref().map(texts), checks: texts(&session.checks) }
    }
}

impl Fields for SessionView<'_> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        let session = self.session;
        let behavior = match session.behavior {
            Behavior::Release => "release",
            Behavior::Delete => "delete",
        };
        to.field("ID", Value::Id(Some(session.id)), Shown::Always);
        to.field("Name", Value::Text(&session.name), Shown::Always);
        to.field("Node", Value::Text(session.node.as_str()), Shown::Always);
        to.field("LockDelay", Value::Number(session.lock_delay_ns), Shown::Always);
        to.field("Behavior", Value::Text(behavior), Shown::Always);
        to.field("TTL", Value::Text(&session.ttl), Shown::Always);
        let null = Value::Fixed("null");
        to.field("NodeChecks", self.node_checks.as_ref().map_or(null, |checks| Value::Texts(checks)), Shown::Always);
        let of_services = session.service_checks.as_ref().map_or(null, |checks| Value::ServiceChecks(checks));
        to.field("ServiceChecks", of_services, Shown::Always);
        to.field("Checks", Value::Texts(&self.checks), Shown::Filled);
        to.field("CreateIndex", Value::Count(session.create_index), Shown::Unasked);
        to.field("ModifyIndex", Value::Count(session.create_index), Shown::Unasked);
    }
}

impl Fields for ServiceCheck {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        to.field("ID", Value::Text(self.id.as_str()), Shown::Always);
        to.field("Namespace", Value::Text(&self.namespace), Shown::Always);
    }
}

/// A member as `agent/members` and `agent/self` show it.
pub(super) struct MemberView<'a> {
    pub(super) name: &'a str,
    pub(super) address: &'a str,
    pub(super) port: u16,
    pub(super) tags: &'a Meta,
    /// 1 alive, 2 leaving, 3 left, 4 failed.
    pub(super) status: u8,
    /// Of one that is degraded, suspected, failed or left: why, and by whose word. An extra key, which Consul has not.
    pub(super) cause: &'a str,
    /// How often it held others silent who then said that they live. An extra key too.
    pub(super) wrong: u32,
}

impl Fields for MemberView<'_> {
    fn show<'a>(&'a self, to: &mut dyn See<'a>) {
        to.field("Name", Value::Text(self.name), Shown::Always);
        to.field("Addr", Value::Text(self.address), Shown::Always);
        to.field("Port", Value::Count(u64::from(self.port)), Shown::Always);
        to.field("Tags", Value::PairsAlways(self.tags), Shown::Always);
        to.field("Status", Value::Count(u64::from(self.status)), Shown::Always);
        to.field("ProtocolMin", Value::Count(1), Shown::Always);
        to.field("ProtocolMax", Value::Count(5), Shown::Always);
        to.field("ProtocolCur", Value::Count(2), Shown::Always);
        to.field("DelegateMin", Value::Count(2), Shown::Always);
        to.field("DelegateMax", Value::Count(5), Shown::Always);
        to.field("DelegateCur", Value::Count(4), Shown::Always);
        to.field("Cause", Value::Text(self.cause), Shown::Filled);
        to.field("WrongAccusations", Value::Count(u64::from(self.wrong)), Shown::Filled);
    }
}
