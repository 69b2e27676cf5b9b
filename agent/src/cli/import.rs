//! `import`: keys, external services and prepared queries out of a running Consul, into the agent that is told.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Map, Value};

use super::client::Client;
use super::error::Error;
use super::print::Out;
use super::remote::{Address, AgentArgs, Remote};
use super::table::Table;
use super::target::Target;
use batch::Batch;

mod batch;
mod catalog;
mod keys;
mod queries;

/// What is never imported, and what becomes of it.
const LEFT_OUT: &str = "Never imported: sessions and their locks (programs make their own anew), ACL, the mesh, and what agents\n\
    register by themselves.";

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The Consul agent to read from: HOST:PORT, http://HOST:PORT or unix:///PATH.
    #[arg(long, value_name = "ADDRESS")]
    from: String,

    /// The ACL token to show to that one.
    #[arg(long, value_name = "TOKEN")]
    from_token: Option<String>,

    /// Import keys; without any of -kv, -catalog and -queries all three are.
    #[arg(long)]
    kv: bool,

    /// Import nodes without an agent, their services and checks.
    #[arg(long)]
    catalog: bool,

    /// Import prepared queries.
    #[arg(long)]
    queries: bool,

    /// Only keys that begin with this.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,

    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,

    /// Replace what is here and differs; without it that is told and left.
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    agent: AgentArgs,
}

/// What is done with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// It is not here.
    Create,
    /// It is here and differs, and that is to be replaced.
    Change,
    /// It is here and differs.
    Differs,
    /// It is here already.
    Equal,
    /// It is not to be imported.
    Left,
    /// It was to be written, and was not.
    Failed,
}

/// What was found, and what became of it.
#[derive(Debug, Default)]
struct Report {
    /// What is told line by line: kind, name, fate, why.
    rows: Vec<(&'static str, String, Fate, String)>,
    counts: BTreeMap<(&'static str, Fate), usize>,
}

impl Report {
    fn note(&mut self, kind: &'static str, name: &str, fate: Fate, why: impl Into<String>) {
        *self.counts.entry((kind, fate)).or_default() += 1;
        if fate != Fate::Equal {
            self.rows.push((kind, name.to_owned(), fate, why.into()));
        }
    }

    /// It was planned, and not done.
    fn failed(&mut self, kind: &'static str, name: &str, planned: Fate, why: String) {
        if let Some(count) = self.counts.get_mut(&(kind, planned)) {
            *count -= 1;
        }
        self.rows.retain(|row| !(row.0 == kind && row.1 == name));
        self.note(kind, name, Fate::Failed, why);
    }

    fn count(&self, fate: Fate) -> usize {
        self.counts.iter().filter(|((_, of), _)| *of == fate).map(|(_, count)| count).sum()
    }

    fn print(&self, dry_run: bool, out: &mut Out) -> Result<(), Error> {
        let word = |fate| match (fate, dry_run) {
            (Fate::Create, true) => "create",
            (Fate::Create, false) => "created",
            (Fate::Change, true) => "change",
            (Fate::Change, false) => "changed",
            (Fate::Differs, _) => "differs",
            (Fate::Equal, _) => "equal",
            (Fate::Left, _) => "left out",
            (Fate::Failed, _) => "failed",
        };
        // What was done is counted; what was not has its line.
        let told: Vec<_> =
            self.rows.iter().filter(|(_, _, fate, _)| dry_run || !matches!(fate, Fate::Create | Fate::Change)).collect();
        if !told.is_empty() {
            let mut table = Table::headed(&["Kind", "Name", if dry_run { "Would" } else { "Was" }, "Because"]);
            for (kind, name, fate, why) in told {
                table.row([(*kind).to_owned(), name.clone(), word(*fate).to_owned(), why.clone()]);
            }
            out.line(table)?;
            out.line("")?;
        }
        let mut sums = Table::headed(&["Kind", word(Fate::Create), word(Fate::Change), "differs", "equal", "left out", "failed"]);
        let mut kinds: Vec<&str> = self.counts.keys().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        for kind in kinds {
            let fates = [Fate::Create, Fate::Change, Fate::Differs, Fate::Equal, Fate::Left, Fate::Failed];
            let counts = fates.map(|fate| self.counts.get(&(kind, fate)).copied().unwrap_or(0).to_string());
            sums.row(std::iter::once(kind.to_owned()).chain(counts));
        }
        out.line(sums)?;
        if self.count(Fate::Differs) > 0 {
            out.line("What differs was left as it is here: -force replaces it by what Consul has.")?;
        }
        out.line(LEFT_OUT)
    }
}

impl Import {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let all = !(self.kv || self.catalog || self.queries);
        let remote = Remote { address: Address::parse(&self.from)?, token: self.from_token.clone() };
        let (mut from, mut to) = (Client::of(remote), Client::new(&self.agent)?);
        let mut report = Report::default();
        let done = self.all(all, &mut from, &mut to, &mut report).await;
        // What was done before a fault is done: it is told first.
        if done.is_ok() || !report.counts.is_empty() {
            report.print(self.dry_run, out)?;
        }
        done?;
        match report.count(Fate::Failed) {
            0 => Ok(()),
            failed => Err(Error::NotDone(format!("{failed} of what was to be imported was not; the lines above say why"))),
        }
    }

    async fn all(&self, all: bool, from: &mut Client, to: &mut Client, report: &mut Report) -> Result<(), Error> {
        let mut batch = Batch::new(self.dry_run);
        if all || self.catalog {
            catalog::import(from, to, self.force, &mut batch, report).await?;
        }
        if all || self.kv {
            keys::import(from, to, self, &mut batch, report).await?;
        }
        batch.flush(to, report).await?;
        if all || self.queries {
            queries::import(from, to, self, report).await?;
        }
        Ok(())
    }
}

/// An answer as JSON; what is not there is `null`.
async fn ask(client: &mut Client, target: Target) -> Result<Value, Error> {
    let answer = client.get(&target).await?;
    if answer.status == http::StatusCode::NOT_FOUND { Ok(Value::Null) } else { answer.json() }
}

/// A list, or what is left of one that is `null`.
async fn list(client: &mut Client, target: Target) -> Result<Vec<Value>, Error> {
    Ok(match ask(client, target).await? {
        Value::Array(all) => all,
        _ => Vec::new(),
    })
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

/// These fields of a row, without those that say nothing: so that rows of two programs can be compared, and sent.
fn kept(row: &Value, fields: &[&str]) -> Map<String, Value> {
    let says = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    };
    fields.iter().filter(|field| says(&row[**field])).map(|field| ((*field).to_owned(), row[*field].clone())).collect()
}

/// What becomes of a row, given the one that is here.
fn fate(wanted: &Map<String, Value>, here: Option<Map<String, Value>>, force: bool) -> Fate {
    match here {
        None => Fate::Create,
        Some(here) if here == *wanted => Fate::Equal,
        Some(_) if force => Fate::Change,
        Some(_) => Fate::Differs,
    }
}
