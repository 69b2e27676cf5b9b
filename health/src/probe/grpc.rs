//! A check by gRPC's health protocol: one call over an HTTP/2 connection of its own.
//!
//! The two messages of `grpc.health.v1` have one field each, so they are written and read here by hand.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use muster_catalog::{GrpcProbe, Status};
use tokio::task::JoinSet;

use super::wire::{Wire, beside, chain};
use super::{Deadline, Tools, tcp};
use crate::text;
use crate::verdict::Outcome;

/// Longest answer that is read; a whole one has seven bytes.
const ANSWER_BYTES_MAX: usize = 4096;
/// What a server may send unasked, and its headers: an answer fits in many times over.
const WINDOW_BYTES: u32 = 64 * 1024;
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// The codes of gRPC by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
/// What a server says of a service, by number.
const SERVING: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

pub(super) async fn look(probe: &GrpcProbe, timeout: Duration, output_bytes_max: usize, tools: &Tools) -> Outcome {
    // Two of the same length: one for all of it, and one for the way there, which is told otherwise.
    let (whole, way) = (Deadline::new(timeout), Deadline::new(timeout));
    let said = whole.bound(ask(probe, &way, timeout, tools)).await;
    match said.unwrap_or_else(|_| Err(failed("DeadlineExceeded", "context deadline exceeded"))) {
        Ok(()) => Outcome::new(Status::Passing, format!("gRPC check {}: success", probe.target)),
        Err(why) => Outcome::critical(text::head(why, output_bytes_max)),
    }
}

async fn ask(probe: &GrpcProbe, deadline: &Deadline, timeout: Duration, tools: &Tools) -> Result<(), String> {
    let (address, service) = probe.target.split_once('/').unwrap_or((&probe.target, ""));
    let tls = probe.tls.then_some((probe.tls_server_name.as_str(), probe.tls_skip_verify, Some("h2")));
    let wire = tcp::open(address, tls, deadline, tools).await.map_err(|why| failed("Unavailable", &why))?;
    let request = request(probe, address, service, timeout)?;
    exchange(wire, request, service).await
}

async fn exchange(wire: Wire, request: Request<Full<Bytes>>, service: &str) -> Result<(), String> {
    let unavailable = |error: hyper::Error| failed("Unavailable", &chain(&error));
    let tasks = Tasks::default();
    let _end = End(tasks.clone());
    let (mut sender, connection) = http2::Builder::new(tasks)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(unavailable)?;
    let answer = async { judge(sender.send_request(request).await.map_err(unavailable)?, service).await };
    beside(answer, connection).await
}

fn request(probe: &GrpcProbe, address: &str, service: &str, timeout: Duration) -> Result<Request<Full<Bytes>>, String> {
    let (scheme, name) = match (probe.tls, probe.tls_server_name.as_str()) {
        (false, _) => ("http", address),
        (true, "") => ("https", address),
        (true, name) => ("https", name),
    };
    let mut request = Request::new(Full::new(question(service)));
    *request.method_mut() = Method::POST;
    let here = if name.starts_with(':') { "localhost" } else { "" };
    let uri = format!("{scheme}://{here}{name}/grpc.health.v1.Health/Check");
    *request.uri_mut() = uri.parse().map_err(|error| failed("Internal", &format!("{uri:?}: {error}")))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static("Consul Health Check"));
    // At most eight digits: above that the server's own patience is as good.
    let millis = format!("{}m", timeout.as_millis().clamp(1, 99_999_999));
    headers.insert("grpc-timeout", HeaderValue::from_str(&millis).expect("digits and a letter are visible ASCII"));
    Ok(request)
}

/// A `HealthCheckRequest` (field 1: the service's name) in gRPC's frame: not compressed, its length, itself.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            message.push(length as u8 & 0x7f | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

