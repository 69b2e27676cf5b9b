//! Prepared queries over HTTP and DNS, at a server and through a client agent.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

use std::path::Path;

use serde_json::{Value, json};
use support::{Agent, Around, dns_ask, dns_question, eventually, free_port};

mod support;

fn instance(agent: &Agent, number: u8, tags: &[&str], status: &str) {
    let body = json!({
        "Node": format!("n{number}"), "Address": format!("192.0.2.{number}"), "NodeMeta": {"z": number.to_string()},
        "Service": {"ID": "s", "Service": "web", "Tags": tags, "Port": 80, "Meta": {"m": (number % 2).to_string()}},
        "Check": {"CheckID": format!("c{number}"), "Name": "c", "Status": status, "ServiceID": "s"},
    });
    agent.done("/v1/catalog/register", body.to_string());
}

fn post(agent: &Agent, body: &Value) -> String {
    let answer = agent.ask("POST", "/v1/query", body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["ID"].as_str().unwrap().to_owned()
}

/// The names of the nodes that it finds, sorted.
fn found(agent: &Agent, name: &str) -> Vec<String> {
    let answer = agent.get(&format!("/v1/query/{name}/execute")).json();
    let nodes = answer["Nodes"].as_array().unwrap();
    let mut names: Vec<String> = nodes.iter().map(|node| node["Node"]["Node"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_query_finds_what_it_asks_for() {
    let agent = Agent::new();
    instance(&agent, 1, &["a"], "passing");
    instance(&agent, 2, &["a", "B"], "warning");
    instance(&agent, 3, &["a"], "critical");
    let cases = [
        ("plain", json!({}), vec!["n1", "n2"]),
        ("well", json!({"OnlyPassing": true}), vec!["n1"]),
        ("tag", json!({"Tags": ["b"]}), vec!["n2"]),
        ("no-tag", json!({"Tags": ["!b", "a"]}), vec!["n1"]),
        ("node", json!({"NodeMeta": {"z": "2"}}), vec!["n2"]),
        ("meta", json!({"ServiceMeta": {"m": "1"}}), vec!["n1"]),
        ("ignore", json!({"IgnoreCheckIDs": ["c3"]}), vec!["n1", "n2", "n3"]),
        ("near", json!({"Near": "_agent", "Failover": {"NearestN": 2, "Datacenters": ["dc9"]}}), vec!["n1", "n2"]),
    ];
    for (name, mut service, nodes) in cases {
        service["Service"] = json!("web");
        post(&agent, &json!({"Name": name, "Service": service}));
        assert_eq!(found(&agent, name), nodes, "{name}");
    }
    assert_eq!(agent.get("/v1/query/plain/execute?limit=1").json()["Nodes"].as_array().unwrap().len(), 1);
    assert_eq!(agent.get("/v1/query/PLAIN/execute").status, 200, "names are in any case");
    for path in ["execute?limit=x", "execute?stale&consistent", "execute?dc=elsewhere", "execute?index=x"] {
        let answer = agent.get(&format!("/v1/query/plain/{path}"));
        assert!([400, 500].contains(&answer.status) && !answer.text().is_empty(), "{path}: {answer:?}");
    }
    for method in ["PUT", "DELETE"] {
        let answer = agent.ask(method, "/v1/query/plain/execute", b"");
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET")), "{method}");
    }
}

#[test]
fn a_query_is_changed_kept_over_a_restart_and_removed() {
    let mut agent = Agent::new();
    instance(&agent, 1, &[], "passing");
    let id = post(&agent, &json!({"Name": "q", "Service": {"Service": "none"}}));
    agent.done(&format!("/v1/query/{id}"), json!({"Name": "q2", "Service": {"Service": "web"}}).to_string());
    assert_eq!(agent.get("/v1/query/q/execute").status, 404);
    agent.kill_and_start();
    assert_eq!(found(&agent, "q2"), ["n1"]);
    assert_eq!(found(&agent, &id), ["n1"]);
    let again = agent.ask("POST", "/v1/query", br#"{"Name":"Q2","Service":{"Service":"x"}}"#);
    assert_eq!((again.status, again.text().as_str()), (500, "name 'Q2' aliases an existing query name"));
    let alias = agent.ask("POST", "/v1/query", json!({"Name": id, "Service": {"Service": "x"}}).to_string().as_bytes());
    assert_eq!(alias.text(), format!("name '{id}' aliases an existing query ID"));
    assert_eq!(agent.ask("DELETE", &format!("/v1/query/{id}"), b"").status, 200);
    assert_eq!(agent.ask("DELETE", &format!("/v1/query/{id}"), b"").status, 500);
    assert_eq!(agent.get(&format!("/v1/query/{id}")).status, 404);
}

#[test]
fn a_query_goes_with_its_session() {
    let mut agent = Agent::new();
    instance(&agent, 1, &[], "passing");
    let open = || agent.put("/v1/session/create", "{}").json()["ID"].as_str().unwrap().to_owned();
    let (session, other) = (open(), open());
    let tied = |name: &str, session: &str| json!({"Name": name, "Session": session, "Service": {"Service": "web"}});
    let id = post(&agent, &tied("tied", &session));
    post(&agent, &tied("", &session));
    post(&agent, &tied("other", &other));
    assert_eq!(agent.get(&format!("/v1/query/{id}")).json()[0]["Session"], session.as_str());
    let unknown = tied("unknown", "11111111-2222-3333-4444-555555555555");
    let refused = agent.ask("POST", "/v1/query", unknown.to_string().as_bytes());
    assert_eq!((refused.status, refused.text().contains("invalid session")), (500, true), "{}", refused.text());
    agent.kill_and_start();
    assert_eq!(found(&agent, "tied"), ["n1"]);
    agent.done(&format!("/v1/session/destroy/{session}"), "");
    assert_eq!(agent.get("/v1/query/tied/execute").status, 404);
    assert_eq!(agent.get("/v1/query").json().as_array().unwrap().len(), 1);
    assert_eq!(found(&agent, "other"), ["n1"]);
    assert_eq!(address(&agent, "tied.query.consul").0, 3);
}

#[test]
fn a_template_answers_to_the_names_it_fits() {
    let agent = Agent::new();
    instance(&agent, 1, &["v1"], "passing");
    instance(&agent, 2, &["v2"], "passing");
    let template = |regexp: &str, remove: bool| json!({"Type": "name_prefix_match", "Regexp": regexp, "RemoveEmptyTags": remove});
    let by_tag = json!({"Service": "${match(1)}", "Tags": ["${match(2)}"]});
    let id = post(&agent, &json!({"Name": "t-", "Template": template("^t-(.+?)(?:-(.+))?$", true), "Service": by_tag}));
    assert_eq!(found(&agent, "t-web-v2"), ["n2"]);
    assert_eq!(found(&agent, "t-web"), ["n1", "n2"], "a tag that came out empty is not asked for");
    post(&agent, &json!({"Name": "t-web-", "Template": template("", false), "Service": {"Service": "${name.suffix}"}}));
    assert_eq!(found(&agent, "t-web-web"), ["n1", "n2"], "the longest beginning counts");
    assert_eq!(agent.get("/v1/query/other/execute").status, 404);
    let all = json!({"Service": "${name.full}|${name.prefix}|${name.suffix}|${match(0)}|$${x}|${agent.segment}"});
    post(&agent, &json!({"Template": template("", false), "Service": all}));
    let explained = agent.get("/v1/query/other/explain").json();
    assert_eq!(explained["Query"]["Service"]["Service"], "other||other||${x}|");
    let by_id = agent.get(&format!("/v1/query/{id}/execute"));
    assert_eq!(
        (by_id.status, by_id.text().as_str()),
        (500, "prepared query templates can only be resolved up by name, not by ID")
    );
}

/// Code, TTL of the first answer, and its address if it is one.
fn address(agent: &Agent, name: &str) -> (u8, Option<u32>, Option<Vec<u8>>) {
    let question = dns_question(name, 1);
    let answer = dns_ask(agent.dns, &question);
    let record = answer.get(question.len()..).filter(|_| answer[7] > 0).and_then(|record| {
        let record = record.get(2..)?; // a pointer to the name
        Some((u32::from_be_bytes(record.get(4..8)?.try_into().ok()?), record.get(10..14)?.to_vec()))
    });
    (answer[3] & 0xf, record.as_ref().map(|record| record.0), record.map(|record| record.1))
}

#[test]
fn dns_answers_queries_at_a_server_and_through_a_client() {
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
    instance(&server, 1, &["v1"], "passing");
    instance(&server, 2, &["v2"], "critical");
    post(&client, &json!({"Name": "my.query", "Service": {"Service": "web"}, "DNS": {"TTL": "23s"}}));
    let template = json!({"Type": "name_prefix_match", "Regexp": "^t-(.+)$"});
    post(&client, &json!({"Name": "t-", "Template": template, "Service": {"Service": "${match(1)}"}}));
    for agent in [&server, &client] {
        eventually("it is answered", || address(agent, "my.query.query.consul") == (0, Some(23), Some(vec![192, 0, 2, 1])));
        assert_eq!(address(agent, "my.query.query.dc1.consul").0, 0);
        assert_eq!(address(agent, "t-web.query.consul"), (0, Some(0), Some(vec![192, 0, 2, 1])));
        assert_eq!(address(agent, "t-none.query.consul").0, 3);
        assert_eq!(address(agent, "none.query.consul").0, 3);
        assert_eq!(address(agent, "my.query.query.dc9.consul").0, 3);
        assert_eq!(found(agent, "my.query"), ["n1"]);
        assert_eq!(agent.get("/v1/query").json().as_array().unwrap().len(), 2);
        assert_eq!(agent.get("/v1/query/t-web/explain").json()["Query"]["Service"]["Service"], "web");
    }
}
