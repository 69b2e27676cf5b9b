//! Snapshots for operators: saved, checked, restored into another cluster, and nothing by halves.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::{Agent, Around, eventually, free_port, muster};

mod support;

/// An old file, of the first form: what it holds is what a snapshot of then held.
const OLD: &str = "tests/snapshot/first.snap";
/// One that a Consul made.
const CONSULS: &str = "tests/snapshot/consul-1.8.7.snap";

fn run(agent: &Agent, args: &[&str]) -> Output {
    let (command, rest) = args.split_at(2);
    muster().args(command).arg(format!("-http-addr={}", agent.http)).args(rest).output().unwrap()
}

fn save(agent: &Agent, file: &Path) {
    let saved = run(agent, &["snapshot", "save", file.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&saved.stdout).into_owned();
    assert!(saved.status.success() && text.starts_with("Saved and verified snapshot to index "), "{saved:?}");
}

fn restore(agent: &Agent, file: &Path) {
    let restored = run(agent, &["snapshot", "restore", file.to_str().unwrap()]);
    assert!(restored.status.success(), "{restored:?}");
}

/// Nodes that membership knows nothing of, so that it takes nothing away, with services, checks, keys and a query.
fn fill(agent: &Agent, nodes: usize) {
    for number in 0..nodes {
        let check = json!({"CheckID": "c", "Name": "c", "Status": "warning", "Output": "o", "ServiceID": "s"});
        let service = json!({"ID": "s", "Service": "web", "Tags": ["a", "b"], "Port": 80, "Meta": {"k": "v"}});
        let node = json!({
            "Node": format!("n{number}"), "Address": format!("192.0.2.{number}"), "NodeMeta": {"z": number.to_string()},
            "Service": service, "Check": check,
        });
        agent.done("/v1/catalog/register", node.to_string());
        agent.done(&format!("/v1/kv/k/{number}?flags={number}"), format!("value {number}"));
    }
    let query = json!({"Name": "q", "Service": {"Service": "web", "Tags": ["a"]}, "DNS": {"TTL": "9s"}});
    assert_eq!(agent.ask("POST", "/v1/query", query.to_string().as_bytes()).status, 200);
    let settings = json!({"CleanupDeadServers": false, "LastContactThreshold": "300ms", "MaxTrailingLogs": 7});
    agent.done("/v1/operator/autopilot/configuration", settings.to_string());
}

/// Indexes are those of the log, which is another one.
fn without_indexes(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["CreateIndex", "ModifyIndex", "Index", "LastContact", "ID"] {
                if fields.get(name).is_some_and(|value| name != "ID" || value.as_str().is_some_and(|id| id.is_empty())) {
                    fields.remove(name);
                }
            }
            fields.values_mut().for_each(without_indexes);
        }
        Value::Array(all) => all.iter_mut().for_each(without_indexes),
        _ => {}
    }
}

fn answers(agent: &Agent) -> Vec<Value> {
    let paths = [
        "/v1/health/service/web",
        "/v1/catalog/service/web",
        "/v1/catalog/node/n1",
        "/v1/health/node/n1",
        "/v1/health/state/warning",
        "/v1/kv/k/?recurse",
        "/v1/query",
        "/v1/operator/autopilot/configuration",
    ];
    let ask = |path: &&str| {
        let mut answer = agent.get(path).json();
        without_indexes(&mut answer);
        answer
    };
    paths.iter().map(ask).collect()
}

