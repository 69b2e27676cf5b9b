//! What the agent as a whole is told: maintenance, reload, leave; and its log.
#![allow(clippy::disallowed_methods)] // who listens to the log is watched by a task that ends with the listener

use super::super::call::{Answering, Call};
use super::super::error::HttpError;
use super::super::reply::Reply;
use super::{TheDoor, enable, obey, soon};
use crate::desk::Order;
use crate::telemetry;

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

/// `GET monitor`: the log as it is written, until the reader or the agent goes.
pub(super) fn monitor(door: TheDoor, call: Call) -> Answering {
    soon(async move {
        let level = call.query.filled("loglevel").map_or("info", |level| level.as_str());
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            return Err(HttpError::BadRequest(format!("Unknown log level: {level}")));
        }
        let (lines, tapped) =
            telemetry::listen(level, call.query.has("logjson")).map_err(|error| HttpError::Server(error.to_string()))?;
        let stopping = door.desk.stopping();
        tokio::spawn(async move {
            tokio::select! {
                () = tapped.gone() => {}
                () = stopping => {}
            }
        });
        Ok(Reply::stream("text/plain; charset=utf-8", lines))
    })
}
