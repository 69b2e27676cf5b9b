//! Ways to watch an agent from outside: what Prometheus reads, statsd, the stream of metrics, SIGUSR1, log files, and `muster debug`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

mod support;
mod whole;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Agent, eventually};

#[test]
fn metrics_reach_statsd_the_stream_and_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(support::SOON)).unwrap();
    let file = dir.path().join("telemetry.json");
    let telemetry = json!({"telemetry": {
        "dogstatsd_addr": udp.local_addr().unwrap().to_string(), "dogstatsd_tags": ["env:test"],
        "statsd_address": "no.such.host.invalid:8125", "statsite_address": "127.0.0.1:1",
        "metrics_prefix": "own", "disable_hostname": true, "enable_host_metrics": true, "prefix_filter": ["-own.runtime"],
    }});
    std::fs::write(&file, telemetry.to_string()).unwrap();
    let agent = Agent::with(&["-config-file", file.to_str().unwrap()]);
    let mut stream = TcpStream::connect(agent.http).unwrap();
    stream.set_read_timeout(Some(support::SOON)).unwrap();
    stream.write_all(b"GET /v1/agent/metrics/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (mut packet, mut told) = ([0; 4096], String::new());
    while !(told.contains("own.raft.apply:") && told.contains("own.host.memory.total:")) {
        let length = udp.recv(&mut packet).unwrap();
        assert!(length <= 1400, "{length}");
        let text = std::str::from_utf8(&packet[..length]).unwrap();
        assert!(text.lines().all(|line| line.contains("#env:test") && !line.contains("own.runtime")), "{text}");
        told.push_str(text);
    }
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "HTTP/1.1 200 OK");
    let interval = lines.find(|line| line.starts_with('{')).unwrap();
    let interval: Value = serde_json::from_str(&interval).unwrap();
    assert!(interval["Gauges"].as_array().unwrap().iter().any(|gauge| gauge["Name"] == "own.server.isLeader"), "{interval}");
    agent.signal("USR1");
    eventually("they are printed", || agent.log().contains("[G] 'own.server.isLeader': "));
    assert!(agent.log().contains("metrics cannot be sent at present"), "it is said that a sink is not there");
    assert!(!agent.log().contains("[G] 'own.runtime"), "what is hidden is hidden everywhere");
}

/// What of these is above zero at an agent, as Prometheus reads it; a label is written behind a name.
fn seen(agent: &whole::Agent, names: &[&str]) -> Vec<bool> {
    let text = agent.get("/v1/agent/metrics?format=prometheus").text();
    let is = |name: &str, line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap_or_default();
        let (bare, labels) = series.split_once('{').unwrap_or((series, ""));
        let (name, label) = name.split_once('{').unwrap_or((name, ""));
        bare == format!("consul_{name}") && labels.contains(label) && value.parse::<f64>().is_ok_and(|value| value > 0.0)
    };
    names.iter().map(|name| text.lines().any(|line| is(name, line))).collect()
}

