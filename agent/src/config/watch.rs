//! What is watched: which question of the API it is, and what a handler is told.

use std::fmt::Write as _;

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

/// A question of the API that is asked again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchPlan {
    /// Path and query, without index and wait.
    target: String,
    /// Whether it is a list of one, of which the one is told.
    single: bool,
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
        Ok(Self { target, single: params.kind == "key" })
    }

    /// The next request: what was seen, and how long to wait for something else.
    pub(crate) fn target(&self, seen: u64, wait_s: u64) -> String {
        match seen {
            0 => self.target.trim_end_matches(['&', '?']).to_owned(),
            seen => format!("{}index={seen}&wait={wait_s}s", self.target),
        }
    }

    /// What is told of an answer: JSON, or what stands for nothing.
    pub(crate) fn told(&self, found: bool, body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        if !found {
            return Ok(b"null".to_vec());
        }
        if !self.single {
            return Ok(body.to_vec());
        }
        let entries: Vec<Box<serde_json::value::RawValue>> = serde_json::from_slice(body)?;
        Ok(entries.first().map_or("null", |entry| entry.get()).as_bytes().to_vec())
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
    fn of_a_key_its_entry_is_told() {
        let plan = WatchPlan::new(&WatchParams { key: "a".to_owned(), ..params("key") }).unwrap();
        assert_eq!(plan.told(true, br#"[{"Key":"a"}]"#).unwrap(), br#"{"Key":"a"}"#);
        assert_eq!(plan.told(false, b"").unwrap(), b"null");
        assert!(plan.told(true, b"junk").is_err());
    }
}
