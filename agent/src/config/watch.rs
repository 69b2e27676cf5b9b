//! What is watched: which question of the API it is, and what a handler is told.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Uri};
use serde_json::value::RawValue;

use super::read::{Given, Merge, Read, Reading};
use super::section::section;
use super::tree::{Node, Value};

/// How long a request that tells of news may take, unless it is said (Consul's).
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

section! {
    /// A watch as it was written.
    WatchText {
        watch_type = "type": String,
        key: String,
        prefix: String,
        service: String,
        tag: OneOrMore,
        passingonly: bool,
        state: String,
        name: String,
        filter: String,
        datacenter: String,
        token: String,
        stale: bool,
        args: Vec<String>,
        handler: String,
        handler_type: String,
        http_handler_config: HttpHandlerText,
    }
}

section! {
    /// Whom a watch tells over HTTP.
    HttpHandlerText {
        path: String,
        method: String,
        timeout: Given<Duration>,
        header: BTreeMap<String, OneOrMore>,
        tls_skip_verify: bool,
    }
}

/// A text, or a list of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OneOrMore(Vec<String>);

impl Read for OneOrMore {
    const WANTED: &'static str = "a text, or a list of them";
    const GO: &'static str = "[]string";
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Self(vec![text.clone()])),
            _ => Vec::read(node, reading).map(Self),
        }
    }
}

impl Merge for OneOrMore {
    fn merge(&mut self, later: Self) {
        *self = later;
    }
}

/// A watch of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchConfig {
    pub(crate) plan: WatchPlan,
    pub(crate) handler: WatchHandler,
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WatchHandler {
    /// A program, with what is new on its standard input.
    Program(Vec<String>),
    /// Whoever answers there.
    Http { url: Uri, method: Method, headers: Vec<(HeaderName, HeaderValue)>, timeout: Duration },
}

impl WatchConfig {
    /// What is wrong is said in a sentence about what is wanted.
    pub(super) fn new(text: &WatchText) -> Result<Self, String> {
        let plain = |text: &Option<String>| text.clone().unwrap_or_default();
        let params = WatchParams {
            kind: plain(&text.watch_type),
            key: plain(&text.key),
            prefix: plain(&text.prefix),
            service: plain(&text.service),
            tags: text.tag.clone().unwrap_or_default().0,
            passing_only: text.passingonly.unwrap_or(false),
            state: plain(&text.state),
            name: plain(&text.name),
            filter: plain(&text.filter),
            datacenter: plain(&text.datacenter),
            token: plain(&text.token),
            stale: text.stale.unwrap_or(false),
        };
        let plan = WatchPlan::new(&params)?;
        let (args, script) = (text.args.clone().unwrap_or_default(), plain(&text.handler));
        let over_http = match plain(&text.handler_type).as_str() {
            "http" => true,
            "script" => false,
            "" => text.http_handler_config.is_some() && args.is_empty() && script.is_empty(),
            other => return Err(format!("Handler type '{other}' not recognized")),
        };
        let handler = match (args.is_empty(), script.is_empty(), over_http) {
            (true, true, true) => http_handler(&text.http_handler_config.clone().unwrap_or_default())?,
            (false, true, false) => WatchHandler::Program(args),
            (true, false, false) => WatchHandler::Program(vec!["/bin/sh".to_owned(), "-c".to_owned(), script]),
            (true, true, false) => return Err("Must define a watch handler: args, handler or http_handler_config".to_owned()),
            _ => return Err("Only one watch handler allowed: args, handler or http_handler_config".to_owned()),
        };
        Ok(Self { plan, handler })
    }
}

fn http_handler(text: &HttpHandlerText) -> Result<WatchHandler, String> {
    let url: Uri = text.path.as_deref().unwrap_or_default().parse().map_err(|_| "http_handler_config.path must be a URL")?;
    if url.scheme_str() != Some("http") || url.host().is_none() {
        return Err("http_handler_config.path must be a URL that begins with http://: TLS comes in a later version".to_owned());
    }
    let method = text.method.as_deref().filter(|method| !method.is_empty()).unwrap_or("POST");
    let method = method.to_ascii_uppercase().parse().map_err(|_| "http_handler_config.method must be a method of HTTP")?;
    let mut headers = Vec::new();
    for (name, values) in text.header.iter().flatten() {
        for value in &values.0 {
            let pair = (name.parse::<HeaderName>(), value.parse::<HeaderValue>());
            let (Ok(name), Ok(value)) = pair else {
                return Err(format!("http_handler_config.header.{name} must be a header of HTTP"));
            };
            headers.push((name, value));
        }
    }
    let given = text.timeout.as_ref().map(|given| given.value);
    let timeout = given.filter(|timeout| !timeout.is_zero()).unwrap_or(HTTP_TIMEOUT);
    Ok(WatchHandler::Http { url, method, headers, timeout })
}

