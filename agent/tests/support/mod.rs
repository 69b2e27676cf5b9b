//! Whole agents for tests: processes of the built program on free ports, a small HTTP client, and waiting for a level.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, dead_code, unreachable_pub)] // tests read the clock; each uses its part of this

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A level that is not reached within this long is not reached: many times what it takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// An agent of its own process; killed when dropped.
pub struct Agent {
    child: Child,
    pub http: SocketAddr,
    pub dns: SocketAddr,
    log: PathBuf,
    dir: PathBuf,
    flags: Vec<String>,
    around: Around,
    _own_dir: Option<tempfile::TempDir>,
}

/// What stands around an agent's process.
#[derive(Clone, Default)]
pub struct Around {
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Most files it may open.
    pub descriptors: Option<u32>,
    /// Whether it is one of several: what it is and who the others are is in its flags.
    pub member: bool,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Agent {
    /// An agent with a data directory of its own, that leads.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// The same with more flags.
    pub fn with(flags: &[&str]) -> Self {
        Self::around(flags, Around::default())
    }

    pub fn around(flags: &[&str], around: Around) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut agent = Self::started(dir.path(), flags, around);
        agent._own_dir = Some(dir);
        agent.wait_for_leader();
        agent
    }

    /// An agent whose files are in `dir`; it may not lead yet.
    pub fn started(dir: &Path, flags: &[&str], around: Around) -> Self {
        let (http, dns) = (free_port(), free_port());
        let log = dir.join(format!("log-{http}"));
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let child = spawn(dir, http, dns, &flags, &around, &log);
        Self {
            child,
            http: ([127, 0, 0, 1], http).into(),
            dns: ([127, 0, 0, 1], dns).into(),
            log,
            dir: dir.to_owned(),
            flags,
            around,
            _own_dir: None,
        }
    }

    /// Starts it again after its end, on the same ports and files, with other flags if some are given.
    pub fn start_again(&mut self, flags: Option<&[&str]>) {
        if let Some(flags) = flags {
            self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        }
        self.restart();
        self.wait_for_leader();
    }

    /// Starts it again after its end, whether it finds a leader or not.
    pub fn restart(&mut self) {
        self.child = spawn(&self.dir, self.http.port(), self.dns.port(), &self.flags, &self.around, &self.log);
    }

    /// `kill -9`, then a start.
    pub fn kill_and_start(&mut self) {
        self.kill();
        self.start_again(None);
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn wait_for_leader(&mut self) {
        let end = Instant::now() + SOON;
        loop {
            let led = request(self.http, "GET", "/v1/status/leader", &[], b"").is_ok_and(|answer| answer.body.len() > 3);
            let known = || self.get("/v1/catalog/nodes").json().as_array().is_some_and(|nodes| !nodes.is_empty());
            if led && known() {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the agent ended:\n{}", self.log());
            assert!(Instant::now() < end, "no leader:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// How it ended, and how long that took; `None` if it runs on.
    pub fn ended(&mut self, within: Duration) -> Option<(ExitStatus, Duration)> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some((status, begun.elapsed()));
            }
            if begun.elapsed() > within {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, b"")
    }

    pub fn put(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask("PUT", path, body.as_ref())
    }

    /// Puts, and expects that it was done.
    pub fn done(&self, path: &str, body: impl AsRef<[u8]>) {
        let answer = self.put(path, body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }

    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        request(self.http, method, path, &[], body).unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    /// Resident memory of its own in KB: what it allocated. Pages of the program come and go with what it happens to run.
    pub fn own_kb(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many addresses a name has over DNS.
    pub fn addresses(&self, name: &str) -> usize {
        dns_count(self.dns, name, 1)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            #[allow(clippy::print_stderr)] // what a failed test shows
            {
                eprintln!("--- log of the agent\n{}", self.log());
            }
        }
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn index(&self) -> u64 {
        self.header("X-Consul-Index").unwrap().parse().unwrap()
    }
}

/// `muster` with these arguments.
pub fn muster() -> Command {
    Command::new(env!("CARGO_BIN_EXE_muster"))
}

fn spawn(dir: &Path, http: u16, dns: u16, flags: &[String], around: &Around, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let program = env!("CARGO_BIN_EXE_muster");
    let mut command = match around.descriptors {
        None => Command::new(program),
        Some(most) => {
            let mut command = Command::new("prlimit");
            command.arg(format!("--nofile={most}:{most}")).arg(program);
            command
        }
    };
    command.args(["agent", "-bind=127.0.0.1", "-log-level=debug"]);
    if around.member {
        command.arg(format!("-data-dir={}", dir.join("data").display()));
    } else {
        command.arg("-node=here").args(["-hcl", "ports {\n server = -1\n serf_lan = -1\n serf_wan = -1\n}"]);
    }
    if !around.member && !flags.iter().any(|flag| flag == "-dev") {
        command.args(["-server", "-bootstrap"]).arg(format!("-data-dir={}", dir.join("data").display()));
    }
    command.arg(format!("-http-port={http}")).arg(format!("-dns-port={dns}"));
    command.args(flags).envs(around.env.iter().cloned()).env_remove("NOTIFY_SOCKET");
    command.envs(around.env.iter().cloned());
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

/// A port that was free for TCP and UDP a moment ago, of those that the system gives to no outgoing connection, and other
/// ones than those of other tests that run beside this one.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let turn = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst));
        let port = (10_000 + turn % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until it holds; says what was waited for if it never does.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One request on a connection of its own.
pub fn request(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str("Host: localhost\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    answer(stream)
}

/// Reads an answer to its end.
pub fn answer(stream: impl Read) -> std::io::Result<Answer> {
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(cut());
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map(|(_, value)| value.parse::<usize>().unwrap_or_default());
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
        }
        None => drop(reader.read_to_end(&mut body)?),
    }
    Ok(Answer { status, headers, body })
}

/// A DNS question as bytes.
pub fn dns_question(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

/// How many answers a question has over UDP.
pub fn dns_count(to: SocketAddr, name: &str, kind: u16) -> usize {
    let packet = dns_ask(to, &dns_question(name, kind));
    u16::from_be_bytes([packet[6], packet[7]]).into()
}

/// What a question in bytes is answered over UDP.
pub fn dns_ask(to: SocketAddr, question: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind(if to.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut packet = [0; 4096];
    for _ in 0..10 {
        socket.send(question).unwrap();
        if let Ok(length) = socket.recv(&mut packet) {
            assert!(length >= 12);
            return packet[..length].to_vec();
        }
    }
    panic!("DNS does not answer");
}

/// A backend for HTTP checks, whose answer can be changed.
pub struct Backend {
    pub address: SocketAddr,
    status: std::sync::Arc<std::sync::atomic::AtomicU16>,
    asked: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Backend {
    pub fn new() -> Self {
        use std::sync::atomic::Ordering::SeqCst;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let backend =
            Self { address: listener.local_addr().unwrap(), status: std::sync::Arc::new(200.into()), asked: Default::default() };
        let (status, asked) = (backend.status.clone(), backend.asked.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let (status, asked) = (status.clone(), asked.clone());
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                        head.push(byte[0]);
                    }
                    asked.fetch_add(1, SeqCst);
                    let status = status.load(SeqCst);
                    let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
                });
            }
        });
        backend
    }

    pub fn answers(&self, status: u16) {
        self.status.store(status, std::sync::atomic::Ordering::SeqCst);
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(std::sync::atomic::Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}/health", self.address)
    }
}
