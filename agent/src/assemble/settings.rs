//! What the configuration says, in the words of each room that it goes to.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use muster_catalog::{AntiEntropy, Autopilot};
use uuid::Uuid;

use crate::config::{self, Config};
use crate::desk::{LocalSettings, Policy};
use crate::door::{http, peer};
use crate::rpc::Pool;
use crate::{loops, raft, telemetry};

pub(super) fn telemetry(config: &Config) -> telemetry::Config {
    telemetry::Config {
        logs: telemetry::LogsConfig {
            level: config.log.level.to_owned(),
            json: config.log.json,
            file: config.log.file.clone().map(|path| telemetry::LogFileConfig {
                path,
                duration: config.log.rotate_duration,
                bytes: config.log.rotate_bytes,
                files: config.log.rotate_max_files,
            }),
            syslog: config.log.syslog,
        },
        metrics: telemetry::MetricsConfig {
            prefix: config.telemetry.metrics_prefix.clone(),
            host: (!config.telemetry.disable_hostname).then(|| config.node_name.to_string()),
            filter: filter(config),
            prometheus: !config.telemetry.prometheus_retention_time.is_zero(),
            host_metrics: config.telemetry.host_metrics.then(|| config.data_dir.clone().unwrap_or_else(|| PathBuf::from("/"))),
        },
    }
}

/// Where metrics are sent.
pub(super) fn sinks(config: &Config) -> impl Iterator<Item = telemetry::SinkConfig> {
    let told = &config.telemetry;
    let tags = told.dogstatsd_tags.clone();
    let sink = |kind, address: &Option<String>| address.clone().map(|address| telemetry::SinkConfig { kind, address });
    let statsd = sink(telemetry::SinkKind::Statsd, &told.statsd);
    let statsite = sink(telemetry::SinkKind::Statsite, &told.statsite);
    let dogstatsd = sink(telemetry::SinkKind::Dogstatsd(tags), &told.dogstatsd);
    statsd.into_iter().chain(statsite).chain(dogstatsd)
}

pub(super) fn filter(config: &Config) -> telemetry::Filter {
    telemetry::Filter::new(config.telemetry.prefix_filter.clone(), config.telemetry.filter_default)
}

pub(super) fn http(config: &Config) -> http::Config {
    let headers = config.http.response_headers.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
    http::Config {
        dns_domains: std::iter::once(&config.dns.domain).chain(&config.dns.alt_domain).map(Into::into).collect(),
        allowed_hosts: config.http.allowed_hosts.iter().map(Into::into).collect(),
        pretty: config.http.pretty,
        ui: config.ui.clone(),
        response_headers: headers.collect(),
        block_endpoints: config.http.block_endpoints.clone(),
        allow_write_from: config.http.allow_write_http_from.clone(),
        // A client agent answers reads from its own copy, and what it asks of servers has a bound of its own (rpc_rate).
        request_limits: if config.server { config.http.request_limits } else { config::RequestLimits::default() },
        kv_value_bytes_max: config.http.kv_max_value_size,
        txn_bytes_max: config.http.txn_max_req_len,
        session_ttl_min: config.session_ttl_min,
        disable_kv_key_validation: config.disable_kv_key_validation,
        disable_unprintable_filter: config.disable_http_unprintable_char_filter,
        head_bytes_max: if config.http.max_header_bytes == 0 { http::HEAD_BYTES_MAX } else { config.http.max_header_bytes },
        discovery_max_stale: config.http.discovery_max_stale,
        default_query_time: config.http.default_query_time,
        max_query_time: config.http.max_query_time,
        use_cache: config.http.use_cache,
        translate_wan_addrs: config.translate_wan_addrs,
        connections_per_client_max: if config.http.max_conns_per_client == 0 {
            usize::MAX
        } else {
            config.http.max_conns_per_client
        },
        ..http::Config::new(&config.datacenter)
    }
}

