//! Definitions in both dialects: what is taken, and each refusal in its words.

use std::time::Duration;

use muster_catalog::{
    AliasProbe, CheckDefinition, DockerProbe, GrpcProbe, OsServiceProbe, Probe, Status, TcpProbe, UdpProbe, Weights,
};

use super::*;

const LIMITS: DefinitionLimits = DefinitionLimits { output_bytes_max: 4096, scripts: false };
const SCRIPTS: DefinitionLimits = DefinitionLimits { output_bytes_max: 4096, scripts: true };

fn service(body: &str) -> ServiceDefinition {
    service_from_body(body.as_bytes(), SCRIPTS).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn refusal(body: &str) -> String {
    service_from_body(body.as_bytes(), LIMITS).expect_err(body).to_string()
}

fn check(body: &str) -> CheckDefinition {
    check_from_body(body.as_bytes(), SCRIPTS).unwrap_or_else(|error| panic!("{body}: {error}")).check
}

fn check_refusal(body: &str) -> String {
    check_from_body(body.as_bytes(), LIMITS).expect_err(body).to_string()
}

fn tagged(definition: &ServiceDefinition) -> Vec<String> {
    let tagged = &definition.service.tagged_addresses;
    tagged.iter().map(|(name, at)| format!("{name}={}:{}", at.address, at.port)).collect()
}

#[test]
fn every_field_of_a_registration_arrives() {
    let definition = service(
        r#"{"ID":"full-1","Name":"full","Tags":["b","a","b"],"Address":"198.51.100.7","Port":8081,
        "TaggedAddresses":{"lan":{"address":"198.51.100.7","port":8081},"wan":{"Address":"203.0.113.9","Port":80}},
        "Meta":{"version":"4","with-dash_":"x y"},"Weights":{"Passing":10,"Warning":3},"EnableTagOverride":true,
        "SocketPath":"/s","Token":"t","Locality":{"Region":"r","Zone":"z"},"Ports":[{"Name":"p","Port":9,"Default":true}],
        "Check":{"CheckID":"full-ttl","Name":"full ttl","TTL":"30m","Notes":"some notes","Status":"passing"}}"#,
    );
    let full = &definition.service;
    assert_eq!((full.id.as_str(), full.name.as_str(), full.port), ("full-1", "full", 8081));
    assert_eq!(full.tags, ["b", "a", "b"]);
    assert_eq!(
        tagged(&definition),
        ["lan=198.51.100.7:8081", "lan_ipv4=198.51.100.7:8081", "wan=203.0.113.9:80", "wan_ipv4=198.51.100.7:8081"]
    );
    assert_eq!((full.meta["version"].as_str(), full.meta["with-dash_"].as_str()), ("4", "x y"));
    assert_eq!(full.weights, Weights { passing: 10, warning: 3 });
    assert!(full.enable_tag_override);
    assert_eq!((full.socket_path.as_str(), definition.token.as_str()), ("/s", "t"));
    let rare = full.rare.as_ref().unwrap();
    assert_eq!(rare.locality.as_ref().unwrap().zone, "z");
    assert_eq!((rare.ports[0].name.as_str(), rare.ports[0].port, rare.ports[0].default), ("p", 9, true));
    let check = &definition.checks[0];
    assert_eq!((check.id.as_str(), check.name.as_str(), check.notes.as_str()), ("full-ttl", "full ttl", "some notes"));
    assert_eq!((&check.probe, &check.status), (&Probe::Ttl(Duration::from_secs(1800)), &Some(Status::Passing)));
    assert_eq!(check.service_id.as_ref().unwrap().as_str(), "full-1");
}

