//! A check by a program in a container: three requests to the engine of this host, over its socket.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use muster_catalog::DockerProbe;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::sleep;

use super::Deadline;
use super::exec::{FLOOD_BYTES, FLOOD_PAUSE, exit_status, timed_out};
use super::http::HEAD_BYTES_MAX;
use super::wire::{Wire, begin_of, beside, chain};
use crate::text::{self, Tail};
use crate::verdict::Outcome;

/// Where an engine listens unless `DOCKER_HOST` says otherwise.
const SOCKET: &str = "/var/run/docker.sock";
/// Longest answer about an exec that is read; common ones have two kilobytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The stream of a program may end a moment before the engine knows how it ended.
const ENDED_PAUSE: Duration = Duration::from_millis(50);

/// Runs a program in a container. The engine offers no way to end one: what outlasts its time limit goes on in its container,
/// alone, for the connection is closed.
pub(super) async fn look(probe: &DockerProbe, timeout: Duration, output_bytes_max: usize, engine: &str) -> Outcome {
    let mut tail = Tail::new(output_bytes_max);
    match Deadline::new(timeout).bound(run(probe, engine, &mut tail)).await {
        Ok(Ok(code)) => Outcome::new(exit_status(Some(code)), tail.text()),
        Ok(Err(why)) => Outcome::critical(text::head(why, output_bytes_max)),
        Err(_) => Outcome::critical(timed_out(timeout, &tail.text())),
    }
}

async fn run(probe: &DockerProbe, engine: &str, tail: &mut Tail) -> Result<i32, String> {
    let container = encoded(&probe.container);
    let command = json!({
        "AttachStdin": false,
        "AttachStdout": true,
        "AttachStderr": true,
        "Tty": false,
        "Cmd": probe.args,
    });
    let created = told(engine, Method::POST, &format!("/containers/{container}/exec"), Some(command)).await;
    let created = created.map_err(|(status, why)| match status {
        Some(StatusCode::NOT_FOUND) => format!("create exec failed for unknown container {}", probe.container),
        Some(StatusCode::CONFLICT) => {
            format!("create exec failed since container {} is paused or stopped", probe.container)
        }
        Some(status) => format!("create exec failed for container {} with status {}: {why}", probe.container, status.as_u16()),
        None => why,
    })?;
    let id = encoded(created["Id"].as_str().ok_or("create exec failed: the engine gave no id")?);
    let failed = |(status, why): Failure| match status {
        Some(status) => format!("exec in container {} failed with status {}: {why}", probe.container, status.as_u16()),
        None => why,
    };
    let start = json!({"Detach": false, "Tty": false});
    call(engine, Method::POST, &format!("/exec/{id}/start"), Some(start), Some(tail)).await.map_err(failed)?;
    loop {
        let ended = told(engine, Method::GET, &format!("/exec/{id}/json"), None).await.map_err(failed)?;
        match ended["ExitCode"].as_i64() {
            Some(code) if ended["Running"] != true => return Ok(i32::try_from(code).unwrap_or(-1)),
            _ => sleep(ENDED_PAUSE).await,
        }
    }
}

/// Why the engine did not do it: its status if it gave one, and its words.
type Failure = (Option<StatusCode>, String);

/// Asks the engine for JSON.
async fn told(engine: &str, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
    let bytes = call(engine, method, path, body, None).await?;
    serde_json::from_slice(&bytes).map_err(|error| (None, format!("docker engine: its answer is no JSON: {error}")))
}

/// One request on a connection of its own. Gives the answer's body, or pours it into `tail` as what a program says.
async fn call(
    engine: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
    tail: Option<&mut Tail>,
) -> Result<Vec<u8>, Failure> {
    let wire = connect(engine).await.map_err(|why| (None, why))?;
    let broken = |error: hyper::Error| (None, format!("docker engine: {}", chain(&error)));
    let mut client = http1::Builder::new();
    let (mut sender, connection) = client.max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(wire)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request(method, path, body)).await.map_err(broken)?;
        let status = response.status();
        match tail.filter(|_| status.is_success()) {
            Some(tail) => said(response.into_body(), tail).await,
            None => {
                let bytes = begin_of(response.into_body(), ANSWER_BYTES_MAX).await;
                return if status.is_success() { Ok(bytes) } else { Err((Some(status), words(&bytes))) };
            }
        }
        Ok(Vec::new())
    };
    beside(answer, connection).await
}

