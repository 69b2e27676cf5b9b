//! What an agent was told: it reaches readers, stays over `kill -9`, and goes when others remove it.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock; the helpers of a test may fail as its tests do

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Agent, Backend, eventually, free_port};

fn passing(agent: &Agent, service: &str) -> usize {
    agent.get(&format!("/v1/health/service/{service}?passing")).json().as_array().unwrap().len()
}

fn status_of(agent: &Agent, check: &str) -> Option<String> {
    agent.get("/v1/agent/checks").json().get(check).map(|check| check["Status"].as_str().unwrap().to_owned())
}

fn register(agent: &Agent, service: Value) {
    agent.done("/v1/agent/service/register", service.to_string());
}

#[test]
fn a_registration_reaches_watchers_and_dns() {
    let agent = Agent::new();
    let index = agent.get("/v1/health/service/web").index();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| agent.get(&format!("/v1/health/service/web?index={index}&wait=50s")));
        eventually("the reader waits", || agent.get("/v1/agent/self").status == 200);
        register(&agent, json!({"Name": "web", "Port": 80, "Address": "10.0.0.1"}));
        let begun = Instant::now();
        assert_eq!(waiter.join().unwrap().json().as_array().unwrap().len(), 1);
        assert!(begun.elapsed() < Duration::from_secs(20), "it was woken, not timed out");
    });
    // The registration was answered when the catalog had it: no waiting here.
    assert_eq!(agent.addresses("web.service.consul"), 1);
}

#[test]
fn a_failed_http_check_takes_its_service_out_and_a_good_one_brings_it_back() {
    let (agent, backend) = (Agent::new(), Backend::new());
    let check = json!({"HTTP": backend.url(), "Interval": "1s"});
    register(&agent, json!({"Name": "web", "Port": 80, "Check": check}));
    eventually("it passes", || passing(&agent, "web") == 1 && agent.addresses("web.service.consul") == 1);
    backend.answers(500);
    eventually("?passing is without it", || passing(&agent, "web") == 0);
    assert_eq!(agent.addresses("web.service.consul"), 0, "both follow the same row");
    backend.answers(200);
    eventually("?passing has it again", || passing(&agent, "web") == 1);
    assert_eq!(agent.addresses("web.service.consul"), 1);
}

#[test]
fn kill_9_keeps_registrations_ttl_status_and_keys() {
    let mut agent = Agent::new();
    register(&agent, json!({"Name": "web", "Port": 80, "Check": {"CheckID": "ttl", "TTL": "10m"}}));
    agent.done("/v1/agent/check/pass/ttl?note=fine", "");
    eventually("the TTL check passes", || passing(&agent, "web") == 1);
    agent.done("/v1/kv/a/b", "value");
    // The verdict is written behind the report, within moments: a later registration is durable after it.
    register(&agent, json!({"Name": "db", "Port": 5432}));
    agent.kill_and_start();
    assert_eq!(agent.get("/v1/kv/a/b?raw").text(), "value");
    assert_eq!(passing(&agent, "web"), 1, "{}", agent.get("/v1/health/service/web").text());
    let checks = agent.get("/v1/agent/checks").json();
    assert_eq!(checks["ttl"]["Status"], "passing");
    assert_eq!(checks["ttl"]["Output"], "fine");
    assert!(agent.get("/v1/agent/services").json().get("db").is_some());
}

#[test]
fn a_deregistration_is_durable_when_it_is_answered() {
    let mut agent = Agent::new();
    register(&agent, json!({"Name": "web", "Port": 80, "Check": {"CheckID": "ttl", "TTL": "10m"}}));
    agent.done("/v1/agent/service/deregister/web", "");
    agent.kill_and_start();
    assert_eq!(agent.get("/v1/agent/services").text().trim(), "{}");
    assert_eq!(agent.get("/v1/agent/checks").text().trim(), "{}");
    eventually("the catalog is without it", || agent.get("/v1/catalog/service/web").text().trim() == "[]");
}

