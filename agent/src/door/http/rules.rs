//! What holds on every path: who may ask, which paths and methods there are, and what each answer carries.
#![allow(clippy::disallowed_methods)] // answers are timed

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, LOCATION, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use metrics::Histogram;
use smol_str::SmolStr;

use super::again::{Asking, Keeping};
use super::body::Body;
use super::call::{Answering, Call, Handler};
use super::error::HttpError;
use super::path::{self, PathFault};
use super::prepared::QUERY_PREFIX;
use super::query::{Query, host_of, is_address};
use super::reply::{Flow, Reply, Style};
use super::routes::{Found, Known, find};
use super::{Config, Door, ui};
use crate::desk::{Token, Who};

/// The other end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// `address:port`, or `unix`.
    pub(super) from: SmolStr,
    /// Its address; none on a Unix socket.
    pub(super) ip: Option<IpAddr>,
    /// How it came in.
    pub(super) by: By,
}

/// What kind of listener a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// TCP on an address that only this host reaches, browsers on it included.
    Loopback,
    /// TCP on another address.
    Network,
    /// A Unix socket: no browser gets there.
    Unix,
}

/// Answers one request.
pub(super) fn answer(
    door: &Arc<Door>,
    peer: &Peer,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Flow>, Infallible>> + use<> {
    let begun = begin(door, peer, request);
    let door = door.clone();
    async move {
        match begun {
            Begun::Over(response) => Ok(*response),
            Begun::Going { answering, style, timed, keeping } => {
                let mut reply = answering.await.unwrap_or_else(|error| said(&error));
                timed.tell();
                let repeats = reply.take_repeats();
                let response = reply.into_response(&style, &door.common);
                if let (Some(keeping), Some(repeats)) = (keeping, repeats) {
                    door.again.keep(&door.desk, *keeping, repeats, &response);
                }
                Ok(response)
            }
        }
    }
}

/// A request that is answered, or whose handler is at work. Kept small: it is as long alive as a waiting reader.
enum Begun {
    Over(Box<Response<Flow>>),
    Going { answering: Answering, style: Style, timed: Timed, keeping: Option<Box<Keeping>> },
}

/// Since when a handler is at work, and what its time is told to.
struct Timed(Instant, Option<&'static Histogram>);

impl Timed {
    fn tell(&self) {
        if let Some(timer) = self.1 {
            timer.record(self.0.elapsed().as_secs_f64() * 1e3);
        }
    }
}

fn said(error: &HttpError) -> Reply {
    let reply = error.reply();
    tracing::debug!(%error, "request refused");
    reply
}

fn over(response: Response<Flow>) -> Begun {
    Begun::Over(Box::new(response))
}

fn begin(door: &Arc<Door>, peer: &Peer, request: Request<Incoming>) -> Begun {
    let (mut parts, incoming) = request.into_parts();
    if let Some(Ok(host)) = parts.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str())) {
        parts.headers.insert(HOST, host); // Where the request line names a host, that one counts (RFC 9112, 3.2.2).
    }
    let heads = Heads::of(&parts.headers);
    let begun = Instant::now();
    let admitted = door.hosts.admit(peer, &parts.method, &heads);
    let asking = match parts.method == Method::GET && !heads.special && admitted.is_ok() {
        true => Asking::new(&parts.uri, heads.gzip),
        false => None,
    };
    if let Some(asking) = &asking
        && let Some((response, timer)) = door.again.answer(&door.desk, &Who::outside(&peer.from, None), asking)
    {
        if let Err(error) = door.rates.admit(parts.uri.path(), true) {
            return over(said(&error).into_response(&Style::default(), &door.common));
        }
        Timed(begun, timer).tell();
        return over(response);
    }
    let path = match admitted.and_then(|()| path_of(door, &parts.method, &parts.uri)) {
        Ok(path) => path,
        Err(response) => return Begun::Over(response),
    };
    let found = match ui::find(door.config.ui.as_ref(), &path) {
        Found::Nothing => find(&path),
        found => found,
    };
    let (known, rest) = match found {
        Found::Route(known, rest) => (known, rest),
        Found::WithoutSlash => return over(moved(&parts.method, &format!("{path}/"), parts.uri.query())),
        Found::Nothing => {
            let page = door.config.ui.as_ref().filter(|_| path == "/");
            return over(page.map_or_else(|| outside(&path), |ui| moved(&parts.method, &ui.path, None)));
        }
    };
    let mut style = Style { pretty: door.config.pretty, gzip: heads.gzip };
    let end = |reply: Reply, style: &Style| over(reply.into_response(style, &door.common));
    let Some(query) = Query::parse(parts.uri.query().unwrap_or_default()) else {
        return end(Reply::bare(StatusCode::INTERNAL_SERVER_ERROR), &style);
    };
    style.pretty |= query.has("pretty");
    if let Err(error) = may(door, peer, known, &parts.method, &path, &query, &heads) {
        return end(said(&error), &style);
    }
    let Some(handler) = known.handler(&parts.method) else { return end(no_method(known, &parts.method), &style) };
    if let Handler::Fixed(status, text) = handler {
        return end(Reply::text(status, text), &style);
    }
    let timed = Timed(begun, known.timer(&parts.method));
    let who = Who::outside(&peer.from, token(&query, &heads));
    let asking = asking.filter(|_| !query.has("index") && who.token.is_none());
    let keeping = asking.and_then(|asking| door.again.keeping(&door.desk, &asking, timed.1));
    let rest = SmolStr::new(rest);
    let body = Body::new(incoming);
    let call = Call { rest, query, headers: parts.headers, body, who, gzip: style.gzip, keeps: keeping.is_some() };
    match handler {
        Handler::Now(answer) => {
            let reply = answer(door, &call).unwrap_or_else(|error| said(&error));
            timed.tell();
            end(reply, &style)
        }
        Handler::Soon(answer) => Begun::Going { answering: answer(door.clone(), call), style, timed, keeping },
        Handler::Fixed(status, text) => end(Reply::text(status, text), &style),
    }
}

