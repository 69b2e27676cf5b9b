//! The built program against an agent of canned answers: what it asks, what it prints, and how it ends.
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;
use std::thread;

use canned::{Canned, command, program, run};
use serde_json::{Value, json};

mod canned;
#[path = "cli/cluster.rs"]
mod cluster;

#[test]
fn info_prints_sections_in_order() {
    let own = r#"{"Config": {}, "Stats": {"raft": {"state": "Leader", "num_peers": "0"}, "agent": {"checks": "1"}}}"#;
    let agent = Canned::new(&[("GET /v1/agent/self", 200, own)]);
    assert_eq!(agent.run(&["info"]).well().out(), "agent:\n\tchecks = 1\nraft:\n\tnum_peers = 0\n\tstate = Leader\n");
    let json: Value = serde_json::from_slice(&agent.run(&["info", "-format", "json"]).well().out).unwrap();
    assert_eq!(json["raft"]["state"], "Leader");
}

#[test]
fn the_catalog_is_listed() {
    let node = r#"{"ID": "0123abcd-1111", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1",
        "TaggedAddresses": {"lan": "10.0.0.1", "wan": "1.1.1.1"}, "Meta": null, "CreateIndex": 5, "ModifyIndex": 5}"#;
    let agent = Canned::new(&[
        ("GET /v1/catalog/datacenters", 200, r#"["dc1","dc2"]"#),
        ("GET /v1/catalog/nodes", 200, &format!("[{node}]")),
        ("GET /v1/catalog/nodes?dc=dc9&stale&near=_agent&node-meta=a%3Ab", 200, "[]"),
        ("GET /v1/catalog/service/web", 200, &format!("[{node},{node}]")),
        ("GET /v1/catalog/services", 200, r#"{"web":["b","a"],"consul":[]}"#),
        (
            "GET /v1/catalog/node/n1",
            200,
            r#"{"Node":{},"Services":{"w1":{"Service":"web","Tags":["x"]},"w2":{"Service":"web","Tags":["y"]}}}"#,
        ),
        ("GET /v1/catalog/node/nope", 200, "null"),
    ]);
    assert_eq!(agent.run(&["catalog", "datacenters"]).well().out(), "dc1\ndc2\n");
    assert_eq!(agent.run(&["catalog", "nodes"]).well().out(), "Node  ID        Address   DC\nn1    0123abcd  10.0.0.1  dc1\n");
    let detailed = agent.run(&["catalog", "nodes", "-detailed", "-service=web"]).well();
    assert_eq!(detailed.out().lines().count(), 2, "two instances on one node are one node: {}", detailed.out());
    assert!(detailed.out().contains("0123abcd-1111  10.0.0.1  dc1  lan=10.0.0.1, wan=1.1.1.1  "));
    let none = agent.run(&["catalog", "nodes", "-near=_agent", "-node-meta", "a=b", "-datacenter=dc9", "-stale"]).well();
    assert_eq!(none.out(), "");
    assert!(none.err.contains("No node matches"));
    let json: Value = serde_json::from_slice(&agent.run(&["catalog", "nodes", "-format=json"]).well().out).unwrap();
    assert_eq!(json[0]["ModifyIndex"], 5);
    assert_eq!(agent.run(&["catalog", "services"]).well().out(), "consul\nweb\n");
    assert_eq!(agent.run(&["catalog", "services", "-tags"]).well().out(), "consul      \nweb         a,b\n");
    assert_eq!(agent.run(&["catalog", "services", "-tags", "-node=n1"]).well().out(), "web      x,y\n");
    assert_eq!(agent.run(&["catalog", "services", "-node=nope"]).well().out(), "");
    let json: Value = serde_json::from_slice(&agent.run(&["catalog", "services", "-format=json"]).well().out).unwrap();
    assert_eq!(json, json!({ "consul": [], "web": ["a", "b"] }));
}

const PAIR: &str = r#"[{"LockIndex":0,"Key":"a/b","Flags":7,"Value":"AP8K","CreateIndex":3,"ModifyIndex":4}]"#;

#[test]
fn a_value_comes_out_byte_for_byte() {
    let agent = Canned::new(&[("GET /v1/kv/a/b", 200, PAIR)]);
    assert_eq!(agent.run(&["kv", "get", "a/b"]).well().out, b"\x00\xff\n\n");
    assert_eq!(agent.run(&["kv", "get", "-base64", "a/b"]).well().out(), "AP8K\n");
    assert_eq!(
        agent.run(&["kv", "get", "-detailed", "-base64", "a/b"]).well().out(),
        "CreateIndex      3\nFlags            7\nKey              a/b\nLockIndex        0\nModifyIndex      4\nSession          -\nValue            AP8K\n"
    );
    let json: Value = serde_json::from_slice(&agent.run(&["kv", "get", "-format=json", "a/b"]).well().out).unwrap();
    assert_eq!(json["Value"], "AP8K");
}

#[test]
fn a_missing_key_is_a_failure_and_a_missing_prefix_is_not() {
    let agent = Canned::new(&[]);
    agent.run(&["kv", "get", "nope"]).failed("Error! No key exists at: nope");
    assert_eq!(agent.run(&["kv", "get", "-recurse", "nope"]).well().out(), "");
    assert_eq!(agent.run(&["kv", "get", "-keys", "nope"]).well().out(), "");
    assert_eq!(agent.run(&["kv", "get", "-keys", "-format=json", "nope"]).well().out(), "[]\n");
    assert_eq!(
        agent.lines(),
        [
            "GET /v1/kv/nope",
            "GET /v1/kv/nope?recurse",
            "GET /v1/kv/nope?keys&separator=%2F",
            "GET /v1/kv/nope?keys&separator=%2F"
        ]
    );
}

#[test]
fn a_prefix_is_listed() {
    let pairs = PAIR
        .replace("AP8K", "eA==")
        .replace(']', r#",{"LockIndex":0,"Key":"a/c","Flags":0,"Value":null,"CreateIndex":5,"ModifyIndex":5}]"#);
    let agent = Canned::new(&[("GET /v1/kv/a?recurse", 200, &pairs), ("GET /v1/kv/?keys&separator=", 200, r#"["a/b","a/c"]"#)]);
    assert_eq!(agent.run(&["kv", "get", "-recurse", "a"]).well().out(), "a/b:x\na/c:\n");
    let detailed = agent.run(&["kv", "get", "-recurse", "-detailed", "a"]).well();
    assert!(detailed.out().contains("Value            x\n\nCreateIndex      5\n"), "{}", detailed.out());
    assert!(detailed.out().ends_with("\nValue\n"), "{}", detailed.out());
    assert_eq!(agent.run(&["kv", "get", "-keys", "-separator="]).well().out(), "a/b\na/c\n");
    let json: Value = serde_json::from_slice(&agent.run(&["kv", "get", "-recurse", "-format=json", "a"]).well().out).unwrap();
    assert_eq!(json[1]["Key"], "a/c");
}

#[test]
fn values_are_sent_as_they_are_typed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("value");
    std::fs::write(&file, b"\x00file\n").unwrap();
    let agent = Canned::new(&[
        ("PUT /v1/kv/k", 200, "true"),
        ("PUT /v1/kv/k?dc=dc2&flags=7&cas=0", 200, "false"),
        ("PUT /v1/kv/a%20b/%C3%BC%3F", 200, "true"),
    ]);
    assert_eq!(agent.run(&["kv", "put", "k", "v"]).well().out(), "Success! Data written to: k\n");
    agent.run(&["kv", "put", "k", "-5"]).well();
    agent.run(&["kv", "put", "k", "-cas"]).well();
    agent.run(&["kv", "put", "k"]).well();
    agent.run(&["kv", "put", "-base64", "k", "AAH/"]).well();
    agent.run(&["kv".into(), "put".into(), "k".into(), OsString::from_vec(vec![0xff, 0xfe])]).well();
    agent.run(&["kv", "put", "k", &format!("@{}", file.display())]).well();
    run(program().args(["kv", "put", "k", "-"]).env("MUSTER_HTTP_ADDR", &agent.address), b"from stdin\n").well();
    agent.run(&["kv", "put", "a b/ü?", "x"]).well();
    let bodies: Vec<Vec<u8>> = agent.asked().into_iter().map(|asked| asked.body).collect();
    let meant: [&[u8]; 9] = [b"v", b"-5", b"-cas", b"", b"\x00\x01\xff", b"\xff\xfe", b"\x00file\n", b"from stdin\n", b"x"];
    assert_eq!(bodies, meant);
    agent.run(&["kv", "put", "-cas", "-modify-index=0", "-flags", "7", "-datacenter=dc2", "k", "v"]).failed("CAS failed");
}

#[test]
fn what_cannot_be_meant_is_refused_and_nothing_is_sent() {
    let agent = Canned::new(&[]);
    agent.run(&["kv", "put", "/k", "v"]).failed("must not begin");
    agent.run(&["kv", "put", "", "v"]).failed("empty");
    agent.run(&["kv", "put", "-base64", "k", "!"]).failed("base64");
    agent.run(&["kv", "put", "k", "@/nowhere/at/all"]).failed("/nowhere/at/all");
    agent.run(&["kv", "put", "-cas", "k", "v"]).failed("modify-index");
    agent.run(&["kv", "put", "-session=x", "k", "v"]).failed("-acquire");
    agent.run(&["kv", "put", "k", "v", "more"]).failed("more");
    agent.run(&["kv", "get"]).failed("KEY_OR_PREFIX");
    agent.run(&["kv", "get", "k", "-detailed"]).failed("-detailed");
    agent.run(&["kv", "get", "-detailed=perhaps", "k"]).failed("invalid boolean value");
    agent.run(&["kv", "delete", "-cas", "-modify-index=1", "-recurse", "k"]).failed("--recurse");
    agent.run(&["kv", "import", "[{\"key\":\"a\",\"value\":\"eA==\"},{\"key\":\"b\",\"value\":\"!\"}]"]).failed("The value of b");
    agent.run(&["kv", "import", "junk"]).failed("no list of keys");
    agent.run(&["maint", "-reason=x"]).failed("--enable");
    agent.run(&["maint", "-service=x"]).failed("-service needs");
    agent.run(&["services", "register"]).failed("-name");
    agent.run(&["services", "deregister"]).failed("-id");
    agent.run(&["members", "-bogus"]).failed("--bogus");
    assert_eq!(agent.lines(), Vec::<String>::new());
}

#[test]
fn keys_are_deleted() {
    let agent = Canned::new(&[
        ("DELETE /v1/kv/k", 200, "true"),
        ("DELETE /v1/kv/p?recurse", 200, "true"),
        ("DELETE /v1/kv/k?cas=4", 200, "false"),
    ]);
    assert_eq!(agent.run(&["kv", "delete", "k"]).well().out(), "Success! Deleted key: k\n");
    assert_eq!(agent.run(&["kv", "delete", "-recurse", "p"]).well().out(), "Success! Deleted keys with prefix: p\n");
    agent.run(&["kv", "delete", "-cas", "-modify-index=4", "k"]).failed("CAS failed");
}

#[test]
fn an_export_is_imported_again() {
    let pairs = PAIR.replace(']', r#",{"LockIndex":0,"Key":"q\"","Flags":0,"Value":null,"CreateIndex":5,"ModifyIndex":5}]"#);
    let agent = Canned::new(&[
        ("GET /v1/kv/?recurse", 200, &pairs),
        ("PUT /v1/kv/a/b?flags=7", 200, "true"),
        ("PUT /v1/kv/q%22", 200, "true"),
        ("PUT /v1/kv/new/a/b?flags=7", 200, "true"),
        ("PUT /v1/kv/new/q%22", 500, "No cluster leader"),
    ]);
    let export = agent.run(&["kv", "export"]).well();
    assert_eq!(
        export.out(),
        "[\n\t{\n\t\t\"key\": \"a/b\",\n\t\t\"flags\": 7,\n\t\t\"value\": \"AP8K\"\n\t},\n\t{\n\t\t\"key\": \"q\\\"\",\n\t\t\"flags\": 0,\n\t\t\"value\": \"\"\n\t}\n]\n"
    );
    assert_eq!(agent.run(&["kv", "export", "none"]).well().out(), "[]\n");
    let import = run(program().args(["kv", "import", "-"]).env("CONSUL_HTTP_ADDR", &agent.address), &export.out).well();
    assert_eq!(import.out(), "Imported: a/b\nImported: q\"\n");
    assert_eq!(agent.asked().into_iter().map(|asked| asked.body).collect::<Vec<_>>()[2], b"\x00\xff\n");
    let half = agent.run(&["kv", "import", "-prefix=new", export.out()]).failed("No cluster leader");
    assert_eq!(half.out(), "Imported: new/a/b\n");
    assert!(half.err.contains("1 of 2 keys were imported"), "{}", half.err);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let pairs: Vec<Value> = (0..20_000)
        .map(|n| json!({"LockIndex": 0, "Key": format!("k{n}"), "Flags": 0, "Value": "eA==", "CreateIndex": 1, "ModifyIndex": 1}))
        .collect();
    let agent = Canned::new(&[("GET /v1/kv/?recurse", 200, &Value::Array(pairs).to_string())]);
    let mut child = program()
        .args(["kv", "get", "-recurse"])
        .env("CONSUL_HTTP_ADDR", &agent.address)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((&first, ended.status.code(), ended.stderr.as_slice()), (b"k0:x\nk", Some(0), b"".as_slice()));
}

#[test]
fn services_are_registered_from_flags_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.hcl");
    std::fs::write(
        &file,
        "service {\n  name = \"web\"\n  id = \"w 1\"\n  enable_tag_override = true\n  check {\n    ttl = \"10s\"\n  }\n}\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let agent = Canned::new(&[
        ("PUT /v1/agent/service/register", 200, ""),
        ("PUT /v1/agent/service/deregister/w%201", 200, ""),
        ("PUT /v1/agent/service/deregister/c1", 200, ""),
    ]);
    let line =
        "services register -name=cli -id=c1 -port=12 -tag=a -tag b -meta=k=v=w -address=1.1.1.1 -tagged-address=lan=1.1.1.1:80";
    assert_eq!(agent.run(&line.split(' ').collect::<Vec<_>>()).well().out(), "Registered service: cli\n");
    assert_eq!(agent.run(&["services", "register", file]).well().out(), "Registered service: web\n");
    assert_eq!(agent.run(&["services", "deregister", file]).well().out(), "Deregistered service: w 1\n");
    assert_eq!(agent.run(&["services", "deregister", "-id=c1"]).well().out(), "Deregistered service: c1\n");
    agent.run(&["services", "register", "-name=x", file]).failed("cannot be used with");
    agent.run(&["services", "deregister", "-id=nope"]).failed("404");
    let bodies: Vec<Value> = agent.asked().iter().take(2).map(|asked| serde_json::from_slice(&asked.body).unwrap()).collect();
    assert_eq!(
        bodies[0],
        json!({ "Name": "cli", "ID": "c1", "Port": 12, "Tags": ["a", "b"], "Meta": { "k": "v=w" }, "Address": "1.1.1.1",
            "TaggedAddresses": { "lan": { "Address": "1.1.1.1", "Port": 80 } } })
    );
    assert_eq!(bodies[1], json!({ "Name": "web", "ID": "w 1", "EnableTagOverride": true, "Check": { "TTL": "10s" } }));
}

#[test]
fn a_fault_in_any_file_registers_none() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good.json"), folder.path().join("bad.json"));
    std::fs::write(&good, r#"{"service": {"name": "web"}}"#).unwrap();
    std::fs::write(&bad, r#"{"service": {"name": "web", "prot": 80}}"#).unwrap();
    let agent = Canned::new(&[("PUT /v1/agent/service/register", 200, "")]);
    agent
        .run(&[OsStr::new("services"), OsStr::new("register"), good.as_ref(), bad.as_ref()])
        .failed("bad.json:1:37: service[0].prot");
    assert!(agent.lines().is_empty());
}

#[test]
fn maintenance_is_changed_and_listed() {
    let checks = r#"{"_node_maintenance": {"Node": "n1", "CheckID": "_node_maintenance", "Notes": "disk"},
        "_service_maintenance:w1": {"Node": "n1", "ServiceID": "w1", "Notes": "new release"}, "other": {"Node": "n1"}}"#;
    let agent = Canned::new(&[
        ("GET /v1/agent/checks", 200, checks),
        ("PUT /v1/agent/maintenance?enable=true&reason=hi%20you", 200, ""),
        ("PUT /v1/agent/maintenance?enable=false", 200, ""),
        ("PUT /v1/agent/service/maintenance/w1?enable=true", 200, ""),
    ]);
    assert_eq!(
        agent.run(&["maint"]).well().out(),
        "Node:\n  Name:   n1\n  Reason: disk\n\nService:\n  ID:     w1\n  Reason: new release\n\n"
    );
    let json: Value = serde_json::from_slice(&agent.run(&["maint", "-format=json"]).well().out).unwrap();
    assert_eq!(json["Services"][0]["ID"], "w1");
    assert_eq!(agent.run(&["maint", "-enable", "-reason", "hi you"]).well().out(), "Node maintenance is now enabled\n");
    assert_eq!(agent.run(&["maint", "-disable"]).well().out(), "Node maintenance is now disabled\n");
    assert_eq!(agent.run(&["maint", "-enable", "-service=w1"]).well().out(), "Service maintenance is now enabled for \"w1\"\n");
}

#[test]
fn an_agent_is_told_to_reload_and_to_leave() {
    let agent = Canned::new(&[("PUT /v1/agent/reload", 200, ""), ("PUT /v1/agent/leave", 200, "")]);
    assert_eq!(agent.run(&["reload"]).well().out(), "Configuration reload triggered\n");
    assert_eq!(agent.run(&["leave"]).well().out(), "Graceful leave complete\n");
}

#[test]
fn the_agent_may_listen_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Canned::on_socket(&folder.path().join("http.sock"), &[("GET /v1/catalog/datacenters", 200, "[\"dc1\"]")]);
    assert_eq!(agent.run(&["catalog", "datacenters"]).well().out(), "dc1\n");
    assert_eq!(agent.asked()[0].headers["host"], "localhost");
}

#[test]
fn the_address_comes_from_the_flag_then_musters_variable_then_consuls() {
    let agent = Canned::new(&[("GET /v1/catalog/datacenters", 200, "[]")]);
    let nobody = "127.0.0.1:1";
    let ask = |flag: Option<&str>, muster: &str, consul: &str| {
        let mut command = program();
        command.args(["catalog", "datacenters"]).env("MUSTER_HTTP_ADDR", muster).env("CONSUL_HTTP_ADDR", consul);
        run(command.args(flag.map(|flag| format!("-http-addr={flag}"))), b"").code
    };
    assert_eq!(ask(Some(&format!("http://{}/", agent.address)), nobody, nobody), Some(0));
    assert_eq!(ask(None, &agent.address, nobody), Some(0));
    assert_eq!(ask(None, "", &agent.address), Some(0));
    assert_eq!(ask(Some(nobody), &agent.address, &agent.address), Some(1));
}

#[test]
fn an_agent_that_cannot_be_reached_is_named_with_the_way_out() {
    let run = |address: &str| run(program().args(["members", "-http-addr", address]), b"");
    let refused = run("127.0.0.1:1").failed("No agent answers at http://127.0.0.1:1");
    assert!(refused.err.contains("-http-addr") && refused.err.contains("MUSTER_HTTP_ADDR"), "{}", refused.err);
    run("unix:///nowhere/at/all.sock").failed("unix:///nowhere/at/all.sock");
    run("https://127.0.0.1:8501").failed("TLS");
    run("localhost").failed("no port");
}

#[test]
fn a_token_is_sent_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "from-file\n").unwrap();
    let agent = Canned::new(&[("GET /v1/catalog/datacenters", 403, "Permission denied")]);
    let ask = |args: &[&str], variable: &str| {
        let mut command = program();
        command.args(["catalog", "datacenters"]).args(args);
        let command = command.env("CONSUL_HTTP_ADDR", &agent.address).env("CONSUL_HTTP_TOKEN", variable);
        let refused = run(command.env("CONSUL_HTTP_TOKEN_FILE", &file), b"").failed("403 (Permission denied)");
        assert!(refused.err.contains("-token"));
        agent.asked().last().unwrap().headers["x-consul-token"].clone()
    };
    assert_eq!(ask(&["-token=flag"], "variable"), "flag");
    assert_eq!(ask(&["-token-file", file.to_str().unwrap()], "variable"), "from-file");
    assert_eq!(ask(&[], "variable"), "variable");
    assert_eq!(ask(&[], ""), "from-file");
    let bad = run(program().args(["catalog", "datacenters", "-token=a\nb"]).env("CONSUL_HTTP_ADDR", &agent.address), b"");
    assert!(!bad.failed("token").err.contains("a\nb"));
}

