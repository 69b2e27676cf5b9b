//! Why a call to another agent gave no answer.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::refusal::Refusal;

/// Why a call gave no answer. Whether the peer did it is what matters to a caller who would try elsewhere.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    /// It was not sent: there is no address, no connection, or too much is under way. Nothing was done; try another, or later.
    #[error("node {node} was not reached: {what}")]
    NotSent {
        /// The peer.
        node: Uuid,
        /// What was in the way.
        what: Arc<str>,
    },
    /// The connection ended while it was under way: it may have been done.
    #[error("the connection to node {node} ended during a call: {what}")]
    MaybeSent {
        /// The peer.
        node: Uuid,
        /// What was seen.
        what: String,
    },
    /// The peer said no, and why.
    #[error("node {node} refused: {refusal}")]
    Refused {
        /// The peer.
        node: Uuid,
        /// What it said.
        refusal: Refusal,
    },
    /// No answer in time: it may have been done.
    #[error("node {node} did not answer within {after:?}")]
    Timeout {
        /// The peer.
        node: Uuid,
        /// How long was waited.
        after: Duration,
    },
    /// The peer answered something that is no answer; what it did is not known. One of the two has a fault.
    #[error("node {node} sent an answer that is not understood: {what}")]
    Answer {
        /// The peer.
        node: Uuid,
        /// What is wrong with it.
        what: String,
    },
}

impl CallError {
    /// Certainly nothing was done by the peer.
    pub(crate) fn is_undone(&self) -> bool {
        use super::refusal::Code;
        match self {
            CallError::NotSent { .. } => true,
            CallError::Refused { refusal, .. } => !matches!(refusal.code, Code::Deadline | Code::Failed),
            CallError::MaybeSent { .. } | CallError::Timeout { .. } | CallError::Answer { .. } => false,
        }
    }
}
