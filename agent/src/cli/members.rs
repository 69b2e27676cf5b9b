//! `members`: who is in the cluster, as the asked agent sees it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use clap::Args;
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::done::Done;
use super::error::Error;
use super::print::{Format, Out};
use super::remote::AgentArgs;
use super::table::Table;
use super::target::Target;

#[derive(Args, Debug)]
pub(crate) struct Members {
    /// Show all tags of each member.
    #[arg(long)]
    detailed: bool,

    /// Show only members whose status matches this regular expression.
    #[arg(long, value_name = "REGEX", default_value = ".*")]
    status: String,

    /// Show the servers of all datacenters instead of this one's members.
    #[arg(long)]
    wan: bool,

    /// Show only members of this segment.
    #[arg(long, value_name = "NAME")]
    segment: Option<String>,

    /// Show only members for which this expression holds, such as 'Tags.role == consul'.
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,

    /// For people or for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,

    #[command(flatten)]
    agent: AgentArgs,
}

/// A member as the API gives it; what a table does not show is kept for JSON.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
    #[serde(default)]
    addr: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
    #[serde(default)]
    status: i64,
    /// Why it is not well, if it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    cause: String,
    /// How often it held others silent who lived.
    #[serde(default, skip_serializing_if = "is_none")]
    wrong_accusations: u64,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references
fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Members {
    pub(crate) async fn run(self, out: &mut Out) -> Result<Done, Error> {
        let status =
            Regex::new(&self.status).map_err(|error| Error::Usage(format!("-status is no regular expression: {error}")))?;
        let target = Target::at("/v1/agent/members");
        let target = if self.wan { target.param("wan", "1") } else { target };
        let target = target.param_if("segment", self.segment.as_deref()).param_if("filter", self.filter.as_deref());
        let mut members: Vec<Member> = Client::new(&self.agent)?.get(&target).await?.json()?;
        members.retain(|member| status.is_match(member.status()));
        members.sort_by(|a, b| (&a.name, a.tag("segment")).cmp(&(&b.name, b.tag("segment"))));
        if self.format == Format::Json {
            out.json(&members)?;
        } else if !members.is_empty() {
            members.iter_mut().for_each(Member::name_segment);
            out.line(if self.detailed { detailed(&members) } else { standard(&members) })?;
        }
        Ok(if members.is_empty() { Done::NoneFound } else { Done::Well })
    }
}

fn standard(members: &[Member]) -> Table {
    let mut table = Table::headed(&["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"]);
    for member in members {
        let kind = match member.tag("role") {
            "consul" => "server",
            "node" => "client",
            _ => "unknown",
        };
        let build = member.tag("build").split(':').next().unwrap_or_default();
        let partition = match member.tag("ap") {
            "" => "default",
            partition => partition,
        };
        let (name, address) = (member.name.clone(), member.address());
        let short = [member.status(), kind, build, member.tag("vsn"), member.tag("dc"), partition, member.tag("segment")]
            .map(str::to_owned);
        table.row([name, address].into_iter().chain(short));
    }
    table
}

fn detailed(members: &[Member]) -> Table {
    let told = members.iter().any(|member| !member.told().is_empty());
    let heads = ["Node", "Address", "Status", "Tags", "Cause"];
    // The table is Consul's, until there is something to tell.
    let mut table = Table::headed(&heads[..if told { 5 } else { 4 }]);
    for member in members {
        let tags: Vec<String> = member.tags.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
        let row = [member.name.clone(), member.address(), member.status().to_owned(), tags.join(",")];
        table.row(row.into_iter().chain(told.then(|| member.told())));
    }
    table
}

impl Member {
    fn tag(&self, key: &str) -> &str {
        self.tags.as_ref().and_then(|tags| tags.get(key)).map_or("", String::as_str)
    }

    /// What there is to tell of it, if it is not well, or others are not by its word.
    fn told(&self) -> String {
        let wrong = match self.wrong_accusations {
            0 => String::new(),
            1 => "held another dead who lives, once".to_owned(),
            count => format!("held others dead who live, {count} times"),
        };
        [self.cause.clone(), wrong].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// An empty segment has a name in tables: servers are in all of them.
    fn name_segment(&mut self) {
        if self.tag("segment").is_empty() {
            let name = if self.tag("role") == "consul" { "<all>" } else { "<default>" };
            self.tags.get_or_insert_default().insert("segment".to_owned(), name.to_owned());
        }
    }

    fn status(&self) -> &'static str {
        match self.status {
            0 => "none",
            1 => "alive",
            2 => "leaving",
            3 => "left",
            4 => "failed",
            _ => "unknown",
        }
    }

    fn address(&self) -> String {
        match self.addr.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, self.port).to_string(),
            Err(_) => format!("{}:{}", self.addr, self.port),
        }
    }
}
