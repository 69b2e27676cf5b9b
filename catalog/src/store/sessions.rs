//! Sessions begin and end; with its end a session lets its keys go.

use std::sync::Arc;

use uuid::Uuid;

use super::Change;
use crate::cause::Cause;
use crate::command::Refusal;
use crate::name::{CheckId, NodeName};
use crate::past::Subject;
use crate::row::Entry;
use crate::session::{Behavior, Session};
use crate::status::Status;
use crate::topic::Topic;

impl Change<'_> {
    pub(super) fn create_session(&mut self, session: Session) -> Result<(), Refusal> {
        let node = session.node.folded();
        if !self.state.nodes.contains_key(&node) {
            return Err(Refusal::MissingNode);
        }
        if self.state.sessions.get(session.id).is_some() {
            return Err(Refusal::SessionTaken(session.id));
        }
        for id in session.ties() {
            match self.state.check_on(&node, id) {
                None => return Err(Refusal::MissingCheck(id.clone())),
                Some(check) if check.status == Status::Critical => return Err(Refusal::CriticalCheck(id.clone())),
                Some(_) => {}
            }
        }
        let session = Session { cause: self.cause.clone(), create_index: self.index, ..session };
        self.touch_session(session.id, node);
        self.state.sessions.put(Arc::new(session));
        Ok(())
    }

    /// Ends a session, if there is such a one: its keys are let go, and cannot be locked again before its lock delay is over.
    pub(super) fn end_session(&mut self, id: Uuid, why: &str, cause: &Cause) {
        let Some(session) = self.state.sessions.get(id).cloned() else { return };
        let Cause { actor, kind, at_ms, .. } = cause;
        let cause = Arc::new(Cause::new(actor, *kind, *at_ms, format!("session {id} ended: {why}")));
        let delay_ms = u64::try_from(session.lock_delay_ns).unwrap_or(0).div_ceil(1_000_000);
        for key in self.state.sessions.keys_of(id) {
            if delay_ms > 0 {
                self.state.sessions.hold_back(key.clone(), self.state.time_ms.saturating_add(delay_ms));
            }
            match session.behavior {
                Behavior::Delete => self.remove_key(&key),
                Behavior::Release => self.let_go(&key, cause.clone()),
            }
        }
        let node = session.node.folded();
        self.state.past.record(&node, Subject::Session(id), self.index, None, true, &cause);
        self.touch_session(id, node);
        self.state.sessions.take(id, self.index);
        self.state.queries.end(id, self.index);
    }

    /// Nobody holds the key any more; all else stays.
    fn let_go(&mut self, key: &Arc<str>, cause: Arc<Cause>) {
        let Some(old) = self.state.keys.get(&**key).cloned() else { return };
        let entry = Entry { session: None, cause, modify_index: self.index, ..(*old).clone() };
        self.put_entry(entry, old.session);
    }

    /// Those that are tied to a check that is critical or gone.
    pub(super) fn end_tied(&mut self, node: &NodeName, check: &CheckId, what: &str, cause: &Cause) {
        for id in self.state.sessions.tied(node, check) {
            self.end_session(id, &format!("check {check} {what}"), cause);
        }
    }

    /// Those on a node that is gone, or is another one now.
    pub(super) fn end_sessions_on(&mut self, node: &NodeName, why: &str) {
        let sessions: Vec<Uuid> = self.state.sessions_on(node).map(|session| session.id).collect();
        let cause = self.cause.clone();
        for id in sessions {
            self.end_session(id, why, &cause);
        }
    }

    fn touch_session(&mut self, id: Uuid, node: NodeName) {
        self.touch(Topic::Sessions);
        self.touch(Topic::NodeSessions(node));
        self.touch(Topic::Session(id));
    }
}
