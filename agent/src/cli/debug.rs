//! `debug`: what an agent says of itself over some time, as one archive to hand on.
#![allow(clippy::disallowed_methods)] // it looks for so long, and the archive is named after the time

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::client::Client;
use super::error::Error;
use super::print::{Out, note};
use super::remote::AgentArgs;
use super::target::Target;
use crate::config::duration;
use crate::desk::archive::tar::{self, Header};

/// Kept of the log, and of the metrics: an hour of a busy server at this level. The rest is left out, and that is said.
const CAPTURE_BYTES_MAX: usize = 64 << 20;
/// Shortest time to look, and shortest pause: below, nothing has been measured anew.
const LOOK_MIN: Duration = Duration::from_secs(1);
/// What can be captured, under Consul's names, and which of them are asked for once: the name of the file, and the path.
const TARGETS: [&str; 6] = ["agent", "host", "members", "metrics", "logs", "raft"];
const ONCE: [(&str, &str, &str); 4] = [
    ("agent", "agent.json", "/v1/agent/self"),
    ("host", "host.json", "/v1/agent/host"),
    ("members", "members.json", "/v1/agent/members"),
    ("raft", "raft.json", "/v1/operator/raft/configuration"),
];

#[derive(Args, Debug)]
pub(crate) struct Debug {
    /// How long to look.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    duration: String,

    /// Pause between two looks at the metrics.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    interval: String,

    /// What to capture: agent, host, members, metrics, logs, raft; may be repeated. All unless given.
    #[arg(long, value_name = "WHAT")]
    capture: Vec<String>,

    /// The archive's name without its ending.
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,

    /// Whether it is one archive (the default), or a directory.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    archive: bool,

    #[command(flatten)]
    agent: AgentArgs,
}

/// Files of the archive.
type Files = Vec<(String, Vec<u8>)>;

impl Debug {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let (lasts, pause) = (time("duration", &self.duration)?, time("interval", &self.interval)?);
        let capture = self.capture()?;
        let captures = |what: &str| capture.iter().any(|captured| captured == what);
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = self.output.clone().unwrap_or_else(|| PathBuf::from(format!("consul-debug-{}", begun.as_secs())));
        let target = if self.archive { with_ending(&name, ".tar.gz") } else { name.clone() };
        if target.exists() {
            return Err(Error::Usage(format!("{} exists already: name another -output", target.display())));
        }
        out.line("Starting debugger and capturing static information...")?;
        let mut files: Files = Vec::new();
        let mut client = Client::new(&self.agent)?;
        let about = client.get(&Target::at("/v1/agent/self")).await?.done()?; // Whether there is an agent at all.
        for (what, file, path) in ONCE.into_iter().filter(|(what, ..)| captures(what)) {
            match client.get(&Target::at(path)).await.and_then(super::client::Answer::done) {
                Ok(body) => files.push((file.to_owned(), body.to_vec())),
                Err(error) => note(format_args!("{what} is left out: {}", crate::error::chain(&error))),
            }
        }
        let version: serde_json::Value = serde_json::from_slice(&about).unwrap_or_default();
        let index = json!({
            "Targets": capture,
            "Duration": self.duration,
            "Interval": self.interval,
            "AgentVersion": version["Config"]["Version"],
            "StartTime": begun.as_secs(),
        });
        files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        out.line(format_args!("Beginning capture interval {} ({})...", self.duration, self.interval))?;
        out.flush()?;
        let (mut log, mut measures) = (Capture::default(), Capture::default());
        let looking = async {
            tokio::join!(
                async {
                    if captures("logs") {
                        listen(&self.agent, &mut log).await;
                    }
                },
                async {
                    if captures("metrics") {
                        measure(&self.agent, pause, &mut measures).await;
                    }
                }
            )
        };
        tokio::select! {
            biased;
            () = async { looking.await; std::future::pending().await } => {}
            () = sleep(lasts) => {}
            _ = tokio::signal::ctrl_c() => note("Interrupted: what was captured until now is kept"),
        }
        for (what, file, captured) in [("logs", "consul.log", log), ("metrics", "metrics.json", measures)] {
            if captures(what) {
                if let Some(why) = captured.cut {
                    note(format_args!("{what} are incomplete: {why}"));
                }
                files.push((file.to_owned(), captured.bytes));
            }
        }
        let written = if self.archive { archive(&target, &name, &files) } else { directory(&target, &files) };
        written.map_err(|error| Error::Usage(format!("{} cannot be written: {error}", target.display())))?;
        out.line(format_args!("Saved debug archive: {}", target.display()))
    }

    fn capture(&self) -> Result<Vec<String>, Error> {
        if self.capture.is_empty() {
            return Ok(TARGETS.map(str::to_owned).to_vec());
        }
        let mut capture = Vec::new();
        for what in self.capture.iter().flat_map(|what| what.split(',')) {
            match what {
                "cluster" | "cluster/members" => capture.push("members".to_owned()),
                "pprof" => note("pprof is left out: this program has no profiles of Go's"),
                what if TARGETS.contains(&what) => capture.push(what.to_owned()),
                other => {
                    let known = TARGETS.join(", ");
                    return Err(Error::Usage(format!("{other:?} cannot be captured: one of {known} can")));
                }
            }
        }
        Ok(capture)
    }
}