async fn judge(response: Response<Incoming>, service: &str) -> Result<(), String> {
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        let code = match head.status.as_u16() {
            400 => "Internal",
            401 => "Unauthenticated",
            403 => "PermissionDenied",
            404 => "Unimplemented",
            429 | 502..=504 => "Unavailable",
            _ => "Unknown",
        };
        return Err(failed(code, &format!("HTTP status {}", head.status)));
    }
    let kind = head.headers.get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()));
    if !kind.as_deref().is_some_and(|kind| kind.starts_with("application/grpc")) {
        return Err(failed("Unknown", &format!("content-type {:?} is not gRPC's", kind.as_deref().unwrap_or_default())));
    }
    let mut message = Vec::new();
    // A server that refuses says so at once, with the headers.
    let mut trailers = head.headers.contains_key("grpc-status").then_some(head.headers);
    while trailers.is_none() {
        let frame = match body.frame().await {
            Some(frame) => frame.map_err(|error| failed("Unavailable", &chain(&error)))?,
            None => return Err(failed("Internal", "the stream ended without a status")),
        };
        match frame.into_data() {
            Ok(data) if message.len() + data.len() > ANSWER_BYTES_MAX => {
                return Err(failed("ResourceExhausted", &format!("the answer is longer than {ANSWER_BYTES_MAX} bytes")));
            }
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    status(&trailers.unwrap_or_default())?;
    let said = answer(&message).ok_or_else(|| failed("Internal", "the answer is no HealthCheckResponse"))?;
    if said == 1 {
        return Ok(());
    }
    let word =
        usize::try_from(said).ok().and_then(|said| SERVING.get(said)).map_or_else(|| said.to_string(), ToString::to_string);
    let whose = if service.is_empty() { "the server says of itself".to_owned() } else { format!("the server says of {service}") };
    Err(format!("gRPC application didn't report service healthy: {whose}: {word}"))
}

/// The status of a call, in its trailers.
fn status(trailers: &HeaderMap) -> Result<(), String> {
    let code = trailers.get("grpc-status").and_then(|code| code.to_str().ok()).and_then(|code| code.parse::<usize>().ok());
    let message = trailers.get("grpc-message").map(|message| text::percent_decoded(&String::from_utf8_lossy(message.as_bytes())));
    let message = String::from_utf8_lossy(message.as_deref().unwrap_or_default()).into_owned();
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(failed(CODES.get(code).copied().unwrap_or("Unknown"), &message)),
        None => Err(failed("Internal", "the stream ended without a status")),
    }
}

/// The status in a framed `HealthCheckResponse` (field 1, an enum); absent is 0. `None` for what is none.
fn answer(frame: &[u8]) -> Option<u64> {
    let (&compressed, rest) = frame.split_first()?;
    let (length, mut message) = rest.split_first_chunk::<4>()?;
    if compressed != 0 || u32::from_be_bytes(*length) as usize != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// An error in the words of gRPC's clients.
fn failed(code: &str, why: &str) -> String {
    format!("rpc error: code = {code} desc = {why}")
}

/// Where hyper puts what drives a connection: it ends with the probe.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(future);
    }
}

struct End(Tasks);

impl Drop for End {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_as_protobuf_writes_them() {
        assert_eq!(question(""), &[0, 0, 0, 0, 0][..]);
        assert_eq!(question("web"), &b"\0\0\0\0\x05\x0a\x03web"[..]);
        assert_eq!(question(&"x".repeat(300))[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn answers_are_read_with_fields_of_later_versions_and_nothing_else_is() {
        for (frame, status) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 6, 0x12, 2, b'x', b'y', 8, 2], Some(2)),
            (&[0, 0, 0, 0, 3, 8, 0x81, 0x01], Some(129)),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 2, 8, 0x80], None),
            (&[0, 0, 0, 0, 2, 0x0b, 1], None),
            (&[0, 0, 0, 0, 3, 0x12, 9, 1], None),
            (&[], None),
        ] {
            assert_eq!(answer(frame), status, "{frame:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            let mut frame = vec![0, 0, 0, 0, u8::try_from(bytes.len()).unwrap()];
            frame.extend_from_slice(&bytes);
            let _ = answer(&frame);
            let _ = answer(&bytes);
        }
    }
}
