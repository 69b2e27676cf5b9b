//! A client agent and its copy of the catalog: how old it is, and what it holds.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

use std::path::Path;

use serde_json::json;
use support::{Agent, Around, dns_ask, dns_question, eventually, free_port, request};

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
    eventually("and a counter", || {
        ask("web.service.consul");
        client.get("/v1/agent/metrics").text().contains("dns.stale_queries")
    });

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

/// What every question is answered by this agent, in a form in which two agents can be compared.
fn all_answers(agent: &Agent) -> Vec<(u16, serde_json::Value)> {
    let paths = [
        "/v1/catalog/nodes",
        "/v1/catalog/services",
        "/v1/catalog/services?node-meta=a:b",
        "/v1/catalog/services?filter=ServicePort==80",
        "/v1/catalog/service/web",
        "/v1/catalog/node/server",
        "/v1/catalog/node-services/client",
        "/v1/health/service/web?passing",
        "/v1/health/node/server",
        "/v1/health/checks/web",
        "/v1/health/state/any",
        "/v1/health/state/odd",
        "/v1/kv/key",
    ];
    paths.map(|path| agent.get(path)).into_iter().map(|answer| (answer.status, answer.json())).collect()
}

/// How many questions this agent could not answer by itself, since its start.
fn travelled(agent: &Agent) -> u64 {
    let text = agent.get("/v1/agent/metrics?format=prometheus").text();
    let count = text.lines().find_map(|line| line.strip_prefix("consul_feed_travelled "));
    count.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn without_a_copy_each_question_is_asked_of_a_server() {
    let mut pair = Pair::new(&["-hcl", "replica = \"none\""]);
    let check =
        json!({"Name": "web", "ID": "web-1", "Address": "192.0.2.1", "Port": 80, "Check": {"TTL": "1h", "Status": "passing"}});
    pair.server.done("/v1/agent/service/register", check.to_string());
    pair.server.done("/v1/kv/key", "value");
    // An alias of another node's service needs that node's rows.
    let alias = json!({"Name": "api", "ID": "api", "Port": 81, "Check": {"AliasNode": "server", "AliasService": "web-1"}});
    pair.client.done("/v1/agent/service/register", alias.to_string());
    let (server, client) = (&pair.server, &pair.client);
    eventually("what was told the client is in the catalog, and its alias passes", || {
        let api = server.get("/v1/health/service/api?passing").json();
        api.as_array().unwrap().len() == 1
    });
    eventually("both answer the same", || all_answers(server) == all_answers(client));

    let ask = |name: &str, kind: u16| dns_ask(client.dns, &dns_question(name, kind));
    let counts = |answer: &[u8]| (rcode(answer), answer[7]);
    for (name, kind, expected) in [
        ("web.service.consul", 1, (0, 1)),
        ("web.service.consul", 33, (0, 1)),
        ("server.node.consul", 1, (0, 1)),
        ("1.2.0.192.in-addr.arpa", 12, (0, 1)),
        ("consul", 2, (0, 1)),
        ("no.service.consul", 1, (3, 0)),
        ("no.node.consul", 1, (3, 0)),
    ] {
        assert_eq!(counts(&ask(name, kind)), expected, "{name} {kind}");
        assert_eq!(counts(&dns_ask(server.dns, &dns_question(name, kind))), expected, "{name} {kind}");
    }
    let before = client.get("/v1/health/service/web").index();
    let wait = format!("/v1/health/service/web?index={before}&wait=30s");
    let changed = std::thread::scope(|scope| {
        let waits = scope.spawn(|| client.get(&wait));
        eventually("the question waits at the server", || {
            let metrics = server.get("/v1/agent/metrics").json();
            metrics.to_string().contains("rpc.queries_blocking")
        });
        pair.register("web", "web-2", "192.0.2.2");
        waits.join().unwrap()
    });
    assert!(changed.index() > before);
    assert_eq!(changed.json().as_array().unwrap().len(), 2);
    assert_eq!(client.addresses("web.service.consul"), 2);

    pair.server.kill();
    eventually("without a server nothing is known", || rcode(&ask("web.service.consul", 1)) == 2);
    assert_eq!(client.get("/v1/health/service/web").status, 500);
    assert_eq!(client.get("/v1/health/service/web?stale").status, 500);
    assert_eq!(client.get("/v1/agent/service/api").status, 200);
}

#[test]
fn a_copy_of_what_was_asked_for_is_kept_up_and_outlives_the_servers() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("more.hcl");
    let counting = "telemetry {\n prometheus_retention_time = \"1h\"\n}\n";
    std::fs::write(&file, format!("{counting}replica = \"interest\"")).unwrap();
    let mut pair = Pair::new(&["-config-file", file.to_str().unwrap()]);
    pair.register("web", "web-1", "192.0.2.1");
    pair.register("db", "db-1", "192.0.2.9");
    let client = &pair.client;
    eventually("the first question travels", || client.addresses("web.service.consul") == 1);
    eventually("then the copy answers", || {
        let before = travelled(client);
        let found = client.get("/v1/health/service/web").json().as_array().unwrap().len();
        found == 1 && before > 0 && travelled(client) == before
    });
    pair.register("web", "web-2", "192.0.2.2");
    eventually("a change arrives", || client.addresses("web.service.consul") == 2);
    assert_eq!(client.get("/v1/health/service/web?stale").json().as_array().unwrap().len(), 2);
    let nodes = pair.server.get("/v1/catalog/nodes").json();
    assert_eq!(client.get("/v1/catalog/nodes").json(), nodes, "what the copy does not hold travels");

    pair.server.kill();
    let known = |client: &Agent| dns_ask(client.dns, &with_edns("web.service.consul"));
    eventually("it goes on answering", || known(client).ends_with(&STALE_ANSWER) && known(client)[7] == 2);
    assert_eq!(rcode(&dns_ask(client.dns, &dns_question("db.service.consul", 1))), 2, "nobody asked for it before");
    pair.client.signal("KILL");
    pair.client.ended(std::time::Duration::from_secs(10)).unwrap();
    pair.client.restart();
    let client = &pair.client;
    eventually("it is there again", || request(client.http, "GET", "/v1/agent/self", &[], b"").is_ok());
    assert_eq!(known(client)[7], 2, "it answers before any server does");

    // A copy of some rows is no copy of all: with another setting it is begun anew.
    pair.server.start_again(None);
    pair.client.kill();
    std::fs::write(&file, counting).unwrap();
    pair.client.start_again(None);
    let (server, client) = (&pair.server, &pair.client);
    eventually("it holds everything", || {
        let paths = ["/v1/catalog/services?stale", "/v1/catalog/nodes?stale", "/v1/health/state/any?stale"];
        let before = travelled(client);
        paths.iter().all(|path| client.get(path).json() == server.get(path).json()) && travelled(client) == before
    });
}

