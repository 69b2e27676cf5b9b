//! A check by a program: in a process group of its own, with one pipe for all it says, gone at the timeout.

use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use muster_catalog::{ExecProbe, Status};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::Deadline;
use crate::text::{self, Tail};
use crate::verdict::Outcome;

/// Read at once: what a Linux pipe holds.
const READ_BYTES: usize = 64 * 1024;
/// Output after which reading is slowed down to about 64 MB/s: no check has that much to say, and the reader's core is needed.
pub(super) const FLOOD_BYTES: u64 = 1024 * 1024;
pub(super) const FLOOD_PAUSE: Duration = Duration::from_millis(1);
/// How long a killed program is waited for. One that hangs in the kernel is reaped later, behind.
const REAP_WAIT: Duration = Duration::from_millis(500);

pub(super) async fn look(probe: &ExecProbe, timeout: Duration, output_bytes_max: usize) -> Outcome {
    match run(&probe.args, timeout, output_bytes_max).await {
        Ended::Exited(exit, output) => Outcome::new(exit_status(exit.code()), output),
        Ended::Broken(why) => Outcome { at_once: true, ..Outcome::critical(why) },
        Ended::Late(output) => Outcome { at_once: true, ..Outcome::critical(timed_out(timeout, &output)) },
    }
}

/// The verdict of a program's exit code; `None` if a signal ended it.
pub(super) fn exit_status(code: Option<i32>) -> Status {
    match code {
        Some(0) => Status::Passing,
        Some(1) => Status::Warning,
        _ => Status::Critical,
    }
}

/// What is said of a program that did not end in time, and had said this.
pub(super) fn timed_out(timeout: Duration, output: &str) -> String {
    let said = format!("Timed out ({}) running check", text::duration(timeout));
    if output.is_empty() { said } else { format!("{said}\n\n{output}") }
}

/// How a run ended, with what was said until then.
pub(super) enum Ended {
    Exited(ExitStatus, String),
    /// It could not be started or waited for.
    Broken(String),
    /// Its time was over: it and its group were killed.
    Late(String),
}

/// Runs a program to its end.
pub(super) async fn run(args: &[String], timeout: Duration, output_bytes_max: usize) -> Ended {
    let mut run = match Run::start(args, output_bytes_max) {
        Ok(run) => run,
        Err(why) => return Ended::Broken(why),
    };
    match Deadline::new(timeout).bound(run.finish()).await {
        Ok(Ok(exit)) => Ended::Exited(exit, run.tail.text()),
        Ok(Err(error)) => Ended::Broken(text::system(&error)),
        Err(_) => Ended::Late(run.kill().await),
    }
}

/// A program that runs. Dropped before its end, it is killed with its group.
struct Run {
    group: Group,
    pipe: Receiver,
    tail: Tail,
}

/// The process group of a child that is its leader.
///
/// Until the child is reaped its number cannot be given to another, and `Child::id` says whether it is: so no stranger is ever killed.
struct Group(Child);

impl Run {
    fn start(args: &[String], output_bytes_max: usize) -> Result<Self, String> {
        let (program, args) = args.split_first().ok_or("no program given")?;
        let refused = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound if !program.contains('/') => {
                format!("exec: {program:?}: executable file not found in $PATH")
            }
            _ => format!("fork/exec {program}: {}", text::system(&error)),
        };
        let (reader, writer) = std::io::pipe().map_err(refused)?;
        let pipe = Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(refused)?;
        // The command holds the pipe's other end: it must be gone before the pipe is read, or it never ends.
        let child = {
            let mut command = Command::new(program);
            command.args(args).stdin(Stdio::null()).process_group(0);
            command.stdout(writer.try_clone().map_err(refused)?).stderr(writer);
            command.spawn().map_err(refused)?
        };
        Ok(Self { group: Group(child), pipe, tail: Tail::new(output_bytes_max) })
    }

    /// Ends when nobody can say more and the program has exited, as Consul waits: output first, so that the group stays ours.
    async fn finish(&mut self) -> std::io::Result<ExitStatus> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match self.pipe.read(&mut buffer).await? {
                0 => break,
                read => self.tail.push(&buffer[..read]),
            }
            if self.tail.total() > FLOOD_BYTES {
                sleep(FLOOD_PAUSE).await;
            }
        }
        drop(buffer);
        self.group.0.wait().await
    }

    /// Kills the group and gives what was said until then. Who left the group and holds the pipe is not waited for.
    async fn kill(mut self) -> String {
        self.group.kill();
        let killed_at = Instant::now();
        let _ = timeout(REAP_WAIT, self.group.0.wait()).await;
        tracing::debug!(waited = ?killed_at.elapsed(), "a check was killed at its timeout");
        let mut buffer = vec![0; READ_BYTES];
        if let Ok(read) = self.pipe.try_read(&mut buffer) {
            self.tail.push(&buffer[..read]);
        }
        self.tail.text()
    }
}

impl Group {
    fn kill(&self) {
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader {
            // It fails only if nobody is left.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
