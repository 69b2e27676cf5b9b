//! Questions that this agent's copy cannot answer: they travel to a server and enter the same desk there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_catalog::{
    AllQueries, AllSessions, Ask, AutopilotSet, CatalogService, Coordinates, ExecuteQuery, HealthService, Incoming, Index,
    Intake, Interest, KeyOne, KeysUnder, NodeChecks, NodeServices, NodeSessions, Nodes, Part, QueryOne, Reading, ResolveQuery,
    ServiceChecks, Services, SessionOne, State, StateChecks, Topic, Usage,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use smol_str::SmolStr;
use uuid::Uuid;

use super::{Consistency, Desk, DeskError, Seen, Token, Wait, Who};
use crate::rpc::{Code, Method, Refusal};

/// Counter: questions that this agent's own copy could not answer.
const TRAVELLED: &str = "feed.travelled";

/// What is added to a question's own waiting time, for the way.
const WAY: Duration = Duration::from_secs(5);

/// A question that can be asked of an agent, be it a server or not.
pub(crate) trait Travel: Ask {
    /// How it travels.
    fn question(&self) -> Question;

    /// The answer as it came back.
    fn read(&self, bytes: &[u8]) -> Option<Self::Answer>;
}

/// A question on its way. The names are on the wire: an older server refuses one that it does not know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Question {
    /// One key.
    Key(Arc<str>),
    /// All keys under a prefix.
    Keys(Arc<str>),
    /// Who leads, and who are the servers.
    Servers,
    Nodes(Nodes),
    Services(Services),
    CatalogService(CatalogService),
    HealthService(HealthService),
    NodeServices(NodeServices),
    NodeChecks(NodeChecks),
    ServiceChecks(ServiceChecks),
    StateChecks(StateChecks),
    AutopilotSet(AutopilotSet),
    SessionOne(SessionOne),
    NodeSessions(NodeSessions),
    AllSessions(AllSessions),
    /// A transaction that only reads.
    Reading(Reading),
    /// A session is renewed, by the leader; a server that was told by a server does not send it on.
    Renew {
        id: Uuid,
        #[serde(default)]
        sent_on: bool,
    },
    Coordinates(Coordinates),
    Usage(Usage),
    AllQueries(AllQueries),
    QueryOne(QueryOne),
    ResolveQuery(ResolveQuery),
    ExecuteQuery(ExecuteQuery),
    /// Rows, for whoever looks among them by itself.
    Rows(Rows),
}

impl Travel for KeyOne {
    fn question(&self) -> Question {
        Question::Key(self.key.clone())
    }

    fn read(&self, bytes: &[u8]) -> Option<Self::Answer> {
        read(bytes)
    }
}

impl Travel for KeysUnder {
    fn question(&self) -> Question {
        Question::Keys(self.prefix.clone())
    }

    fn read(&self, bytes: &[u8]) -> Option<Self::Answer> {
        read(bytes)
    }
}

macro_rules! travels {
    ($($ask:ident),*) => {
        $(impl Travel for $ask {
            fn question(&self) -> Question {
                Question::$ask(self.clone())
            }

            fn read(&self, bytes: &[u8]) -> Option<Self::Answer> {
                read(bytes)
            }
        })*
    };
}

travels!(
    Nodes,
    Services,
    CatalogService,
    HealthService,
    NodeServices,
    NodeChecks,
    ServiceChecks,
    StateChecks,
    AutopilotSet,
    SessionOne,
    NodeSessions,
    AllSessions,
    Reading,
    Coordinates,
    Usage,
    AllQueries,
    QueryOne,
    ResolveQuery,
    ExecuteQuery,
    Rows
);

/// The rows of an interest, or all of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rows {
    pub(crate) of: Option<Interest>,
}

