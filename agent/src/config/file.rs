//! What was written in configuration files: Consul's keys, and a few of our own; all optional.

use std::collections::BTreeMap;
use std::time::Duration;

use super::definition::{CheckText, ServiceText};
use super::read::{Anything, Given};
use super::section::section;
use super::watch::WatchText;

section! {
    /// One configuration, as files and flags gave it.
    ConfigFile {
        // The agent.
        server: Given<bool>,
        bootstrap: Given<bool>,
        bootstrap_expect: Given<i64>,
        data_dir: Given<String>,
        datacenter: Given<String>,
        primary_datacenter: Given<String>,
        node_name: Given<String>,
        node_id: Given<String>,
        disable_host_node_id: Given<bool>,
        node_meta: BTreeMap<String, Given<String>>,
        pid_file: Given<String>,
        leave_on_terminate: Given<bool>,
        skip_leave_on_interrupt: Given<bool>,
        performance: PerformanceFile,
        auto_reload_config: Given<bool>,
        // Addresses and ports.
        bind_addr: Given<String>,
        client_addr: Given<String>,
        advertise_addr: Given<String>,
        advertise_addr_ipv4: Given<String>,
        advertise_addr_ipv6: Given<String>,
        advertise_addr_wan: Given<String>,
        advertise_addr_wan_ipv4: Given<String>,
        advertise_addr_wan_ipv6: Given<String>,
        translate_wan_addrs: Given<bool>,
        addresses: AddressesFile,
        ports: PortsFile,
        unix_sockets: UnixSocketsFile,
        allowed_hosts: Vec<Given<String>>,
        // Membership.
        serf_lan: Given<String>,
        serf_wan: Given<String>,
        serf_lan_allowed_cidrs: Vec<Given<String>>,
        serf_wan_allowed_cidrs: Vec<Given<String>>,
        retry_join = "start_join": Vec<Given<String>>,
        retry_interval: Given<Duration>,
        retry_max: Given<i64>,
        retry_join_wan = "start_join_wan": Vec<Given<String>>,
        retry_interval_wan: Given<Duration>,
        retry_max_wan: Given<i64>,
        rejoin_after_leave: Given<bool>,
        reconnect_timeout: Given<Duration>,
        reconnect_timeout_wan: Given<Duration>,
        advertise_reconnect_timeout: Given<Duration>,
        server_rejoin_age_max: Given<Duration>,
        encrypt: Given<String>,
        encrypt_verify_incoming: Given<bool>,
        encrypt_verify_outgoing: Given<bool>,
        disable_keyring_file: Given<bool>,
        gossip_lan: GossipFile,
        gossip_wan: GossipFile,
        disable_coordinates: Given<bool>,
        disable_kv_key_validation: Given<bool>,
        disable_http_unprintable_char_filter: Given<bool>,
        // DNS.
        domain: Given<String>,
        alt_domain: Given<String>,
        recursors = "recursor": Vec<Given<String>>,
        dns_config: DnsFile,
        // Logs.
        log_level: Given<String>,
        log_json: Given<bool>,
        log_file: Given<String>,
        log_rotate_duration: Given<Duration>,
        log_rotate_bytes: Given<i64>,
        log_rotate_max_files: Given<i64>,
        enable_syslog: Given<bool>,
        syslog_facility: Given<String>,
        // Services and checks.
        services = "service": Vec<Given<ServiceText>>,
        checks = "check": Vec<Given<CheckText>>,
        enable_script_checks: Given<bool>,
        enable_local_script_checks: Given<bool>,
        enable_agent_tls_for_checks: Given<bool>,
        check_update_interval: Given<Duration>,
        check_output_max_size: Given<i64>,
        discard_check_output: Given<bool>,
        anti_entropy: Given<String>,
        watches = "watch": Vec<Given<WatchText>>,
        // HTTP.
        http_config: HttpFile,
        limits: LimitsFile,
        default_query_time: Given<Duration>,
        max_query_time: Given<Duration>,
        discovery_max_stale: Given<Duration>,
        default_reads: Given<String>,
        max_stale: Given<Duration>,
        replica: Given<String>,
        restart_grace: Given<Duration>,
        mass_loss_hold: Given<Duration>,
        session_ttl_min: Given<Duration>,
        disable_remote_exec: Given<bool>,
        enable_debug: Given<bool>,
        ui_config: UiFile,
        ui: Given<bool>,
        ui_dir: Given<String>,
        ui_content_path: Given<String>,
        // Being watched.
        telemetry: TelemetryFile,
        // Raft.
        raft_protocol: Given<i64>,
        protocol: Given<i64>,
        raft_snapshot_threshold: Given<i64>,
        raft_snapshot_interval: Given<Duration>,
        raft_trailing_logs: Given<i64>,
        raft_logstore: Anything,
        autopilot: AutopilotFile,
        rpc: Anything,
        use_streaming_backend: Given<bool>,
        // Rights.
        acl: AclFile,
        acl_datacenter: Given<String>,
        acl_default_policy: Given<String>,
        acl_down_policy: Given<String>,
        acl_ttl: Given<String>,
        acl_token: Given<String>,
        acl_master_token: Given<String>,
        acl_agent_token: Given<String>,
        acl_agent_master_token: Given<String>,
        acl_replication_token: Given<String>,
        acl_enable_key_list_policy: Given<bool>,
        acl_enforce_version_8: Given<bool>,
        enable_acl_replication: Given<bool>,
        // TLS, new and old.
        tls: TlsFile,
        server_name: Given<String>,
        ca_file: Given<String>,
        ca_path: Given<String>,
        cert_file: Given<String>,
        key_file: Given<String>,
        tls_min_version: Given<String>,
        tls_cipher_suites: Given<String>,
        tls_prefer_server_cipher_suites: Given<bool>,
        verify_incoming: Given<bool>,
        verify_incoming_rpc: Given<bool>,
        verify_incoming_https: Given<bool>,
        verify_outgoing: Given<bool>,
        verify_server_hostname: Given<bool>,
        // Said by programs that write configurations, of no consequence here: muster never calls home.
        version: Given<String>,
        version_prerelease: Given<String>,
        revision: Given<String>,
        build_date: Given<String>,
        disable_update_check: Given<bool>,
        disable_anonymous_signature: Given<bool>,
    }
    left_out {
        "connect", "auto_config", "auto_encrypt", "config_entries", "peering", "xds", "segment", "segments", "partition",
        "audit", "license_path", "reporting", "read_replica", "non_voting_server", "primary_gateways",
        "primary_gateways_interval", "cloud", "enable_central_service_config", "default_intention_policy", "experiments",
        "locality", "snapshot_agent",
    }
    later {
        "primary_datacenter", "serf_wan", "serf_wan_allowed_cidrs", "retry_interval_wan",
        "retry_max_wan", "reconnect_timeout_wan", "advertise_reconnect_timeout", "server_rejoin_age_max", "gossip_wan",
        "disable_remote_exec", "protocol", "raft_logstore", "raft_snapshot_interval", "rpc",
        "use_streaming_backend",
        "acl_down_policy", "acl_ttl", "acl_token", "acl_master_token", "acl_agent_token", "acl_agent_master_token",
        "acl_replication_token", "acl_enable_key_list_policy", "acl_enforce_version_8", "enable_acl_replication",
        "server_name", "ca_file", "ca_path", "cert_file", "key_file", "tls_min_version", "tls_cipher_suites",
        "tls_prefer_server_cipher_suites",
    }
}