#[test]
fn what_many_callers_told_at_once_is_the_same_on_disk_and_in_memory() {
    let mut agent = Agent::new();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let agent = &agent;
            scope.spawn(move || {
                for turn in 0..30 {
                    if (worker + turn) % 2 == 0 {
                        agent.put("/v1/agent/service/register", json!({"Name": "web", "Port": 80 + turn}).to_string());
                    } else {
                        agent.put("/v1/agent/service/deregister/web", "");
                    }
                }
            });
        }
    });
    let before = agent.get("/v1/agent/services").json();
    agent.kill_and_start();
    assert_eq!(agent.get("/v1/agent/services").json(), before);
}

#[test]
fn a_restart_is_no_failure_a_status_holds_until_the_first_result() {
    let (mut agent, backend) = (Agent::new(), Backend::new());
    let check = json!({"CheckID": "http", "HTTP": backend.url(), "Interval": "1s"});
    register(&agent, json!({"Name": "web", "Port": 80, "Check": check}));
    eventually("it passes", || status_of(&agent, "http").as_deref() == Some("passing"));
    let slow = json!({"ID": "slow", "Name": "slow", "HTTP": backend.url(), "Interval": "1s", "ServiceID": "web"});
    agent.done("/v1/agent/check/register", slow.to_string());
    eventually("it passes", || status_of(&agent, "slow").as_deref() == Some("passing"));
    eventually("the catalog has both", || passing(&agent, "web") == 1);
    let modified = agent.get("/v1/health/service/web").json()[0]["Checks"].clone();
    agent.kill_and_start();
    for _ in 0..20 {
        assert_eq!(status_of(&agent, "http").as_deref(), Some("passing"));
        assert_eq!(passing(&agent, "web"), 1, "{}", agent.get("/v1/health/service/web").text());
    }
    let now = agent.get("/v1/health/service/web").json()[0]["Checks"].clone();
    for (before, now) in modified.as_array().unwrap().iter().zip(now.as_array().unwrap()) {
        assert_eq!(before["ModifyIndex"], now["ModifyIndex"], "nothing flapped");
    }
}

#[test]
fn a_removal_through_the_catalog_holds_until_it_is_registered_again() {
    let mut agent = Agent::new();
    register(&agent, json!({"Name": "web", "Port": 80}));
    agent.done("/v1/catalog/deregister", json!({"Node": "here", "ServiceID": "web"}).to_string());
    eventually("the agent drops it", || agent.get("/v1/agent/services").json().get("web").is_none());
    assert_eq!(agent.get("/v1/catalog/service/web").text().trim(), "[]");
    agent.kill_and_start();
    assert!(agent.get("/v1/agent/services").json().get("web").is_none());
    register(&agent, json!({"Name": "web", "Port": 81}));
    assert_eq!(agent.get("/v1/catalog/service/web").json()[0]["ServicePort"], 81);
    assert_eq!(agent.get("/v1/agent/services").json()["web"]["Port"], 81);
    agent.kill_and_start();
    assert_eq!(agent.get("/v1/agent/services").json()["web"]["Port"], 81, "told after the removal, it stays");
}

#[test]
fn a_node_removed_from_the_catalog_returns_at_once_with_all_it_keeps() {
    let agent = Agent::new();
    register(&agent, json!({"Name": "web", "Port": 80, "Check": {"CheckID": "ttl", "TTL": "10m", "Status": "passing"}}));
    agent.done("/v1/catalog/deregister", json!({"Node": "here"}).to_string());
    let begun = Instant::now();
    eventually("its service is back", || passing(&agent, "web") == 1);
    assert!(begun.elapsed() < Duration::from_secs(20), "not at the next full sync: {:?}", begun.elapsed());
    assert!(agent.get("/v1/health/node/here").text().contains("serfHealth"));
}

