//! What a scenario says: its steps as they lie in `scenarios/`, variables, and what of an answer a later step uses.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

pub type Fields = Map<String, Value>;

/// One area: a file of scenarios that ask one agent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    #[serde(skip)]
    pub name: String,
    /// Where the answers come from: a recorded agent, or the list of Consul's documented behaviour.
    #[serde(rename = "observed")]
    _observed: String,
    pub scenarios: Vec<Scenario>,
}

/// Steps in order; `cleanup` runs whatever happened, and its answers are not compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    #[serde(rename = "what")]
    _what: String,
    /// The kind of agent it asks, where that is not a plain one.
    #[serde(default)]
    pub needs: String,
    /// Whether the letters of header names count.
    #[serde(default)]
    pub header_case: bool,
    pub steps: Vec<Step>,
    #[serde(default)]
    pub cleanup: Vec<Step>,
}

/// One question, and what is expected for an answer.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    #[serde(rename = "note")]
    _note: String,
    pub http: Option<Value>,
    pub dns: Option<Value>,
    pub block: Option<Block>,
    /// Seconds in which it is asked again until it fits.
    pub within: f64,
    /// Compares only the keys or rows that begin so.
    pub pick: Option<String>,
    /// The headers that are compared, instead of the usual ones.
    pub watch: Option<Vec<String>>,
    /// Variables for later steps: `header:Name`, `json:/pointer` or `text`.
    pub capture: BTreeMap<String, String>,
    pub expect: Fields,
    /// Where a newer Consul answers otherwise: these fields instead.
    pub since: BTreeMap<String, Fields>,
    /// Variants that no client can mind.
    pub also_ok: Vec<Fields>,
    /// Where muster answers otherwise on purpose: these fields instead, and `why`.
    pub deviates: Option<Fields>,
    /// Why it holds only for an agent that is alone, and not through a client agent of three servers.
    pub alone: Option<String>,
}

/// A request that waits; 0.3 s later the changes are made, then its answer is awaited.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    pub http: Value,
    pub wait: f64,
    #[serde(default, rename = "while")]
    pub changes: Vec<Step>,
}

const EXPECTED: [&str; 17] = [
    "status",
    "headers",
    "json",
    "text",
    "base64",
    "body_size",
    "layout",
    "wakes",
    "rcode",
    "flags",
    "edns",
    "question",
    "answer",
    "authority",
    "additional",
    "max_size",
    "why",
];

/// All areas in `scenarios/`, by name.
pub fn areas() -> Vec<Area> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read(path).unwrap();
        let mut area: Area = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        area.name = path.file_stem().unwrap().to_string_lossy().into_owned();
        area.scenarios.iter().flat_map(|scenario| &scenario.steps).for_each(Step::is_sound);
        area
    };
    paths.iter().map(read).collect()
}

impl Step {
    /// A field that nobody reads would be a promise that nobody keeps.
    fn is_sound(&self) {
        let asked = usize::from(self.http.is_some()) + usize::from(self.dns.is_some()) + usize::from(self.block.is_some());
        assert_eq!(asked, 1, "{}: one question a step", self.title());
        for expect in std::iter::once(&self.expect).chain(self.since.values()).chain(&self.also_ok).chain(&self.deviates) {
            for field in expect.keys() {
                assert!(EXPECTED.contains(&field.as_str()), "{}: nobody compares {field}", self.title());
            }
        }
        assert!(self.deviates.as_ref().is_none_or(|fields| fields["why"].is_string()), "{}: says not why", self.title());
    }

    pub fn title(&self) -> String {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        match (&self.http, &self.block, &self.dns) {
            (Some(http), ..) => format!("{} {}", text(http, "method"), text(http, "path")),
            (_, Some(block), _) => format!("waiting {}", text(&block.http, "path")),
            (_, _, Some(dns)) => format!("dns {} {} {}", text(dns, "name"), text(dns, "type"), text(dns, "net")),
            _ => String::new(),
        }
    }

    /// The expectations of which one must hold. Of our own agent a deviation must be the one that is written down.
    pub fn accepted(&self, ours: bool) -> Vec<Fields> {
        if let (true, Some(deviation)) = (ours, &self.deviates) {
            return vec![overlay(&self.expect, deviation)];
        }
        let others = self.since.values().chain(&self.also_ok).chain(&self.deviates);
        std::iter::once(self.expect.clone()).chain(others.map(|other| overlay(&self.expect, other))).collect()
    }
}

/// Whole fields are replaced; a body of another kind replaces the body; headers are merged, and null removes one.
fn overlay(base: &Fields, other: &Fields) -> Fields {
    const BODY: [&str; 5] = ["text", "json", "base64", "body_size", "layout"];
    let mut merged = base.clone();
    if BODY.iter().any(|kind| *kind != "layout" && other.contains_key(*kind)) {
        BODY.iter().for_each(|kind| drop(merged.remove(*kind)));
    }
    for (field, value) in other {
        match (merged.get_mut(field), value) {
            (Some(Value::Object(headers)), Value::Object(more)) if field == "headers" => headers.extend(more.clone()),
            _ => drop(merged.insert(field.clone(), value.clone())),
        }
    }
    merged
}

/// What is known about the agent, and what earlier steps captured.
#[derive(Clone, Default)]
pub struct Variables(pub BTreeMap<String, String>);

impl Variables {
    /// Puts them in for `${name}` in every text of a value.
    pub fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill_text(text)),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.fill(item)).collect()),
            Value::Object(fields) => {
                Value::Object(fields.iter().map(|(key, item)| (self.fill_text(key), self.fill(item))).collect())
            }
            other => other.clone(),
        }
    }

    fn fill_text(&self, text: &str) -> String {
        if !text.contains("${") {
            return text.to_owned();
        }
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
    }
}

/// Only what belongs to a scenario: keys, or rows with a text in them, that begin so.
pub fn pick(document: Value, prefix: &str) -> Value {
    fn belongs(item: &Value, prefix: &str) -> bool {
        match item {
            Value::String(text) => text.starts_with(prefix),
            Value::Object(fields) => {
                fields.values().any(|value| (value.is_string() || value.is_object()) && belongs(value, prefix))
            }
            _ => false,
        }
    }
    match document {
        Value::Object(fields) => Value::Object(fields.into_iter().filter(|(key, _)| key.starts_with(prefix)).collect()),
        Value::Array(items) => Value::Array(items.into_iter().filter(|item| belongs(item, prefix)).collect()),
        other => other,
    }
}