#[test]
fn nonsense_from_the_other_side_is_a_clear_failure() {
    let agent = Canned::new(&[
        ("GET /v1/agent/members", 200, "<html>hello</html>"),
        ("GET /v1/kv/?recurse", 200, "[{\"Key\":"),
        ("GET /v1/kv/x?recurse", 500, "\u{1b}[31mred\nline"),
        ("GET /v1/catalog/services", 301, ""),
    ]);
    agent.run(&["members"]).failed("something else than Consul's API");
    agent.run(&["kv", "export"]).failed("something else than Consul's API");
    let refused = agent.run(&["kv", "export", "x"]).failed("500");
    assert!(!refused.err.contains('\u{1b}'), "no escape reaches the terminal: {:?}", refused.err);
    agent.run(&["catalog", "services"]).failed("301");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    thread::spawn(move || drop(silent.accept()));
    run(program().args(["members", "-http-addr", &address]), b"").failed("broke");
}

#[test]
fn the_version_depends_on_the_name_the_program_is_called_by() {
    let folder = tempfile::tempdir().unwrap();
    let consul = folder.path().join("consul");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_muster"), &consul).unwrap();
    let muster = env!("CARGO_PKG_VERSION");
    for args in [["version"], ["-v"], ["--version"]] {
        let ours = run(program().args(args), b"").well();
        assert_eq!(ours.out().lines().next(), Some(format!("Muster v{muster}").as_str()));
        let theirs = run(command(&consul).args(args), b"").well();
        assert_eq!(theirs.out(), format!("Consul v1.22.0 (muster {muster})\n"));
    }
    let json: Value = serde_json::from_slice(&run(program().args(["version", "-format=json"]), b"").well().out).unwrap();
    assert_eq!((&json["Version"], &json["Muster"]), (&json!("1.22.0"), &json!(muster)));
}

