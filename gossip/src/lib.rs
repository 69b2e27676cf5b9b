//! Who is in the cluster, and how that is found out. What members run, and what is asked of them over HTTP, is not known here.
//!
//! [`new`] gives a [`Handle`], through which members are seen and orders given, and a [`Driver`], which gossips on [`Sockets`]
//! until it is told to stop. What decides (`core`) takes packets, answers and the time as arguments and gives packets, dials and
//! events back; what touches the world is `shell`. The engine below is foca (SWIM); above it stand sealing, admission, push and
//! pull, records, departures, and the settling of rivals.
//!
//! An agent belongs to a cluster by its id. One that has none yet may only ask to be let in: [`Handle::join`] says
//! [`Joined::Waiting`] where there is no cluster either, [`Handle::waiting`] lists who else waits, and one of them founds the
//! cluster by [`Handle::found`]; the others are then let in by themselves.

mod accusation;
mod book;
mod config;
mod coordinate;
mod core;
#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod corpus;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod identity;
mod item;
mod key;
mod member;
mod message;
mod metrics;
mod packet;
mod record;
mod seal;
mod shell;
pub mod sim;
mod stream;
mod wheel;
mod wire;

pub use accusation::{ACCUSERS_MAX, Accusation, Ground};
pub use config::{Config, Keep, KeepCluster, KeepKeys, Timing};
pub use coordinate::{Coordinate, DIMENSIONS};
pub use core::FIRED_BYTES_MAX;
pub use error::{Error, Impossible, JoinError, KeyError, Refusal, Why};
pub use identity::Identity;
pub use key::{KEYS_MAX, Key, Keyring};
pub use member::{Cause, Event, Fired, Kind, Member, Outcome, Peer, Port, Proof, Quiet, Reach, State};
pub use message::KeyAct;
pub use metrics::{Doubted, Dropped, describe};
pub use record::{PAIRS_MAX, PROTOCOL_MAX, PROTOCOL_MIN, RECORD_BYTES_MAX, Record};
pub use shell::{Driver, Handle, Joined, KeyAnswer, Sockets, keygen, new};
