//! Whose absence is waited out before the catalog hears of it: a restart is not a death, and a partition is not a mass funeral.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::desk::{Member, Standing};

/// Losses this close together are one.
const WAVE: Duration = Duration::from_secs(10);
/// So many at once are a mass loss in no cluster.
const FEW: usize = 3;

/// Who waits how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For one whose host lives, or that said it stops.
    pub(crate) restart_grace: Duration,
    /// For many that were lost at once, where it may be this agent that is cut off.
    pub(crate) mass_loss_hold: Duration,
}

/// Members that are gone, since when as this leader saw it.
#[derive(Debug)]
pub(super) struct Absences {
    patience: Patience,
    since: BTreeMap<Uuid, Instant>,
    /// Since when a mass loss is held.
    held: Option<Instant>,
}

/// What comes of looking at all members.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Waits {
    /// These stay as they are for now.
    pub(super) nodes: Vec<Uuid>,
    /// When to look again.
    pub(super) until: Option<Instant>,
    /// Members that are held as a mass loss, when one begins.
    pub(super) begun: Option<usize>,
}

impl Absences {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, since: BTreeMap::new(), held: None }
    }

    /// Another leads, and counts by itself.
    pub(super) fn forget(&mut self) {
        self.since.clear();
        self.held = None;
    }

    /// Who is waited for. `told` says of a member whether the catalog has its absence already: then there is nothing to wait for.
    pub(super) fn look(&mut self, members: &[Member], told: impl Fn(&Member) -> bool, now: Instant) -> Waits {
        let gone: Vec<&Member> = members.iter().filter(|member| is_gone(member) && !told(member)).collect();
        self.since.retain(|node, _| gone.iter().any(|member| member.id == *node));
        for member in &gone {
            self.since.entry(member.id).or_insert(now);
        }
        let mut waits = Waits::default();
        if self.is_mass_loss(members, &gone, now) {
            waits.begun = self.held.is_none().then_some(gone.len());
            let since = *self.held.get_or_insert(now);
            self.wait(&mut waits, gone.iter().filter(|member| member.standing == Standing::Failed), now, |_| {
                since + self.patience.mass_loss_hold
            });
        } else {
            self.held = None;
        }
        self.wait(&mut waits, gone.iter().filter(|member| member.may_return), now, |node| {
            self.since[&node] + self.patience.restart_grace
        });
        waits
    }

    fn wait<'a>(
        &self,
        waits: &mut Waits,
        members: impl Iterator<Item = &'a &'a Member>,
        now: Instant,
        until: impl Fn(Uuid) -> Instant,
    ) {
        for member in members {
            let until = until(member.id);
            if until > now {
                waits.nodes.push(member.id);
                waits.until = Some(waits.until.map_or(until, |first| first.min(until)));
            }
        }
    }

    /// More than a tenth, and more than a few, within a short time; and over a third is gone, or all by one member's word. Once it
    /// is one, it is one until enough of them are back.
    fn is_mass_loss(&self, members: &[Member], gone: &[&Member], now: Instant) -> bool {
        let failed: Vec<&&Member> = gone.iter().filter(|member| member.standing == Standing::Failed).collect();
        let recent = |member: &&&&Member| self.held.is_some() || now.duration_since(self.since[&member.id]) <= WAVE;
        let lost = failed.iter().filter(recent).count();
        if lost <= FEW.max(members.len() / 10) {
            return false;
        }
        let all_failed = members.iter().filter(|member| member.standing == Standing::Failed).count();
        let one_accuser = failed.iter().all(|member| match member.accusers.as_slice() {
            [first, rest @ ..] => rest.iter().all(|by| by == first) && failed[0].accusers.first() == Some(first),
            [] => false,
        });
        3 * all_failed > members.len() || one_accuser
    }
}

