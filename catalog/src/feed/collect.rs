//! Batches out of the tables.

use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use uuid::Uuid;

use super::{Batch, Head, HostIndexes, Position, Resume};
use crate::grave::Gone;
use crate::rebuild::{NodeRecord, ServiceIndexes};
use crate::row::Index;
use crate::state::{State, TableIndexes};

impl State {
    /// How a follower at this position goes on with this state. Costs a look at every row: the live path is [`State::changes_from`].
    pub fn since(&self, position: Position) -> Resume {
        if self.history.is_none() {
            return Resume::Behind; // Nobody has begun a history, or this server has not read so far.
        }
        if position.history == self.history && position.index > self.applied {
            return Resume::Behind;
        }
        if self.reaches_back_to(position) { Resume::Changes(self.after(position.index)) } else { Resume::Snapshot(self.whole()) }
    }

    /// Whether everything that changed since then is known, removals included.
    pub fn reaches_back_to(&self, position: Position) -> bool {
        position.history == self.history && position.index >= self.graves.trimmed().0
    }

    /// All of it.
    pub fn whole(&self) -> Batch {
        let mut batch = self.after(0);
        (batch.head.from, batch.head.interest) = (None, self.interest.clone());
        batch.gone.clear();
        batch
    }

    /// Rows and tombstones of later indexes, and all marks: those that went leave no trace.
    fn after(&self, from: Index) -> Batch {
        let mut batch = Batch { head: self.head(from), ..Batch::default() };
        batch.head.all_marks = true;
        batch.marks = self.removals.iter().cloned().collect();
        if from == self.applied {
            return batch;
        }
        for (name, host) in &self.nodes {
            if host.row.modify_index > from {
                batch.nodes.push(NodeRecord::from(&**host));
            } else if host.index.max(host.checks_index) > from {
                batch.hosts.push(HostIndexes { name: name.clone(), index: host.index, checks_index: host.checks_index });
            }
        }
        batch.services = self.services.values().filter(|row| row.touched_index() > from).cloned().collect();
        batch.checks = self.checks.values().filter(|row| row.touched_index() > from).cloned().collect();
        batch.buckets = self.buckets_after(from).map(|bucket| ServiceIndexes::from(&**bucket)).collect();
        batch.gone = self.gone_after(from);
        batch
    }

    fn gone_after(&self, from: Index) -> Vec<Gone> {
        self.graves.after(from).filter(|gone| !matches!(gone, Gone::Key(_))).cloned().collect()
    }

    pub(super) fn head(&self, from: Index) -> Head {
        Head {
            from: Some(from),
            to: self.applied,
            time_ms: self.time_ms,
            history: self.history,
            indexes: TableIndexes { keys: 0, ..self.indexes.clone() },
            all_marks: false,
            interest: None,
        }
    }

    /// What turns an older state of the same history into this one. The two share what did not change, so it costs what did,
    /// however large the tables are. `None` if the older one is of another history, not older, or older than tombstones are kept.
    pub fn changes_from(&self, old: &State) -> Option<Batch> {
        let follows = old.history == self.history && self.history.is_some() && old.applied <= self.applied;
        if !follows || old.applied < self.graves.trimmed().0 {
            return None;
        }
        let mut batch = Batch { head: self.head(old.applied), ..Batch::default() };
        // Not the rows that the two differ by: one that came and went between them is still held by whoever stands in between.
        batch.gone = self.gone_after(old.applied);
        batch.buckets = self.buckets_after(old.applied).map(|bucket| ServiceIndexes::from(&**bucket)).collect();
        for change in old.nodes.diff(&self.nodes) {
            match change {
                DiffItem::Update { old: (_, was), new: (name, host) } if was.row == host.row => {
                    if (was.index, was.checks_index) != (host.index, host.checks_index) {
                        let (index, checks_index) = (host.index, host.checks_index);
                        batch.hosts.push(HostIndexes { name: name.clone(), index, checks_index });
                    }
                }
                DiffItem::Add(_, host) | DiffItem::Update { new: (_, host), .. } => batch.nodes.push(NodeRecord::from(&**host)),
                DiffItem::Remove(..) => {}
            }
        }
        batch.services = changed(&old.services, &self.services);
        batch.checks = changed(&old.checks, &self.checks);
        (batch.marks, batch.marks_gone) = self.removals.changes_from(&old.removals);
        Some(batch)
    }
}

impl State {
    /// The agents that wrote something since an older state. Costs what changed.
    pub fn writers_since(&self, old: &State) -> Vec<Uuid> {
        self.runs.changed_from(&old.runs)
    }
}

/// The rows that are new or other than they were.
fn changed<K: Ord + Clone, T: Eq>(old: &OrdMap<K, Arc<T>>, new: &OrdMap<K, Arc<T>>) -> Vec<Arc<T>> {
    let changes = old.diff(new).filter_map(|change| match change {
        DiffItem::Add(_, row) | DiffItem::Update { new: (_, row), .. } => Some(row.clone()),
        DiffItem::Remove(..) => None,
    });
    changes.collect()
}
