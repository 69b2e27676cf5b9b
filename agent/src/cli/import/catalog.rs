//! Nodes that no agent runs on, with their services and checks; what agents register comes by them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::client::Client;
use super::super::error::Error;
use super::super::target::Target;
use super::batch::{Batch, Write, cas};
use super::{Fate, Report, ask, fate, kept, list, text};

/// What an operation is counted as: most are shorter.
const OP_BYTES: usize = 1024;

const NODE: [&str; 5] = ["ID", "Node", "Address", "TaggedAddresses", "Meta"];
const SERVICE: [&str; 12] = [
    "ID",
    "Service",
    "Tags",
    "Address",
    "TaggedAddresses",
    "Meta",
    "Port",
    "Ports",
    "SocketPath",
    "Weights",
    "EnableTagOverride",
    "Locality",
];
const CHECK: [&str; 8] = ["Node", "CheckID", "Name", "Status", "Notes", "Output", "ServiceID", "Definition"];

/// The members of the cluster that an agent is in, in lower case.
async fn members(client: &mut Client) -> Result<BTreeSet<String>, Error> {
    let members = list(client, Target::at("/v1/agent/members")).await?;
    Ok(members.iter().map(|member| text(member, "Name").to_lowercase()).collect())
}

pub(super) async fn import(
    from: &mut Client,
    to: &mut Client,
    force: bool,
    batch: &mut Batch,
    report: &mut Report,
) -> Result<(), Error> {
    let (theirs, ours) = (members(from).await?, members(to).await?);
    for node in list(from, Target::at("/v1/catalog/nodes")).await? {
        let name = text(&node, "Node");
        let folded = name.to_lowercase();
        if theirs.contains(&folded) {
            report.note("node", name, Fate::Left, "its agent registers it, and what runs there, by itself");
            continue;
        }
        if ours.contains(&folded) {
            report.note("node", name, Fate::Left, "an agent here has that name");
            continue;
        }
        let checks = list(from, Target::at("/v1/health/node/").name(name)).await?;
        if checks.iter().any(|check| text(check, "CheckID") == "serfHealth") {
            report.note("node", name, Fate::Left, "an agent was there; it registers it by itself");
            continue;
        }
        one(&node, &checks, from, to, force, batch, report).await?;
    }
    Ok(())
}

/// The rows that were found here, by their names.
struct Here {
    node: Value,
    services: Map<String, Value>,
    checks: Vec<Value>,
}

async fn here(to: &mut Client, name: &str) -> Result<Here, Error> {
    let mut all = ask(to, Target::at("/v1/catalog/node/").name(name)).await?;
    let checks = list(to, Target::at("/v1/health/node/").name(name)).await?;
    let services = all.get_mut("Services").and_then(Value::as_object_mut).map(std::mem::take).unwrap_or_default();
    let node = all.get_mut("Node").map(Value::take).unwrap_or_default();
    Ok(Here { node, services, checks })
}

/// Compares a row with the one that is here, and has it written if it is to be.
struct Rows<'a> {
    node: &'a str,
    force: bool,
    batch: &'a mut Batch,
    to: &'a mut Client,
    report: &'a mut Report,
}

impl Rows<'_> {
    async fn row(
        &mut self,
        kind: &'static str,
        name: String,
        op: (&str, Option<&str>),
        wanted: Map<String, Value>,
        here: Option<(Map<String, Value>, u64)>,
    ) -> Result<(), Error> {
        let (here, index) = here.map_or((None, 0), |(row, index)| (Some(row), index));
        match fate(&wanted, here, self.force) {
            fate @ (Fate::Create | Fate::Change) => {
                let op = cas(op.0, op.1, wanted, index);
                let write = Write { kind, name, fate, op, bytes: OP_BYTES };
                self.batch.push(write, self.to, self.report).await
            }
            fate => {
                self.report.note(kind, &name, fate, if fate == Fate::Differs { "it is another one here" } else { "" });
                Ok(())
            }
        }
    }
}

fn seen(row: &Value, fields: &[&str]) -> (Map<String, Value>, u64) {
    (kept(row, fields), row["ModifyIndex"].as_u64().unwrap_or(0))
}

async fn one(
    node: &Value,
    checks: &[Value],
    from: &mut Client,
    to: &mut Client,
    force: bool,
    batch: &mut Batch,
    report: &mut Report,
) -> Result<(), Error> {
    let name = text(node, "Node");
    let there = ask(from, Target::at("/v1/catalog/node/").name(name)).await?;
    let here = here(to, name).await?;
    let mut rows = Rows { node: name, force, batch, to, report };
    let now = (!here.node.is_null()).then(|| seen(&here.node, &NODE));
    rows.row("node", name.to_owned(), ("Node", None), kept(node, &NODE), now).await?;

    // A check of what stays out would have nothing to judge.
    let mut out: BTreeSet<&str> = BTreeSet::new();
    for (id, service) in there["Services"].as_object().into_iter().flatten() {
        let full = format!("{name}: {id}");
        if !matches!(text(service, "Kind"), "" | "typical") || service["Connect"]["Native"] == true {
            rows.report.note("service", &full, Fate::Left, "it belongs to the mesh");
            out.insert(id);
            continue;
        }
        let now = here.services.get(id).map(|service| seen(service, &SERVICE));
        rows.row("service", full, ("Service", Some(rows.node)), kept(service, &SERVICE), now).await?;
    }
    for check in checks {
        let id = text(check, "CheckID");
        let full = format!("{name}: {id}");
        if out.contains(text(check, "ServiceID")) {
            rows.report.note("check", &full, Fate::Left, "its service belongs to the mesh");
            continue;
        }
        let now = here.checks.iter().find(|check| text(check, "CheckID") == id).map(|check| seen(check, &CHECK));
        rows.row("check", full, ("Check", None), kept(check, &CHECK), now).await?;
    }
    Ok(())
}
