//! The body of `catalog/register`.

use std::collections::BTreeMap;

use muster_catalog::{
    Check, CheckId, Definition, Locality, NameError, Node, NodeName, Offer, RareServiceFields, Register, Service, ServiceAddress,
    ServiceId, ServiceName, ServicePort, Status, Weights,
};
use serde_json::Value;
use smol_str::SmolStr;
use uuid::Uuid;

use super::super::decode::Object;
use super::super::error::HttpError;

/// What a registration tells.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) register: Register,
    /// With `SkipNodeUpdate`: the node as it is made if there is none of that name.
    pub(super) node_if_unknown: Option<Node>,
}

fn server(text: impl Into<String>) -> HttpError {
    HttpError::Server(text.into())
}

/// There is no way to any other datacenter.
pub(super) fn must_be_here(asked: &str, datacenter: &str) -> Result<(), HttpError> {
    if asked.is_empty() || asked == datacenter { Ok(()) } else { Err(server("No path to datacenter")) }
}

/// A name that the catalog cannot take, said of what it is the name.
pub(super) fn named<T>(name: Result<T, NameError>, what: &str) -> Result<T, HttpError> {
    name.map_err(|error| HttpError::BadRequest(format!("Invalid {what}: {error}")))
}

/// Reads it; refusals are those of Consul's servers, in their order.
pub(super) fn read(body: &[u8], datacenter: &str) -> Result<Told, HttpError> {
    let mut object = Object::parse(body)?;
    let id = object.text("ID")?;
    let node = object.text("Node")?;
    let address = object.text("Address")?;
    let asked = object.text("Datacenter")?;
    let tagged_addresses = object.pairs("TaggedAddresses")?;
    let meta = object.pairs("NodeMeta")?;
    let skip = object.truth("SkipNodeUpdate")?;
    let service = object.object("Service")?.map(service).transpose()?;
    let mut checks =
        object.list("Checks")?.into_iter().map(|value| check(Object::of(value, "Checks")?)).collect::<Result<Vec<_>, _>>()?;
    if let Some(one) = object.object("Check")? {
        checks.push(check(one)?);
    }
    object.ignore(&["Locality", "PeerName", "WriteRequest", "CreateIndex", "ModifyIndex"]);
    object.finish()?;

    must_be_here(&asked, datacenter)?;
    if node.is_empty() {
        return Err(server("Must provide node"));
    }
    if address.is_empty() && !skip {
        return Err(server("Must provide address if SkipNodeUpdate is not set"));
    }
    let id = node_id(&id)?;
    let services = service.map(|told| told.into_service()).transpose()?.flatten();
    let checks = checks.into_iter().map(|told| told.into_check(&node)).collect::<Result<_, _>>()?;
    let name = named(NodeName::new(&node), "node name")?;
    let about = Node { id, address, tagged_addresses, meta };
    let (about, node_if_unknown) = if skip { (None, Some(about)) } else { (Some(about), None) };
    let services = services.into_iter().map(|value| Offer { value, generation: 0, cause: None }).collect();
    Ok(Told { register: Register { node: name, about, services, checks, owner: None }, node_if_unknown })
}

pub(in super::super) fn node_id(text: &str) -> Result<Option<Uuid>, HttpError> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() != 36 {
        return Err(server("Bad node ID: uuid string is wrong length"));
    }
    Uuid::parse_str(text).map(Some).map_err(|_| server("Bad node ID: uuid is improperly formatted"))
}

/// A service as it was told.
pub(in super::super) struct ToldService {
    pub(in super::super) id: SmolStr,
    pub(in super::super) name: SmolStr,
    /// All of it but id and name, which are put in once they are checked.
    pub(in super::super) service: Service,
}

impl ToldService {
    /// The id is the name where none is given; an empty service is none.
    pub(in super::super) fn into_service(self) -> Result<Option<Service>, HttpError> {
        let Self { id, name, service } = self;
        if name.is_empty() {
            return if id.is_empty() { Ok(None) } else { Err(server("Must provide service name with ID")) };
        }
        let id = if id.is_empty() { name.clone() } else { id };
        let id = named(ServiceId::new(&id), "service ID")?;
        Ok(Some(Service { id, name: named(ServiceName::new(&name), "service name")?, ..service }))
    }
}

/// Reads a service.
pub(in super::super) fn service(mut object: Object) -> Result<ToldService, HttpError> {
    let (id, name) = (object.text("ID")?, object.text("Service")?);
    let rare = RareServiceFields { kind: object.text("Kind")?, locality: locality(&mut object)?, ports: ports(&mut object)? };
    let service = Service {
        id: ServiceId::new("_").expect("one letter is a name"),
        name: ServiceName::new("_").expect("one letter is a name"),
        tags: object.texts("Tags")?,
        address: object.text("Address")?,
        tagged_addresses: addresses(&mut object)?,
        meta: object.pairs("Meta")?,
        port: object.number("Port")?,
        socket_path: object.text("SocketPath")?,
        enable_tag_override: object.truth("EnableTagOverride")?,
        weights: weights(&mut object)?,
        rare: (rare != RareServiceFields::default()).then(|| Box::new(rare)),
    };
    object.ignore(&["Proxy", "Connect", "PeerName", "CreateIndex", "ModifyIndex", "LocallyRegisteredAsSidecar"]);
    object.finish()?;
    Ok(ToldService { id, name, service })
}

