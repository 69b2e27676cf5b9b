//! A server listens to its followers: gossip is told who fell silent.

use super::beat::Beat;
use crate::desk::Desk;
use crate::desk::feed::BEAT;

/// Runs until the agent stops.
pub(crate) async fn listen_to_followers(desk: Desk) {
    let mut beat = Beat::new(&desk, BEAT);
    while let Some(source) = desk.quorum().source()
        && beat.next().await
    {
        for node in source.silent() {
            tracing::debug!(%node, "a follower fell silent");
            desk.cluster().feed_silent(node);
        }
    }
}
