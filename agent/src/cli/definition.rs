//! Service definition files, brought into the form in which the API takes a registration.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::Error;
use super::input;

/// The services of one file, and what of it this command leaves aside.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    pub(crate) services: Vec<Map<String, Value>>,
    pub(crate) warnings: Vec<String>,
}

/// Ten thousand services with their checks are some 5 MB.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A definition nests four deep. The HCL parser descends by recursion, so that a file of brackets alone would end the program.
const NESTING_MAX: usize = 64;

/// How a key of a file becomes a key of the API.
#[derive(Clone, Copy)]
enum Becomes {
    /// The value goes over as it stands: words, numbers, lists, maps with keys of the user's own.
    Same(&'static str),
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

use Becomes::{Aside, List, Named, Object, Same};

const SERVICE: Shape = &[
    ("name", Same("Name")),
    ("id", Same("ID")),
    ("tags", Same("Tags")),
    ("address", Same("Address")),
    ("port", Same("Port")),
    ("ports", List("Ports", PORT)),
    ("socketpath", Same("SocketPath")),
    ("meta", Same("Meta")),
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
    ("header", Same("Header")),
    ("body", Same("Body")),
    ("disableredirects", Same("DisableRedirects")),
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
    let fault = |fault| Error::File { path: path.to_owned(), fault };
    let bytes = input::file(path, FILE_BYTES_MAX)?;
    let text = str::from_utf8(&bytes).map_err(|error| fault(format!("is no UTF-8 text: {error}")))?;
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    definitions(parse(text, ending).map_err(fault)?).map_err(fault)
}

fn parse(text: &str, ending: &str) -> Result<Value, String> {
    match ending {
        "json" => serde_json::from_str(text).map_err(|error| error.to_string()),
        "toml" => toml::from_str(text).map_err(|error| error.to_string()),
        "hcl" if nesting(text) > NESTING_MAX => Err(format!("nests deeper than {NESTING_MAX} brackets")),
        "hcl" => hcl::from_str(text).map_err(|error| error.to_string()),
        _ => Err("ends neither in .json nor .hcl nor .toml".to_owned()),
    }
}

fn definitions(file: Value) -> Result<Definitions, String> {
    let Value::Object(file) = file else { return Err("is no object".to_owned()) };
    let mut found = Definitions::default();
    for (key, value) in file {
        match plain(&key).as_str() {
            "service" | "services" => {
                for (at, service) in many(value).into_iter().enumerate() {
                    let place = format!("{key}[{at}]");
                    found.services.push(object(service, SERVICE, &place, &mut found.warnings)?);
                }
            }
            "check" | "checks" => found.warnings.push(format!("`{key}` outside of a service is not registered by this command")),
            _ => {} // a whole agent configuration may hold services too; the rest of it is the agent's
        }
    }
    if found.services.is_empty() {
        return Err("has neither `service` nor `services` in it".to_owned());
    }
    for service in &found.services {
        if service.get("Name").and_then(Value::as_str).unwrap_or_default().is_empty() {
            return Err("has a service without a `name`".to_owned());
        }
    }
    Ok(found)
}

fn object(value: Value, shape: Shape, place: &str, warnings: &mut Vec<String>) -> Result<Map<String, Value>, String> {
    let Value::Object(fields) = value else { return Err(format!("{place} is no object")) };
    let mut out = Map::new();
    for (key, value) in fields {
        let here = format!("{place}.{key}");
        let Some((_, becomes)) = shape.iter().find(|(known, _)| *known == plain(&key)) else {
            let known: Vec<&str> = shape.iter().map(|(known, _)| *known).collect();
            return Err(format!("{here} is no key that is known there; known are (`_` left out): {}", known.join(", ")));
        };
        if value.is_null() {
            continue;
        }
        let (name, value) = match *becomes {
            Same(name) => (name, value),
            Object(name, inner) => (name, Value::Object(object(only(value, &here)?, inner, &here, warnings)?)),
            List(name, inner) => {
                let all = many(value).into_iter().map(|one| object(one, inner, &here, warnings).map(Value::Object));
                (name, Value::Array(all.collect::<Result<_, _>>()?))
            }
            Named(name, inner) => {
                let Value::Object(named) = only(value, &here)? else { return Err(format!("{here} is no object")) };
                let all = named.into_iter().map(|(own, one)| {
                    let there = format!("{here}.{own}");
                    Ok((own, Value::Object(object(only(one, &there)?, inner, &there, warnings)?)))
                });
                (name, Value::Object(all.collect::<Result<_, String>>()?))
            }
            Aside => {
                warnings.push(format!("{here} is left out: muster has no service mesh and no namespaces"));
                continue;
            }
        };
        if out.insert(name.to_owned(), value).is_some() {
            return Err(format!("{here} is given twice"));
        }
    }
    Ok(out)
}

/// HCL has a block once as an object, several times as a list.
fn many(value: Value) -> Vec<Value> {
    match value {
        Value::Array(all) => all,
        one => vec![one],
    }
}

/// Old HCL and its JSON write one object as a list of one.
fn only(value: Value, place: &str) -> Result<Value, String> {
    match value {
        Value::Array(mut all) if all.len() == 1 => Ok(all.remove(0)),
        Value::Array(_) => Err(format!("{place} is given more than once")),
        one => Ok(one),
    }
}

fn plain(key: &str) -> String {
    key.chars().filter(|&c| c != '_').flat_map(char::to_lowercase).collect()
}

/// The deepest nesting of brackets, those in texts and comments included: an estimate from above.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_as(text: &str, ending: &str) -> Result<Vec<Value>, String> {
        definitions(parse(text, ending)?).map(|found| found.services.into_iter().map(Value::Object).collect())
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

    fn meant() -> Value {
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
            (r#"{"service": {"name": "x", "prot": 1}}"#, "service[0].prot"),
            (r#"{"services": [{"name": "x"}, {"name": "y", "check": {"htp": 1}}]}"#, "services[1].check.htp"),
            (r#"{"service": {"name": "x", "check": {"id": "a", "check_id": "b"}}}"#, "twice"),
            (r#"{"service": {"name": "x", "weights": 1}}"#, "service[0].weights is no object"),
            (r#"{"service": {"port": 1}}"#, "without a `name`"),
            (r#"{"name": "x"}"#, "neither"),
            (r#"{"service": {"name": "#, "line 1 column"),
            ("[]", "no object"),
        ] {
            let fault = read_as(text, "json").expect_err(text);
            assert!(fault.contains(said), "{text}: {fault}");
        }
        assert!(read_as("service {\n name = \n}", "hcl").expect_err("HCL").contains('2'));
        assert!(read_as("a = ", "toml").expect_err("TOML").contains("line 1"));
        assert!(read_as("", "yaml").is_err());
    }

    #[test]
    fn a_file_of_brackets_is_refused_before_it_is_parsed() {
        for ending in ["hcl", "json", "toml"] {
            assert!(read_as(&format!("a = {}", "[".repeat(1_000_000)), ending).is_err(), "{ending}");
        }
        assert!(read_as(&"[".repeat(1_000_000), "json").is_err());
    }

    #[test]
    fn mesh_keys_and_lone_checks_are_left_aside_with_a_warning() {
        let text = r#"{"check": {}, "service": {"name": "x", "connect": {"native": true}, "check": {"ttl": "1s"}}}"#;
        let found = definitions(parse(text, "json").expect("JSON")).expect("a service");
        assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
        assert_eq!(found.services, [json!({ "Name": "x", "Check": { "TTL": "1s" } }).as_object().expect("an object").clone()]);
    }
}
