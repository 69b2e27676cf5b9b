//! The table of all members but this one: their lives, their records, how they went; bounded in what the dead may cost.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use uuid::Uuid;

use crate::accusation::{Accusation, Ground};
use crate::identity::{IDENTITY_BYTES_MAX, Identity};
use crate::member::{Cause, Kind, Member, Reach, State};
use crate::record::Record;
use crate::wire::hash;

/// Most members: each costs some hundred bytes and a place in foca's list, which is searched from end to end.
pub(crate) const MEMBERS_MAX: usize = 16_384;
/// Most bytes that the dead may cost: some 2,000 of them with ordinary records. The oldest go first.
pub(crate) const DEAD_BYTES_MAX: usize = 1024 * 1024;
/// Changed entries that are listed, before what all are is reckoned up: many at once are gone through for each that follows.
const CHANGED_MAX: usize = 16;
/// What an entry costs beside its record.
const ENTRY_BYTES: usize = 520;

/// All members but this one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    /// An entry that a copy of this book has too is copied when it changes: of ten thousand simulated agents each has a book of them all.
    entries: BTreeMap<Uuid, Arc<Entry>>,
    /// What [`Book::living`] and [`Book::digest`] are without the entries of `changed`; none before they are first asked for. Of
    /// thousands of members a few change at a time.
    sums: Cell<Option<(u64, u64)>>,
    /// Entries that may have changed since.
    changed: RefCell<Vec<Uuid>>,
}

/// A member as this agent sees it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) identity: Identity,
    pub(crate) state: State,
    pub(crate) cause: Cause,
    pub(crate) since: Instant,
    pub(crate) told: Option<Told>,
    /// The last life of it that ended by a decision.
    pub(crate) departed: Option<Departed>,
    /// The last life of it that was buried, by whom, and why.
    pub(crate) verdict: Option<Verdict>,
    /// The highest incarnation of this life that was heard of.
    pub(crate) incarnation: u16,
    /// How it is reached from here.
    pub(crate) reach: Reach,
    /// Who holds it silent; of the dead, who held it so.
    pub(crate) accused: Arc<[Accusation]>,
    /// How often it accused, in this run, one that then refuted.
    pub(crate) wrong: u32,
    /// The newest record that was heard of, too big for a packet: epoch and version.
    pub(crate) hinted: Option<(u64, u64)>,
}

/// A record and the epoch it was told in.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) epoch: u64,
    pub(crate) bytes: Bytes,
    pub(crate) record: Arc<Record>,
}

/// A burial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) epoch: u64,
    pub(crate) by: Uuid,
    pub(crate) accusations: Arc<[Accusation]>,
}