/// What somebody wants to hear of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WatchParams {
    /// `key`, `keyprefix`, `services`, `nodes`, `service`, `checks` or `event`.
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) prefix: String,
    pub(crate) service: String,
    pub(crate) tags: Vec<String>,
    pub(crate) passing_only: bool,
    pub(crate) state: String,
    /// Of an event.
    pub(crate) name: String,
    pub(crate) filter: String,
    pub(crate) datacenter: String,
    pub(crate) token: String,
    pub(crate) stale: bool,
}

impl fmt::Display for WatchPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not its options: a token is among them.
        f.write_str(self.target.split('?').next().unwrap_or_default())
    }
}

/// A question of the API that is asked again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchPlan {
    /// Path and query, without index and wait.
    target: String,
    told: Told,
}

/// What of an answer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    All,
    /// It is a list of one, of which the one is told.
    First,
    /// It is a list of events, of which those behind the last one that was seen are told.
    New,
}

/// The index of a list that ends with this event.
fn event_index(event: &RawValue) -> Option<u64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Named {
        #[serde(rename = "ID")]
        id: uuid::Uuid,
    }
    let (high, low) = serde_json::from_str::<Named>(event.get()).ok()?.id.as_u64_pair();
    Some((high ^ low).max(1))
}

impl WatchPlan {
    /// Consul's texts where something is missing or too much.
    pub(crate) fn new(params: &WatchParams) -> Result<Self, String> {
        let filled = |text: &str, what: &str| match text {
            "" => Err(format!("Must specify a single {what} to watch")),
            text => Ok(encoded(text)),
        };
        let mut target = match params.kind.as_str() {
            "" => return Err("Watch type must be specified".to_owned()),
            "key" => format!("/v1/kv/{}?", filled(&params.key, "key")?),
            "keyprefix" => format!("/v1/kv/{}?recurse&", filled(&params.prefix, "prefix")?),
            "services" => "/v1/catalog/services?".to_owned(),
            "nodes" => "/v1/catalog/nodes?".to_owned(),
            "service" => format!("/v1/health/service/{}?", filled(&params.service, "service")?),
            "checks" if !params.service.is_empty() && !params.state.is_empty() => {
                return Err("Cannot specify service and state".to_owned());
            }
            "checks" if !params.service.is_empty() => format!("/v1/health/checks/{}?", encoded(&params.service)),
            "checks" if !params.state.is_empty() => format!("/v1/health/state/{}?", encoded(&params.state)),
            "checks" => "/v1/health/state/any?".to_owned(),
            "event" => "/v1/event/list?".to_owned(),
            other => return Err(format!("Unsupported watch type: {other}")),
        };
        let mut pair = |name: &str, value: &str| {
            if !value.is_empty() {
                let _ = write!(target, "{name}={}&", encoded(value)); // a String takes everything
            }
        };
        if params.kind == "service" {
            params.tags.iter().for_each(|tag| pair("tag", tag));
            pair("passing", if params.passing_only { "1" } else { "" });
        }
        if params.kind == "event" {
            pair("name", &params.name);
        }
        pair("filter", &params.filter);
        pair("dc", &params.datacenter);
        pair("token", &params.token);
        pair("stale", if params.stale { "1" } else { "" });
        let told = match params.kind.as_str() {
            "key" => Told::First,
            "event" => Told::New,
            _ => Told::All,
        };
        Ok(Self { target, told })
    }

    /// The next request: what was seen, and how long to wait for something else.
    pub(crate) fn target(&self, seen: u64, wait_s: u64) -> String {
        match seen {
            0 => self.target.trim_end_matches(['&', '?']).to_owned(),
            seen => format!("{}index={seen}&wait={wait_s}s", self.target),
        }
    }

    /// What is told of an answer to who has seen that index: JSON, or what stands for nothing. Of events the new ones are.
    pub(crate) fn told(&self, found: bool, seen: u64, body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        if !found {
            return Ok(b"null".to_vec());
        }
        match self.told {
            Told::All => Ok(body.to_vec()),
            Told::First => {
                let entries: Vec<&RawValue> = serde_json::from_slice(body)?;
                Ok(entries.first().map_or("null", |entry| entry.get()).as_bytes().to_vec())
            }
            Told::New => {
                let events: Vec<&RawValue> = serde_json::from_slice(body)?;
                let last = events.iter().rposition(|event| event_index(event).is_some_and(|index| index == seen));
                serde_json::to_vec(&events[last.map_or(0, |last| last + 1)..])
            }
        }
    }

