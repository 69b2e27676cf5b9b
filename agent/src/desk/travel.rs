//! Questions about what only servers hold: they travel to one and enter the same desk there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_catalog::{
    Ask, CatalogService, HealthService, Index, KeyOne, KeysUnder, NodeChecks, NodeServices, Nodes, ServiceChecks, StateChecks,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{Consistency, Desk, DeskError, Seen, Token, Wait, Who};
use crate::rpc::{Code, Method, Refusal};

/// What is added to a question's own waiting time, for the way.
const WAY: Duration = Duration::from_secs(5);

/// A question that can be asked of an agent, be it a server or not.
pub(crate) trait Travel: Ask {
    /// How it travels; `None` if every agent has what it asks for.
    fn question(&self) -> Option<Question> {
        None
    }

    /// The answer as it came back.
    fn read(_bytes: &[u8]) -> Option<Self::Answer> {
        None
    }
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
}

impl Travel for KeyOne {
    fn question(&self) -> Option<Question> {
        Some(Question::Key(self.key.clone()))
    }

    fn read(bytes: &[u8]) -> Option<Self::Answer> {
        read(bytes)
    }
}

impl Travel for KeysUnder {
    fn question(&self) -> Option<Question> {
        Some(Question::Keys(self.prefix.clone()))
    }

    fn read(bytes: &[u8]) -> Option<Self::Answer> {
        read(bytes)
    }
}

impl Travel for Nodes {}
impl Travel for CatalogService {}
impl Travel for HealthService {}
impl Travel for NodeServices {}
impl Travel for NodeChecks {}
impl Travel for ServiceChecks {}
impl Travel for StateChecks {}

pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    rmp_serde::from_slice(bytes).ok()
}

/// A question with what is said about it.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
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

impl Desk {
    /// Asks a server.
    pub(super) async fn carry<T>(
        &self,
        who: &Who,
        question: Question,
        consistency: Consistency,
        wait: Option<&Wait>,
        read_answer: fn(&[u8]) -> Option<T>,
    ) -> Result<Seen<T>, DeskError> {
        let wait = wait.filter(|wait| wait.seen > 0);
        let letter = Letter {
            question,
            stale: consistency == Consistency::Stale,
            consistent: consistency == Consistency::Consistent,
            seen: wait.map_or(0, |wait| wait.seen),
            wait_ms: wait.map_or(0, |wait| wait.timeout.as_millis() as u64),
            token: who.token.as_ref().map(|token| token.0.clone()),
            from: who.from.clone(),
        };
        let body = rmp_serde::to_vec_named(&letter).expect("plain data can be written to memory");
        let deadline = wait.map_or(Duration::ZERO, |wait| wait.timeout) + WAY;
        let asked = self.quorum().ask(Method::Query, body.into(), deadline);
        let answer = tokio::select! {
            answer = asked => answer?,
            () = self.stopping() => return Err(DeskError::Stopping),
        };
        let reply: Option<Reply> = read(&answer);
        let told = reply.and_then(|Reply { index, known_leader, last_contact_ms, answer }| {
            Some(Seen { index, known_leader, last_contact_ms, answer: read_answer(&answer)? })
        });
        told.ok_or(DeskError::Foreign)
    }

    /// Answers a question that another agent could not.
    pub(crate) async fn answer_letter(&self, body: &[u8]) -> Result<Bytes, Refusal> {
        let letter: Letter = rmp_serde::from_slice(body).map_err(|error| Refusal::new(Code::Body, error.to_string()))?;
        let consistency = match (letter.stale, letter.consistent) {
            (true, _) => Consistency::Stale,
            (_, true) => Consistency::Consistent,
            _ => Consistency::Default,
        };
        let wait = (letter.seen > 0).then(|| Wait { seen: letter.seen, timeout: Duration::from_millis(letter.wait_ms) });
        let who = Who { token: letter.token.map(Token), from: letter.from };
        match letter.question {
            Question::Key(key) => reply(self.read(&who, &KeyOne { key }, consistency, wait.as_ref()).await),
            Question::Keys(prefix) => reply(self.read(&who, &KeysUnder { prefix }, consistency, wait.as_ref()).await),
            Question::Servers => {
                reply(Ok(Seen { index: 1, known_leader: true, last_contact_ms: 0, answer: self.servers_here() }))
            }
        }
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
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_read_as_it_was_written() {
        let letter = Letter {
            question: Question::Key("a/b".into()),
            stale: false,
            consistent: true,
            seen: 7,
            wait_ms: 1000,
            token: Some("t".into()),
            from: "127.0.0.1:9".into(),
        };
        let read: Letter = read(&rmp_serde::to_vec_named(&letter).unwrap()).unwrap();
        assert!(matches!(read.question, Question::Key(key) if &*key == "a/b"));
        assert!(read.consistent && !read.stale && read.seen == 7 && read.wait_ms == 1000);
        assert!(super::read::<Letter>(&[0xc1]).is_none());
    }
}
