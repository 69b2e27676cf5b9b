//! `/v1/session`: what keys are locked with.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use muster_catalog::{
    AllSessions, Behavior, Cause, CauseKind, CheckId, Command, CreateSession, EndSession, NodeName, NodeSessions, Outcome,
    ServiceCheck, Session, SessionOne,
};
use serde_json::Value;
use smol_str::SmolStr;
use uuid::Uuid;

use super::Door;
use super::call::{Answering, Call, Handler, Route};
use super::decode::Object;
use super::error::HttpError;
use super::fields::SessionView;
use super::filter::{Filter, Rows};
use super::json::{list, object};
use super::options::{Family, ReadOptions, read};
use super::reply::Reply;
use crate::config::duration;

const fn route(path: &'static str, methods: &'static [(Method, Handler)]) -> Route {
    Route { path, methods, namespaced: true }
}

pub(super) const ROUTES: &[Route] = &[
    route("/v1/session/create", &[(Method::PUT, Handler::Soon(create))]),
    route("/v1/session/destroy/", &[(Method::PUT, Handler::Soon(destroy))]),
    route("/v1/session/renew/", &[(Method::PUT, Handler::Soon(renew))]),
    route("/v1/session/info/", &[(Method::GET, Handler::Soon(info))]),
    route("/v1/session/node/", &[(Method::GET, Handler::Soon(node))]),
    route("/v1/session/list", &[(Method::GET, Handler::Soon(all))]),
];

/// Where nothing is said (Consul's default).
const LOCK_DELAY_NS: i64 = 15_000_000_000;
/// Smaller numbers are seconds, as Consul takes them.
const LOCK_DELAY_NS_MIN: i64 = 1000;
/// Longest TTL, as Consul's.
const TTL_NS_MAX: i64 = 86_400_000_000_000;
/// Checks that one session may be tied to. Consul has no bound; programs name a handful.
const CHECKS_MAX: usize = 64;
/// The check that sessions are tied to where nothing is said.
const SERF_HEALTH: &str = "serfHealth";

/// The id of a session, refused in Consul's words; `None` is a form that no session has.
pub(super) fn id(written: &str) -> Result<Option<Uuid>, String> {
    let fault = |what: &str| Err(format!("failed session lookup: index error: {what}"));
    if written.len() != uuid::fmt::Hyphenated::LENGTH {
        return fault("UUID must be 36 characters");
    }
    if let Some(letter) = written.chars().find(|letter| *letter != '-' && !letter.is_ascii_hexdigit()) {
        return fault(&format!("Invalid UUID: encoding/hex: invalid byte: U+{:04X} {letter:?}", u32::from(letter)));
    }
    Ok(Uuid::try_parse(written).ok())
}

fn missing_session() -> HttpError {
    HttpError::BadRequest("Missing session".into())
}

fn info(door: Arc<Door>, call: Call) -> Answering {
    read(door, call, |door, call| {
        let options = ReadOptions::read(door, &call.query, &call.headers, Family::Session)?;
        if call.rest.is_empty() {
            return Err(missing_session());
        }
        options.must_be_here()?;
        let id = id(&call.rest).map_err(HttpError::ServerOfRead)?;
        let render = |_: &Door, session: Option<Arc<Session>>| Reply::json(sessions(session.as_slice()));
        Ok((options, SessionOne { id }, render))
    })
}

fn node(door: Arc<Door>, call: Call) -> Answering {
    read(door, call, |door, call| {
        let options = ReadOptions::read(door, &call.query, &call.headers, Family::Session)?;
        if call.rest.is_empty() {
            return Err(HttpError::BadRequest("Missing node name".into()));
        }
        options.must_be_here()?;
        let node = NodeName::new(&call.rest).map_err(|error| HttpError::BadRequest(format!("Invalid node name: {error}")))?;
        Ok((options, NodeSessions { node: node.folded() }, |_: &Door, all: Vec<Arc<Session>>| Reply::json(sessions(&all))))
    })
}

fn all(door: Arc<Door>, call: Call) -> Answering {
    read(door, call, |door, call| {
        let options = ReadOptions::read(door, &call.query, &call.headers, Family::Session)?;
        options.must_be_here()?;
        let filter = Filter::read(call.query.get("filter"), Rows::Sessions)?;
        let render = move |_: &Door, mut all: Vec<Arc<Session>>| {
            all.retain(|session| filter.as_ref().is_none_or(|filter| filter.admits(&SessionView::new(session))));
            Reply::json(sessions(&all))
        };
        Ok((options, AllSessions {}, render))
    })
}

