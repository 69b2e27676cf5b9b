//! The whole way from files and flags to a configuration.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::merge::Written;
use super::reload::Reloaded;
use super::settled::Replica;
use super::*;

fn host() -> Host {
    Host::with("host-1", "eth0", "10.0.0.5/24")
}

fn flags(args: &[&str]) -> AgentFlags {
    AgentFlags::parse(args.iter().map(OsString::from)).unwrap()
}

fn load_args(args: &[&str]) -> Result<Loaded, String> {
    load(&flags(args), &host()).map_err(|faults| faults.to_string())
}

/// A file of that name with that text, beside flags that make it enough to start.
fn load_text(name: &str, text: &str) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    load_args(&["-server", "-bootstrap", "-data-dir", "/x", "-config-file", path])
        .map_err(|message| message.replace(&format!("{}/", dir.path().display()), ""))
}

fn faults(text: &str) -> Vec<String> {
    let message = load_text("f.toml", text).unwrap_err();
    message.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn dev_needs_nothing_else() {
    let loaded = load_args(&["-dev"]).unwrap();
    let config = loaded.config;
    assert!(config.server && config.bootstrap && config.http.pretty && config.data_dir.is_none() && config.enable_debug);
    assert_eq!(config.addresses.advertise, IpAddr::from([127, 0, 0, 1]));
    assert_eq!(config.addresses.http, [Listen::Tcp("127.0.0.1:8500".parse().unwrap())]);
    assert_eq!((config.log.level, config.raft.multiplier, config.node_name.as_str()), ("debug", 1, "host-1"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn what_is_missing_is_said_once_for_all() {
    let message = load_args(&[]).unwrap_err();
    assert_eq!(
        message,
        "the configuration has 1 fault:\n  \
         configuration: data_dir: must be given (flag -data-dir), or start with -dev to keep everything in memory"
    );
}

#[test]
fn flags_win_over_files_and_files_over_defaults() {
    let loaded = load_text("f.toml", "data_dir = \"/from-file\"\ndatacenter = \"Paris\"\n[ports]\nhttp = 1\ndns = 2\n").unwrap();
    assert_eq!(loaded.config.data_dir.as_deref(), Some(Path::new("/x")));
    assert_eq!(loaded.config.datacenter, "paris");
    assert_eq!(loaded.config.addresses.dns, ["127.0.0.1:2".parse().unwrap()]);
    assert_eq!(loaded.config.addresses.advertise, IpAddr::from([10, 0, 0, 5]));
    assert_eq!(loaded.config.addresses.server, Some("0.0.0.0:8300".parse().unwrap()));
}

#[test]
fn all_faults_of_all_files_are_told_together() {
    assert_eq!(
        faults(
            "nodename = \"a\"\nlog_level = 3\n[ports]\ndns = \"x\"\nhtp = 1\nhttp = 70000\n[dns_config]\nnode_ttl = \"5 s\"\n"
        ),
        [
            "f.toml:1:1: nodename = \"a\": unknown key; did you mean node_name?",
            "f.toml:2:1: log_level = 3: must be a text",
            "f.toml:4:1: ports.dns = \"x\": must be a whole number",
            "f.toml:5:1: ports.htp = 1: unknown key; did you mean http?",
            "f.toml:6:1: ports.http = 70000: must be between -1 and 65535",
            "f.toml:8:1: dns_config.node_ttl = \"5 s\": must be a duration such as \"10s\" or \"1h30m\"",
        ]
    );
}

#[test]
fn the_keys_that_test_kits_write_are_enough() {
    let text = r#"{
        "node_name": "node-5c9d", "node_id": "6F9619FF-8b86-d011-b42d-00c04fc964ff", "bootstrap": true, "server": true,
        "data_dir": "/tmp/x", "log_level": "WARN", "bind_addr": "127.0.0.1", "version": "", "disable_update_check": true,
        "skip_leave_on_interrupt": true, "performance": {"raft_multiplier": 1}, "segments": null, "addresses": {},
        "ports": {"dns": 1, "http": 2, "https": -1, "serf_lan": 4, "serf_wan": 5, "server": 6, "grpc": 7, "grpc_tls": -1},
        "acl": {"enabled": false, "default_policy": "", "tokens": {}},
        "connect": {"enabled": true, "ca_config": {"cluster_id": "x"}}, "peering": {"enabled": true}
    }"#;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kit.json");
    std::fs::write(&path, text).unwrap();
    let loaded = load_args(&["-config-file", path.to_str().unwrap()]).unwrap();
    let config = loaded.config;
    assert_eq!(config.node_name.as_str(), "node-5c9d");
    assert_eq!(config.node_id.unwrap().to_string(), "6f9619ff-8b86-d011-b42d-00c04fc964ff");
    assert_eq!(config.addresses.http, [Listen::Tcp("127.0.0.1:2".parse().unwrap())]);
    assert_eq!((config.addresses.serf_lan.unwrap().port(), config.addresses.serf_wan.unwrap().port()), (4, 5));
    assert!(config.skip_leave_on_interrupt && !config.leave_on_terminate && config.bootstrap);
    assert_eq!(
        loaded.warnings,
        ["accepted and ignored, because muster leaves these parts of Consul out: connect, peering, segments"]
    );
}

#[test]
fn the_keys_that_some_kits_write_work_too() {
    let loaded = load_text(
        "f.json",
        r#"{"datacenter": "dc1", "primary_datacenter": "dc1", "addresses": {"http": "unix:///run/m.sock"}, "enable_debug": true,
        "unix_sockets": {"mode": "0770", "user": "u"}, "enable_script_checks": true, "acl": {"tokens": {"master": "m"}},
        "autopilot": {"server_stabilization_time": "1s"}, "node_meta": {"k": "v"}, "raft_protocol": 3, "recursors": ["8.8.8.8"],
        "session_ttl_min": "1s", "dns_config": {"service_ttl": {"gt-*": "13s"}, "soa": {"min_ttl": 30}}, "ca_file": "/x",
        "retry_join": [], "encrypt": "", "verify_incoming_https": false, "ports": {"http": -1, "https": 8501},
        "telemetry": {"prometheus_retention_time": "60s", "disable_hostname": true, "prefix_filter": ["+a", "-b"]},
        "limits": {"kv_max_value_size": 1000}, "http_config": {"block_endpoints": ["/v1/kv/blocked"], "response_headers": {"X-G": "y"},
        "allow_write_http_from": ["10.0.0.0/8"]}}"#,
    )
    .unwrap();
    let config = loaded.config;
    assert_eq!(config.addresses.http, [Listen::Unix("/run/m.sock".into())]);
    assert_eq!(config.addresses.unix_sockets, UnixSockets { user: Some("u".into()), group: None, mode: Some(0o770) });
    assert_eq!(config.dns.service_ttl["gt-*"], Duration::from_secs(13));
    assert_eq!((config.dns.soa.min_ttl, config.dns.soa.refresh), (30, 3600));
    assert_eq!(config.telemetry.prefix_filter, [(true, "a".to_owned()), (false, "b".to_owned())]);
    assert_eq!(config.http.kv_max_value_size, 1000);
    assert_eq!(config.dns.recursors, ["8.8.8.8:53".parse().unwrap()]);
    let warnings = loaded.warnings.join("\n");
    assert!(warnings.contains(": ca_file, primary_datacenter"), "{warnings}");
    assert_eq!(config.cluster.autopilot.server_stabilization_time, Duration::from_secs(1));
    assert!(warnings.contains("ports.https = 8501 is not opened"), "{warnings}");
    assert!(warnings.contains("enable_script_checks lets everybody"), "{warnings}");
}

#[test]
fn what_would_be_unsafe_to_ignore_is_refused() {
    for (text, key) in [
        ("acl = { enabled = true }", "acl.enabled = true"),
        ("acl_datacenter = \"dc1\"", "acl_datacenter = \"dc1\""),
        ("acl_default_policy = \"deny\"", "acl_default_policy = \"deny\""),
        ("acl = { default_policy = \"deny\" }", "acl.default_policy = \"deny\""),
        ("verify_incoming = true", "verify_incoming = true"),
        ("verify_incoming_rpc = true", "verify_incoming_rpc = true"),
        ("verify_incoming_https = true", "verify_incoming_https = true"),
        ("verify_outgoing = true", "verify_outgoing = true"),
        ("tls = { defaults = { verify_incoming = true } }", "tls.defaults.verify_incoming = true"),
        ("cert_file = \"/c\"\nports = { https = 8501 }", "ports.https = 8501"),
        ("retry_join_wan = [\"10.0.0.1\"]", "retry_join_wan = \"10.0.0.1\""),
        ("serf_lan_allowed_cidrs = [\"10.0.0.0/8\"]", "serf_lan_allowed_cidrs = \"10.0.0.0/8\""),
    ] {
        let all = faults(text);
        assert!(all.iter().any(|fault| fault.contains(&format!(": {key}: "))), "{text}: {all:?}");
    }
    assert!(load_text("f.toml", "acl = { enabled = false, default_policy = \"deny\" }").is_ok());
}

/// What files and flags without a role mean.
fn load_cluster(args: &[&str]) -> Result<Loaded, String> {
    load_args(&[&["-data-dir", "/x"], args].concat())
}

#[test]
fn an_agent_is_a_client_unless_it_is_told_to_be_a_server() {
    let client = load_cluster(&["-retry-join", "10.0.0.1"]).unwrap();
    let config = client.config;
    assert!(!config.server && !config.bootstrap && config.cluster.bootstrap_expect == 0);
    assert!(config.leave_on_terminate && !config.skip_leave_on_interrupt, "it leaves when it is stopped");
    assert_eq!(config.cluster.replica, Replica::Full);
    assert_eq!(client.warnings, Vec::<String>::new());
    let lonely = load_cluster(&["-server=false"]).unwrap();
    assert!(lonely.warnings[0].starts_with("retry_join is not set: "), "{:?}", lonely.warnings);
    let server = load_cluster(&["-server"]).unwrap();
    assert!(!server.config.leave_on_terminate && server.config.skip_leave_on_interrupt, "it stays a member");
    assert!(server.warnings[0].contains("waits for a leader"), "{:?}", server.warnings);
    let dev = load_args(&["-dev", "-server=false"]).unwrap().config;
    assert!(!dev.server && !dev.bootstrap);
    for flag in ["-bootstrap", "-bootstrap-expect=3"] {
        let message = load_cluster(&["-server=false", flag]).unwrap_err();
        assert!(message.contains("only a server makes a cluster: set server = true"), "{message}");
    }
    let message = load_cluster(&["-serf-lan-port=-1"]).unwrap_err();
    assert!(message.contains("ports.serf_lan = -1: must be a port: a client agent needs it"), "{message}");
}

#[test]
fn servers_that_are_waited_for_are_counted() {
    let servers = |args: &[&str]| load_cluster(&[&["-server"], args].concat());
    let three = servers(&["-bootstrap-expect", "3", "-join", "a", "-retry-join", "b:1", "-server-port", "8400"]).unwrap();
    let cluster = three.config.cluster;
    assert_eq!(
        (cluster.bootstrap_expect, three.config.bootstrap, three.config.addresses.server.unwrap().port()),
        (3, false, 8400)
    );
    assert_eq!(cluster.join.retry.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "b:1"]);
    assert_eq!(three.warnings, Vec::<String>::new());
    for (expect, warning) in [("2", "of two servers both are needed"), ("4", "no more losses than 3 do")] {
        let loaded = servers(&["-bootstrap-expect", expect]).unwrap();
        assert!(loaded.warnings[0].contains(warning), "{:?}", loaded.warnings);
    }
    let one = servers(&["-bootstrap-expect=1"]).unwrap();
    assert!(one.config.bootstrap && one.warnings.is_empty());
    assert!(servers(&["-bootstrap-expect=-1"]).unwrap_err().contains("must be between 0 and 99"));
    assert!(servers(&["-bootstrap-expect=3", "-bootstrap"]).unwrap_err().contains("cannot stand beside bootstrap = true"));
    assert!(load_args(&["-dev", "-bootstrap-expect=3"]).unwrap_err().contains("cannot stand beside -dev"));
    let message = servers(&["-bootstrap-expect=3", "-server-port=-1"]).unwrap_err();
    assert!(message.contains("ports.server = -1: must be a port: bootstrap_expect above 1 needs it"), "{message}");
}

