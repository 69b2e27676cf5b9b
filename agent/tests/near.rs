//! Where nodes are: found out by agents, told from outside, asked for, and what is nearest comes first.
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod support;
mod whole;

use std::process::Command;

use serde_json::{Value, json};
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

#[test]
fn the_nearest_come_first_on_servers_and_clients() {
    let net = Net::new();
    let mut server = net.server(1, 1, &[]);
    server.start_up();
    let mut client = net.client(11, 1, &[]);
    client.start_up();
    for (node, x) in [("far", 0.2), ("middle", 0.05), ("near", 0.01), ("nowhere", 0.0)] {
        let service = json!({ "Service": "web", "Port": 80 });
        let check = json!({ "CheckID": "c", "Name": "c", "Status": "passing", "ServiceID": "web" });
        let node = json!({ "Node": node, "Address": "192.0.2.1", "Service": service, "Check": check });
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
