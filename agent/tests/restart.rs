//! An agent is restarted, or is not: what it runs stays in the answers for `restart_grace`, and no longer.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // tests read the clock, and say what they saw
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod support;
mod whole;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::Backend;
use whole::{Agent, Net};

/// How a member stands, in Consul's numbers.
const ALIVE: u64 = 1;
const LEFT: u64 = 3;
const FAILED: u64 = 4;

/// A server and a client of which it finds a service.
fn pair(net: &Net, grace: &str) -> (Agent, Agent) {
    let mut server = net.server(1, 1, &["-hcl", &format!("restart_grace = \"{grace}\"")]);
    server.start_up();
    let mut client = net.client(11, 1, &[]);
    client.start_up();
    client.done("/v1/agent/service/register", json!({ "Name": "web", "Port": 80 }).to_string());
    server.eventually("the service is found", found);
    (server, client)
}

fn found(server: &Agent) -> bool {
    server.addresses("web.service.consul") == 1
}

fn stands(server: &Agent, client: &str, standing: u64) -> bool {
    server.members().get(client).is_some_and(|member| member.0 == standing)
}

/// The grace is longer than any machine takes here: nothing depends on who is faster.
#[test]
fn what_an_agent_runs_is_found_while_it_is_restarted() {
    let net = Net::new();
    let (mut server, mut client) = pair(&net, "120s");
    client.kill();
    server.eventually("it is known to have failed", |server| {
        assert!(found(server), "its service was gone before");
        stands(server, "c11", FAILED)
    });
    assert!(found(&server), "its service stays");
    client.start_up();
    server.eventually("it is back", |server| {
        assert!(found(server), "its service was gone before");
        stands(server, "c11", ALIVE)
    });
    client.signal("TERM");
    client.ends();
    server.eventually("it has left", |server| {
        assert!(found(server), "its service was gone before");
        stands(server, "c11", LEFT)
    });
    client.start_up();
    server.eventually("it is back again", |server| {
        assert!(found(server), "its service was gone before");
        stands(server, "c11", ALIVE)
    });
}

#[test]
fn without_grace_a_death_is_one_and_a_stop_is_a_leave() {
    let net = Net::new();
    let (mut server, mut client) = pair(&net, "0s");
    client.kill();
    server.eventually("its service is gone", |server| !found(server));
    assert_eq!(server.get("/v1/health/node/c11").json()[0]["Status"], "critical");
    client.start_up();
    server.eventually("its service is back", found);
    client.signal("TERM");
    client.ends();
    server.eventually("its node is gone", |server| server.get("/v1/catalog/node/c11").text().starts_with("null"));
}

/// Whoever is made to leave leaves at once, whatever the grace.
#[test]
fn who_is_told_to_leave_is_not_waited_for() {
    let net = Net::new();
    let (mut server, mut client) = pair(&net, "120s");
    client.done("/v1/agent/leave", "");
    client.ends();
    server
        .eventually("its node is gone", |server| !found(server) && server.get("/v1/catalog/node/c11").text().starts_with("null"));
}

/// Nobody starts it again in a moment. That its host hangs over the question keeps nobody from stopping.
#[test]
fn an_agent_whose_host_goes_down_leaves_at_once() {
    let net = Net::new();
    let (mut server, mut client) = pair(&net, "120s");
    for (answer, leaves) in [("echo stopping", true), ("echo running", false), ("exec sleep 60", false)] {
        client.signal("TERM");
        client.ends();
        client.finds("systemctl", answer);
        client.start_up();
        server.eventually("its service is found again", found);
        client.signal("TERM");
        client.ends();
        server.eventually("it has left", |server| leaves || stands(server, "c11", LEFT));
        if leaves {
            server.eventually("its node is gone", |server| {
                !found(server) && server.get("/v1/catalog/node/c11").text().starts_with("null")
            });
        } else {
            assert!(found(&server), "{answer}: its service stays");
        }
        client.start_up();
        server.eventually("it is back", |server| stands(server, "c11", ALIVE) && found(server));
    }
}

