//! `lock`: runs a program while this host, or one of so many, holds a lock in the key-value store.
#![allow(clippy::disallowed_methods)] // waits for a lock have an end

use std::ffi::OsString;
use std::future::pending;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::done::Done;
use super::error::Error;
use super::print::{Out, note};
use super::remote::QueryArgs;
use super::value::key;
use crate::config::duration;

mod hold;
use hold::{Hold, Kind, Session};

/// How long the program has between SIGTERM and SIGKILL (Consul's).
const GRACE: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub(crate) struct Lock {
    /// How many may hold it at once; more than one is a semaphore.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
    n: u32,

    /// A name for the session, for people.
    #[arg(long, value_name = "TEXT", default_value = "")]
    name: String,

    /// End with 2 if the program failed.
    #[arg(long)]
    child_exit_code: bool,

    /// How often to ask again where the agent cannot say whether the lock is held, 2 seconds apart.
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    monitor_retry: u32,

    /// Give the program this one's standard input.
    #[arg(long)]
    pass_stdin: bool,

    /// Run the program by /bin/sh.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    shell: bool,

    /// Give up after this time, such as 30s; 0 waits for ever.
    #[arg(long, default_value = "0", value_name = "DURATION")]
    timeout: String,

    /// Say what is done.
    #[arg(long)]
    verbose: bool,

    #[command(flatten)]
    query: QueryArgs,

    /// Where the lock is in the key-value store.
    #[arg(value_name = "PREFIX")]
    prefix: String,

    /// The program and its arguments.
    #[arg(value_name = "PROGRAM", required = true)]
    child: Vec<OsString>,
}

/// How holding it came to an end.
enum End {
    Child(std::io::Result<ExitStatus>),
    Lost(Error),
    Signal,
}

impl Lock {
    pub(crate) async fn run(self, _: &mut Out) -> Result<Done, Error> {
        let patience = match duration::parse(&self.timeout) {
            Ok(patience) => Some(patience).filter(|patience| !patience.is_zero()),
            Err(error) => return Err(Error::Usage(format!("-timeout: {error}"))),
        };
        let prefix = key(self.prefix.trim_end_matches('/'))?;
        let words: Vec<_> = self.child.iter().map(|word| word.to_string_lossy()).collect();
        let program = words.join(" ");
        let name = match self.name.as_str() {
            "" => format!("Consul lock for '{program}' at '{prefix}'"),
            name => name.to_owned(),
        };
        let kind = if self.n == 1 { Kind::Lock } else { Kind::Semaphore(self.n) };
        let mut ended = signals()?;
        self.say("Setting up the session");
        let session = Session::create(&self.query, &name).await?;
        let mut hold = Hold::new(&self.query, kind, prefix, session.id())?;
        self.say("Attempting lock acquisition");
        let mut renewing = std::pin::pin!(session.renewing());
        let acquired = tokio::select! {
            acquired = hold.acquire(&program) => acquired,
            lost = &mut renewing => Err(Error::LockLost(lost)),
            () = sleep(patience.unwrap_or_default()), if patience.is_some() => Err(Error::NoLock(self.timeout.clone())),
            () = ended.next() => Err(Error::NotDone("Shutdown triggered during lock acquisition".to_owned())),
        };
        let done = match acquired {
            Ok(()) => self.hold(&mut hold, &mut renewing, &mut ended).await,
            Err(error) => Err(error),
        };
        // Whoever waits need not wait for the session to run out; if that fails, they must.
        if let Err(error) = hold.release().await {
            note(format!("Lock release failed: {error}"));
        }
        session.destroy().await;
        if hold.clean_up().await.is_ok() {
            self.say("Cleanup succeeded");
        }
        done
    }

    /// Runs the program for as long as the lock is held.
    async fn hold(
        &self,
        hold: &mut Hold<'_>,
        renewing: &mut (impl Future<Output = String> + Unpin),
        ended: &mut Signals,
    ) -> Result<Done, Error> {
        self.say("Starting handler");
        let mut child = self.spawn()?;
        let end = tokio::select! {
            status = child.wait() => End::Child(status),
            error = hold.watch(self.monitor_retry) => End::Lost(error),
            lost = renewing => End::Lost(Error::LockLost(lost)),
            () = ended.next() => End::Signal,
        };
        match end {
            End::Child(Ok(status)) => self.judge(status),
            End::Child(Err(source)) => Err(Error::Run { program: self.program(), source }),
            End::Lost(error) => {
                note("Lock lost, killing child");
                self.kill(&mut child).await;
                Err(error)
            }
            End::Signal => {
                note("Shutdown triggered, killing child");
                self.kill(&mut child).await;
                Ok(Done::Well)
            }
        }
    }

    fn judge(&self, status: ExitStatus) -> Result<Done, Error> {
        if status.success() {
            return Ok(Done::Well);
        }
        note(format!("Error running handler: {status}"));
        Ok(if self.child_exit_code { Done::ChildFailed } else { Done::Well })
    }

    fn program(&self) -> String {
        self.child.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn spawn(&self) -> Result<Child, Error> {
        let mut command = if self.shell {
            let mut line = OsString::new();
            for word in &self.child {
                if !line.is_empty() {
                    line.push(" ");
                }
                line.push(word);
            }
            let mut command = std::process::Command::new("/bin/sh");
            command.arg("-c").arg(line);
            command
        } else {
            let mut command = std::process::Command::new(&self.child[0]);
            command.args(&self.child[1..]);
            command
        };
        command.env("CONSUL_LOCK_HELD", "true");
        command.stdin(if self.pass_stdin { Stdio::inherit() } else { Stdio::null() });
        if self.has_group() {
            command.process_group(0);
        }
        let child = Command::from(command).kill_on_drop(true).spawn();
        child.map_err(|source| Error::Run { program: self.program(), source })
    }

    /// What the program starts is ended with it; one that reads a terminal must stay where the terminal's input goes.
    fn has_group(&self) -> bool {
        !(self.pass_stdin && std::io::stdin().is_terminal())
    }

    async fn kill(&self, child: &mut Child) {
        self.say("Terminating child");
        self.send(child, Signal::TERM);
        if timeout(GRACE, child.wait()).await.is_err() {
            self.say("Child did not end: killing it");
            self.send(child, Signal::KILL);
            let _ = child.wait().await; // it is gone
        }
    }

    fn send(&self, child: &Child, what: Signal) {
        let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return };
        // It may be gone already.
        let _ = if self.has_group() { kill_process_group(pid, what) } else { kill_process(pid, what) };
    }

    fn say(&self, what: &str) {
        if self.verbose {
            note(what);
        }
    }
}

/// What ends this program.
struct Signals([tokio::signal::unix::Signal; 3]);

fn signals() -> Result<Signals, Error> {
    let of = |kind| signal(kind).map_err(|error| Error::Usage(format!("This host gives the program no signals: {error}")));
    Ok(Signals([of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?]))
}

impl Signals {
    async fn next(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        let came = tokio::select! {
            came = interrupt.recv() => came,
            came = terminate.recv() => came,
            came = hangup.recv() => came,
        };
        if came.is_none() {
            pending::<()>().await;
        }
    }
}