fn locality(object: &mut Object) -> Result<Option<Locality>, HttpError> {
    let Some(mut told) = object.object("Locality")? else { return Ok(None) };
    let locality = Locality { region: told.text("Region")?, zone: told.text("Zone")? };
    told.finish()?;
    Ok(Some(locality))
}

fn ports(object: &mut Object) -> Result<Vec<ServicePort>, HttpError> {
    let port = |value: Value| {
        let mut told = Object::of(value, "Ports")?;
        let port = ServicePort { name: told.text("Name")?, port: told.number("Port")?, default: told.truth("Default")? };
        told.finish()?;
        Ok(port)
    };
    object.list("Ports")?.into_iter().map(port).collect()
}

fn addresses(object: &mut Object) -> Result<BTreeMap<SmolStr, ServiceAddress>, HttpError> {
    let address = |(name, value): (String, Value)| {
        let mut told = Object::of(value, "TaggedAddresses")?;
        let address = ServiceAddress { address: told.text("Address")?, port: told.number("Port")? };
        told.finish()?;
        Ok((SmolStr::new(name), address))
    };
    object.free_keys("TaggedAddresses")?.into_iter().map(address).collect()
}

fn weights(object: &mut Object) -> Result<Weights, HttpError> {
    let Some(mut told) = object.object("Weights")? else { return Ok(Weights::default()) };
    let weight = |number: i64| u16::try_from(number.max(0)).unwrap_or(u16::MAX);
    let weights = Weights { passing: weight(told.number("Passing")?), warning: weight(told.number("Warning")?) };
    told.finish()?;
    Ok(weights)
}

/// A check as it was told.
pub(in super::super) struct ToldCheck {
    pub(in super::super) node: SmolStr,
    pub(in super::super) id: SmolStr,
    service_id: SmolStr,
    pub(in super::super) check: Check,
}

impl ToldCheck {
    /// The id is the name where none is given, the status critical, the node that of the registration.
    pub(in super::super) fn into_check(self, node: &str) -> Result<Offer<Check>, HttpError> {
        let Self { node: own, id, service_id, mut check } = self;
        if !own.is_empty() && !own.eq_ignore_ascii_case(node) {
            return Err(server(format!("check node {own:?} does not match node {node:?}")));
        }
        let id = if id.is_empty() { check.name.clone() } else { id };
        check.id = CheckId::new(&id).map_err(|error| match error {
            NameError::Empty => server("Must provide check ID or name"),
            error => HttpError::BadRequest(format!("Invalid check ID: {error}")),
        })?;
        if !service_id.is_empty() {
            check.service_id = Some(named(ServiceId::new(&service_id), "service ID")?);
        }
        Ok(Offer { value: check, generation: 0, cause: None })
    }
}

/// Reads a check.
pub(in super::super) fn check(mut object: Object) -> Result<ToldCheck, HttpError> {
    let (node, id, service_id) = (object.text("Node")?, object.text("CheckID")?, object.text("ServiceID")?);
    let definition = object.object("Definition")?.map(definition).transpose()?.filter(|told| *told != Definition::default());
    let status = object.text("Status")?;
    let kind = object.text("Type")?;
    let check = Check {
        id: CheckId::new("_").expect("one letter is a name"),
        name: object.text("Name")?,
        status: if status.is_empty() { Status::Critical } else { Status::from_text(&status) },
        notes: object.text("Notes")?,
        output: object.text("Output")?,
        service_id: None,
        service_name: None,
        service_tags: Vec::new(),
        kind: if kind.is_empty() { definition.as_ref().map_or("", kind_of).into() } else { kind },
        interval: object.text("Interval")?,
        timeout: object.text("Timeout")?,
        definition: definition.map(Box::new),
    };
    object.ignore(&["ServiceName", "ServiceTags", "ExposedPort", "PeerName", "CreateIndex", "ModifyIndex"]);
    object.finish()?;
    Ok(ToldCheck { node, id, service_id, check })
}

/// What a definition is the definition of.
fn kind_of(definition: &Definition) -> &'static str {
    let is = |text: &str| !text.is_empty();
    match definition {
        told if is(&told.http) => "http",
        told if is(&told.tcp) => "tcp",
        told if is(&told.udp) => "udp",
        told if is(&told.grpc) => "grpc",
        told if is(&told.h2ping) => "h2ping",
        told if is(&told.os_service) => "os_service",
        told if is(&told.docker_container_id) => "docker",
        told if !told.script_args.is_empty() => "script",
        told if is(&told.alias_node) || is(&told.alias_service) => "alias",
        told if !told.ttl.is_zero() => "ttl",
        _ => "",
    }
}

