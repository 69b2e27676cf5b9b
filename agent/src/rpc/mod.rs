//! Calls to other agents: HTTP/2, one connection for each peer and purpose, MessagePack in the bodies.
//!
//! ```text
//! Pool::call          the peer's connection, dialled once for all who ask at that moment     (pool.rs)
//!   → connect         the one place where a connection is made; TLS comes in there           (connect.rs)
//!   → hello           both sides show version range, cluster, datacenter, node, raft ids     (hello.rs)
//!   → POST /1/…       a method's path is its tag; a deadline and a body with a bound         (method.rs, call.rs)
//! ```
//!
//! The entries of the log alone go over plain lines between servers, which cost less a batch (line.rs).
//!
//! The answering side is a door: `door/peer`. What both sides must agree on stands here.

mod address;
mod call;
mod connect;
mod dial;
mod error;
mod frames;
mod hello;
mod identity;
mod line;
mod method;
pub(crate) mod metrics;
mod pool;
mod probe;
mod rate;
mod refusal;
mod target;
mod told;

pub(crate) use address::AddressBook;
pub(crate) use connect::{Stream, accept};
pub(crate) use error::CallError;
pub(crate) use frames::{Frames, frame};
pub(crate) use hello::{HELLO_BYTES_MAX, Hello, meet};
pub(crate) use identity::{Identity, Part};
pub(crate) use line::{Detached, Line};
#[cfg(test)]
pub(crate) use method::Class;
pub(crate) use method::{DEADLINE_HEADER, Method};
pub(crate) use pool::Pool;
pub(crate) use probe::Found;
pub(crate) use rate::Rate;
pub(crate) use refusal::{Code, Refusal};
pub(crate) use target::Target;
pub(crate) use told::Told;