impl Ask for Rows {
    /// A batch in its frames.
    type Answer = Vec<Bytes>;
    fn topics(&self) -> SmallVec<[Topic; 1]> {
        SmallVec::from_iter([Topic::Services, Topic::Nodes])
    }
    fn look(&self, state: &State) -> Self::Answer {
        let batch = self.of.as_ref().map_or_else(|| state.whole(), |interest| state.part(interest));
        batch.frames().collect()
    }
}

impl Rows {
    /// What the frames amount to.
    pub(crate) fn state(frames: &[Bytes]) -> Option<State> {
        let mut intake = Intake::new();
        let mut state = None;
        for frame in frames {
            for incoming in intake.take(frame).ok()? {
                if let Incoming::Batch(batch) = incoming {
                    state = Some(State::of(*batch));
                }
            }
        }
        state
    }
}

pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    muster_catalog::unpack(bytes).ok()
}

/// A question with what is said about it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Letter {
    question: Question,
    #[serde(default)]
    stale: bool,
    #[serde(default)]
    consistent: bool,
    /// 0 for one that does not wait.
    #[serde(default)]
    seen: Index,
    #[serde(default)]
    wait_ms: u64,
    #[serde(default)]
    token: Option<SmolStr>,
    #[serde(default)]
    from: SmolStr,
}

/// An answer with what is known of its age.
#[derive(Debug, Serialize, Deserialize)]
struct Reply {
    index: Index,
    known_leader: bool,
    last_contact_ms: u64,
    answer: Bytes,
}

fn letter(who: &Who, question: Question, consistency: Consistency, wait: Option<&Wait>) -> Bytes {
    metrics::counter!(TRAVELLED).increment(1);
    let letter = Letter {
        question,
        stale: consistency == Consistency::Stale,
        consistent: consistency == Consistency::Consistent,
        seen: wait.map_or(0, |wait| wait.seen),
        wait_ms: wait.map_or(0, |wait| wait.timeout.as_millis() as u64),
        token: who.token.as_ref().map(|token| token.0.clone()),
        from: who.from.clone(),
    };
    rmp_serde::to_vec_named(&letter).expect("plain data can be written to memory").into()
}

fn opened<T>(answer: &[u8], read_answer: impl Fn(&[u8]) -> Option<T>) -> Result<Seen<T>, DeskError> {
    let reply: Option<Reply> = read(answer);
    let told = reply.and_then(|Reply { index, known_leader, last_contact_ms, answer }| {
        Some(Seen { index, known_leader, last_contact_ms, answer: read_answer(&answer)? })
    });
    told.ok_or(DeskError::Foreign)
}

