//! Feeds, as the agents above have them: the servers are told when one closes, and when one has been silent for three beats.

use super::report::How;
use super::{What, World};

/// How soon a connection that closes is noticed.
const CLOSED_AFTER: u64 = 1_000_000;
/// When a feed without beats counts as silent: three beats of a second, and the way of one.
const SILENT_AFTER: u64 = 3_200_000_000;

impl World {
    /// A process ended: its feed closes, or falls silent.
    pub(super) fn feed_ended(&mut self, host: usize, how: How) {
        let after = if how == How::Silent { SILENT_AFTER } else { CLOSED_AFTER };
        if how != How::Left && self.scenario.servers > 0 {
            self.plan(self.now + after, What::Feed(host, how));
        }
    }

    /// Who was at the other end of that feed finds out. A server's feeds go to agents that follow it: one of them.
    pub(super) fn feed(&mut self, host: usize, how: How) {
        if self.nodes[host].core.is_some() {
            return;
        }
        let well = |number: &usize| {
            let node = &self.nodes[*number];
            *number != host && node.core.is_some() && node.paused.is_none() && node.input.all < 1.0 && node.output.all < 1.0
        };
        let others = if host < self.scenario.servers { 0..self.nodes.len() } else { 0..self.scenario.servers };
        let able: Vec<usize> = others.filter(well).collect();
        // Each server has its share of the feeds.
        let Some(server) = able.get(host % able.len().max(1)).copied() else { return };
        let node = self.nodes[host].disk.node;
        self.call(server, |core, now| match how {
            How::Silent => core.feed_silent(node, now),
            _ => core.check(node, now),
        });
    }
}
