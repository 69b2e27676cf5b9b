//! JSON bodies, read as Go's servers read them: keys in any case, unknown ones refused, every fault with its key.

use std::time::Duration;

use muster_catalog::Meta;
use serde_json::{Map, Value};
use smol_str::SmolStr;

use super::error::HttpError;
use crate::config::duration;

/// An object whose keys are taken out one by one; what is left over at the end is unknown.
#[derive(Debug, Default)]
pub(super) struct Object {
    keys: Map<String, Value>,
}

fn fault(text: impl Into<String>) -> HttpError {
    HttpError::Decode(text.into())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn mismatch(value: &Value, name: &str, wanted: &str) -> HttpError {
    fault(format!("json: cannot unmarshal {} into field {name} of type {wanted}", kind_of(value)))
}

impl Object {
    /// Reads a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, HttpError> {
        // As Consul does, the first value is read, and what follows it is not looked at.
        match serde_json::Deserializer::from_slice(body).into_iter().next() {
            Some(Ok(Value::Object(keys))) => Ok(Self { keys }),
            Some(Ok(Value::Null)) => Ok(Self { keys: Map::new() }),
            Some(Ok(other)) => Err(fault(format!("json: cannot unmarshal {} into an object", kind_of(&other)))),
            Some(Err(error)) if error.is_eof() => Err(fault("unexpected EOF")),
            Some(Err(error)) => Err(fault(error.to_string())),
            None => Err(fault("EOF")),
        }
    }

    /// An object inside another one.
    pub(super) fn of(value: Value, name: &str) -> Result<Self, HttpError> {
        match value {
            Value::Object(keys) => Ok(Self { keys }),
            other => Err(mismatch(&other, name, "object")),
        }
    }

    /// Whether a key is there, be it `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.keys.keys().any(|key| key.eq_ignore_ascii_case(name))
    }

    /// Whether a key is there and `null`.
    pub(super) fn is_null(&self, name: &str) -> bool {
        self.keys.iter().rfind(|(key, _)| key.eq_ignore_ascii_case(name)).is_some_and(|(_, value)| value.is_null())
    }

    /// Takes a key, in whatever case it is written; of several spellings the last counts. `null` is as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let found: Vec<String> = self.keys.keys().filter(|key| key.eq_ignore_ascii_case(name)).cloned().collect();
        let mut value = None;
        for key in found {
            value = self.keys.remove(&key);
        }
        value.filter(|value| !value.is_null())
    }

    /// Text; empty if absent.
    pub(super) fn text(&mut self, name: &str) -> Result<SmolStr, HttpError> {
        match self.take(name) {
            None => Ok(SmolStr::default()),
            Some(Value::String(text)) => Ok(SmolStr::new(text)),
            Some(other) => Err(mismatch(&other, name, "string")),
        }
    }

    /// A whole number; 0 if absent.
    pub(super) fn number(&mut self, name: &str) -> Result<i64, HttpError> {
        match self.take(name) {
            None => Ok(0),
            Some(value) => value.as_i64().ok_or_else(|| mismatch(&value, name, "int")),
        }
    }

    /// Yes or no; no if absent.
    pub(super) fn truth(&mut self, name: &str) -> Result<bool, HttpError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(truth)) => Ok(truth),
            Some(other) => Err(mismatch(&other, name, "bool")),
        }
    }

    /// A list of texts; empty if absent.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<SmolStr>, HttpError> {
        self.list(name)?.into_iter().map(|value| text_of(value, name)).collect()
    }

    /// A list; empty if absent.
    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Value>, HttpError> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values),
            Some(other) => Err(mismatch(&other, name, "list")),
        }
    }

    /// Pairs of texts; empty if absent.
    pub(super) fn pairs(&mut self, name: &str) -> Result<Meta, HttpError> {
        self.free_keys(name)?.into_iter().map(|(key, value)| Ok((SmolStr::new(key), text_of(value, name)?))).collect()
    }

    /// An object whose keys are data; empty if absent.
    pub(super) fn free_keys(&mut self, name: &str) -> Result<Map<String, Value>, HttpError> {
        match self.take(name) {
            None => Ok(Map::new()),
            Some(Value::Object(keys)) => Ok(keys),
            Some(other) => Err(mismatch(&other, name, "map")),
        }
    }

    /// An object with known keys.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Object>, HttpError> {
        self.take(name).map(|value| Object::of(value, name)).transpose()
    }

    /// A duration: Go's text, or nanoseconds. Negative ones are as none.
    pub(super) fn duration(&mut self, name: &str) -> Result<Duration, HttpError> {
        let ns = match self.take(name) {
            None => 0,
            Some(Value::String(text)) if text.is_empty() => 0,
            Some(Value::String(text)) => duration::parse_ns(&text).map_err(|error| fault(error.to_string()))?,
            Some(value) => value.as_f64().ok_or_else(|| mismatch(&value, name, "duration"))? as i64,
        };
        Ok(u64::try_from(ns).map_or(Duration::ZERO, Duration::from_nanos))
    }

    /// Takes keys that are known and mean nothing here.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Refuses what is left.
    pub(super) fn finish(mut self) -> Result<(), HttpError> {
        for (name, what) in [("Namespace", "Namespaces"), ("Partition", "Partitions")] {
            match self.take(name) {
                Some(Value::String(text)) if text.is_empty() => {}
                Some(_) => return Err(fault(format!("json: unknown field {name:?} - {what} are a Consul Enterprise feature"))),
                None => {}
            }
        }
        match self.keys.iter().find(|(_, value)| !value.is_null()).or(self.keys.iter().next()) {
            Some((key, _)) => Err(fault(format!("json: unknown field {key:?}"))),
            None => Ok(()),
        }
    }
}