    /// Whether its indexes are no positions.
    pub(crate) fn is_of_events(&self) -> bool {
        self.told == Told::New
    }
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // a String takes everything
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(kind: &str) -> WatchParams {
        WatchParams { kind: kind.to_owned(), ..WatchParams::default() }
    }

    #[test]
    fn each_kind_is_a_question() {
        let target = |params: &WatchParams| WatchPlan::new(params).map(|plan| plan.target(7, 9));
        let key = WatchParams { key: "a b/c".to_owned(), ..params("key") };
        assert_eq!(target(&key).unwrap(), "/v1/kv/a%20b/c?index=7&wait=9s");
        let prefix = WatchParams { prefix: "a/".to_owned(), stale: true, ..params("keyprefix") };
        assert_eq!(target(&prefix).unwrap(), "/v1/kv/a/?recurse&stale=1&index=7&wait=9s");
        let tags = vec!["x".to_owned(), "y&z".to_owned()];
        let service = WatchParams { service: "web".to_owned(), tags, passing_only: true, ..params("service") };
        assert_eq!(target(&service).unwrap(), "/v1/health/service/web?tag=x&tag=y%26z&passing=1&index=7&wait=9s");
        assert_eq!(WatchPlan::new(&params("services")).unwrap().target(0, 9), "/v1/catalog/services");
        for (kind, fault) in [
            ("", "Watch type must be specified"),
            ("junk", "Unsupported watch type: junk"),
            ("key", "Must specify a single key to watch"),
            ("keyprefix", "Must specify a single prefix to watch"),
            ("service", "Must specify a single service to watch"),
        ] {
            assert_eq!(target(&params(kind)).unwrap_err(), fault);
        }
        let both = WatchParams { service: "a".to_owned(), state: "b".to_owned(), ..params("checks") };
        assert_eq!(target(&both).unwrap_err(), "Cannot specify service and state");
    }

    #[test]
    fn a_watch_has_one_handler() {
        let text = WatchText { watch_type: Some("nodes".to_owned()), ..WatchText::default() };
        let args = Some(vec!["/bin/true".to_owned()]);
        assert!(WatchConfig::new(&text).is_err(), "none");
        let program = WatchConfig::new(&WatchText { args: args.clone(), ..text.clone() }).unwrap();
        assert_eq!(program.handler, WatchHandler::Program(vec!["/bin/true".to_owned()]));
        let url = |url: &str| Some(HttpHandlerText { path: Some(url.to_owned()), ..HttpHandlerText::default() });
        let http = WatchText { http_handler_config: url("http://127.0.0.1:9/x"), ..text.clone() };
        assert!(matches!(WatchConfig::new(&http).unwrap().handler, WatchHandler::Http { timeout: HTTP_TIMEOUT, .. }));
        let two = WatchText { args, handler_type: Some("http".to_owned()), ..http.clone() };
        assert!(WatchConfig::new(&two).unwrap_err().starts_with("Only one watch handler allowed"));
        let junk = WatchText { handler_type: Some("junk".to_owned()), ..http.clone() };
        assert_eq!(WatchConfig::new(&junk).unwrap_err(), "Handler type 'junk' not recognized");
        for bad in ["https://a/", "/x", "", "ftp://a/"] {
            assert!(WatchConfig::new(&WatchText { http_handler_config: url(bad), ..text.clone() }).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_events_the_new_ones_are_told() {
        let plan = WatchPlan::new(&params("event")).unwrap();
        let ids = ["00000000-0000-0001-0000-000000000004", "00000000-0000-0002-0000-000000000004"];
        let body = format!(r#"[{{"ID":"{}","N":1}},{{"ID":"{}"}}]"#, ids[0], ids[1]);
        assert_eq!(plan.told(true, 0, body.as_bytes()).unwrap(), body.as_bytes());
        assert_eq!(plan.told(true, 5, body.as_bytes()).unwrap(), format!(r#"[{{"ID":"{}"}}]"#, ids[1]).as_bytes());
        assert_eq!(plan.told(true, 6, body.as_bytes()).unwrap(), b"[]");
        assert_eq!(plan.told(true, 77, body.as_bytes()).unwrap(), body.as_bytes(), "what was seen is gone");
    }

    #[test]
    fn of_a_key_its_entry_is_told() {
        let plan = WatchPlan::new(&WatchParams { key: "a".to_owned(), ..params("key") }).unwrap();
        assert_eq!(plan.told(true, 0, br#"[{"Key":"a"}]"#).unwrap(), br#"{"Key":"a"}"#);
        assert_eq!(plan.told(false, 0, b"").unwrap(), b"null");
        assert!(plan.told(true, 0, b"junk").is_err());
    }
}
