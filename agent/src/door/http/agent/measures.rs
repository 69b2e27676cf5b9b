//! What is measured of the agent and of its host.
#![allow(clippy::disallowed_methods)] // who reads the stream is fed by a task that ends with the reader

use std::path::Path;

use bytes::Bytes;
use http::HeaderValue;
use http::header::ACCEPT;
use tokio::sync::mpsc;

use super::super::Door;
use super::super::call::{Answer, Answering, Call};
use super::super::error::HttpError;
use super::super::reply::Reply;
use super::health::REASON;
use super::{TheDoor, go_json, soon};
use crate::telemetry::host_report;

/// What Prometheus' own libraries call their format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Types that a client names who wants that format. The second is misspelt in Consul, and so in what was written for it.
const PROMETHEUS_ACCEPTED: [&str; 2] = ["application/openmetrics-text", "text/plain;version=0.4.0"];

/// Intervals that a reader of the stream may be behind.
const INTERVALS_BEHIND_MAX: usize = 2;

/// `GET metrics`.
pub(super) fn metrics(door: &Door, call: &Call) -> Answer {
    let metrics = door.facts.metrics();
    if !wants_prometheus(call) {
        return Ok(Reply::json(metrics.json()));
    }
    Ok(match metrics.prometheus() {
        Some(text) => Reply::other(PROMETHEUS, text.into()),
        // A success without a word, as Consul since 1.9: the reason is in a header alone.
        None => {
            let reason = HeaderValue::from_static("Prometheus is not enabled since its retention time is not positive");
            Reply::nothing().with_header(REASON, reason)
        }
    })
}

/// `GET metrics/stream`: an interval a line as each ends, until the reader or the agent goes.
pub(super) fn stream(door: TheDoor, _: Call) -> Answering {
    let (lines, reader) = mpsc::channel(INTERVALS_BEHIND_MAX);
    let (metrics, mut stopping) = (door.facts.metrics().clone(), Box::pin(door.desk.stopping()));
    tokio::spawn(async move {
        let mut ended = metrics.intervals();
        loop {
            tokio::select! {
                () = &mut stopping => return,
                () = lines.closed() => return,
                changed = ended.changed() => if changed.is_err() { return },
            }
            // Who does not read misses intervals.
            let _ = lines.try_send(Ok(Bytes::from(metrics.json() + "\n")));
        }
    });
    soon(async move { Ok(Reply::stream("application/json", reader)) })
}

fn wants_prometheus(call: &Call) -> bool {
    let accepted = call.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(','));
    let mut accepted = accepted.map(str::trim);
    call.query.get("format").is_some_and(|format| format == "prometheus")
        || accepted.any(|kind| PROMETHEUS_ACCEPTED.iter().any(|wanted| kind.starts_with(wanted)))
}

/// `GET host`. It reads files, so it does not hold up a thread that serves others.
pub(super) fn host(door: TheDoor, _: Call) -> Answering {
    soon(async move {
        let config = door.facts.config();
        let look = move || host_report(config.data_dir.as_deref().unwrap_or(Path::new("/")));
        let report = tokio::task::spawn_blocking(look).await.map_err(|error| HttpError::Server(error.to_string()))?;
        let report = serde_json::to_value(report).map_err(|error| HttpError::Server(error.to_string()))?;
        Ok(Reply::json(go_json(&report)))
    })
}
