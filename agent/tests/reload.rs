//! Definition files and reload: a difference is carried out, all of it or nothing.
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod support;

use std::path::PathBuf;

use serde_json::json;
use support::{Agent, Around, Backend, eventually};

/// An agent with a directory of definitions.
struct Bench {
    agent: Agent,
    files: PathBuf,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(files: &[(&str, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("conf");
        std::fs::create_dir(&conf).unwrap();
        for (name, text) in files {
            std::fs::write(conf.join(name), text).unwrap();
        }
        let mut agent = Agent::started(dir.path(), &[&format!("-config-dir={}", conf.display())], Around::default());
        agent.wait_for_leader();
        Self { agent, files: conf, _dir: dir }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.files.join(name), text).unwrap();
    }

    fn reload(&self) {
        let answer = self.agent.put("/v1/agent/reload", "");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn has(&self, service: &str) -> bool {
        self.agent.get("/v1/agent/services").json().get(service).is_some()
    }

    fn in_catalog(&self, service: &str) -> bool {
        self.agent.get(&format!("/v1/catalog/service/{service}")).text().trim() != "[]"
    }
}

fn service(name: &str, port: u16) -> String {
    json!({"service": {"name": name, "port": port}}).to_string()
}

#[test]
fn all_three_ways_reload() {
    let bench = Bench::new(&[("a.json", service("a", 1))]);
    eventually("a is in the catalog", || bench.in_catalog("a"));
    bench.write("b.json", &service("b", 2));
    bench.agent.signal("HUP");
    eventually("SIGHUP", || bench.in_catalog("b"));
    bench.write("c.json", &service("c", 3));
    let status = support::muster().args(["reload", &format!("-http-addr={}", bench.agent.http)]).status().unwrap();
    assert!(status.success());
    eventually("muster reload", || bench.in_catalog("c"));
    bench.write("d.json", &service("d", 4));
    bench.reload();
    eventually("/v1/agent/reload", || bench.in_catalog("d"));
}

#[test]
fn a_reload_is_a_difference() {
    let backend = Backend::new();
    let check = json!({"id": "kept", "http": backend.url(), "interval": "1s", "failures_before_critical": 1000});
    let kept = json!({"service": {"name": "kept", "port": 1, "check": check}}).to_string();
    let bench = Bench::new(&[("kept.json", kept), ("gone.json", service("gone", 2))]);
    bench.agent.done("/v1/agent/service/register", json!({"Name": "api", "Port": 9}).to_string());
    // Failing now, it is held by its counter, which a new start of the check would reset to nothing seen.
    let row = || bench.agent.get("/v1/health/service/kept").json();
    eventually("it passes", || bench.agent.get("/v1/health/service/kept?passing").text().trim() != "[]");
    let before = row();
    backend.answers(500);
    std::fs::remove_file(bench.files.join("gone.json")).unwrap();
    bench.write("new.json", &service("new", 3));
    for _ in 0..5 {
        bench.reload();
    }
    eventually("the difference is carried out", || !bench.in_catalog("gone") && bench.in_catalog("new"));
    assert!(bench.has("api") && bench.in_catalog("api"), "what was told over the API stays");
    assert!(!bench.has("gone"));
    let asked = backend.asked();
    eventually("the check goes on", || backend.asked() > asked + 3);
    assert_eq!(row()[0]["Service"], before[0]["Service"]);
    assert_eq!(row()[0]["Checks"], before[0]["Checks"], "the unchanged check did not flap");
}

#[test]
fn a_faulty_file_refuses_the_reload_as_a_whole_and_tells_every_fault() {
    let bench = Bench::new(&[("a.json", service("a", 1))]);
    bench.write("a.json", &service("a", 2));
    bench.write("b.json", r#"{"service": {"name": "b", "prot": 2}}"#);
    bench.write("c.toml", "log_levle = \"info\"\n");
    bench.write("d.hcl", "service {\n  name = \n}\n");
    let answer = bench.agent.put("/v1/agent/reload", "");
    assert_eq!(answer.status, 500);
    let told = answer.text();
    for part in ["b.json", "prot", "port", "c.toml", "log_levle", "log_level", "d.hcl"] {
        assert!(told.contains(part), "{part} is missing:\n{told}");
    }
    assert_eq!(bench.agent.get("/v1/agent/services").json()["a"]["Port"], 1, "nothing was taken over");
    bench.agent.signal("HUP");
    eventually("the log tells it too", || bench.agent.log().contains("log_levle"));
    assert_eq!(bench.agent.get("/v1/agent/services").json()["a"]["Port"], 1);
}

#[test]
fn a_file_is_a_standing_order() {
    let mut bench = Bench::new(&[("a.json", service("a", 1))]);
    let remove = json!({"Node": "here", "ServiceID": "a"}).to_string();
    eventually("a is in the catalog", || bench.in_catalog("a"));
    bench.agent.done("/v1/catalog/deregister", &remove);
    eventually("the agent drops it", || !bench.has("a"));
    assert!(!bench.in_catalog("a"));
    bench.reload();
    eventually("a reload brings it back", || bench.in_catalog("a"));
    // Removed at the last moment before the end of a long run: the next start brings it back all the same.
    for port in 2..6 {
        bench.write("a.json", &service("a", port));
        bench.reload();
    }
    eventually("the newest is there", || bench.agent.get("/v1/catalog/service/a").json()[0]["ServicePort"] == 5);
    bench.agent.done("/v1/catalog/deregister", &remove);
    bench.agent.kill_and_start();
    eventually("a start brings it back", || bench.has("a") && bench.in_catalog("a"));
}

#[test]
fn what_a_file_tells_takes_the_place_of_what_the_api_told() {
    let mut bench = Bench::new(&[]);
    let told = json!({"Name": "a", "Port": 1, "Check": {"CheckID": "c", "TTL": "10m"}});
    bench.agent.done("/v1/agent/service/register", told.to_string());
    bench.write("a.json", &service("a", 2));
    bench.reload();
    assert_eq!(bench.agent.get("/v1/agent/services").json()["a"]["Port"], 2);
    std::fs::remove_file(bench.files.join("a.json")).unwrap();
    bench.reload();
    assert!(!bench.has("a"));
    bench.agent.kill_and_start();
    assert!(!bench.has("a"), "it does not come back from the disk");
    assert!(bench.agent.get("/v1/agent/checks").json().get("c").is_none());
}

#[test]
fn a_checks_status_from_a_file_holds_over_a_restart() {
    let check = json!({"id": "ttl", "ttl": "10m"});
    let mut bench = Bench::new(&[("a.json", json!({"service": {"name": "a", "port": 1, "check": check}}).to_string())]);
    bench.agent.done("/v1/agent/check/pass/ttl", "");
    bench.agent.done("/v1/agent/service/register", json!({"Name": "later", "Port": 9}).to_string());
    bench.agent.kill_and_start();
    assert_eq!(bench.agent.get("/v1/agent/checks").json()["ttl"]["Status"], "passing");
}

#[test]
fn keys_of_the_mesh_and_keys_without_effect_are_warned_of_once() {
    let bench = Bench::new(&[("m.hcl", "connect { enabled = true }\nraft_logstore { backend = \"wal\" }\n".to_owned())]);
    let log = bench.agent.log();
    assert_eq!(log.matches("leaves these parts of Consul out: connect").count(), 1, "{log}");
    assert_eq!(log.matches("without effect in this version: raft_logstore").count(), 1, "{log}");
}

#[test]
fn a_reload_reaches_the_http_door() {
    let bench = Bench::new(&[("a.json", json!({"http_config": {"response_headers": {"X-Own": "1"}}}).to_string())]);
    let agent = &bench.agent;
    let blocked = |path: &str| agent.get(path).status == 403;
    assert!(agent.get("/v1/agent/self").header("X-Own") == Some("1") && !blocked("/v1/kv/?keys"));
    let config = json!({
        "http_config": {
            "response_headers": {"X-Own": "2"}, "block_endpoints": ["/v1/kv/"], "allow_write_http_from": ["127.0.0.0/8"],
            "use_cache": false,
        },
        "limits": {"http_max_conns_per_client": 3, "kv_max_value_size": 1000},
        "discovery_max_stale": "5s", "translate_wan_addrs": true,
    });
    assert_eq!(agent.get("/v1/catalog/nodes?cached").header("X-Cache"), Some("HIT"));
    bench.write("a.json", &config.to_string());
    bench.agent.signal("HUP");
    eventually("the new headers", || agent.get("/v1/agent/self").header("X-Own") == Some("2"));
    assert!(blocked("/v1/kv/?keys") && !blocked("/v1/catalog/nodes"));
    let nodes = agent.get("/v1/catalog/nodes?cached");
    assert_eq!((nodes.header("X-Cache"), nodes.header("X-Consul-Translate-Addresses")), (None, Some("true")));
    assert_eq!(nodes.header("X-Consul-Effective-Consistency"), Some("stale"), "discovery_max_stale");
    eventually("the fourth connection of one address is refused", || {
        // Anew each time: a place is given back a moment after the answer, so one of these may be refused itself for an earlier one.
        let _open: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(agent.http).unwrap()).collect();
        agent.get("/v1/status/leader").status == 429
    });
    bench.write("a.json", &json!({"http_config": {"allow_write_http_from": ["192.0.2.0/24"]}}).to_string());
    eventually("there is room again", || agent.get("/v1/status/leader").status == 200);
    bench.reload();
    assert!(agent.get("/v1/agent/self").header("X-Own").is_none());
    assert_eq!(agent.put("/v1/kv/a", "x").status, 403);
}

#[test]
fn files_that_change_are_read_again_by_themselves_if_so_said() {
    let bench = Bench::new(&[("0.json", json!({"auto_reload_config": true}).to_string()), ("a.json", service("a", 1))]);
    eventually("a is in the catalog", || bench.in_catalog("a"));
    bench.write("b.json", &service("b", 2));
    eventually("a new file", || bench.has("b"));
    bench.write("a.json", "{");
    eventually("a fault is told", || bench.agent.log().contains("a.json"));
    assert!(bench.has("a"), "and nothing is lost by it");
    bench.write("a.json", &service("c", 3));
    eventually("a file that changed", || bench.has("c") && !bench.has("a"));
}

#[test]
fn more_requests_than_a_server_takes_are_refused_while_it_says_so() {
    let limits = |mode: &str| json!({"limits": {"request_limits": {"mode": mode, "read_rate": 1, "write_rate": 1}}}).to_string();
    let bench = Bench::new(&[("a.json", limits("permissive"))]);
    let agent = &bench.agent;
    (0..15).for_each(|_| assert_eq!(agent.put("/v1/kv/a", "x").status, 200));
    bench.write("a.json", &limits("enforcing"));
    bench.reload();
    let refused = |status: u16, asked: &dyn Fn() -> support::Answer| {
        let answer = (0..30).map(|_| asked()).find(|answer| answer.status != 200).expect("not all of them are answered");
        assert!(answer.status == status && answer.text().starts_with("rate limit exceeded"), "{answer:?}");
    };
    refused(429, &|| agent.get("/v1/kv/a"));
    refused(503, &|| agent.put("/v1/kv/a", "y"));
    assert_eq!(agent.get("/v1/agent/self").status, 200);
    bench.write("a.json", &limits("disabled"));
    bench.reload();
    assert_eq!(agent.get("/v1/kv/a").status, 200);
}
