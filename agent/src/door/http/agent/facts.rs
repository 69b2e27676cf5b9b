//! What the door knows of its own agent besides the desk.

use std::sync::Arc;

use arc_swap::ArcSwap;
use muster_catalog::Meta;
use smol_str::{SmolStr, ToSmolStr, format_smolstr};
use uuid::Uuid;

use crate::config::{CONSUL_VERSION, Config};
use crate::telemetry::Metrics;

/// What the assembly tells the door of the agent; exchanged at reload.
#[derive(Debug)]
pub(crate) struct AgentFacts {
    config: ArcSwap<Config>,
    metrics: Metrics,
}

/// Which of the two pools of members is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    /// Of this datacenter.
    Lan,
    /// Of the servers of all datacenters.
    Wan,
}

/// This agent as a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) tags: Meta,
}

impl AgentFacts {
    pub(crate) fn new(config: Config, metrics: Metrics) -> Self {
        Self { config: ArcSwap::from_pointee(config), metrics }
    }

    /// Takes what a reload brought.
    pub(crate) fn configure(&self, config: Config) {
        self.config.store(Arc::new(config));
    }

    pub(super) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// This agent as the others of a pool would see it.
    pub(super) fn own(&self, pool: Pool, id: Uuid) -> Own {
        let config = self.config();
        let addresses = &config.addresses;
        let port = |listens: Option<std::net::SocketAddr>| listens.map_or(0, |address| address.port());
        let (name, address, port) = match pool {
            Pool::Lan => (config.node_name.to_string(), addresses.advertise, port(addresses.serf_lan)),
            Pool::Wan => {
                (format!("{}.{}", config.node_name, config.datacenter), addresses.advertise_wan, port(addresses.serf_wan))
            }
        };
        Own { name, address: address.to_string(), port, tags: tags(&config, id) }
    }
}

/// What Consul's servers tell each other by these names; clients read `role`, `dc`, `id`, `port` and `build`.
fn tags(config: &Config, id: Uuid) -> Meta {
    let addresses = &config.addresses;
    let mut tags: Meta = [
        ("acls", "0"),
        ("role", if config.server { "consul" } else { "node" }),
        ("segment", ""),
        ("vsn", "2"),
        ("vsn_min", "2"),
        ("vsn_max", "3"),
    ]
    .map(|(key, value)| (SmolStr::new_static(key), SmolStr::new_static(value)))
    .into();
    let mut tag = |key: &'static str, value: SmolStr| tags.insert(SmolStr::new_static(key), value);
    tag("dc", SmolStr::new(&config.datacenter));
    tag("id", id.to_smolstr());
    tag("build", format_smolstr!("{CONSUL_VERSION}:muster"));
    if config.server {
        tag("raft_vsn", SmolStr::new_static("3"));
        if config.bootstrap {
            tag("bootstrap", SmolStr::new_static("1"));
        }
        if let Some(server) = addresses.server {
            tag("port", server.port().to_smolstr());
        }
        if let Some(wan) = addresses.serf_wan {
            tag("wan_join_port", wan.port().to_smolstr());
        }
    }
    tags
}
