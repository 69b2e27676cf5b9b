//! The leader lets servers in that gossip shows, and takes out those that left or died: never so many that no majority is left.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use crate::desk::{Desk, Member, Standing};
use crate::raft::{MemberError, Raft, RaftId};

/// How often is looked, whatever was heard: Consul's autopilot looks every ten seconds, and a server that comes should not wait
/// for that.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What decides about dead servers (Consul's `autopilot`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upkeep {
    /// Whether servers that failed go when a new one has come.
    pub(crate) cleanup_dead_servers: bool,
    /// Voters that are left at least.
    pub(crate) min_quorum: u32,
}

/// Runs until the agent stops.
pub(crate) async fn keep_servers(desk: Desk, upkeep: Upkeep) {
    let mut stop = std::pin::pin!(desk.stopping());
    let mut version = desk.cluster().version();
    loop {
        version.borrow_and_update();
        if let Some(raft) = desk.raft().filter(|raft| raft.is_leader()) {
            look(raft, &desk.cluster().members(), upkeep).await;
        }
        tokio::select! {
            () = &mut stop => return,
            changed = version.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn look(raft: &Raft, members: &[Member], upkeep: Upkeep) {
    let servers = raft.servers();
    let voter_of =
        |member: &Member| member.raft.and_then(|id| servers.iter().find(|server| server.id.uuid() == id && server.voter));
    let standing = |node: Uuid| members.iter().find(|member| member.id == node).map(|member| member.standing);
    for member in members.iter().filter(|member| member.standing == Standing::Alive && member.is_server()) {
        let Some(id) = member.raft.filter(|_| voter_of(member).is_none()) else { continue };
        // A server of the same name that is dead makes room for it in the same change.
        let namesakes = members.iter().filter(|other| other.name == member.name && other.id != member.id);
        let dead = |server: &crate::raft::Server| standing(server.node).is_some_and(|standing| standing != Standing::Alive);
        let mut replaced: BTreeSet<RaftId> =
            namesakes.flat_map(|other| servers.iter().filter(|server| server.node == other.id)).map(|server| server.id).collect();
        if upkeep.cleanup_dead_servers && replaced.is_empty() {
            replaced.extend(servers.iter().filter(|server| server.voter && dead(server)).map(|server| server.id).take(1));
        }
        match raft.add_server(RaftId::of(id), member.id, &replaced).await {
            Ok(()) => tracing::info!(node = %member.name, %id, ?replaced, "a server has a vote"),
            Err(error) => tell(&member.name, "a server could not be let in", &error),
        }
        return; // one at a time: what follows looks at what came of it
    }
    let gone: BTreeSet<RaftId> = servers
        .iter()
        .filter(|server| server.id != raft.id() && standing(server.node) == Some(Standing::Left))
        .map(|server| server.id)
        .collect();
    let voters = servers.iter().filter(|server| server.voter && !gone.contains(&server.id)).count();
    if gone.is_empty() || voters < upkeep.min_quorum as usize {
        return;
    }
    match raft.remove_servers(&gone).await {
        Ok(()) => tracing::info!(?gone, "servers that left have no vote any more"),
        Err(error) => tell("", "servers that left keep their vote", &error),
    }
}

fn tell(node: &str, what: &str, error: &MemberError) {
    match error {
        MemberError::NotLeader { .. } | MemberError::Undecided => tracing::debug!(node, %error, "{what}"),
        error => tracing::warn!(node, %error, "{what}"),
    }
}