section! {
    /// `performance`.
    PerformanceFile {
        raft_multiplier: Given<i64>,
        leave_drain_time: Given<Duration>,
        rpc_hold_timeout: Given<Duration>,
        grpc_keepalive_interval: Given<Duration>,
        grpc_keepalive_timeout: Given<Duration>,
    }
    later { "grpc_keepalive_interval", "grpc_keepalive_timeout" }
}

section! {
    /// `addresses`: where each listener listens, if not at `client_addr`.
    AddressesFile {
        dns: Given<String>,
        http: Given<String>,
        https: Given<String>,
        grpc: Given<String>,
        grpc_tls: Given<String>,
    }
    later { "https", "grpc", "grpc_tls" }
}

section! {
    /// `ports`: -1 is off.
    PortsFile {
        dns: Given<i64>,
        http: Given<i64>,
        https: Given<i64>,
        grpc: Given<i64>,
        grpc_tls: Given<i64>,
        serf_lan: Given<i64>,
        serf_wan: Given<i64>,
        server: Given<i64>,
    }
    left_out {
        "sidecar_min_port", "sidecar_max_port", "expose_min_port", "expose_max_port", "proxy_min_port", "proxy_max_port",
    }
}

section! {
    /// `unix_sockets`: owner and mode of listeners that are files.
    UnixSocketsFile {
        user: Given<String>,
        group: Given<String>,
        mode: Given<String>,
    }
}

section! {
    /// `gossip_lan`, `gossip_wan`.
    GossipFile {
        gossip_interval: Given<Duration>,
        gossip_nodes: Given<i64>,
        probe_interval: Given<Duration>,
        probe_timeout: Given<Duration>,
        retransmit_mult: Given<i64>,
        suspicion_mult: Given<i64>,
    }
}

section! {
    /// `autopilot`.
    AutopilotFile {
        cleanup_dead_servers: Given<bool>,
        last_contact_threshold: Given<Duration>,
        max_trailing_logs: Given<i64>,
        min_quorum: Given<i64>,
        server_stabilization_time: Given<Duration>,
    }
    left_out { "redundancy_zone_tag", "disable_upgrade_migration", "upgrade_version_tag" }
}

