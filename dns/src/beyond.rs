//! What DNS does not know by itself: how old its rows are, and who brings them up to date when that is too old.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use muster_catalog::{Part, State};
use tokio::sync::{mpsc, oneshot};

/// How old the rows can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// Whether a leader is known now.
    pub known_leader: bool,
    /// Since its last word.
    pub last_contact: Duration,
}

impl Age {
    /// Of rows that nothing could be newer than.
    pub const NONE: Age = Age { known_leader: true, last_contact: Duration::ZERO };
}

/// A question waits for rows. Dropping it says that there are none to be had.
#[derive(Debug)]
pub struct Errand {
    /// What must be among them; of nothing, the agent's own rows are wanted.
    pub parts: BTreeSet<Part>,
    /// Whether they must be as new as what was acknowledged before the question.
    pub fresh: bool,
    /// Where they are waited for.
    pub answer: oneshot::Sender<Arc<State>>,
}

/// Who knows more.
#[derive(Clone)]
pub struct Beyond {
    /// How old the rows are; asked once a batch of queries.
    pub age: Arc<dyn Fn() -> Age + Send + Sync>,
    /// Takes errands. While it is full, questions that need one are answered with SERVFAIL.
    pub errands: mpsc::Sender<Errand>,
}

impl Beyond {
    /// Nobody: the rows are as new as any.
    pub fn nobody() -> Self {
        Self { age: Arc::new(|| Age::NONE), errands: mpsc::channel(1).0 }
    }
}

impl fmt::Debug for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beyond").finish_non_exhaustive()
    }
}
