//! Raft: a command becomes a committed entry, and the entry a change of the catalog.
//!
//! The path of one write:
//!
//! ```text
//! Raft::write            the disk has room (space.rs), few enough are in flight; the proposal is encoded, once
//! Gather::write          others that come at the same time join it: one offer for all of them              (gather.rs)
//!   → openraft           gives it an index; entry to the log and to the peers (network.rs)
//!   → LogStore::append   into the memory tail, where it is readable; into the writer's queue        (log.rs)
//!   → Writer::commit     takes all that waits: one transaction, one fsync; callbacks in order       (log/writer.rs)
//!   → openraft           a majority has it: committed
//!   → Machine::apply     decode, Store::apply; for the batch: publish, answer, ring the bells       (machine.rs)
//! Raft::write            returns the index and the outcome
//! ```
//!
//! Bytes on disk are our own (codec.rs); openraft is imported in this folder and nowhere else. Everything but the writes to the
//! log and to snapshots runs on one thread with its own runtime: measured 1.3 to 1.8 times faster than sharing the agent's.
//! Other servers are reached by network.rs and come in by incoming.rs, with entries by lines.rs; who they are is changed in members.rs. A leader that is lost
//! is replaced on evidence (evidence.rs), and a server that was restarted on an old copy of its disk does not vote (guard.rs).
//! What cannot go on is raised once ([`Raft::failed`]); the agent then exits, and what was acknowledged is on disk.

mod alarm;
mod codec;
mod config;
mod engine;
mod error;
mod evidence;
mod gather;
mod growth;
mod guard;
mod incoming;
mod lines;
mod links;
mod load;
mod log;
mod machine;
mod members;
pub mod metrics;
mod network;
mod peers;
mod read_index;
mod rounds;
mod seen;
mod snapshot;
mod space;
mod status;
#[cfg(test)]
mod tests;
mod thread;
mod tidings;
mod types;
mod wire;

pub use config::Config;
pub use engine::Raft;
pub use error::{MemberError, WriteError};
pub use links::{Missing, Server};
#[cfg(test)]
pub(crate) use log::slow_disk;
pub use log::{Carried, Logged, read_log};
pub use machine::Bells;
pub(crate) use rounds::{Asked, ROUND_TIMEOUT, Rounds, decode as decode_read_index};
pub use status::{Role, Status};
pub use types::RaftId;
#[cfg(any(test, fuzzing))]
pub(crate) use wire::fuzz;