fn create(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        let elsewhere = door.must_be_here(&call);
        let Call { body, who, .. } = call;
        let body = body.read_json().await?;
        let told = understand(&body)?;
        elsewhere?;
        let session = told.into_session(door.desk.name().as_str(), door.config.session_ttl_min)?;
        let id = session.id;
        let command = Command::CreateSession(CreateSession { session });
        match door.desk.write(&who, command, CauseKind::Api, "session/create").await? {
            (_, Outcome::Refused(refusal)) => Err(HttpError::Server(refusal.to_string())),
            _ => Ok(Reply::json(format!("{{\"ID\":\"{id}\"}}"))),
        }
    })
}

fn destroy(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        if call.rest.is_empty() {
            return Err(missing_session());
        }
        door.must_be_here(&call)?;
        let Call { rest, who, .. } = call;
        if let Some(id) = id(&rest).map_err(HttpError::Server)? {
            let command = Command::EndSession(EndSession { id });
            if let (_, Outcome::Refused(refusal)) = door.desk.write(&who, command, CauseKind::Api, "session/destroy").await? {
                return Err(HttpError::Server(refusal.to_string()));
            }
        }
        Ok(Reply::truth(true))
    })
}

fn renew(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        if call.rest.is_empty() {
            return Err(missing_session());
        }
        door.must_be_here(&call)?;
        let Call { rest, who, .. } = call;
        let session = match id(&rest).map_err(HttpError::Server)? {
            Some(id) => door.desk.renew(&who, id).await?,
            None => None,
        };
        match session {
            Some(session) => Ok(Reply::json(sessions(&[session]))),
            None => Err(HttpError::NotFound(format!("Session id '{rest}' not found"))),
        }
    })
}

/// What a body says of a session; `None` is nothing.
struct Told {
    name: SmolStr,
    node: Option<SmolStr>,
    lock_delay_ns: i64,
    behavior: SmolStr,
    ttl: SmolStr,
    node_checks: Option<Vec<SmolStr>>,
    service_checks: Option<Vec<(SmolStr, SmolStr)>>,
    checks: Vec<SmolStr>,
}

/// Reads a body; an empty one says nothing, and fields that nobody knows are left out, as Consul does here.
fn understand(body: &[u8]) -> Result<Told, HttpError> {
    let nothing = body.iter().all(u8::is_ascii_whitespace);
    let mut object = Object::parse(if nothing { b"{}" } else { body })?;
    let serf_health = || vec![SmolStr::new_static(SERF_HEALTH)];
    let (had_checks, had_node_checks) = (object.has("Checks"), object.has("NodeChecks"));
    let checks = if had_checks { object.texts("Checks")? } else { serf_health() };
    let node_checks = match had_node_checks {
        true if object.is_null("NodeChecks") => None,
        true => Some(object.texts("NodeChecks")?),
        false => Some(serf_health()),
    };
    // The older way of naming checks: none there is none at all, and what says nothing new is left out.
    let (checks, node_checks) = if checks.is_empty() {
        (Vec::new(), Some(Vec::new()))
    } else if node_checks.as_ref().is_none_or(Vec::is_empty) || checks == serf_health() {
        (Vec::new(), node_checks)
    } else {
        (checks, node_checks)
    };
    let service_check = |value: Value| {
        let mut one = Object::of(value, "ServiceChecks")?;
        Ok::<_, HttpError>((one.text("ID")?, one.text("Namespace")?))
    };
    let service_checks = match object.has("ServiceChecks") && !object.is_null("ServiceChecks") {
        true => Some(object.list("ServiceChecks")?.into_iter().map(service_check).collect::<Result<Vec<_>, _>>()?),
        false => None,
    };
    Ok(Told {
        name: object.text("Name")?,
        node: object.has("Node").then(|| object.text("Node")).transpose()?,
        lock_delay_ns: lock_delay(object.take("LockDelay"))?,
        behavior: object.text("Behavior")?,
        ttl: object.text("TTL")?,
        node_checks,
        service_checks,
        checks,
    })
}

/// Text, or a number; small ones are seconds.
fn lock_delay(told: Option<Value>) -> Result<i64, HttpError> {
    let ns = match told {
        None => return Ok(LOCK_DELAY_NS),
        Some(Value::String(text)) => duration::parse_ns(&text).map_err(|error| HttpError::Decode(error.to_string()))?,
        Some(value) => value.as_f64().unwrap_or(0.0) as i64,
    };
    Ok(if ns < LOCK_DELAY_NS_MIN { ns.saturating_mul(1_000_000_000) } else { ns })
}