/// What a request's headers say to all handlers.
#[derive(Debug, Default)]
struct Heads<'h> {
    host: Option<&'h HeaderValue>,
    origin: Option<&'h HeaderValue>,
    site: Option<&'h HeaderValue>,
    authorization: Option<&'h HeaderValue>,
    token: Option<&'h HeaderValue>,
    namespace: Option<&'h HeaderValue>,
    gzip: bool,
    /// One of them changes what is answered in another way.
    special: bool,
}

impl<'h> Heads<'h> {
    /// In one pass: a map hashes each name that it is asked for, and most requests have two or three. The first of several counts.
    fn of(headers: &'h HeaderMap) -> Self {
        let mut heads = Self::default();
        for (name, value) in headers {
            let head = match *name {
                HOST => &mut heads.host,
                ORIGIN => &mut heads.origin,
                AUTHORIZATION => &mut heads.authorization,
                ACCEPT_ENCODING => {
                    heads.gzip |= value.to_str().is_ok_and(takes_gzip);
                    continue;
                }
                CACHE_CONTROL => {
                    heads.special = true;
                    continue;
                }
                _ => match name.as_str() {
                    "sec-fetch-site" => &mut heads.site,
                    "x-consul-token" => &mut heads.token,
                    "x-consul-namespace" => &mut heads.namespace,
                    _ => continue,
                },
            };
            head.get_or_insert(value);
        }
        heads.special |= [heads.authorization, heads.token, heads.namespace].iter().any(Option::is_some);
        heads
    }
}

/// The path as it is meant; or what is answered instead.
fn path_of<'u>(door: &Door, method: &Method, uri: &'u Uri) -> Result<Cow<'u, str>, Box<Response<Flow>>> {
    let written = uri.path();
    if path::is_plain(written) {
        return Ok(Cow::Borrowed(written));
    }
    let path = path::decode(written).map_err(|fault| Box::new(bad_path(fault)))?;
    if !door.config.disable_unprintable_filter && !path::is_printable(&path) {
        return Err(Box::new(bare(StatusCode::BAD_REQUEST)));
    }
    match path::clean(&path) {
        Some(clean) => Err(Box::new(moved(method, &clean, uri.query()))),
        None => Ok(path),
    }
}

