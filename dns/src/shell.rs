//! What touches the world: sockets, threads, clocks.

mod driver;
mod exchange;
mod later;
mod mmsg;
mod recursors;
mod shared;
mod sockets;
mod tcp;
mod udp;

pub use driver::{Driver, Handle, new};
pub use later::ERRANDS_MAX;
pub use recursors::FORWARDS_MAX;
pub use shared::ERRAND_MAX;
pub use sockets::Sockets;
pub use tcp::{TCP_CONNECTIONS_MAX, TCP_IDLE, TCP_IDLE_CROWDED, TCP_MESSAGE_TIMEOUT, TCP_QUERY_BYTES_MAX};
