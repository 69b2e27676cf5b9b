//! `rtt`: the round-trip time between two nodes, estimated from where they are.

use std::sync::Arc;

use clap::Args;
use muster_catalog::Coordinate;
use serde::Deserialize;

use super::client::Client;
use super::error::Error;
use super::print::Out;
use super::remote::AgentArgs;
use super::target::Target;

#[derive(Args, Debug)]
pub(crate) struct Rtt {
    /// Nodes are servers named with their datacenter, such as `web-1.dc1`.
    #[arg(long)]
    wan: bool,

    /// From this node.
    #[arg(value_name = "NODE1")]
    from: String,

    /// To this one; the asked agent's, if it is not given.
    #[arg(value_name = "NODE2")]
    to: Option<String>,

    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Placed {
    node: String,
    coord: Coord,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Coord {
    vec: Arc<[f64]>,
    error: f64,
    adjustment: f64,
    height: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Datacenter {
    datacenter: String,
    coordinates: Vec<Placed>,
}

impl Datacenter {
    /// With the names that servers have beyond their datacenter.
    fn named(self) -> impl Iterator<Item = Placed> {
        let end = format!(".{}", self.datacenter);
        self.coordinates.into_iter().map(move |placed| match placed.node.ends_with(&end) {
            true => placed,
            false => Placed { node: placed.node + &end, ..placed },
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Own {
    config: OwnConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OwnConfig {
    node_name: String,
    datacenter: String,
}

impl Rtt {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        let mut client = Client::new(&self.agent)?;
        let to = match self.to {
            Some(to) => to,
            None => {
                let OwnConfig { node_name, datacenter } = client.get(&Target::at("/v1/agent/self")).await?.json::<Own>()?.config;
                if self.wan { format!("{node_name}.{datacenter}") } else { node_name }
            }
        };
        let (all, kind): (Vec<Placed>, _) = if self.wan {
            let datacenters: Vec<Datacenter> = client.get(&Target::at("/v1/coordinate/datacenters")).await?.json()?;
            (datacenters.into_iter().flat_map(Datacenter::named).collect(), "WAN")
        } else {
            (client.get(&Target::at("/v1/coordinate/nodes")).await?.json()?, "LAN")
        };
        let rtt = find(&all, &self.from)?.distance(&find(&all, &to)?) * 1000.0;
        out.line(format_args!("Estimated {} <-> {to} rtt: {rtt:.3} ms (using {kind} coordinates)", self.from))
    }
}

fn find(all: &[Placed], node: &str) -> Result<Coordinate, Error> {
    let unknown = || Error::NotDone(format!("Could not find a coordinate for node {node:?}"));
    let Coord { vec, error, adjustment, height } = &all.iter().find(|placed| placed.node == node).ok_or_else(unknown)?.coord;
    let vec = vec
        .as_ref()
        .try_into()
        .map_err(|_| Error::NotDone(format!("The coordinate of node {node:?} has {} dimensions", vec.len())))?;
    Ok(Coordinate { vec, error: *error, adjustment: *adjustment, height: *height })
}