#[test]
fn under_consuls_anti_entropy_rows_that_nobody_told_go() {
    let stranger = json!({"Node": "here", "Address": "127.0.0.1", "Service": {"Service": "stranger", "Port": 1}}).to_string();
    let ours = Agent::new();
    let id = ours.get("/v1/catalog/node/here").json()["Node"]["ID"].as_str().unwrap().to_owned();
    assert!(!id.is_empty());
    ours.done("/v1/catalog/register", &stranger);
    register(&ours, json!({"Name": "web", "Port": 80}));
    assert_eq!(ours.get("/v1/catalog/service/stranger").json().as_array().unwrap().len(), 1, "unowned rows are left alone");

    let mut theirs = Agent::new();
    theirs.done("/v1/catalog/register", &stranger);
    theirs.kill();
    // A start looks at everything.
    theirs.start_again(Some(&["-hcl", "anti_entropy = \"consul\""]));
    eventually("the row goes", || theirs.get("/v1/catalog/service/stranger").text().trim() == "[]");
    assert_eq!(theirs.get("/v1/catalog/service/consul").json().as_array().unwrap().len(), 0, "no server port, no such service");
    assert!(theirs.get("/v1/health/node/here").text().contains("serfHealth"), "what membership keeps stays");
}

#[test]
fn tags_changed_in_the_catalog_stay_where_that_is_allowed() {
    let mut agent = Agent::new();
    for (name, allowed) in [("open", true), ("closed", false)] {
        register(&agent, json!({"Name": name, "Port": 80, "Tags": ["told"], "EnableTagOverride": allowed}));
        let service = json!({"Service": name, "Port": 80, "Tags": ["changed"], "EnableTagOverride": allowed});
        let body = json!({"Node": "here", "Address": "127.0.0.1", "SkipNodeUpdate": true, "Service": service});
        agent.done("/v1/catalog/register", body.to_string());
    }
    agent.kill_and_start(); // a start looks at everything
    let tag = |name: &str| agent.get(&format!("/v1/catalog/service/{name}")).json()[0]["ServiceTags"][0].clone();
    eventually("the owner's word is back", || tag("closed") == "told");
    assert_eq!(tag("open"), "changed");
}

#[test]
fn maintenance_survives_a_restart() {
    let mut agent = Agent::new();
    register(&agent, json!({"Name": "web", "Port": 80}));
    agent.done("/v1/agent/service/maintenance/web?enable=true&reason=disk", "");
    agent.done("/v1/agent/maintenance?enable=true", "");
    agent.kill_and_start();
    let checks = agent.get("/v1/agent/checks").json();
    assert_eq!(checks["_service_maintenance:web"]["Notes"], "disk");
    assert_eq!(checks["_node_maintenance"]["Status"], "critical");
    assert_eq!(agent.addresses("web.service.consul"), 0);
    agent.done("/v1/agent/service/maintenance/web?enable=false", "");
    agent.done("/v1/agent/maintenance?enable=false", "");
    assert_eq!(agent.addresses("web.service.consul"), 1);
}

#[test]
fn an_alias_follows_its_target() {
    let agent = Agent::new();
    register(&agent, json!({"Name": "db", "Port": 1, "Check": {"CheckID": "ttl", "TTL": "10m", "Status": "passing"}}));
    register(&agent, json!({"Name": "web", "Port": 80, "Check": {"CheckID": "alias", "AliasService": "db"}}));
    eventually("the alias passes", || status_of(&agent, "alias").as_deref() == Some("passing"));
    agent.done("/v1/agent/check/fail/ttl", "");
    eventually("the alias is critical", || passing(&agent, "web") == 0);
    agent.done("/v1/agent/check/pass/ttl", "");
    eventually("the alias passes again", || passing(&agent, "web") == 1);
    agent.done("/v1/agent/service/deregister/db", "");
    eventually("the target is gone", || status_of(&agent, "alias").as_deref() == Some("critical"));
}

#[test]
fn programs_run_from_files_alone_unless_it_is_enabled() {
    let body = json!({"Name": "p", "ID": "p", "Args": ["/bin/true"], "Interval": "1s"}).to_string();
    let mut agent = Agent::new();
    let answer = agent.put("/v1/agent/check/register", &body);
    assert_eq!(answer.status, 500, "as Consul's: {}", answer.text());
    assert!(answer.text().contains("Scripts are disabled"), "{}", answer.text());
    agent.kill();

    agent.start_again(Some(&["-enable-script-checks"]));
    agent.done("/v1/agent/check/register", &body);
    eventually("it runs", || status_of(&agent, "p").as_deref() == Some("passing"));
    agent.kill();

    agent.start_again(Some(&["-enable-local-script-checks"]));
    assert_eq!(status_of(&agent, "p"), None, "what was told when it was allowed does not run on");
    let file = agent.dir().join("program.json");
    let check = json!({"check": {"id": "f", "name": "f", "args": ["/bin/true"], "interval": "1s"}});
    std::fs::write(&file, check.to_string()).unwrap();
    agent.kill();
    let path = format!("-config-file={}", file.display());
    agent.start_again(Some(&["-enable-local-script-checks", &path]));
    eventually("that of a file runs", || status_of(&agent, "f").as_deref() == Some("passing"));
}

