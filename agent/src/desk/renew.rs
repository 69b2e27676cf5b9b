//! A session is renewed by the leader, wherever it is asked for.
#![allow(clippy::disallowed_methods)] // retries have an end

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_catalog::{Cause, CauseKind, Command, EndSession, Session};
use uuid::Uuid;

use super::leases::Leases;
use super::travel::{Question, read};
use super::{Act, Consistency, Desk, DeskError, Who, allow};

/// Pause before it is looked again who leads.
const PAUSE: Duration = Duration::from_millis(25);

impl Desk {
    /// The leader's count of how long sessions live.
    pub(crate) fn leases(&self) -> &Leases {
        &self.0.leases
    }

    /// Renews a session: it has all of its time before it again. `None` if there is no such one.
    pub(crate) async fn renew(&self, who: &Who, id: Uuid) -> Result<Option<Arc<Session>>, DeskError> {
        allow(who, &Act::Renew(id))?;
        if self.raft().is_none() {
            let question = Question::Renew { id, sent_on: false };
            return Ok(self.carry(who, question, Consistency::Default, None, read).await?.answer);
        }
        self.renew_among_servers(who, id).await
    }

    /// What another agent asks for; a server that was told by a server does not send it on.
    pub(super) async fn renew_for_another(&self, who: &Who, id: Uuid, sent_on: bool) -> Result<Option<Arc<Session>>, DeskError> {
        allow(who, &Act::Renew(id))?;
        if sent_on { self.renew_as_leader(id).await } else { self.renew_among_servers(who, id).await }
    }

    async fn renew_among_servers(&self, who: &Who, id: Uuid) -> Result<Option<Arc<Session>>, DeskError> {
        let until = Instant::now() + self.0.hold;
        loop {
            let leader = self.raft().filter(|raft| !raft.is_leader()).and_then(|raft| raft.leader()).map(|(_, node)| node);
            let tried = match leader.filter(|node| *node != self.id()) {
                None => self.renew_as_leader(id).await,
                Some(node) => {
                    let question = Question::Renew { id, sent_on: true };
                    let sent = self.carry_to(node, who, question, until.saturating_duration_since(Instant::now()), read);
                    sent.await.map(|seen| seen.answer)
                }
            };
            match tried {
                Err(DeskError::NoLeader | DeskError::Behind | DeskError::Away(_)) if Instant::now() + PAUSE < until => {
                    tokio::time::sleep(PAUSE).await;
                }
                tried => return tried,
            }
        }
    }

    /// A majority must have it that this server leads: what one renews that does not know better would be lost at the next.
    async fn renew_as_leader(&self, id: Uuid) -> Result<Option<Arc<Session>>, DeskError> {
        let Some(raft) = self.raft().filter(|raft| raft.is_leader()) else { return Err(DeskError::NoLeader) };
        self.fresh(Duration::ZERO, None).await?;
        if !raft.is_leader() {
            return Err(DeskError::NoLeader);
        }
        let session = self.reader().load().session(id).cloned();
        Ok(session.filter(|session| self.leases().renew(id, Duration::from_nanos(session.ttl_ns))))
    }

    /// Ends a session that was not renewed in time; as the leader that counted it, or not at all: another leader has heard
    /// renewals that this one has not.
    pub(crate) async fn expire(&self, session: &Session) -> Result<(), DeskError> {
        let reason = format!("not renewed for twice its TTL of {}", session.ttl);
        let cause = Cause::new(self.name(), CauseKind::SessionExpired, self.clock_ms(), reason);
        self.write_as_leader(Command::EndSession(EndSession { id: session.id }), &cause).await
    }
}
