//! `maint`: maintenance of the asked agent's node or of one of its services.

use std::collections::BTreeMap;

use bytes::Bytes;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::error::Error;
use super::print::{Format, Out};
use super::remote::AgentArgs;
use super::target::Target;

/// The checks that stand for maintenance, as the API names them.
const NODE_CHECK: &str = "_node_maintenance";
const SERVICE_CHECK_PREFIX: &str = "_service_maintenance:";

#[derive(Args, Debug)]
pub(crate) struct Maint {
    /// Begin maintenance: the node or service leaves all answers. Without -enable and -disable the state is listed.
    #[arg(long, conflicts_with = "disable")]
    enable: bool,

    /// End maintenance.
    #[arg(long)]
    disable: bool,

    /// Why, for those who find it in maintenance.
    #[arg(long, value_name = "TEXT", requires = "enable")]
    reason: Option<String>,

    /// The ID of one service of this agent, instead of the whole node.
    #[arg(long, value_name = "ID")]
    service: Option<String>,

    /// For people or for programs (when the state is listed).
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,

    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Debug, Deserialize)]
struct Check {
    #[serde(rename = "Node", default)]
    node: String,
    #[serde(rename = "ServiceID", default)]
    service: String,
    #[serde(rename = "Notes", default)]
    notes: String,
}

/// Who is in maintenance, and why.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    node: Option<NodeState>,
    services: Vec<ServiceState>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NodeState {
    name: String,
    reason: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceState {
    #[serde(rename = "ID")]
    id: String,
    reason: String,
}

impl Maint {
    pub(crate) async fn run(self, out: &mut Out) -> Result<(), Error> {
        match (self.enable || self.disable, &self.service) {
            (true, _) => self.change(out).await,
            (false, None) => self.list(out).await,
            (false, Some(_)) => Err(Error::Usage("-service needs -enable or -disable beside it".to_owned())),
        }
    }

    async fn change(self, out: &mut Out) -> Result<(), Error> {
        let target = match &self.service {
            Some(id) => Target::at("/v1/agent/service/maintenance/").name(id),
            None => Target::at("/v1/agent/maintenance"),
        };
        let target = target.param("enable", if self.enable { "true" } else { "false" });
        let target = target.param_if("reason", self.reason.as_deref());
        Client::new(&self.agent)?.put(&target, Bytes::new()).await?.done()?;
        let now = if self.enable { "enabled" } else { "disabled" };
        match self.service {
            Some(id) => out.line(format_args!("Service maintenance is now {now} for {id:?}")),
            None => out.line(format_args!("Node maintenance is now {now}")),
        }
    }

    async fn list(self, out: &mut Out) -> Result<(), Error> {
        let checks: BTreeMap<String, Check> = Client::new(&self.agent)?.get(&Target::at("/v1/agent/checks")).await?.json()?;
        let state = state(checks);
        if self.format == Format::Json {
            return out.json(&state);
        }
        if let Some(node) = &state.node {
            out.line(format_args!("Node:\n  Name:   {}\n  Reason: {}\n", node.name, node.reason))?;
        }
        for service in &state.services {
            out.line(format_args!("Service:\n  ID:     {}\n  Reason: {}\n", service.id, service.reason))?;
        }
        Ok(())
    }
}

fn state(checks: BTreeMap<String, Check>) -> State {
    let mut state = State::default();
    for (id, check) in checks {
        if id == NODE_CHECK {
            state.node = Some(NodeState { name: check.node, reason: check.notes });
        } else if let Some(service) = id.strip_prefix(SERVICE_CHECK_PREFIX) {
            let id = if check.service.is_empty() { service.to_owned() } else { check.service };
            state.services.push(ServiceState { id, reason: check.notes });
        }
    }
    state
}
