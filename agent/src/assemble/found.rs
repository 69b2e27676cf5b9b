//! How a cluster begins and is entered: founded once by the servers that were told to, entered again after a restart, and begun as
//! a history by its first leader.
#![allow(clippy::disallowed_methods)] // how long others were waited for is measured

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_catalog::{Cause, CauseKind, Command};
use muster_gossip::{Handle, Record, State};
use tokio::time::Instant;
use uuid::Uuid;

use crate::desk::{BOOTSTRAPPED_TAG, Cluster, Desk, DeskError, RAFT_TAG};
use crate::raft::{Raft, RaftId};

/// How often is looked whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The same at first: a lone server is to answer at once.
const LOOK_EVERY_AT_FIRST: Duration = Duration::from_millis(10);
/// What is at first.
const AT_FIRST: Duration = Duration::from_secs(1);
/// How long a server that belongs to a cluster waits for others before it enters it by itself: one of them is to judge whether it is
/// who it says, if there is one.
const ENTER_ALONE: Duration = Duration::from_secs(1);
/// The same for a client: servers come first.
const ENTER_ALONE_CLIENT: Duration = Duration::from_secs(5);
/// A server that cannot begin a history (its disk is full, say) tries again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// What is needed to enter a cluster, or to found one.
pub(super) struct Founding {
    pub(super) desk: Desk,
    /// `None`: this agent has no gossip, and is a cluster of its own.
    pub(super) gossip: Option<Handle>,
    /// Servers that make a cluster; 0 is never.
    pub(super) expect: u32,
    /// Whether it may know others: those are asked first.
    pub(super) knows_others: bool,
}