fn request(method: Method, path: &str, body: Option<Value>) -> Request<Full<Bytes>> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("what is not a letter or digit is encoded");
    request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}

/// What the engine says of what it refuses.
fn words(answer: &[u8]) -> String {
    let told = serde_json::from_slice::<Value>(answer).ok();
    let told = told.and_then(|told| told["message"].as_str().map(str::to_owned));
    told.unwrap_or_else(|| String::from_utf8_lossy(answer).trim().to_owned())
}

async fn connect(engine: &str) -> Result<Wire, String> {
    let path = match engine.strip_prefix("unix://") {
        Some(path) => path,
        None if engine.is_empty() => SOCKET,
        None => return Err(format!("docker engine: DOCKER_HOST is {engine:?}: only unix:// addresses are used")),
    };
    let stream = UnixStream::connect(path).await;
    Ok(Wire::new(stream.map_err(|error| format!("docker engine: dial unix {path}: connect: {}", text::system(&error)))?))
}

/// What the program says, until it ends. The engine puts eight bytes before each piece: which stream, and how long.
async fn said(mut body: Incoming, tail: &mut Tail) {
    let mut pieces = Pieces::default();
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        pieces.push(data, tail);
        if tail.total() > FLOOD_BYTES {
            sleep(FLOOD_PAUSE).await;
        }
    }
}

/// Takes the headers of pieces out of a stream; one without them is taken as it is.
#[derive(Default)]
struct Pieces {
    head: Vec<u8>,
    /// What is left of the piece.
    left: usize,
    bare: bool,
}

impl Pieces {
    fn push(&mut self, mut data: &[u8], tail: &mut Tail) {
        while !data.is_empty() {
            if self.bare {
                return tail.push(data);
            }
            if self.left > 0 {
                let (piece, rest) = data.split_at(self.left.min(data.len()));
                tail.push(piece);
                self.left -= piece.len();
                data = rest;
                continue;
            }
            let (head, rest) = data.split_at((8 - self.head.len()).min(data.len()));
            self.head.extend_from_slice(head);
            data = rest;
            if !matches!(self.head[..], [0..=2] | [0..=2, 0] | [0..=2, 0, 0] | [0..=2, 0, 0, 0, ..]) {
                self.bare = true;
                tail.push(&std::mem::take(&mut self.head));
            } else if let Some((_, length)) = self.head.split_last_chunk::<4>().filter(|_| self.head.len() == 8) {
                self.left = u32::from_be_bytes(*length) as usize;
                self.head.clear();
            }
        }
    }
}

/// A name as a part of a path.
fn encoded(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'-' => path.push(char::from(byte)),
            byte => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_put_together_however_they_are_cut() {
        let stream = b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x02ok";
        for cut in 1..stream.len() {
            let (mut pieces, mut tail) = (Pieces::default(), Tail::new(100));
            stream.chunks(cut).for_each(|chunk| pieces.push(chunk, &mut tail));
            assert_eq!(tail.text(), "out\nerrok", "in chunks of {cut}");
        }
    }

    #[test]
    fn a_stream_without_headers_is_taken_as_it_is() {
        for (stream, chunk) in [(&b"plain words\n"[..], 3), (b"\x01\0\0x tricky", 1)] {
            let (mut pieces, mut tail) = (Pieces::default(), Tail::new(100));
            stream.chunks(chunk).for_each(|chunk| pieces.push(chunk, &mut tail));
            assert_eq!(tail.text().as_bytes(), stream);
        }
    }

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        assert_eq!(encoded("web-1_a"), "web-1_a");
        assert_eq!(encoded("../x?y#z é"), "%2E%2E%2Fx%3Fy%23z%20%C3%A9");
    }
}
