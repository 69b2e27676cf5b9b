//! The agent's figures, by section, every one of them a text: what `info` prints.

use muster_catalog::Probe;
use serde_json::{Value, json};

use super::super::Door;
use crate::config::{CONSUL_VERSION, Config};
use crate::desk::Standing;
use crate::raft::{Missing, Raft, Role, Status};

/// All sections.
pub(super) fn all(door: &Door, config: &Config) -> Value {
    let mut all = json!({
        "agent": agent(door),
        "build": { "prerelease": "", "revision": "", "version": CONSUL_VERSION },
        "consul": consul(door, config),
        "runtime": {
            "arch": std::env::consts::ARCH,
            "cpu_count": std::thread::available_parallelism().map_or(1, usize::from).to_string(),
            "os": std::env::consts::OS,
        },
        "serf_lan": serf(door, config),
    });
    if let Some(log) = door.desk.raft() {
        all["raft"] = raft(&log.status());
        all["raft"]["missing_servers"] = missing(&log.missing()).into();
    }
    if let Some(server) = door.desk.quorum().followed() {
        all["consul"]["followed_server"] = server.to_string().into();
    }
    all
}

/// Voters that this server does not hear, and since when.
fn missing(missing: &[Missing]) -> String {
    let one = |one: &Missing| format!("{} of node {} for {}", one.id, one.node, crate::config::duration::text(one.silence));
    missing.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn serf(door: &Door, config: &Config) -> Value {
    let members = door.desk.cluster().members();
    let count = |standing| members.iter().filter(|member| member.standing == standing).count().to_string();
    json!({
        "encrypted": config.cluster.gossip.key.is_some().to_string(),
        "failed": count(Standing::Failed),
        "left": count(Standing::Left),
        "members": members.len().to_string(),
    })
}

fn agent(door: &Door) -> Value {
    let (services, checks, monitors, ttls) = door.desk.local().look(|local| {
        let probes = || local.checks().values().filter_map(|local| local.definition.as_ref()).map(|told| &told.probe);
        let ttls = probes().filter(|probe| matches!(probe, Probe::Ttl(_))).count();
        let aliases = probes().filter(|probe| matches!(probe, Probe::Alias(_))).count();
        (local.services().len(), local.checks().len(), probes().count() - ttls - aliases, ttls)
    });
    json!({
        "check_monitors": monitors.to_string(),
        "check_ttls": ttls.to_string(),
        "checks": checks.to_string(),
        "services": services.to_string(),
    })
}

fn consul(door: &Door, config: &Config) -> Value {
    let leader = door.desk.servers_here().leader().and_then(|leader| leader.address);
    json!({
        "acl": "disabled",
        "bootstrap": config.bootstrap.to_string(),
        "known_datacenters": "1",
        "leader": door.desk.raft().is_some_and(Raft::is_leader).to_string(),
        "leader_addr": leader.map(|address| address.to_string()).unwrap_or_default(),
        "server": config.server.to_string(),
    })
}

fn raft(status: &Status) -> Value {
    let state = match status.role {
        Role::Learner => "Nonvoter",
        Role::Follower => "Follower",
        Role::Candidate => "Candidate",
        Role::Leader => "Leader",
        Role::Shutdown => "Shutdown",
    };
    let contact = match (status.role, status.last_contact) {
        (Role::Leader, _) => "0".to_owned(),
        (_, Some(ago)) => crate::config::duration::text(ago),
        (_, None) => "never".to_owned(),
    };
    let servers: Vec<String> = status
        .configuration
        .iter()
        .map(|(raft, node, votes)| format!("{} {node} ({raft})", if *votes { "voter" } else { "learner" }))
        .collect();
    json!({
        "applied_index": status.applied_index.to_string(),
        "commit_index": status.commit_index.to_string(),
        "fsm_pending": status.commit_index.saturating_sub(status.applied_index).to_string(),
        "last_contact": contact,
        "last_log_index": status.last_log_index.to_string(),
        "last_log_term": status.last_log_term.to_string(),
        "last_snapshot_index": status.last_snapshot_index.to_string(),
        "last_snapshot_term": status.last_snapshot_term.to_string(),
        "latest_configuration": servers.join(", "),
        "latest_configuration_index": status.configuration_index.to_string(),
        "num_peers": status.num_peers.to_string(),
        "protocol_version": "3",
        "state": state,
        "term": status.term.to_string(),
    })
}
