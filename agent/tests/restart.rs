//! An agent is restarted, or is not: what it runs stays in the answers for `restart_grace`, and no longer.
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod support;
mod whole;

use serde_json::json;
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
