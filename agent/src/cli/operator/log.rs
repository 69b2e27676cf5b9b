//! `operator raft log`: what is in the log of a server that is stopped, entry by entry.

use std::error::Error as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::super::error::Error;
use super::super::print::{Format, Out};
use crate::raft::{Carried, Logged, read_log};

#[derive(Args, Debug)]
pub(crate) struct Log {
    /// The data directory of an agent that does not run.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: PathBuf,

    /// For people, or (json) one object a line for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

impl Log {
    pub(crate) fn run(self, out: &mut Out) -> Result<(), Error> {
        let mut printed = Ok(());
        let read = read_log(&self.data_dir.join("raft"), |entry| {
            printed = match self.format {
                Format::Json => out.line(object(&entry)),
                Format::Pretty => out.line(line(&entry)),
            };
            if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        printed?;
        read.map_err(|error| {
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            Error::Usage(format!("{error}{source}"))
        })
    }
}

fn line(entry: &Logged) -> String {
    let Logged { index, term, what } = entry;
    match what {
        Carried::Command(proposal) => {
            let cause = &proposal.cause;
            format!(
                "{index} term {term} {} run {}/{} #{} request {} by {} ({:?}) {}",
                proposal.command.name(),
                proposal.run.agent,
                proposal.run.epoch,
                proposal.number,
                proposal.request,
                cause.actor,
                cause.kind,
                cause.reason
            )
            .trim_end()
            .to_owned()
        }
        Carried::Unknown(error) => format!("{index} term {term} unknown command: {error}"),
        Carried::Blank => format!("{index} term {term} a leader begins"),
        Carried::Membership => format!("{index} term {term} the servers that vote"),
    }
}

fn object(entry: &Logged) -> Value {
    let Logged { index, term, what } = entry;
    match what {
        Carried::Command(proposal) => json!({
            "Index": index,
            "Term": term,
            "Command": proposal.command.name(),
            "Request": proposal.request,
            "Run": format!("{}/{}", proposal.run.agent, proposal.run.epoch),
            "Number": proposal.number,
            "TimeMs": proposal.time_ms,
            "Cause": {
                "Actor": proposal.cause.actor,
                "Kind": proposal.cause.kind,
                "AtMs": proposal.cause.at_ms,
                "Reason": proposal.cause.reason,
            },
        }),
        Carried::Unknown(error) => json!({ "Index": index, "Term": term, "Unknown": error.to_string() }),
        Carried::Blank => json!({ "Index": index, "Term": term, "Command": "leader" }),
        Carried::Membership => json!({ "Index": index, "Term": term, "Command": "membership" }),
    }
}
