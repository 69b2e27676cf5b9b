//! `operator autopilot get-config|set-config|state`.

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::super::client::Client;
use super::super::error::Error;
use super::super::print::{Format, Out};
use super::super::remote::QueryArgs;
use super::super::table::{Table, tame};
use super::super::target::Target;

const CONFIGURATION: &str = "/v1/operator/autopilot/configuration";

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Print what decides about servers
    GetConfig(Get),
    /// Change what decides about servers
    SetConfig(Set),
    /// Print how healthy the servers are
    State(State),
}

#[derive(Args, Debug)]
pub(crate) struct Get {
    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Set {
    /// Whether a failed server loses its vote when a new one has come.
    #[arg(long, value_name = "BOOL")]
    cleanup_dead_servers: Option<bool>,

    /// Silence after which a server is not healthy.
    #[arg(long, value_name = "DURATION")]
    last_contact_threshold: Option<String>,

    /// Entries that a healthy server may be behind.
    #[arg(long, value_name = "NUMBER")]
    max_trailing_logs: Option<u64>,

    /// Voters that clean-up leaves at least.
    #[arg(long, value_name = "NUMBER")]
    min_quorum: Option<u32>,

    /// How long a new server must have been healthy before it votes.
    #[arg(long, value_name = "DURATION")]
    server_stabilization_time: Option<String>,

    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Args, Debug)]
pub(crate) struct State {
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,

    #[command(flatten)]
    query: QueryArgs,
}

impl Command {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        match self {
            Command::GetConfig(get) => get.run(out).await,
            Command::SetConfig(set) => set.run(out).await,
            Command::State(state) => state.run(out).await,
        }
    }
}

async fn ask(query: &QueryArgs, path: &'static str) -> Result<Map<String, Value>, Error> {
    Client::new(&query.agent)?.get(&query.reading(Target::at(path))).await?.json()
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => tame(text),
        Some(other) => other.to_string(),
    }
}

impl Get {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let settings = ask(&self.query, CONFIGURATION).await?;
        for name in ["CleanupDeadServers", "LastContactThreshold", "MaxTrailingLogs", "MinQuorum", "ServerStabilizationTime"] {
            out.line(format_args!("{name} = {}", text(settings.get(name))))?;
        }
        out.line(format_args!("RedundancyZoneTag = {:?}", text(settings.get("RedundancyZoneTag"))))?;
        out.line(format_args!("DisableUpgradeMigration = {}", text(settings.get("DisableUpgradeMigration"))))?;
        out.line(format_args!("UpgradeVersionTag = {:?}", text(settings.get("UpgradeVersionTag"))))
    }
}

impl Set {
    /// What is not named stays: read, changed, and written only if nobody else wrote meanwhile.
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let mut settings = ask(&self.query, CONFIGURATION).await?;
        let cas = text(settings.get("ModifyIndex"));
        let mut change = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                settings.insert(name.to_owned(), value);
            }
        };
        change("CleanupDeadServers", self.cleanup_dead_servers.map(Value::from));
        change("LastContactThreshold", self.last_contact_threshold.map(Value::from));
        change("MaxTrailingLogs", self.max_trailing_logs.map(Value::from));
        change("MinQuorum", self.min_quorum.map(Value::from));
        change("ServerStabilizationTime", self.server_stabilization_time.map(Value::from));
        let target = self.query.writing(Target::at(CONFIGURATION)).param("cas", &cas);
        let body = Bytes::from(Value::Object(settings).to_string());
        let done: bool = Client::new(&self.query.agent)?.put(&target, body).await?.json()?;
        match done {
            true => out.line("Configuration updated!"),
            false => Err(Error::NotDone("Configuration could not be atomically updated, please try again".to_owned())),
        }
    }
}

impl State {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let state = ask(&self.query, "/v1/operator/autopilot/state").await?;
        if self.format == Format::Json {
            return out.json(&state);
        }
        for (name, shown) in [
            ("Healthy", "Healthy:                      "),
            ("FailureTolerance", "Failure Tolerance:            "),
            ("OptimisticFailureTolerance", "Optimistic Failure Tolerance: "),
            ("Leader", "Leader:                       "),
        ] {
            out.line(format_args!("{shown}{}", text(state.get(name))))?;
        }
        let mut table =
            Table::headed(&["Node", "ID", "Address", "Status", "Healthy", "Last Contact", "Last Index", "Stable Since"]);
        for server in state.get("Servers").and_then(Value::as_object).into_iter().flat_map(Map::values) {
            let columns = ["Name", "ID", "Address", "Status", "Healthy", "LastContact", "LastIndex", "StableSince"];
            table.row(columns.map(|name| text(server.get(name))));
        }
        out.line("")?;
        out.line(table)
    }
}