#[test]
fn a_ttl_check_turns_critical_and_a_report_at_the_last_moment_wins() {
    let agent = Agent::new();
    register(&agent, json!({"Name": "web", "Port": 80, "Check": {"CheckID": "ttl", "TTL": "300ms", "Status": "passing"}}));
    eventually("it expires", || passing(&agent, "web") == 0);
    for _ in 0..20 {
        agent.done("/v1/agent/check/pass/ttl", "");
        assert_eq!(status_of(&agent, "ttl").as_deref(), Some("passing"), "no expiry of before overtakes the report");
    }
}

#[test]
fn a_port_in_use_is_told_with_listener_and_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (flag, listener) in [("-http-port", "HTTP"), ("-dns-port", "DNS over TCP")] {
        let other = if flag == "-http-port" { "-dns-port" } else { "-http-port" };
        let output = support::muster()
            .args(["agent", "-dev", &format!("{flag}={}", address.port()), &format!("{other}={}", free_port())])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(told.contains(listener) && told.contains(&address.to_string()), "{told}");
        assert!(told.contains("in use"), "{told}");
    }
}

#[test]
fn large_services_return_together_after_their_node_was_removed() {
    let agent = Agent::new();
    for number in 0..12 {
        let tags = ["x".repeat(900_000)];
        register(&agent, json!({"ID": format!("s{number}"), "Name": "large", "Port": 80 + number, "Tags": tags}));
    }
    agent.done("/v1/catalog/deregister", json!({"Node": "here"}).to_string());
    let there = || agent.get("/v1/catalog/service/large?filter=ServicePort!=0").json().as_array().map_or(0, Vec::len);
    eventually("all are back", || there() == 12);
    register(&agent, json!({"Name": "small", "Port": 1}));
    assert_eq!(agent.addresses("small.service.consul"), 1, "and none holds others back");
}

#[test]
fn a_listener_that_is_a_file_has_its_owner_and_mode() {
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("http.sock");
    let me = std::fs::metadata(dir.path()).unwrap();
    // One that a former run left behind is taken over.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let hcl = format!(
        "addresses {{ http = \"127.0.0.1 unix://{}\" }}\nunix_sockets {{\n mode = \"0711\"\n user = \"{}\"\n group = \"{}\"\n}}",
        socket.display(),
        me.uid(),
        me.gid()
    );
    let agent = Agent::with(&["-hcl", &hcl]);
    let about = std::fs::metadata(&socket).unwrap();
    assert_eq!((about.permissions().mode() & 0o7777, about.uid(), about.gid()), (0o711, me.uid(), me.gid()));
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /v1/agent/self HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(support::answer(stream).unwrap().json()["Config"]["NodeName"], "here");
    let members = support::muster().args(["members", &format!("-http-addr=unix://{}", socket.display())]).output().unwrap();
    assert!(String::from_utf8_lossy(&members.stdout).contains("here"), "{members:?}");
    assert_eq!(agent.get("/v1/status/leader").status, 200);
}

#[test]
fn an_address_may_be_a_template() {
    let lo = "{{ GetAllInterfaces | include \"name\" \"^lo$\" | include \"type\" \"IPv4\" | sort \"size\" | limit 1 | attr \"address\" }}";
    let agent = Agent::with(&["-advertise", lo, "-client", lo]);
    let about = agent.get("/v1/agent/self").json();
    assert_eq!(about["DebugConfig"]["AdvertiseAddrLAN"], "127.0.0.1");
    let several = support::muster().args(["agent", "-dev", "-bind", "127.0.0.1 {{ GetPrivateIP }} 10.0.0.1"]).output().unwrap();
    let said = String::from_utf8_lossy(&several.stderr);
    assert!(!several.status.success() && said.contains("bind_addr"), "{said}");
}
