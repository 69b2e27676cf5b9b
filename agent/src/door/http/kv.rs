//! `/v1/kv`: keys and their values.

use std::sync::Arc;

use http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, StatusCode};
use muster_catalog::{CauseKind, Command, Entry, KeyOne, KeysUnder, Kv, KvVerb, Outcome};
use smol_str::SmolStr;

use super::Door;
use super::call::{Answer, Answering, Call, Handler, Route};
use super::error::HttpError;
use super::options::{Family, ReadOptions, read};
use super::query::Query;
use super::reply::Reply;
use super::{json, session};

pub(super) const ROUTES: &[Route] = &[Route {
    path: "/v1/kv/",
    methods: &[(Method::GET, Handler::Soon(get)), (Method::PUT, Handler::Soon(put)), (Method::DELETE, Handler::Soon(delete))],
    namespaced: true,
}];

fn get(door: Arc<Door>, call: Call) -> Answering {
    match Shape::of(&call.query) {
        Shape::One { raw } => read(door, call, move |door, call| {
            let options = ReadOptions::read(door, &call.query, &call.headers, Family::Kv)?;
            if call.rest.is_empty() {
                return Err(missing_key());
            }
            options.must_be_here()?;
            let render = move |_: &Door, entry: Option<Arc<Entry>>| match entry {
                None => Reply::bare(StatusCode::NOT_FOUND),
                Some(entry) if raw => raw_value(&entry),
                Some(entry) => Reply::json(json::entries(std::iter::once(&*entry))),
            };
            Ok((options, KeyOne { key: call.rest.as_str().into() }, render))
        }),
        shape => read(door, call, move |door, call| {
            let options = ReadOptions::read(door, &call.query, &call.headers, Family::Kv)?;
            options.must_be_here()?;
            let prefix: Arc<str> = call.rest.as_str().into();
            let ask = KeysUnder { prefix: prefix.clone() };
            let render = move |_: &Door, entries: Vec<Arc<Entry>>| match &shape {
                Shape::Keys { .. } if entries.is_empty() && prefix.is_empty() => Reply::json("[]"),
                _ if entries.is_empty() => Reply::bare(StatusCode::NOT_FOUND),
                Shape::Keys { separator } => Reply::json(json::texts(up_to(separator, &prefix, &entries).into_iter())),
                _ => Reply::json(json::entries(entries.iter().map(|entry| &**entry))),
            };
            Ok((options, ask, render))
        }),
    }
}

/// What a reader of keys wants.
enum Shape {
    One { raw: bool },
    Tree,
    Keys { separator: SmolStr },
}

impl Shape {
    /// `keys` goes before `recurse`, and both before `raw`.
    fn of(query: &Query) -> Self {
        if query.has("keys") {
            let separator = query.filled("separator").or_else(|| query.filled("seperator"));
            return Shape::Keys { separator: separator.cloned().unwrap_or_default() };
        }
        if query.has("recurse") { Shape::Tree } else { Shape::One { raw: query.has("raw") } }
    }
}

/// Names of keys, cut behind the first separator that follows the prefix; equal ones once.
fn up_to<'e>(separator: &str, prefix: &str, entries: &'e [Arc<Entry>]) -> Vec<&'e str> {
    let mut names: Vec<&str> = Vec::new();
    for entry in entries {
        let key = &*entry.key;
        let cut = match key[prefix.len()..].find(separator) {
            Some(at) if !separator.is_empty() => &key[..prefix.len() + at + separator.len()],
            _ => key,
        };
        if names.last() != Some(&cut) {
            names.push(cut);
        }
    }
    names
}

/// A value as it is, for whoever wants no JSON: with the headers that keep a browser from making a page of it.
fn raw_value(entry: &Entry) -> Reply {
    Reply::other("text/plain", entry.value.clone())
        .with_header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
        .with_header(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"))
}

fn missing_key() -> HttpError {
    HttpError::BadRequest("Missing key name".into())
}

fn conflicting(query: &Query) -> HttpError {
    HttpError::BadRequest(format!("Conflicting flags: {}", query.encoded()))
}

fn put(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let Call { rest: key, query, body, who, .. } = call;
        if key.is_empty() {
            return Err(missing_key());
        }
        if !door.config.disable_kv_key_validation {
            check_key(&key)?;
        }
        let conditions = ["cas", "acquire", "release"].iter().filter(|name| query.has(name)).count();
        if conditions > 1 {
            return Err(conflicting(&query));
        }
        let flags = number(&query, "flags")?.unwrap_or(0);
        let cas = number(&query, "cas")?;
        let (acquire, release) = (query.get("acquire"), query.get("release"));
        if acquire.or(release).is_some_and(|session| session.is_empty()) {
            return Err(HttpError::Server("missing session".into()));
        }
        let value = body.read(door.config.kv_value_bytes_max, "limits.kv_max_value_size").await?;
        let verb = match (acquire, release) {
            (Some(text), _) => {
                let session = session::id(text).map_err(HttpError::Server)?;
                let session = session.ok_or_else(|| HttpError::Server(format!("invalid session {text:?}")))?;
                KvVerb::Acquire { value, flags, session }
            }
            // Who is no session holds no key.
            (None, Some(text)) => match session::id(text) {
                Ok(Some(session)) => KvVerb::Release { value, flags, session },
                _ => return Ok(Reply::truth(false)),
            },
            (None, None) => KvVerb::Set { value, flags, cas },
        };
        write(&door, &who, key, verb).await
    })
}

