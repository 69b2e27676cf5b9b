//! How healthy the servers are, and the settings that say what that means.
#![allow(clippy::disallowed_methods)] // how long a server has been well is told by the wall clock

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use muster_catalog::{Autopilot, AutopilotRow, AutopilotSet, Index};
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, ToSmolStr as _};
use uuid::Uuid;

use super::cluster::Standing;
use super::{Act, Consistency, Desk, DeskError, Who, allow, travel};
use crate::raft::{Raft, RaftId};

/// How healthy the servers are, as their leader sees it. It travels between agents: fields are only added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Health {
    /// Whether all of them are.
    pub(crate) healthy: bool,
    /// Voters that may be lost while a majority is left.
    pub(crate) failure_tolerance: usize,
    /// What it is judged by.
    pub(crate) settings: Autopilot,
    pub(crate) servers: Vec<ServerHealth>,
}

/// One server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ServerHealth {
    pub(crate) node: Uuid,
    pub(crate) name: SmolStr,
    pub(crate) address: Option<SocketAddr>,
    /// Gossip's word for how it stands.
    pub(crate) standing: SmolStr,
    pub(crate) version: SmolStr,
    pub(crate) meta: muster_catalog::Meta,
    pub(crate) leader: bool,
    pub(crate) votes: bool,
    pub(crate) last_contact_ms: u64,
    pub(crate) last_term: u64,
    pub(crate) last_index: Index,
    pub(crate) healthy: bool,
    /// Since when that is so, milliseconds since 1970.
    pub(crate) since_ms: u64,
}

/// What a server keeps for it.
pub(super) struct Watched {
    /// As this agent's configuration has it; what was set for all goes before it.
    told: Autopilot,
    since: Mutex<BTreeMap<RaftId, (bool, u64)>>,
}

impl Watched {
    pub(super) fn new(told: Autopilot) -> Self {
        Self { told, since: Mutex::default() }
    }

    fn since(&self) -> MutexGuard<'_, BTreeMap<RaftId, (bool, u64)>> {
        self.since.lock().expect("no holder panics: numbers are moved")
    }
}

impl Desk {
    /// What holds: as it was set for all, else as this agent's configuration has it.
    pub(crate) fn autopilot(&self) -> Autopilot {
        self.reader().load().autopilot().map_or(self.0.watched.told, |row| row.settings)
    }

    /// How it was set and where, or else as the leader's configuration has it.
    pub(crate) async fn autopilot_row(&self, who: &Who, consistency: Consistency) -> Result<AutopilotRow, DeskError> {
        if let Some(row) = self.read(who, &AutopilotSet {}, consistency, None).await?.answer {
            return Ok(AutopilotRow::clone(&row));
        }
        let settings = self.server_health(who).await?.settings;
        Ok(AutopilotRow { settings, create_index: 0, modify_index: 0 })
    }

    /// How healthy the servers are: the leader's word.
    pub(crate) async fn server_health(&self, who: &Who) -> Result<Health, DeskError> {
        allow(who, &Act::Read)?;
        if let Some(health) = self.judge_servers() {
            return Ok(health);
        }
        let answer = self.ask_leader_for_health(who).await?;
        travel::read(&answer).ok_or(DeskError::Foreign)
    }

    /// The same, ready to travel; `None` if this server does not lead.
    pub(super) fn health_here(&self) -> Option<Bytes> {
        let health = self.judge_servers()?;
        Some(rmp_serde::to_vec_named(&health).expect("plain data can be written to memory").into())
    }

    /// Looks at each server; only on the leader, which alone hears all of them.
    pub(crate) fn judge_servers(&self) -> Option<Health> {
        let raft = self.raft().filter(|raft| raft.is_leader())?;
        let (settings, now_ms) = (self.autopilot(), self.clock_ms());
        let servers = self.judged(raft, &settings, now_ms);
        let voters = servers.iter().filter(|server| server.votes).count();
        let well = servers.iter().filter(|server| server.votes && server.healthy).count();
        Some(Health {
            healthy: servers.iter().all(|server| server.healthy),
            failure_tolerance: well.saturating_sub(voters / 2 + 1),
            settings,
            servers,
        })
    }

    fn judged(&self, raft: &Raft, settings: &Autopilot, now_ms: u64) -> Vec<ServerHealth> {
        let (status, members, known) = (raft.status(), self.cluster().members(), self.servers_here());
        let mut since = self.0.watched.since();
        let all = raft.servers();
        since.retain(|id, _| all.iter().any(|server| server.id == *id));
        let judge = |server: crate::raft::Server| {
            let own = server.id == raft.id();
            let member = members.iter().find(|member| member.id == server.node);
            let standing = member.map_or(if own { Standing::Alive } else { Standing::Failed }, |member| member.standing);
            let last_contact = if own { Some(Duration::ZERO) } else { server.last_contact };
            let last_index = if own { status.last_log_index } else { server.matching.unwrap_or(0) };
            let healthy = standing == Standing::Alive
                && last_contact.is_some_and(|silence| silence <= settings.last_contact_threshold)
                && last_index.saturating_add(settings.max_trailing_logs) >= status.last_log_index;
            let (was, since_ms) = since.entry(server.id).or_insert((healthy, now_ms));
            if *was != healthy {
                (*was, *since_ms) = (healthy, now_ms);
            }
            let listed = known.servers.iter().find(|known| known.raft == server.id.to_smolstr());
            ServerHealth {
                node: server.node,
                name: listed.and_then(|listed| listed.name.clone()).unwrap_or_default(),
                address: listed.and_then(|listed| listed.address),
                standing: standing.word().into(),
                version: member.map(|member| version(member.tag("build"))).unwrap_or_default(),
                meta: member.map(|member| member.meta.clone()).unwrap_or_default(),
                leader: own,
                votes: server.voter,
                last_contact_ms: last_contact.map_or(0, |silence| silence.as_millis() as u64),
                last_term: status.term,
                last_index,
                healthy,
                since_ms: *since_ms,
            }
        };
        all.into_iter().map(judge).collect()
    }
}

/// The version in a build's name.
fn version(build: &str) -> SmolStr {
    build.split(':').next().unwrap_or_default().into()
}