section! {
    /// `dns_config`.
    DnsFile {
        allow_stale: Given<bool>,
        max_stale: Given<Duration>,
        node_ttl: Given<Duration>,
        service_ttl: BTreeMap<String, Given<Duration>>,
        enable_truncate: Given<bool>,
        only_passing: Given<bool>,
        recursor_strategy: Given<String>,
        recursor_timeout: Given<Duration>,
        disable_compression: Given<bool>,
        udp_answer_limit: Given<i64>,
        a_record_limit: Given<i64>,
        enable_additional_node_meta_txt: Given<bool>,
        soa: SoaFile,
        // Answers come out of this agent's copy anyway, which is never older than a cache would be.
        use_cache: Given<bool>,
        cache_max_age: Given<Duration>,
        negative_answer: Given<String>,
        prefer_namespace: Given<bool>,
    }
}

section! {
    /// `dns_config.soa`, in seconds.
    SoaFile {
        refresh: Given<i64>,
        retry: Given<i64>,
        expire: Given<i64>,
        min_ttl: Given<i64>,
    }
}

section! {
    /// `http_config`.
    HttpFile {
        block_endpoints: Vec<Given<String>>,
        response_headers: BTreeMap<String, Given<String>>,
        allow_write_http_from: Vec<Given<String>>,
        use_cache: Given<bool>,
        max_header_bytes: Given<i64>,
    }
}

section! {
    /// `limits`.
    LimitsFile {
        http_max_conns_per_client: Given<i64>,
        https_handshake_timeout: Given<Duration>,
        rpc_handshake_timeout: Given<Duration>,
        rpc_client_timeout: Given<Duration>,
        rpc_max_conns_per_client: Given<i64>,
        rpc_rate: Given<f64>,
        rpc_max_burst: Given<i64>,
        kv_max_value_size: Given<i64>,
        txn_max_req_len: Given<i64>,
        request_limits: RequestLimitsFile,
    }
    later { "https_handshake_timeout" }
}

section! {
    /// `limits.request_limits`.
    RequestLimitsFile {
        mode: Given<String>,
        read_rate: Given<f64>,
        write_rate: Given<f64>,
    }
}

section! {
    /// `ui_config`.
    UiFile {
        enabled: Given<bool>,
        dir: Given<String>,
        content_path: Given<String>,
    }
    left_out {
        "metrics_provider", "metrics_provider_files", "metrics_provider_options_json", "metrics_proxy",
        "dashboard_url_templates", "hcp_enabled",
    }
}

section! {
    /// `telemetry`.
    TelemetryFile {
        prometheus_retention_time: Given<Duration>,
        disable_hostname: Given<bool>,
        metrics_prefix: Given<String>,
        prefix_filter: Vec<Given<String>>,
        filter_default: Given<bool>,
        statsd_address: Given<String>,
        statsite_address: Given<String>,
        dogstatsd_addr: Given<String>,
        dogstatsd_tags: Vec<Given<String>>,
        enable_host_metrics: Given<bool>,
        retry_failed_connection: Given<bool>,
        disable_per_tenancy_usage_metrics: Given<bool>,
    }
    left_out {
        "disable_compat_1.9", "circonus_api_app", "circonus_api_token", "circonus_api_url", "circonus_broker_id",
        "circonus_broker_select_tag", "circonus_check_display_name", "circonus_check_force_metric_activation",
        "circonus_check_id", "circonus_check_instance_id", "circonus_check_search_tag", "circonus_check_tags",
        "circonus_submission_interval", "circonus_submission_url",
    }
    later { "retry_failed_connection", "disable_per_tenancy_usage_metrics" }
}

section! {
    /// `acl`: accepted while it is off.
    AclFile {
        enabled: Given<bool>,
        default_policy: Given<String>,
        down_policy: Given<String>,
        token_ttl: Given<Duration>,
        policy_ttl: Given<Duration>,
        role_ttl: Given<Duration>,
        enable_token_persistence: Given<bool>,
        enable_key_list_policy: Given<bool>,
        enable_token_replication: Given<bool>,
        disabled_ttl: Given<Duration>,
        tokens: TokensFile,
    }
    left_out { "msp_disable_bootstrap" }
}

section! {
    /// `acl.tokens`, under new and old names.
    TokensFile {
        initial_management = "master": Given<String>,
        default: Given<String>,
        agent: Given<String>,
        agent_recovery = "agent_master": Given<String>,
        replication: Given<String>,
        config_file_service_registration: Given<String>,
        dns: Given<String>,
    }
    left_out { "managed_service_provider" }
}

section! {
    /// `tls`.
    TlsFile {
        defaults: TlsUseFile,
        internal_rpc: TlsUseFile,
        https: TlsUseFile,
        grpc: TlsUseFile,
    }
}

section! {
    /// One of the uses of TLS.
    TlsUseFile {
        ca_file: Given<String>,
        ca_path: Given<String>,
        cert_file: Given<String>,
        key_file: Given<String>,
        tls_min_version: Given<String>,
        tls_cipher_suites: Given<String>,
        verify_incoming: Given<bool>,
        verify_outgoing: Given<bool>,
        verify_server_hostname: Given<bool>,
        server_name: Given<String>,
        use_auto_cert: Given<bool>,
    }
    later {
        "ca_file", "ca_path", "cert_file", "key_file", "tls_min_version", "tls_cipher_suites", "server_name",
        "use_auto_cert",
    }
}
