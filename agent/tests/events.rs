//! User events: to all agents, by filters, once.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

use std::path::Path;

use serde_json::Value;
use support::{Agent, Around, eventually, free_port, muster};

mod support;

fn names(agent: &Agent, path: &str) -> Vec<String> {
    let list = agent.get(path).json();
    list.as_array().unwrap().iter().map(|event| event["Name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_event_reaches_those_it_is_meant_for_once() {
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
    client.done("/v1/agent/service/register", r#"{"Name":"web","Tags":["v1"]}"#);
    for path in
        ["to-all", "to-client?node=^cli", "to-web?service=web", "to-v1?service=w.b&tag=v[0-9]", "to-nobody?service=web&tag=v2"]
    {
        server.done(&format!("/v1/event/fire/{path}"), "hello");
    }
    let all = ["to-all", "to-client", "to-web", "to-v1"];
    eventually("the client has heard", || {
        let mut heard = names(&client, "/v1/event/list");
        heard.sort();
        let mut wanted = all.to_vec();
        wanted.sort_unstable();
        heard == wanted
    });
    assert_eq!(names(&server, "/v1/event/list"), ["to-all"]);
    let event = &client.get("/v1/event/list?name=to-all").json()[0];
    assert_eq!((&event["Payload"], &event["Version"]), (&Value::from("aGVsbG8="), &Value::from(1)));
    assert_eq!(event["ID"], server.get("/v1/event/list").json()[0]["ID"]);
}

#[test]
fn a_reader_of_the_list_waits_for_the_next_one() {
    let agent = Agent::new();
    let fired = muster().args(["event", &format!("-http-addr={}", agent.http), "-name=deploy", "one"]).output().unwrap();
    assert!(fired.status.success() && fired.stdout.starts_with(b"Event ID: "), "{fired:?}");
    let first = agent.get("/v1/event/list?name=deploy");
    assert_eq!(first.json().as_array().unwrap().len(), 1);
    let path = format!("/v1/event/list?name=deploy&index={}&wait=60s", first.index());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| agent.get(&path));
        agent.done("/v1/event/fire/other", "");
        agent.done("/v1/event/fire/deploy", "two");
        assert_eq!(waits.join().unwrap().json().as_array().unwrap().len(), 2);
    });
    assert_eq!(agent.get("/v1/event/list?name=none&index=1&wait=10ms").index(), 1);
}

#[test]
fn what_cannot_be_fired_is_refused_in_consuls_words() {
    let agent = Agent::new();
    for (path, body, status, text) in [
        ("", String::new(), 400, "Missing name"),
        ("a?tag=x", String::new(), 500, "Cannot provide tag filter without service filter"),
        ("a?node=[", String::new(), 500, "Invalid node filter: error parsing regexp: "),
        ("a", "x".repeat(450), 500, "user event exceeds configured limit of 512 bytes before encoding"),
        ("a?dc=elsewhere", String::new(), 500, "No path to datacenter"),
        ("a", "x".repeat(100_000), 413, "Request body(100000 bytes) too large"),
    ] {
        let answer = agent.put(&format!("/v1/event/fire/{path}"), body);
        assert!(answer.status == status && answer.text().starts_with(text), "{path}: {} {}", answer.status, answer.text());
    }
    for path in ["/v1/event/list?index=x", "/v1/event/list?wait=x"] {
        assert_eq!(agent.get(path).status, 400, "{path}");
    }
    agent.done("/v1/event/fire/a", "x".repeat(400));
}

#[test]
fn who_monitors_an_agent_reads_its_log_and_does_not_keep_it_from_stopping() {
    let mut agent = Agent::new();
    let mut monitor = muster()
        .args(["monitor", &format!("-http-addr={}", agent.http), "-log-level=debug"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(monitor.stdout.take().unwrap()));
    let told = std::thread::spawn(move || {
        lines.any(|line| line.is_ok_and(|line| line.contains("[DEBUG]") && line.contains("name=told")))
    });
    eventually("a line comes", || {
        agent.done("/v1/event/fire/told", "");
        told.is_finished()
    });
    assert!(told.join().unwrap());
    agent.signal("TERM");
    assert!(agent.ended(std::time::Duration::from_secs(4)).is_some(), "a listener holds nobody up");
    monitor.wait().unwrap();
}
