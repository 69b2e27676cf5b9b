//! What is to be written, some at a time, each only if nobody has changed it since it was looked at.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::super::client::Client;
use super::super::error::Error;
use super::super::print;
use super::super::target::Target;
use super::super::value::decode;
use super::{Fate, Report};

/// Operations of a transaction: what every Consul takes (newer ones take 128).
const OPS_MAX: usize = 64;
/// Bytes of a transaction, beside its largest value: half of the default `txn_max_req_len`.
const BYTES_MAX: usize = 256 * 1024;

/// One thing to write.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) fate: Fate,
    /// As an operation of a transaction.
    pub(super) op: Value,
    /// How large that is, about.
    pub(super) bytes: usize,
}

/// Writes on their way.
#[derive(Debug)]
pub(super) struct Batch {
    dry_run: bool,
    writes: Vec<Write>,
    bytes: usize,
    done: usize,
}

impl Batch {
    pub(super) fn new(dry_run: bool) -> Self {
        Self { dry_run, writes: Vec::new(), bytes: 0, done: 0 }
    }

    /// Takes one more, and writes what has gathered once it is enough.
    pub(super) async fn push(&mut self, write: Write, to: &mut Client, report: &mut Report) -> Result<(), Error> {
        report.note(write.kind, &write.name, write.fate, "");
        if self.dry_run {
            return Ok(());
        }
        if self.writes.len() >= OPS_MAX || self.bytes + write.bytes > BYTES_MAX {
            self.flush(to, report).await?;
        }
        if write.bytes > BYTES_MAX {
            return alone(write, to, report).await;
        }
        self.bytes += write.bytes;
        self.writes.push(write);
        Ok(())
    }

    /// Writes what has gathered. What somebody changed meanwhile is told, and the rest is written without it.
    pub(super) async fn flush(&mut self, to: &mut Client, report: &mut Report) -> Result<(), Error> {
        self.bytes = 0;
        while !self.writes.is_empty() {
            let ops: Vec<&Value> = self.writes.iter().map(|write| &write.op).collect();
            let body = serde_json::to_vec(&ops).map_err(|source| Error::Output { source: source.into() })?;
            let answer = to.put(&Target::at("/v1/txn"), Bytes::from(body)).await;
            let answer = answer.inspect_err(|_| self.give_up(report))?;
            if answer.status == StatusCode::CONFLICT {
                let failed = answer.refused()?;
                let before = self.writes.len();
                for (at, what) in failed.iter().rev() {
                    if *at < self.writes.len() {
                        let write = self.writes.remove(*at);
                        report.failed(write.kind, &write.name, write.fate, format!("changed meanwhile, or refused: {what}"));
                    }
                }
                if self.writes.len() < before {
                    continue;
                }
                self.give_up(report);
                return Err(Error::NotDone("a transaction was refused, and no operation of it was named".to_owned()));
            }
            if let Err(error) = answer.done() {
                self.give_up(report);
                return Err(error);
            }
            self.done += self.writes.len();
            self.writes.clear();
            if print::stderr_is_terminal() {
                print::progress(format_args!("{} written", self.done));
            }
        }
        Ok(())
    }

    /// What had gathered was not written, or nobody knows.
    fn give_up(&mut self, report: &mut Report) {
        for write in self.writes.drain(..) {
            report.failed(write.kind, &write.name, write.fate, "not written, or not known to be".to_owned());
        }
    }
}

/// A value too large for a transaction.
async fn alone(write: Write, to: &mut Client, report: &mut Report) -> Result<(), Error> {
    let told = &write.op["KV"];
    let (index, flags) = (told["Index"].as_u64().unwrap_or(0), told["Flags"].as_u64().unwrap_or(0));
    let value = decode(&write.name, told["Value"].as_str().unwrap_or_default().as_bytes())?;
    let target = Target::at("/v1/kv/").name(&write.name).param("cas", &index.to_string()).param("flags", &flags.to_string());
    let written = to.put(&target, Bytes::from(value)).await?.json::<Value>();
    match written {
        Ok(Value::Bool(true)) => {}
        Ok(_) => report.failed(write.kind, &write.name, write.fate, "changed meanwhile".to_owned()),
        Err(error) => report.failed(write.kind, &write.name, write.fate, error.to_string()),
    }
    Ok(())
}

/// An operation on a node, a service or a check: only if it is still at this index, which is 0 where there is none yet.
pub(super) fn cas(what: &str, node: Option<&str>, mut row: serde_json::Map<String, Value>, index: u64) -> Value {
    row.insert("ModifyIndex".to_owned(), index.into());
    let mut op = json!({ "Verb": "cas", what: row });
    if let Some(node) = node {
        op["Node"] = node.into();
    }
    json!({ what: op })
}