impl Founding {
    /// Runs until the agent stops.
    pub(super) async fn run(self) {
        let begun = Instant::now();
        let mut told = None;
        let mut stop = std::pin::pin!(self.desk.stopping());
        let mut is_begun = false;
        loop {
            let pause = match self.turn(begun, &mut told, &mut is_begun).await {
                Ok(()) if begun.elapsed() < AT_FIRST => LOOK_EVERY_AT_FIRST,
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the cluster could not be begun: trying again");
                    RETRY
                }
            };
            if is_begun && self.gossip.is_none() {
                return;
            }
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(if is_begun { RETRY } else { pause }) => {}
            }
        }
    }

    async fn turn(&self, begun: Instant, told: &mut Option<String>, is_begun: &mut bool) -> Result<(), DeskError> {
        if let Some(gossip) = &self.gossip {
            self.enter(gossip, begun, told).await;
            if let Some(raft) = self.desk.raft() {
                self.make_voters(gossip, raft, told).await?;
                mark_bootstrapped(gossip, raft);
            }
        } else if let Some(raft) = self.desk.raft()
            && self.expect == 1
        {
            raft.initialize().await?;
        }
        if !*is_begun {
            *is_begun = self.begin_history().await?;
        }
        Ok(())
    }

    /// Into the cluster's gossip: a former member by itself after a while, a founder under a new id.
    async fn enter(&self, gossip: &Handle, begun: Instant, told: &mut Option<String>) {
        if gossip.is_inside() || gossip.quiet().is_some() {
            return;
        }
        let server = self.desk.raft().is_some();
        let cluster = match gossip.cluster() {
            Some(cluster) => {
                let wait = if server { ENTER_ALONE } else { ENTER_ALONE_CLIENT };
                Some(cluster).filter(|_| !self.knows_others || begun.elapsed() >= wait)
            }
            None if server => {
                self.tell_odd(gossip.waiting().iter().map(|(_, record)| record), told);
                Some(Uuid::new_v4()).filter(|_| self.is_to_found(gossip, begun))
            }
            None => None,
        };
        if let Some(cluster) = cluster
            && let Err(error) = gossip.found(cluster).await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "the cluster cannot be entered");
        }
    }

    /// Whether this server is the one that makes the cluster: as many as are expected wait, and its raft id is the lowest.
    fn is_to_found(&self, gossip: &Handle, begun: Instant) -> bool {
        let Some(raft) = self.desk.raft().filter(|raft| raft.is_pristine() || self.expect == 1) else {
            return false;
        };
        if self.expect <= 1 {
            // one that was told of others asks them first: they may have a cluster
            return self.expect == 1 && (!self.knows_others || begun.elapsed() >= ENTER_ALONE);
        }
        let mut waiting: BTreeSet<Uuid> = gossip.waiting().iter().filter_map(|(_, record)| self.expects_too(record)).collect();
        waiting.insert(raft.id().uuid());
        waiting.len() >= self.expect as usize && waiting.first() == Some(&raft.id().uuid())
    }

    /// The raft id of a server that expects as many as this one.
    fn expects_too(&self, record: &Record) -> Option<Uuid> {
        let same = record.tags.get("expect").is_some_and(|expect| expect.parse() == Ok(self.expect));
        record.tags.get(RAFT_TAG).filter(|_| same)?.parse().ok()
    }

    /// Names the servers that expect another number than this one, once; says whether there are any.
    fn tell_odd<'a>(&self, others: impl Iterator<Item = &'a Record>, told: &mut Option<String>) -> bool {
        let expects = |record: &Record| record.tags.get("expect").or(record.tags.get("bootstrap")).cloned();
        let odd: Vec<String> = others
            .filter(|record| self.expect > 1 && record.tags.contains_key(RAFT_TAG) && self.expects_too(record).is_none())
            .map(|record| format!("{} has {}", record.name, expects(record).as_deref().unwrap_or("none")))
            .collect();
        if odd.is_empty() {
            return false;
        }
        let text = format!(
            "bootstrap_expect is {} here, and {}: no cluster is made until all have the same",
            self.expect,
            odd.join(", ")
        );
        if told.as_ref() != Some(&text) {
            tracing::error!("{text}");
            *told = Some(text);
        }
        true
    }

    /// Founds the log's cluster, once all that are expected are members and none of them has a log.
    async fn make_voters(&self, gossip: &Handle, raft: &Raft, told: &mut Option<String>) -> Result<(), DeskError> {
        if self.expect == 0 || !gossip.is_inside() || !raft.is_pristine() {
            return Ok(());
        }
        let members = gossip.members();
        let servers: Vec<_> =
            members.iter().filter(|member| member.state == State::Alive && member.tag(RAFT_TAG).is_some()).collect();
        if servers.iter().any(|member| member.tag(BOOTSTRAPPED_TAG).is_some()) {
            return Ok(()); // there is a cluster of servers: its leader lets this one in
        }
        if self.expect == 1 {
            raft.initialize().await?;
            return Ok(());
        }
        if self.tell_odd(servers.iter().map(|member| &*member.record), told) {
            return Ok(());
        }
        let mut voters: BTreeMap<RaftId, Uuid> =
            servers.iter().filter_map(|member| Some((RaftId::of(self.expects_too(&member.record)?), member.node()))).collect();
        while voters.len() > self.expect as usize {
            voters.pop_last(); // the others are let in by the leader
        }
        if voters.len() == self.expect as usize && raft.is_founder(&voters) {
            tracing::info!(servers = voters.len(), "the servers found their cluster");
            raft.found(&voters).await?;
        }
        Ok(())
    }

    /// The first leader gives the history its id.
    async fn begin_history(&self) -> Result<bool, DeskError> {
        if self.desk.reader().load().history().is_some() {
            return Ok(true);
        }
        let Some(raft) = self.desk.raft().filter(|raft| raft.is_leader()) else { return Ok(self.desk.raft().is_none()) };
        self.desk.caught_up().await?;
        if self.desk.reader().load().history().is_some() || !raft.is_leader() {
            return Ok(false);
        }
        let cause = Arc::new(Cause::new(self.desk.name(), CauseKind::Start, self.desk.clock_ms(), "a new history begins"));
        self.desk.write_as(Command::Found(Uuid::new_v4()), cause).await.map(|_| true)
    }
}

/// Says to the others that this server's log belongs to a cluster of servers.
fn mark_bootstrapped(gossip: &Handle, raft: &Raft) {
    let members = gossip.members();
    let Some(own) = members.first() else { return };
    if raft.is_pristine() || own.tag(BOOTSTRAPPED_TAG).is_some() {
        return;
    }
    let mut tags = own.record.tags.clone();
    tags.insert(BOOTSTRAPPED_TAG.to_owned(), "1".to_owned());
    if let Err(error) = gossip.update(tags, own.record.meta.clone()) {
        tracing::error!(error = &error as &dyn std::error::Error, "others do not learn that there is a cluster of servers");
    }
}

/// Whether others are known of before anybody was met.
pub(super) fn knows_others(kept: usize, told: usize, cluster: &Cluster) -> bool {
    kept + told > 0 || !cluster.is_alone()
}
