//! Watches of the configuration: each asks the API again and again, and hands what is new to a program or over HTTP.
#![allow(clippy::disallowed_methods)] // pauses and deadlines are by the clock; each watch is a task that ends with the agent

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Doorway, inside};
use crate::config::{WatchConfig, WatchHandler};

/// How long one question waits, in seconds (Consul's).
const WAIT_S: u64 = 300;
/// Pause after a question that failed: times the square of the failures in a row, up to the longest (Consul's).
const RETRY: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(180);
/// How long a program may take; its whole group is killed then. It may deploy something, but nothing is told to it meanwhile.
const PROGRAM_MAX: Duration = Duration::from_secs(600);
/// Output of a program that is told in the log.
const OUTPUT_BYTES_MAX: usize = 4 << 10;
/// Read at once.
const READ_BYTES: usize = 8 << 10;
/// Output after which reading is slowed down to some 8 MB/s: no handler has that much to say.
const FLOOD_BYTES: u64 = 1 << 20;
const FLOOD_PAUSE: Duration = Duration::from_millis(1);
/// How long the output of a program that ended is read on.
const LAST_WORDS_MAX: Duration = Duration::from_millis(200);
/// What is told in the log of an answer that is none.
const SHOWN_BYTES_MAX: usize = 200;
/// Longest answer to a request that tells of news: it is dropped.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Runs the watches until the agent stops; those of a new configuration take the place of the old ones.
pub(crate) async fn run(doorway: Arc<Doorway>) {
    let (facts, stopping) = (doorway.now().facts.clone(), doorway.now().desk.stopping());
    let (mut version, mut stop) = (facts.version(), pin!(stopping));
    let mut running = JoinSet::new();
    let mut known: Vec<WatchConfig> = Vec::new();
    loop {
        version.borrow_and_update();
        let config = facts.config();
        if config.watches != known {
            running.shutdown().await;
            known.clone_from(&config.watches);
            for watch in &known {
                running.spawn(follow(doorway.clone(), watch.clone()));
            }
        }
        drop(config);
        tokio::select! {
            () = &mut stop => return,
            changed = version.changed() => if changed.is_err() { return },
        }
    }
}

async fn follow(doorway: Arc<Doorway>, watch: WatchConfig) {
    let (mut seen, mut told, mut failures) = (0, None, 0_u32);
    loop {
        let door = Arc::clone(&doorway.now());
        let answer = inside::get(&door, &watch.plan.target(seen, WAIT_S)).await;
        drop(door);
        let found = answer.status != StatusCode::NOT_FOUND;
        let json = match (answer.status, watch.plan.told(found, seen, &answer.body)) {
            (StatusCode::OK | StatusCode::NOT_FOUND, Ok(json)) => json,
            (status, _) => {
                failures = failures.saturating_add(1);
                let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(SHOWN_BYTES_MAX)]).into_owned();
                tracing::warn!(watch = %watch.plan, %status, text, "a watch gets no answer: trying again");
                sleep(RETRY.saturating_mul(failures.saturating_mul(failures)).min(RETRY_MAX)).await;
                continue;
            }
        };
        failures = 0;
        let index = answer.index.max(1);
        if told.is_some() && index == seen {
            continue;
        }
        // Lower than before: another history, of which all is to be seen.
        seen = if index < seen && !watch.plan.is_of_events() { 0 } else { index };
        // The same rows under another index are no news: of a wide question the index moves for others too.
        let mut digest = DefaultHasher::new();
        json.hash(&mut digest);
        if told.replace(digest.finish()) == Some(digest.finish()) {
            continue;
        }
        if let Err(why) = hand_over(&watch.handler, index, json).await {
            tracing::warn!(watch = %watch.plan, why, "the handler of a watch failed");
        }
    }
}

