//! What was removed, and where: so that a follower can resume, and a reader of a prefix sees a removal.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::name::{CheckId, NodeName, ServiceId};
use crate::row::Index;

/// Tombstones kept; the oldest go first, inside apply. At about 100 bytes each they cost 3 MB at most; a follower that is
/// further behind takes a snapshot.
pub const GRAVES_MAX: usize = 32_768;

/// A row that is no more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Gone {
    Node(NodeName),
    Service(NodeName, ServiceId),
    Check(NodeName, CheckId),
    Key(Arc<str>),
}

/// The replicated table of tombstones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graves {
    by_row: OrdMap<Gone, Index>,
    by_index: OrdMap<(Index, Gone), ()>,
    /// The highest index of a tombstone of a node, a service or a check that was dropped to keep the bound: a follower that is
    /// behind it cannot be told what it missed.
    trimmed: Index,
    /// The same, of keys: the floor of the index of every prefix that has rows or tombstones, so that none falls.
    trimmed_key: Index,
}

impl Graves {
    pub(crate) fn dig(&mut self, gone: Gone, index: Index) {
        if let Some(old) = self.by_row.insert(gone.clone(), index) {
            self.by_index.remove(&(old, gone.clone()));
        }
        self.by_index.insert((index, gone), ());
        while self.by_row.len() > GRAVES_MAX {
            let Some(((index, gone), ())) = self.by_index.get_min().cloned() else { return };
            self.by_index.remove(&(index, gone.clone()));
            self.by_row.remove(&gone);
            let trimmed = if matches!(gone, Gone::Key(_)) { &mut self.trimmed_key } else { &mut self.trimmed };
            *trimmed = index.max(*trimmed);
        }
    }

    /// The row is back.
    pub(crate) fn fill(&mut self, gone: &Gone) {
        if let Some(index) = self.by_row.remove(gone) {
            self.by_index.remove(&(index, gone.clone()));
        }
    }

    /// The last removal under a prefix of keys among the tombstones kept.
    pub(crate) fn last_key_under(&self, prefix: &str) -> Option<Index> {
        let from = Gone::Key(Arc::from(prefix));
        self.by_row
            .range(from..)
            .take_while(|(gone, _)| matches!(gone, Gone::Key(key) if key.starts_with(prefix)))
            .map(|(_, index)| *index)
            .max()
    }

    /// The tombstones from after this index on.
    pub(crate) fn after(&self, index: Index) -> impl Iterator<Item = &Gone> {
        // The least row there is, at the next index: `Node` comes first, and no name is empty.
        let from = (index.saturating_add(1), Gone::Node(NodeName::least()));
        self.by_index.range(from..).map(|((_, gone), ())| gone)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Index, &Gone)> {
        self.by_index.keys().map(|(index, gone)| (*index, gone))
    }

    pub(crate) fn trimmed(&self) -> (Index, Index) {
        (self.trimmed, self.trimmed_key)
    }

    pub(crate) fn set_trimmed(&mut self, (trimmed, trimmed_key): (Index, Index)) {
        self.trimmed = trimmed;
        self.trimmed_key = trimmed_key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_tombstones_go() {
        let mut graves = Graves::default();
        graves.dig(Gone::Key("a/1".into()), 1);
        graves.dig(Gone::Key("b/1".into()), 2);
        assert_eq!(graves.last_key_under("a/"), Some(1));
        for index in 3..GRAVES_MAX as u64 + 2 {
            graves.dig(Gone::Key(format!("c/{index}").into()), index);
        }
        assert_eq!(graves.by_row.len(), GRAVES_MAX);
        assert_eq!(graves.by_index.len(), GRAVES_MAX);
        assert_eq!(graves.last_key_under("a/"), None);
        assert_eq!(graves.trimmed(), (0, 1));
        graves.fill(&Gone::Key("b/1".into()));
        assert_eq!(graves.last_key_under("b/"), None);
    }
}
