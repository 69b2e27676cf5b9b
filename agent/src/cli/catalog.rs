//! `catalog`: datacenters, nodes and services as the catalog has them.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client::Client;
use super::error::Error;
use super::print::{self, Format, Out};
use super::remote::QueryArgs;
use super::table::Table;
use super::target::Target;

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// List all known datacenters
    Datacenters(Datacenters),
    /// List the nodes of a datacenter
    Nodes(Nodes),
    /// List the names of the services of a datacenter
    Services(Services),
}

#[derive(Args, Debug)]
pub(crate) struct Datacenters {
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,

    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Nodes {
    /// Show whole IDs, tagged addresses and metadata too.
    #[arg(long)]
    detailed: bool,

    /// Only nodes that match this filter expression.
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,

    /// Nearest to this node first; _agent is the asked agent's.
    #[arg(long, value_name = "NODE")]
    near: Option<String>,

    /// Only nodes with this metadata; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = meta)]
    node_meta: Vec<String>,

    /// Only nodes with an instance of this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,

    /// For people or for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,

    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Services {
    /// Only services of this node.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,

    /// Only services on nodes with this metadata; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = meta)]
    node_meta: Vec<String>,

    /// Show each service's tags too.
    #[arg(long)]
    tags: bool,

    /// For people or for programs.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,

    #[command(flatten)]
    query: QueryArgs,
}

/// A node, out of `/v1/catalog/nodes` or, with its metadata under another name, `/v1/catalog/service/…`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "ID", default)]
    id: String,
    node: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    datacenter: String,
    #[serde(default)]
    tagged_addresses: Option<BTreeMap<String, String>>,
    #[serde(alias = "NodeMeta", default)]
    meta: Option<BTreeMap<String, String>>,
}

type ServiceTags = BTreeMap<String, BTreeSet<String>>;

#[derive(Debug, Deserialize)]
struct NodeServices {
    #[serde(rename = "Services", default)]
    services: Option<BTreeMap<String, NodeService>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeService {
    service: String,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Command {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        match self {
            Command::Datacenters(datacenters) => datacenters.run(out).await,
            Command::Nodes(nodes) => nodes.run(out).await,
            Command::Services(services) => services.run(out).await,
        }
    }
}

impl Datacenters {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let target = self.query.reading(Target::at("/v1/catalog/datacenters"));
        let names: Vec<String> = Client::new(&self.query.agent)?.get(&target).await?.json()?;
        if self.format == Format::Json {
            return out.json(&names);
        }
        names.iter().try_for_each(|name| out.line(name))
    }
}

impl Nodes {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let target = match &self.service {
            Some(name) => Target::at("/v1/catalog/service/").name(name),
            None => Target::at("/v1/catalog/nodes"),
        };
        let target = self.query.reading(target).param_if("near", self.near.as_deref()).param_if("filter", self.filter.as_deref());
        let target = self.node_meta.iter().fold(target, |target, pair| target.param("node-meta", pair));
        let answer = Client::new(&self.query.agent)?.get(&target).await?;
        if self.format == Format::Json && self.service.is_none() {
            let nodes: Vec<Map<String, Value>> = answer.json()?;
            return out.json(&nodes);
        }
        let mut nodes: Vec<Node> = answer.json()?;
        let mut seen = BTreeSet::new();
        nodes.retain(|node| seen.insert(node.node.clone()));
        if self.format == Format::Json {
            return out.json(&nodes);
        }
        if nodes.is_empty() {
            print::note("No node matches.");
            return Ok(());
        }
        out.line(if self.detailed { detailed(nodes) } else { standard(nodes) })
    }
}

impl Services {
    async fn run(self, out: &mut Out) -> Result<(), Error> {
        let target = match &self.node {
            Some(node) => Target::at("/v1/catalog/node/").name(node),
            None => Target::at("/v1/catalog/services"),
        };
        let target = self.node_meta.iter().fold(self.query.reading(target), |target, pair| target.param("node-meta", pair));
        let answer = Client::new(&self.query.agent)?.get(&target).await?;
        let services = if self.node.is_some() { of_node(answer.json()?) } else { answer.json::<ServiceTags>()? };
        if self.format == Format::Json {
            return out.json(&services);
        }
        if services.is_empty() {
            print::note("No service matches.");
            return Ok(());
        }
        let mut table = Table::plain(6);
        for (name, tags) in services {
            let tags = tags.into_iter().collect::<Vec<_>>().join(",");
            if self.tags { table.row([name, tags]) } else { table.row([name]) }
        }
        out.line(table)
    }
}

/// The API answers `null` for a node it does not know.
fn of_node(node: Option<NodeServices>) -> ServiceTags {
    let mut names = ServiceTags::new();
    for service in node.and_then(|node| node.services).unwrap_or_default().into_values() {
        names.entry(service.service).or_default().extend(service.tags.unwrap_or_default());
    }
    names
}

fn standard(nodes: Vec<Node>) -> Table {
    let mut table = Table::headed(&["Node", "ID", "Address", "DC"]);
    for node in nodes {
        let short = node.id.split('-').next().unwrap_or_default().to_owned();
        table.row([node.node, short, node.address, node.datacenter]);
    }
    table
}

fn detailed(nodes: Vec<Node>) -> Table {
    let mut table = Table::headed(&["Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"]);
    for node in nodes {
        let (addresses, meta) = (pairs(node.tagged_addresses), pairs(node.meta));
        table.row([node.node, node.id, node.address, node.datacenter, addresses, meta]);
    }
    table
}

fn pairs(pairs: Option<BTreeMap<String, String>>) -> String {
    pairs.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// `KEY=VALUE` as it is typed, `key:value` as the API takes it.
fn meta(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(format!("{key}:{value}")),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}
