//! The one place where raft's end is told: whoever finds that it cannot go on raises it, whoever runs the agent waits for it.

use std::sync::Arc;

use tokio::sync::watch;

use super::error::Failure;

/// Raised once; the first failure is the one that is told.
#[derive(Clone, Debug)]
pub(super) struct Alarm(Arc<watch::Sender<Option<Failure>>>);

impl Alarm {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    pub(super) fn raise(&self, failure: Failure) {
        self.0.send_if_modified(|first| {
            let raised = first.is_none();
            first.get_or_insert(failure);
            raised
        });
    }

    /// Returns when it is raised, at once if it was.
    pub(super) async fn raised(&self) -> Failure {
        let mut watch = self.0.subscribe();
        match watch.wait_for(Option::is_some).await {
            Ok(failure) => failure.clone().expect("it was waited for"),
            Err(_) => std::future::pending().await, // cannot be: this handle holds the sender
        }
    }

    /// What was raised so far.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.0.borrow().clone()
    }
}
