//! Is there anybody: the one question whose answer counts as proof, so it takes no connection that was made before.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::timeout;

use super::connect::connect;
use super::dial;
use super::method::Class;
use super::pool::Pool;
use super::target::Target;

/// What was found at a peer's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nobody listens there: the host says so itself.
    Refused,
    /// The peer answered.
    Alive,
    /// Something accepted and ended the connection: a process that is about to be gone, or one that does not know us.
    Ended,
    /// No answer in time, or no way there.
    Silence,
}

impl Pool {
    /// Knocks at a peer's address.
    pub(crate) async fn probe(&self, to: Target, limit: Duration) -> Found {
        let Some(address) = self.book().get(to.node) else { return Found::Silence };
        match timeout(limit, connect(address)).await {
            Ok(Ok(stream)) => match timeout(limit, dial::greet(self.identity(), stream, to, Class::Raft)).await {
                Ok(Ok(_)) => Found::Alive,
                Ok(Err(_)) => Found::Ended,
                Err(_) => Found::Silence,
            },
            Ok(Err(error)) => match error.kind() {
                ErrorKind::ConnectionRefused => Found::Refused,
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Found::Ended,
                _ => Found::Silence,
            },
            Err(_) => Found::Silence,
        }
    }
}
