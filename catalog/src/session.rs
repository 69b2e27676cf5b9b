//! Consul's sessions: what keys are locked with, and what ends such a lock. (The sessions of the log are in `run.rs`.)

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::cause::Cause;
use crate::name::{CheckId, NodeName};
use crate::row::{Index, mend};

/// Keys that may be held back at once after their lock was lost; those whose time ends soonest go first. At about 150 bytes each
/// they cost 10 MB at most; Consul keeps any number.
pub const HELD_BACK_MAX: usize = 65_536;

/// What becomes of a session's keys when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behavior {
    /// They stay, and nobody holds them.
    #[default]
    Release,
    /// They go.
    Delete,
}

/// A check of a service that a session is tied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCheck {
    /// The check.
    pub id: CheckId,
    /// As it was given: it means nothing here.
    #[serde(default)]
    pub namespace: SmolStr,
}

/// A session: it lives as long as its node and all of its checks do, and as it is renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id, made at the door.
    pub id: Uuid,
    /// Its name for people.
    #[serde(default)]
    pub name: SmolStr,
    /// The node that it is on, as it was written.
    pub node: NodeName,
    /// Checks that it is tied to; `None` was written as `null`.
    #[serde(default)]
    pub node_checks: Option<Vec<CheckId>>,
    /// The same, of services.
    #[serde(default)]
    pub service_checks: Option<Vec<ServiceCheck>>,
    /// The same, in the older way.
    #[serde(default)]
    pub checks: Vec<CheckId>,
    /// How long its keys cannot be locked after it ended, in nanoseconds; none if negative.
    #[serde(default)]
    pub lock_delay_ns: i64,
    /// What becomes of its keys.
    #[serde(default)]
    pub behavior: Behavior,
    /// For how long it lives without being renewed, as it was written; the leader ends it at twice that.
    #[serde(default)]
    pub ttl: SmolStr,
    /// The same in nanoseconds; 0 is for ever.
    #[serde(default)]
    pub ttl_ns: u64,
    /// Why it was made.
    pub cause: Arc<Cause>,
    /// Where it was made; it never changes.
    pub create_index: Index,
}

impl Session {
    /// All checks whose end is its own.
    pub fn ties(&self) -> impl Iterator<Item = &CheckId> {
        let of_services = self.service_checks.iter().flatten().map(|check| &check.id);
        self.node_checks.iter().flatten().chain(&self.checks).chain(of_services)
    }
}

/// The sessions on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OnNode {
    sessions: OrdSet<Uuid>,
    /// Last change among them.
    index: Index,
}

/// The table of sessions, of what they hold, and of what is held back after they ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions {
    rows: OrdMap<Uuid, Arc<Session>>,
    nodes: OrdMap<NodeName, OnNode>,
    ties: OrdSet<(NodeName, CheckId, Uuid)>,
    held: OrdSet<(Uuid, Arc<str>)>,
    held_back: OrdMap<Arc<str>, u64>,
    held_back_until: OrdSet<(u64, Arc<str>)>,
    indexes: SessionIndexes,
}

/// Topics' indexes of the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SessionIndexes {
    /// Last change.
    pub(crate) changed: Index,
    /// Last end of a session.
    pub(crate) ended: Index,
}

impl Sessions {
    pub(crate) fn get(&self, id: Uuid) -> Option<&Arc<Session>> {
        self.rows.get(&id)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Session>> {
        self.rows.values()
    }

    /// Those on a node (folded name), by id.
    pub(crate) fn on(&self, node: &NodeName) -> impl Iterator<Item = &Arc<Session>> {
        let ids = self.nodes.get(node).into_iter().flat_map(|on| on.sessions.iter());
        ids.filter_map(|id| self.rows.get(id))
    }

    /// Those that are tied to a check of a node (folded name).
    pub(crate) fn tied(&self, node: &NodeName, check: &CheckId) -> Vec<Uuid> {
        let from = (node.clone(), check.clone(), Uuid::nil());
        let tied = self.ties.range(from..).take_while(|(at, id, _)| at == node && id == check);
        tied.map(|(_, _, session)| *session).collect()
    }

    /// The keys that a session holds, in order.
    pub(crate) fn keys_of(&self, session: Uuid) -> Vec<Arc<str>> {
        let from = (session, Arc::from(""));
        self.held.range(from..).take_while(|(holder, _)| *holder == session).map(|(_, key)| key.clone()).collect()
    }

    pub(crate) fn index(&self) -> Index {
        self.indexes.changed
    }

    pub(crate) fn index_of(&self, id: Uuid) -> Index {
        self.rows.get(&id).map_or(self.indexes.ended, |session| session.create_index)
    }

    pub(crate) fn index_on(&self, node: &NodeName) -> Index {
        self.nodes.get(node).map_or(self.indexes.ended, |on| on.index)
    }

    pub(crate) fn put(&mut self, session: Arc<Session>) {
        let index = session.create_index;
        self.indexes.changed = self.indexes.changed.max(index);
        let node = session.node.folded();
        let mut on = self.nodes.get(&node).cloned().unwrap_or_default();
        on.sessions.insert(session.id);
        on.index = on.index.max(index);
        self.nodes.insert(node.clone(), on);
        for check in session.ties() {
            self.ties.insert((node.clone(), check.clone(), session.id));
        }
        self.rows.insert(session.id, session);
    }

    /// Takes a session out; its keys are the caller's to release first.
    pub(crate) fn take(&mut self, id: Uuid, index: Index) -> Option<Arc<Session>> {
        let session = self.rows.remove(&id)?;
        let node = session.node.folded();
        for check in session.ties() {
            self.ties.remove(&(node.clone(), check.clone(), id));
        }
        if let Some(on) = self.nodes.get_mut(&node) {
            on.sessions.remove(&id);
            on.index = index;
            if on.sessions.is_empty() {
                self.nodes.remove(&node);
            }
        }
        self.indexes = SessionIndexes { changed: index, ended: index };
        Some(session)
    }

    /// A key has this holder now, where it had that one.
    pub(crate) fn passes(&mut self, key: &Arc<str>, from: Option<Uuid>, to: Option<Uuid>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.held.remove(&(from, key.clone()));
        }
        if let Some(to) = to {
            self.held.insert((to, key.clone()));
        }
    }

