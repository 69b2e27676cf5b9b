//! Digests on packets: where two lists of the living differ for long, gossip has lost something, and the tables are exchanged.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::super::{Core, Dial};
use crate::book::digest_of;
use crate::identity::Identity;
use crate::member::{Event, State};
use crate::message::Seen;

/// When gossip should have done, as simulated; and the least time between two exchanges for this reason.
const DIFFER_MAX: Duration = Duration::from_secs(3);
/// After so many exchanges in vain it is told.
const EXCHANGES_IN_VAIN: u32 = 10;
/// And then they come this seldom.
const IN_VAIN_EVERY: Duration = Duration::from_secs(30);
/// Lives told of each side of a disagreement.
const TOLD_MAX: usize = 8;

/// How the digests of others compare with ours.
#[derive(Debug, Default)]
pub(super) struct Digests {
    /// Since when none was equal.
    differ: Option<Instant>,
    exchanged: Option<Instant>,
    in_vain: u32,
    told: bool,
    /// This agent's own part of its digest, which every ping and every answer asks for.
    own: Cell<Option<(Identity, u64)>>,
}

impl Core {
    /// What the list of the living is, this agent included.
    pub(super) fn living_digest(&self) -> u64 {
        let kept = self.detect.digests.own.get().filter(|(identity, _)| *identity == self.me);
        let (_, own) = kept.unwrap_or_else(|| (self.me, digest_of(self.me, State::Alive, (0, 0))));
        self.detect.digests.own.set(Some((self.me, own)));
        self.book.living() ^ own
    }

    pub(in crate::core) fn hear_digest(&mut self, from: Identity, digest: u64, now: Instant) {
        let (same, inside) = (digest == self.living_digest(), self.is_inside());
        let digests = &mut self.detect.digests;
        if same {
            (digests.differ, digests.in_vain, digests.told) = (None, 0, false);
            return;
        }
        let since = *digests.differ.get_or_insert(now);
        let pause = if digests.told { IN_VAIN_EVERY } else { DIFFER_MAX };
        let due = digests.exchanged.is_none_or(|last| now.saturating_duration_since(last) >= pause);
        if due && now.saturating_duration_since(since) >= DIFFER_MAX && inside {
            digests.exchanged = Some(now);
            digests.in_vain += 1;
            self.effects.dials.push(Dial::Exchange(from.addr));
        }
    }

    /// The tables were exchanged, and this is the other's.
    pub(in crate::core) fn compare(&mut self, table: &[Seen]) {
        if self.detect.digests.in_vain < EXCHANGES_IN_VAIN || self.detect.digests.told {
            return;
        }
        let Some(with) = table.first().map(|seen| seen.identity.node) else { return };
        let there = |identity: &Identity| table.iter().any(|seen| seen.identity == *identity && seen.swim != foca::State::Down);
        let here = |identity: &Identity| *identity == self.me || self.living(*identity).is_some();
        let ours = self.book.alive().map(|entry| entry.identity).chain([self.me]);
        let only_here: Vec<_> = ours.filter(|identity| !there(identity)).take(TOLD_MAX).collect();
        let theirs = table.iter().filter(|seen| seen.swim != foca::State::Down).map(|seen| seen.identity);
        let only_there: Vec<_> = theirs.filter(|identity| !here(identity)).take(TOLD_MAX).collect();
        if only_here.is_empty() && only_there.is_empty() {
            return;
        }
        tracing::warn!(%with, ?only_here, ?only_there, "this agent and another do not come to agree on who lives");
        self.detect.digests.told = true;
        self.effects.events.push(Event::Disagreement { with, only_here, only_there });
    }
}
