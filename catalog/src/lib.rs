//! The catalog: what is registered, how it changes, what can be asked of it, and what one agent was told to run.
//!
//! A [`Command`] enters at [`Store::apply`], the one place where anything changes; a [`Reader`] sees one consistent
//! [`State`] for as long as it holds it. No clock, no socket, no randomness lives here.

mod cause;
mod definition;
mod name;
mod row;

pub use cause::{Cause, CauseKind, REASON_BYTES_MAX};
pub use definition::{
    AliasProbe, CheckDefinition, DEREGISTER_AFTER_MIN, Definition, ExecProbe, HttpProbe, INTERVAL_MIN, OUTPUT_BYTES_MAX_DEFAULT,
    Probe, TcpProbe,
};
pub use name::{CheckId, NAME_BYTES_MAX, NameError, NodeName, ServiceId, ServiceName, fold};
pub use row::{
    Address, Check, Entry, Health, Index, Instance, Locality, Meta, Node, RareServiceFields, Row, Service, ServiceAddress,
    ServicePort, Status, Weights, worst,
};
