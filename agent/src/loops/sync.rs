//! Anti-entropy: what this agent was told is brought into the catalog, at once after a change and again as time goes by.
#![allow(clippy::disallowed_methods)] // The loop reads the clock: when all is looked at next.

use std::time::Duration;

use muster_catalog::{Cause, CauseKind, Command, Index, Outcome, Plan, Scope, Topic};
use rand::{Rng, RngExt};
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

use crate::desk::{Desk, DeskError};

/// A full look at least this often, plus up to as much again (Consul's one minute, staggered).
const FULL_INTERVAL: Duration = Duration::from_secs(60);
/// After a failure, again in this much plus up to as much: often enough to be found in a log, rarely enough not to be a load.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// After failing several times in a row, again in this much plus up to as much (Consul's 15 s).
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(15);

/// Runs until the agent stops.
pub(crate) async fn sync(desk: Desk, mut rng: impl Rng) {
    let mut version = desk.local().version();
    let own = [Topic::Node(desk.name().folded()), Topic::NodeChecks(desk.name().folded())];
    let bells = own.each_ref().map(|topic| desk.bells().take(topic));
    let mut failures = 0_u32;
    let mut scope = Scope::All;
    let mut node_since = None;
    let mut full_at = Instant::now() + jittered(FULL_INTERVAL, &mut rng);
    let mut stop = std::pin::pin!(desk.stopping());
    loop {
        version.mark_unchanged();
        let mut rings = bells.each_ref().map(|bell| Box::pin(bell.rung()));
        for ring in &mut rings {
            ring.as_mut().enable();
        }
        let mut rings = futures_util::future::select_all(rings);
        let done = round(&desk, scope, &mut node_since).await;
        let again = match &done {
            Ok(Round::NodeUnknown) => full_at,
            Ok(Round::Done(due)) => {
                failures = 0;
                scope = Scope::Changed;
                due.map_or(full_at, |due| full_at.min(Instant::now() + desk.local().until(due)))
            }
            Err(error) => {
                failures += 1;
                scope = Scope::All;
                let pause = (RETRY_INTERVAL * 2_u32.saturating_pow(failures.min(8) - 1)).min(RETRY_INTERVAL_MAX);
                tracing::warn!(%error, "services and checks are not in the catalog yet: trying again");
                Instant::now() + jittered(pause, &mut rng)
            }
        };
        tokio::select! {
            () = &mut stop => return,
            changed = version.changed(), if done.is_ok() => if changed.is_err() { return },
            _ = &mut rings, if done.is_ok() => {}
            () = sleep_until(again) => {}
        }
        if Instant::now() >= full_at {
            scope = Scope::All;
            full_at = Instant::now() + jittered(FULL_INTERVAL, &mut rng);
        }
    }
}

/// Between once and twice this long, so that agents that started together drift apart.
fn jittered(interval: Duration, rng: &mut impl Rng) -> Duration {
    interval + interval.mul_f64(rng.random_range(0.0..1.0))
}

/// What came of a round.
enum Round {
    /// Membership has not shown this node to the catalog yet: its bell will ring when it has.
    NodeUnknown,
    /// The catalog has everything; a deferred output is due then.
    Done(Option<u64>),
}

/// One round: removals are heeded, then the plan is written.
///
/// `node_since` is the index at which the catalog got this node: when that is another one, somebody removed the node with all
/// its rows, membership brought it back, and everything on it has to be told again.
async fn round(desk: &Desk, scope: Scope, node_since: &mut Option<Index>) -> Result<Round, DeskError> {
    desk.caught_up().await?;
    let Some(since) = desk.reader().load().node(desk.name().as_str()).map(|row| row.create_index) else {
        return Ok(Round::NodeUnknown);
    };
    let scope = if *node_since == Some(since) { scope } else { Scope::All };
    let actor = desk.name().as_str();
    let cause = |reason: &str| Arc::new(Cause::new(actor, CauseKind::Sync, desk.clock_ms(), reason));
    let state = desk.reader().load().clone();
    let seen = desk.local().heed_removals(desk.id(), &state).await?;
    if !seen.is_empty() {
        desk.write_as(Command::AcknowledgeRemovals(seen), cause("removed by others")).await?;
    }
    let (Plan { commands, due_ms }, version) = desk.local().plan(desk.id(), desk.name(), &state, scope);
    for (command, own) in commands {
        let (_, outcome) = desk.write_as(command, own.unwrap_or_else(|| cause("anti-entropy"))).await?;
        if let Outcome::Refused(refusal) = outcome {
            return Err(DeskError::Refused(refusal));
        }
    }
    desk.local().synced(version);
    *node_since = Some(since);
    Ok(Round::Done(due_ms))
}