pub(super) fn dns(config: &Config) -> muster_dns::Config {
    let dns = &config.dns;
    muster_dns::Config {
        domain: dns.domain.clone(),
        alt_domain: dns.alt_domain.clone(),
        datacenter: config.datacenter.clone(),
        node_name: config.node_name.as_str().into(),
        allow_stale: dns.allow_stale,
        max_stale: dns.max_stale,
        max_stale_alone: config.cluster.max_stale,
        node_ttl: dns.node_ttl,
        service_ttl: dns.service_ttl.clone(),
        only_passing: dns.only_passing,
        enable_truncate: dns.enable_truncate,
        udp_answer_limit: dns.udp_answer_limit,
        a_record_limit: dns.a_record_limit,
        disable_compression: dns.disable_compression,
        enable_additional_node_meta_txt: dns.node_meta_txt,
        negative_answer: dns.negative_answer,
        recursors: dns.recursors.clone(),
        recursor_random: dns.recursor_random,
        recursor_timeout: dns.recursor_timeout,
        soa: muster_dns::Soa { refresh: dns.soa.refresh, retry: dns.soa.retry, expire: dns.soa.expire, min_ttl: dns.soa.min_ttl },
    }
}

pub(super) fn raft(config: &Config, id: Uuid, peers: Option<Pool>) -> raft::Config {
    let dir = config.data_dir.as_ref().map(|dir| dir.join("raft"));
    let calm = raft::Config::new(dir, id);
    raft::Config {
        snapshot_threshold: config.raft.snapshot_threshold,
        trailing_logs: config.raft.trailing_logs,
        heartbeat: config.raft.patience(calm.heartbeat),
        election: (config.raft.patience(calm.election.0), config.raft.patience(calm.election.1)),
        peers,
        ..calm
    }
}

pub(super) fn rpc_limits(config: &Config) -> peer::Limits {
    let rpc = &config.cluster.rpc;
    peer::Limits {
        handshake_timeout: rpc.handshake_timeout,
        connections_per_client_max: if rpc.max_conns_per_client == 0 { usize::MAX } else { rpc.max_conns_per_client },
    }
}

/// Where others reach this agent's RPC.
pub(super) fn server_address(config: &Config) -> SocketAddr {
    (config.addresses.advertise, config.addresses.server.map_or(0, |server| server.port())).into()
}

pub(super) fn autopilot(config: &Config) -> Autopilot {
    let config::AutopilotConfig {
        cleanup_dead_servers,
        last_contact_threshold,
        max_trailing_logs,
        min_quorum,
        server_stabilization_time,
    } = config.cluster.autopilot;
    Autopilot { cleanup_dead_servers, last_contact_threshold, max_trailing_logs, min_quorum, server_stabilization_time }
}

pub(super) fn joining(config: &Config) -> loops::Joining {
    let join = &config.cluster.join;
    loops::Joining { addresses: join.retry.clone(), interval: join.interval, attempts_max: join.attempts_max }
}

/// How long members that are gone are waited for.
pub(super) fn patience(config: &Config) -> loops::Patience {
    let config::AbsenceConfig { restart_grace, mass_loss_hold } = config.cluster.absence;
    loops::Patience { restart_grace, mass_loss_hold }
}

pub(super) fn local(config: &Config) -> LocalSettings {
    LocalSettings {
        policy: Policy { script_checks_by_api: config.checks.remote_scripts },
        output_delay: config.checks.update_interval,
        discard_output: config.checks.discard_output,
        anti_entropy: match config.checks.anti_entropy {
            config::AntiEntropy::Muster => AntiEntropy::OwnRows,
            config::AntiEntropy::Consul => AntiEntropy::WholeNode,
        },
    }
}

/// Reads what checks over TLS introduce themselves with.
pub(super) fn checks_tls(tls: &config::ChecksTls, config: &Config) -> Result<muster_health::AgentTls> {
    let identity = tls.identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    let name = tls.server_name.clone().unwrap_or_else(|| config.node_name.as_str().to_owned());
    muster_health::AgentTls::load(&tls.roots, identity, name).context("enable_agent_tls_for_checks")
}