/// Any text is a key but one that climbs out of its folder, or whose ends nobody would see.
pub(super) fn check_key(key: &str) -> Result<(), HttpError> {
    let climbs = || {
        let lower = key.to_ascii_lowercase();
        let plain = lower.replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
        plain.split(['/', '\\']).any(|part| part == "..")
    };
    if key.contains(['.', '%']) && climbs() {
        return Err(HttpError::BadRequest("Invalid key name: path traversal is not allowed".into()));
    }
    if key.trim() != key {
        return Err(HttpError::BadRequest("Invalid key name: leading or trailing blanks are not allowed".into()));
    }
    Ok(())
}

/// A number that never is negative, refused in Go's words. Empty is refused too.
fn number(query: &Query, name: &str) -> Result<Option<u64>, HttpError> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(Some(number)),
        _ => {
            let why = if digits { "value out of range" } else { "invalid syntax" };
            Err(HttpError::Server(format!("strconv.ParseUint: parsing {text:?}: {why}")))
        }
    }
}

fn delete(door: Arc<Door>, call: Call) -> Answering {
    Box::pin(async move {
        door.must_be_here(&call)?;
        let Call { rest: key, query, who, .. } = call;
        let recurse = query.has("recurse");
        if key.is_empty() && !recurse {
            return Err(missing_key());
        }
        if recurse && query.has("cas") {
            return Err(conflicting(&query));
        }
        let verb = if recurse { KvVerb::DeleteTree } else { KvVerb::Delete { cas: number(&query, "cas")? } };
        write(&door, &who, key, verb).await
    })
}

async fn write(door: &Door, who: &crate::desk::Who, key: SmolStr, verb: KvVerb) -> Answer {
    let (_, outcome) = door.desk.write(who, Command::Kv(Kv { key, verb }), CauseKind::Api, "kv").await?;
    match outcome {
        Outcome::Kv(so) => Ok(Reply::truth(so)),
        Outcome::Done | Outcome::Transaction(_) => Ok(Reply::truth(true)),
        Outcome::Refused(refusal) => Err(HttpError::Server(refusal.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use muster_catalog::Cause;

    use super::*;

    fn entry(key: &str) -> Arc<Entry> {
        Arc::new(Entry {
            key: key.into(),
            value: Bytes::new(),
            flags: 0,
            lock_index: 0,
            session: None,
            cause: Arc::new(Cause::new("", CauseKind::Api, 0, "")),
            create_index: 1,
            modify_index: 1,
        })
    }

    #[test]
    fn listings_end_behind_the_first_separator_after_the_prefix() {
        let all: Vec<_> = ["l-other", "l/B", "l/b/1", "l/b/2", "l/b/c/3", "l/d/"].map(entry).into();
        assert_eq!(up_to("/", "l", &all), ["l-other", "l/"]);
        assert_eq!(up_to("/", "l/", &all[1..]), ["l/B", "l/b/", "l/d/"]);
        assert_eq!(up_to("/", "l/b/", &all[2..5]), ["l/b/1", "l/b/2", "l/b/c/"]);
        assert_eq!(up_to("", "l/", &all[1..3]), ["l/B", "l/b/1"]);
        assert_eq!(up_to("b/", "l/", &all[1..]), ["l/B", "l/b/", "l/d/"]);
    }

    #[test]
    fn any_text_is_a_key_but_a_climbing_one() {
        for key in ["a/b", "ç", "two words", "plus+", "per%cent", "a..b", "...", "日本", "quote\"\\", "a/"] {
            assert!(check_key(key).is_ok(), "{key}");
        }
        for key in ["..", "a/../b", "a/%2e%2E/b", "..%2fb", "..\\b", "a%5c..%5Cb", " a", "a "] {
            assert!(check_key(key).is_err(), "{key}");
        }
    }

    #[test]
    fn numbers_are_refused_in_gos_words() {
        let text = |query: &str| number(&Query::parse(query).expect("well formed"), "flags").map_err(|error| error.to_string());
        assert_eq!(text(""), Ok(None));
        assert_eq!(text("flags=18446744073709551615"), Ok(Some(u64::MAX)));
        assert_eq!(text("flags="), Err("strconv.ParseUint: parsing \"\": invalid syntax".into()));
        assert_eq!(text("flags=-1"), Err("strconv.ParseUint: parsing \"-1\": invalid syntax".into()));
        assert_eq!(text("flags=%2B1"), Err("strconv.ParseUint: parsing \"+1\": invalid syntax".into()));
        let range = "strconv.ParseUint: parsing \"18446744073709551616\": value out of range";
        assert_eq!(text("flags=18446744073709551616"), Err(range.into()));
    }
}