/// Says at its end, whatever that is, that it is over.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn from_environment(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Fault 40: an agent is killed and stopped again and again while its check runs, and hung up on between. Its service is in every
/// answer and never critical, nothing is there twice, and what was taken back stays away. `MUSTER_RESTARTS=100` is the whole of it.
#[test]
fn restarts_and_hangups_without_end_are_noticed_by_nobody() {
    let net = Net::new();
    let (server, mut client) = pair(&net, "120s");
    let backend = Backend::new();
    let check = json!({ "HTTP": backend.url(), "Interval": "50ms", "Status": "passing" });
    client.done("/v1/agent/service/register", json!({ "Name": "checked", "Port": 81, "Check": check }).to_string());
    whole::eventually("both are found", || server.addresses("checked.service.consul") == 1 && found(&server));
    let (restarts, over) = (from_environment("MUSTER_RESTARTS", 8), AtomicBool::new(false));
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !over.load(Ordering::Relaxed) {
                for name in ["web", "checked"] {
                    assert_eq!(server.addresses(&format!("{name}.service.consul")), 1, "{name} after {asked} look-ups");
                }
                let checks = server.get("/v1/health/checks/checked").json();
                assert!(checks.as_array().unwrap().iter().all(|check| check["Status"] == "passing"), "{checks}");
                asked += 1;
            }
            asked
        });
        let end = Over(&over);
        for turn in 0..restarts {
            // Taken back in the last moment: the word may not have left this host when it ends.
            let gone = format!("gone-{turn}");
            client.done("/v1/agent/service/register", json!({ "Name": gone, "Port": 82 }).to_string());
            client.done(&format!("/v1/agent/service/deregister/{gone}"), "");
            if turn % 2 == 0 {
                client.kill();
            } else {
                client.signal("TERM");
                client.ends();
            }
            client.start_up();
            for _ in 0..20 {
                client.signal("HUP");
            }
            if asking.is_finished() {
                break;
            }
        }
        client.eventually("it is checked still", {
            let before = backend.asked();
            move |_| backend.asked() > before + 2
        });
        drop(end);
        asking.join().unwrap()
    });
    client.eventually("what was taken back is gone, and the rest is there once", |client| {
        let services = server.get("/v1/catalog/node/c11").json()["Services"].as_object().unwrap().clone();
        let own = client.get("/v1/agent/services").json().as_object().unwrap().len();
        own == 2 && services.keys().map(String::as_str).collect::<Vec<_>>() == ["checked", "web"]
    });
    println!("{restarts} restarts and {} hangups: {asked} look-ups of each service, none without it", restarts * 20);
}

/// Fault 4: a host with three agents freezes and goes on. They rejoin by themselves, what should have been reported meanwhile gets
/// its time once more, and nobody is dead because of what a sleeper thinks. `MUSTER_FREEZE_SECONDS=600` is the whole of it.
#[test]
fn a_host_that_freezes_comes_back_by_itself_and_accuses_nobody() {
    let net = Net::new();
    let mut servers = net.servers(3, &[]);
    let mut frozen: Vec<Agent> = (11..14).map(|host| net.client(host, 3, &[])).collect();
    frozen.iter_mut().for_each(Agent::start_up);
    let ttl = json!({ "Name": "told", "Port": 80, "Check": { "TTL": "10s", "Status": "passing" } });
    for agent in &frozen {
        agent.done("/v1/agent/service/register", ttl.to_string());
        agent.done("/v1/agent/check/pass/service:told", "");
    }
    servers[0].eventually("all are found", |server| server.addresses("told.service.consul") == 3);
    for agent in &frozen {
        agent.signal("STOP");
    }
    let sleep = Duration::from_secs(from_environment("MUSTER_FREEZE_SECONDS", 15));
    std::thread::sleep(sleep); // what is tested is this time
    let dead = servers[0].members().values().filter(|member| member.0 == FAILED).count();
    for agent in &frozen {
        agent.signal("CONT");
    }
    let woken = Instant::now();
    let status = |agent: &Agent| agent.get("/v1/agent/checks").json()["service:told"]["Status"].clone();
    for agent in &frozen {
        assert_eq!(status(agent), "passing", "{} gives its reporters their time once more", agent.name);
    }
    for server in &mut servers {
        server.eventually("all six are there", |server| server.alive().len() == 6);
    }
    println!("{dead} of 3 dead after {sleep:?}; all there {:?} after they woke", woken.elapsed());
    for agent in &mut frozen {
        agent.eventually("nobody reported, so it expires", |agent| status(agent) == "critical");
    }
    for agent in servers.iter().chain(&frozen) {
        for line in agent.said("member failed") {
            let sleeper = frozen.iter().any(|frozen| line.contains(&format!("node=\"{}\"", frozen.name)));
            assert!(sleeper, "{}: who was awake is held dead: {line}", agent.name);
        }
    }
}
