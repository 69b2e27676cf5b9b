//! The HTTP door: Consul's API, over TCP and Unix sockets.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use smol_str::SmolStr;
use tokio::sync::Semaphore;

use crate::config::{RequestLimits, UiConfig};
use crate::desk::Desk;

mod again;
mod agent;
mod answers;
mod asked;
mod body;
mod call;
mod catalog;
mod coordinate;
mod decode;
mod error;
mod event;
mod fields;
mod filter;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod health;
mod inside;
mod json;
mod kv;
mod later;
mod limit;
mod near;
mod operator;
mod options;
mod path;
mod patience;
mod prepared;
mod query;
mod rates;
mod reply;
mod routes;
mod rules;
mod server;
mod session;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod txn;
mod ui;
mod watches;

pub(crate) use agent::AgentFacts;
pub(crate) use server::{HEAD_BYTES_MAX, Listener, serve};
pub(crate) use watches::run as run_watches;

/// What the door is told.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The datacenter that this agent is in.
    pub(crate) datacenter: SmolStr,
    /// Domains of its DNS, without dots at the ends: names under them may stand in `Host`.
    pub(crate) dns_domains: Vec<SmolStr>,
    /// Further names that may stand in `Host`; `*` is any. Where one is given, every TCP listener is strict.
    pub(crate) allowed_hosts: Vec<SmolStr>,
    /// Whether JSON is always indented (`-dev`).
    pub(crate) pretty: bool,
    /// The web page, if there is one.
    pub(crate) ui: Option<UiConfig>,
    /// Headers added to every answer of the API.
    pub(crate) response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Beginnings of paths that are not answered.
    pub(crate) block_endpoints: Vec<String>,
    /// Networks that may write; empty is all.
    pub(crate) allow_write_from: Vec<IpNet>,
    /// How many requests are taken.
    pub(crate) request_limits: RequestLimits,
    /// Largest value of a key.
    pub(crate) kv_value_bytes_max: usize,
    /// Largest body of a transaction, unless a single value may be larger.
    pub(crate) txn_bytes_max: usize,
    /// Shortest TTL of a session.
    pub(crate) session_ttl_min: Duration,
    /// Whether keys that climb out of their folder are taken.
    pub(crate) disable_kv_key_validation: bool,
    /// Whether paths may hold letters that nobody can see.
    pub(crate) disable_unprintable_filter: bool,
    /// Catalog and health reads that say nothing may be this old; zero is not at all.
    pub(crate) discovery_max_stale: Duration,
    /// How long a waiting read waits that does not say.
    pub(crate) default_query_time: Duration,
    /// How long one may wait at most.
    pub(crate) max_query_time: Duration,
    /// Whether `?cached` is heeded.
    pub(crate) use_cache: bool,
    /// Whether addresses of other datacenters are translated: said in a header.
    pub(crate) translate_wan_addrs: bool,
    /// Longest head of a request, in bytes.
    pub(crate) head_bytes_max: usize,
    /// Connections in all; the number of file descriptors may lower it.
    pub(crate) connections_max: usize,
    /// Connections from one address.
    pub(crate) connections_per_client_max: usize,
}

impl Config {
    /// Consul's defaults, where it has any.
    pub(crate) fn new(datacenter: impl AsRef<str>) -> Self {
        Self {
            datacenter: SmolStr::new(datacenter),
            dns_domains: vec![SmolStr::new_static("consul")],
            allowed_hosts: Vec::new(),
            pretty: false,
            ui: None,
            response_headers: Vec::new(),
            block_endpoints: Vec::new(),
            allow_write_from: Vec::new(),
            request_limits: RequestLimits::default(),
            kv_value_bytes_max: 512 << 10,
            txn_bytes_max: 512 << 10,
            session_ttl_min: Duration::from_secs(10),
            disable_kv_key_validation: false,
            disable_unprintable_filter: false,
            discovery_max_stale: Duration::ZERO,
            default_query_time: Duration::from_secs(300),
            max_query_time: Duration::from_secs(600),
            use_cache: true,
            translate_wan_addrs: false,
            head_bytes_max: HEAD_BYTES_MAX,
            connections_max: 20_000,
            connections_per_client_max: 200,
        }
    }
}

/// The door that stands open: a reload puts another in its place, and requests under way end with the one they came in by.
pub(crate) struct Doorway(ArcSwap<Door>);

impl Doorway {
    pub(crate) fn new(door: Door) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(door)))
    }

    /// From now on it is this one.
    pub(crate) fn replace(&self, config: Config) {
        let now = self.0.load();
        // Pages that are open go on, and count.
        let pages = now.pages.clone();
        self.0.store(Arc::new(Door { pages, ..Door::new(config, now.desk.clone(), now.facts.clone()) }));
    }

    /// The one that stands open now.
    fn now(&self) -> Guard<Arc<Door>> {
        self.0.load()
    }
}

/// The door: what handlers share.
pub(crate) struct Door {
    config: Config,
    desk: Desk,
    facts: Arc<AgentFacts>,
    answers: Arc<answers::Answers>,
    again: again::Again,
    rates: rates::Rates,
    /// Headers of every answer of the API.
    common: reply::Common,
    hosts: rules::Hosts,
    /// Streams of open web pages.
    pages: Arc<Semaphore>,
}

impl Door {
    /// A door to this desk. Nothing listens yet.
    pub(crate) fn new(config: Config, desk: Desk, facts: Arc<AgentFacts>) -> Self {
        let mut common: HeaderMap = config.response_headers.iter().cloned().collect();
        common.insert(HeaderName::from_static("x-consul-default-acl-policy"), HeaderValue::from_static("allow"));
        if config.translate_wan_addrs {
            common.insert(HeaderName::from_static("x-consul-translate-addresses"), HeaderValue::from_static("true"));
        }
        let hosts = rules::Hosts::new(desk.name().as_str(), &config);
        let rates = rates::Rates::new(config.request_limits);
        let pages = Arc::new(Semaphore::new(ui::STREAMS_MAX));
        Self {
            config,
            desk,
            facts,
            answers: Arc::default(),
            again: again::Again::default(),
            rates,
            common: reply::Common::new(common),
            hosts,
            pages,
        }
    }

    fn datacenter(&self) -> &str {
        &self.config.datacenter
    }

    /// Refuses what another datacenter would have to answer.
    fn must_be_here(&self, call: &call::Call) -> Result<(), error::HttpError> {
        match call.query.filled("dc") {
            Some(dc) if *dc != self.config.datacenter => Err(error::HttpError::Server("No path to datacenter".into())),
            _ => Ok(()),
        }
    }
}
