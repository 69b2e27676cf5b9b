//! The configuration under Consul's names for it: what programs and people look up in `self`. It holds no secrets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::config::{CONSUL_VERSION, Config, Listen, duration};

/// All of it.
pub(super) fn all(config: &Config) -> Value {
    let parts = [agent(config), cluster(config), ports(config), dns(config), http(config), checks(config), raft(config)];
    let all: Map<String, Value> = parts
        .into_iter()
        .filter_map(|part| match part {
            Value::Object(part) => Some(part),
            _ => None,
        })
        .flatten()
        .collect();
    Value::Object(all)
}

fn time(time: Duration) -> String {
    duration::text(time)
}

/// -1 for what is not listened for.
fn port(listens: Option<SocketAddr>) -> i32 {
    listens.map_or(-1, |address| address.port().into())
}

fn path(path: Option<&std::path::PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn agent(config: &Config) -> Value {
    let (log, telemetry) = (&config.log, &config.telemetry);
    json!({
        "ACLsEnabled": false,
        "Bootstrap": config.bootstrap,
        "ConnectEnabled": false,
        "DataDir": path(config.data_dir.as_ref()),
        "Datacenter": config.datacenter,
        "DevMode": config.dev,
        "DisableCoordinates": config.disable_coordinates,
        "EnableDebug": config.enable_debug,
        "LeaveDrainTime": time(config.leave_drain_time),
        "LeaveOnTerm": config.leave_on_terminate,
        "Logging": {
            "LogFilePath": path(log.file.as_ref()),
            "LogJSON": log.json,
            "LogLevel": log.level.to_ascii_uppercase(),
        },
        "NodeID": config.node_id.map(|id| id.to_string()).unwrap_or_default(),
        "NodeMeta": config.node_meta,
        "NodeName": config.node_name.as_str(),
        "PeeringEnabled": false,
        "PrimaryDatacenter": config.primary_datacenter,
        "SegmentName": "",
        "ServerMode": config.server,
        "SkipLeaveOnInt": config.skip_leave_on_interrupt,
        "Telemetry": {
            "DisableHostname": telemetry.disable_hostname,
            "DogstatsdAddr": telemetry.dogstatsd.clone().unwrap_or_default(),
            "DogstatsdTags": telemetry.dogstatsd_tags,
            "EnableHostMetrics": telemetry.host_metrics,
            "StatsdAddr": telemetry.statsd.clone().unwrap_or_default(),
            "StatsiteAddr": telemetry.statsite.clone().unwrap_or_default(),
            "MetricsPrefix": telemetry.metrics_prefix,
            "PrometheusOpts": { "Expiration": time(telemetry.prometheus_retention_time) },
        },
        "UIConfig": {
            "ContentPath": config.ui.as_ref().map_or("/ui/", |ui| ui.path.as_str()),
            "Dir": path(config.ui.as_ref().and_then(|ui| ui.dir.as_ref())),
            "Enabled": config.ui.is_some(),
        },
        "Version": CONSUL_VERSION,
    })
}

fn cluster(config: &Config) -> Value {
    let cluster = &config.cluster;
    let (join, gossip, autopilot) = (&cluster.join, &cluster.gossip, &cluster.autopilot);
    json!({
        "AutopilotCleanupDeadServers": autopilot.cleanup_dead_servers,
        "AutopilotLastContactThreshold": time(autopilot.last_contact_threshold),
        "AutopilotMaxTrailingLogs": autopilot.max_trailing_logs,
        "AutopilotMinQuorum": autopilot.min_quorum,
        "AutopilotServerStabilizationTime": time(autopilot.server_stabilization_time),
        "BootstrapExpect": if config.bootstrap { 0 } else { cluster.bootstrap_expect },
        "EncryptKey": if gossip.key.is_some() { "hidden" } else { "" },
        "EncryptVerifyIncoming": true,
        "EncryptVerifyOutgoing": true,
        "GossipLANGossipInterval": time(gossip.gossip_interval),
        "GossipLANGossipNodes": gossip.gossip_nodes,
        "GossipLANProbeInterval": time(gossip.probe_interval),
        "GossipLANProbeTimeout": time(gossip.probe_timeout),
        "GossipLANRetransmitMult": gossip.retransmit_mult,
        "GossipLANSuspicionMult": gossip.suspicion_mult,
        "RPCClientTimeout": time(cluster.rpc.client_timeout),
        "RPCHandshakeTimeout": time(cluster.rpc.handshake_timeout),
        "RPCMaxConnsPerClient": cluster.rpc.max_conns_per_client,
        "ReconnectTimeoutLAN": time(gossip.reconnect_timeout),
        "RejoinAfterLeave": join.rejoin_after_leave,
        "RetryJoinIntervalLAN": time(join.interval),
        "RetryJoinLAN": join.retry.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "RetryJoinMaxAttemptsLAN": join.attempts_max.unwrap_or(0),
    })
}

fn ports(config: &Config) -> Value {
    let addresses = &config.addresses;
    let http = addresses.http.iter().find_map(|listen| match listen {
        Listen::Tcp(address) => Some(*address),
        Listen::Unix(_) => None,
    });
    let text = |address: Option<SocketAddr>| address.map(|address| format!("tcp://{address}")).unwrap_or_default();
    json!({
        "AdvertiseAddrLAN": addresses.advertise.to_string(),
        "AdvertiseAddrWAN": addresses.advertise_wan.to_string(),
        "BindAddr": addresses.bind.to_string(),
        "DNSPort": port(addresses.dns.first().copied()),
        "GRPCPort": -1,
        "GRPCTLSPort": -1,
        "HTTPPort": port(http),
        "HTTPSPort": -1,
        "SerfBindAddrLAN": text(addresses.serf_lan),
        "SerfBindAddrWAN": text(addresses.serf_wan),
        "SerfPortLAN": port(addresses.serf_lan),
        "SerfPortWAN": port(addresses.serf_wan),
        "ServerPort": port(addresses.server),
        "TaggedAddresses": addresses.tagged,
        "TranslateWANAddrs": config.translate_wan_addrs,
    })
}

fn dns(config: &Config) -> Value {
    let dns = &config.dns;
    let addresses: Vec<String> =
        config.addresses.dns.iter().flat_map(|address| [format!("tcp://{address}"), format!("udp://{address}")]).collect();
    let service_ttl: BTreeMap<_, _> = dns.service_ttl.iter().map(|(name, ttl)| (name, time(*ttl))).collect();
    json!({
        "DNSARecordLimit": dns.a_record_limit,
        "DNSAddrs": addresses,
        "DNSAllowStale": dns.allow_stale,
        "DNSAltDomain": dns.alt_domain.as_ref().map(|domain| format!("{domain}.")).unwrap_or_default(),
        "DNSDisableCompression": dns.disable_compression,
        "DNSDomain": format!("{}.", dns.domain),
        "DNSEnableTruncate": dns.enable_truncate,
        "DNSMaxStale": time(dns.max_stale),
        "DNSNodeMetaTXT": dns.node_meta_txt,
        "DNSNodeTTL": time(dns.node_ttl),
        "DNSOnlyPassing": dns.only_passing,
        "DNSRecursorStrategy": if dns.recursor_random { "random" } else { "sequential" },
        "DNSRecursorTimeout": time(dns.recursor_timeout),
        "DNSRecursors": dns.recursors.iter().map(recursor).collect::<Vec<_>>(),
        "DNSServiceTTL": service_ttl,
        "DNSUDPAnswerLimit": dns.udp_answer_limit,
    })
}

/// As it is usually written.
fn recursor(address: &std::net::SocketAddr) -> String {
    if address.port() == 53 { address.ip().to_string() } else { address.to_string() }
}

fn http(config: &Config) -> Value {
    let http = &config.http;
    let addresses: Vec<String> = config
        .addresses
        .http
        .iter()
        .map(|listen| match listen {
            Listen::Tcp(address) => format!("tcp://{address}"),
            Listen::Unix(path) => format!("unix://{}", path.display()),
        })
        .collect();
    json!({
        "AllowWriteHTTPFrom": http.allow_write_http_from.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "DefaultQueryTime": time(http.default_query_time),
        "DiscoveryMaxStale": time(http.discovery_max_stale),
        "HTTPAddrs": addresses,
        "HTTPBlockEndpoints": http.block_endpoints,
        "HTTPMaxConnsPerClient": http.max_conns_per_client,
        "HTTPMaxHeaderBytes": http.max_header_bytes,
        "HTTPResponseHeaders": http.response_headers,
        "KVMaxValueSize": http.kv_max_value_size,
        "MaxQueryTime": time(http.max_query_time),
        "TxnMaxReqLen": http.txn_max_req_len,
    })
}

fn checks(config: &Config) -> Value {
    let checks = &config.checks;
    json!({
        "CheckOutputMaxSize": checks.output_bytes_max,
        "CheckUpdateInterval": time(checks.update_interval),
        "DiscardCheckOutput": checks.discard_output,
        "EnableLocalScriptChecks": checks.local_scripts,
        "EnableRemoteScriptChecks": checks.remote_scripts,
        "SessionTTLMin": time(config.session_ttl_min),
    })
}

fn raft(config: &Config) -> Value {
    let raft = &config.raft;
    json!({
        "RPCHoldTimeout": time(config.rpc_hold_timeout),
        "RaftProtocol": 3,
        "RaftSnapshotThreshold": raft.snapshot_threshold,
        "RaftTrailingLogs": raft.trailing_logs,
    })
}
