//! Where nodes are: found out by agents, told from outside, asked for, and what is nearest comes first.
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod support;
mod whole;

use std::process::Command;

use serde_json::{Value, json};
use support::{dns_ask, dns_question, request};
use whole::{Agent, Net};

fn placed(agent: &Agent) -> Vec<String> {
    let answer = agent.get("/v1/coordinate/nodes");
    let name = |row: &Value| row["Node"].as_str().unwrap().to_owned();
    answer.json().as_array().map(|all| all.iter().map(name).collect()).unwrap_or_default()
}

fn names(agent: &Agent, path: &str, of: impl Fn(&Value) -> &Value) -> Vec<String> {
    let answer = agent.get(path);
    assert_eq!(answer.status, 200, "{path}");
    answer.json().as_array().unwrap().iter().map(|row| of(row).as_str().unwrap().to_owned()).collect()
}

fn rtt(agent: &Agent, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(["rtt", &format!("-http-addr={}", agent.http())]).args(arguments);
    let output = command.output().unwrap();
    let text = String::from_utf8(if output.status.success() { output.stdout } else { output.stderr }).unwrap();
    (output.status.code(), text)
}

/// The last bytes of the addresses in the order of the answer; the network that is asked for is told with EDNS.
fn by_dns(agent: &Agent, name: &str, subnet: Option<[u8; 4]>) -> Vec<u8> {
    let mut question = dns_question(name, 1);
    let end = question.len();
    let option = subnet.map(|address| [&[0, 8, 0, 8, 0, 1, 32, 0][..], &address].concat()).unwrap_or_default();
    question[11] = 1;
    question.extend_from_slice(&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, option.len() as u8]);
    question.extend_from_slice(&option);
    let answer = dns_ask(agent.dns(), &question);
    if let Some(address) = subnet.filter(|_| answer[7] > 0) {
        // It is for askers there alone.
        assert!(answer.ends_with(&[&[0, 1, 32, 32][..], &address].concat()), "{answer:?}");
    }
    answer[end..].chunks_exact(16).take(answer[7].into()).map(|record| record[15]).collect()
}

