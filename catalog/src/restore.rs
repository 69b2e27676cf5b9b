//! A restore: a snapshot comes in chunks, which lie beside the live tables until one entry puts it in their place.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::command::Refusal;
use crate::error::SnapshotError;
use crate::grave::Graves;
use crate::removal::Removals;
use crate::row::{Index, Row};
use crate::snapshot::read_rows;
use crate::state::{State, TableIndexes};

/// Longest chunk: an entry of the log that is no longer than what raft sends at once.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Bytes that may lie beside the tables: several times a catalog of 100 000 instances with as many keys. It bounds what a restore
/// that never ends costs each server in memory.
pub const STAGED_BYTES_MAX: u64 = 1 << 30;
/// A restore of which nothing was heard for so long was abandoned; what it left is dropped with the next command.
const ABANDONED_AFTER_MS: u64 = 60_000;

/// A piece of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Which restore: the first chunk of another one drops what is there.
    pub restore: Uuid,
    /// Where it begins; it follows what is there.
    pub offset: u64,
    /// At most [`CHUNK_BYTES_MAX`].
    pub bytes: Bytes,
}

/// The chunks take the place of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Which restore.
    pub restore: Uuid,
    /// Bytes of all chunks.
    pub length: u64,
    /// Id of the history that begins.
    pub history: Uuid,
}

/// What has come of a restore.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Staged {
    pub(crate) restore: Uuid,
    length: u64,
    last_ms: u64,
    #[serde(skip)]
    pub(crate) chunks: Vector<Bytes>,
}

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

    pub(crate) fn give_up(&mut self, restore: Uuid) {
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
        for bucket in &mut buckets {
            (bucket.rows_index, bucket.checks_index, bucket.index) = (index, index, index);
        }
        state.assemble(buckets);
        Ok(state)
    }
}

/// Changes every row of a table that nobody else holds.
pub(crate) fn mend<K: Ord + Clone, V: Clone>(table: &mut OrdMap<K, Arc<V>>, mut change: impl FnMut(&mut V)) {
    let rows = std::mem::take(table).into_iter().map(|(key, mut row)| {
        change(Arc::make_mut(&mut row));
        (key, row)
    });
    *table = rows.collect();
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
