//! Finding the others: at the start, and again whenever everybody was lost.
#![allow(clippy::disallowed_methods)] // The pause between two attempts differs by chance, so that a rack does not return in step.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::JoinAddress;
use crate::desk::{Cluster, ClusterError, Desk, Peers};

/// The first pause between attempts; each further one is twice as long, up to `retry_interval`. Agents that are started
/// together miss each other once or twice.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Changes of membership are gathered for this long before they are kept.
const KEEP_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause while others are there and none of them is in a cluster yet: servers that wait for each other hear of each
/// other by these attempts.
const WAITING_PAUSE: Duration = Duration::from_secs(1);

/// How others are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joining {
    /// Where the configuration says that they are.
    pub(crate) addresses: Vec<JoinAddress>,
    /// Longest pause between two attempts (`retry_interval`).
    pub(crate) interval: Duration,
    /// Attempts, so far apart, after which an agent that never met anybody gives up; `None` is never.
    pub(crate) attempts_max: Option<u32>,
}

/// Runs until the agent stops; or until an agent that never met anybody gives up, which is the answer.
pub(crate) async fn stay_joined(desk: Desk, joining: Joining, peers: Peers, chance: SmallRng) -> Result<(), GaveUp> {
    let stop = desk.stopping();
    tokio::select! {
        biased;
        () = stop => Ok(()),
        gave_up = Finding { cluster: desk.cluster().clone(), own: desk.id(), joining, peers, chance }.run() => Err(gave_up),
    }
}

/// Nobody could be met, as often as the configuration allows: the agent ends.
#[derive(Debug, thiserror::Error)]
#[error("nobody could be joined in {attempts} attempts, which is retry_max")]
pub(crate) struct GaveUp {
    attempts: u32,
    #[source]
    last: ClusterError,
}

struct Finding {
    cluster: Cluster,
    own: uuid::Uuid,
    joining: Joining,
    peers: Peers,
    chance: SmallRng,
}

impl Finding {
    async fn run(mut self) -> GaveUp {
        let mut version = self.cluster.version();
        let mut met_somebody = false;
        let mut attempts = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            version.borrow_and_update();
            if !self.cluster.is_alone() {
                (met_somebody, pause) = (true, FIRST_PAUSE);
                self.keep();
                let _ = version.changed().await;
                sleep(KEEP_PAUSE).await;
                continue;
            }
            let places = self.places();
            if places.is_empty() {
                // Others may come and meet this agent.
                if version.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            let begun = Instant::now();
            let full_pause = pause >= self.joining.interval;
            let mut longest = self.joining.interval.max(FIRST_PAUSE);
            match self.cluster.join(&places).await {
                // A list of all servers may stand at each of them: meeting oneself is no failure, and nobody to be with.
                Ok(_) if self.cluster.is_alone() => {
                    longest = WAITING_PAUSE;
                    tracing::debug!("nobody who was met is in a cluster yet");
                }
                Ok(met) => tracing::info!(met, "joined"),
                Err(last) => {
                    attempts += u32::from(full_pause);
                    if let Some(most) = self.joining.attempts_max.filter(|most| !met_somebody && attempts >= *most) {
                        return GaveUp { attempts: most, last };
                    }
                    let text = last.to_string();
                    let text = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
                    tracing::warn!("nobody could be joined: {text}");
                }
            }
            let until = begun + pause.mul_f64(self.chance.random_range(0.75..1.25));
            pause = (pause * 2).min(longest);
            // Being met by somebody ends the pause.
            let _ = tokio::time::timeout_at(until, version.changed()).await;
            if self.cluster.is_alone() {
                sleep_until(until).await;
            }
        }
    }

    /// Where to look: at members met before, then where the configuration says.
    fn places(&self) -> Vec<JoinAddress> {
        let kept = self.peers.kept().iter().map(|peer| JoinAddress::Address(peer.gossip.ip(), Some(peer.gossip.port())));
        let mut places: Vec<JoinAddress> = kept.collect();
        places.extend(self.joining.addresses.iter().filter(|address| !places.contains(address)).cloned().collect::<Vec<_>>());
        places
    }

    fn keep(&mut self) {
        if let Err(error) = self.peers.keep(self.own, &self.cluster.members()) {
            tracing::warn!(error = &error as &dyn std::error::Error, "members are not kept: a restart looks for them anew");
        }
    }
}

#[cfg(test)]
mod tests;