#[test]
fn what_was_saved_is_the_same_in_another_cluster_and_everybody_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.snap");
    let one = Agent::new();
    fill(&one, 20);
    save(&one, &file);

    let two = Agent::new();
    two.done("/v1/kv/own", "before");
    two.done("/v1/agent/service/register", json!({"Name": "mine", "Port": 9}).to_string());
    eventually("its own service is there", || two.get("/v1/health/service/mine").json().as_array().unwrap().len() == 1);
    let seen = two.get("/v1/kv/own").index();
    let waiting = std::thread::scope(|scope| {
        let waits = scope.spawn(|| two.get(&format!("/v1/kv/own?index={seen}&wait=60s")));
        std::thread::sleep(std::time::Duration::from_millis(300)); // it must be waiting; if it is not, it proves less
        restore(&two, &file);
        waits.join().unwrap()
    });
    assert_eq!(waiting.status, 404, "who waited for a key that is no more is told so");
    assert_eq!(answers(&one), answers(&two));
    assert_eq!(two.get("/v1/kv/own").status, 404);
    assert!(two.get("/v1/kv/k/1").index() > seen, "no index falls");
    eventually("the agent brings its own service back", || {
        two.get("/v1/health/service/mine").json().as_array().unwrap().len() == 1
    });
    let text = run(&two, &["snapshot", "inspect"]);
    assert!(!text.status.success(), "a file is needed");
}

#[test]
fn a_restored_catalog_survives_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.snap");
    let mut one = Agent::new();
    fill(&one, 3);
    save(&one, &file);
    one.done("/v1/kv/later", "x");
    restore(&one, &file);
    let before = answers(&one);
    one.kill_and_start();
    assert_eq!(answers(&one), before);
    assert_eq!(one.get("/v1/kv/later").status, 404);
    one.done("/v1/kv/after", "y");
    assert_eq!(one.get("/v1/kv/after?raw").text(), "y");
}

#[test]
fn damaged_and_foreign_files_are_refused_before_anything_changes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.snap");
    let agent = Agent::new();
    fill(&agent, 3);
    save(&agent, &file);
    agent.done("/v1/kv/stays", "x");
    let index = agent.get("/v1/kv/stays").index();
    let whole = std::fs::read(&file).unwrap();
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 0xff;
    let longer = [&whole[..], b"more"].concat();
    for bytes in [&b"junk"[..], b"", &whole[..whole.len() - 1], &whole[..whole.len() / 2], &altered, &longer] {
        let answer = agent.put("/v1/snapshot", bytes);
        assert_eq!(answer.status, 500, "{}", answer.text());
        assert!(!answer.text().is_empty());
    }
    assert_eq!((agent.get("/v1/kv/stays").index(), agent.get("/v1/kv/stays?raw").text()), (index, "x".to_owned()));
    let broken = dir.path().join("broken.snap");
    std::fs::write(&broken, &altered).unwrap();
    let inspected = run(&agent, &["snapshot", "restore", broken.to_str().unwrap()]);
    assert!(!inspected.status.success());
    for path in ["/v1/snapshot?dc=elsewhere", "/v1/snapshot?stale&consistent"] {
        assert!([400, 500].contains(&agent.get(path).status), "{path}");
    }
    assert_eq!(agent.ask("POST", "/v1/snapshot", b"").status, 405);
}

#[test]
fn a_file_says_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.snap");
    let agent = Agent::new();
    fill(&agent, 3);
    save(&agent, &file);
    let path = file.to_str().unwrap();
    let told = muster().args(["snapshot", "inspect", "-kvdetails", "-kvdepth=1", path]).output().unwrap();
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    for part in ["ID ", "Size ", "Index ", "Term ", "Version ", "KVS", "Service", "k "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let told = muster().args(["snapshot", "inspect", "-format=json", path]).output().unwrap();
    let object: Value = serde_json::from_slice(&told.stdout).unwrap();
    let keys = object["Stats"].as_array().unwrap().iter().find(|kind| kind["Name"] == "KVS").unwrap();
    assert_eq!(keys["Count"], 3);
}

