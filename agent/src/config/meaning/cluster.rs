//! The cluster: who makes it, how others are found, how they are watched.

use std::time::Duration;

use super::{Meaning, text, value};
use crate::config::file::ConfigFile;
use crate::config::join::JoinAddress;
use crate::config::key::GossipKey;
use crate::config::settled::{
    AbsenceConfig, Addresses, AutopilotConfig, ClusterConfig, GossipConfig, JoinConfig, Replica, RpcConfig,
};

/// Shortest time that a member which failed is kept (Consul's): a host is not forgotten over a night's repair.
const RECONNECT_TIMEOUT_MIN: Duration = Duration::from_secs(8 * 3600);
/// Shortest interval of probes and gossip: below, the packets cost more than the news is worth.
const GOSSIP_PACE_MIN: Duration = Duration::from_millis(10);
/// Servers that may be waited for: each write waits for a majority, and nobody gains from more than nine.
const BOOTSTRAP_EXPECT_MAX: i64 = 99;
/// Most places to look for others: each is looked up at every attempt.
const JOIN_ADDRESSES_MAX: usize = 256;

impl Meaning {
    pub(super) fn cluster(&mut self, file: &ConfigFile, server: bool, addresses: &Addresses) -> ClusterConfig {
        let bootstrap_expect = self.bootstrap_expect(file, server);
        let join = self.join(file);
        self.ports_of_a_cluster(file, server, bootstrap_expect, &join, addresses);
        if self.complete && join.retry.is_empty() && bootstrap_expect == 0 {
            self.warnings.push(if server {
                "neither bootstrap, bootstrap_expect nor retry_join is set: with an empty data_dir this server waits for a leader"
                    .to_owned()
            } else {
                "retry_join is not set: unless its data_dir names others, this agent knows nobody until `muster join` tells it"
                    .to_owned()
            });
        }
        let calm = AbsenceConfig::default();
        ClusterConfig {
            bootstrap_expect,
            join,
            gossip: self.gossip(file),
            autopilot: self.autopilot(file),
            rpc: self.rpc(file),
            absence: AbsenceConfig {
                restart_grace: value(&file.restart_grace, calm.restart_grace),
                mass_loss_hold: value(&file.mass_loss_hold, calm.mass_loss_hold),
            },
            replica: self.replica(file, server),
            max_stale: value(&file.max_stale, Duration::from_secs(87_600 * 3600)),
            replace: false,
            forget_cluster: false,
        }
    }

    fn bootstrap_expect(&mut self, file: &ConfigFile, server: bool) -> u32 {
        let bootstrap = file.bootstrap.as_ref().filter(|given| given.value);
        let expect: u32 = self.number("bootstrap_expect", &file.bootstrap_expect, 0..=BOOTSTRAP_EXPECT_MAX, 0);
        let given = file.bootstrap_expect.as_ref().filter(|_| expect > 0);
        if let (Some(given), true) = (given, bootstrap.is_some()) {
            let wanted = "cannot stand beside bootstrap = true: remove one of them";
            self.fault("bootstrap_expect", given, expect.to_string(), wanted);
        }
        // While flags may yet make it a server, nothing is known.
        if !server && (self.complete || file.server.is_some()) {
            let wanted = "only a server makes a cluster: set server = true, or remove it";
            if let Some(given) = given {
                self.fault("bootstrap_expect", given, expect.to_string(), wanted);
            }
            if let Some(given) = bootstrap {
                self.fault("bootstrap", given, "true".to_owned(), wanted);
            }
        }
        if let (Some(given), true) = (given, self.dev && expect > 1) {
            let wanted = "cannot stand beside -dev, which is a cluster of one that keeps nothing: remove one of them";
            self.fault("bootstrap_expect", given, expect.to_string(), wanted);
        }
        match expect {
            0 | 1 => {}
            2 => self.warnings.push(
                "bootstrap_expect = 2: of two servers both are needed, so that the loss of either stops all writes: use 3"
                    .to_owned(),
            ),
            even if even % 2 == 0 => self.warnings.push(format!(
                "bootstrap_expect = {even}: an even number of servers survives no more losses than {} do: use an odd one",
                even - 1
            )),
            _ => {}
        }
        if expect == 0 && server && (self.dev || bootstrap.is_some()) { 1 } else { expect }
    }

    fn join(&mut self, file: &ConfigFile) -> JoinConfig {
        let mut retry = Vec::new();
        let written = || file.retry_join.iter().flatten().filter(|given| !given.value.trim().is_empty());
        for given in written() {
            match JoinAddress::parse(given.value.trim()) {
                Ok(address) => retry.push(address),
                Err(wanted) => self.bad_text("retry_join", given, wanted),
            }
        }
        if let Some(given) = written().nth(JOIN_ADDRESSES_MAX) {
            let wanted = format!("is one too many: at most {JOIN_ADDRESSES_MAX}, of which one that answers is enough");
            self.bad_text("retry_join", given, wanted);
        }
        let attempts: u32 = self.number("retry_max", &file.retry_max, 0..=i64::from(u32::MAX), 0);
        JoinConfig {
            retry,
            interval: self.pace("retry_interval", &file.retry_interval, Duration::from_secs(30)),
            attempts_max: Some(attempts).filter(|attempts| *attempts > 0),
            rejoin_after_leave: value(&file.rejoin_after_leave, false),
        }
    }

