//! A member as all see it.

use std::net::SocketAddr;

use muster_catalog::Meta;
use smol_str::{SmolStr, ToSmolStr, format_smolstr};
use uuid::Uuid;

use crate::config::{CONSUL_VERSION, Config};

/// A member as all see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The node's name.
    pub(crate) name: SmolStr,
    /// The node's id.
    pub(crate) id: Uuid,
    /// Where its gossip is.
    pub(crate) address: SocketAddr,
    /// What it says of itself, under Consul's names.
    pub(crate) tags: Meta,
    /// Its addresses by name, as the catalog shows them.
    pub(crate) tagged: Meta,
    /// What its operator wrote about it.
    pub(crate) meta: Meta,
    /// Its voter of the log, if it is a server.
    pub(crate) raft: Option<Uuid>,
    pub(crate) standing: Standing,
    /// Why it stands so, in a few words.
    pub(crate) why: SmolStr,
    /// It is gone, and what is known of it looks like a restart: its host refuses connections to it, or it said that it stops.
    pub(crate) may_return: bool,
    /// Whose word it is that it is gone.
    pub(crate) accusers: Vec<Uuid>,
    /// It is alive, and others hold it silent, or one of its ports does not answer this agent.
    pub(crate) unwell: bool,
    /// How often it held others silent who then said that they live.
    pub(crate) wrong: u32,
}

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Alive,
    /// It said that it goes.
    #[allow(dead_code, reason = "Consul's word for a state that lasts a moment")]
    Leaving,
    /// It went.
    Left,
    /// It is gone without a word.
    Failed,
}

impl Member {
    /// This agent, as its configuration has it.
    pub(crate) fn of(config: &Config, id: Uuid) -> Self {
        let port = config.addresses.serf_lan.map_or(0, |address| address.port());
        Self {
            name: SmolStr::new(config.node_name.as_str()),
            id,
            address: SocketAddr::new(config.addresses.advertise, port),
            tags: tags(config, id),
            tagged: config.addresses.tagged.clone(),
            meta: config.node_meta.clone(),
            raft: None,
            standing: Standing::Alive,
            why: SmolStr::default(),
            may_return: false,
            accusers: Vec::new(),
            unwell: false,
            wrong: 0,
        }
    }

    /// Whether it holds the catalog.
    pub(crate) fn is_server(&self) -> bool {
        self.tag("role") == "consul"
    }

    /// Where it takes requests, if it is a server.
    pub(crate) fn server_address(&self) -> Option<SocketAddr> {
        let port = self.tag("port").parse().ok().filter(|port| *port != 0 && self.is_server())?;
        Some(SocketAddr::new(self.address.ip(), port))
    }

    /// One of its tags; empty if it has none of that name.
    pub(crate) fn tag(&self, key: &str) -> &str {
        self.tags.get(key).map_or("", SmolStr::as_str)
    }
}

impl Standing {
    /// Consul's word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Standing::Alive => "alive",
            Standing::Leaving => "leaving",
            Standing::Left => "left",
            Standing::Failed => "failed",
        }
    }

    /// Consul's number for it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Standing::Alive => 1,
            Standing::Leaving => 2,
            Standing::Left => 3,
            Standing::Failed => 4,
        }
    }
}

/// What Consul's agents tell each other by these names; clients read `role`, `dc`, `id`, `port` and `build`.
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
        match config.cluster.bootstrap_expect {
            0 => None,
            1 => tag("bootstrap", SmolStr::new_static("1")),
            expect => tag("expect", expect.to_smolstr()),
        };
        if let Some(server) = addresses.server {
            tag("port", server.port().to_smolstr());
        }
        if let Some(wan) = addresses.serf_wan {
            tag("wan_join_port", wan.port().to_smolstr());
        }
    }
    tags
}
