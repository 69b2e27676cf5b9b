//! The only place where an error becomes a status and Consul's plain text.

use std::sync::Arc;

use http::StatusCode;

use super::reply::{Meta, Reply};
use crate::desk::{DeskError, Unknown};
use crate::raft::WriteError;

/// A request that cannot be answered as it was meant. Nothing was changed, unless a variant says otherwise.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum HttpError {
    /// The request is wrong: the client must mend it.
    #[error("{0}")]
    BadRequest(String),
    /// The body is no such object: the client must mend it.
    #[error("Request decode failed: {0}")]
    Decode(String),
    /// Refused: the client lacks a right, or the agent is configured not to answer this.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing, said with a text.
    #[error("{0}")]
    NotFound(String),
    /// The body took longer than its deadline.
    #[error("the request's body did not arrive in time")]
    BodyTimeout,
    /// The body is larger than its bound; `announced` is its length as far as it is known.
    #[error("Request body({announced} bytes) too large, max size: {max} bytes. See {setting} in the agent's configuration.")]
    TooLarge {
        /// Bytes announced, or read when it was given up.
        announced: u64,
        /// Bytes allowed.
        max: usize,
        /// The configuration key that says so.
        setting: &'static str,
    },
    /// It is more than is taken at once, said with a text.
    #[error("{0}")]
    TooMuch(String),
    /// More reads than `limits.request_limits` allows: another server may answer, or this one later.
    #[error("{0}")]
    TooOften(&'static str),
    /// More writes than that: later.
    #[error("{0}")]
    TooOftenWritten(&'static str),
    /// The body broke off or is framed wrongly.
    #[error("Request decode failed: {0}")]
    BodyBroken(String),
    /// What Consul's servers answer with 500 although the client is at fault.
    #[error("{0}")]
    Server(String),
    /// As [`HttpError::Server`], of a read that carries the index headers all the same.
    #[error("{0}")]
    ServerOfRead(String),
    /// From the desk; what became of a write is said there.
    #[error("{text}", text = desk_text(.0))]
    Desk(Arc<DeskError>),
}

impl From<DeskError> for HttpError {
    fn from(error: DeskError) -> Self {
        HttpError::Desk(Arc::new(error))
    }
}

impl HttpError {
    /// The answer to the client.
    pub(super) fn reply(&self) -> Reply {
        let status = match self {
            HttpError::BadRequest(_) | HttpError::Decode(_) | HttpError::BodyBroken(_) => StatusCode::BAD_REQUEST,
            HttpError::Forbidden(_) => StatusCode::FORBIDDEN,
            HttpError::NotFound(_) => StatusCode::NOT_FOUND,
            HttpError::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            HttpError::TooLarge { .. } | HttpError::TooMuch(_) => StatusCode::PAYLOAD_TOO_LARGE,
            HttpError::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
            HttpError::TooOftenWritten(_) => StatusCode::SERVICE_UNAVAILABLE,
            HttpError::Server(_) | HttpError::ServerOfRead(_) => StatusCode::INTERNAL_SERVER_ERROR,
            HttpError::Desk(error) => desk_status(error),
        };
        let reply = Reply::text(status, self.to_string());
        match self {
            HttpError::ServerOfRead(_) => reply.with_meta(Meta { index: 1, known_leader: false, last_contact_ms: 0 }),
            _ => reply,
        }
    }
}

fn desk_status(error: &DeskError) -> StatusCode {
    match error {
        // Consul's 500 for these three, although they are the caller's or the operator's to mend.
        DeskError::ScriptsForbidden | DeskError::Reload(_) | DeskError::Unknown(Unknown::NotTtl(_)) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        DeskError::Unknown(_) => StatusCode::NOT_FOUND,
        DeskError::Write(WriteError::Busy) => StatusCode::TOO_MANY_REQUESTS,
        DeskError::Write(WriteError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
        DeskError::Write(WriteError::DiskFull { .. }) => StatusCode::INSUFFICIENT_STORAGE,
        DeskError::Stopping | DeskError::Write(WriteError::Stopped) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What the client is told: a write without a leader is Consul's `No cluster leader`, whichever room found it out.
fn desk_text(error: &DeskError) -> String {
    match error {
        DeskError::Write(WriteError::NotLeader { .. }) | DeskError::Away(_) => "No cluster leader".to_owned(),
        error => error.to_string(),
    }
}
