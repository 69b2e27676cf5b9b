//! Whole agents, each at a loopback address of its own with the usual ports: what stands on several hosts elsewhere.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stderr, dead_code)] // each test uses its part of this

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Answer, answer, request};

/// What takes longer than this never happens: many times what it takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);
/// A key of gossip.
pub const KEY: &str = "jgDVIyKhyVcJVJZWhTTWEDLa+j5+YKqPBzQ4Zm5wYMc=";

/// Addresses for the agents of one test, and a place for their files.
pub struct Net {
    prefix: String,
    dir: tempfile::TempDir,
}

/// One agent, running or not; killed when dropped.
pub struct Agent {
    pub name: String,
    pub ip: String,
    dir: PathBuf,
    flags: Vec<String>,
    /// Of HTTP; that of DNS is the next one where this is not the usual one.
    port: u16,
    /// Where it listens, if that is not its address.
    bind: Option<&'static str>,
    /// Where it finds programs before those of the host.
    programs: Option<PathBuf>,
    child: Option<Child>,
}

impl Net {
    /// Addresses that no other test has.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let turn = std::process::id().wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst).wrapping_mul(7919));
            let prefix = format!("127.{}.{}", 100 + turn / 250 % 100, 1 + turn % 250);
            if TcpListener::bind(format!("{prefix}.1:8301")).is_ok() {
                return Self { prefix, dir: tempfile::tempdir().unwrap() };
            }
        }
    }

    pub fn ip(&self, host: u8) -> String {
        format!("{}.{host}", self.prefix)
    }

    /// An agent at that address; its name says which. It does not run yet, and what it is told besides is its flags.
    pub fn agent(&self, name: &str, host: u8, flags: &[&str]) -> Agent {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Agent {
            name: name.to_owned(),
            ip: self.ip(host),
            dir: self.dir.path().join(format!("host-{host}")),
            flags,
            port: 8500,
            bind: None,
            programs: None,
            child: None,
        }
    }

    /// One of so many servers, at the addresses from 1 on.
    pub fn server(&self, host: u8, of: u8, flags: &[&str]) -> Agent {
        self.server_named(&format!("s{host}"), host, of, flags)
    }

    /// A server of that name at any address, of so many that are at those from 1 on.
    pub fn server_named(&self, name: &str, host: u8, of: u8, flags: &[&str]) -> Agent {
        let mut agent = self.agent(name, host, flags);
        agent.flags.extend(["-server".to_owned(), format!("-bootstrap-expect={of}")]);
        agent.flags.extend((1..=of).map(|host| format!("-retry-join={}", self.ip(host))));
        agent
    }

    /// A client agent of those servers.
    pub fn client(&self, host: u8, of: u8, flags: &[&str]) -> Agent {
        let mut agent = self.agent(&format!("c{host}"), host, flags);
        agent.flags.extend((1..=of).map(|host| format!("-retry-join={}", self.ip(host))));
        agent
    }

    /// So many servers that have a leader.
    pub fn servers(&self, of: u8, flags: &[&str]) -> Vec<Agent> {
        let mut servers: Vec<Agent> = (1..=of).map(|host| self.server(host, of, flags)).collect();
        servers.iter_mut().for_each(Agent::start);
        for server in &mut servers {
            server.is_up();
        }
        servers
    }
}

impl Agent {
    /// Other flags from its next start on.
    pub fn told(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
    }

    /// It is at `[::1]`, with ports of its own.
    pub fn at_ipv6(&mut self, http: u16) {
        (self.ip, self.port) = ("::1".to_owned(), http);
    }

    /// It listens on all addresses of both families, with ports of its own, and tells others this one.
    pub fn at_both_families(&mut self, ip: &str, http: u16) {
        (self.ip, self.port, self.bind) = (ip.to_owned(), http, Some("::"));
        self.flags.push(format!("-advertise={ip}"));
    }

    /// At its address, with ports of its own.
    pub fn at_port(&mut self, http: u16) {
        self.port = http;
    }

    /// From its next start on it finds this program under this name, a script for `sh`.
    pub fn finds(&mut self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let programs = self.dir.join("programs");
        std::fs::create_dir_all(&programs).unwrap();
        let path = programs.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self.programs = Some(programs);
    }