fn queries_put_the_nearest_first(server: &mut Agent, client: &mut Agent) {
    let [far, middle, near, nowhere] = [1, 2, 3, 4];
    for (name, near) in
        [("to-near", "NEAR"), ("to-far", "far"), ("to-nowhere", "nowhere"), ("to-asker", "_ip"), ("to-agent", "_agent")]
    {
        let query = json!({ "Name": name, "Service": { "Service": "web", "Near": near } });
        assert_eq!(client.ask("POST", "/v1/query", query.to_string().as_bytes()).unwrap().status, 200);
    }
    for agent in [server, client] {
        let executed = |agent: &Agent, path: &str, from: &str| {
            let headers = [("X-Forwarded-For", from)];
            let answer = request(agent.http(), "GET", &format!("/v1/query/{path}"), &headers, b"").unwrap();
            assert_eq!(answer.status, 200, "{path}");
            let name = |node: &Value| node["Node"]["Node"].as_str().unwrap().to_owned();
            answer.json()["Nodes"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
        };
        for _ in 0..5 {
            assert_eq!(executed(agent, "to-near/execute", ""), ["near", "middle", "far", "nowhere"]);
            assert_eq!(executed(agent, "to-near/execute?limit=2", ""), ["near", "middle"]);
            assert_eq!(
                executed(agent, "to-near/execute?near=far", ""),
                ["far", "middle", "near", "nowhere"],
                "the asker's wish counts"
            );
            assert_eq!(executed(agent, "to-nowhere/execute", "")[0], "nowhere", "it is near itself");
            assert_eq!(executed(agent, "to-asker/execute", "192.0.2.1, 10.0.0.1"), ["far", "middle", "near", "nowhere"]);
            assert_eq!(by_dns(agent, "to-near.query.consul", None), [near, middle, far, nowhere]);
            assert_eq!(by_dns(agent, "to-far.query.consul", None), [far, middle, near, nowhere]);
            assert_eq!(by_dns(agent, "to-asker.query.consul", Some([192, 0, 2, 1])), [far, middle, near, nowhere]);
            assert_eq!(by_dns(agent, "to-asker.query.consul", Some([192, 0, 2, 3])), [near, middle, far, nowhere]);
        }
        // Where the agent is it finds out itself: not far from where all others were placed.
        let found = |agent: &Agent| {
            let first = |order: Vec<String>| order.first().cloned().unwrap_or_default();
            first(executed(agent, "to-agent/execute", "")) == "near" && by_dns(agent, "to-agent.query.consul", None)[0] == near
        };
        agent.eventually("its own place counts", found);
    }
}

#[test]
fn the_nearest_come_first_on_servers_and_clients() {
    let net = Net::new();
    let mut server = net.server(1, 1, &[]);
    server.start_up();
    let mut client = net.client(11, 1, &[]);
    client.start_up();
    for (number, (node, x)) in (1..).zip([("far", 0.2), ("middle", 0.05), ("near", 0.01), ("nowhere", 0.0)]) {
        let service = json!({ "Service": "web", "Port": 80 });
        let check = json!({ "CheckID": "c", "Name": "c", "Status": "passing", "ServiceID": "web" });
        let node = json!({ "Node": node, "Address": format!("192.0.2.{number}"), "Service": service, "Check": check });
        client.done("/v1/catalog/register", node.to_string());
        if x > 0.0 {
            let coord = json!({ "Vec": [x, 0, 0, 0, 0, 0, 0, 0], "Error": 0.5, "Adjustment": 0, "Height": 0.0001 });
            client.done("/v1/coordinate/update", json!({ "Node": node["Node"], "Coord": coord }).to_string());
        }
    }
    for agent in [&mut server, &mut client] {
        agent.eventually("it has all", |agent| agent.get("/v1/health/service/web").json().as_array().unwrap().len() == 4);
        let order = ["near", "middle", "far", "nowhere"];
        assert_eq!(names(agent, "/v1/health/service/web?near=near", |row| &row["Node"]["Node"]), order);
        assert_eq!(names(agent, "/v1/catalog/service/web?near=NEAR", |row| &row["Node"]), order);
        assert_eq!(names(agent, "/v1/health/checks/web?near=near", |row| &row["Node"]), order);
        let far = names(agent, "/v1/catalog/nodes?near=far", |row| &row["Node"]);
        assert_eq!(far[..3], ["far", "middle", "near"]);
        for nobody in ["none", "nowhere"] {
            let path = format!("/v1/health/service/web?near={nobody}");
            assert_eq!(names(agent, &path, |row| &row["Node"]["Node"]), ["far", "middle", "near", "nowhere"]);
        }
        let one = agent.get("/v1/coordinate/node/near");
        assert_eq!((one.status, &one.json()[0]["Coord"]["Vec"][0]), (200, &json!(0.01)));
        assert_eq!(agent.get("/v1/coordinate/node/nowhere").status, 404);
        let said = rtt(agent, &["near", "far"]);
        assert_eq!(said, (Some(0), "Estimated near <-> far rtt: 190.200 ms (using LAN coordinates)\n".to_owned()));
        let (code, text) = rtt(agent, &["near", "nowhere"]);
        assert!(code == Some(1) && text.contains("Could not find a coordinate for node \"nowhere\""), "{text}");
    }
    queries_put_the_nearest_first(&mut server, &mut client);
    // agents find out where they are, and tell it
    client.eventually("both agents are somewhere", |client| {
        let placed = placed(client);
        ["c11", "s1"].iter().all(|name| placed.iter().any(|placed| placed == name))
    });
    let (code, text) = rtt(&client, &["s1"]);
    assert!(code == Some(0) && text.starts_with("Estimated s1 <-> c11 rtt: ") && text.ends_with(" ms (using LAN coordinates)\n"));
    let (code, text) = rtt(&server, &["-wan", "s1.dc1"]);
    assert!(code == Some(0) && text.contains("s1.dc1 <-> s1.dc1 rtt: ") && text.contains("WAN"), "{text}");
    let own = client.get("/v1/agent/self").json();
    assert!(own["Coord"]["Error"].as_f64().unwrap() < 1.5, "it has measured: {}", own["Coord"]);
    // who goes is nowhere
    client.done("/v1/catalog/deregister", json!({ "Node": "far" }).to_string());
    client.eventually("it is nowhere", |client| client.get("/v1/coordinate/node/far").status == 404);
}
