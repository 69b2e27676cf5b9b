//! Sessions that are not renewed in time end. The leader does it.
#![allow(clippy::disallowed_methods)] // how long they were not renewed is measured

use std::time::{Duration, Instant};

use muster_catalog::Topic;

use crate::desk::Desk;
use crate::raft::Raft;

/// While there are sessions that can be late it is looked this often, so that the count stands still soon where it must.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Without any, and where another server leads.
const IDLE: Duration = Duration::from_secs(60);
/// Shortest pause between two looks, however many sessions come and go: each asks a majority whether this server still leads.
const LOOK_MIN: Duration = Duration::from_millis(50);

/// Runs until the agent stops; on a client it has nothing to do.
pub(crate) async fn expire_sessions(desk: Desk) {
    let Some(raft) = desk.raft() else { return };
    let mut stop = std::pin::pin!(desk.stopping());
    let bell = desk.bells().take(&Topic::Sessions);
    loop {
        let mut rung = Box::pin(bell.rung());
        rung.as_mut().enable();
        let leads = raft.is_leader();
        let mut pause = IDLE;
        if leads {
            look(&desk, raft).await;
            pause = desk.leases().next().map_or(IDLE, |next| next.clamp(LOOK_MIN, LOOK_EVERY));
        } else {
            desk.leases().forget();
        }
        tokio::select! {
            () = &mut stop => return,
            () = rung => tokio::time::sleep(LOOK_MIN).await,
            () = leads_now(raft), if !leads => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn leads_now(raft: &Raft) {
    if raft.settled().await.is_err() {
        std::future::pending::<()>().await; // raft has stopped, and so will the agent
    }
}

async fn look(desk: &Desk, raft: &Raft) {
    // A leader that has just begun does not know yet which sessions there are.
    if desk.caught_up().await.is_err() {
        return;
    }
    let state = desk.reader().load().clone();
    let over = desk.leases().look(raft.status().term, &state, Instant::now(), desk.age().0);
    for session in over.iter().filter_map(|id| state.session(*id)) {
        let began = Instant::now();
        match desk.expire(session).await {
            Ok(()) => {
                metrics::histogram!("session_ttl.invalidate").record(began.elapsed().as_secs_f64() * 1e3);
                tracing::info!(session = %session.id, node = %session.node, ttl = %session.ttl, "a session was not renewed in time");
            }
            Err(error) => {
                tracing::debug!(session = %session.id, error = &error as &dyn std::error::Error, "a session could not be ended");
                desk.leases().try_again(session.id);
            }
        }
    }
}