fn time(flag: &str, text: &str) -> Result<Duration, Error> {
    match duration::parse(text) {
        Ok(time) if time >= LOOK_MIN => Ok(time),
        Ok(_) => Err(Error::Usage(format!("-{flag} must be at least 1s"))),
        Err(_) => Err(Error::Usage(format!("-{flag} must be a duration such as 30s or 2m, not {text:?}"))),
    }
}

/// What is gathered over time.
#[derive(Default)]
struct Capture {
    bytes: Vec<u8>,
    /// Why there is no more.
    cut: Option<String>,
}

impl Capture {
    /// Takes a piece, while there is room.
    fn push(&mut self, piece: &[u8]) -> Result<(), Error> {
        if self.bytes.len() + piece.len() > CAPTURE_BYTES_MAX {
            return Err(Error::Usage(format!("more than {CAPTURE_BYTES_MAX} bytes are not kept")));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    fn end(&mut self, ended: Result<(), Error>) {
        if let Err(error) = ended {
            self.cut = Some(crate::error::chain(&error).to_string());
        }
    }
}

async fn listen(agent: &AgentArgs, log: &mut Capture) {
    let target = Target::at("/v1/agent/monitor").param("loglevel", "DEBUG");
    let ended = async { Client::new(agent)?.pieces(&target, |piece| log.push(piece)).await };
    let ended = ended.await;
    log.end(ended);
}

/// A line of JSON for each look.
async fn measure(agent: &AgentArgs, pause: Duration, measures: &mut Capture) {
    let looks = async {
        let mut client = Client::new(agent)?;
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let body = client.get(&Target::at("/v1/agent/metrics")).await?.done()?;
            measures.push(&body)?;
            measures.push(b"\n")?;
        }
    };
    let ended: Result<(), Error> = looks.await;
    measures.end(ended);
}

fn with_ending(name: &Path, ending: &str) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// It tells of the inside of a cluster: nobody else on this host is to read it.
const MODE: u32 = 0o600;

fn directory(path: &Path, files: &Files) -> std::io::Result<()> {
    fs::create_dir_all(path)?;
    for (name, bytes) in files {
        OpenOptions::new().create_new(true).write(true).mode(MODE).open(path.join(name))?.write_all(bytes)?;
    }
    Ok(())
}

fn archive(path: &Path, name: &Path, files: &Files) -> std::io::Result<()> {
    let folder = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned();
    let file = OpenOptions::new().create_new(true).write(true).mode(MODE).open(path)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut packed = GzEncoder::new(file, Compression::default());
    for (name, bytes) in files {
        let head = Header { name: format!("{folder}/{name}"), bytes: bytes.len() as u64 };
        head.write(now, &mut packed)?;
        packed.write_all(bytes)?;
        tar::pad(head.bytes, &mut packed)?;
    }
    tar::end(&mut packed)?;
    packed.finish()?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_one_that_tar_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.tar.gz");
        let files = vec![("a.json".to_owned(), b"{}".to_vec()), ("b.log".to_owned(), vec![b'x'; 1024]), ("c".to_owned(), vec![])];
        archive(&path, Path::new("some/d"), &files).unwrap();
        let listed = std::process::Command::new("tar").arg("-xzvf").arg(&path).arg("-C").arg(dir.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "d/a.json\nd/b.log\nd/c\n", "{listed:?}");
        assert_eq!(std::fs::read(dir.path().join("d/b.log")).unwrap(), vec![b'x'; 1024]);
        assert!(archive(&path, Path::new("d"), &files).is_err(), "nothing is overwritten");
    }

    #[test]
    fn what_is_captured_is_bounded() {
        let mut capture = Capture::default();
        capture.push(&vec![0; CAPTURE_BYTES_MAX]).unwrap();
        let ended = capture.push(b"x");
        capture.end(ended);
        assert!(capture.bytes.len() == CAPTURE_BYTES_MAX && capture.cut.is_some());
    }
}