#[test]
fn a_key_of_gossip_is_taken_and_never_shown() {
    let base64 = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let loaded = load_text("f.toml", &format!("encrypt = \"{base64}\"")).unwrap();
    let gossip = &loaded.config.cluster.gossip;
    assert_eq!(gossip.key.as_ref().map(GossipKey::base64).as_deref(), Some(base64));
    assert!(gossip.keep_keyring && !format!("{loaded:?}").contains(base64));
    assert!(!load_text("f.toml", "disable_keyring_file = true").unwrap().config.cluster.gossip.keep_keyring);
    for (text, expected) in [
        ("encrypt = \"c2VjcmV0\"", "f.toml:1:1: encrypt: must be the base64 of 16 or 32 bytes, not of 6"),
        ("encrypt = \"not base64\"", "f.toml:1:1: encrypt: must be base64 with its = at the end"),
        ("encrypt = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"", "24 bytes (AES-192), which is not offered"),
        ("encrypt = 5", "encrypt = (hidden): must be a text"),
    ] {
        let all = faults(text);
        assert!(all.iter().any(|fault| fault.contains(expected)), "{text}: {all:?}");
        assert!(all.iter().all(|fault| !fault.contains("c2VjcmV0") && !fault.contains("AAAA")), "a secret was shown: {all:?}");
    }
    let all = faults(&format!("encrypt = \"{base64}\"\nencrypt_verify_incoming = false"));
    assert!(
        all[0].starts_with("f.toml:2:1: encrypt_verify_incoming = false: members with a key neither take nor send"),
        "{all:?}"
    );
    assert!(load_text("f.toml", "encrypt_verify_incoming = false").is_ok(), "without a key there is nothing to verify");
}

#[test]
fn what_is_meant_once_is_a_flag_and_no_key() {
    let loaded = load_cluster(&["-replace", "--forget-cluster"]).unwrap();
    assert!(loaded.config.cluster.replace && loaded.config.cluster.forget_cluster);
    assert!(!load_cluster(&[]).unwrap().config.cluster.replace);
    assert!(faults("replace = true")[0].contains("unknown key"));
}

#[test]
fn templates_stand_for_addresses_of_this_host() {
    let text = "bind_addr = '{{ GetInterfaceIP \"eth0\" }}'\nclient_addr = \"127.0.0.1 {{ GetPrivateIPs }}\"\n\
                addresses = { dns = \"{{ GetPrivateIP }}\" }\nretry_join = [\"{{ GetPrivateIPs }} 10.0.0.9:7\", \"h\"]";
    let config = load_text("f.toml", text).unwrap().config;
    let (http, dns) = (&config.addresses.http, &config.addresses.dns);
    assert_eq!(config.addresses.advertise, IpAddr::from([10, 0, 0, 5]));
    assert_eq!(http.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:8500", "10.0.0.5:8500"]);
    assert_eq!(dns.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.5:8600"]);
    let joined: Vec<String> = config.cluster.join.retry.iter().map(ToString::to_string).collect();
    assert_eq!(joined, ["10.0.0.5", "10.0.0.9:7", "h"]);
}

#[test]
fn values_out_of_bounds_are_faults_with_what_would_be_right() {
    for (text, expected) in [
        ("datacenter = \"a b\"", "must consist of at most 63 letters"),
        ("node_name = \"a b\"", "must not hold blanks or quotes"),
        ("node_id = \"x\"", "must be a UUID"),
        ("log_level = \"warnn\"", "did you mean warn?"),
        ("bind_addr = \"{{ GetPrivateIp }}\"", "did you mean GetPrivateIP?"),
        ("bind_addr = '{{ GetInterfaceIP \"eth7\" }}'", "gives no address on this host"),
        ("advertise_addr = \"10.0.0.1 {{ GetPrivateIP }}\"", "gives several addresses (10.0.0.1 10.0.0.5), and one is needed"),
        ("client_addr = \"localhost\"", "must be an IP address"),
        ("advertise_addr = \"0.0.0.0\"", "others cannot reach a wildcard"),
        ("domain = \"a b\"", "must be a DNS name"),
        ("performance = { raft_multiplier = 11 }", "must be between 1 and 10"),
        ("check_output_max_size = 0", "must be between 1 and"),
        ("node_meta = { \"consul-x\" = \"1\" }", "reserved for internal use"),
        ("unix_sockets = { mode = \"99\" }", "octal"),
        ("ports = { http = 8600 }", "ports.http and ports.dns are both 127.0.0.1:8600"),
        ("dns_config = { udp_answer_limit = -1 }", "must be between 0 and 65535"),
        ("recursors = [\"ns.example.com\"]", "must be an IP address, with or without a port"),
        ("recursors = [\"0.0.0.0\"]", "must be the address of one name server"),
        ("dns_config = { recursor_strategy = \"rnd\" }", "must be one of sequential, random"),
        ("dns_config = { negative_answer = \"empty\" }", "must be one of nxdomain, nodata"),
        ("dns_config = { prefer_namespace = true }", "namespaces are a part of Consul Enterprise"),
        ("session_ttl_min = \"-1s\"", "not below zero"),
        ("default_reads = \"x\"", "must be one of muster, consul"),
        ("anti_entropy = \"x\"", "must be one of muster, consul"),
        ("telemetry = { prefix_filter = [\"x\"] }", "must begin with + (show) or - (hide)"),
        ("http_config = { response_headers = { \"a b\" = \"x\" } }", "that HTTP can carry"),
        ("http_config = { allow_write_http_from = [\"x\"] }", "must be a network"),
        ("bootstrap_expect = 1", "cannot stand beside bootstrap = true"),
        ("raft_protocol = 2", "must be between 3 and 3"),
        ("reconnect_timeout = \"1h\"", "reconnect_timeout = 1h0m0s: must be at least 8h0m0s"),
        ("retry_interval = \"0s\"", "must be above 0s"),
        ("retry_max = -1", "must be between 0 and"),
        ("retry_join = [\"10.0.0.1\", \"provider=aws tag_key=x\"]", "looking agents up at a cloud is not offered"),
        ("start_join = [\"a b\"]", "must be an address, a host name or an SRV name"),
        ("retry_join = [\"10.0.0.1\"]\nports = { serf_lan = -1 }", "ports.serf_lan = -1: must be a port: retry_join needs it"),
        ("gossip_lan = { gossip_nodes = 0 }", "must be between 1 and 16"),
        ("gossip_lan = { probe_interval = \"1ms\" }", "must be at least 10ms"),
        ("gossip_lan = { probe_timeout = \"2s\" }", "must be shorter than gossip_lan.probe_interval"),
        ("gosip_lan = {}", "did you mean gossip_lan?"),
        ("autopilot = { max_trailing_log = 1 }", "did you mean max_trailing_logs?"),
        ("limits = { rpc_client_timeout = \"0s\" }", "must be above 0s"),
        ("replica = \"none\"", "a server holds the whole catalog"),
        ("replica = \"some\"", "must be one of full, interest, none"),
        ("serf_lan = \"eth0\"", "must be an IP address"),
        ("frobnicate = 1", "unknown key, and none is like it"),
        ("services = [{ name = \"a\" }, { name = \"a\" }]", "this id is used by a service above"),
        ("service = { nmae = \"a\" }", "service[0].nmae = \"a\": unknown key; did you mean name?"),
        ("service = { web = { port = 1 } }", "service[0].web = a map of 1: unknown key (a label of a block counts as one"),
        ("retry_interval = \"0s\"", "must be above 0s"),
        ("check = { name = \"c\", interval = \"10s\" }", "TTL must be > 0 for TTL checks"),
        ("check = { name = \"c\", args = [\"x\"], interval = \"10s\" }", "set enable_local_script_checks = true"),
        ("check = { name = \"c\", script = \"x\", interval = \"10s\" }", "script was removed: use args"),
        ("check = { name = \"c\", ttl = 10 }", "must be a duration such as"),
    ] {
        let all = faults(text);
        assert!(all.iter().any(|fault| fault.contains(expected)), "{text}: {all:?}");
        assert!(all.iter().all(|fault| fault.starts_with("f.toml:") || fault.starts_with("flag -bootstrap")), "{text}: {all:?}");
    }
}

#[test]
fn directories_are_read_in_order_and_merged_by_consuls_rules() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "b.hcl",
        "log_level = \"warn\"\nrecursors = [\"2.2.2.2\"]\nnode_meta {\n  b = \"2\"\n  both = \"hcl\"\n}\nports {\n  dns = 2\n}\n",
    );
    write(
        "a.json",
        r#"{"log_level": "error", "recursors": ["1.1.1.1"], "node_meta": {"a": "1", "both": "json"}, "ports": {"http": 1}}"#,
    );
    write("c.toml", "[[services]]\nname = \"one\"\n[service]\nname = \"two\"\n");
    write(
        "d.json",
        r#"{"service": {"name": "three"}, "checks": [{"name": "c", "ttl": "1m"}], "check": {"name": "d", "ttl": "1m"}}"#,
    );
    write("README.md", "no configuration");
    write("e.json~", "no configuration");
    std::fs::create_dir(dir.path().join("sub.hcl")).unwrap();
    std::fs::write(dir.path().join("sub.hcl/x.json"), "{not json").unwrap();
    let loaded = load_args(&["-server", "-bootstrap", "-data-dir=/x", "-config-dir", dir.path().to_str().unwrap()]).unwrap();
    let config = loaded.config;
    assert_eq!(config.log.level, "warn");
    assert_eq!(config.dns.recursors, ["1.1.1.1:53", "2.2.2.2:53"].map(|address| address.parse().unwrap()));
    let meta: Vec<String> = config.node_meta.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(meta, ["a=1", "b=2", "both=hcl"]);
    assert_eq!((config.addresses.dns[0].port(), config.addresses.http.len()), (2, 1));
    let names: Vec<&str> = config.services.iter().map(|definition| definition.service.name.as_str()).collect();
    assert_eq!(names, ["one", "two", "three"]);
    assert_eq!(config.lone_checks.len(), 2);
    assert_eq!(loaded.files.len(), 4);
}

#[test]
fn files_that_cannot_be_read_are_faults_among_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("a.json"), "{\"log_level\": \"info\",}").unwrap();
    std::fs::write(path("b.hcl"), "log_level = \n").unwrap();
    std::fs::write(path("c.toml"), b"a = \"\xff\"").unwrap();
    std::fs::write(path("d.conf"), "x").unwrap();
    let mut args = vec!["-dev".to_owned()];
    for name in ["a.json", "b.hcl", "c.toml", "d.conf", "missing.json"] {
        args.extend(["-config-file".to_owned(), path(name)]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let message = load_args(&args).unwrap_err().replace(&format!("{}/", dir.path().display()), "");
    let lines: Vec<&str> = message.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 6, "{message}");
    assert!(lines[1].starts_with("a.json:1:22: malformed JSON: key must be a string"), "{message}");
    assert!(lines[2].starts_with("b.hcl:1:13: malformed HCL: "), "{message}");
    assert_eq!(lines[3], "c.toml: is not UTF-8 text (line 1)");
    assert_eq!(lines[4], "d.conf: the name must end in .toml, .json or .hcl, or -config-format must say the language");
    assert_eq!(lines[5], "missing.json: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn definitions_in_hcl_files_keep_blocks_apart_and_weights_whole() {
    let text = r#"
service {
  name = "web"
  port = 80
  weights { passing = 5 }
  check {
    id       = "a"
    http     = "http://127.0.0.1/ok"
    interval = "10s"
    header { X-Probe = ["yes"] }
  }
  check {
    TCP = "127.0.0.1:80"
    Interval = "5s"
    DeregisterCriticalServiceAfter = "90m"
  }
  connect {
    sidecar_service {}
  }
}
services {
  id   = "web-2"
  name = "web"
}
checks = [{ id = "disk", name = "disk", args = ["/bin/true"], interval = "1m" }]
enable_local_script_checks = true
"#;
    let loaded = load_text("f.hcl", text).unwrap();
    let web = &loaded.config.services[0];
    assert_eq!((web.service.weights.passing, web.service.weights.warning), (5, 1));
    let ids: Vec<&str> = web.checks.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(ids, ["a", "service:web:2"]);
    assert_eq!(loaded.config.services[1].service.id.as_str(), "web-2");
    assert_eq!(loaded.config.lone_checks[0].check.id.as_str(), "disk");
    assert!(loaded.warnings.iter().any(|warning| warning.contains("no mesh: Connect")), "{:?}", loaded.warnings);
}

#[test]
fn repeated_sections_of_one_file_are_merged() {
    let loaded = load_text("f.hcl", "ports = { dns = 1 }\nports {\n  http = 2\n}\n").unwrap();
    assert_eq!((loaded.config.addresses.dns[0].port(), loaded.config.addresses.http.len()), (1, 1));
    assert!(load_text("f.json", r#"{"ports": [{"dns": 1}, {"http": 2}], "ports": {"server": 3}}"#).is_ok());
}

#[test]
fn flags_have_gos_style() {
    let loaded = load_args(&[
        "--dev",
        "-server=true",
        "-ui=false",
        "-http-port",
        "-1",
        "-dns-port=53",
        "-node-meta",
        "a:b:c",
        "-node-meta=d:e",
        "-bind=127.0.0.2",
        "--client",
        "127.0.0.1 127.0.0.3",
        "-check_output_max_size=100",
        "-log-json",
        "-hcl",
        "translate_wan_addrs = true",
        "-segment=x",
        "-node",
        "first",
        "-node",
        "second",
    ])
    .unwrap();
    let config = loaded.config;
    assert!(config.addresses.http.is_empty() && config.log.json && config.translate_wan_addrs);
    assert_eq!(config.addresses.dns, ["127.0.0.1:53".parse().unwrap(), "127.0.0.3:53".parse().unwrap()]);
    assert_eq!((config.node_meta["a"].as_str(), config.node_meta["d"].as_str()), ("b:c", "e"));
    assert_eq!(config.addresses.advertise, IpAddr::from([127, 0, 0, 2]));
    assert_eq!((config.checks.output_bytes_max, config.node_name.as_str()), (100, "second"));
    assert!(loaded.warnings[0].ends_with(": segment"), "{:?}", loaded.warnings);
}

#[test]
fn every_flag_stands_for_a_known_key() {
    for flag in flags::every_flag() {
        let node = flags::example(flag);
        let mut written = Written::default();
        written.add_tree(&node);
        let shape: Vec<String> = written.faults.iter().map(ToString::to_string).collect();
        assert!(shape.is_empty(), "{shape:?}");
    }
}

#[test]
fn a_reload_takes_over_what_may_change_and_names_the_rest() {
    let old = load_text("f.toml", "log_level = \"info\"\n[[services]]\nname = \"a\"\n").unwrap().config;
    let new = load_text(
        "f.toml",
        "log_level = \"debug\"\nlog_json = true\nnode_name = \"other\"\n[dns_config]\nnode_ttl = \"1s\"\n[[services]]\nname = \"b\"\n[ports]\nhttp = 1\n",
    )
    .unwrap()
    .config;
    let (now, reloaded) = old.reload_into(new);
    assert_eq!(reloaded.applied, ["dns_config", "services", "log_level"]);
    assert_eq!(reloaded.restart, ["node_name", "addresses and ports", "log_json and log files"]);
    assert_eq!((now.log.level, now.log.json, now.node_name.as_str()), ("debug", false, "host-1"));
    assert_eq!((now.dns.node_ttl, now.services[0].service.name.as_str()), (Duration::from_secs(1), "b"));
    let (same, nothing) = now.reload_into(now.clone());
    assert_eq!((same, nothing), (now, Reloaded::default()));
}

#[test]
fn checks_use_the_agents_tls_only_when_they_are_told_to() {
    let old = "ca_file = \"/a\"\nca_path = \"/b\"\ncert_file = \"/c\"\nkey_file = \"/k\"\nserver_name = \"n\"\n";
    let idle = load_text("f.toml", old).unwrap();
    assert_eq!(idle.config.checks.tls, None);
    assert!(idle.warnings[0].ends_with("ca_file, ca_path, cert_file, key_file, server_name"), "{:?}", idle.warnings);
    let lent = |text: &str| load_text("f.toml", &format!("enable_agent_tls_for_checks = true\n{text}"));
    let told = lent(old).unwrap();
    assert_eq!(told.warnings, Vec::<String>::new());
    let expected = ChecksTls {
        roots: vec!["/a".into(), "/b".into()],
        identity: Some(("/c".into(), "/k".into())),
        server_name: Some("n".to_owned()),
    };
    assert_eq!(told.config.checks.tls, Some(expected));
    let newer =
        lent("ca_file = \"/a\"\n[tls.defaults]\nca_file = \"/d\"\nserver_name = \"m\"\n[tls.internal_rpc]\nca_file = \"/i\"\n");
    let newer = newer.unwrap().config.checks.tls.unwrap();
    assert_eq!((newer.roots, newer.identity, newer.server_name), (vec!["/i".into()], None, Some("m".to_owned())));
    assert_eq!(lent("").unwrap().config.checks.tls, Some(ChecksTls { roots: Vec::new(), identity: None, server_name: None }));
    let torn = lent("cert_file = \"/c\"").unwrap_err();
    assert!(torn.contains("cert_file = \"/c\": needs a key_file beside it"), "{torn}");
    let torn = lent("[tls.defaults]\nkey_file = \"/k\"").unwrap_err();
    assert!(torn.contains("needs a cert_file beside it"), "{torn}");
}

#[test]
fn validate_misses_nothing_that_flags_may_give() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    std::fs::write(&path, "log_level = \"info\"\n[connect]\nenabled = true\n").unwrap();
    let lonely = Host { name: "bad name".to_owned(), interfaces: Vec::new() };
    let warnings = validate(&[dir.path().to_owned()], None, &lonely).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    std::fs::write(&path, "log_levl = \"info\"\n").unwrap();
    let message = validate(&[path], None, &lonely).unwrap_err().to_string();
    assert!(message.ends_with("a.toml:1:1: log_levl = \"info\": unknown key; did you mean log_level?"), "{message}");
    assert!(validate(&[dir.path().join("none")], None, &lonely).is_err());
    let empty = tempfile::tempdir().unwrap();
    assert!(validate(&[empty.path().to_owned()], None, &lonely).unwrap_err().to_string().contains("holds no *.toml"));
}

/// `config.toml` of the repository with the lines of these marks uncommented.
fn example(marks: &[&str]) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.toml")).unwrap();
    let line = |line: &str| {
        let marked = |mark: &&&str| match **mark {
            "#" => line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase()),
            mark => line.starts_with(mark),
        };
        marks.iter().find(marked).map_or(line, |mark| &line[mark.len()..]).to_owned()
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_file_shows_the_defaults() {
    let default = load_text("f.toml", "").unwrap();
    let mut shown = load_text("f.toml", &example(&["#"])).unwrap();
    shown.files = default.files.clone();
    assert_eq!(shown, default);
    assert!(default.warnings.is_empty(), "{:?}", default.warnings);
    assert_eq!(load_text("f.toml", &example(&[])).unwrap().config, default.config);
}

#[test]
fn the_examples_in_the_example_file_are_right() {
    let text = example(&["#> "]).replace("#enable_local_script_checks = false", "enable_local_script_checks = true");
    let loaded = load_text("f.toml", &text).unwrap();
    assert_eq!((loaded.config.services.len(), loaded.config.lone_checks.len()), (1, 3));
    assert_eq!(loaded.config.services[0].checks.len(), 7);
    assert_eq!(loaded.config.watches.len(), 2);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn the_example_file_is_complete() {
    use super::file::*;
    use super::section::Section;
    /// Other spellings, what is refused in this version, and what programs say without consequence.
    const NOT_SHOWN: &[&str] = &[
        "service",
        "check",
        "watch",
        "recursor",
        "ui",
        "ui_dir",
        "ui_content_path",
        "start_join",
        "start_join_wan",
        "retry_join_wan",
        "serf_lan_allowed_cidrs",
        "acl",
        "acl_datacenter",
        "acl_default_policy",
        "tls",
        "verify_incoming",
        "verify_incoming_rpc",
        "verify_incoming_https",
        "verify_outgoing",
        "verify_server_hostname",
        "version",
        "version_prerelease",
        "revision",
        "build_date",
        "disable_update_check",
        "disable_anonymous_signature",
    ];
    fn missing<S: Section>(text: &str) -> Vec<&'static str> {
        let shown = |key: &&&str| {
            [format!("\n#{key} = "), format!("\n#> {key} = "), format!("[{key}]"), format!(".{key}]")]
                .iter()
                .any(|form| text.contains(form))
        };
        let keys = S::KEYS.iter().filter(|key| !S::LATER.contains(key) && !NOT_SHOWN.contains(key));
        keys.filter(|key| !shown(key)).copied().collect()
    }
    let text = example(&[]);
    let mut all = missing::<ConfigFile>(&text);
    all.extend(missing::<PerformanceFile>(&text));
    all.extend(missing::<AddressesFile>(&text));
    all.extend(missing::<PortsFile>(&text));
    all.extend(missing::<UnixSocketsFile>(&text));
    all.extend(missing::<GossipFile>(&text));
    all.extend(missing::<AutopilotFile>(&text));
    all.extend(missing::<DnsFile>(&text));
    all.extend(missing::<SoaFile>(&text));
    all.extend(missing::<HttpFile>(&text));
    all.extend(missing::<UiFile>(&text));
    all.extend(missing::<LimitsFile>(&text));
    all.extend(missing::<RequestLimitsFile>(&text));
    all.extend(missing::<TelemetryFile>(&text));
    assert!(all.is_empty(), "config.toml does not show {all:?}");
}

proptest::proptest! {
    #[test]
    fn no_file_panics(
        format in proptest::sample::select(vec![Format::Json, Format::Hcl, Format::Toml]),
        tokens in proptest::collection::vec(proptest::sample::select(vec![
            "ports", "services", "check", "dns_config", "acl", "\"ports\"", "\"http\"", "\"name\"", " = ", ":", "{", "}", "[", "]", "[[", "]]", ",",
            "\n", "1", "-1", "\"x\"", "\"10s\"", "true", "null", ".", "é", "\"unix:///x\"", "client_addr", "\"\"",
        ]), 0..40),
    ) {
        let mut written = Written::default();
        written.add_text("f", &tokens.concat(), format);
        if let Err(faults) = Config::new(written, true, &host()) {
            proptest::prop_assert!(!faults.to_string().is_empty());
        }
    }
}
