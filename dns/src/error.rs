//! What can go wrong before DNS answers.

use std::net::SocketAddr;

/// Why DNS cannot start. Nothing was opened that stays open; the operator mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener could not be opened: the address is not this host's, the port is taken, or it needs a right.
    #[error("cannot listen for DNS over {transport} on {address}")]
    Listen {
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The domain or the alternative domain is no DNS name: a label is empty or longer than 63 bytes, or it is too long as a whole.
    #[error("{0:?} is no domain name")]
    Domain(String),
    /// A thread could not be started: the system is out of them.
    #[error("cannot start a DNS thread")]
    Thread(#[source] std::io::Error),
}