#[test]
fn a_cached_read_asks_nobody_and_says_how_old_it_is() {
    let mut pair = Pair::new(&["-hcl", "default_reads = \"consul\"\nperformance { rpc_hold_timeout = \"500ms\" }"]);
    pair.register("web", "w", "192.0.2.1");
    let asked = |path: &str, control: &str| request(pair.client.http, "GET", path, &[("Cache-Control", control)], b"").unwrap();
    eventually("the client's copy has it", || asked("/v1/health/service/web?cached", "").text().contains("192.0.2.1"));
    let fresh = asked("/v1/health/service/web?cached", "max-age=10");
    assert_eq!((fresh.status, fresh.header("X-Cache"), fresh.header("Age")), (200, Some("HIT"), Some("0")));
    pair.server.kill();
    let age = || asked("/v1/health/service/web?cached", "max-age=0").header("Age").unwrap().parse::<u64>().unwrap();
    eventually("it grows old", || age() >= 2);
    let cached = asked("/v1/health/service/web?cached", "");
    assert!(cached.status == 200 && cached.text().contains("192.0.2.1"), "{cached:?}");
    for (path, control) in [
        ("/v1/health/service/web", ""),
        ("/v1/health/service/web?cached", "max-age=1"),
        ("/v1/health/service/web?cached", "must-revalidate"),
    ] {
        assert_eq!(asked(path, control).status, 500, "{path} {control}");
    }
}
