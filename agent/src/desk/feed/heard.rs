//! Which followers are heard, and which fell silent: a beat a second is due from each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::source::BEAT;

/// Three beats, and the way of one: a process that stalls for a moment, or a lost segment, is no silence.
const SILENT_AFTER: Duration = Duration::from_millis(3200);
/// One look comes a second after the other; so much later it was this agent that slept, and heard nobody meanwhile.
const ASLEEP: Duration = Duration::from_secs(1);
/// Of the followers, no more than one in so many fall silent at once: where more do, it is this agent that hears nothing.
const SHARE: usize = 3;

/// The followers of this server. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Ears>>);

#[derive(Debug, Default)]
struct Ears {
    followers: BTreeMap<Uuid, Ear>,
    looked: Option<Instant>,
}

#[derive(Debug, Default)]
struct Ear {
    /// A follower that begins anew may have two for a moment.
    feeds: usize,
    /// `None` until its first beat: an older agent sends none.
    last: Option<Instant>,
    /// Its silence is told.
    told: bool,
}

impl Heard {
    fn ears(&self) -> MutexGuard<'_, Ears> {
        self.0.lock().expect("no holder panics: a map of numbers")
    }

    /// A feed of that node begins.
    pub(super) fn open(&self, node: Uuid) {
        self.ears().followers.entry(node).or_default().feeds += 1;
    }

    /// A feed of that node has ended; why is found out by who ended it.
    pub(super) fn close(&self, node: Uuid) {
        let mut ears = self.ears();
        if let Some(ear) = ears.followers.get_mut(&node) {
            ear.feeds -= 1;
            if ear.feeds == 0 {
                ears.followers.remove(&node);
            }
        }
    }

    /// A follower is heard. Who follows nobody here is not listened to.
    pub(super) fn beat(&self, node: Uuid, now: Instant) {
        if let Some(ear) = self.ears().followers.get_mut(&node) {
            (ear.last, ear.told) = (Some(now), false);
        }
    }

    /// Those who fell silent and were not told yet; called once a second.
    pub(super) fn silent(&self, now: Instant) -> Vec<Uuid> {
        let mut ears = self.ears();
        let slept = ears.looked.replace(now).is_some_and(|last| now.saturating_duration_since(last) > BEAT + ASLEEP);
        if slept {
            ears.followers.values_mut().filter(|ear| ear.last.is_some()).for_each(|ear| ear.last = Some(now));
        }
        let beating = ears.followers.values().filter(|ear| ear.last.is_some()).count();
        let is_silent = |ear: &Ear| ear.last.is_some_and(|last| now.saturating_duration_since(last) >= SILENT_AFTER);
        let silent = ears.followers.values().filter(|ear| is_silent(ear)).count();
        // One alone is always looked at: that costs a few pings.
        if silent > 1 && silent * SHARE > beating {
            return Vec::new();
        }
        let fallen = ears.followers.iter_mut().filter(|(_, ear)| is_silent(ear) && !ear.told);
        let told = fallen.map(|(node, ear)| {
            ear.told = true;
            *node
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // an arbitrary point to count from

    use super::*;

    /// Followers 1 to `count`, of whom all but the `silent` first are heard once a second for ten seconds: who is told, and when.
    fn told(count: u128, silent: u128) -> Vec<(u64, u128)> {
        let (heard, start) = (Heard::default(), Instant::now());
        let mut told = Vec::new();
        (1..=count).for_each(|node| heard.open(Uuid::from_u128(node)));
        for second in 0..10 {
            let now = start + BEAT * second as u32;
            let beating = if second == 0 { 1 } else { silent + 1 };
            (beating..=count).for_each(|node| heard.beat(Uuid::from_u128(node), now));
            told.extend(heard.silent(now).into_iter().map(|node| (second, node.as_u128())));
        }
        told
    }

    #[test]
    fn a_silence_is_told_once_and_not_before_three_beats_are_missing() {
        assert_eq!(told(9, 1), [(4, 1)]);
        assert_eq!(told(1, 1), [(4, 1)], "the only one");
        assert_eq!(told(9, 3), [(4, 1), (4, 2), (4, 3)]);
    }

    #[test]
    fn where_over_a_third_fall_silent_at_once_nobody_is_told() {
        assert!(told(9, 4).is_empty());
        assert!(told(2, 2).is_empty());
    }

    #[test]
    fn who_is_heard_again_may_fall_silent_again() {
        let (heard, start, node) = (Heard::default(), Instant::now(), Uuid::from_u128(1));
        heard.open(node);
        let at = |millis| start + Duration::from_millis(millis);
        heard.beat(node, at(0));
        assert_eq!((heard.silent(at(2500)), heard.silent(at(3500))), (vec![], vec![node]));
        heard.beat(node, at(4000));
        assert_eq!((heard.silent(at(4500)), heard.silent(at(6000)), heard.silent(at(7500))), (vec![], vec![], vec![node]));
    }

    #[test]
    fn one_that_never_beats_one_that_is_gone_and_a_sleep_of_this_agent_are_no_silence() {
        let (heard, start) = (Heard::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let (old, gone, sleeping) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        [old, gone, gone, sleeping].into_iter().for_each(|node| heard.open(node));
        heard.beat(gone, at(0));
        heard.beat(sleeping, at(0));
        assert!(heard.silent(at(100)).is_empty());
        heard.close(gone);
        heard.close(gone);
        heard.beat(gone, at(200));
        assert!(heard.silent(at(9000)).is_empty(), "this agent slept for eight seconds");
        assert!(heard.silent(at(10_000)).is_empty());
        assert!(heard.silent(at(11_000)).is_empty());
        assert_eq!(heard.silent(at(12_300)), [sleeping]);
    }
}
