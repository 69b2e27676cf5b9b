//! The last changes of each service and check, with their causes: what lets an operator ask why.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cause::Cause;
use crate::name::{CheckId, NodeName, ServiceId};
use crate::row::Index;
use crate::status::Status;

/// Changes kept of a check: a flapping one shows its pattern in eight.
pub const CHANGES_OF_A_CHECK_MAX: usize = 8;
/// Changes kept of a service instance: it changes when it is deployed.
pub const CHANGES_OF_A_SERVICE_MAX: usize = 4;
/// Of a session its end is kept, with what ended it.
pub const CHANGES_OF_A_SESSION_MAX: usize = 1;
/// All changes together, in bytes as [`weight`] counts them: oldest out.
pub const PAST_BYTES_MAX: usize = 16 << 20;

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A service instance.
    Service(ServiceId),
    /// A check.
    Check(CheckId),
    /// A session.
    Session(Uuid),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where in the history.
    pub index: Index,
    /// A check's status from then on; `None` for a service, or when it was removed.
    pub status: Option<Status>,
    /// Whether the row was removed.
    pub removed: bool,
    /// Who, why.
    pub cause: Arc<Cause>,
    /// Order among all changes kept.
    pub(crate) sequence: u64,
}

type Key = (NodeName, Subject);

/// The table of changes, on servers alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    rows: OrdMap<Key, Arc<[Change]>>,
    order: OrdMap<u64, Key>,
    next: u64,
    bytes: usize,
}

/// What a change is counted as: its own size, its place in the order, its key and its cause.
fn weight(key: &Key, change: &Change) -> usize {
    let id = match &key.1 {
        Subject::Service(id) => id.as_str().len(),
        Subject::Check(id) => id.as_str().len(),
        Subject::Session(_) => 0,
    };
    160 + key.0.as_str().len() + id + change.cause.actor.len() + change.cause.reason.len()
}

impl Past {
    pub(crate) fn record(
        &mut self,
        node: &NodeName,
        subject: Subject,
        index: Index,
        status: Option<Status>,
        removed: bool,
        cause: &Arc<Cause>,
    ) {
        let most = match subject {
            Subject::Check(_) => CHANGES_OF_A_CHECK_MAX,
            Subject::Service(_) => CHANGES_OF_A_SERVICE_MAX,
            Subject::Session(_) => CHANGES_OF_A_SESSION_MAX,
        };
        let key = (node.clone(), subject);
        let change = Change { index, status, removed, cause: cause.clone(), sequence: self.next };
        self.keep(key, change, most);
        while self.bytes > PAST_BYTES_MAX {
            let Some((_, key)) = self.order.get_min().cloned() else { return };
            self.drop_oldest(&key);
        }
    }

    fn keep(&mut self, key: Key, change: Change, most: usize) {
        if self.rows.get(&key).is_some_and(|kept| kept.len() >= most) {
            self.drop_oldest(&key);
        }
        self.next = self.next.max(change.sequence + 1);
        self.bytes += weight(&key, &change);
        self.order.insert(change.sequence, key.clone());
        let kept: Arc<[Change]> = self.of_key(&key).iter().cloned().chain([change]).collect();
        self.rows.insert(key, kept);
    }

    fn drop_oldest(&mut self, key: &Key) {
        let Some((oldest, rest)) = self.rows.get(key).and_then(|kept| kept.split_first()) else { return };
        self.order.remove(&oldest.sequence);
        self.bytes -= weight(key, oldest);
        let rest: Arc<[Change]> = rest.into();
        if rest.is_empty() {
            self.rows.remove(key);
        } else {
            self.rows.insert(key.clone(), rest);
        }
    }

    fn of_key(&self, key: &Key) -> &[Change] {
        self.rows.get(key).map_or(&[], |kept| kept)
    }

    pub(crate) fn of(&self, node: &NodeName, subject: &Subject) -> &[Change] {
        self.of_key(&(node.clone(), subject.clone()))
    }

    /// All changes in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Change)> {
        self.order.iter().filter_map(|(sequence, key)| {
            let change = self.of_key(key).iter().find(|change| change.sequence == *sequence)?;
            Some((key, change))
        })
    }

    /// Puts back a change that [`Past::iter`] told of.
    pub(crate) fn restore(&mut self, key: Key, change: Change) {
        self.keep(key, change, usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::CauseKind;

    #[test]
    fn each_keeps_its_last_and_all_together_stay_below_the_bound() {
        let mut past = Past::default();
        let node = NodeName::new("n").expect("a name");
        let cause = Arc::new(Cause::new("actor", CauseKind::Api, 0, "x".repeat(128)));
        let check = |n: u64| Subject::Check(CheckId::new(format!("check-{n}")).expect("a name"));
        for index in 1..=20 {
            past.record(&node, check(0), index, Some(Status::Passing), false, &cause);
        }
        let kept: Vec<_> = past.of(&node, &check(0)).iter().map(|change| change.index).collect();
        assert_eq!(kept, (13..=20).collect::<Vec<_>>());
        for n in 1..80_000 {
            past.record(&node, check(n), 20 + n, None, true, &cause);
        }
        assert!(past.bytes <= PAST_BYTES_MAX);
        assert!(past.of(&node, &check(0)).is_empty());
        assert_eq!(past.of(&node, &check(79_999)).len(), 1);
        assert_eq!(past.iter().count(), past.order.len());
        assert_eq!(past.bytes, past.iter().map(|(key, change)| weight(key, change)).sum::<usize>());
    }
}