#[test]
fn an_old_file_still_restores() {
    let agent = Agent::new();
    restore(&agent, &Path::new(env!("CARGO_MANIFEST_DIR")).join(OLD));
    assert_eq!(agent.get("/v1/kv/k/1?raw").text(), "value 1");
    assert_eq!(agent.get("/v1/health/service/web").json().as_array().unwrap().len(), 3);
    assert_eq!(agent.get("/v1/query").json()[0]["DNS"]["TTL"], "9s");
    let told = muster().args(["snapshot", "inspect", OLD]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(text.lines().any(|line| line.starts_with("Version ") && line.ends_with(" 1")) && text.contains("KVS"), "{told:?}");
}

#[test]
fn a_file_is_an_archive_that_everybody_can_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.snap");
    let agent = Agent::new();
    fill(&agent, 3);
    save(&agent, &file);
    let unpacked = Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(dir.path()).output().unwrap();
    assert!(unpacked.status.success() && unpacked.stderr.is_empty(), "{unpacked:?}");
    let checked = Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(dir.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "meta.json: OK\nstate.bin: OK\n", "{checked:?}");
    let meta: Value = serde_json::from_slice(&std::fs::read(dir.path().join("meta.json")).unwrap()).unwrap();
    assert_eq!(meta["Size"], std::fs::metadata(dir.path().join("state.bin")).unwrap().len());
    assert_eq!(meta["Version"], 2, "Consul's servers refuse what is neither 0 nor 1");
    let index = agent.get("/v1/catalog/nodes").index();
    assert!(meta["Index"].as_u64() >= Some(index) && meta["Term"].as_u64() > Some(0), "{meta}");
    let servers = agent.get("/v1/operator/raft/configuration").json();
    assert_eq!(meta["Configuration"]["Servers"].as_array().unwrap().len(), 1);
    assert_eq!(meta["Configuration"]["Servers"][0]["Address"], servers["Servers"][0]["Address"]);
}

#[test]
fn a_snapshot_of_consul_is_refused_and_the_way_is_told() {
    let agent = Agent::with(&["-dev"]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(CONSULS);
    agent.done("/v1/kv/stays", "x");
    let said = agent.put("/v1/snapshot", std::fs::read(&file).unwrap());
    assert!(said.status == 500 && said.text().contains("muster import"), "{}", said.text());
    assert_eq!(agent.get("/v1/kv/stays?raw").text(), "x");
    let said = muster().args(["snapshot", "inspect"]).arg(file).output().unwrap();
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("a snapshot of Consul"), "{said:?}");
}

/// A server and a client that follows it.
fn pair() -> (Agent, Agent, [tempfile::TempDir; 2]) {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (gossip, rpc) = (free_port(), free_port());
    let member = |dir: &Path, flags: &[&str]| Agent::started(dir, flags, Around { member: true, ..Around::default() });
    let ports = format!("ports {{\n server = {rpc}\n serf_lan = {gossip}\n}}");
    let mut server = member(dirs[0].path(), &["-node=server", "-server", "-bootstrap", "-hcl", &ports]);
    let join = format!("-retry-join=127.0.0.1:{gossip}");
    let ports = format!("ports {{\n serf_lan = {}\n}}", free_port());
    let mut client = member(dirs[1].path(), &["-node=client", "-hcl", &ports, &join]);
    server.wait_for_leader();
    client.wait_for_leader();
    (server, client, dirs)
}

#[test]
fn a_client_agent_saves_and_restores_and_follows_what_was_restored() {
    let (server, client, dirs) = pair();
    fill(&server, 3);
    let file = dirs[0].path().join("one.snap");
    save(&client, &file);
    client.done("/v1/kv/later", "x");
    restore(&client, &file);
    assert_eq!(server.get("/v1/kv/later").status, 404);
    assert_eq!(answers(&server), answers(&client));
    server
        .done("/v1/catalog/register", json!({"Node": "new", "Address": "192.0.2.99", "Service": {"Service": "web"}}).to_string());
    eventually("the client hears of what came after", || {
        client.get("/v1/health/service/web?stale").json().as_array().unwrap().len() == 4
    });
    // Both are members: what they are is brought into the catalog again.
    eventually("members are in the catalog", || {
        let nodes = client.get("/v1/catalog/nodes").json();
        ["server", "client"].iter().all(|name| nodes.as_array().unwrap().iter().any(|node| node["Node"] == **name))
    });
}
