//! What can go wrong between a command line and the agent it talks to.

use std::io;
use std::path::PathBuf;

use crate::config::Fault;

/// A command that did not do what was asked; its text is for the person at the keyboard.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A flag or argument makes no sense here. Nothing was sent; the caller mends it.
    #[error("{0}")]
    Usage(String),

    /// The address of the agent cannot be read. Nothing was sent; the caller mends flag or environment.
    #[error("The agent's address \"{address}\" {fault}")]
    Address { address: String, fault: &'static str },

    /// Nobody takes the connection. Nothing was sent; start the agent or name another address.
    #[error("No agent answers at {address}")]
    Connect { address: String, source: io::Error },

    /// The agent took the request and did not answer in time. A write may have been done; ask before repeating it.
    #[error("The agent at {address} did not answer within {seconds} seconds")]
    Timeout { address: String, seconds: u64 },

    /// The connection broke before the whole answer was here. A write may have been done; ask before repeating it.
    #[error("The connection to the agent at {address} broke")]
    Broken { address: String, source: hyper::Error },

    /// The agent refused or failed; its own text says why. Nothing changed unless that text says so.
    #[error("Unexpected response code: {status} ({text})")]
    Answer { status: u16, text: String },

    /// What came back is not an answer of this API: probably another program listens there.
    #[error("The agent at {address} answered something else than Consul's API does")]
    NotJson { address: String, source: serde_json::Error },

    /// The answer is larger than a command keeps in memory. Nothing changed; ask for less.
    #[error("The answer of the agent at {address} is larger than {limit} bytes")]
    TooLarge { address: String, limit: usize },

    /// A key does not exist. `kv get` of a missing key is a failure to a script, as in Consul.
    #[error("No key exists at: {0}")]
    NoKey(String),

    /// The agent understood and did not do it: the index or the session did not match.
    #[error("{0}")]
    NotDone(String),

    /// The lock was lost, or nobody could say any more whether it is held. The program was ended; another one may run elsewhere.
    #[error("Lock lost: {0}")]
    LockLost(String),

    /// The lock was not to be had in time. The program was not run.
    #[error("Lock acquisition failed: not within {0}")]
    NoLock(String),

    /// A program cannot be run. The lock was given back.
    #[error("Cannot run {program}")]
    Run { program: String, source: io::Error },

    /// A file (or standard input) cannot be read. Nothing was sent.
    #[error("Cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },

    /// A file was read and does not say what it should. Nothing was sent; the file's author mends it.
    #[error("{}: {fault}", path.display())]
    File { path: PathBuf, fault: String },

    /// A definition file holds what no agent would take. Nothing was sent; the file's author mends it.
    #[error("{0}")]
    Definition(Fault),

    /// Standard output takes no more (a full disk). What was asked of the agent was done.
    #[error("Cannot write the output")]
    Output { source: io::Error },

    /// The reader of standard output went away, as `head` does: the command ends, and that is no failure.
    #[error("The reader of the output went away")]
    Closed,
}

impl Error {
    /// The line under the error that says what to do.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self {
            Error::Connect { .. } => Some(
                "Start an agent there (`muster agent -dev` for a first look), or name another address with \
                 -http-addr=HOST:PORT or in MUSTER_HTTP_ADDR or CONSUL_HTTP_ADDR (unix:///PATH for a socket).",
            ),
            Error::Address { .. } => {
                Some("It is HOST:PORT, http://HOST:PORT or unix:///PATH, from -http-addr, MUSTER_HTTP_ADDR or CONSUL_HTTP_ADDR.")
            }
            Error::Answer { status: 401 | 403, .. } => {
                Some("Give a token that may do this: -token, -token-file or CONSUL_HTTP_TOKEN.")
            }
            Error::NotJson { .. } => Some("Is that address an agent's HTTP port? -http-addr names another one."),
            _ => None,
        }
    }
}
