//! Faults of a cluster: its quorum is lost and comes back, its hosts change their addresses and names.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // tests read the clock and say what they saw
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod support;
mod whole;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::Backend;
use whole::{Agent, Net};

fn rows(agent: &Agent, path: &str) -> Vec<Value> {
    let answer = agent.get(path);
    if answer.status == 200 { answer.json().as_array().cloned().unwrap_or_default() } else { Vec::new() }
}

fn status_of(agent: &Agent, service: &str) -> Option<String> {
    let all = rows(agent, &format!("/v1/health/checks/{service}"));
    all.first().map(|check| check["Status"].as_str().unwrap().to_owned())
}

/// Fault 21: two of three servers die. Reads, DNS and checks go on, writes fail and say why, and what was told meanwhile is
/// there when the quorum is back.
#[test]
fn without_a_quorum_look_ups_and_checks_go_on_and_what_was_told_is_delivered() {
    let net = Net::new();
    let hold = ["-hcl", "performance {\n rpc_hold_timeout = \"1s\"\n}"];
    let mut servers = net.servers(3, &hold);
    let mut client = net.client(11, 3, &hold);
    client.start_up();
    let backend = Backend::new();
    let web = json!({ "Name": "web", "Port": 80, "Check": { "HTTP": backend.url(), "Interval": "100ms", "Status": "passing" } });
    client.done("/v1/agent/service/register", web.to_string());
    for agent in servers.iter_mut().chain([&mut client]) {
        agent.eventually("it passes", |agent| agent.addresses("web.service.consul") == 1);
    }
    servers[0].kill();
    servers[1].kill();
    for agent in [&mut servers[2], &mut client] {
        agent.eventually("it says that nobody leads", |agent| {
            agent.get("/v1/health/service/web").header("X-Consul-KnownLeader") == Some("false")
        });
        let asked = Instant::now();
        let stale = agent.get("/v1/health/service/web?stale");
        let default = agent.get("/v1/health/service/web?passing");
        assert!(asked.elapsed() < Duration::from_secs(3), "a look-up waits for nobody: {:?}", asked.elapsed());
        for answer in [stale, default] {
            assert_eq!((answer.status, answer.json().as_array().unwrap().len()), (200, 1));
        }
        assert_eq!(agent.addresses("web.service.consul"), 1);
        let asked = Instant::now();
        let write = agent.put("/v1/kv/a", "1");
        println!("{}: a write: {} {:?} after {:?}", agent.name, write.status, write.text(), asked.elapsed());
        assert_eq!((write.status, write.text().as_str()), (500, "No cluster leader"));
        assert_eq!(agent.get("/v1/kv/a?consistent").status, 500);
    }
    // checks go on, and their verdicts wait
    backend.answers(500);
    client.eventually("the agent knows that it fails", |client| {
        client.get("/v1/agent/checks").json()["service:web"]["Status"] == "critical"
    });
    client.put("/v1/agent/service/register", json!({ "Name": "later", "Port": 81 }).to_string());
    assert_eq!(client.get("/v1/agent/services").json()["later"]["Port"], 81);
    servers[0].start();
    let back = Instant::now();
    for agent in [&mut servers[2], &mut client] {
        agent.eventually("the verdict is in the catalog", |agent| status_of(agent, "web").as_deref() == Some("critical"));
        agent.eventually("the registration is, too", |agent| agent.addresses("later.service.consul") == 1);
        agent.eventually("and somebody leads", |agent| {
            agent.get("/v1/health/service/web").header("X-Consul-KnownLeader") == Some("true")
        });
    }
    println!("all is in the catalog {:?} after the second server was started", back.elapsed());
    client.done("/v1/kv/a", "1");
}

