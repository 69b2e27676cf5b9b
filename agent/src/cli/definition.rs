//! Service definition files, brought into the form in which the API takes a registration.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::error::Error;
use super::input;
use crate::config::{self, Fault, Node, Value};

/// The services of one file, and what of it this command leaves aside.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    pub(crate) services: Vec<Map<String, Json>>,
    pub(crate) warnings: Vec<String>,
}

/// Ten thousand services with their checks are some 5 MB.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How a key of a file becomes a key of the API.
#[derive(Clone, Copy)]
enum Becomes {
    /// The value goes over as it stands: a text, a number, a list of texts.
    Same(&'static str),
    /// One map with keys of the user's own, as it stands.
    Own(&'static str),
    /// One object with keys of ours.
    Object(&'static str, Shape),
    /// A list of such objects; HCL writes a list of one as that one.
    List(&'static str, Shape),
    /// A map from names of the user's own to such objects.
    Named(&'static str, Shape),
    /// Part of the service mesh: left aside with a warning.
    Aside,
}

/// The keys of one kind of object, each written without `_` and in lower case: `enable_tag_override` and
/// `EnableTagOverride` are the same key, as for Consul.
type Shape = &'static [(&'static str, Becomes)];

use Becomes::{Aside, List, Named, Object, Own, Same};

const SERVICE: Shape = &[
    ("name", Same("Name")),
    ("id", Same("ID")),
    ("tags", Same("Tags")),
    ("address", Same("Address")),
    ("port", Same("Port")),
    ("ports", List("Ports", PORT)),
    ("socketpath", Same("SocketPath")),
    ("meta", Own("Meta")),
    ("taggedaddresses", Named("TaggedAddresses", TAGGED_ADDRESS)),
    ("enabletagoverride", Same("EnableTagOverride")),
    ("weights", Object("Weights", WEIGHTS)),
    ("check", Object("Check", CHECK)),
    ("checks", List("Checks", CHECK)),
    ("token", Same("Token")),
    ("kind", Same("Kind")),
    ("locality", Object("Locality", LOCALITY)),
    ("proxy", Aside),
    ("connect", Aside),
    ("namespace", Aside),
    ("partition", Aside),
];

const TAGGED_ADDRESS: Shape = &[("address", Same("Address")), ("port", Same("Port"))];
const WEIGHTS: Shape = &[("passing", Same("Passing")), ("warning", Same("Warning"))];
const LOCALITY: Shape = &[("region", Same("Region")), ("zone", Same("Zone"))];
const PORT: Shape = &[("name", Same("Name")), ("port", Same("Port")), ("default", Same("Default"))];

const CHECK: Shape = &[
    ("id", Same("CheckID")),
    ("checkid", Same("CheckID")),
    ("name", Same("Name")),
    ("notes", Same("Notes")),
    ("status", Same("Status")),
    ("args", Same("ScriptArgs")),
    ("scriptargs", Same("ScriptArgs")),
    ("interval", Same("Interval")),
    ("timeout", Same("Timeout")),
    ("ttl", Same("TTL")),
    ("http", Same("HTTP")),
    ("method", Same("Method")),
    ("header", Own("Header")),
    ("body", Same("Body")),
    ("disableredirects", Same("DisableRedirects")),
    ("followforeignredirects", Same("FollowForeignRedirects")),
    ("tlsservername", Same("TLSServerName")),
    ("tlsskipverify", Same("TLSSkipVerify")),
    ("tcp", Same("TCP")),
    ("tcpusetls", Same("TCPUseTLS")),
    ("udp", Same("UDP")),
    ("grpc", Same("GRPC")),
    ("grpcusetls", Same("GRPCUseTLS")),
    ("h2ping", Same("H2PING")),
    ("h2pingusetls", Same("H2PingUseTLS")),
    ("dockercontainerid", Same("DockerContainerID")),
    ("shell", Same("Shell")),
    ("aliasnode", Same("AliasNode")),
    ("aliasservice", Same("AliasService")),
    ("osservice", Same("OSService")),
    ("successbeforepassing", Same("SuccessBeforePassing")),
    ("failuresbeforewarning", Same("FailuresBeforeWarning")),
    ("failuresbeforecritical", Same("FailuresBeforeCritical")),
    ("deregistercriticalserviceafter", Same("DeregisterCriticalServiceAfter")),
    ("outputmaxsize", Same("OutputMaxSize")),
];

/// Reads a `.json`, `.hcl` or `.toml` file; a wrong or unknown key anywhere refuses the whole file.
pub(crate) fn read(path: &Path) -> Result<Definitions, Error> {
    let bytes = input::file(path, FILE_BYTES_MAX)?;
    let text = str::from_utf8(&bytes)
        .map_err(|error| Error::File { path: path.to_owned(), fault: format!("is no UTF-8 text: {error}") })?;
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    config::parse(&path.to_string_lossy(), ending, text).and_then(definitions).map_err(Error::Definition)
}

fn definitions(file: Node) -> Result<Definitions, Fault> {
    let nothing = fault(&file, "", "neither `service` nor `services` is in it");
    let mut found = Definitions::default();
    for (key, value) in fields(file, "")? {
        match plain(&key).as_str() {
            "service" | "services" => {
                for (at, service) in many(value).into_iter().enumerate() {
                    let place = format!("{key}[{at}]");
                    let nameless = fault(&service, &place, "a service needs a `name`");
                    let service = object(service, SERVICE, &place, &mut found.warnings)?;
                    if service.get("Name").and_then(Json::as_str).unwrap_or_default().is_empty() {
                        return Err(nameless);
                    }
                    found.services.push(service);
                }
            }
            "check" | "checks" => {
                found.warnings.push(format!("{}: {key}: a check outside of a service is not registered", value.at));
            }
            _ => {} // a whole agent configuration may hold services too; the rest of it is the agent's
        }
    }
    if found.services.is_empty() { Err(nothing) } else { Ok(found) }
}

fn object(node: Node, shape: Shape, place: &str, warnings: &mut Vec<String>) -> Result<Map<String, Json>, Fault> {
    let mut out = Map::new();
    for (key, node) in fields(node, place)? {
        let here = format!("{place}.{key}");
        let Some((_, becomes)) = shape.iter().find(|(known, _)| *known == plain(&key)) else {
            return Err(fault(&node, &here, &unknown(&key, shape)));
        };
        if node.value == Value::Null {
            continue;
        }
        let twice = fault(&node, &here, "given twice: keep one of the two");
        let (name, value) = match *becomes {
            Same(name) => (name, json(node)),
            Own(name) => (name, Json::Object(fields(node, &here)?.into_iter().map(|(own, node)| (own, json(node))).collect())),
            Object(name, inner) => (name, Json::Object(object(node, inner, &here, warnings)?)),
            List(name, inner) => {
                let all = many(node).into_iter().map(|one| object(one, inner, &here, warnings).map(Json::Object));
                (name, Json::Array(all.collect::<Result<_, _>>()?))
            }
            Named(name, inner) => {
                let all = fields(node, &here)?.into_iter().map(|(own, one)| {
                    let one = object(one, inner, &format!("{here}.{own}"), warnings)?;
                    Ok((own, Json::Object(one)))
                });
                (name, Json::Object(all.collect::<Result<_, Fault>>()?))
            }
            Aside => {
                warnings.push(format!("{}: {here}: left out: muster has no service mesh and no namespaces", node.at));
                continue;
            }
        };
        if out.insert(name.to_owned(), value).is_some() {
            return Err(twice);
        }
    }
    Ok(out)
}

/// The entries of one map; old HCL and its JSON write a map as a list of one.
fn fields(node: Node, place: &str) -> Result<Vec<(String, Node)>, Fault> {
    match node.value {
        Value::Map(fields) => Ok(fields),
        Value::List(mut all) if all.len() == 1 => match all.remove(0) {
            Node { value: Value::Map(fields), .. } => Ok(fields),
            other => Err(fault(&other, place, "must be a map")),
        },
        _ => Err(fault(&node, place, "must be one map")),
    }
}

/// HCL has a block once as a map, several times as a list.
fn many(node: Node) -> Vec<Node> {
    match node.value {
        Value::List(all) => all,
        _ => vec![node],
    }
}

/// The depth is bounded by the parser.
fn json(node: Node) -> Json {
    match node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Float(value) => value.into(),
        Value::Text(value) => value.into(),
        Value::List(all) => all.into_iter().map(json).collect(),
        Value::Map(fields) => fields.into_iter().map(|(key, node)| (key, json(node))).collect(),
    }
}

fn plain(key: &str) -> String {
    key.chars().filter(|&c| c != '_').flat_map(char::to_lowercase).collect()
}

fn unknown(key: &str, shape: Shape) -> String {
    match config::nearest(&plain(key), shape.iter().map(|(known, _)| *known)) {
        Some(near) => format!("no such key: did you mean `{near}` (with or without `_`)?"),
        None => "no such key".to_owned(),
    }
}

fn fault(node: &Node, key: &str, wanted: &str) -> Fault {
    Fault { at: node.at.clone(), key: key.to_owned(), value: String::new(), wanted: wanted.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_as(text: &str, ending: &str) -> Result<Vec<Json>, String> {
        let found = config::parse("f", ending, text).and_then(definitions).map_err(|fault| fault.to_string())?;
        Ok(found.services.into_iter().map(Json::Object).collect())
    }

    const HCL: &str = r#"
        service {
          name = "web"
          port = 80
          enable_tag_override = true
          meta = { my_key = "v" }
          tagged_addresses {
            lan_ipv4 {
              address = "1.2.3.4"
              port = 5
            }
          }
          check {
            id = "c"
            http = "http://localhost/"
            tls_skip_verify = true
            interval = "10s"
            header = { Host = ["a"] }
          }
          checks = [{ args = ["true"], interval = "1s" }]
        }"#;

    fn meant() -> Json {
        json!({
            "Name": "web", "Port": 80, "EnableTagOverride": true, "Meta": { "my_key": "v" },
            "TaggedAddresses": { "lan_ipv4": { "Address": "1.2.3.4", "Port": 5 } },
            "Check": { "CheckID": "c", "HTTP": "http://localhost/", "TLSSkipVerify": true, "Interval": "10s", "Header": { "Host": ["a"] } },
            "Checks": [{ "ScriptArgs": ["true"], "Interval": "1s" }],
        })
    }

    #[test]
    fn the_same_service_reads_the_same_from_all_three_formats() {
        assert_eq!(read_as(HCL, "hcl").expect("HCL"), [meant()]);
        let toml = r#"
            [[services]]
            Name = "web"
            port = 80
            EnableTagOverride = true
            meta.my_key = "v"
            tagged_addresses.lan_ipv4 = { address = "1.2.3.4", port = 5 }
            check = { id = "c", http = "http://localhost/", tls_skip_verify = true, interval = "10s", header = { Host = ["a"] } }
            [[services.checks]]
            args = ["true"]
            interval = "1s"
        "#;
        assert_eq!(read_as(toml, "toml").expect("TOML"), [meant()]);
        let json = json!({ "service": { "name": "web", "port": 80, "enable_tag_override": true, "meta": { "my_key": "v" },
            "tagged_addresses": { "lan_ipv4": { "address": "1.2.3.4", "port": 5 } },
            "check": [{ "id": "c", "http": "http://localhost/", "tls_skip_verify": true, "interval": "10s", "header": { "Host": ["a"] } }],
            "checks": [{ "args": ["true"], "interval": "1s" }], "socket_path": null } });
        assert_eq!(read_as(&json.to_string(), "json").expect("JSON"), [meant()]);
    }

    #[test]
    fn repeated_blocks_are_several_services() {
        let services = read_as("services {\nname = \"x\"\n}\nservices {\nname = \"y\"\n}\n", "hcl").expect("HCL");
        assert_eq!(services, [json!({ "Name": "x" }), json!({ "Name": "y" })]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, said) in [
            (r#"{"service": {"name": "x", "prot": 1}}"#, "f:1:35: service[0].prot: no such key: did you mean `port`"),
            (r#"{"services": [{"name": "x"}, {"name": "y", "check": {"htp": 1}}]}"#, "services[1].check.htp: no such key"),
            (r#"{"service": {"name": "x", "check": {"id": "a", "check_id": "b"}}}"#, "service[0].check.check_id: given twice"),
            (r#"{"service": {"name": "x", "weights": 1}}"#, "service[0].weights: must be one map"),
            (r#"{"service": {"port": 1}}"#, "service[0]: a service needs a `name`"),
            (r#"{"name": "x"}"#, "neither"),
            (r#"{"service": {"name": "#, "f:1:"),
            ("[]", "one map"),
        ] {
            let fault = read_as(text, "json").expect_err(text);
            assert!(fault.contains(said), "{text}: {fault}");
        }
        assert!(read_as("service {\n name = \n}", "hcl").expect_err("HCL").contains("f:2"));
        assert!(read_as("a = ", "toml").expect_err("TOML").contains("f:1"));
        assert!(read_as("", "yaml").expect_err("YAML").contains(".hcl"));
    }

    #[test]
    fn mesh_keys_and_lone_checks_are_left_aside_with_a_warning() {
        let text = r#"{"check": {}, "service": {"name": "x", "connect": {"native": true}, "check": {"ttl": "1s"}}}"#;
        let found = config::parse("f", "json", text).and_then(definitions).expect("a service");
        assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
        assert_eq!(found.services, [json!({ "Name": "x", "Check": { "TTL": "1s" } }).as_object().expect("an object").clone()]);
    }
}