impl Told {
    /// The session of a new id, on this node where none is named; refusals are those of Consul's servers.
    fn into_session(self, here: &str, ttl_min: std::time::Duration) -> Result<Session, HttpError> {
        let server = |text: String| HttpError::Server(text);
        let node = self.node.unwrap_or_else(|| SmolStr::new(here));
        if node.is_empty() {
            return Err(server("Must provide Node".into()));
        }
        let behavior = match self.behavior.as_str() {
            "" | "release" => Behavior::Release,
            "delete" => Behavior::Delete,
            other => return Err(server(format!("Invalid Behavior setting '{other}'"))),
        };
        let ttl_ns = match self.ttl.as_str() {
            "" => 0,
            text => duration::parse_ns(text).map_err(|error| server(format!("Session TTL '{text}' invalid: {error}")))?,
        };
        let shortest = i64::try_from(ttl_min.as_nanos()).unwrap_or(TTL_NS_MAX);
        if ttl_ns != 0 && !(shortest..=TTL_NS_MAX).contains(&ttl_ns) {
            let shortest = duration::text(ttl_min);
            return Err(server(format!("Invalid Session TTL '{ttl_ns}', must be between [{shortest}=24h0m0s]")));
        }
        let of_services = self.service_checks.as_ref().map_or(0, Vec::len);
        if self.checks.len() + self.node_checks.as_ref().map_or(0, Vec::len) + of_services > CHECKS_MAX {
            return Err(HttpError::BadRequest(format!("a session is tied to at most {CHECKS_MAX} checks")));
        }
        let check = |text: SmolStr| CheckId::new(&text).map_err(|_| server(format!("Missing check '{text}' registration")));
        let service_check = |(id, namespace)| Ok::<_, HttpError>(ServiceCheck { id: check(id)?, namespace });
        Ok(Session {
            id: Uuid::new_v4(),
            name: self.name,
            node: NodeName::new(&node).map_err(|_| server("Missing node registration".into()))?,
            node_checks: self.node_checks.map(|all| all.into_iter().map(check).collect()).transpose()?,
            service_checks: self.service_checks.map(|all| all.into_iter().map(service_check).collect()).transpose()?,
            checks: self.checks.into_iter().map(check).collect::<Result<_, _>>()?,
            lock_delay_ns: self.lock_delay_ns,
            behavior,
            ttl: self.ttl,
            ttl_ns: u64::try_from(ttl_ns).unwrap_or(0),
            cause: Arc::new(Cause::new("", CauseKind::Api, 0, "")),
            create_index: 0,
        })
    }
}

