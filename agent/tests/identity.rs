//! Who an agent is: clones, namesakes, strangers and re-imaged hosts, as whole agents at addresses of their own.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // tests read the clock and say what they saw
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod support;
mod whole;

use serde_json::{Value, json};
use support::muster;
use whole::{Agent, KEY, Net, copy};

/// A server that is a cluster of its own.
const LONE: [&str; 2] = ["-server", "-bootstrap-expect=1"];

fn register(agent: &mut Agent, service: &str) {
    agent.done("/v1/agent/service/register", json!({ "Name": service, "Port": 80 }).to_string());
}

fn rows(agent: &Agent, path: &str) -> Vec<Value> {
    let answer = agent.get(path);
    if answer.status == 200 { answer.json().as_array().cloned().unwrap_or_default() } else { Vec::new() }
}

/// The id that the catalog has for a node of that name.
fn id_in_catalog(agent: &Agent, name: &str) -> Option<String> {
    let all = rows(agent, "/v1/catalog/nodes");
    all.iter().find(|row| row["Node"] == name).map(|row| row["ID"].as_str().unwrap().to_owned())
}

fn joins(agent: &Agent, ip: &str) -> (bool, String) {
    let out = muster().args(["join", &format!("-http-addr={}", agent.http()), ip]).output().unwrap();
    (out.status.success(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

#[test]
fn two_clusters_pointed_at_each_other_never_merge() {
    let net = Net::new();
    let mut clusters: Vec<Vec<Agent>> = [(1, 2), (3, 4)]
        .map(|(server, client)| {
            let mut server = net.agent(&format!("server-{server}"), server, &LONE);
            server.start_up();
            let mut client = net.agent(&format!("client-{client}"), client, &[&format!("-retry-join={}", server.ip)]);
            client.start_up();
            register(&mut client, &format!("of-{}", server.name));
            vec![server, client]
        })
        .into();
    let ids: Vec<String> = clusters.iter().map(|cluster| cluster[0].cluster_id()).collect();
    assert_ne!(ids[0], ids[1]);
    // every agent is told of the other cluster's server, by its configuration and by its operator
    for (this, other) in [(0, 1), (1, 0)] {
        let there = clusters[other][0].ip.clone();
        for agent in &mut clusters[this] {
            agent.kill();
            agent.told(&[&format!("-retry-join={there}")]);
            agent.start_up();
            let (joined, text) = joins(agent, &there);
            assert!(!joined && text.contains("clusters never merge"), "{text}");
            assert!(text.contains(&ids[0]) && text.contains(&ids[1]) && text.contains("--forget-cluster"), "{text}");
        }
        clusters[other][0].eventually("it says whom it did not let in", |server| {
            server.said("an agent was not let in").iter().any(|line| line.contains(&ids[0]) && line.contains(&ids[1]))
        });
    }
    for (number, cluster) in clusters.iter_mut().enumerate() {
        let names = [cluster[1].name.clone(), cluster[0].name.clone()];
        for agent in cluster.iter_mut() {
            agent.eventually("both are there", |agent| agent.alive() == names);
            assert_eq!(agent.members().len(), 2, "{:?}", agent.members());
            assert_eq!(agent.cluster_id(), ids[number]);
            agent.eventually("the own service is found", |agent| {
                agent.addresses(&format!("of-server-{}.service.consul", 2 * number + 1)) == 1
            });
            assert_eq!(agent.addresses(&format!("of-server-{}.service.consul", 3 - 2 * number)), 0);
        }
    }
}

#[test]
fn a_host_that_is_imaged_anew_takes_its_place_without_an_operator() {
    let net = Net::new();
    let mut server = net.agent("server", 1, &LONE);
    server.start_up();
    let join = format!("-retry-join={}", server.ip);
    let mut witness = net.agent("witness", 2, &[&join]);
    witness.start_up();
    let mut web = net.agent("web", 3, &[&join]);
    web.start_up();
    register(&mut web, "old");
    server.eventually("it is found", |server| server.addresses("old.service.consul") == 1);
    let mut old = web.node_id();
    // three times: at its address, at its address after it was declared dead, at another address
    for (time, host) in [(0, 3), (1, 3), (2, 4)] {
        web.kill();
        if time == 1 {
            server.eventually("it has failed", |server| server.members()["web"].0 == 4);
        }
        if host == 3 {
            std::fs::remove_dir_all(web.data()).unwrap();
        }
        web = net.agent("web", host, &[&join]);
        web.start_up();
        let new = web.node_id();
        assert_ne!(new, old);
        for agent in [&mut server, &mut witness] {
            agent.eventually("the new one is a member", |agent| agent.members()["web"] == (1, net.ip(host)));
            agent.eventually("the new one is the node", |agent| id_in_catalog(agent, "web").as_deref() == Some(&new));
            agent.eventually("the old one's services are gone", |agent| rows(agent, "/v1/catalog/service/old").is_empty());
        }
        register(&mut web, "old");
        server.eventually("it is found", |server| server.addresses("old.service.consul") == 1);
        old = new;
    }
}

/// Fault 39: a host gives an address at which another node answers. That one stays, and the other is told what to look at.
#[test]
fn an_address_that_another_node_answers_at_harms_that_node_not_at_all() {
    let net = Net::new();
    let mut server = net.server(1, 1, &[]);
    server.start_up();
    let mut first = net.client(11, 1, &[]);
    first.start_up();
    register(&mut first, "web");
    server.eventually("it is found", |server| server.addresses("web.service.consul") == 1);
    let mut second = net.client(12, 1, &[&format!("-advertise={}", net.ip(11))]);
    second.start();
    second.eventually("it is told", |second| !second.said("cannot reach the address").is_empty());
    // each of the two names the other, and says what to do
    for (agent, other) in [(&mut first, "c12"), (&mut second, "c11")] {
        agent.eventually("it says who else has its address", |agent| {
            let said = agent.said("another member advertises this agent's own address");
            said.iter().any(|line| line.contains(&format!("node=\"{other}\"")) && line.contains("advertise_addr"))
        });
        println!("{}", agent.said("another member advertises")[0]);
    }
    let stays = |server: &Agent| {
        let is_there = server.members().get("c11") == Some(&(1, net.ip(11))) && server.addresses("web.service.consul") == 1;
        assert!(is_there, "the first is not there any more: {:?}", server.members());
    };
    server.eventually("the second is not held alive", |server| {
        stays(server);
        server.members().get("c12").is_some_and(|member| member.0 == 4)
    });
    stays(&server);
    assert!(first.runs() && second.runs(), "nobody exits for it");
    assert!(first.members()["c11"].0 == 1 && first.leader() == server.ip);
}

#[test]
fn a_copied_data_directory_is_refused_and_the_first_is_unharmed() {
    let net = Net::new();
    let mut server = net.agent("server", 1, &LONE);
    server.start_up();
    let join = format!("-retry-join={}", server.ip);
    let mut first = net.agent("web", 2, &[&join]);
    first.start_up();
    register(&mut first, "of-first");
    let mut clone = net.agent("web", 3, &[&join]);
    copy(&first.data(), &clone.data());
    clone.start();
    let id = first.node_id();
    let told = format!("node id {id} is held by the living agent at {}:8301", first.ip);
    clone.eventually("it is told why, and what to do", |clone| {
        clone.said(&told).iter().any(|line| line.contains("remove its node id") && line.contains("--replace"))
    });
    server.eventually("the server says whom it did not let in", |server| {
        server.said("an agent was not let in").iter().any(|line| line.contains(&told))
    });
    assert!(clone.runs(), "nobody exits by itself");
    assert_eq!(server.members()["web"], (1, first.ip.clone()));
    register(&mut first, "later");
    assert_eq!(server.addresses("of-first.service.consul"), 1);
    server.eventually("the first goes on", |server| server.addresses("later.service.consul") == 1);
    assert!(first.said("quiet").is_empty() && first.said("another life").is_empty(), "{}", first.log());
    // what the clone is told to run is nobody's: it is no member
    clone.put("/v1/agent/service/register", json!({ "Name": "of-clone" }).to_string());
    assert_eq!(server.addresses("of-clone.service.consul"), 0);
    // the way out that needs nobody's word: a node id and a name of its own
    clone.kill();
    std::fs::remove_file(clone.data().join("node-id")).unwrap();
    clone = net.agent("web-2", 3, &[&join]);
    clone.start_up();
    server.eventually("there are two", |server| server.alive() == ["server", "web", "web-2"]);
    assert_eq!(id_in_catalog(&server, "web"), Some(id));
    let first_has = rows(&server, "/v1/catalog/service/of-first").iter().any(|row| row["Node"] == "web");
    assert!(first_has && rows(&server, "/v1/catalog/service/later")[0]["Node"] == "web");
}

#[test]
fn a_name_of_a_living_node_is_refused_to_another_until_an_operator_says_so() {
    let net = Net::new();
    let mut server = net.agent("server", 1, &LONE);
    server.start_up();
    let join = format!("-retry-join={}", server.ip);
    let mut holder = net.agent("web", 2, &[&join]);
    holder.start_up();
    let mut other = net.agent("web", 3, &[&join]);
    other.start();
    let told = format!("node name \"web\" is held by the living agent {} at {}:8301", holder.node_id(), holder.ip);
    other.eventually("it is told why, and what to do", |other| {
        other.said(&told).iter().any(|line| line.contains("another name") && line.contains("--replace"))
    });
    server.eventually("the server says whom it did not let in", |server| {
        server.said("an agent was not let in").iter().any(|line| line.contains(&told))
    });
    assert_eq!(server.members()["web"], (1, holder.ip.clone()));
    assert_eq!(id_in_catalog(&server, "web"), Some(holder.node_id()));
    assert!(other.runs() && holder.runs(), "nobody exits by itself");
    other.kill();
    other.told(&["-replace"]);
    other.start_up();
    server.eventually("the name has passed", |server| id_in_catalog(server, "web") == Some(other.node_id()));
    assert_eq!(server.members()["web"], (1, other.ip.clone()));
    holder.eventually("the holder says that it was replaced", |holder| !holder.said("admitted in this one's place").is_empty());
    assert!(holder.runs(), "nobody exits by itself");
}

#[test]
fn another_key_or_datacenter_is_said_on_both_sides_and_has_no_effect() {
    let net = Net::new();
    let other_key = "4GdpRbWzpL9KmWvnNfeuH1lCz9x7ZWCLyHlBa7ECjvQ=";
    let strangers: [(&str, &[&str], &str); 3] = [
        ("other-key", &["-encrypt", other_key], "key"),
        ("no-key", &[], "key"),
        ("other-dc", &["-encrypt", KEY, "-datacenter=dc2"], "datacenter"),
    ];
    for (host, (name, flags, why)) in (1..).zip(strangers) {
        let mut server = net.agent("server", host, &[LONE[0], LONE[1], "-encrypt", KEY]);
        server.start_up();
        let join = format!("-retry-join={}", server.ip);
        let mut stranger = net.agent(name, 10 + host, flags);
        stranger.told(&[&join]);
        stranger.start();
        stranger.eventually("it is told why", |stranger| {
            stranger.said("nobody could be joined").iter().any(|line| line.to_lowercase().contains(why))
        });
        server.eventually("the server says whom it did not let in", |server| {
            server.said("an agent was not let in").iter().any(|line| line.to_lowercase().contains(why))
        });
        println!("{name}: {}", stranger.said("nobody could be joined")[0]);
        println!("server: {}", server.said("an agent was not let in")[0]);
        assert_eq!(server.members().len(), 1);
        assert_eq!(rows(&server, "/v1/catalog/nodes").len(), 1);
        assert!(stranger.runs() && stranger.leader().is_empty());
    }
}

#[test]
fn servers_that_expect_different_numbers_make_no_cluster_and_name_the_odd_one() {
    let net = Net::new();
    let mut servers: Vec<Agent> = (1..=3).map(|host| net.server(host, 3, &[])).collect();
    servers[2].untold("-bootstrap-expect");
    servers[2].told(&["-bootstrap-expect=2"]);
    servers.iter_mut().for_each(Agent::start);
    for server in &mut servers[..2] {
        server.eventually("it names the odd one", |server| {
            server.said("bootstrap_expect is 3 here").iter().any(|line| line.contains("s3 has 2"))
        });
    }
    servers[2].eventually("the odd one knows it, too", |server| {
        server.said("bootstrap_expect is 2 here").iter().any(|line| line.contains("s1 has 3"))
    });
    for server in &mut servers {
        assert!(server.runs() && server.leader().is_empty(), "{}", server.log());
        println!("{}: {:?}", server.name, server.said("bootstrap_expect is"));
    }
    servers[2].kill();
    servers[2].untold("-bootstrap-expect");
    servers[2].told(&["-bootstrap-expect=3"]);
    servers[2].start();
    for server in &mut servers {
        server.is_up();
    }
}
