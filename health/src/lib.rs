//! How to look at a service, and how many results make a verdict.
//!
//! [`new`] gives a [`Handle`], through which checks are told, and a [`Driver`], one future that runs them; each [`Verdict`]
//! goes out over a bounded channel. Where verdicts go is not known here. What decides (`roll` and below it `wheel`, `ttl`,
//! `verdict`, and the public [`alias`] and [`Deregister`]) takes time and randomness as arguments; what touches the world
//! is `probe` and `runner`.

mod alias;
mod deregister;
mod error;
mod metrics;
mod probe;
mod roll;
mod runner;
#[cfg(test)]
mod testing;
mod text;
mod ttl;
mod verdict;
mod wheel;

pub use alias::alias;
pub use deregister::{Deregister, REAP_INTERVAL};
pub use error::{Error, TlsError};
pub use metrics::describe;
pub use probe::AgentTls;
pub use runner::{Config, Driver, EXECS_MAX, Handle, RESULTS_MAX, SOCKETS_MAX, new};
pub use verdict::{Source, Verdict};