#[test]
fn what_dashboards_draw_of_servers_and_clients_has_values() {
    let net = whole::Net::new();
    let flags = ["-hcl", "telemetry {\n disable_hostname = true\n prometheus_retention_time = \"1h\"\n}"];
    let servers = net.servers(3, &flags);
    let mut client = net.client(4, 3, &flags);
    client.start_up();
    let web = json!({"Name": "web", "Port": 80, "Tags": ["a"], "Check": {"TTL": "1h", "Status": "passing"}});
    client.done("/v1/agent/service/register", web.to_string());
    client.done("/v1/kv/a", "b");
    client.done("/v1/txn", r#"[{"KV":{"Verb":"set","Key":"b","Value":""}}]"#);
    client.done("/v1/session/create", "{}");
    client.done("/v1/catalog/register", r#"{"Node":"far","Address":"192.0.2.1"}"#);
    client.done("/v1/catalog/deregister", r#"{"Node":"far"}"#);
    client.eventually("the service is there", |client| client.addresses("web.service.consul") == 1);
    for path in ["health/service/web", "catalog/service/web?tag=a", "health/service/nobody"] {
        assert_eq!(client.get(&format!("/v1/{path}")).status, 200);
    }
    let leader = servers.iter().position(|server| server.ip == client.leader()).unwrap();
    let (leads, follows) = (&servers[leader], &servers[(leader + 1) % 3]);
    assert_eq!(leads.get("/v1/kv/a?consistent").status, 200);
    let of_leader = [
        "raft_state_candidate",
        "raft_state_leader",
        "raft_apply",
        "raft_commitTime_count",
        "raft_fsm_apply_count",
        "raft_leader_lastContact_count",
        "raft_leader_oldestLogAge",
        "raft_replication_appendEntries_rpc_count{peer_id",
        "raft_replication_heartbeat_count{peer_id",
        "raft_thread_main_saturation_count",
        "raft_thread_fsm_saturation_count",
        "raft_boltdb_storeLogs_count",
        "raft_verify_leader",
        "raft_barrier",
        "raft_last_index",
        "raft_applied_index",
        "server_isLeader",
        "autopilot_healthy",
        "autopilot_failure_tolerance",
        "leader_barrier_count",
        "leader_reconcile_count",
        "leader_reconcileMember_count",
        "catalog_register_count",
        "catalog_deregister_count",
        "kvs_apply_count",
        "txn_apply_count",
        "session_apply_count",
        "rpc_query",
        "rpc_request",
        "rpc_accept_conn",
        "rpc_consistentRead_count",
        "rpc_server_call_count{method=\"write\",errored=\"false\"",
        "api_http_count{method=\"GET\",path=\"v1.kv._\"",
        "state_nodes",
        "state_kv_entries",
        "members_servers",
        "members_clients",
        "serf_member_join",
        "serf_events",
        "memberlist_gossip_count",
        "memberlist_probeNode_count",
        "memberlist_msg_alive",
        "memberlist_node_instances{network=\"lan\",node_state=\"alive\"",
        "memberlist_queue_broadcasts_count",
        "serf_queue_Event_count",
        "serf_msgs_sent_count",
        "memberlist_udp_sent",
        "memberlist_udp_received",
        "memberlist_tcp_sent",
        "memberlist_tcp_accept",
        "runtime_alloc_bytes",
        "runtime_sys_bytes",
    ];
    let of_follower = ["raft_state_follower", "raft_rpc_appendEntries_count"];
    let of_client = [
        "client_rpc",
        "dns_query_count",
        "health_service_query{service=\"web\"",
        "health_service_not_found",
        "catalog_service_query{service=\"web\"",
        "catalog_service_query_tag{service=\"web\"",
        "api_http_count{method=\"PUT\",path=\"v1.agent.service.register\"",
    ];
    for (agent, names) in [(leads, &of_leader[..]), (follows, &of_follower), (&client, &of_client)] {
        let end = std::time::Instant::now() + support::SOON;
        loop {
            let seen = seen(agent, names);
            let missing: Vec<_> = names.iter().zip(seen).filter(|(_, seen)| !seen).map(|(name, _)| name).collect();
            if missing.is_empty() {
                break;
            }
            assert!(std::time::Instant::now() < end, "{}: never {missing:?}", agent.name);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn logs_go_to_files_and_debug_gathers_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let (logs, out) = (dir.path().join("logs"), dir.path().join("found"));
    std::fs::create_dir(&logs).unwrap();
    let flags = [
        format!("-log-file={}/agent.log", logs.display()),
        "-log-rotate-bytes=2000".to_owned(),
        "-log-rotate-max-files=2".to_owned(),
    ];
    let agent = Agent::with(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let files = || -> Vec<_> { std::fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().path()).collect() };
    eventually("one is written, two are kept", || {
        agent.done("/v1/agent/service/register", r#"{"Name":"web"}"#);
        agent.get("/v1/agent/health/service/id/none?x");
        agent.done("/v1/agent/reload", "");
        files().len() == 3
    });
    assert!(files().iter().all(|path| path.file_name().unwrap().to_str().unwrap().starts_with("agent-1")), "{:?}", files());

    let mut debug = support::muster();
    debug.args(["debug", "-duration=3s", "-interval=1s", &format!("-output={}", out.display())]);
    let mut debug = debug.env("CONSUL_HTTP_ADDR", agent.http.to_string()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    while debug.try_wait().unwrap().is_none() {
        agent.done("/v1/agent/reload", ""); // something to be logged
        std::thread::sleep(Duration::from_millis(100));
    }
    let archive = dir.path().join("found.tar.gz");
    let listed = std::process::Command::new("tar").arg("-xzvf").arg(&archive).arg("-C").arg(dir.path()).output().unwrap();
    let names: Vec<_> = String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect();
    let expected = ["agent", "host", "members", "raft", "index"].map(|name| format!("found/{name}.json"));
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?} {listed:?}");
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(text("consul.log").contains("configuration reloaded"));
    let looks = text("metrics.json").lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    assert!((2..=4).contains(&looks), "{looks}");
    assert_eq!(serde_json::from_str::<Value>(&text("agent.json")).unwrap()["Config"]["NodeName"], "here");
    let again = support::muster().args(["debug", &format!("-output={}", out.display())]).output().unwrap();
    assert!(!again.status.success(), "an archive is never overwritten");
}
