//! A client agent and its copy of the catalog: how old it is, and what it holds.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

use std::path::Path;

use serde_json::json;
use support::{Agent, Around, dns_ask, dns_question, eventually, free_port};

mod support;

/// A server and a client that follows it.
struct Pair {
    server: Agent,
    client: Agent,
    _dirs: [tempfile::TempDir; 2],
}

impl Pair {
    /// The client is told this besides.
    fn new(client_flags: &[&str]) -> Self {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (gossip, rpc) = (free_port(), free_port());
        let ports = format!("ports {{\n server = {rpc}\n serf_lan = {gossip}\n}}");
        let server = member(dirs[0].path(), &["-node=server", "-server", "-bootstrap", "-hcl", &ports]);
        let join = format!("-retry-join=127.0.0.1:{gossip}");
        let ports = format!("ports {{\n serf_lan = {}\n}}", free_port());
        let flags = [&["-node=client", "-hcl", &ports, &join], client_flags].concat();
        let client = member(dirs[1].path(), &flags);
        let mut pair = Self { server, client, _dirs: dirs };
        pair.server.wait_for_leader();
        pair.client.wait_for_leader();
        pair
    }

    /// Registers an instance at the server.
    fn register(&self, name: &str, id: &str, address: &str) {
        let service = json!({"Name": name, "ID": id, "Address": address, "Port": 80});
        self.server.done("/v1/agent/service/register", service.to_string());
    }
}

fn member(dir: &Path, flags: &[&str]) -> Agent {
    Agent::started(dir, flags, Around { member: true, ..Around::default() })
}

/// A question of somebody who uses EDNS.
fn with_edns(name: &str) -> Vec<u8> {
    let mut packet = dns_question(name, 1);
    packet[11] = 1;
    packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    packet
}

fn rcode(answer: &[u8]) -> u8 {
    answer[3] & 0xf
}

const STALE_ANSWER: [u8; 6] = [0, 15, 0, 2, 0, 3];

#[test]
fn who_is_cut_off_says_how_old_its_answers_are_and_ends_when_they_are_too_old() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("more.hcl");
    std::fs::write(&file, "").unwrap();
    let mut pair = Pair::new(&["-config-file", file.to_str().unwrap()]);
    pair.register("web", "web-1", "192.0.2.1");
    let client = &pair.client;
    let ask = |name: &str| dns_ask(client.dns, &with_edns(name));
    eventually("the client has it", || client.addresses("web.service.consul") == 1);
    assert!(!ask("web.service.consul").ends_with(&STALE_ANSWER));
    assert_eq!(client.get("/v1/health/service/web").header("X-Muster-Stale-Ms"), None);

    pair.server.kill();
    eventually("it says that nobody vouches for it", || ask("web.service.consul").ends_with(&STALE_ANSWER));
    assert!(ask("none.service.consul").ends_with(&[0, 15, 0, 2, 0, 19]));
    assert_eq!(dns_ask(client.dns, &dns_question("web.service.consul", 1)).len(), ask("web.service.consul").len() - 17);
    for path in ["/v1/health/service/web", "/v1/health/service/web?stale"] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.header("X-Consul-KnownLeader")), (200, Some("false")));
        assert_eq!(answer.header("X-Muster-Stale-Ms"), answer.header("X-Consul-LastContact"));
    }
    let age = || {
        let metrics = client.get("/v1/agent/metrics").json();
        let gauges = metrics["Gauges"].as_array().unwrap().clone();
        gauges.iter().find(|gauge| gauge["Name"].as_str().unwrap().ends_with("feed.age")).map(|gauge| gauge["Value"].as_f64())
    };
    eventually("a gauge shows it", || age().flatten().is_some_and(|age| age > 0.0));

    std::fs::write(&file, "dns_config {\n max_stale = \"1ms\"\n}").unwrap();
    client.signal("HUP");
    eventually("DNS gives no answer that is too old", || rcode(&ask("web.service.consul")) == 2);
    assert_eq!(client.get("/v1/health/service/web").status, 200);
    std::fs::write(&file, "max_stale = \"1ms\"").unwrap();
    client.signal("HUP");
    eventually("nor does HTTP", || client.get("/v1/health/service/web").status == 500);
    assert_eq!(rcode(&ask("web.service.consul")), 2);

    std::fs::write(&file, "dns_config {\n allow_stale = false\n}").unwrap();
    client.signal("HUP");
    pair.server.start_again(None);
    eventually("with a leader, each question is answered anew", || {
        let answer = ask("web.service.consul");
        rcode(&answer) == 0 && !answer.ends_with(&STALE_ANSWER)
    });
}
