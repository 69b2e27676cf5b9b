//! The walk of the README through a cluster: the leader is killed, a client, all servers; and all of them come back.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test reads the clock and may fail

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What does not happen within this long does not happen: a death is told from a silence within 7 s.
const SOON: Duration = Duration::from_secs(60);

/// The example, and the last line that it printed of each agent.
struct Cluster {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    rows: BTreeMap<String, Vec<String>>,
}

impl Cluster {
    fn start(net: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
        let mut child = command.args(["-net", net]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        Self { child, input, lines, rows: BTreeMap::new() }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// Reads on until a line, or what all lines together say, is as wanted.
    fn until(&mut self, what: &str, wanted: impl Fn(&str, &BTreeMap<String, Vec<String>>) -> bool) {
        let end = Instant::now() + SOON;
        let mut said = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("not {what}: {}", said.join("\n")));
            let cells: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if cells.first().is_some_and(|name| name.starts_with("server-") || name.starts_with("client-")) && cells.len() > 3 {
                self.rows.insert(cells[0].clone(), cells);
            }
            said.push(line.clone());
            if wanted(&line, &self.rows) {
                return;
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Rows = BTreeMap<String, Vec<String>>;

/// The server that leads by its own word.
fn leader(rows: &Rows) -> Option<String> {
    rows.iter().find(|(_, cells)| cells[3] == "leader").map(|(name, _)| name.clone())
}

/// A number that an agent shows: members alive, and instances of `web` and `db`.
fn shows(rows: &Rows, name: &str, cell: usize) -> Option<String> {
    rows.get(name).and_then(|cells| cells.get(cell)).cloned()
}

#[test]
fn a_cluster_outlives_its_leader_a_client_and_all_its_servers() {
    let mut cluster = Cluster::start("127.0.83");
    cluster.until("six that find each other's services", |line, _| line.contains("each of the six agents finds"));
    cluster.until("a leader", |_, rows| leader(rows).is_some());

    let first = leader(&cluster.rows).unwrap();
    cluster.tell("kill leader");
    cluster.until("another leader", |_, rows| leader(rows).is_some_and(|now| now != first));
    cluster.tell(&format!("start {first}"));
    cluster.until("six again", |_, rows| shows(rows, "client-1", 5).as_deref() == Some("6"));

    cluster.tell("kill client-1");
    cluster.until("two instances of web", |_, rows| shows(rows, "client-2", 6).as_deref() == Some("2"));

    cluster.tell("kill servers");
    cluster.until("nobody who leads", |_, rows| shows(rows, "client-2", 4).as_deref() == Some("none"));
    cluster.tell("kill client-3");
    cluster.until("a dead client", |_, rows| shows(rows, "client-3", 3).as_deref() == Some("dead"));
    cluster.tell("start client-3");
    cluster.until("answers from what it kept", |_, rows| shows(rows, "client-3", 6).as_deref() == Some("2"));

    cluster.tell("start all");
    let whole =
        |name: &str, rows: &Rows| shows(rows, name, 6).as_deref() == Some("3") && shows(rows, name, 7).as_deref() == Some("3");
    cluster.until("all of it again", |_, rows| {
        ["client-1", "client-2", "client-3", "server-1"].iter().all(|name| whole(name, rows))
    });
    cluster.tell("quit");
    cluster.until("its end", |line, _| line.contains("Ending all agents"));
    assert!(cluster.child.wait().unwrap().success());
}
