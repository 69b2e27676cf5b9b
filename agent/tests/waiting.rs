//! Readers that wait: a change wakes those whose answer it can alter, each once, and nobody else.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)] // tests read the clock and say what they saw
#![allow(clippy::unwrap_used)] // the helpers of a test may fail as its tests do

mod support;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const SERVICES: usize = 50;
/// Readers of each service: all together stay below the 1,024 files that a process may have open by default.
const READERS: usize = 10;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent of its own, ended with the test.
struct Agent {
    child: Child,
    http: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Agent {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (http, dns, server) = (free_address(), free_address(), free_address());
        let config = dir.path().join("agent.json");
        let text = format!(
            r#"{{"node_name": "n1", "data_dir": {:?}, "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
                "server": true, "bootstrap_expect": 1, "log_level": "warn",
                "ports": {{"http": {}, "dns": {}, "server": {}, "serf_lan": -1, "serf_wan": -1}},
                "limits": {{"http_max_conns_per_client": 5000}},
                "telemetry": {{"prometheus_retention_time": "60s", "disable_hostname": true}}}}"#,
            dir.path().join("data"),
            http.port(),
            dns.port(),
            server.port(),
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_muster"))
            .args(["agent", "-config-file"])
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let agent = Self { child, http, _dir: dir };
        eventually(|| {
            TcpStream::connect(http).is_ok() && agent.ask("GET", "/v1/catalog/service/consul", "").body.contains("\"n1\"")
        });
        agent
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut reader = Reader::connect(self.http);
        reader.send(method, path, body);
        reader.answer()
    }

    fn register(&self, service: usize, tag: &str) {
        let body = format!(
            r#"{{"Node": "m{service}", "Address": "10.0.0.{service}",
                "Service": {{"ID": "s{service}", "Service": "s{service}", "Port": 80, "Tags": [{tag:?}]}}}}"#
        );
        assert_eq!(self.ask("PUT", "/v1/catalog/register", &body).status, 200);
    }

    /// A number that the agent counts.
    fn count(&self, name: &str) -> u64 {
        let text = self.ask("GET", "/v1/agent/metrics?format=prometheus", "").body;
        let line = text.lines().find(|line| line.split_once(' ').is_some_and(|(found, _)| found == name));
        line.map_or(0, |line| line.split_once(' ').unwrap().1.parse::<f64>().unwrap() as u64)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    ([127, 0, 0, 1], support::free_port()).into()
}

#[track_caller]
fn eventually(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

struct Answer {
    status: u16,
    index: u64,
    body: String,
}

/// One connection.
struct Reader(BufReader<TcpStream>);

impl Reader {
    fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, method: &str, path: &str, body: &str) {
        let mut text = String::new();
        write!(text, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn answer(&mut self) -> Answer {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?} is no answer")).parse().unwrap();
        let (mut index, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "x-consul-index" => index = value.parse().unwrap(),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Answer { status, index, body: String::from_utf8(body).unwrap() }
    }

    /// Whether nothing has come.
    fn waits(&mut self) -> bool {
        let stream = self.0.get_mut();
        stream.set_nonblocking(true).unwrap();
        let nothing = stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
        nothing
    }
}

#[test]
fn a_change_wakes_its_readers_once_and_nobody_else() {
    let agent = Agent::start();
    for service in 0..SERVICES {
        agent.register(service, "old");
    }
    let mut readers: Vec<Vec<Reader>> = Vec::new();
    for service in 0..SERVICES {
        let path = format!("/v1/health/service/s{service}?passing");
        let index = agent.ask("GET", &path, "").index;
        let waiting = (0..READERS).map(|_| {
            let mut reader = Reader::connect(agent.http);
            reader.send("GET", &format!("{path}&index={index}&wait=120s"), "");
            reader
        });
        readers.push(waiting.collect());
    }
    eventually(|| agent.count("consul_rpc_queries_blocking") == (SERVICES * READERS) as u64);
    let before = agent.count("consul_readers_woken");

    agent.register(7, "new");

    for reader in &mut readers[7] {
        assert!(reader.answer().body.contains("\"new\""));
    }
    eventually(|| agent.count("consul_rpc_queries_blocking") == ((SERVICES - 1) * READERS) as u64);
    assert_eq!(agent.count("consul_readers_woken") - before, READERS as u64);
    for (service, readers) in readers.iter_mut().enumerate() {
        assert!(service == 7 || readers.iter_mut().all(Reader::waits), "a reader of service {service} was answered");
    }

    // The same told again changes nothing, so it wakes nobody.
    agent.register(8, "old");
    assert_eq!(agent.count("consul_readers_woken") - before, READERS as u64);
}

#[test]
fn a_reader_that_goes_away_waits_no_longer() {
    let agent = Agent::start();
    agent.register(1, "old");
    let index = agent.ask("GET", "/v1/health/service/s1", "").index;
    let before = agent.count("consul_rpc_queries_blocking");
    let mut reader = Reader::connect(agent.http);
    reader.send("GET", &format!("/v1/health/service/s1?index={index}&wait=120s"), "");
    eventually(|| agent.count("consul_rpc_queries_blocking") == before + 1);
    drop(reader);
    eventually(|| agent.count("consul_rpc_queries_blocking") == before);
}