/// Sessions as Consul's JSON.
fn sessions(all: &[Arc<Session>]) -> Bytes {
    let mut out = Vec::with_capacity(256);
    list(&mut out, all.iter(), |out, session| object(out, &SessionView::new(session)));
    out.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn made(body: &str) -> Result<String, String> {
        let told = understand(body.as_bytes()).map_err(|error| error.to_string())?;
        let session = told.into_session("here", Duration::from_secs(10)).map_err(|error| error.to_string())?;
        let json = sessions(&[Arc::new(Session { id: Uuid::nil(), ..session })]);
        let json = String::from_utf8(json.to_vec()).unwrap();
        let from = json.find("\"Node\"").unwrap();
        Ok(json[from..].trim_end_matches(",\"CreateIndex\":0,\"ModifyIndex\":0}]").to_owned())
    }

    #[test]
    fn what_is_not_said_is_consuls_default() {
        let plain = r#""Node":"here","LockDelay":15000000000,"Behavior":"release","TTL":"","NodeChecks":["serfHealth"],"ServiceChecks":null"#;
        for body in ["", " ", "{}", "null", r#"{"Bogus":1,"ID":"x","LockDelay":null}"#, r#"{"Checks":["serfHealth"]}"#] {
            assert_eq!(made(body).as_deref(), Ok(plain), "{body}");
        }
    }

    #[test]
    fn checks_are_tied_as_a_real_consul_ties_them() {
        for (body, checks) in [
            (r#"{"Checks":["a"]}"#, r#""NodeChecks":["serfHealth"],"ServiceChecks":null,"Checks":["a"]"#),
            (
                r#"{"Checks":["serfHealth","a"]}"#,
                r#""NodeChecks":["serfHealth"],"ServiceChecks":null,"Checks":["serfHealth","a"]"#,
            ),
            (r#"{"Checks":["a"],"NodeChecks":["b"]}"#, r#""NodeChecks":["b"],"ServiceChecks":null,"Checks":["a"]"#),
            (r#"{"Checks":["a"],"NodeChecks":[]}"#, r#""NodeChecks":[],"ServiceChecks":null"#),
            (r#"{"Checks":[],"NodeChecks":["b"]}"#, r#""NodeChecks":[],"ServiceChecks":null"#),
            (r#"{"Checks":null}"#, r#""NodeChecks":[],"ServiceChecks":null"#),
            (r#"{"NodeChecks":null}"#, r#""NodeChecks":null,"ServiceChecks":null"#),
            (r#"{"ServiceChecks":[]}"#, r#""NodeChecks":["serfHealth"],"ServiceChecks":[]"#),
            (
                r#"{"servicechecks":[{"id":"s","Namespace":"n"}]}"#,
                r#""NodeChecks":["serfHealth"],"ServiceChecks":[{"ID":"s","Namespace":"n"}]"#,
            ),
        ] {
            assert!(made(body).unwrap().ends_with(checks), "{body}: {}", made(body).unwrap());
        }
    }

    #[test]
    fn small_lock_delays_are_seconds() {
        for (told, ns) in [
            ("5", 5_000_000_000),
            ("999", 999_000_000_000),
            ("1000", 1000),
            ("1.5", 1_000_000_000),
            ("-5", -5_000_000_000),
            ("true", 0),
            ("\"0.001s\"", 1_000_000),
            ("\"-1s\"", -1_000_000_000_000_000_000),
            ("\"61s\"", 61_000_000_000),
            ("-1e300", i64::MIN),
        ] {
            let shown = made(&format!("{{\"LockDelay\":{told}}}")).unwrap();
            assert!(shown.contains(&format!("\"LockDelay\":{ns},")), "{told}: {shown}");
        }
    }

    #[test]
    fn refusals_are_consuls() {
        for (body, text) in [
            (r#"{"LockDelay":"5"}"#, "Request decode failed: time: missing unit in duration \"5\""),
            (r#"{"LockDelay":""}"#, "Request decode failed: time: invalid duration \"\""),
            (r#"{"TTL":"9s"}"#, "Invalid Session TTL '9000000000', must be between [10s=24h0m0s]"),
            (r#"{"TTL":"-5s"}"#, "Invalid Session TTL '-5000000000', must be between [10s=24h0m0s]"),
            (r#"{"TTL":"86401s"}"#, "Invalid Session TTL '86401000000000', must be between [10s=24h0m0s]"),
            (r#"{"TTL":" 10s"}"#, "Session TTL ' 10s' invalid: time: invalid duration \" 10s\""),
            (r#"{"TTL":10}"#, "Request decode failed: json: cannot unmarshal number into field TTL of type string"),
            (r#"{"Behavior":"DELETE"}"#, "Invalid Behavior setting 'DELETE'"),
            (r#"{"Node":""}"#, "Must provide Node"),
            (r#"{"NodeChecks":[""]}"#, "Missing check '' registration"),
        ] {
            assert_eq!(made(body), Err(text.to_owned()), "{body}");
        }
        for body in ["[]", "junk", r#"{"Node":5}"#, r#"{"ServiceChecks":["x"]}"#, r#"{"NodeChecks":"x"}"#, r#"{"Name":{}}"#] {
            assert!(made(body).unwrap_err().starts_with("Request decode failed: "), "{body}");
        }
        let many: Vec<String> = (0..=CHECKS_MAX).map(|number| format!("\"{number}\"")).collect();
        assert!(made(&format!("{{\"NodeChecks\":[{}]}}", many.join(","))).unwrap_err().contains("at most 64"));
        assert!(made(r#"{"TTL":"0s"}"#).is_ok() && made(r#"{"TTL":"86400s"}"#).is_ok() && made(r#"{"TTL":"0"}"#).is_ok());
    }

    #[test]
    fn ids_are_refused_in_consuls_words() {
        let fault = |text: &str| id(text).unwrap_err();
        for text in ["", "junk", "a/b", "11111111-1111-1111-1111-1111111111112"] {
            assert_eq!(fault(text), "failed session lookup: index error: UUID must be 36 characters");
        }
        let invalid = "failed session lookup: index error: Invalid UUID: encoding/hex: invalid byte: U+005A 'Z'";
        assert_eq!(fault("11111111-1111-1111-1111-11111111111Z"), invalid);
        assert_eq!(id(&"1".repeat(36)), Ok(None));
        let written = "AAAAAAAA-1111-1111-1111-111111111111";
        assert_eq!(id(written).unwrap(), Some(Uuid::parse_str(written).unwrap()));
    }
}
