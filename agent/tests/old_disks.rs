//! Whose disk counts: wiped, old and copied disks of servers, and servers that are dead and forgotten.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // tests read the clock and say what they saw
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod support;
mod whole;

use whole::{Agent, Net, copy};

/// Raft ids and node ids of the servers that vote, as this one sees them.
fn voters(agent: &Agent) -> Vec<(String, String)> {
    let answer = agent.get("/v1/operator/raft/configuration");
    if answer.status != 200 {
        return Vec::new();
    }
    let all = answer.json();
    let voters = all["Servers"].as_array().unwrap().iter().filter(|server| server["Voter"] == true);
    voters.map(|server| (server["RaftID"].as_str().unwrap().to_owned(), server["Node"].as_str().unwrap().to_owned())).collect()
}

fn has(agent: &Agent, key: &str) -> bool {
    agent.get(&format!("/v1/kv/{key}")).status == 200
}

fn put(agent: &mut Agent, key: &str) {
    agent.eventually("a key is written", |agent| agent.put(&format!("/v1/kv/{key}"), "1").status == 200);
}

#[test]
fn a_wiped_disk_under_its_old_node_id_is_a_new_voter_in_the_old_ones_place() {
    let net = Net::new();
    let mut servers = net.servers(3, &[]);
    put(&mut servers[0], "before");
    // the follower, then the leader
    for round in 0..2 {
        let leader = servers[0].leader();
        let at = servers.iter().position(|server| (server.ip == leader) == (round == 1)).unwrap();
        let id = servers[at].node_id();
        let before = voters(&servers[(at + 1) % 3]);
        servers[at].kill();
        std::fs::remove_dir_all(servers[at].data()).unwrap();
        servers[at].untold("-node-id");
        servers[at].told(&[&format!("-node-id={id}")]);
        servers[at].start_up();
        assert_eq!(servers[at].node_id(), id);
        for server in &mut servers {
            server.eventually("the new voter has the old one's place", |server| {
                let now = voters(server);
                now.len() == 3 && now != before && now.iter().filter(|voter| before.contains(voter)).count() == 2
            });
            server.eventually("all is there", |server| has(server, "before"));
        }
        put(&mut servers[at], &format!("after-{round}"));
    }
    // its log is the cluster's: no second history was begun
    let clusters: Vec<String> = servers.iter().map(Agent::cluster_id).collect();
    assert!(clusters.iter().all(|id| *id == clusters[0]));
    for server in &mut servers {
        server.eventually("all is there", |server| has(server, "after-0") && has(server, "after-1"));
        assert!(server.said("a new history begins").is_empty());
    }
}

#[test]
fn a_wiped_server_without_the_others_begins_nothing() {
    let net = Net::new();
    let mut servers = net.servers(3, &[]);
    // with the ones after it on disk it is known to be committed
    ["before", "later", "last"].iter().for_each(|key| put(&mut servers[0], key));
    servers.iter_mut().for_each(Agent::kill);
    for server in &servers[1..] {
        std::fs::remove_dir_all(server.data()).unwrap();
    }
    // two of three are new, and the one with the data is back: its log counts on voters that are gone for ever
    servers.iter_mut().for_each(Agent::start);
    for server in &mut servers {
        server.eventually("all three are members", |server| server.alive().len() == 3);
    }
    let until = std::time::Instant::now() + std::time::Duration::from_secs(3);
    while std::time::Instant::now() < until {
        for server in &mut servers {
            assert!(server.runs() && server.leader().is_empty(), "a second history: {}", server.log());
        }
    }
    servers[0].eventually("what it had is told", |server| server.get("/v1/kv/before?stale").status == 200);
}

#[test]
fn a_servers_old_data_directory_counts_for_nothing() {
    old_data_directory(false);
}

/// Nobody heard of its entries as those who take them do, and no leader is left that would bring it what it has forgotten: with
/// its vote another that lacks them could lead. That it stood for election is known.
#[test]
fn a_leaders_old_data_directory_counts_for_nothing() {
    old_data_directory(true);
}

