//! Ways to watch an agent from outside: statsd, the stream of metrics, SIGUSR1, log files, and `muster debug`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

mod support;

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
