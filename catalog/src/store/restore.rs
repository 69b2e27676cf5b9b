//! What is laid beside the tables, and how it takes their place.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use imbl::Vector;

use crate::command::Refusal;
use crate::error::SnapshotError;
use crate::grave::Graves;
use crate::removal::Removals;
use crate::restore::{CHUNK_BYTES_MAX, Chunk, STAGED_BYTES_MAX, Staged, Switch};
use crate::row::{Index, Row, mend};
use crate::snapshot::read_rows;
use crate::state::{State, TableIndexes};

/// A restore of which nothing was heard for so long was abandoned; what it left is dropped with the next command.
const ABANDONED_AFTER_MS: u64 = 60_000;

fn refused(what: impl Into<smol_str::SmolStr>) -> Refusal {
    Refusal::Restore(what.into())
}

impl State {
    pub(crate) fn stage(&mut self, chunk: Chunk) -> Result<(), Refusal> {
        let Chunk { restore, offset, bytes } = chunk;
        if bytes.is_empty() || bytes.len() > CHUNK_BYTES_MAX {
            return Err(refused("a chunk of a snapshot is empty or too long"));
        }
        if offset == 0 {
            self.staged = Some(Staged { restore, ..Staged::default() });
        }
        let staged = self.staged.as_mut().filter(|staged| staged.restore == restore && staged.length == offset);
        let Some(staged) = staged else { return Err(refused("another restore has begun, or this one was given up")) };
        if offset + bytes.len() as u64 > STAGED_BYTES_MAX {
            self.staged = None;
            return Err(refused("the snapshot is too long"));
        }
        staged.length += bytes.len() as u64;
        staged.last_ms = self.time_ms;
        staged.chunks.push_back(bytes);
        Ok(())
    }

    pub(crate) fn give_up(&mut self, restore: uuid::Uuid) {
        if self.staged.as_ref().is_some_and(|staged| staged.restore == restore) {
            self.staged = None;
        }
    }

    /// A restore whose agent went away leaves nothing for long.
    pub(crate) fn drop_abandoned(&mut self) {
        let now = self.time_ms;
        if self.staged.as_ref().is_some_and(|staged| now.saturating_sub(staged.last_ms) > ABANDONED_AFTER_MS) {
            self.staged = None;
        }
    }

    /// Everything is as the snapshot says, but what belongs to the log and not to the catalog: where it is, its time, and its
    /// sessions, whose agents go on. What cannot be read leaves all as it was.
    pub(crate) fn switch(&mut self, switch: Switch, index: Index) -> Result<(), Refusal> {
        let Switch { restore, length, history } = switch;
        let whole = |staged: &&Staged| staged.restore == restore && staged.length == length;
        let Some(staged) = self.staged.as_ref().filter(whole) else {
            return Err(refused("not all of the snapshot is here, or another restore has begun"));
        };
        let mut chunks = Chunks { chunks: &staged.chunks, next: 0, at: &[] };
        let restored = Self::anew(&mut chunks, index);
        let mut restored = match restored {
            Ok(restored) => restored,
            Err(error) => {
                self.staged = None;
                return Err(refused(error.to_string()));
            }
        };
        restored.history = Some(history);
        restored.time_ms = restored.time_ms.max(self.time_ms);
        restored.runs = std::mem::take(&mut self.runs);
        *self = restored;
        Ok(())
    }

    /// The catalog of a snapshot, with all its rows as if they had been written at this index: no reader of before has seen a
    /// later one, so nobody waits for what was there all along.
    fn anew(from: &mut dyn Read, index: Index) -> Result<Self, SnapshotError> {
        let (mut state, mut buckets) = read_rows(from, None)?;
        state.applied = index;
        state.indexes = TableIndexes::all(index);
        // Followers of another history take everything; tombstones and marks of it mean nothing.
        state.graves = Graves::default();
        state.graves.set_trimmed((index, index));
        state.removals = Removals::default();
        state.staged = None;
        mend(&mut state.nodes, |host| {
            (host.index, host.checks_index) = (index, index);
            Arc::make_mut(&mut host.row).date(index);
        });
        mend(&mut state.services, |row| row.date(index));
        mend(&mut state.checks, |row| row.date(index));
        mend(&mut state.keys, |entry| (entry.create_index, entry.modify_index) = (index, index));
        if let Some(row) = state.autopilot.as_mut().map(Arc::make_mut) {
            (row.create_index, row.modify_index) = (index, index);
        }
        state.queries.date(index);
        state.sessions.date(index);
        state.coordinates_index = index;
        for bucket in &mut buckets {
            (bucket.rows_index, bucket.checks_index, bucket.index) = (index, index, index);
        }
        state.assemble(buckets);
        Ok(state)
    }
}

