//! `operator raft list-peers`, `remove-peer`, `transfer-leader`.

use bytes::Bytes;
use clap::Args;
use http::Method;
use serde::{Deserialize, Serialize};

use super::super::client::Client;
use super::super::error::Error;
use super::super::print::{Format, Out};
use super::super::remote::QueryArgs;
use super::super::table::Table;
use super::super::target::Target;

#[derive(Args, Debug)]
pub(crate) struct List {
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,

    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    servers: Vec<Server>,
    #[serde(default)]
    index: u64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Server {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(default)]
    node: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    leader: bool,
    #[serde(default)]
    protocol_version: String,
    #[serde(default)]
    voter: bool,
    #[serde(default)]
    last_index: u64,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl List {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let target = self.query.reading(Target::at("/v1/operator/raft/configuration"));
        let configuration: Configuration = Client::new(&self.query.agent)?.get(&target).await?.json()?;
        match self.format {
            Format::Json => out.json(&configuration),
            Format::Pretty => out.line(table(&configuration.servers)),
        }
    }
}

fn table(servers: &[Server]) -> Table {
    let mut table =
        Table::headed(&["Node", "ID", "Address", "State", "Voter", "RaftProtocol", "Commit Index", "Trails Leader By"]);
    let leader = servers.iter().find(|server| server.leader).map(|server| server.last_index);
    for server in servers {
        let state = if server.leader { "leader" } else { "follower" };
        let protocol = if server.protocol_version.is_empty() { "<=1" } else { &server.protocol_version };
        let behind = match leader {
            _ if server.leader => "-".to_owned(),
            None => "-".to_owned(),
            Some(leader) => match leader.saturating_sub(server.last_index) {
                1 => "1 commit".to_owned(),
                commits => format!("{commits} commits"),
            },
        };
        let voter = if server.voter { "true" } else { "false" };
        let texts = [server.node.as_str(), &server.id, &server.address, state, voter, protocol];
        table.row(texts.map(str::to_owned).into_iter().chain([server.last_index.to_string(), behind]));
    }
    table
}

#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// The server's address, as list-peers shows it.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,

    /// The server's id, as list-peers shows it.
    #[arg(long, value_name = "ID")]
    id: Option<String>,

    #[command(flatten)]
    query: QueryArgs,
}

impl Remove {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let (kind, name) = match (&self.address, &self.id) {
            (Some(address), None) => ("address", address),
            (None, Some(id)) => ("id", id),
            _ => return Err(Error::Usage("Name the server, by -id or by -address".to_owned())),
        };
        let target = self.query.writing(Target::at("/v1/operator/raft/peer")).param(kind, name);
        Client::new(&self.query.agent)?.delete(&target).await?.done()?;
        out.line(format_args!("Removed peer with {kind} {name:?}"))
    }
}

#[derive(Args, Debug)]
pub(crate) struct Transfer {
    /// The server that is to lead; without it the one that is furthest.
    #[arg(long, value_name = "ID")]
    id: Option<String>,

    #[command(flatten)]
    query: QueryArgs,
}

impl Transfer {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let target = self.query.writing(Target::at("/v1/operator/raft/transfer-leader")).param_if("id", self.id.as_deref());
        Client::new(&self.query.agent)?.ask(Method::POST, &target, Bytes::new()).await?.done()?;
        out.line("Success")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_shown_with_what_they_are_behind() {
        let text = r#"{"Servers":[
            {"ID":"a","Node":"n1","Address":"10.0.0.1:8300","Leader":true,"ProtocolVersion":"3","Voter":true,"LastIndex":9},
            {"ID":"b","Node":"(unknown)","Address":"","Leader":false,"Voter":false,"LastIndex":8}],"Index":3}"#;
        let configuration: Configuration = serde_json::from_str(text).unwrap();
        let table = table(&configuration.servers).to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "Node       ID  Address        State     Voter  RaftProtocol  Commit Index  Trails Leader By");
        assert_eq!(lines[1], "n1         a   10.0.0.1:8300  leader    true   3             9             -");
        assert_eq!(lines[2], "(unknown)  b                  follower  false  <=1           8             1 commit");
    }
}