    /// Takes flags back that begin so.
    pub fn untold(&mut self, beginning: &str) {
        self.flags.retain(|flag| !flag.starts_with(beginning));
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The id that its node has kept.
    pub fn node_id(&self) -> String {
        self.kept("node-id")
    }

    /// The cluster that it belongs to.
    pub fn cluster_id(&self) -> String {
        self.kept("cluster-id")
    }

    fn kept(&self, name: &str) -> String {
        std::fs::read_to_string(self.data().join(name)).unwrap().trim().to_owned()
    }

    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        std::fs::create_dir_all(&self.dir).unwrap();
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        let (name, ip) = (&self.name, self.bind.unwrap_or(&self.ip));
        command.args(["agent", "-log-level=info"]).arg(format!("-node={name}")).arg(format!("-bind={ip}"));
        command.arg(format!("-client={ip}")).arg(format!("-data-dir={}", self.data().display()));
        command.args(&self.flags).env_remove("NOTIFY_SOCKET").current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        if let Some(programs) = &self.programs {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", programs.display()));
        }
        self.child = Some(command.spawn().unwrap());
    }

    /// Starts it, and waits until it is among others and knows a leader.
    pub fn start_up(&mut self) {
        self.start();
        self.is_up();
    }

    /// Waits until it knows a leader, and is in the catalog as it sees it.
    pub fn is_up(&mut self) {
        let name = self.name.clone();
        self.eventually("it is up", |agent| {
            let known = agent.ask("GET", "/v1/catalog/nodes", b"").is_ok_and(|answer| {
                if answer.status != 200 {
                    return false;
                }
                let here = answer.json().as_array().is_some_and(|all| all.iter().any(|node| node["Node"] == name.as_str()));
                answer.header("X-Consul-KnownLeader") == Some("true") && here
            });
            known && !agent.leader().is_empty()
        });
    }

    /// The address of the leader as it knows it; empty if it knows none.
    pub fn leader(&self) -> String {
        let Ok(answer) = self.ask("GET", "/v1/status/leader", b"") else { return String::new() };
        serde_json::from_slice::<String>(&answer.body).unwrap_or_default().trim_end_matches(":8300").to_owned()
    }

    /// Waits for a level of this agent; fails at once if it has ended.
    #[track_caller]
    pub fn eventually(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + SOON;
        while !holds(self) {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            assert!(!ended, "{} has ended, and not {what}:\n{}", self.name, self.log());
            assert!(Instant::now() < end, "{} not within {SOON:?}: {what}\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub fn ends(&mut self) -> ExitStatus {
        let end = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < end, "{} runs on:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Lines of its log that hold this text.
    pub fn said(&self, text: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    pub fn http(&self) -> SocketAddr {
        SocketAddr::new(self.ip.parse().unwrap(), self.port)
    }

    pub fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.ip.parse().unwrap(), if self.port == 8500 { 8600 } else { self.port + 1 })
    }

    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        request(self.http(), method, path, &[], body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, b"").unwrap_or_else(|error| panic!("{}: GET {path}: {error}\n{}", self.name, self.log()))
    }

    pub fn put(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        let answer = self.ask("PUT", path, body.as_ref());
        answer.unwrap_or_else(|error| panic!("{}: PUT {path}: {error}\n{}", self.name, self.log()))
    }

    /// Puts, and expects that it was done.
    pub fn done(&self, path: &str, body: impl AsRef<[u8]>) {
        let answer = self.put(path, body);
        assert_eq!(answer.status, 200, "{}: {path}: {}\n{}", self.name, answer.text(), self.log());
    }

    /// A question whose answer is read later: the kernel takes it even while the agent is stopped in its tracks.
    pub fn asked(&self, path: &str) -> TcpStream {
        use std::io::Write as _;
        let mut stream = TcpStream::connect(self.http()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    /// The members as it sees them, by name: state as Consul numbers it (1 alive, 3 left, 4 failed) and address.
    pub fn members(&self) -> BTreeMap<String, (u64, String)> {
        let Ok(answer) = self.ask("GET", "/v1/agent/members", b"") else { return BTreeMap::new() };
        let all = answer.json();
        let member = |row: &Value| {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            (text("Name"), (row["Status"].as_u64().unwrap_or_default(), text("Addr")))
        };
        all.as_array().map(|all| all.iter().map(member).collect()).unwrap_or_default()
    }

    /// Names of the members that it holds alive.
    pub fn alive(&self) -> Vec<String> {
        self.members().into_iter().filter(|(_, (status, _))| *status == 1).map(|(name, _)| name).collect()
    }

    /// How many addresses a name has over DNS.
    pub fn addresses(&self, name: &str) -> usize {
        crate::support::dns_count(self.dns(), name, 1)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().filter(|line| !line.contains("while requesting pre-vote")).take(60).collect();
            eprintln!("--- end of the log of {}\n{}", self.name, tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Reads the answer to what was asked before.
pub fn answered(stream: TcpStream) -> io::Result<Answer> {
    answer(stream)
}

/// Copies a directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Waits until it holds; says what was waited for if it never does.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
