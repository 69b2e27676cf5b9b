//! What the agent as a whole is told: maintenance, reload, leave; and what it does not offer.

use super::super::Door;
use super::super::call::{Answer, Answering, Call};
use super::super::error::HttpError;
use super::{TheDoor, enable, obey, soon};
use crate::desk::Order;

/// What Consul's logs know as levels, in lower case.
const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "err", "error"];

/// `PUT maintenance`: of the whole node.
pub(super) fn maintenance(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        let on = enable(&call.query)?;
        obey(&door, &{ call }.who, Order::NodeMaintenance { on }).await
    })
}

/// `PUT reload`.
pub(super) fn reload(door: TheDoor, call: Call) -> Answering {
    soon(async move { obey(&door, &{ call }.who, Order::Reload).await })
}

/// `PUT leave`: answered when the agent has left, just before it stops.
pub(super) fn leave(door: TheDoor, call: Call) -> Answering {
    soon(async move { obey(&door, &{ call }.who, Order::Leave).await })
}

/// `GET monitor`.
pub(super) fn monitor(_: &Door, call: &Call) -> Answer {
    match call.query.filled("loglevel") {
        Some(level) if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) => {
            Err(HttpError::BadRequest(format!("Unknown log level: {level}")))
        }
        _ => {
            Err(HttpError::NotFound("this version of muster does not stream its log: see its standard error or log_file".into()))
        }
    }
}