async fn hand_over(handler: &WatchHandler, index: u64, mut json: Vec<u8>) -> Result<(), String> {
    json.push(b'\n'); // a line, as Consul's
    match handler {
        WatchHandler::Program(args) => program(args, index, json).await,
        WatchHandler::Http { url, method, headers, timeout: most } => {
            let told = timeout(*most, post(url, method, headers, index, json)).await;
            told.unwrap_or_else(|_| Err(format!("no answer within {most:?}")))
        }
    }
}

/// A program and all that it started; killed when dropped, unless it was waited for.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Until the child is reaped its number is no other's, and `id` says whether it is.
        if let Some(leader) = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process_group(leader, Signal::KILL); // It fails only if nobody is left.
        }
    }
}

async fn program(args: &[String], index: u64, json: Vec<u8>) -> Result<(), String> {
    let (name, rest) = args.split_first().ok_or("no program is given")?;
    let refused = |error: std::io::Error| format!("{name}: {error}");
    let (reader, writer) = std::io::pipe().map_err(refused)?;
    let pipe = Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(refused)?;
    // The command holds the pipe's other end: it must be gone before the pipe is read, or it never ends.
    let mut running = {
        let mut command = Command::new(name);
        command.args(rest).env("CONSUL_INDEX", index.to_string()).process_group(0).stdin(Stdio::piped());
        command.stdout(writer.try_clone().map_err(refused)?).stderr(writer);
        Group(command.spawn().map_err(refused)?)
    };
    let stdin = running.0.stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(&json).await; // Who does not read it is not to be troubled with it.
        }
    };
    let mut output = Vec::new();
    let ended = {
        let mut talk = pin!(async { tokio::join!(feed, listen(pipe, &mut output)) });
        let whole = async {
            tokio::select! {
                ended = running.0.wait() => {
                    // What it left behind may hold the pipes for as long as it likes.
                    let _ = timeout(LAST_WORDS_MAX, talk).await;
                    ended
                }
                _ = &mut talk => running.0.wait().await,
            }
        };
        timeout(PROGRAM_MAX, whole).await
    };
    let ended = ended.map_err(|_| format!("{name} took longer than {PROGRAM_MAX:?}, and was killed"))?;
    let output = String::from_utf8_lossy(&output);
    tracing::debug!(program = name, %output, "the handler of a watch ran");
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}: {output}")),
        Err(error) => Err(refused(error)),
    }
}

/// Reads to the end, and keeps the beginning. Who floods is slowed down: the reader's core is needed.
async fn listen(mut pipe: Receiver, output: &mut Vec<u8>) {
    let (mut buffer, mut total) = (vec![0; READ_BYTES], 0_u64);
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        let room = OUTPUT_BYTES_MAX - output.len();
        output.extend_from_slice(&buffer[..read.min(room)]);
        total += read as u64;
        if total > FLOOD_BYTES {
            sleep(FLOOD_PAUSE).await;
        }
    }
}

async fn post(
    url: &http::Uri,
    method: &http::Method,
    headers: &[(http::HeaderName, http::HeaderValue)],
    index: u64,
    json: Vec<u8>,
) -> Result<(), String> {
    let host = url.host().unwrap_or_default();
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), url.port_u16().unwrap_or(80)));
    let stream = stream.await.map_err(|error| error.to_string())?;
    let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(method).uri(path).header("X-Consul-Index", index);
    request = request.header("Content-Type", "application/json");
    if !headers.iter().any(|(name, _)| name == http::header::HOST) {
        request = request.header("Host", url.authority().map_or("", |authority| authority.as_str()));
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(json))).map_err(|error| error.to_string())?;
    let talk = async {
        let answer = send.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        // What it says is read to its end, so that it does not see a broken connection.
        let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        if status.is_success() { Ok(()) } else { Err(format!("it was answered with {status}")) }
    };
    tokio::select! {
        biased;
        told = talk => told,
        ended = connection => Err(ended.map_or_else(|error| error.to_string(), |()| "the connection was closed".to_owned())),
    }
}