/// What the configuration and the lack of namespaces forbid.
fn may(
    door: &Door,
    peer: &Peer,
    known: &Known,
    method: &Method,
    path: &str,
    query: &Query,
    heads: &Heads<'_>,
) -> Result<(), HttpError> {
    let config = &door.config;
    if config.block_endpoints.iter().any(|blocked| path.starts_with(blocked.as_str())) {
        return Err(HttpError::Forbidden("Endpoint is blocked by agent configuration".into()));
    }
    if !is_read(method) && !config.allow_write_from.is_empty() {
        let allowed = peer.ip.is_none_or(|ip| config.allow_write_from.iter().any(|net| net.contains(&ip)));
        if !allowed {
            return Err(HttpError::Forbidden("Access is restricted".into()));
        }
    }
    door.rates.admit(path, is_read(method))?;
    if known.route.namespaced {
        for (name, what) in [("ns", "Namespaces"), ("partition", "Partitions")] {
            if query.filled(name).is_some() {
                let text = format!("Invalid query parameter: {name:?} - {what} are a Consul Enterprise feature");
                return Err(HttpError::BadRequest(text));
            }
        }
        if heads.namespace.is_some_and(|value| !value.is_empty()) {
            let text = "Invalid header: \"X-Consul-Namespace\" - Namespaces are a Consul Enterprise feature";
            return Err(HttpError::BadRequest(text.into()));
        }
    }
    Ok(())
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// `OPTIONS`, or a method that the path does not take.
fn no_method(known: &Known, method: &Method) -> Reply {
    let own_ways = known.route.path == QUERY_PREFIX;
    if method == Method::OPTIONS {
        let reply = if own_ways { Reply::json("{}") } else { Reply::nothing() };
        return reply.with_header(ALLOW, known.allow.clone());
    }
    let allow = if own_ways { HeaderValue::from_static("GET,PUT,DELETE") } else { known.allow.clone() };
    Reply::text(StatusCode::METHOD_NOT_ALLOWED, format!("method {method} not allowed")).with_header(ALLOW, allow)
}

/// The caller's secret: from the query, else from one of two headers.
fn token(query: &Query, heads: &Heads<'_>) -> Option<Token> {
    if let Some(token) = query.filled("token") {
        return Some(Token(token.clone()));
    }
    let text = |head: Option<&HeaderValue>| head.and_then(|value| value.to_str().ok()).map(SmolStr::new);
    if let Some(token) = text(heads.token).filter(|token| !token.is_empty()) {
        return Some(Token(token));
    }
    let authorization = text(heads.authorization)?;
    let (scheme, rest) = authorization.split_once(' ')?;
    let token = rest.split_whitespace().next().filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
    Some(Token(SmolStr::new(token)))
}

/// Whether one value of `Accept-Encoding` takes gzip: named, and not with a quality of zero.
fn takes_gzip(value: &str) -> bool {
    value.split(',').any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = quality.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        matches!(name.trim(), "gzip" | "*") && quality.is_ok_and(|quality| quality > 0.0)
    })
}