fn definition(mut object: Object) -> Result<Definition, HttpError> {
    let string = |text: SmolStr| text.to_string();
    let header = object.free_keys("Header")?.into_iter().map(|(name, value)| {
        let Value::Array(lines) = value else { return Err(HttpError::Decode("json: Header must hold lists".into())) };
        Ok((name, lines.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
    });
    let definition = Definition {
        header: header.collect::<Result<_, _>>()?,
        http: string(object.text("HTTP")?),
        tls_server_name: string(object.text("TLSServerName")?),
        tls_skip_verify: object.truth("TLSSkipVerify")?,
        method: string(object.text("Method")?),
        body: string(object.text("Body")?),
        disable_redirects: object.truth("DisableRedirects")?,
        tcp: string(object.text("TCP")?),
        tcp_use_tls: object.truth("TCPUseTLS")?,
        udp: string(object.text("UDP")?),
        h2ping: string(object.text("H2PING")?),
        h2ping_use_tls: object.truth("H2PingUseTLS")?,
        os_service: string(object.text("OSService")?),
        output_bytes_max: u64::try_from(object.number("OutputMaxSize")?).unwrap_or(0),
        interval: object.duration("Interval")?,
        timeout: object.duration("Timeout")?,
        deregister_critical_service_after: object.duration("DeregisterCriticalServiceAfter")?,
        script_args: object.texts("ScriptArgs")?.iter().map(SmolStr::to_string).collect(),
        docker_container_id: string(object.text("DockerContainerID")?),
        shell: string(object.text("Shell")?),
        grpc: string(object.text("GRPC")?),
        grpc_use_tls: object.truth("GRPCUseTLS")?,
        alias_node: string(object.text("AliasNode")?),
        alias_service: string(object.text("AliasService")?),
        ttl: object.duration("TTL")?,
    };
    object.ignore(&["IntervalDuration", "TimeoutDuration", "DeregisterCriticalServiceAfterDuration"]);
    object.finish()?;
    Ok(definition)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(body: &str) -> Register {
        read(body.as_bytes(), "dc1").expect("a registration").register
    }

    fn refusal(body: &str) -> String {
        read(body.as_bytes(), "dc1").expect_err("it is refused").to_string()
    }

    #[test]
    fn ids_default_to_names_and_status_to_critical() {
        let register = told(r#"{"Node":"n","Address":"a","Service":{"Service":"web"},"Check":{"Name":"noid"}}"#);
        let service = &register.services[0].value;
        assert_eq!((service.id.as_str(), service.name.as_str(), service.weights), ("web", "web", Weights::default()));
        let check = &register.checks[0].value;
        assert_eq!((check.id.as_str(), &check.status, check.kind.as_str()), ("noid", &Status::Critical, ""));
    }

    #[test]
    fn a_definition_gives_the_check_its_type() {
        let register = told(
            r#"{"Node":"n","Address":"a","Checks":[{"CheckID":"c","Status":"purple",
                "Definition":{"TCP":"h:80","Interval":"5s","Timeout":1000000000,"DeregisterCriticalServiceAfter":"30s"}}]}"#,
        );
        let check = &register.checks[0].value;
        assert_eq!((check.kind.as_str(), check.status.as_str()), ("tcp", "purple"));
        let definition = check.definition.as_ref().expect("it was given");
        assert_eq!((definition.interval, definition.timeout), (Duration::from_secs(5), Duration::from_secs(1)));
    }

    #[test]
    fn a_skipped_node_is_told_only_if_it_is_unknown() {
        let told = read(br#"{"Node":"n","SkipNodeUpdate":true}"#, "dc1").expect("a registration");
        assert_eq!(told.register.about, None);
        assert!(told.node_if_unknown.is_some());
    }

    #[test]
    fn refusals_are_consuls_in_their_order() {
        for (body, text) in [
            ("{}", "Must provide node"),
            (r#"{"Node":"n"}"#, "Must provide address if SkipNodeUpdate is not set"),
            (r#"{"Node":"n","Datacenter":"x"}"#, "No path to datacenter"),
            (r#"{"Node":"n","Address":"a","ID":"x"}"#, "Bad node ID: uuid string is wrong length"),
            (r#"{"Node":"n","Address":"a","Service":{"ID":"x"}}"#, "Must provide service name with ID"),
            (r#"{"Node":"n","Address":"a","Check":{"CheckID":"c","Node":"m"}}"#, "check node \"m\" does not match node \"n\""),
            (r#"{"Node":"n","Bogus":1}"#, "Request decode failed: json: unknown field \"Bogus\""),
            (r#"{"Node":"n","Service":{"Nope":1}}"#, "Request decode failed: json: unknown field \"Nope\""),
        ] {
            assert_eq!(refusal(body), text, "{body}");
        }
    }
}
