//! `/v1/txn`: several operations at once, all or nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use muster_catalog::{CauseKind, Command, Fault, Found, Outcome, Reading, Transacted};

use super::Door;
use super::call::{Answer, Answering, Call, Handler, Route};
use super::error::HttpError;
use super::fields::{NodeView, NullTags};
use super::json::{entry, list, object, text};
use super::options::{Family, ReadOptions};
use super::reply::{Meta, Reply};

mod body;

pub(super) const ROUTES: &[Route] =
    &[Route { path: "/v1/txn", methods: &[(Method::PUT, Handler::Soon(transact))], namespaced: true }];

const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");

fn transact(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        let elsewhere = door.must_be_here(&call);
        let Call { query, headers, body, who, .. } = call;
        let config = &door.config;
        let bytes_max = config.txn_bytes_max.max(config.kv_value_bytes_max);
        let bytes = body.read(bytes_max, "limits.txn_max_req_len").await.map_err(|error| match error {
            HttpError::TooLarge { max, .. } => HttpError::TooMuch(format!("Request body too large, max size: {max} bytes")),
            error => error,
        })?;
        let told = body::read(&bytes, config.kv_value_bytes_max, !config.disable_kv_key_validation)?;
        drop(bytes);
        if told.writes {
            elsewhere?;
            if !told.faults.is_empty() {
                return answer(&door, Transacted::Failed(told.faults), None);
            }
            let (_, outcome) = door.desk.write(&who, Command::Transaction(told.ops), CauseKind::Api, "txn").await?;
            return match outcome {
                Outcome::Transaction(transacted) => answer(&door, transacted, None),
                Outcome::Refused(refusal) => Err(HttpError::Server(refusal.to_string())),
                Outcome::Done | Outcome::Kv(_) => Err(HttpError::Server("the transaction has no outcome".into())),
            };
        }
        let options = ReadOptions::read(&door, &query, &headers, Family::Kv)?;
        elsewhere?;
        let (transacted, meta) = options.once(&door, &who, &Reading { ops: told.ops }).await?;
        let transacted = if told.faults.is_empty() { transacted } else { Transacted::Failed(told.faults) };
        answer(&door, transacted, Some(meta))
    })
}

/// What came of it; one that only read says what is known of its age, in its body too.
fn answer(door: &Door, transacted: Transacted, meta: Option<Meta>) -> Answer {
    let (status, found, faults) = match transacted {
        Transacted::Done(found) => (StatusCode::OK, found, Vec::new()),
        Transacted::Failed(faults) => (StatusCode::CONFLICT, Vec::new(), faults),
        Transacted::Forgotten => {
            return Err(HttpError::Server("the transaction was done; its results are not known any more".into()));
        }
    };
    let mut out = Vec::with_capacity(256);
    if faults.is_empty() {
        out.extend_from_slice(b"{\"Results\":");
        list(&mut out, found.iter(), |out, found| show(out, found, door.datacenter()));
        out.extend_from_slice(b",\"Errors\":null");
    } else {
        out.extend_from_slice(b"{\"Results\":null,\"Errors\":");
        list(&mut out, faults.iter(), |out, Fault { at, what }| {
            out.extend_from_slice(format!("{{\"OpIndex\":{at},\"What\":").as_bytes());
            text(out, what);
            out.push(b'}');
        });
    }
    let Some(Meta { known_leader, last_contact_ms, .. }) = meta else {
        out.push(b'}');
        return Ok(Reply::json(out).with_status(status));
    };
    let last_contact_ns = last_contact_ms.saturating_mul(1_000_000);
    let age =
        format!(",\"Index\":0,\"LastContact\":{last_contact_ns},\"KnownLeader\":{known_leader},\"ConsistencyLevel\":\"\"}}");
    out.extend_from_slice(age.as_bytes());
    let known_leader = HeaderValue::from_static(if known_leader { "true" } else { "false" });
    let reply = Reply::json(Bytes::from(out)).with_status(status).with_header(KNOWN_LEADER, known_leader);
    Ok(reply.with_header(LAST_CONTACT, HeaderValue::from(last_contact_ms)))
}

fn show(out: &mut Vec<u8>, found: &Found, datacenter: &str) {
    let mut named = |name: &str, show: &dyn Fn(&mut Vec<u8>)| {
        out.extend_from_slice(format!("{{\"{name}\":").as_bytes());
        show(out);
        out.push(b'}');
    };
    match found {
        Found::Key(key) => named("KV", &|out| entry(out, key)),
        Found::Node(node) => named("Node", &|out| object(out, &NodeView { node, datacenter })),
        Found::Service(service) => named("Service", &|out| object(out, &NullTags(&**service))),
        Found::Check(check) => named("Check", &|out| object(out, &NullTags(&**check))),
    }
}

/// What a fuzzer may throw at it.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    drop(body::read(bytes, 1024, true));
}
