//! What runs from the start to the end beside the doors of clients: gossip, the door of other agents, loops, measures.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{cluster, found, listen, settings, shed, supervisor};
use crate::config::Config;
use crate::desk::feed::{self, Follower, Wants};
use crate::desk::{Desk, Peers};
use crate::door::peer;
use crate::loops;
use crate::raft::Raft;
use crate::rpc::Pool;
use crate::telemetry::Telemetry;

/// How long after the start its last work is done: the first round of checks and of bringing them into the catalog; and how long after
/// that a cluster that started together has come together.
const SETTLE_WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// How often from then on: what is in use is back within a millisecond, mapped from memory.
const SETTLED_WAIT: Duration = Duration::from_secs(60);

/// All loops work at one desk, and end with it.
pub(super) struct Running<'a> {
    pub(super) tasks: &'a mut JoinSet<()>,
    pub(super) desk: &'a Desk,
    pub(super) config: &'a Config,
    /// Of this run: no two agents do things at the same moments.
    pub(super) seed: u64,
}

impl Running<'_> {
    /// Gossip, and on a server that others can reach their door.
    pub(super) fn others(&mut self, gossip: cluster::Gossip, pool: &Pool, raft: Option<Raft>) -> Result<Option<peer::Door>> {
        let desk = self.desk;
        self.tasks.spawn(gossip.driver.run(gossip.sockets, desk.stopped()));
        self.tasks.spawn(cluster::watch(gossip.handle, desk.clone(), pool.clone()));
        let (Some(raft), Some(address)) = (raft, self.config.addresses.server) else { return Ok(None) };
        let listener = listen::tcp(address, &[]).with_context(|| format!("RPC cannot listen on {address}"))?;
        let rooms = peer::DeskRooms::new(desk.clone());
        let door = peer::Door::new(pool.identity().clone(), Some(raft), rooms, settings::rpc_limits(self.config));
        self.tasks.spawn(peer::serve(door.clone(), listener, desk.stopped()));
        Ok(Some(door))
    }

    /// A client's copy of the catalog follows the servers.
    pub(super) fn follow(&mut self, follower: Follower<SmallRng>, pool: Pool, wants: Option<Wants>) {
        let connect = feed::over(pool, wants, SmallRng::seed_from_u64(self.seed));
        self.tasks.spawn(follower.run(connect, cluster::lost(self.desk.cluster().clone()), self.desk.stopping()));
    }

    /// What keeps the catalog as it should be.
    pub(super) fn loops(&mut self, verdicts: mpsc::Receiver<muster_health::Verdict>, files: Vec<PathBuf>) {
        let (desk, config) = (self.desk, self.config);
        self.tasks.spawn(loops::show_gauges(desk.clone(), config.datacenter.clone()));
        self.tasks.spawn(loops::take_verdicts(desk.clone(), verdicts));
        self.tasks.spawn(loops::sync(desk.clone(), SmallRng::seed_from_u64(self.seed)));
        self.tasks.spawn(loops::reconcile(desk.clone(), settings::patience(config)));
        self.tasks.spawn(loops::keep_servers(desk.clone()));
        self.tasks.spawn(loops::listen_to_followers(desk.clone()));
        self.tasks.spawn(loops::expire_sessions(desk.clone()));
        if config.auto_reload {
            self.tasks.spawn(loops::follow_files(desk.clone(), files));
        }
        self.tasks.spawn(loops::judge_aliases(desk.clone()));
        self.tasks.spawn(loops::reap_critical(desk.clone()));
    }

    /// What makes this agent one of a cluster, and keeps it one. The channel says that nobody could be joined.
    pub(super) fn company(&mut self, gossip: Option<muster_gossip::Handle>, peers: Peers) -> mpsc::Receiver<loops::GaveUp> {
        let (desk, config) = (self.desk, self.config);
        if gossip.is_some() && !config.disable_coordinates {
            self.tasks.spawn(loops::tell_place(desk.clone(), SmallRng::seed_from_u64(self.seed.rotate_left(32))));
        }
        let (give_up, gave_up) = mpsc::channel(1);
        let knows_others = found::knows_others(peers.kept().len(), config.cluster.join.retry.len(), desk.cluster());
        let joined = loops::stay_joined(desk.clone(), settings::joining(config), peers, SmallRng::seed_from_u64(!self.seed));
        self.tasks.spawn(async move {
            if let Err(error) = joined.await {
                let _ = give_up.send(error).await;
            }
        });
        let expect = if config.server { config.cluster.bootstrap_expect } else { 0 };
        self.tasks.spawn(found::Founding { desk: desk.clone(), gossip, expect, knows_others }.run());
        gave_up
    }

    /// Has what is measured gathered, and sent where the configuration says.
    pub(super) fn measure(&mut self, telemetry: &Telemetry) {
        let (upkeep, upkeep_stop) = (telemetry.metrics().clone().upkeep(), self.desk.stopping());
        self.tasks.spawn(async move {
            tokio::select! { () = upkeep => {}, () = upkeep_stop => {} }
        });
        for sink in settings::sinks(self.config) {
            let (feeding, stopping) = (telemetry.metrics().clone().feed(sink), self.desk.stopping());
            self.tasks.spawn(async move {
                tokio::select! { () = feeding => {}, () = stopping => {} }
            });
        }
    }

    /// The end of the start.
    pub(super) fn settle(&mut self) {
        self.tasks.spawn(settle(self.desk.clone()));
        self.tasks.spawn(supervisor::tell_ready(self.desk.clone()));
    }
}

/// Gives back what only the start needed, once it is over, and what joining did, and from then on what something rare brought in.
async fn settle(desk: Desk) {
    let over = async {
        let _ = desk.caught_up().await;
        for pause in SETTLE_WAITS.into_iter().chain(std::iter::repeat(SETTLED_WAIT)) {
            tokio::time::sleep(pause).await;
            shed::code();
        }
    };
    tokio::select! {
        () = over => {}
        () = desk.stopping() => {}
    }
}