fn is_gone(member: &Member) -> bool {
    match member.standing {
        Standing::Failed => true,
        Standing::Left => member.may_return,
        Standing::Alive | Standing::Leaving => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // tests are driven by the clock

    use super::*;
    use crate::desk::testing::member;

    const PATIENCE: Patience = Patience { restart_grace: Duration::from_secs(5), mass_loss_hold: Duration::from_secs(60) };

    fn gone(number: u8, may_return: bool, by: &[u8]) -> Member {
        let accusers = by.iter().map(|by| Uuid::from_u128((*by).into())).collect();
        Member { standing: Standing::Failed, may_return, accusers, ..member(number, "node") }
    }

    fn alive(numbers: std::ops::Range<u8>) -> Vec<Member> {
        numbers.map(|number| member(number, "node")).collect()
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn one_that_may_be_restarting_is_waited_for_and_one_that_is_silent_is_not() {
        let (mut absences, start) = (Absences::new(PATIENCE), Instant::now());
        let mut members = alive(0..8);
        members.extend([gone(8, true, &[1, 2]), gone(9, false, &[1, 2])]);
        let waits = absences.look(&members, |_| false, start);
        assert_eq!((waits.nodes, waits.until), (vec![members[8].id], Some(after(start, 5))));
        assert_eq!(absences.look(&members, |_| false, after(start, 4)).nodes, [members[8].id]);
        assert_eq!(absences.look(&members, |_| false, after(start, 5)), Waits::default(), "the grace is over");
    }

    #[test]
    fn a_return_ends_the_wait_and_the_next_absence_begins_another() {
        let (mut absences, start) = (Absences::new(PATIENCE), Instant::now());
        let away = [gone(1, true, &[2, 3]), member(2, "node"), member(3, "node")];
        absences.look(&away, |_| false, start);
        absences.look(&alive(1..4), |_| false, after(start, 4));
        assert_eq!(absences.look(&away, |_| false, after(start, 8)).until, Some(after(start, 13)));
        absences.forget();
        assert_eq!(absences.look(&away, |_| false, after(start, 12)).until, Some(after(start, 17)), "a new leader counts anew");
        assert_eq!(absences.look(&away, |_| true, after(start, 12)), Waits::default(), "what is written needs no wait");
    }

    #[test]
    fn a_third_lost_at_once_is_held_until_it_is_back_or_the_hold_is_over() {
        let (mut absences, start) = (Absences::new(PATIENCE), Instant::now());
        let mut members = alive(0..6);
        members.extend((6..10).map(|number| gone(number, false, &[0, 1])));
        let waits = absences.look(&members, |_| false, start);
        assert_eq!((waits.nodes.len(), waits.until, waits.begun), (4, Some(after(start, 60)), Some(4)));
        let waits = absences.look(&members, |_| false, after(start, 59));
        assert_eq!((waits.nodes.len(), waits.begun), (4, None), "told once");
        assert!(absences.look(&members, |_| false, after(start, 60)).nodes.is_empty());
        members[9] = member(9, "node");
        assert!(absences.look(&members, |_| false, after(start, 61)).nodes.is_empty(), "three are few");
    }

    #[test]
    fn losses_of_a_few_and_slow_ones_are_losses() {
        let (mut absences, start) = (Absences::new(PATIENCE), Instant::now());
        let mut members = alive(0..36);
        members.extend((36..40).map(|number| gone(number, false, &[0, 1])));
        assert!(absences.look(&members, |_| false, start).nodes.is_empty(), "four of forty, by several accusers");
        let mut members = alive(0..32);
        members.extend((32..40).map(|number| gone(number, false, &[7])));
        assert_eq!(absences.look(&members, |_| false, start).nodes.len(), 8, "a fifth, by one member's word");
        let mut absences = Absences::new(PATIENCE);
        for (number, seconds) in [(6_u8, 0), (7, 11), (8, 22), (9, 33)] {
            let mut members = alive(0..6);
            members.extend((6..=number).map(|number| gone(number, false, &[0, 1])));
            assert!(absences.look(&members, |_| false, after(start, seconds)).nodes.is_empty(), "one after the other");
        }
    }
}