impl Desk {
    /// Asks a server.
    pub(super) async fn carry<T>(
        &self,
        who: &Who,
        question: Question,
        consistency: Consistency,
        wait: Option<&Wait>,
        read_answer: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Seen<T>, DeskError> {
        let wait = wait.filter(|wait| wait.seen > 0);
        let deadline = wait.map_or(Duration::ZERO, |wait| wait.timeout) + WAY.min(self.quorum().patience());
        let asked = self.quorum().ask(Method::Query, letter(who, question, consistency, wait), deadline);
        let answer = tokio::select! {
            answer = asked => answer?,
            () = self.stopping() => return Err(DeskError::Stopping),
        };
        opened(&answer, read_answer)
    }

    /// Asks one server.
    pub(super) async fn carry_to<T>(
        &self,
        server: Uuid,
        who: &Who,
        question: Question,
        deadline: Duration,
        read_answer: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Seen<T>, DeskError> {
        let pool = self.quorum().pool().ok_or(DeskError::NoLeader)?;
        let letter = letter(who, question, Consistency::Default, None);
        let answer = pool.call(server, Method::Query, letter, deadline.min(WAY)).await.map_err(DeskError::Away)?;
        opened(&answer, read_answer)
    }

    /// The rows of these parts, from a server; what this agent may be asked for again is wanted from now on.
    pub(crate) async fn rows(&self, who: &Who, parts: &BTreeSet<Part>, fresh: bool) -> Result<Arc<State>, DeskError> {
        let mut interest = Interest::default();
        for part in parts {
            interest.widen(part);
        }
        let rows = Rows { of: Some(interest) };
        let consistency = if fresh { Consistency::Default } else { Consistency::Stale };
        let seen = self.carry(who, rows.question(), consistency, None, |bytes| rows.read(bytes)).await?;
        let state = Rows::state(&seen.answer).ok_or(DeskError::Foreign)?;
        // Not names that nobody has: a search list asks for many of those.
        let there = |part: &&Part| matches!(part, Part::Service(name) if state.service(name.as_str()).is_some());
        if let Some(wants) = self.wants() {
            parts.iter().filter(there).for_each(|part| wants.note(part));
        }
        Ok(Arc::new(state))
    }

    /// Answers a question that another agent could not.
    pub(crate) async fn answer_letter(&self, body: &[u8]) -> Result<Bytes, Refusal> {
        let letter: Letter = muster_catalog::unpack(body).map_err(|error| Refusal::new(Code::Body, error.to_string()))?;
        let consistency = match (letter.stale, letter.consistent) {
            (true, _) => Consistency::Stale,
            (_, true) => Consistency::Consistent,
            _ => Consistency::Default,
        };
        let wait = (letter.seen > 0).then(|| Wait { seen: letter.seen, timeout: Duration::from_millis(letter.wait_ms) });
        let who = Who { token: letter.token.map(Token), from: letter.from };
        match letter.question {
            Question::Key(key) => self.answer_ask(&who, &KeyOne { key }, consistency, wait).await,
            Question::Keys(prefix) => self.answer_ask(&who, &KeysUnder { prefix }, consistency, wait).await,
            Question::Nodes(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::Services(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::CatalogService(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::HealthService(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::NodeServices(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::NodeChecks(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::ServiceChecks(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::StateChecks(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::AutopilotSet(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::SessionOne(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::NodeSessions(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::AllSessions(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::Reading(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::Renew { id, sent_on } => {
                let renewed = self.renew_for_another(&who, id, sent_on).await;
                reply(renewed.map(|answer| Seen { index: 1, known_leader: true, last_contact_ms: 0, answer }))
            }
            Question::Coordinates(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::Usage(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::AllQueries(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::QueryOne(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::ResolveQuery(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::ExecuteQuery(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::Rows(ask) => self.answer_ask(&who, &ask, consistency, wait).await,
            Question::Servers => {
                reply(Ok(Seen { index: 1, known_leader: true, last_contact_ms: 0, answer: self.servers_here() }))
            }
        }
    }

    /// A question ends its journey at a server.
    async fn answer_ask<A>(&self, who: &Who, ask: &A, consistency: Consistency, wait: Option<Wait>) -> Result<Bytes, Refusal>
    where
        A: Travel<Answer: Serialize> + Sync,
    {
        if self.raft().is_none() {
            return Err(Refusal::new(Code::Method, "this node is no server"));
        }
        reply(self.read(who, ask, consistency, wait.as_ref()).await)
    }
}

fn reply<T: Serialize>(seen: Result<Seen<T>, DeskError>) -> Result<Bytes, Refusal> {
    let Seen { index, known_leader, last_contact_ms, answer } = seen.map_err(|error| match error {
        DeskError::NoLeader => Refusal::new(Code::NotLeader, error.to_string()),
        DeskError::Stopping => Refusal::new(Code::Stopping, error.to_string()),
        error => Refusal::new(Code::Failed, error.to_string()),
    })?;
    let answer: Bytes = rmp_serde::to_vec_named(&answer).expect("plain data can be written to memory").into();
    let reply = Reply { index, known_leader, last_contact_ms, answer };
    Ok(rmp_serde::to_vec_named(&reply).expect("plain data can be written to memory").into())
}

#[cfg(test)]
mod tests;