#[test]
fn keys_match_in_any_case_and_in_snake_case() {
    let definition = service(
        r#"{"id":"snake-1","NAME":"snake","tagged_addresses":{"wan":{"address":"203.0.113.10","port":81}},
        "weights":{"passing":2,"warning":1},"enable_tag_override":true,"socket_path":"/x","PORT":7,
        "checks":[{"checkid":"a","name":"a","ttl":"20m","deregister_critical_service_after":"90m"},
                  {"ttl":"21m","status":"warning"},
                  {"http":"http://x/","interval":"10s","tls_skip_verify":true,"TLSServerName":"n","script_args":[]}]}"#,
    );
    assert_eq!((definition.service.port, definition.service.enable_tag_override), (7, true));
    let [a, b, c] = definition.checks.as_slice() else { panic!("three checks") };
    assert_eq!((a.id.as_str(), a.deregister_critical_service_after), ("a", Some(Duration::from_secs(5400))));
    assert_eq!(
        (b.id.as_str(), b.name.as_str(), &b.status),
        ("service:snake-1:2", "Service 'snake' check", &Some(Status::Warning))
    );
    let Probe::Http(http) = &c.probe else { panic!("an HTTP check") };
    assert_eq!((c.id.as_str(), http.tls_skip_verify, http.tls_server_name.as_str()), ("service:snake-1:3", true, "n"));
    assert_eq!(service(r#"{"Name":"one","Check":{"TTL":"1m"}}"#).checks[0].id.as_str(), "service:one");
}

#[test]
fn an_address_fills_the_tagged_ones_of_its_family() {
    assert_eq!(
        tagged(&service(r#"{"Name":"x","Address":"198.51.100.9","Port":90}"#)),
        ["lan_ipv4=198.51.100.9:90", "wan_ipv4=198.51.100.9:90"]
    );
    assert_eq!(
        tagged(&service(r#"{"Name":"x","Address":"2001:db8::9","Port":90}"#)),
        ["lan_ipv6=2001:db8::9:90", "wan_ipv6=2001:db8::9:90"]
    );
    assert!(tagged(&service(r#"{"Name":"x","Address":"host.example","Port":90}"#)).is_empty());
    assert_eq!(
        tagged(&service(r#"{"Name":"x","TaggedAddresses":{"custom":{"Address":"0.0.0.0","Port":2}}}"#)),
        ["custom=0.0.0.0:2"]
    );
}

#[test]
fn odd_bodies_are_taken_as_consul_takes_them() {
    let odd = service(r#"{"Name":"x","Tags":null,"Meta":null,"Check":null,"Checks":null,"Weights":null}"#);
    assert_eq!((odd.service.weights, odd.checks.len()), (Weights { passing: 1, warning: 1 }, 0));
    assert_eq!(service(r#"{"Name":"x"} trailing"#).service.name.as_str(), "x");
    assert_eq!(service(r#"{"Name":"x","Port":-1}"#).service.port, -1);
    assert_eq!(service(r#"{"Name":"x","Port":70000}"#).service.port, 70_000);
    assert_eq!(service(r#"{"Name":"x","Weights":{"Passing":5}}"#).service.weights, Weights { passing: 5, warning: 0 });
    assert!(service(r#"{"Name":"x","Check":{}}"#).checks.is_empty());
    let mesh = service(r#"{"Name":"x","Kind":"no-such-kind","Connect":{},"Proxy":{"a":[1]}}"#);
    assert_eq!(mesh.warnings, ["service x: without effect, because muster has no mesh: Kind, Proxy, Connect"]);
    assert_eq!(mesh.service.rare.unwrap().kind, "no-such-kind");
    let name = service(r#"{"Name":"ga odd/6 ç","ID":"6","Tags":["a_b"]}"#);
    assert_eq!(name.warnings.len(), 2, "{:?}", name.warnings);
    assert!(name.warnings[0].contains("cannot be looked up over DNS"));
}

#[test]
fn refusals_of_a_service_have_consuls_words() {
    for (body, expected) in [
        ("", "Request decode failed: EOF"),
        ("{", "Request decode failed: unexpected EOF"),
        ("[]", "Request decode failed: json: cannot unmarshal array into Go value of type struct"),
        ("null", "Missing service name"),
        ("{}", "Missing service name"),
        (r#"{"ID":"x"}"#, "Missing service name"),
        (r#"{"Name":""}"#, "Missing service name"),
        (r#"{"Name":"x","Bogus":1}"#, r#"Request decode failed: json: unknown field "Bogus""#),
        (
            r#"{"Name":"x","Namespace":"n"}"#,
            r#"Request decode failed: json: unknown field "Namespace" - Namespaces are a Consul Enterprise feature"#,
        ),
        (
            r#"{"Name":"x","Port":"80"}"#,
            "Request decode failed: json: cannot unmarshal string into Go struct field .Port of type int",
        ),
        (
            r#"{"Name":"x","Port":1.5}"#,
            "Request decode failed: json: cannot unmarshal number 1.5 into Go struct field .Port of type int",
        ),
        (
            r#"{"Name":"x","Tags":"one"}"#,
            "Request decode failed: json: cannot unmarshal string into Go struct field .Tags of type []string",
        ),
        (r#"{"Name":"x","Address":"0.0.0.0"}"#, "Invalid service address"),
        (r#"{"Name":"x","Address":"::"}"#, "Invalid service address"),
        (r#"{"Name":"x","Address":"[::]"}"#, "Invalid service address"),
        (r#"{"Name":"x","Weights":{"Passing":-1,"Warning":1}}"#, "Invalid Weights: Passing must be greater than 0"),
        (r#"{"Name":"x","Weights":{"Passing":0,"Warning":1}}"#, "Invalid Weights: Passing must be greater than 0"),
        (r#"{"Name":"x","Weights":{"Passing":1,"Warning":-1}}"#, "Invalid Weights: Warning must be greater or equal than 0"),
        (r#"{"Name":"x","Weights":{"Passing":70000,"Warning":1}}"#, "Invalid Weights: DNS Weight must be between 0 and 65535"),
        (
            r#"{"Name":"x","Meta":{"consul-x":"1"}}"#,
            "Invalid Service Meta: Couldn't load metadata pair ('consul-x', '1'): Key prefix 'consul-' is reserved for internal use",
        ),
        (
            r#"{"Name":"x","Meta":{"bad key":"1"}}"#,
            "Invalid Service Meta: Couldn't load metadata pair ('bad key', '1'): Key contains invalid characters",
        ),
        (r#"{"Name":"x","Meta":{"":"v"}}"#, "Invalid Service Meta: Couldn't load metadata pair ('', 'v'): Key cannot be blank"),
        (
            r#"{"Name":"x","Check":{"TTL":"10s","Interval":"10s","HTTP":"http://x/"}}"#,
            "Invalid check: Interval and TTL cannot both be specified",
        ),
        (r#"{"Name":"x","Check":{"HTTP":"http://x/"}}"#, "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks"),
        (r#"{"Name":"x","Check":{"Name":"empty"}}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"x","Checks":[{}]}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"x","Check":{"TTL":"xyz"}}"#, r#"Request decode failed: time: invalid duration "xyz""#),
        (r#"{"Name":"x","Check":{"TTL":"10m","Status":"fine"}}"#, "Status for checks must 'passing', 'warning', 'critical'"),
        (
            r#"{"Name":"x","Check":{"Args":["true"],"Interval":"10s"}}"#,
            "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true",
        ),
        (r#"{"Name":"x","Check":{"Interval":"10s"}}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"x","check":{"check_id":"a","ttl":"20m"}}"#, r#"Request decode failed: json: unknown field "check_id""#),
        (r#"{"Name":"x","check":{"id":"a","ttl":"20m"}}"#, r#"Request decode failed: json: unknown field "id""#),
    ] {
        assert_eq!(refusal(body), expected, "{body}");
    }
    let long = |text: &str| refusal(&format!(r#"{{"Name":"x","Meta":{{{text}}}}}"#));
    assert!(long(&format!(r#""k":"{}""#, "v".repeat(513))).ends_with("Value is too long (limit: 512 characters)"));
    assert!(long(&format!(r#""{}":"v""#, "k".repeat(129))).ends_with("Key is too long (limit: 128 characters)"));
    let pairs: Vec<String> = (0..65).map(|n| format!(r#""k{n}":"v""#)).collect();
    assert_eq!(long(&pairs.join(",")), "Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs");
    assert!(refusal(r#"{"Name":"a\nb"}"#).starts_with("Invalid service name or ID: "));
}

#[test]
fn refusals_of_a_check_have_consuls_words() {
    let interval = "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks";
    let later_interval = "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks";
    for (body, expected) in [
        ("", "Request decode failed: EOF"),
        ("{}", "Missing check name"),
        (r#"{"ID":"c"}"#, "Missing check name"),
        (r#"{"Name":"c","TTL":"10m","Status":"green"}"#, "Bad check status"),
        (r#"{"Name":"c"}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"c","HTTP":"http://x/ok"}"#, interval),
        (r#"{"Name":"c","TCP":"x:1"}"#, interval),
        (r#"{"Name":"c","GRPC":"x:1"}"#, interval),
        (r#"{"Name":"c","TTL":"10s","HTTP":"http://x/ok"}"#, interval),
        (r#"{"Name":"c","AliasService":"s","Interval":"10s"}"#, "Invalid check: Interval cannot be set for Alias checks"),
        (r#"{"Name":"c","AliasService":"s","TTL":"10s"}"#, "Invalid check: TTL must be not be set for Alias checks"),
        (r#"{"Name":"c","Args":[],"Interval":"1s"}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"c","Script":"/bin/true","Interval":"10s"}"#, r#"Request decode failed: json: unknown field "Script""#),
        (r#"{"Name":"c","TTL":-10}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"c","TTL":"-10s"}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"c","TTL":"10m","check_id":"c"}"#, r#"Request decode failed: json: unknown field "check_id""#),
        (r#"{"Name":"c","TTL":"10m","CheckID":"c"}"#, r#"Request decode failed: json: unknown field "CheckID""#),
        (r#"{"Name":"c","TTL":"10m","Unknown":true}"#, r#"Request decode failed: json: unknown field "Unknown""#),
        (
            r#"{"Name":"c","TTL":"10m","DeregisterCriticalServiceAfter":"oops"}"#,
            r#"Request decode failed: time: invalid duration "oops""#,
        ),
        (r#"{"Name":"c","TTL":"10m","OutputMaxSize":-1}"#, "Invalid check: MaxOutputMaxSize must be positive"),
        (r#"{"Name":"c","UDP":"x:1"}"#, later_interval),
        (r#"{"Name":"c","H2PING":"x:1","Interval":"0s"}"#, later_interval),
        (r#"{"Name":"c","OSService":"x","Interval":-1}"#, later_interval),
        (r#"{"Name":"c","UDP":"x:1","Interval":"1s","TTL":"1s"}"#, "Invalid check: Interval and TTL cannot both be specified"),
        (r#"{"Name":"c","DockerContainerID":"x","Interval":"1s"}"#, "Invalid check: TTL must be > 0 for TTL checks"),
        (r#"{"Name":"c","DockerContainerID":"x","Args":["a"]}"#, interval),
        (
            r#"{"Name":"c","DockerContainerID":"x","Args":["a"],"Interval":"1s"}"#,
            "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true",
        ),
        (
            r#"{"Name":"c","H2PING":"x:1","H2PingUseTLS":"no","Interval":"1s"}"#,
            "Request decode failed: json: cannot unmarshal string into Go struct field .H2PingUseTLS of type bool",
        ),
        (r#"{"Name":"c","UDP":"x:1","Interval":"1s","OutputMaxSize":-1}"#, "Invalid check: MaxOutputMaxSize must be positive"),
        (
            r#"{"Name":"c","TTL":"1m","FailuresBeforeWarning":3,"FailuresBeforeCritical":2}"#,
            "Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
        ),
        (r#"{"Name":"c","TTL":"1m","SuccessBeforePassing":-1}"#, "Invalid check: SuccessBeforePassing must not be negative"),
        (
            r#"{"Name":"c","ScriptArgs":["/bin/true"],"Interval":"10s"}"#,
            "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true",
        ),
    ] {
        assert_eq!(check_refusal(body), expected, "{body}");
    }
}

#[test]
fn durations_are_text_or_nanoseconds_and_short_ones_are_raised() {
    assert_eq!(check(r#"{"Name":"c","TTL":600000000000}"#).probe, Probe::Ttl(Duration::from_secs(600)));
    assert_eq!(check(r#"{"Name":"c","TTL":10}"#).probe, Probe::Ttl(Duration::from_nanos(10)));
    let raised = check(r#"{"Name":"c","TCP":"x:1","Interval":"10ms","Timeout":"3s","DeregisterCriticalServiceAfter":"1s"}"#);
    assert_eq!((raised.interval, raised.timeout), (Duration::from_secs(1), Some(Duration::from_secs(3))));
    assert_eq!(raised.deregister_critical_service_after, Some(Duration::from_secs(60)));
    assert_eq!(check(r#"{"Name":"c","TTL":"1m"}"#).timeout, None);
}

#[test]
fn each_kind_of_check_becomes_its_probe() {
    let http = check(
        r#"{"Name":"c d","HTTP":"https://x/","Interval":"10s","Method":"POST","Header":{"X":["a","b"]},"Body":"p",
        "DisableRedirects":true,"follow_foreign_redirects":true,"OutputMaxSize":100,"FailuresBeforeCritical":3,
        "SuccessBeforePassing":2,"ServiceID":"s"}"#,
    );
    assert_eq!((http.id.as_str(), http.output_bytes_max, http.failures_before_critical), ("c d", 100, 3));
    assert_eq!((http.failures_before_warning, http.success_before_passing), (None, 2));
    assert_eq!(http.service_id.unwrap().as_str(), "s");
    let Probe::Http(probe) = http.probe else { panic!("an HTTP check") };
    assert_eq!((probe.method.as_str(), probe.body.as_str(), probe.header["X"].len()), ("POST", "p", 2));
    assert!(probe.disable_redirects && probe.follow_foreign_redirects);
    let Probe::Exec(exec) = check(r#"{"Name":"c","Args":["/bin/true","x"],"Interval":"10s","OutputMaxSize":9999}"#).probe else {
        panic!("a script check")
    };
    assert_eq!(exec.args, ["/bin/true", "x"]);
    let grpc =
        check(r#"{"Name":"c","GRPC":"h:1/s","GRPCUseTLS":true,"TLSServerName":"n","TLSSkipVerify":true,"Interval":"10s"}"#);
    let told = GrpcProbe { target: "h:1/s".into(), tls: true, tls_server_name: "n".into(), tls_skip_verify: true };
    assert_eq!(grpc.probe, Probe::Grpc(told));
    let told = |tls| TcpProbe { address: "h:1".into(), tls, ..TcpProbe::default() };
    assert_eq!(check(r#"{"Name":"c","h2ping":"h:1","interval":"10s"}"#).probe, Probe::H2Ping(told(true)));
    let plain = check(r#"{"Name":"c","H2PING":"h:1","h2ping_use_tls":false,"Interval":"10s"}"#).probe;
    assert_eq!(plain, Probe::H2Ping(told(false)));
    let udp = check(r#"{"Name":"c","UDP":"h:1","Interval":"10s"}"#).probe;
    assert_eq!(udp, Probe::Udp(UdpProbe { address: "h:1".into() }));
    let docker = check(r#"{"Name":"c","DockerContainerID":"x","Shell":"/bin/sh","ScriptArgs":["a"],"Interval":"10s"}"#).probe;
    assert_eq!(docker, Probe::Docker(DockerProbe { container: "x".into(), args: vec!["a".into()] }));
    let service = check(r#"{"Name":"c","OSService":"x","Interval":"10s"}"#).probe;
    assert_eq!(service, Probe::OsService(OsServiceProbe { name: "x".into() }));
    let alias = check(r#"{"Name":"c","alias_service":"s","AliasNode":"n"}"#).probe;
    assert_eq!(alias, Probe::Alias(AliasProbe { node: Some("n".parse().unwrap()), service: Some("s".parse().unwrap()) }));
    assert_eq!(check(r#"{"Name":"c","TTL":"1m","OutputMaxSize":9999}"#).output_bytes_max, 4096);
}

#[test]
fn an_address_that_cannot_be_asked_and_a_second_kind_are_warned_about() {
    let body = r#"{"Name":"c","HTTP":"localhost:80","TCP":"x:1","Interval":"10s"}"#;
    let warnings = check_from_body(body.as_bytes(), LIMITS).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let inside = service(&format!(r#"{{"Name":"x","Check":{}}}"#, body.replace(r#""Name":"c","#, "")));
    assert_eq!(inside.warnings.len(), 2, "{:?}", inside.warnings);
}

#[test]
fn verdicts_are_read_and_checked() {
    let read = |body: &str| update_from_body(body.as_bytes()).map_err(|error| error.to_string());
    assert_eq!(read(r#"{"Status":"warning","Output":"o"}"#), Ok(CheckUpdate { status: "warning".into(), output: "o".into() }));
    assert_eq!(read(r#"{"Status":"bad"}"#).unwrap_err(), "Invalid check status: 'bad'");
    assert_eq!(read(r#"{"Output":"x"}"#).unwrap_err(), "Invalid check status: ''");
    assert_eq!(read("").unwrap_err(), "Request decode failed: EOF");
    assert_eq!(read(r#"{"Status":"passing","Extra":1}"#).unwrap_err(), r#"Request decode failed: json: unknown field "Extra""#);
}

proptest::proptest! {
    #[test]
    fn no_body_panics(tokens in proptest::collection::vec(proptest::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"Name\"", "\"Check\"", "\"TTL\"", "\"10s\"", "\"Meta\"", "1", "-1e30", "null", "true", "\"x\"",
    ]), 0..30)) {
        let body: String = tokens.concat();
        let _ = service_from_body(body.as_bytes(), LIMITS);
        let _ = check_from_body(body.as_bytes(), LIMITS);
        let _ = update_from_body(body.as_bytes());
    }
}
