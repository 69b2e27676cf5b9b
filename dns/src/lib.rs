//! DNS out of the catalog: names, records, truncation, the wire. Where rows come from is not known here.
//!
//! [`new`] gives a [`Handle`], through which settings are exchanged, and a [`Driver`], which answers on [`Sockets`] until it is
//! told to stop. What decides (`respond` and below it `fast`, `answer`, `render`, `name`, `question`, `wire`) takes a packet, a
//! state, settings and randomness as arguments and gives a packet back; what touches the world is `shell`.

mod answer;
mod beyond;
mod bounds;
mod config;
#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod corpus;
mod draw;
mod elsewhere;
mod error;
mod fast;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod instance;
mod metrics;
mod name;
mod question;
mod record;
mod render;
mod respond;
mod shell;
#[cfg(test)]
mod testing;
mod wire;

pub use beyond::{Age, Beyond, Errand};
pub use config::{Config, NegativeAnswer, Soa, TTL_MAX};
pub use error::Error;
pub use metrics::describe;
pub use shell::{
    Driver, ERRAND_MAX, ERRANDS_MAX, FORWARDS_MAX, Handle, Sockets, TCP_CONNECTIONS_MAX, TCP_IDLE, TCP_IDLE_CROWDED,
    TCP_MESSAGE_TIMEOUT, TCP_QUERY_BYTES_MAX, new,
};