#[test]
fn help_names_every_command_in_a_line_and_ends_as_consuls() {
    let bare = run(&mut program(), b"");
    assert_eq!((bare.code, bare.out()), (Some(127), ""));
    let asked = run(program().arg("-help"), b"").well();
    for command in [
        "agent",
        "members",
        "join",
        "force-leave",
        "keygen",
        "keyring",
        "operator",
        "rtt",
        "info",
        "services",
        "catalog",
        "kv",
        "maint",
        "reload",
        "leave",
        "validate",
        "simulate",
        "version",
        "completions",
    ] {
        assert!(bare.err.lines().any(|line| line.starts_with(&format!("  {command} "))), "{command}: {}", bare.err);
        assert!(asked.out().lines().any(|line| line.starts_with(&format!("  {command} "))), "{command}");
    }
    assert_eq!(run(program().arg("bogus"), b"").code, Some(127));
    assert_eq!(run(program().arg("kv"), b"").code, Some(1));
    assert_eq!(run(program().args(["kv", "bogus"]), b"").code, Some(1));
    assert_eq!(run(program().args(["kv", "get", "-h"]), b"").well().err, "");
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(program().args(["completions", shell]), b"").well();
        assert!(script.out().contains("muster") && script.out().contains("datacenters"), "{shell}");
    }
}
