//! The leader lets servers in that gossip shows, and takes out those that left or died: never so many that no majority is left.
#![allow(clippy::disallowed_methods)] // how long a server has been there is told by the clock

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_catalog::Autopilot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::desk::{Desk, Health, Member, Standing};
use crate::raft::{MemberError, Raft, RaftId, Server};

/// How often is looked, whatever was heard: Consul's autopilot looks every ten seconds, and a server that comes should not wait
/// for that.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A leader that is this much younger than a new server has to wait, times that, makes nobody wait: a cluster that begins, or
/// has just lost its leader, needs its servers now (as Consul's autopilot).
const YOUNG: f64 = 1.1;

/// A server that gossip has never shown here, and that does not answer either, is gone after this time: a leader that has just been
/// started meets the members within moments, and an agent that lost everybody asks again within ten seconds.
const UNMET_MAX: Duration = Duration::from_secs(30);

/// What is remembered from look to look.
#[derive(Default)]
struct Watch {
    /// Since when this server leads.
    leads: Option<Instant>,
    /// Since when servers without a vote have been there.
    there: BTreeMap<Uuid, Instant>,
    /// Nodes of servers that gossip has shown here, whoever led.
    met: BTreeSet<Uuid>,
}

/// Runs until the agent stops.
pub(crate) async fn keep_servers(desk: Desk) {
    let mut stop = std::pin::pin!(desk.stopping());
    let mut version = desk.cluster().version();
    let mut watch = Watch::default();
    loop {
        version.borrow_and_update();
        if let Some(raft) = desk.raft() {
            let members = desk.cluster().members();
            watch.meet(&raft.servers(), &members);
            if raft.is_leader() {
                show(desk.judge_servers());
                look(raft, &members, &desk.autopilot(), &mut watch).await;
            } else {
                (watch.leads, watch.there) = (None, BTreeMap::new());
            }
        }
        tokio::select! {
            () = &mut stop => return,
            changed = version.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn show(health: Option<Health>) {
    if let Some(health) = health {
        metrics::gauge!("autopilot.healthy").set(f64::from(u8::from(health.healthy)));
        metrics::gauge!("autopilot.failure_tolerance").set(health.failure_tolerance as f64);
    }
}

impl Watch {
    /// Whether this server may have its vote: it has been there for long enough.
    fn is_stable(&mut self, id: Uuid, wait: Duration) -> bool {
        let now = Instant::now();
        let there = *self.there.entry(id).or_insert(now);
        let leads = *self.leads.get_or_insert(now);
        now.duration_since(leads) < wait.mul_f64(YOUNG) || now.duration_since(there) >= wait
    }

    fn keep(&mut self, ids: &BTreeSet<Uuid>) {
        self.leads.get_or_insert_with(Instant::now);
        self.there.retain(|id, _| ids.contains(id));
    }

    fn meet(&mut self, servers: &[Server], members: &[Member]) {
        let shown = |node: Uuid| members.iter().any(|member| member.id == node);
        self.met = servers.iter().map(|server| server.node).filter(|node| self.met.contains(node) || shown(*node)).collect();
    }

    /// Whether a server that gossip does not show was forgotten: its time as one of the dead is over, an operator pruned it, or
    /// another has its name now.
    fn forgot(&self, server: &Server, settings: &Autopilot) -> bool {
        let silent = || server.last_contact.is_none_or(|silence| silence >= UNMET_MAX);
        let led_long = || self.leads.is_some_and(|since| since.elapsed() >= UNMET_MAX);
        self.met.contains(&server.node) || (settings.cleanup_dead_servers && led_long() && silent())
    }
}

async fn look(raft: &Raft, members: &[Member], settings: &Autopilot, watch: &mut Watch) {
    let servers = raft.servers();
    let voter_of =
        |member: &Member| member.raft.and_then(|id| servers.iter().find(|server| server.id.uuid() == id && server.voter));
    let standing = |node: Uuid| members.iter().find(|member| member.id == node).map(|member| member.standing);
    let alive = || members.iter().filter(|member| member.standing == Standing::Alive && member.is_server());
    let without_vote = alive().filter(|member| voter_of(member).is_none());
    // Of the leader itself gossip may say for a moment that nobody is there: it never takes its own vote.
    let others = || servers.iter().filter(|server| server.id != raft.id());
    watch.keep(&without_vote.filter_map(|member| member.raft).collect());
    for member in alive() {
        let Some(id) = member.raft.filter(|_| voter_of(member).is_none()) else { continue };
        if !watch.is_stable(id, settings.server_stabilization_time) {
            continue;
        }
        // A server of the same name that is dead makes room for it in the same change; or another that is.
        let namesakes = members.iter().filter(|other| other.name == member.name && other.id != member.id);
        let dead = |server: &Server| match standing(server.node) {
            Some(standing) => standing != Standing::Alive && settings.cleanup_dead_servers,
            None => watch.forgot(server, settings),
        };
        let mut replaced: BTreeSet<RaftId> =
            namesakes.flat_map(|other| servers.iter().filter(|server| server.node == other.id)).map(|server| server.id).collect();
        if replaced.is_empty() {
            replaced.extend(others().filter(|server| server.voter && dead(server)).map(|server| server.id).take(1));
        }
        match raft.add_server(RaftId::of(id), member.id, &replaced).await {
            Ok(()) => tracing::info!(node = %member.name, %id, ?replaced, "a server has a vote"),
            Err(error) => tell(&member.name, "a server could not be let in", &error),
        }
        return; // one at a time: what follows looks at what came of it
    }
    let gone: BTreeSet<RaftId> = others()
        .filter(|server| standing(server.node).map_or_else(|| watch.forgot(server, settings), |it| it == Standing::Left))
        .map(|server| server.id)
        .collect();
    let voters = servers.iter().filter(|server| server.voter && !gone.contains(&server.id)).count();
    if gone.is_empty() || voters < settings.min_quorum as usize {
        return;
    }
    match raft.remove_servers(&gone).await {
        Ok(()) => tracing::info!(?gone, "servers that left or are forgotten have no vote any more"),
        Err(error) => tell("", "servers that left keep their vote", &error),
    }
}

fn tell(node: &str, what: &str, error: &MemberError) {
    match error {
        MemberError::NotLeader { .. } | MemberError::Undecided => tracing::debug!(node, %error, "{what}"),
        error => tracing::warn!(node, %error, "{what}"),
    }
}
