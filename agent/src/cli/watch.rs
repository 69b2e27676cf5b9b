//! `watch`: prints what is asked for, or runs a program with it whenever it changes.

use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use http::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::client::Client;
use super::error::Error;
use super::print::{Out, note};
use super::remote::QueryArgs;
use super::target::Target;
use crate::config::{WatchParams, WatchPlan};

/// How long one question waits, in seconds: less than an answer may take in all.
const WAIT_S: u64 = 45;
/// Pauses between attempts at an agent that does not answer.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// What is watched: key, keyprefix, services, nodes, service, checks or event.
    #[arg(long = "type", value_name = "TYPE", default_value = "")]
    kind: String,

    /// The key, of -type=key.
    #[arg(long, value_name = "KEY", default_value = "")]
    key: String,

    /// The prefix, of -type=keyprefix.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,

    /// The event's name, of -type=event.
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,

    /// The service, of -type=service and checks.
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,

    /// Only instances with this tag, of -type=service; may be repeated.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// Only instances that pass all checks, of -type=service.
    #[arg(long, value_name = "BOOL", default_value = "", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    passingonly: String,

    /// The status, of -type=checks.
    #[arg(long, value_name = "STATUS", default_value = "")]
    state: String,

    /// Only what this expression selects.
    #[arg(long, value_name = "EXPRESSION", default_value = "")]
    filter: String,

    /// Whether the program is run by a shell (the default).
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    shell: String,

    /// The program that is given each answer on its standard input, and the index in CONSUL_INDEX.
    #[arg(value_name = "PROGRAM")]
    child: Vec<String>,

    #[command(flatten)]
    query: QueryArgs,
}

fn truth(flag: &str, text: &str) -> Result<bool, Error> {
    match text {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        other => Err(Error::Usage(format!("invalid boolean value {other:?} for -{flag}"))),
    }
}

impl Watch {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let params = WatchParams {
            kind: self.kind,
            key: self.key,
            prefix: self.prefix,
            service: self.service,
            tags: self.tag,
            passing_only: truth("passingonly", &self.passingonly)?,
            state: self.state,
            name: self.name,
            filter: self.filter,
            ..WatchParams::default()
        };
        let shell = truth("shell", &self.shell)?;
        let plan = WatchPlan::new(&params).map_err(Error::Usage)?;
        let mut client = Client::new(&self.query.agent)?;
        let (mut seen, mut told) = (0, false);
        loop {
            let target = self.query.reading(Target::written(plan.target(seen, WAIT_S)));
            let answer = client.get(&target).await;
            let answer = match answer {
                Err(error) if told && !self.child.is_empty() => {
                    note(format_args!("Error! {error}"));
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                answer => answer?,
            };
            let index = answer.index.unwrap_or(0).max(1);
            let found = answer.status != StatusCode::NOT_FOUND;
            let body = if found { answer.done()? } else { Default::default() };
            if told && index == seen {
                continue;
            }
            let json = plan.told(found, seen, &body).map_err(|source| Error::NotJson { address: "".to_owned(), source })?;
            // Lower than before: another history, of which all is to be seen.
            seen = if index < seen && !plan.is_of_events() { 0 } else { index };
            told = true;
            if self.child.is_empty() {
                let value: serde_json::Value =
                    serde_json::from_slice(&json).map_err(|source| Error::NotJson { address: "".to_owned(), source })?;
                return out.json(&value);
            }
            run(&self.child, shell, index, &json).await?;
        }
    }
}

async fn run(child: &[String], shell: bool, index: u64, json: &[u8]) -> Result<(), Error> {
    let mut command = if shell {
        let mut command = Command::new(std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned()));
        command.arg("-c").arg(child.join(" "));
        command
    } else {
        let mut command = Command::new(&child[0]);
        command.args(&child[1..]);
        command
    };
    let failed = |error: std::io::Error| Error::Usage(format!("Error executing handler: {error}"));
    command.env("CONSUL_INDEX", index.to_string()).stdin(Stdio::piped()).kill_on_drop(true);
    let mut running = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = running.stdin.take() {
        let _ = stdin.write_all(json).await; // Who does not read its input is not to be troubled with it.
        let _ = stdin.write_all(b"\n").await;
    }
    let ended = running.wait().await.map_err(failed)?;
    match ended.success() {
        true => Ok(()),
        false => {
            note(format_args!("Error! The handler ended with {ended}"));
            Ok(())
        }
    }
}