    /// A key whose holder ended cannot be locked before that time.
    pub(crate) fn hold_back(&mut self, key: Arc<str>, until_ms: u64) {
        if let Some(was) = self.held_back.insert(key.clone(), until_ms) {
            self.held_back_until.remove(&(was, key.clone()));
        }
        self.held_back_until.insert((until_ms, key));
        while self.held_back.len() > HELD_BACK_MAX {
            let Some(soonest) = self.held_back_until.get_min().cloned() else { return };
            self.forget_held_back(&soonest);
        }
    }

    /// Drops what is held back no longer.
    pub(crate) fn let_go(&mut self, now_ms: u64) {
        while let Some(soonest) = self.held_back_until.get_min().filter(|(until, _)| *until <= now_ms).cloned() {
            self.forget_held_back(&soonest);
        }
    }

    fn forget_held_back(&mut self, entry: &(u64, Arc<str>)) {
        self.held_back_until.remove(entry);
        self.held_back.remove(&entry.1);
    }

    pub(crate) fn is_held_back(&self, key: &str, now_ms: u64) -> bool {
        self.held_back.get(key).is_some_and(|until| now_ms < *until)
    }

    pub(crate) fn held_back(&self) -> impl Iterator<Item = (u64, &Arc<str>)> {
        self.held_back_until.iter().map(|(until, key)| (*until, key))
    }

    /// Where its topics last changed, for a snapshot: the table, then each node that has sessions.
    pub(crate) fn indexes(&self) -> (SessionIndexes, Vec<(&NodeName, Index)>) {
        (self.indexes, self.nodes.iter().map(|(node, on)| (node, on.index)).collect())
    }

    /// All of it as if it had been written at this index.
    pub(crate) fn date(&mut self, index: Index) {
        mend(&mut self.rows, |session| session.create_index = index);
        self.indexes = SessionIndexes { changed: index, ended: index };
        let nodes = std::mem::take(&mut self.nodes);
        self.nodes = nodes.into_iter().map(|(node, on)| (node, OnNode { index, ..on })).collect();
    }

    /// Puts back what [`Sessions::indexes`] told of, once the sessions are there.
    pub(crate) fn set_indexes(&mut self, (indexes, nodes): (SessionIndexes, Vec<(NodeName, Index)>)) {
        self.indexes = indexes;
        for (node, index) in nodes {
            if let Some(on) = self.nodes.get_mut(&node) {
                on.index = index;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_is_let_go_in_its_time_and_bounded() {
        let mut sessions = Sessions::default();
        sessions.hold_back("a".into(), 10);
        sessions.hold_back("b".into(), 20);
        sessions.hold_back("a".into(), 30);
        assert!(sessions.is_held_back("a", 29) && !sessions.is_held_back("a", 30));
        sessions.let_go(20);
        assert!(!sessions.is_held_back("b", 0));
        assert_eq!(sessions.held_back().map(|(until, key)| (until, &**key)).collect::<Vec<_>>(), [(30, "a")]);
        for number in 0..HELD_BACK_MAX as u64 {
            sessions.hold_back(number.to_string().into(), 100 + number);
        }
        assert_eq!((sessions.held_back.len(), sessions.held_back_until.len()), (HELD_BACK_MAX, HELD_BACK_MAX));
        assert!(!sessions.is_held_back("a", 0));
    }
}
