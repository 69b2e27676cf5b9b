//! A call that a peer understood and did not do: why, as a code for programs and a text for people.

use serde::{Deserialize, Serialize};

/// Why. The word is on the wire: never reuse one; an unknown one is read as [`Code::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// No protocol version that both speak.
    Version,
    /// Of another cluster, or of none yet.
    Cluster,
    /// Of another datacenter.
    Datacenter,
    /// The call was meant for another voter than the one that answers there.
    RaftId,
    /// Another node answers at that address.
    Node,
    /// A call before the hello.
    NoHello,
    /// No such method here, or none for this caller.
    Method,
    /// The body is longer than its method may have.
    TooLarge,
    /// The body was not understood.
    Body,
    /// As much as it takes is under way. Nothing was done; later may do.
    Busy,
    /// Its deadline passed; whether it was done is not known.
    Deadline,
    /// The peer is stopping.
    Stopping,
    /// Nothing was done: the peer does not lead, or knows no leader.
    NotLeader,
    /// Anything else; the text says what.
    Failed,
}

const WORDS: [(Code, &str); 14] = [
    (Code::Version, "version"),
    (Code::Cluster, "cluster"),
    (Code::Datacenter, "datacenter"),
    (Code::RaftId, "raft_id"),
    (Code::Node, "node"),
    (Code::NoHello, "no_hello"),
    (Code::Method, "method"),
    (Code::TooLarge, "too_large"),
    (Code::Body, "body"),
    (Code::Busy, "busy"),
    (Code::Deadline, "deadline"),
    (Code::Stopping, "stopping"),
    (Code::NotLeader, "not_leader"),
    (Code::Failed, "failed"),
];

impl Code {
    fn word(self) -> &'static str {
        WORDS.iter().find(|(code, _)| *code == self).map_or("failed", |(_, word)| word)
    }

    fn of(word: &str) -> Self {
        WORDS.iter().find(|(_, known)| *known == word).map_or(Code::Failed, |(code, _)| *code)
    }

    /// What is wrong with the two of them, not with one call: the connection ends.
    pub(crate) fn ends_connection(self) -> bool {
        matches!(
            self,
            Code::Version | Code::Cluster | Code::Datacenter | Code::RaftId | Code::Node | Code::NoHello | Code::Stopping
        )
    }
}

/// What the peer said instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refusal {
    /// For programs.
    pub(crate) code: Code,
    /// For people.
    pub(crate) text: String,
}

#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(default)]
    code: String,
    #[serde(default)]
    text: String,
}

/// Longest text that is taken from a peer: it goes into logs.
const TEXT_BYTES_MAX: usize = 1024;

impl Refusal {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// As it is sent.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = Body { code: self.code.word().to_owned(), text: self.text.clone() };
        rmp_serde::to_vec_named(&body).expect("two strings can be written to memory")
    }

    /// What came; anything that is not a refusal is one without a reason.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        match muster_catalog::unpack::<Body>(bytes) {
            Ok(Body { code, mut text }) => {
                text.retain(|char| !char.is_control());
                let mut end = text.len().min(TEXT_BYTES_MAX);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                text.truncate(end);
                Self { code: Code::of(&code), text }
            }
            Err(_) => Self::new(Code::Failed, "the peer refused and did not say why"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_as_it_was_written_and_an_unknown_one_too() {
        for (code, _) in WORDS {
            let refusal = Refusal::new(code, "why");
            assert_eq!(Refusal::decode(&refusal.encode()), refusal);
        }
        let newer = rmp_serde::to_vec_named(&Body { code: "newer".to_owned(), text: "a\nb".to_owned() }).unwrap();
        assert_eq!(Refusal::decode(&newer), Refusal::new(Code::Failed, "ab"));
        assert_eq!(Refusal::decode(b"\xc1junk").code, Code::Failed);
        let long = Refusal::new(Code::Busy, "é".repeat(TEXT_BYTES_MAX));
        assert_eq!(Refusal::decode(&long.encode()).text.len(), TEXT_BYTES_MAX);
    }
}