impl<T> Row<T> {
    fn date(&mut self, index: Index) {
        (self.create_index, self.modify_index, self.owner_index) = (index, index, 0);
    }
}

impl TableIndexes {
    fn all(index: Index) -> Self {
        Self {
            nodes: index,
            nodes_removed: index,
            services: index,
            services_removed: index,
            checks: index,
            passing: index,
            warning: index,
            critical: index,
            keys: index,
        }
    }
}

/// Chunks one after the other.
struct Chunks<'a> {
    chunks: &'a Vector<Bytes>,
    next: usize,
    at: &'a [u8],
}

impl Read for Chunks<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.at.is_empty() {
            let Some(chunk) = self.chunks.get(self.next) else { return Ok(0) };
            (self.at, self.next) = (chunk, self.next + 1);
        }
        self.at.read(to)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::cause::{Cause, CauseKind};
    use crate::command::{Command, Outcome, Proposal, Run};
    use crate::kv::{Kv, KvVerb};
    use crate::prepared::{PreparedQuery, QueryService, SetQuery};
    use crate::store::{Applied, Store};
    use crate::topic::Topic;

    /// One server's store, and who writes to it.
    struct Clerk {
        store: Store,
        index: Index,
        time_ms: u64,
    }

    impl Clerk {
        fn new() -> Self {
            let mut clerk = Self { store: Store::new(), index: 0, time_ms: 1 };
            clerk.send(Command::OpenRun);
            clerk.send(Command::Found(Uuid::from_u128(1)));
            clerk
        }

        fn send(&mut self, command: Command) -> Applied {
            self.index += 1;
            let proposal = Proposal {
                request: Uuid::from_u128(1),
                run: Run { agent: Uuid::from_u128(9), epoch: 65536 },
                number: self.index,
                answered_below: self.index,
                time_ms: self.time_ms,
                cause: Cause::new("a", CauseKind::Api, 5, "r"),
                command,
            };
            self.store.apply(self.index, proposal)
        }

        fn set(&mut self, key: &str) {
            let verb = KvVerb::Set { value: "v".into(), flags: 1, cas: None };
            assert_eq!(self.send(Command::Kv(Kv { key: key.into(), verb })).outcome, Outcome::Kv(true));
        }

        fn bytes(&self) -> Vec<u8> {
            let mut bytes = Vec::new();
            self.store.state().write_to(&mut bytes).expect("memory takes all");
            bytes
        }

        fn stage(&mut self, restore: u128, bytes: &[u8], size: usize) -> Vec<Outcome> {
            let restore = Uuid::from_u128(restore);
            let chunks = bytes.chunks(size).enumerate();
            let chunk =
                |(at, bytes): (usize, &[u8])| Chunk { restore, offset: (at * size) as u64, bytes: Bytes::copy_from_slice(bytes) };
            chunks.map(chunk).map(|chunk| self.send(Command::Stage(chunk)).outcome).collect()
        }

        fn switch(&mut self, restore: u128, length: usize) -> Applied {
            let history = Uuid::from_u128(77);
            self.send(Command::Switch(Switch { restore: Uuid::from_u128(restore), length: length as u64, history }))
        }
    }

    /// A catalog with a key and a query.
    fn filled() -> Clerk {
        let mut clerk = Clerk::new();
        clerk.set("a");
        let service = QueryService { service: "web".into(), ..QueryService::default() };
        let query = PreparedQuery { name: "q".into(), service, ..PreparedQuery::default() };
        let set = SetQuery { id: Uuid::from_u128(5), create: true, query };
        assert_eq!(clerk.send(Command::SetQuery(Box::new(set))).outcome, Outcome::Done);
        clerk
    }

    #[test]
    fn what_is_staged_shows_nowhere_until_it_switches() {
        let bytes = filled().bytes();
        let mut clerk = Clerk::new();
        (0..40).for_each(|_| clerk.set("b"));
        let before = clerk.store.state().index(&Topic::Prefix("".into()));
        assert!(clerk.stage(1, &bytes, 7).iter().all(|outcome| *outcome == Outcome::Done));
        let state = clerk.store.state();
        assert!(state.key("a").is_none() && state.key("b").is_some() && state.history() == Some(Uuid::from_u128(1)));
        // What lies there is in a server's own snapshot too.
        let mut other = Clerk { store: Store::new(), index: clerk.index, time_ms: 1 };
        other.store.install(State::read_from(&*clerk.bytes()).expect("it was just written"));
        for clerk in [&mut clerk, &mut other] {
            let applied = clerk.switch(1, bytes.len());
            assert_eq!((applied.outcome, applied.replaced), (Outcome::Done, true));
        }
        assert_eq!(clerk.bytes(), other.bytes(), "two servers are equal byte by byte");
        let state = clerk.store.state();
        assert!(state.key("a").is_some() && state.key("b").is_none());
        assert_eq!((state.history(), state.last_applied()), (Some(Uuid::from_u128(77)), clerk.index));
        assert!(state.resolve_query("q").is_ok_and(|row| row.is_some()));
        for topic in [Topic::Nodes, Topic::Services, Topic::Key("b".into()), Topic::Prefix("a".into())] {
            assert_eq!(state.index(&topic), clerk.index);
        }
        assert!(clerk.index > before && state.staged.is_none());
        clerk.set("c"); // the session of the log goes on
    }

    #[test]
    fn what_is_not_whole_changes_nothing() {
        let bytes = filled().bytes();
        let mut clerk = Clerk::new();
        clerk.set("b");
        clerk.stage(1, &bytes[..bytes.len() - 1], 50);
        for (restore, length) in [(1, bytes.len()), (2, bytes.len() - 1), (1, bytes.len() - 1)] {
            let applied = clerk.switch(restore, length);
            assert!(matches!(applied.outcome, Outcome::Refused(Refusal::Restore(_))) && !applied.replaced);
        }
        let state = clerk.store.state();
        assert!(state.key("b").is_some() && state.history() == Some(Uuid::from_u128(1)));
        assert!(state.staged.is_none(), "what cannot be read is dropped");
    }

    #[test]
    fn chunks_follow_each_other_within_bounds() {
        let mut clerk = Clerk::new();
        let mut stage = |restore: u128, offset, length| {
            let bytes = Bytes::from(vec![7; length]);
            clerk.send(Command::Stage(Chunk { restore: Uuid::from_u128(restore), offset, bytes })).outcome == Outcome::Done
        };
        assert!(!stage(1, 5, 1), "nothing has begun");
        assert!(stage(1, 0, 5) && stage(1, 5, 5));
        assert!(!stage(1, 5, 5) && !stage(2, 10, 5) && !stage(1, 10, 0) && !stage(1, 10, CHUNK_BYTES_MAX + 1));
        assert!(stage(1, 10, CHUNK_BYTES_MAX));
        assert!(stage(2, 0, 5) && !stage(1, 10, 5), "another restore drops this one");
    }

    #[test]
    fn what_is_given_up_or_abandoned_leaves_nothing() {
        let mut clerk = Clerk::new();
        clerk.stage(1, b"some", 2);
        clerk.send(Command::GiveUp(Uuid::from_u128(2)));
        assert!(clerk.store.state().staged.is_some(), "that is another one");
        clerk.send(Command::GiveUp(Uuid::from_u128(1)));
        assert!(clerk.store.state().staged.is_none());
        clerk.stage(3, b"some", 2);
        clerk.time_ms += ABANDONED_AFTER_MS;
        clerk.set("a");
        assert!(clerk.store.state().staged.is_some(), "it may be slow");
        clerk.time_ms += 1;
        clerk.set("b");
        assert!(clerk.store.state().staged.is_none());
    }

    #[test]
    fn a_survey_counts_what_is_there() {
        let survey = crate::snapshot::Survey::of(&*filled().bytes(), Some((1, String::new()))).expect("it is whole");
        assert_eq!((survey.kinds["KVS"].0, survey.keys["a"].0, survey.index), (1, 1, 4));
    }
}