/// Fault 39: one host gets another address, and then another name. It stays the same node, with all that it runs.
#[test]
fn a_host_with_another_address_or_name_is_the_same_node() {
    let net = Net::new();
    let mut servers = net.servers(3, &[]);
    let mut web = net.client(11, 3, &[]);
    web.start_up();
    web.done("/v1/agent/service/register", json!({ "Name": "web", "Port": 80 }).to_string());
    servers[0].eventually("it is found", |server| server.addresses("web.service.consul") == 1);
    let id = rows(&servers[0], "/v1/catalog/service/web")[0]["ID"].clone();
    let is_at = |server: &Agent, name: &str, ip: &str| {
        let found = rows(server, "/v1/catalog/service/web");
        let here = |row: &Value| row["Node"] == name && row["Address"] == ip && row["ID"] == id;
        found.len() == 1 && here(&found[0]) && server.addresses("web.service.consul") == 1
    };
    for (name, host) in [("c11", 12), ("other-name", 12), ("c11", 13)] {
        web.kill();
        let old = web.data();
        web = net.agent(name, host, &[&format!("-retry-join={}", net.ip(1))]);
        if old != web.data() {
            std::fs::create_dir_all(web.data().parent().unwrap()).unwrap();
            std::fs::rename(old, web.data()).unwrap();
        }
        web.start_up();
        for server in &mut servers {
            server.eventually("it is the same node there", |server| is_at(server, name, &net.ip(host)));
            server.eventually("there are four members", |server| {
                server.alive().len() == 4 && server.members().get(name) == Some(&(1, net.ip(host)))
            });
        }
    }
    // a server is the same voter at another address
    let leader = servers[0].leader();
    let at = servers.iter().position(|server| server.ip != leader).unwrap();
    servers[at].kill();
    let mut moved = net.agent(&servers[at].name.clone(), 9, &["-server", "-bootstrap-expect=3"]);
    for host in 1..=3 {
        moved.told(&[&format!("-retry-join={}", net.ip(host))]);
    }
    std::fs::create_dir_all(moved.data().parent().unwrap()).unwrap();
    std::fs::rename(servers[at].data(), moved.data()).unwrap();
    moved.start_up();
    servers[at] = moved;
    // with one of the others dead it must be reached at its new address
    let dead = servers.iter().position(|server| server.ip == leader).unwrap();
    servers[dead].kill();
    let other = 3 - at - dead;
    for at in [at, other] {
        servers[at].eventually("a write is acknowledged", |server| server.put("/v1/kv/moved", "1").status == 200);
    }
}

/// Fault 39: agents that have IPv6 alone.
#[test]
fn a_cluster_on_ipv6_alone() {
    let net = Net::new();
    let ports = |first: u16| {
        format!("ports {{\n http = {first}\n dns = {}\n serf_lan = {}\n server = {}\n}}", first + 1, first + 2, first + 3)
    };
    let free = |of: u16| {
        let all_free = |first: u16| (0..of).all(|add| std::net::TcpListener::bind(("::1", first + add)).is_ok());
        let turn = std::process::id() as u16 % 4000;
        (0..4000).map(|add| 12_000 + (turn + add) % 4000 * 4).find(|first| all_free(*first)).unwrap()
    };
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("not judged: this host has no IPv6");
        return;
    }
    let first = free(12);
    let join = format!("-retry-join=[::1]:{}", first + 2);
    let mut agents = Vec::new();
    for (number, name) in ["s1", "s2", "c1"].into_iter().enumerate() {
        let at = ports(first + 4 * number as u16);
        let mut agent = net.agent(name, 1 + number as u8, &["-hcl", &at, &join]);
        if name.starts_with('s') {
            agent.told(&["-server", "-bootstrap-expect=2"]);
        }
        agent.at_ipv6(first + 4 * number as u16);
        agent.start();
        agents.push(agent);
    }
    agents.iter_mut().for_each(Agent::is_up);
    agents[2].done("/v1/agent/service/register", json!({ "Name": "web", "Port": 80 }).to_string());
    for agent in &mut agents {
        agent.eventually("it is found, and is IPv6", |agent| {
            support::dns_count(agent.dns(), "web.service.consul", 28) == 1
                && agent.members().get("c1") == Some(&(1, "::1".to_owned()))
        });
    }
}

/// How many feeds have fallen silent, as that agent tells.
fn silent(agent: &Agent) -> u64 {
    let text = agent.get("/v1/agent/metrics?format=prometheus").text();
    let line = text.lines().find_map(|line| line.strip_prefix("consul_feed_silent "));
    line.map_or(0, |count| count.trim().parse::<f64>().unwrap() as u64)
}

/// A process is stopped in its tracks for a while: its connections stand, and say nothing.
#[test]
fn a_feed_that_falls_silent_is_told_once_at_its_other_end_and_no_other_is() {
    let net = Net::new();
    let told = ["-hcl", "telemetry {\n prometheus_retention_time = \"1h\"\n disable_hostname = true\n}"];
    let mut server = net.server(1, 1, &told);
    server.start_up();
    let mut clients: Vec<Agent> = (11..14).map(|host| net.client(host, 1, &told)).collect();
    clients.iter_mut().for_each(Agent::start_up);
    clients[0].signal("STOP");
    server.eventually("its silence is told", |server| silent(server) == 1);
    clients[0].signal("CONT");
    server.eventually("all are there", |server| server.alive().len() == 4);
    server.signal("STOP");
    for client in &mut clients[1..] {
        client.eventually("the silence of the server is told", |client| silent(client) == 1);
    }
    server.signal("CONT");
    clients[1].eventually("all are there", |client| client.alive().len() == 4);
    assert_eq!(silent(&server), 1, "nobody else was silent while the server slept, nor the same one twice");
}
