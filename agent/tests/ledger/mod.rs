//! What was written, and what each thing may be now: the judge of tests in which answers are lost.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, dead_code)] // each test uses its part of this

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;

/// One thing that is written: a key, or a service by its node and id. Its value, or `None` where it is gone.
pub type Fact = Option<String>;

/// Everything that was written, and what each thing may be now: one value if its last change was acknowledged, more where
/// the answer was lost.
#[derive(Default)]
pub struct Ledger {
    pub may_be: BTreeMap<String, Vec<Fact>>,
    /// Of a counter.
    pub acknowledged: u64,
    pub unknown: u64,
    pub writes: u64,
    pub lost_answers: u64,
}

impl Ledger {
    pub fn begin(&mut self, what: &str, value: Fact) {
        self.may_be.entry(what.to_owned()).or_insert_with(|| vec![None]).push(value);
    }

    pub fn acknowledge(&mut self, what: &str, value: Fact) {
        self.may_be.insert(what.to_owned(), vec![value]);
        self.writes += 1;
    }

    /// What was begun last was refused: nothing has changed.
    pub fn refuse(&mut self, what: &str) {
        self.may_be.get_mut(what).unwrap().pop();
    }

    /// What is seen must be possible, and is then what is so.
    pub fn settle(&mut self, kind: &str, seen: &BTreeMap<String, String>) {
        for what in seen.keys() {
            assert!(self.may_be.contains_key(what), "{what} was never written");
        }
        for (what, may_be) in self.may_be.iter_mut().filter(|(what, _)| what.starts_with(kind)) {
            let now = seen.get(what).cloned();
            assert!(may_be.contains(&now), "{what} is {now:?}, and can only be one of {may_be:?}");
            *may_be = vec![now];
        }
        self.may_be.retain(|what, may_be| !what.starts_with(kind) || may_be != &[None]);
    }

    /// What is so of a kind, once it was settled.
    pub fn settled(&self, kind: &str) -> BTreeMap<String, String> {
        let of_kind = self.may_be.iter().filter(|(what, _)| what.starts_with(kind));
        of_kind.map(|(what, now)| (what.clone(), now[0].clone().unwrap())).collect()
    }
}

/// The value of a key, from an answer's row.
pub fn value(row: &Value) -> String {
    let bytes = base64::engine::general_purpose::STANDARD.decode(row["Value"].as_str().unwrap()).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Rows of an answer; none where there is nothing.
pub fn rows(answer: &Value) -> &[Value] {
    answer.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Keys and their values.
pub fn keys(answer: &Value) -> BTreeMap<String, String> {
    rows(answer).iter().map(|row| (format!("kv {}", row["Key"].as_str().unwrap()), value(row))).collect()
}

/// Services that were told to the catalog, and their ports.
pub fn foreign(answer: &Value) -> BTreeMap<String, String> {
    let fact = |row: &Value| {
        let what = format!("catalog {}/{}", row["Node"].as_str().unwrap(), row["ServiceID"].as_str().unwrap());
        (what, row["ServicePort"].to_string())
    };
    rows(answer).iter().map(fact).collect()
}

/// An agent's services with the verdicts of their checks.
pub fn own(services: &Value, checks: &Value) -> BTreeMap<String, String> {
    let services = services.as_object().unwrap().iter();
    let fact = |(id, service): (&String, &Value)| {
        let status = checks[format!("c-{id}")]["Status"].as_str().unwrap_or("without a check");
        (format!("agent {id}"), format!("{} {status}", service["Port"]))
    };
    services.map(fact).collect()
}

/// The same as the catalog has them.
pub fn own_in_catalog(health: &Value) -> BTreeMap<String, String> {
    let fact = |instance: &Value| {
        let id = instance["Service"]["ID"].as_str().unwrap();
        let check = instance["Checks"].as_array().unwrap().iter().find(|check| check["ServiceID"] == id);
        let status = check.map_or("without a check", |check| check["Status"].as_str().unwrap());
        (format!("agent {id}"), format!("{} {status}", instance["Service"]["Port"]))
    };
    rows(health).iter().map(fact).collect()
}
