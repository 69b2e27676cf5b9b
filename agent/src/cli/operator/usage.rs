//! `operator usage instances`: how much is in the catalog.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::super::client::Client;
use super::super::error::Error;
use super::super::print::Out;
use super::super::remote::QueryArgs;
use super::super::table::Table;
use super::super::target::Target;

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Count nodes, services and their instances
    Instances(Instances),
}

#[derive(Args, Debug)]
pub(crate) struct Instances {
    #[command(flatten)]
    query: QueryArgs,
}

impl Command {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let Command::Instances(Instances { query }) = self;
        let target = query.reading(Target::at("/v1/operator/usage"));
        let usage: Map<String, Value> = Client::new(&query.agent)?.get(&target).await?.json()?;
        let mut table = Table::headed(&["Datacenter", "Nodes", "Services", "Service instances"]);
        for (name, counts) in usage.get("Usage").and_then(Value::as_object).into_iter().flatten() {
            let count = |key: &str| counts.get(key).and_then(Value::as_u64).unwrap_or(0).to_string();
            table.row([name.clone(), count("Nodes"), count("Services"), count("ServiceInstances")]);
        }
        out.line(table)
    }
}