impl Verdict {
    /// The first accuser's word, as the cause of the death.
    pub(crate) fn cause(&self) -> Cause {
        let first = self.accusations.first();
        let refused = first.is_some_and(|first| first.ground == Ground::Refused);
        let kind = if refused { Kind::Refused } else { Kind::Silent };
        Cause { kind, by: Some(first.map_or(self.by, |first| first.by)) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Departed {
    pub(crate) epoch: u64,
    pub(crate) kind: Kind,
    pub(crate) by: Uuid,
}

impl Told {
    /// Which of two records is the later one.
    pub(crate) fn order(&self) -> (u64, u64) {
        (self.epoch, self.record.version)
    }
}

impl Entry {
    pub(crate) fn new(identity: Identity, state: State, cause: Cause, since: Instant) -> Self {
        Self {
            identity,
            state,
            cause,
            since,
            told: None,
            departed: None,
            verdict: None,
            incarnation: 0,
            reach: Reach::default(),
            accused: Arc::default(),
            wrong: 0,
            hinted: None,
        }
    }

    /// The member as others see it, once it is known what it says about itself.
    pub(crate) fn member(&self) -> Option<Member> {
        let record = self.told.as_ref()?.record.clone();
        Some(Member {
            identity: self.identity,
            state: self.state,
            record,
            cause: self.cause,
            since: self.since,
            reach: self.reach,
            accusations: self.accused.clone(),
            wrong: self.wrong,
        })
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.told.as_ref().map(|told| told.record.name.as_str())
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.state == State::Alive
    }

    /// How the life that is known ended, if it ended by a decision.
    pub(crate) fn departure(&self) -> Option<Departed> {
        self.departed.filter(|departed| departed.epoch >= self.identity.epoch)
    }

    /// Its part of [`Book::living`], and of [`Book::digest`].
    fn parts(&self) -> (u64, u64) {
        let living = if self.is_alive() { digest_of(self.identity, State::Alive, (0, 0)) } else { 0 };
        (living, digest_of(self.identity, self.state, self.told.as_ref().map_or((0, 0), Told::order)))
    }

    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.told.as_ref().map_or(0, |told| 2 * told.bytes.len())
    }
}

impl Book {
    /// With these from the beginning, and reckoned up: built at once it takes half the memory of one that grew.
    pub(crate) fn filled(entries: impl Iterator<Item = Entry>) -> Self {
        let book = Self { entries: entries.map(|entry| (entry.identity.node, Arc::new(entry))).collect(), ..Self::default() };
        book.sums();
        book
    }

    pub(crate) fn get(&self, node: Uuid) -> Option<&Entry> {
        self.entries.get(&node).map(Arc::as_ref)
    }

    pub(crate) fn get_mut(&mut self, node: Uuid) -> Option<&mut Entry> {
        self.changes(node);
        self.entries.get_mut(&node).map(Arc::make_mut)
    }

    /// An entry may change, come or go: it is counted anew when it is asked what all entries are.
    fn changes(&mut self, node: Uuid) {
        let Some(sums) = self.sums.get() else { return };
        if self.changed.get_mut().contains(&node) {
            return;
        }
        if self.changed.get_mut().len() >= CHANGED_MAX {
            self.sums();
            return self.changes(node);
        }
        self.sums.set(Some(xor(sums, self.get(node))));
        self.changed.get_mut().push(node);
    }

    /// What all entries are.
    fn sums(&self) -> (u64, u64) {
        let sums = match self.sums.get() {
            Some(sums) => self.changed.borrow().iter().fold(sums, |sums, node| xor(sums, self.get(*node))),
            None => self.iter().fold((0, 0), |sums, entry| xor(sums, Some(entry))),
        };
        self.changed.borrow_mut().clear();
        self.sums.set(Some(sums));
        sums
    }

    /// How a living member is reached: that changes often, and no digest has it.
    pub(crate) fn reach_mut(&mut self, identity: Identity) -> Option<&mut Reach> {
        let entry = self.entries.get_mut(&identity.node).filter(|entry| entry.identity == identity && entry.is_alive());
        entry.map(|entry| &mut Arc::make_mut(entry).reach)
    }

    /// How often a member was wrong: no digest has that either.
    pub(crate) fn wrong_mut(&mut self, node: Uuid) -> Option<&mut u32> {
        self.entries.get_mut(&node).map(|entry| &mut Arc::make_mut(entry).wrong)
    }

    pub(crate) fn insert(&mut self, entry: Entry) -> &mut Entry {
        let node = entry.identity.node;
        self.changes(node);
        self.entries.insert(node, Arc::new(entry));
        self.entries.get_mut(&node).map(Arc::make_mut).expect("it was just inserted")
    }

    pub(crate) fn remove(&mut self, node: Uuid) -> Option<Arc<Entry>> {
        self.changes(node);
        self.entries.remove(&node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(Arc::as_ref)
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = &Entry> {
        self.iter().filter(|entry| entry.is_alive())
    }

    pub(crate) fn failed(&self) -> impl Iterator<Item = &Entry> {
        self.iter().filter(|entry| entry.state == State::Failed)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= MEMBERS_MAX
    }

    /// Others that have this name.
    pub(crate) fn named(&self, name: &str, but: Uuid) -> Vec<Uuid> {
        self.iter()
            .filter(|entry| entry.identity.node != but && entry.name() == Some(name))
            .map(|entry| entry.identity.node)
            .collect()
    }

    /// The dead whose time is over, and those for which there is no room; and when the next one's time is over.
    pub(crate) fn reapable(&self, timeouts: &Timeouts, now: Instant) -> (Vec<(Uuid, Kind)>, Option<Instant>) {
        let mut dead: Vec<_> = self.iter().filter(|entry| !entry.is_alive()).collect();
        dead.sort_by_key(|entry| std::cmp::Reverse(entry.since));
        let (mut goes, mut next, mut bytes) = (Vec::new(), None, 0);
        for entry in dead {
            let expires = entry.since + timeouts.of(entry.state);
            bytes += entry.bytes();
            if expires <= now {
                goes.push((entry.identity.node, Kind::Expired));
            } else if bytes > DEAD_BYTES_MAX {
                goes.push((entry.identity.node, Kind::Crowded));
            } else {
                next = next.map_or(Some(expires), |next: Instant| Some(next.min(expires)));
            }
        }
        (goes, next)
    }

    /// Which lives are held to go on, in eight bytes. Nothing that changes more often is in it: packets carry it, and where two
    /// differ for long, something was missed.
    pub(crate) fn living(&self) -> u64 {
        self.sums().0
    }

    /// What the table is, in eight bytes: equal tables have equal digests.
    pub(crate) fn digest(&self) -> u64 {
        self.sums().1
    }
}

/// With that entry, or without it.
fn xor(sums: (u64, u64), entry: Option<&Entry>) -> (u64, u64) {
    let (living, digest) = entry.map_or((0, 0), Entry::parts);
    (sums.0 ^ living, sums.1 ^ digest)
}

/// One member's part of a digest.
pub(crate) fn digest_of(identity: Identity, state: State, record: (u64, u64)) -> u64 {
    let mut bytes = [0; IDENTITY_BYTES_MAX + 24];
    let mut rest = &mut bytes[..];
    identity.put(&mut rest);
    [state as u64, record.0, record.1].into_iter().for_each(|number| rest.put_u64(number));
    let unused = rest.len();
    hash(&bytes[..bytes.len() - unused])
}

/// How long the dead are kept, by class.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) failed: Duration,
    pub(crate) left: Duration,
}

impl Timeouts {
    pub(crate) fn of(&self, state: State) -> Duration {
        match state {
            State::Left => self.left,
            State::Failed | State::Alive => self.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_holders_of_one_node_do_not_look_the_same() {
        let at = |port| Identity::new(Uuid::from_u128(1), 1, ([127, 0, 0, 1], port).into());
        assert_ne!(digest_of(at(1), State::Alive, (1, 1)), digest_of(at(2), State::Alive, (1, 1)));
    }

    #[test]
    fn what_changes_is_counted_anew_and_nothing_else() {
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from
        let now = Instant::now();
        let cause = Cause { kind: Kind::Told, by: None };
        let life = |node: u128, epoch| Identity::new(Uuid::from_u128(node), epoch, ([127, 0, 0, 1], 1).into());
        let mut book = Book::default();
        for step in 0..4000u64 {
            let node = u128::from(step * step % 97);
            match step % 5 {
                0 | 1 => {
                    book.insert(Entry::new(life(node, step), State::Alive, cause, now));
                }
                2 => {
                    book.remove(Uuid::from_u128(node));
                }
                _ => {
                    for node in node..node + u128::from(step % 40) {
                        if let Some(entry) = book.get_mut(Uuid::from_u128(node)) {
                            (entry.identity.epoch, entry.state) = (step, [State::Alive, State::Failed][step as usize / 5 % 2]);
                        }
                    }
                }
            }
            if step % 3 == 0 {
                let anew = Book::filled(book.iter().cloned());
                assert_eq!((book.living(), book.digest()), (anew.living(), anew.digest()), "step {step}");
            }
        }
        assert!(book.len() > 20);
    }

    #[test]
    fn the_dead_are_bounded_in_bytes_and_go_by_class() {
        #[allow(clippy::disallowed_methods)] // an arbitrary point to count from
        let now = Instant::now();
        let mut book = Book::default();
        let timeouts = Timeouts { failed: Duration::from_secs(72 * 3600), left: Duration::from_secs(24 * 3600) };
        for n in 0..4000u32 {
            let identity = Identity::new(Uuid::from_u128(n.into()), 1, "127.0.0.1:1".parse().expect("an address"));
            let state = if n % 2 == 0 { State::Failed } else { State::Left };
            let cause = Cause { kind: Kind::Told, by: None };
            book.insert(Entry::new(identity, state, cause, now + Duration::from_secs(n.into())));
        }
        let (goes, next) = book.reapable(&timeouts, now + Duration::from_secs(4000));
        assert_eq!(goes.len(), 4000 - DEAD_BYTES_MAX / ENTRY_BYTES);
        assert!(goes.iter().all(|(node, kind)| *kind == Kind::Crowded && node.as_u128() < 2000), "the oldest go");
        for (node, _) in goes {
            book.remove(node);
        }
        assert!(next.is_some());
        let (goes, _) = book.reapable(&timeouts, now + Duration::from_secs(30 * 3600));
        assert!(
            !goes.is_empty() && goes.iter().all(|(node, kind)| *kind == Kind::Expired && node.as_u128() % 2 == 1),
            "left first"
        );
    }
}