    /// Who is to meet others needs the ports on which they meet.
    fn ports_of_a_cluster(&mut self, file: &ConfigFile, server: bool, expect: u32, join: &JoinConfig, addresses: &Addresses) {
        let reason = match (server, expect) {
            (false, _) if self.complete || file.server.is_some() => "a client agent",
            (_, 2..) => "bootstrap_expect above 1",
            _ if !join.retry.is_empty() => "retry_join",
            _ => return,
        };
        let Some(ports) = &file.ports else { return };
        for (key, given, open) in [
            ("ports.serf_lan", &ports.serf_lan, addresses.serf_lan.is_some()),
            ("ports.server", &ports.server, addresses.server.is_some() || !server),
        ] {
            if let (Some(given), false) = (given, open) {
                self.fault(key, given, given.value.to_string(), format!("must be a port: {reason} needs it"));
            }
        }
    }

    fn gossip(&mut self, file: &ConfigFile) -> GossipConfig {
        let lan = file.gossip_lan.clone().unwrap_or_default();
        let key = text(&file.encrypt).and_then(|given| match GossipKey::parse(&given.value) {
            Ok(key) => Some(key),
            Err(wanted) => {
                self.fault("encrypt", given, String::new(), wanted);
                None
            }
        });
        for (name, given) in [
            ("encrypt_verify_incoming", &file.encrypt_verify_incoming),
            ("encrypt_verify_outgoing", &file.encrypt_verify_outgoing),
        ] {
            if let (Some(given), Some(_)) = (given.as_ref().filter(|given| !given.value), &key) {
                let wanted = "members with a key neither take nor send anything in the clear: remove it, and start all agents with the key";
                self.fault(name, given, "false".to_owned(), wanted);
            }
        }
        let probe_interval =
            self.at_least("gossip_lan.probe_interval", &lan.probe_interval, GOSSIP_PACE_MIN, Duration::from_secs(1));
        let mut probe_timeout = self.at_least(
            "gossip_lan.probe_timeout",
            &lan.probe_timeout,
            GOSSIP_PACE_MIN / 2,
            Duration::from_millis(500).min(probe_interval / 2),
        );
        if let (Some(given), true) = (&lan.probe_timeout, probe_timeout >= probe_interval) {
            let shown = crate::config::duration::text(probe_timeout);
            self.fault("gossip_lan.probe_timeout", given, shown, "must be shorter than gossip_lan.probe_interval");
            probe_timeout = probe_interval / 2;
        }
        GossipConfig {
            key,
            keep_keyring: !value(&file.disable_keyring_file, false) && !self.dev,
            gossip_interval: self.at_least(
                "gossip_lan.gossip_interval",
                &lan.gossip_interval,
                GOSSIP_PACE_MIN,
                Duration::from_millis(200),
            ),
            gossip_nodes: self.number("gossip_lan.gossip_nodes", &lan.gossip_nodes, 1..=16, 3),
            probe_interval,
            probe_timeout,
            retransmit_mult: self.number("gossip_lan.retransmit_mult", &lan.retransmit_mult, 1..=32, 4),
            suspicion_mult: self.number("gossip_lan.suspicion_mult", &lan.suspicion_mult, 1..=32, 4),
            reconnect_timeout: self.at_least(
                "reconnect_timeout",
                &file.reconnect_timeout,
                RECONNECT_TIMEOUT_MIN,
                Duration::from_secs(72 * 3600),
            ),
        }
    }

    fn autopilot(&mut self, file: &ConfigFile) -> AutopilotConfig {
        let autopilot = file.autopilot.clone().unwrap_or_default();
        AutopilotConfig {
            cleanup_dead_servers: value(&autopilot.cleanup_dead_servers, true),
            last_contact_threshold: self.pace(
                "autopilot.last_contact_threshold",
                &autopilot.last_contact_threshold,
                Duration::from_millis(200),
            ),
            max_trailing_logs: self.number("autopilot.max_trailing_logs", &autopilot.max_trailing_logs, 0..=i64::MAX, 250),
            min_quorum: self.number("autopilot.min_quorum", &autopilot.min_quorum, 0..=BOOTSTRAP_EXPECT_MAX, 0),
            server_stabilization_time: value(&autopilot.server_stabilization_time, Duration::from_secs(10)),
        }
    }

    fn rpc(&mut self, file: &ConfigFile) -> RpcConfig {
        let limits = file.limits.clone().unwrap_or_default();
        RpcConfig {
            handshake_timeout: self.pace("limits.rpc_handshake_timeout", &limits.rpc_handshake_timeout, Duration::from_secs(5)),
            client_timeout: self.pace("limits.rpc_client_timeout", &limits.rpc_client_timeout, Duration::from_secs(60)),
            max_conns_per_client: self.number(
                "limits.rpc_max_conns_per_client",
                &limits.rpc_max_conns_per_client,
                0..=i64::from(u32::MAX),
                100,
            ),
            // Consul's way to say that there is none is a negative number.
            rate: limits.rpc_rate.as_ref().map(|given| given.value).filter(|rate| *rate >= 0.0),
            burst: self.number("limits.rpc_max_burst", &limits.rpc_max_burst, 0..=i64::from(u32::MAX), 1000),
        }
    }

    fn replica(&mut self, file: &ConfigFile, server: bool) -> Replica {
        let words = [("full", Replica::Full), ("interest", Replica::Interest), ("none", Replica::None)];
        let replica = self.word("replica", &file.replica, &words, Replica::Full);
        match &file.replica {
            Some(given) if server && replica != Replica::Full => {
                self.bad_text("replica", given, "a server holds the whole catalog: remove it, or set server = false");
                Replica::Full
            }
            _ => replica,
        }
    }
}
