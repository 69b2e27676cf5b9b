//! What a reload changes: the new configuration's reloadable values are taken over, the rest is named.

use super::settled::{Config, DnsConfig, HttpConfig, LogConfig, RpcConfig};

/// What came of comparing a new configuration with the running one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reloaded {
    /// Keys that have a new value from now on.
    pub(crate) applied: Vec<&'static str>,
    /// Keys that were changed in the files and wait for a restart.
    pub(crate) restart: Vec<&'static str>,
}

/// Takes over what may change, names what may not.
struct Diff {
    reloaded: Reloaded,
}

impl Diff {
    fn apply<T: PartialEq>(&mut self, key: &'static str, now: &mut T, new: T) {
        if *now != new {
            *now = new;
            self.reloaded.applied.push(key);
        }
    }

    fn keep<T: PartialEq>(&mut self, key: &'static str, now: &T, new: &T) {
        if now != new {
            self.reloaded.restart.push(key);
        }
    }
}

impl Config {
    /// This configuration with the reloadable values of `new`, and what that changes. What needs a restart stays as it is.
    pub(crate) fn reload_into(&self, new: Config) -> (Config, Reloaded) {
        let mut now = self.clone();
        let mut diff = Diff { reloaded: Reloaded::default() };
        // Every field is named, so that a new one cannot be forgotten here.
        let Config {
            dev,
            server,
            bootstrap: _, // told with bootstrap_expect
            cluster,
            data_dir,
            datacenter,
            primary_datacenter,
            node_name,
            node_id,
            node_meta,
            auto_reload,
            pid_file,
            leave_on_terminate,
            skip_leave_on_interrupt,
            addresses,
            dns,
            http,
            ui,
            checks,
            services,
            lone_checks,
            watches,
            raft,
            log,
            telemetry,
            session_ttl_min,
            translate_wan_addrs,
            disable_coordinates,
            disable_kv_key_validation,
            disable_http_unprintable_char_filter,
            enable_debug,
            leave_drain_time,
            rpc_hold_timeout,
        } = new;
        diff.keep("dev", &now.dev, &dev);
        diff.keep("server", &now.server, &server);
        // How long old answers go on is asked with each of them; everything else is told the members at the start.
        diff.apply("max_stale", &mut now.cluster.max_stale, cluster.max_stale);
        diff.keep("retry_join and how it is repeated", &now.cluster.join, &cluster.join);
        diff.keep("encrypt, gossip_lan and reconnect_timeout", &now.cluster.gossip, &cluster.gossip);
        diff.keep("autopilot", &now.cluster.autopilot, &cluster.autopilot);
        diff.keep("limits.rpc_client_timeout", &now.cluster.rpc.client_timeout, &cluster.rpc.client_timeout);
        let client_timeout = now.cluster.rpc.client_timeout;
        diff.apply("limits.rpc_*", &mut now.cluster.rpc, RpcConfig { client_timeout, ..cluster.rpc });
        diff.keep("restart_grace and mass_loss_hold", &now.cluster.absence, &cluster.absence);
        diff.keep("replica", &now.cluster.replica, &cluster.replica);
        diff.keep("bootstrap_expect", &now.cluster.bootstrap_expect, &cluster.bootstrap_expect);
        diff.keep("data_dir", &now.data_dir, &data_dir);
        diff.keep("datacenter", &now.datacenter, &datacenter);
        diff.keep("primary_datacenter", &now.primary_datacenter, &primary_datacenter);
        diff.keep("node_name", &now.node_name, &node_name);
        diff.keep("node_id", &now.node_id, &node_id);
        diff.apply("node_meta", &mut now.node_meta, node_meta);
        diff.keep("auto_reload_config", &now.auto_reload, &auto_reload);
        diff.keep("pid_file", &now.pid_file, &pid_file);
        diff.apply("leave_on_terminate", &mut now.leave_on_terminate, leave_on_terminate);
        diff.apply("skip_leave_on_interrupt", &mut now.skip_leave_on_interrupt, skip_leave_on_interrupt);
        diff.keep("addresses and ports", &now.addresses, &addresses);

        diff.keep("domain", &now.dns.domain, &dns.domain);
        diff.keep("alt_domain", &now.dns.alt_domain, &dns.alt_domain);
        let names = (now.dns.domain.clone(), now.dns.alt_domain.clone());
        diff.apply("dns_config", &mut now.dns, DnsConfig { domain: names.0, alt_domain: names.1, ..dns });

        diff.keep("default_reads", &now.http.default_reads, &http.default_reads);
        let default_reads = now.http.default_reads;
        diff.apply("http_config, limits and query times", &mut now.http, HttpConfig { default_reads, ..http });
        diff.keep("ui_config", &now.ui, &ui);

        diff.apply("discard_check_output", &mut now.checks.discard_output, checks.discard_output);
        diff.apply("enable_script_checks", &mut now.checks.remote_scripts, checks.remote_scripts);
        diff.apply("enable_local_script_checks", &mut now.checks.local_scripts, checks.local_scripts);
        diff.apply("check_output_max_size", &mut now.checks.output_bytes_max, checks.output_bytes_max);
        diff.keep("enable_agent_tls_for_checks and its files", &now.checks.tls, &checks.tls);
        diff.apply("check_update_interval", &mut now.checks.update_interval, checks.update_interval);
        diff.keep("anti_entropy", &now.checks.anti_entropy, &checks.anti_entropy);
        diff.apply("services", &mut now.services, services);
        diff.apply("checks", &mut now.lone_checks, lone_checks);
        diff.apply("watches", &mut now.watches, watches);

        diff.keep("performance.raft_multiplier", &now.raft.multiplier, &raft.multiplier);
        diff.keep("raft_snapshot_threshold", &now.raft.snapshot_threshold, &raft.snapshot_threshold);
        diff.keep("raft_trailing_logs", &now.raft.trailing_logs, &raft.trailing_logs);

        diff.apply("log_level", &mut now.log.level, log.level);
        let level = now.log.level;
        diff.keep("log_json and log files", &now.log, &LogConfig { level, ..log });
        diff.apply("telemetry.prefix_filter", &mut now.telemetry.prefix_filter, telemetry.prefix_filter.clone());
        diff.apply("telemetry.filter_default", &mut now.telemetry.filter_default, telemetry.filter_default);
        diff.keep("telemetry", &now.telemetry, &telemetry);

        diff.apply("session_ttl_min", &mut now.session_ttl_min, session_ttl_min);
        diff.apply("translate_wan_addrs", &mut now.translate_wan_addrs, translate_wan_addrs);
        diff.keep("disable_coordinates", &now.disable_coordinates, &disable_coordinates);
        diff.apply("disable_kv_key_validation", &mut now.disable_kv_key_validation, disable_kv_key_validation);
        diff.apply(
            "disable_http_unprintable_char_filter",
            &mut now.disable_http_unprintable_char_filter,
            disable_http_unprintable_char_filter,
        );
        diff.apply("enable_debug", &mut now.enable_debug, enable_debug);
        diff.keep("performance.leave_drain_time", &now.leave_drain_time, &leave_drain_time);
        diff.keep("performance.rpc_hold_timeout", &now.rpc_hold_timeout, &rpc_hold_timeout);
        (now, diff.reloaded)
    }
}