// Answers outside the API: without its headers.

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Flow> {
    let mut response = Response::new(Flow::whole(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn bare(status: StatusCode) -> Response<Flow> {
    let mut response = Response::new(Flow::whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn bad_path(fault: PathFault) -> Response<Flow> {
    match fault {
        PathFault::Escape => {
            let mut response = plain(StatusCode::BAD_REQUEST, "400 Bad Request");
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
        PathFault::Utf8 => plain(StatusCode::BAD_REQUEST, "Invalid URL path: not UTF-8"),
    }
}

fn outside(path: &str) -> Response<Flow> {
    if path == "/" {
        return plain(StatusCode::OK, "muster agent: the API begins at /v1/\n");
    }
    let text = if path.contains("/v1/") {
        "Invalid URL path: not a recognized HTTP API endpoint\n"
    } else {
        "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"
    };
    plain(StatusCode::NOT_FOUND, text)
}

fn moved(method: &Method, path: &str, query: Option<&str>) -> Response<Flow> {
    let mut target = path::escape(path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    let mut response = bare(StatusCode::MOVED_PERMANENTLY);
    if *method == Method::GET || *method == Method::HEAD {
        let safe = target.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
        *response.body_mut() = Flow::whole(format!("<a href=\"{safe}\">Moved Permanently</a>.\n\n"));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    match HeaderValue::from_str(&target) {
        Ok(target) => {
            response.headers_mut().insert(LOCATION, target);
            response
        }
        Err(_) => bare(StatusCode::BAD_REQUEST),
    }
}

/// Which names may stand in `Host` and `Origin`: what keeps a web page from talking to the agent through a visitor's browser.
#[derive(Debug)]
pub(super) struct Hosts {
    names: Vec<SmolStr>,
    /// With a dot before them.
    domains: Vec<SmolStr>,
    any: bool,
    listed: bool,
    strange: AtomicU64,
}

impl Hosts {
    pub(super) fn new(node: &str, config: &Config) -> Self {
        let lower = |name: &str| SmolStr::new(name.to_ascii_lowercase().trim_end_matches('.'));
        let mut names = vec![SmolStr::new_static("localhost"), lower(node)];
        names.extend(config.allowed_hosts.iter().map(|name| lower(name)));
        let domains = config.dns_domains.iter().map(|domain| SmolStr::new(format!(".{}", lower(domain)))).collect();
        let (any, listed) = (config.allowed_hosts.iter().any(|name| name == "*"), !config.allowed_hosts.is_empty());
        Self { names, domains, any, listed, strange: AtomicU64::new(0) }
    }

    /// How many requests came to a listener beyond loopback under a name that nobody listed.
    #[cfg(test)]
    pub(super) fn strange(&self) -> u64 {
        self.strange.load(Ordering::Relaxed)
    }

    fn admit(&self, peer: &Peer, method: &Method, heads: &Heads<'_>) -> Result<(), Box<Response<Flow>>> {
        if peer.by == By::Unix || self.any {
            return Ok(());
        }
        let Some(why) = self.fault(method, heads) else { return Ok(()) };
        if peer.by == By::Loopback || self.listed {
            tracing::debug!(peer = %peer.from, why, "request refused");
            let text = format!("{why}; names that may stand there are listed by http_config.allowed_hosts\n");
            return Err(Box::new(plain(StatusCode::FORBIDDEN, text)));
        }
        if self.strange.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(peer = %peer.from, why, "a request was let through that a list in http_config.allowed_hosts would refuse");
        }
        Ok(())
    }

    fn fault(&self, method: &Method, heads: &Heads<'_>) -> Option<&'static str> {
        fn text(head: Option<&HeaderValue>) -> Option<&str> {
            head.map(|value| value.to_str().unwrap_or("\u{fffd}"))
        }
        let host = text(heads.host).map(host_of);
        // a name without a dot is one of the network around the host: a page that rebinds its own name has one of the public DNS
        let is_near = |host: &str| host.is_ascii() && !host.trim_end_matches('.').contains('.');
        if host.is_some_and(|host| !is_near(host) && !self.knows(host)) {
            return Some("the Host header names another host than this agent");
        }
        if is_read(method) {
            return None;
        }
        let foreign = |origin: &str| match origin.split_once("://") {
            Some((_, authority)) => !self.knows(host_of(authority)) && host != Some(host_of(authority)),
            None => true,
        };
        if text(heads.origin).is_some_and(foreign) {
            return Some("a write from a page of another origin");
        }
        let site = text(heads.site);
        site.is_some_and(|site| site == "cross-site").then_some("a write from a page of another site")
    }

    fn knows(&self, host: &str) -> bool {
        if host.is_empty() || is_address(host) {
            return true;
        }
        let host = host.trim_end_matches('.');
        self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
            || self.domains.iter().any(|domain| {
                let at = host.len().checked_sub(domain.len());
                at.is_some_and(|at| host.is_char_boundary(at) && host[at..].eq_ignore_ascii_case(domain))
                    || host.eq_ignore_ascii_case(&domain[1..])
            })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn hosts(allowed: &[&str]) -> Hosts {
        let mut config = Config::new("dc1");
        config.allowed_hosts = allowed.iter().map(SmolStr::new).collect();
        Hosts::new("Node-1", &config)
    }

    fn peer(by: By) -> Peer {
        Peer { from: "test".into(), ip: None, by }
    }

    #[test]
    fn gzip_is_taken_where_it_is_named_and_not_forbidden() {
        for (value, takes) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("deflate, br", false),
            ("*", true),
            ("gzip;q=x", false),
        ] {
            assert_eq!(takes_gzip(value), takes, "{value}");
        }
    }

    #[test]
    fn a_page_of_another_host_gets_nothing_on_loopback() {
        let hosts = hosts(&[]);
        let admits = |pairs: &[(&'static str, &'static str)], method: Method| {
            hosts.admit(&peer(By::Loopback), &method, &Heads::of(&headers(pairs))).is_ok()
        };
        for host in [
            "127.0.0.1:8500",
            "[::1]:8500",
            "localhost",
            "LOCALHOST:8500",
            "node-1",
            "web.service.consul",
            "consul",
            "x.node.dc1.consul.",
            "some-container:8500",
        ] {
            let map = [(HOST, HeaderValue::from_str(host).expect("a header"))].into_iter().collect();
            assert!(hosts.admit(&peer(By::Loopback), &Method::GET, &Heads::of(&map)).is_ok(), "{host}");
        }
        assert!(admits(&[], Method::GET));
        assert!(!admits(&[("host", "evil.example")], Method::GET));
        assert!(!admits(&[("host", "evil.consul.example")], Method::GET));
        assert!(admits(&[("host", "localhost"), ("origin", "http://other.example")], Method::GET));
        assert!(!admits(&[("host", "localhost"), ("origin", "http://other.example")], Method::PUT));
        assert!(!admits(&[("host", "localhost"), ("origin", "null")], Method::PUT));
        assert!(admits(&[("host", "localhost"), ("origin", "http://localhost:8500")], Method::PUT));
        assert!(admits(&[("host", "some-container:8500"), ("origin", "http://some-container:8500")], Method::PUT));
        assert!(!admits(&[("host", "localhost:8500"), ("origin", "http://wiki")], Method::PUT));
        assert!(!admits(&[("host", "localhost"), ("sec-fetch-site", "cross-site")], Method::DELETE));
    }

    #[test]
    fn beyond_loopback_strange_hosts_are_counted_until_a_list_is_given() {
        let foreign = headers(&[("host", "any.example")]);
        let open = hosts(&[]);
        assert!(open.admit(&peer(By::Network), &Method::GET, &Heads::of(&foreign)).is_ok());
        assert_eq!(open.strange(), 1);
        assert!(hosts(&["other.example"]).admit(&peer(By::Network), &Method::GET, &Heads::of(&foreign)).is_err());
        assert!(hosts(&["any.example"]).admit(&peer(By::Network), &Method::GET, &Heads::of(&foreign)).is_ok());
        assert!(hosts(&["*"]).admit(&peer(By::Loopback), &Method::GET, &Heads::of(&foreign)).is_ok());
        assert!(open.admit(&peer(By::Unix), &Method::GET, &Heads::of(&foreign)).is_ok());
    }

    #[test]
    fn the_secret_is_looked_for_in_three_places() {
        let secret = |query: &str, pairs: &[(&'static str, &'static str)]| {
            token(&Query::parse(query).expect("well formed"), &Heads::of(&headers(pairs))).map(|token| token.0)
        };
        let both = [("x-consul-token", "b"), ("authorization", "Bearer c")];
        assert_eq!(secret("token=a", &both), Some("a".into()));
        assert_eq!(secret("", &both), Some("b".into()));
        assert_eq!(secret("", &[("authorization", "bearer c d")]), Some("c".into()));
        assert_eq!(secret("", &[("authorization", "Basic c")]), None);
    }
}
