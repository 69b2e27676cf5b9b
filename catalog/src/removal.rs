//! Marks for an agent whose row somebody else removed: the only reason for it to drop its own definition.

use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cause::Cause;
use crate::command::Removed;
use crate::name::{CheckId, ServiceId};
use crate::row::Index;

/// Somebody else removed this row of the owner's; it stays until the owner acknowledges it or its node is reaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalMark {
    /// The agent that kept the row.
    pub owner: Uuid,
    /// The row and its generation.
    pub removed: Removed,
    /// Who removed it, why.
    pub cause: Arc<Cause>,
    /// Where in the history.
    pub index: Index,
    /// In which history: a mark of another one means nothing.
    pub history: Option<Uuid>,
}

/// Which row of an owner's a mark is about.
pub(crate) type MarkKey = (Uuid, MarkedRow);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MarkedRow {
    Service(ServiceId),
    Check(CheckId),
}

fn row(removed: &Removed) -> (MarkedRow, u64) {
    match removed {
        Removed::Service(id, generation) => (MarkedRow::Service(id.clone()), *generation),
        Removed::Check(id, generation) => (MarkedRow::Check(id.clone()), *generation),
    }
}

/// The replicated table of marks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removals(OrdMap<MarkKey, Arc<RemovalMark>>);

impl Removals {
    pub(crate) fn mark(&mut self, mark: RemovalMark) {
        self.keep(Arc::new(mark));
    }

    pub(crate) fn keep(&mut self, mark: Arc<RemovalMark>) {
        self.0.insert((mark.owner, row(&mark.removed).0), mark);
    }

    pub(crate) fn drop_mark(&mut self, key: &MarkKey) {
        self.0.remove(key);
    }

    /// Drops all that were made after an index.
    pub(crate) fn drop_after(&mut self, index: Index) {
        let later: Vec<_> = self.0.iter().filter(|(_, mark)| mark.index > index).map(|(key, _)| key.clone()).collect();
        later.iter().for_each(|key| self.drop_mark(key));
    }

    /// The marks that are new or other than they were, and those that are gone.
    pub(crate) fn changes_from(&self, old: &Self) -> (Vec<Arc<RemovalMark>>, Vec<MarkKey>) {
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        for change in old.0.diff(&self.0) {
            match change {
                DiffItem::Add(_, mark) | DiffItem::Update { new: (_, mark), .. } => new.push(mark.clone()),
                DiffItem::Remove(key, _) => gone.push(key.clone()),
            }
        }
        (new, gone)
    }

    /// Whether an offer may pass: a mark of its own or a later generation holds it back.
    pub(crate) fn admits(&self, owner: Uuid, offered: &Removed) -> bool {
        let (row_key, generation) = row(offered);
        self.0.get(&(owner, row_key)).is_none_or(|mark| row(&mark.removed).1 < generation)
    }

    /// The offer has passed: a mark of an older generation means nothing any more.
    pub(crate) fn clear(&mut self, owner: Uuid, offered: &Removed) {
        self.0.remove(&(owner, row(offered).0));
    }

    pub(crate) fn acknowledge(&mut self, owner: Uuid, removed: &Removed) {
        let (row_key, generation) = row(removed);
        let key = (owner, row_key);
        if self.0.get(&key).is_some_and(|mark| row(&mark.removed).1 <= generation) {
            self.0.remove(&key);
        }
    }

    pub(crate) fn forget(&mut self, owner: Uuid) {
        let marks: Vec<_> = self.of(owner).map(|mark| (owner, row(&mark.removed).0)).collect();
        for key in marks {
            self.0.remove(&key);
        }
    }

    pub(crate) fn of(&self, owner: Uuid) -> impl Iterator<Item = &RemovalMark> {
        self.0
            .range((owner, MarkedRow::Service(ServiceId::least()))..)
            .take_while(move |((of, _), _)| *of == owner)
            .map(|(_, mark)| &**mark)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<RemovalMark>> {
        self.0.values()
    }
}
