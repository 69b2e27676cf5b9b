//! The first command of the README, on free ports: what it starts is found, leaves when it is killed, and comes back.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test reads the clock and may fail

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What does not happen within this long does not happen.
const SOON: Duration = Duration::from_secs(30);

/// A child that is killed when dropped, and the lines it prints.
struct Program(Child, Receiver<String>);

impl Program {
    fn new(path: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(path).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (line, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        Self(child, lines)
    }

    /// The next line in which the text is.
    fn says(&self, text: &str) -> String {
        let end = Instant::now() + SOON;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.1.recv_timeout(left).unwrap_or_else(|_| panic!("nobody says {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that nobody has, each another: taken together, for one that is given back can be given out again.
fn free_ports<const N: usize>() -> [String; N] {
    let taken: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    taken.map(|port| port.local_addr().unwrap().port().to_string())
}

fn found(dns: &str) -> usize {
    let output = Command::new(env!("CARGO_BIN_EXE_lookup_dns")).args(["web.service.consul", dns]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().count()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_killed_backend_leaves_the_answers_and_returns() {
    let folder = tempfile::tempdir().unwrap();
    let [http, dns, one, two, three, four] = free_ports();
    let ports = [("18081", one), ("18082", two), ("18083", three), ("15432", four)];
    for name in ["web.toml", "db.toml"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("first").join(name)).unwrap();
        let text = ports.iter().fold(text, |text, (from, to)| text.replace(from, to));
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let first = env!("CARGO_BIN_EXE_first");
    let path = folder.path().to_str().unwrap();
    let flags = [
        &format!("-http-port={http}"),
        &format!("-dns-port={dns}"),
        "-hcl=ports {\n server = -1\n serf_lan = -1\n serf_wan = -1\n}",
    ];
    let mut all = Program::new(first, &[&["-folder", path], &flags.map(|flag| flag as &str)[..]].concat());
    let pid = all.says("web-1 ").rsplit(' ').next().unwrap().to_owned();
    let server = format!("127.0.0.1:{dns}");
    eventually("three are found", || found(&server) == 3);
    let watch = Program::new(env!("CARGO_BIN_EXE_watch_service"), &["web", &format!("127.0.0.1:{http}")]);
    watch.says("web-1 at 127.0.0.1");

    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    all.says("web-1 has ended");
    eventually("two are left", || found(&server) == 2);
    assert!(!watch.says("web: web-2").contains("web-1"));
    let again = Program::new(first, &["backend", "web-1", "-folder", path]);
    watch.says("web-1 at 127.0.0.1");
    eventually("three are found again", || found(&server) == 3);

    let second = Command::new(first).args(["-folder", path, flags[0]]).output().unwrap();
    assert!(!second.status.success() && String::from_utf8_lossy(&second.stderr).contains("in use"));
    drop(again);
    all.0.kill().unwrap();
    all.0.wait().unwrap();
    eventually("its children end with it", || {
        ports.iter().all(|(_, port)| TcpListener::bind(format!("127.0.0.1:{port}")).is_ok())
    });
}

#[test]
fn the_folders_are_valid() {
    for paths in [&["first"][..], &["checks"], &["sidecar/agent.toml", "sidecar/services"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_first"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("validate").args(paths);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{paths:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
