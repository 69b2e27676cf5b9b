//! A check by an HTTP request.
//!
//! Each request has a connection of its own, driven inside this future: when the deadline drops it nothing goes on behind.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use muster_catalog::{HttpProbe, Status};

use super::redirect::{self, Next, REDIRECTS_MAX};
use super::wire::{Wire, begin_of, beside, chain};
use super::{Deadline, Tools, dial};
use crate::text;
use crate::verdict::Outcome;

/// Status line and headers of an answer; 64 KiB is eight times what common servers send at most.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

pub(super) async fn look(probe: &HttpProbe, timeout: Duration, output_bytes_max: usize, tools: &Tools) -> Outcome {
    let method = if probe.method.is_empty() { "GET" } else { &probe.method };
    match ask(probe, method, &Deadline::new(timeout), output_bytes_max, tools).await {
        Ok(answer) => {
            let status = match answer.status.as_u16() {
                200..=299 => Status::Passing,
                429 => Status::Warning,
                _ => Status::Critical,
            };
            Outcome::new(status, format!("HTTP {method} {}: {} Output: {}", probe.url, answer.line, answer.body))
        }
        Err(why) => Outcome::critical(format!("{} {:?}: {why}", capitalised(method), probe.url)),
    }
}

/// The answer that is judged.
struct Answer {
    status: StatusCode,
    /// Status and reason, and why a redirect was not followed.
    line: String,
    body: String,
}

/// What is asked next; a redirect changes it.
struct Ask {
    uri: Uri,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

/// What came of one request.
enum Got {
    Answer(Answer),
    Redirect(Uri, StatusCode),
}

async fn ask(
    probe: &HttpProbe,
    method: &str,
    deadline: &Deadline,
    output_bytes_max: usize,
    tools: &Tools,
) -> Result<Answer, String> {
    let mut ask = first(probe, method)?;
    for _ in 0..=REDIRECTS_MAX {
        match once(probe, &ask, deadline, output_bytes_max, tools).await? {
            Got::Answer(answer) => return Ok(answer),
            Got::Redirect(to, status) => redirected(&mut ask, to, status),
        }
    }
    Err(format!("stopped after {REDIRECTS_MAX} redirects"))
}

fn first(probe: &HttpProbe, method: &str) -> Result<Ask, String> {
    let uri: Uri = probe.url.parse().map_err(|error| format!("{error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("unsupported protocol scheme {:?}", uri.scheme_str().unwrap_or_default()));
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("invalid method {method:?}"))?;
    let mut headers = HeaderMap::new();
    for (name, values) in &probe.header {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("invalid header field name {name:?}"))?;
        for value in values {
            let value = HeaderValue::from_str(value).map_err(|_| format!("invalid header field value for {name:?}"))?;
            // A request has one host.
            if name != HOST || !headers.contains_key(HOST) {
                headers.append(name.clone(), value);
            }
        }
    }
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static("Consul Health Check"));
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("text/plain, text/*, */*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some((user, _)) = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@'))
        && let Ok(basic) = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text::percent_decoded(user))))
    {
        headers.entry(AUTHORIZATION).or_insert(basic);
    }
    Ok(Ask { uri, method, headers, body: Bytes::copy_from_slice(probe.body.as_bytes()) })
}

fn redirected(ask: &mut Ask, to: Uri, status: StatusCode) {
    if redirect::becomes_get(status) {
        if ask.method != Method::HEAD {
            ask.method = Method::GET;
        }
        ask.body = Bytes::new();
    }
    if !redirect::same_host(&ask.uri, &to) {
        for meant_for_one_host in [HOST, AUTHORIZATION, COOKIE] {
            ask.headers.remove(meant_for_one_host);
        }
    }
    ask.uri = to;
}

async fn once(probe: &HttpProbe, ask: &Ask, deadline: &Deadline, output_bytes_max: usize, tools: &Tools) -> Result<Got, String> {
    let host = dial::unbracketed(ask.uri.host().ok_or("no Host in request URL")?);
    let stream = dial::connect(host, redirect::port(&ask.uri), &tools.names, deadline).await?;
    if ask.uri.scheme_str() != Some("https") {
        return exchange(probe, ask, Wire::new(stream), deadline, output_bytes_max).await;
    }
    let handshake = tools.tls.wrap(stream, &probe.tls_server_name, host, probe.tls_skip_verify, None);
    let stream = deadline.bound(handshake).await.unwrap_or_else(|_| Err("net/http: TLS handshake timeout".into()))?;
    exchange(probe, ask, stream, deadline, output_bytes_max).await
}

async fn exchange(
    probe: &HttpProbe,
    ask: &Ask,
    stream: Wire,
    deadline: &Deadline,
    output_bytes_max: usize,
) -> Result<Got, String> {
    let request = request(ask)?;
    let mut client = http1::Builder::new();
    let (mut sender, connection) =
        client.max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    let answer = async {
        let response = match deadline.bound(sender.send_request(request)).await {
            Ok(response) => response.map_err(|error| chain(&error))?,
            Err(_) => return Err(late("awaiting headers")),
        };
        let (status, mut line) = (response.status(), line(&response));
        if !probe.disable_redirects {
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match redirect::next(&ask.uri, status, location, probe.follow_foreign_redirects) {
                Next::Judge => {}
                Next::Refuse(why) => line = format!("{line} ({why})"),
                Next::Follow(to) => return Ok(Got::Redirect(to, status)),
            }
        }
        let body = deadline.bound(begin_of(response.into_body(), output_bytes_max)).await;
        let body = body.map_err(|_| late("reading body"))?;
        Ok(Got::Answer(Answer { status, line, body: String::from_utf8_lossy(&body).into_owned() }))
    };
    beside(answer, connection).await
}

fn request(ask: &Ask) -> Result<Request<Full<Bytes>>, String> {
    let target = ask.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::new(Full::new(ask.body.clone()));
    *request.method_mut() = ask.method.clone();
    *request.uri_mut() = target.parse().map_err(|error| format!("{error}"))?;
    *request.headers_mut() = ask.headers.clone();
    if !ask.headers.contains_key(HOST) {
        let authority = ask.uri.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        request.headers_mut().insert(HOST, HeaderValue::from_str(host).map_err(|error| format!("{error}"))?);
    }
    Ok(request)
}

fn line(response: &Response<Incoming>) -> String {
    let status = response.status();
    let own = response.extensions().get::<ReasonPhrase>().map(|reason| String::from_utf8_lossy(reason.as_bytes()));
    match own.as_deref().or(status.canonical_reason()) {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

fn late(doing: &str) -> String {
    format!("context deadline exceeded (Client.Timeout exceeded while {doing})")
}

/// `Get` of `GET`, as Go begins its messages.
fn capitalised(method: &str) -> String {
    let mut letters = method.chars();
    letters.next().into_iter().chain(letters.flat_map(char::to_lowercase)).collect()
}