fn old_data_directory(of_leader: bool) {
    let net = Net::new();
    let mut servers = net.servers(3, &[]);
    let leader = servers[0].leader();
    let at = servers.iter().position(|server| server.ip != leader).unwrap();
    let (one, other) = ((at + 1) % 3, (at + 2) % 3);
    put(&mut servers[at], "early");
    servers[at].kill();
    let backup = servers[at].data().with_extension("backup");
    copy(&servers[at].data(), &backup);
    servers[at].start_up();
    leads(&mut servers, if of_leader { at } else { one });
    for n in 0..20 {
        put(&mut servers[at], &format!("late-{n}"));
    }
    if of_leader {
        servers[other].kill(); // first: the two that are left would elect a leader at once
    }
    servers[at].kill();
    std::fs::remove_dir_all(servers[at].data()).unwrap();
    copy(&backup, &servers[at].data());
    servers[at].start();
    assert_ne!(servers[at].ends().code(), Some(0), "an old copy ends by itself, before it votes");
    let said = servers[at].said("old copy");
    println!("{}", said.last().unwrap());
    if of_leader {
        servers[other].start_up();
    }
    put(&mut servers[one], "meanwhile");
    // the way out that it names
    std::fs::remove_dir_all(servers[at].data()).unwrap();
    servers[at].start_up();
    for at in [at, one, other] {
        servers[at].eventually("three vote, and all is there", |server| {
            voters(server).len() == 3 && ["early", "late-0", "late-19", "meanwhile"].iter().all(|key| has(server, key))
        });
    }
}

/// Has that server lead.
fn leads(servers: &mut [Agent], at: usize) {
    let path = format!("/v1/operator/raft/transfer-leader?id={}", servers[at].node_id());
    servers[at].eventually("it leads", |server| {
        server.leader() == server.ip || {
            server.ask("POST", &path, b"").ok();
            false
        }
    });
}

#[test]
fn a_dead_server_that_is_pruned_has_no_vote() {
    let net = Net::new();
    let mut servers = net.servers(3, &[]);
    let leader = servers[0].leader();
    let at = servers.iter().position(|server| server.ip != leader).unwrap();
    let (name, other) = (servers[at].name.clone(), (at + 1) % 3);
    servers[at].kill();
    let failed = |server: &Agent| server.members().get(&name).is_some_and(|(status, _)| *status == 4);
    servers[other].eventually("it has failed", failed);
    assert_eq!(voters(&servers[other]).len(), 3, "a dead server keeps its vote: it may come back");
    // Its name is forgotten at once: nothing is left in the members that says that it ever left.
    servers[other].done(&format!("/v1/agent/force-leave/{name}?prune"), "");
    servers[other].eventually("two vote", |server| voters(server).len() == 2 && !server.members().contains_key(&name));
    servers[at].start_up();
    servers[at].eventually("it is let in again", |server| voters(server).len() == 3);
}

#[test]
fn a_copy_of_a_server_is_no_voter_while_the_first_lives() {
    let net = Net::new();
    let mut servers = net.servers(3, &[]);
    put(&mut servers[0], "before");
    let leader = servers[0].leader();
    let at = servers.iter().position(|server| server.ip != leader).unwrap();
    // taken while it is stopped, so that it is whole
    servers[at].kill();
    let mut clone = net.server_named(&servers[at].name, 9, 3, &[]);
    copy(&servers[at].data(), &clone.data());
    servers[at].start_up();
    clone.start();
    clone.eventually("it is refused", |clone| !clone.said("is held by the living agent").is_empty());
    // the leader dies: the clone has a vote on its disk, and must not use it
    let lost = servers.iter().position(|server| server.ip == leader).unwrap();
    servers[lost].kill();
    let other = 3 - at - lost;
    servers[other].eventually("another leads", |server| ![String::new(), leader.clone()].contains(&server.leader()));
    put(&mut servers[other], "after");
    assert!(clone.runs() && clone.leader().is_empty(), "{}", clone.log());
    assert_ne!(clone.put("/v1/kv/of-clone", "1").status, 200);
    servers[lost].start_up();
    for server in &mut servers {
        server.eventually("all is well", |server| voters(server).len() == 3 && has(server, "after") && !has(server, "of-clone"));
    }
}
