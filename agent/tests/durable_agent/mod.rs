//! An agent that is killed again and again, and a client that knows which of its requests were answered.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, dead_code)] // tests read the clock; each uses its part of this

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What takes longer than this never happens: many times what it takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// A process of the built program.
pub struct Agent {
    child: Child,
    pub http: SocketAddr,
    pub dns: SocketAddr,
    pub begun: Instant,
    log: PathBuf,
}

/// How an agent is to be started.
#[derive(Clone, Default)]
pub struct Start {
    /// Lines of HCL.
    pub config: String,
    /// The user that runs it, if not this one.
    pub user: Option<u32>,
    /// Where its log goes, if not beside its data.
    pub log: Option<PathBuf>,
}

impl Agent {
    /// Starts the process; it may not answer yet.
    pub fn spawn(data: &Path, start: &Start) -> Self {
        let (http, dns) = (free_port(), free_port());
        let log = start.log.clone().unwrap_or_else(|| data.with_extension("log"));
        let out = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.args(["agent", "-node=here", "-bind=127.0.0.1", "-server", "-bootstrap"]);
        command.arg(format!("-data-dir={}", data.display())).arg(format!("-http-port={http}")).arg(format!("-dns-port={dns}"));
        command.args(["-hcl", "ports {\n server = -1\n serf_lan = -1\n serf_wan = -1\n}", "-hcl", &start.config]);
        command.env_remove("NOTIFY_SOCKET").current_dir("/");
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        if let Some(user) = start.user {
            command.uid(user).gid(user);
        }
        let begun = Instant::now();
        let child = command.spawn().unwrap();
        Self { child, http: ([127, 0, 0, 1], http).into(), dns: ([127, 0, 0, 1], dns).into(), begun, log }
    }

    /// Starts it and waits until it answers in default mode, and knows itself.
    pub fn start(data: &Path, start: &Start) -> Self {
        let mut agent = Self::spawn(data, start);
        agent.first("/v1/kv/none?keys");
        eventually("the node is in the catalog", || agent.get("/v1/catalog/node/here").json().is_object());
        agent
    }

    fn still_runs(&mut self, path: &str) {
        assert!(self.child.try_wait().unwrap().is_none(), "the agent ended:\n{}", self.log());
        assert!(self.begun.elapsed() < SOON, "{path} is not answered:\n{}", self.log());
    }

    /// The first answer to a question that is asked at full speed, and how long after the start it came. A 404 is an answer.
    pub fn first(&mut self, path: &str) -> (Answer, Duration) {
        loop {
            match first(self.http, path, Duration::from_secs(2)) {
                Some(answer) => return (answer, self.begun.elapsed()),
                None => self.still_runs(path),
            }
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended by itself, and how long after its start.
    pub fn ended(&mut self) -> (ExitStatus, Duration) {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.begun.elapsed());
            }
            assert!(self.begun.elapsed() < SOON, "it runs on:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn get(&self, path: &str) -> Answer {
        Client::to(self.http).ask("GET", path, b"").unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.log()))
    }

    pub fn put(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        let answer = Client::to(self.http).ask("PUT", path, body.as_ref());
        answer.unwrap_or_else(|error| panic!("PUT {path}: {error}\n{}", self.log()))
    }

    /// Puts, and expects that it was done.
    pub fn done(&self, path: &str, body: impl AsRef<[u8]>) {
        let answer = self.put(path, body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }

    /// How many addresses a name has over DNS.
    pub fn addresses(&self, name: &str) -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.dns).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            question.push(label.len() as u8);
            question.extend_from_slice(label.as_bytes());
        }
        question.extend_from_slice(&[0, 0, 1, 0, 1]);
        let mut packet = [0; 4096];
        for _ in 0..10 {
            socket.send(&question).unwrap();
            if socket.recv(&mut packet).is_ok_and(|length| length >= 12) {
                return u16::from_be_bytes([packet[6], packet[7]]);
            }
        }
        panic!("DNS does not answer for {name}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks at full speed until there is an answer in default mode; `None` if there is none for this long.
pub fn first(to: SocketAddr, path: &str, within: Duration) -> Option<Answer> {
    let end = Instant::now() + within;
    while Instant::now() < end {
        match Client::to(to).ask("GET", path, b"") {
            Ok(answer) if matches!(answer.status, 200 | 404) => return Some(answer),
            Ok(answer) => assert_eq!(answer.status, 500, "{path}: {}", answer.text()),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection that is kept; an error means that it is not known whether the request was carried out.
pub struct Client {
    to: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn to(to: SocketAddr) -> Self {
        Self { to, stream: None }
    }

    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.to)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(SOON))?;
                BufReader::new(stream)
            }
        };
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        request.extend_from_slice(body);
        stream.get_mut().write_all(&request)?;
        let (mut line, mut length) = (String::new(), 0);
        stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::UnexpectedEof)?;
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            assert!(!line.starts_with("transfer-encoding"), "answers of this size have a length");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        self.stream = Some(stream);
        Ok(Answer { status, body })
    }
}

/// `muster` with these arguments, to its end.
pub fn muster(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muster")).args(arguments).output().unwrap()
}

/// A port below those that the system gives to clients, that was free for TCP and UDP a moment ago.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port =
            10_000 + ((std::process::id() as u16).wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))) % 20_000;
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
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A number from the environment.
pub fn from_env(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}
