//! How an agent starts and ends, and what it tells its supervisor.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock; helpers may fail as their tests do

mod support;

use std::io::Write;
use std::net::{IpAddr, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Agent, Around, eventually, request};

/// Stopping takes this long at most.
const STOP_MAX: Duration = Duration::from_secs(10);

/// The address of this host's other interface, if it has one.
fn other_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

fn ends_in_order(signal: &str) {
    let mut agent = Agent::new();
    agent.done("/v1/agent/service/register", json!({"Name": "web", "Port": 80}).to_string());
    let index = agent.get("/v1/health/service/web").index();
    let http = agent.http;
    let path = format!("/v1/health/service/web?index={index}&wait=300s");
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..100).map(|_| scope.spawn(|| request(http, "GET", &path, &[], b"").map(|answer| answer.status))).collect();
        eventually("the readers are connected", || std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count() > 100);
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                scope.spawn(move || {
                    // Each write is acknowledged, or refused; none is left hanging.
                    let mut acknowledged = Vec::new();
                    for turn in 0..20_000 {
                        let key = format!("w/{writer}/{turn}");
                        match request(http, "PUT", &format!("/v1/kv/{key}"), &[], b"v") {
                            Ok(answer) if answer.status == 200 => acknowledged.push(key),
                            Ok(_) | Err(_) => break,
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        eventually("writes go on", || agent.get("/v1/kv/w/15/9").status == 200);
        agent.signal(signal);
        let (status, took) = agent.ended(STOP_MAX).expect("it ends in time");
        assert_eq!(status.code(), Some(0), "{}", agent.log());
        assert!(took < STOP_MAX / 2, "nothing waits for a deadline: {took:?}\n{}", agent.log());
        for reader in readers {
            assert_eq!(reader.join().unwrap().expect("a waiting reader gets an answer"), 200);
        }
        let acknowledged: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        agent.start_again(None);
        let keys = agent.get("/v1/kv/w?keys").json();
        let keys: std::collections::HashSet<_> = keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
        assert!(acknowledged.iter().all(|key| keys.contains(key.as_str())), "what was acknowledged is there");
    });
}

#[test]
fn sigterm_ends_in_order_under_load() {
    ends_in_order("TERM");
}

#[test]
fn sigint_ends_in_order_under_load() {
    ends_in_order("INT");
}

#[test]
fn a_second_signal_ends_at_once_and_a_hangup_does_not() {
    let mut agent = Agent::new();
    // A body that never comes keeps the door open until its deadline.
    let mut slow = TcpStream::connect(agent.http).unwrap();
    slow.write_all(b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab").unwrap();
    eventually("it is being read", || agent.get("/v1/status/leader").status == 200);
    agent.signal("TERM");
    eventually("it is stopping", || agent.log().contains("stopping: SIGTERM"));
    agent.signal("HUP");
    assert!(agent.ended(Duration::from_millis(700)).is_none(), "a hangup is no stop");
    agent.signal("TERM");
    let (status, took) = agent.ended(STOP_MAX).expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn leave_ends_the_agent() {
    let mut agent = Agent::new();
    let status = support::muster().args(["leave", &format!("-http-addr={}", agent.http)]).status().unwrap();
    assert!(status.success());
    let (status, _) = agent.ended(STOP_MAX).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn the_pid_file_is_there_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    let mut agent = Agent::with(&[&format!("-pid-file={}", path.display())]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), agent.pid().to_string());
    agent.signal("TERM");
    assert!(agent.ended(STOP_MAX).is_some());
    assert!(!path.exists());
}

#[test]
fn the_supervisor_is_told_of_each_step() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(support::SOON)).unwrap();
    let next = || {
        let mut text = [0; 1024];
        let length = socket.recv(&mut text).expect("something is told");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let env = vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())];
    let mut agent = Agent::around(&[], Around { env, ..Around::default() });
    assert!(next().contains("READY=1"));
    agent.signal("HUP");
    let reloading = next();
    assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert!(next().contains("READY=1"));
    agent.signal("TERM");
    assert!(next().contains("STOPPING=1"));
    assert_eq!(agent.ended(STOP_MAX).expect("it ends").0.code(), Some(0));
}

#[test]
fn it_listens_on_a_unix_socket_with_the_mode_that_was_asked() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http.sock");
    let both = format!("addresses {{ http = \"127.0.0.1 unix://{}\" }}\nunix_sockets {{ mode = \"600\" }}", path.display());
    let mut agent = Agent::with(&["-hcl", &both]);
    let ask = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET /v1/status/leader HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n").unwrap();
        support::answer(stream).unwrap().status
    };
    assert_eq!(ask(), 200);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    agent.kill_and_start();
    assert_eq!(ask(), 200, "what a killed agent left behind is taken over");
}

#[test]
fn dns_and_http_are_on_loopback_alone_unless_told() {
    let agent = Agent::with(&["-dev"]);
    let Some(other) = other_address() else { return };
    assert!(TcpStream::connect((other, agent.dns.port())).is_err());
    assert!(TcpStream::connect((other, agent.http.port())).is_err());
    assert!(TcpStream::connect(agent.dns).is_ok());
}

#[test]
fn gauges_of_catalog_and_raft_are_set() {
    let agent = Agent::with(&["-hcl", "telemetry {\n prometheus_retention_time = \"1h\"\n disable_hostname = true\n}"]);
    let begun = Instant::now();
    eventually("they are shown", || {
        let text = agent.get("/v1/agent/metrics?format=prometheus").text();
        let at_least = |name: &str, least: f64| {
            text.lines().filter(|line| line.starts_with(name)).any(|line| {
                line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).is_some_and(|value| value >= least)
            })
        };
        at_least("consul_state_nodes", 1.0)
            && at_least("consul_raft_applied_index", 1.0)
            && at_least("consul_server_isLeader", 1.0)
            && at_least("consul_autopilot_healthy", 1.0)
    });
    assert!(begun.elapsed() < Duration::from_secs(25));
}