fn text_of(value: Value, name: &str) -> Result<SmolStr, HttpError> {
    match value {
        Value::String(text) => Ok(SmolStr::new(text)),
        Value::Null => Ok(SmolStr::default()),
        other => Err(mismatch(&other, name, "string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(result: Result<impl std::fmt::Debug, HttpError>) -> String {
        result.expect_err("it is wrong").to_string()
    }

    #[test]
    fn keys_match_in_any_case_and_unknown_ones_are_refused() {
        let mut object = Object::parse(br#"{"node":"a","PORT":7,"Bogus":1}"#).expect("an object");
        assert_eq!(object.text("Node").expect("text"), "a");
        assert_eq!(object.number("Port").expect("a number"), 7);
        assert_eq!(fault_of(object.finish()), "Request decode failed: json: unknown field \"Bogus\"");
        let object = Object::parse(br#"{"Namespace":"x"}"#).expect("an object");
        assert_eq!(
            fault_of(object.finish()),
            "Request decode failed: json: unknown field \"Namespace\" - Namespaces are a Consul Enterprise feature"
        );
    }

    #[test]
    fn wrong_types_name_their_field() {
        let mut object = Object::parse(br#"{"Node":1,"Tags":["a",2],"T":"1x"}"#).expect("an object");
        assert!(fault_of(object.text("Node")).contains("field Node of type string"));
        assert!(fault_of(object.texts("Tags")).contains("field Tags"));
        assert!(fault_of(object.duration("T")).contains("1x"));
    }

    #[test]
    fn bodies_that_are_none_are_faults_and_deep_ones_do_no_harm() {
        assert_eq!(fault_of(Object::parse(b"")), "Request decode failed: EOF");
        for body in ["{bad", "[]", "1", "x{}"] {
            assert!(fault_of(Object::parse(body.as_bytes())).starts_with("Request decode failed: "), "{body}");
        }
        assert!(Object::parse(b"{}x").is_ok(), "what follows is not read, as Consul does not");
        let deep = format!("{{\"Node\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(Object::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn durations_are_text_or_nanoseconds() {
        let mut object = Object::parse(br#"{"A":"1m30s","B":1500000000,"C":""}"#).expect("an object");
        assert_eq!(object.duration("a").expect("text"), Duration::from_secs(90));
        assert_eq!(object.duration("b").expect("a number"), Duration::from_millis(1500));
        assert_eq!(object.duration("c").expect("empty"), Duration::ZERO);
    }
}
