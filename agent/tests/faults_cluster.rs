//! Faults of a cluster: its quorum is lost and comes back, its hosts change their addresses and names.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // tests read the clock and say what they saw
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod support;
mod whole;

use std::sync::atomic::{AtomicU16, Ordering};
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
    let mut moved = net.server_named(&servers[at].name, 9, 3, &[]);
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

/// The first of so many ports that are free at this address of IPv6; `None` where the host has no IPv6, and nothing is judged.
fn free_ports(at: &str, of: u16) -> Option<u16> {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("not judged: this host has no IPv6");
        return None;
    }
    let all_free = |first: u16| (0..of).all(|add| std::net::TcpListener::bind((at, first + add)).is_ok());
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // A test that runs beside this one begins elsewhere.
    let turn = (std::process::id() as u16 % 4000) + NEXT.fetch_add(1000, Ordering::SeqCst);
    (0..4000).map(|add| 12_000 + (turn + add) % 4000 * 4).find(|first| all_free(*first))
}

/// The four ports of an agent, from that of HTTP on.
fn ports(first: u16) -> String {
    format!("ports {{\n http = {first}\n dns = {}\n serf_lan = {}\n server = {}\n}}", first + 1, first + 2, first + 3)
}

/// Fault 39: agents that have IPv6 alone.
#[test]
fn a_cluster_on_ipv6_alone() {
    let net = Net::new();
    let Some(first) = free_ports("::1", 12) else { return };
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

/// Whether that agent sees these members, all alive, at these addresses, and has nothing to tell of any of them.
fn sees_well(agent: &Agent, members: &[(&str, String)]) -> bool {
    let all = agent.ask("GET", "/v1/agent/members", b"").map(|answer| answer.json()).unwrap_or_default();
    let rows = all.as_array().map_or(&[][..], Vec::as_slice);
    let well = |row: &Value| row["Status"] == 1 && row["Cause"].as_str().is_none_or(str::is_empty);
    let is_there = |(name, ip): &(&str, String)| rows.iter().any(|row| row["Name"] == *name && row["Addr"] == **ip && well(row));
    rows.len() == members.len() && members.iter().all(is_there)
}

/// Fault 39: hosts of both families, of which some tell others an IPv4 address and some an IPv6 address.
#[test]
fn agents_of_both_families_find_each_other_and_one_of_ipv4_alone_says_what_it_lacks() {
    let net = Net::new();
    let Some(first) = free_ports("::", 20) else { return };
    let (v4, v6) = (|host: u8| net.ip(host), "::1".to_owned());
    let hosts = [("s1", v4(1)), ("s2", v6.clone()), ("c1", v4(3)), ("c2", v6.clone())];
    // a server of one family and one of the other: whoever joins at either
    let joins = [format!("-retry-join={}:{}", v4(1), first + 2), format!("-retry-join=[::1]:{}", first + 6)];
    let mut agents = Vec::new();
    for (number, (name, ip)) in (0..).zip(&hosts) {
        let http = first + 4 * number;
        let mut agent = net.agent(name, 1 + number as u8, &["-hcl", &ports(http), &joins[usize::from(number != 2)]]);
        if name.starts_with('s') {
            agent.told(&["-server", "-bootstrap-expect=2", &joins[0]]);
        }
        agent.at_both_families(ip, http);
        agent.start();
        agents.push(agent);
    }
    agents.iter_mut().for_each(Agent::is_up);
    for client in &agents[2..] {
        client.done("/v1/agent/service/register", json!({ "Name": "web", "Port": 80 }).to_string());
        client.done(&format!("/v1/kv/{}", client.name), "1");
    }
    for agent in &mut agents {
        agent.eventually("all see each other well", |agent| sees_well(agent, &hosts));
        agent.eventually("both are found, each by its family", |agent| {
            [1, 28].iter().all(|kind| support::dns_count(agent.dns(), "web.service.consul", *kind) == 1)
        });
    }
    // both families reach the doors of an agent that listens on all addresses
    for ip in [v4(9), v6] {
        let at = |port| std::net::SocketAddr::new(ip.parse().unwrap(), port);
        let answer = support::request(at(first), "GET", "/v1/kv/c1?raw", &[], b"").unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "1"));
        assert_eq!(support::dns_count(at(first + 1), "web.service.consul", 1), 1);
    }
    // one whose socket takes IPv4 alone is let in, says what it lacks, and harms nobody; nor does anybody harm it
    let http = first + 16;
    let mut alone = net.agent("c3", 5, &["-hcl", &ports(http), &joins[0]]);
    alone.at_port(http);
    alone.start_up();
    alone.eventually("it says what it lacks", |alone| {
        alone.said("bound to IPv4 alone").iter().any(|line| line.contains("[::1]:") && line.contains("bind it to both"))
    });
    alone.done("/v1/agent/service/register", json!({ "Name": "web", "Port": 81 }).to_string());
    agents.push(alone);
    for agent in &mut agents {
        agent.eventually("all are there", |agent| agent.alive().len() == 5);
        agent.eventually("all are found", |agent| agent.addresses("web.service.consul") == 2);
    }
    assert_eq!(agents[4].said("bound to IPv4 alone").len(), 1, "it is said once");
    for agent in &mut agents {
        assert!(agent.runs() && agent.said("member failed").is_empty(), "{}", agent.log());
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
