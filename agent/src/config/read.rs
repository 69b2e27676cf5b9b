//! From a tree to typed values: all faults are collected.

use std::collections::BTreeMap;
use std::time::Duration;

use super::duration;
use super::fault::Fault;
use super::tree::{At, Node, Value};

/// A value that was given, and where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Given<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it was written.
    pub(crate) at: At,
}

/// Who wrote what is read, and so how strictly it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A configuration file: snake_case keys, durations as text.
    File,
    /// A body of the HTTP API: keys in any case, with and without underscores; durations as text or nanoseconds.
    Http,
}

/// What is collected while a tree is read.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Whose text it is.
    pub(crate) dialect: Dialect,
    /// Keys from the root to the place being read.
    pub(crate) path: Vec<String>,
    /// What is wrong.
    pub(crate) faults: Vec<Fault>,
    /// The same in the words of Go's decoder, for the HTTP API.
    pub(crate) go_errors: Vec<String>,
    /// Keys that are left out on purpose.
    pub(crate) left_out: Vec<String>,
    /// Keys that are known and have no effect yet.
    pub(crate) later: Vec<String>,
}

impl Reading {
    /// Nothing read yet.
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self { dialect, path: Vec::new(), faults: Vec::new(), go_errors: Vec::new(), left_out: Vec::new(), later: Vec::new() }
    }

    /// The key path being read: `dns_config.soa.refresh`, `services[2].name`.
    pub(crate) fn key(&self) -> String {
        let mut key = String::new();
        for part in &self.path {
            if !key.is_empty() && !part.starts_with('[') {
                key.push('.');
            }
            key.push_str(part);
        }
        key
    }

    /// Runs `read` one key deeper.
    pub(crate) fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.to_owned());
        let result = read(self);
        self.path.pop();
        result
    }

    /// Notes that the value at the current path is not what is wanted.
    pub(crate) fn fault(&mut self, node: &Node, wanted: impl Into<String>) {
        let key = self.key();
        let value = if secret(&key) { "(hidden)".to_owned() } else { node.value.shown() };
        self.faults.push(Fault { at: node.at.clone(), key, value, wanted: wanted.into() });
    }

    /// A body is answered with its first error; going on would only make a hostile one dear. Files get all their faults.
    pub(super) fn enough(&self) -> bool {
        self.dialect == Dialect::Http && !self.go_errors.is_empty()
    }

    fn wrong_type<T: Read>(&mut self, node: &Node) {
        self.fault(node, format!("must be {}", T::WANTED));
        let key = self.key();
        self.go_errors.push(format!(
            "json: cannot unmarshal {} into Go struct field .{key} of type {}",
            node.value.go_kind(),
            T::GO
        ));
    }
}

/// Whether a value is better not repeated in a log.
fn secret(key: &str) -> bool {
    ["token", "encrypt", "header"].iter().any(|word| key.contains(word))
}

/// What can be read from a tree. `None` means that the fault is noted.
pub(crate) trait Read: Sized {
    /// What is wanted, to follow "must be".
    const WANTED: &'static str;
    /// Go's name of the type.
    const GO: &'static str;
    /// Reads it.
    fn read(node: &Node, reading: &mut Reading) -> Option<Self>;
}

/// How a later file changes what an earlier one said.
pub(crate) trait Merge {
    /// Takes in what was written later.
    fn merge(&mut self, later: Self);
}

impl Read for bool {
    const WANTED: &'static str = "true or false";
    const GO: &'static str = "bool";
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                reading.wrong_type::<Self>(node);
                None
            }
        }
    }
}

impl Read for i64 {
    const WANTED: &'static str = "a whole number";
    const GO: &'static str = "int";
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        /// Beyond this, an f64 no longer holds every whole number.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        match node.value {
            Value::Int(value) => Some(value),
            #[allow(clippy::cast_possible_truncation)] // whole and within the exact range
            Value::Float(value) if value.fract() == 0.0 && value.abs() <= EXACT_MAX => Some(value as i64),
            _ => {
                reading.wrong_type::<Self>(node);
                None
            }
        }
    }
}

impl Read for f64 {
    const WANTED: &'static str = "a number";
    const GO: &'static str = "float64";
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        match node.value {
            #[allow(clippy::cast_precision_loss)] // settings of this type are small
            Value::Int(value) => Some(value as f64),
            Value::Float(value) if value.is_finite() => Some(value),
            _ => {
                reading.wrong_type::<Self>(node);
                None
            }
        }
    }
}

impl Read for String {
    const WANTED: &'static str = "a text";
    const GO: &'static str = "string";
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                reading.wrong_type::<Self>(node);
                None
            }
        }
    }
}

/// A duration as it was written: signed, for refusals that ask for the sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Nanoseconds(pub(crate) i64);

impl Nanoseconds {
    /// The duration, if it is above zero.
    pub(crate) fn positive(self) -> Option<Duration> {
        u64::try_from(self.0).ok().filter(|ns| *ns > 0).map(Duration::from_nanos)
    }
}

impl Read for Nanoseconds {
    const WANTED: &'static str = "a duration such as \"10s\" or \"1h30m\"";
    const GO: &'static str = "time.Duration";
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        match &node.value {
            Value::Text(text) => match duration::parse_ns(text) {
                Ok(ns) => Some(Self(ns)),
                Err(error) => {
                    reading.fault(node, format!("must be {}", Self::WANTED));
                    reading.go_errors.push(error.to_string());
                    None
                }
            },
            Value::Int(ns) if reading.dialect == Dialect::Http => Some(Self(*ns)),
            #[allow(clippy::cast_possible_truncation)] // saturates, as a duration may
            Value::Float(ns) if reading.dialect == Dialect::Http && ns.is_finite() => Some(Self(*ns as i64)),
            // Some clients print an unset duration as an empty object, and Consul takes it for none.
            Value::Map(fields) if reading.dialect == Dialect::Http && fields.is_empty() => Some(Self(0)),
            _ => {
                reading.wrong_type::<Self>(node);
                None
            }
        }
    }
}

impl Read for Duration {
    const WANTED: &'static str = "a duration such as \"10s\" or \"1h30m\", not below zero";
    const GO: &'static str = "time.Duration";
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let Nanoseconds(ns) = Nanoseconds::read(node, reading)?;
        match u64::try_from(ns) {
            Ok(ns) => Some(Duration::from_nanos(ns)),
            Err(_) => {
                reading.fault(node, format!("must be {}", Self::WANTED));
                None
            }
        }
    }
}

/// Any value at all: for keys whose content is nobody's yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Anything(pub(crate) Node);

impl Read for Anything {
    const WANTED: &'static str = "anything";
    const GO: &'static str = "interface {}";
    fn read(node: &Node, _: &mut Reading) -> Option<Self> {
        Some(Self(node.clone()))
    }
}

impl<T: Read> Read for Given<T> {
    const WANTED: &'static str = T::WANTED;
    const GO: &'static str = T::GO;
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        T::read(node, reading).map(|value| Self { value, at: node.at.clone() })
    }
}

impl<T> Merge for Given<T> {
    fn merge(&mut self, later: Self) {
        *self = later;
    }
}

impl Merge for Anything {
    fn merge(&mut self, later: Self) {
        *self = later;
    }
}

impl<T: Read> Read for Vec<T> {
    const WANTED: &'static str = "a list";
    const GO: &'static str = "[]string";
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            // One block of HCL (`services { … }`), one [table] of TOML.
            Value::Map(_) if reading.dialect == Dialect::File => std::slice::from_ref(node),
            _ => {
                reading.wrong_type::<Self>(node);
                return None;
            }
        };
        let before = reading.faults.len();
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            if reading.enough() {
                break;
            }
            if matches!(item.value, Value::Null) {
                continue;
            }
            values.extend(reading.within(&format!("[{index}]"), |reading| T::read(item, reading)));
        }
        (reading.faults.len() == before).then_some(values)
    }
}

impl<T> Merge for Vec<T> {
    fn merge(&mut self, later: Self) {
        self.extend(later);
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    const WANTED: &'static str = "a map of names to values";
    const GO: &'static str = "map[string]string";
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        let Some(maps) = maps_of(node, reading.dialect) else {
            reading.wrong_type::<Self>(node);
            return None;
        };
        let before = reading.faults.len();
        let mut values = BTreeMap::new();
        for (key, item) in maps.into_iter().flatten() {
            if reading.enough() {
                break;
            }
            if matches!(item.value, Value::Null) {
                continue;
            }
            if let Some(value) = reading.within(key, |reading| T::read(item, reading)) {
                values.insert(key.clone(), value);
            }
        }
        (reading.faults.len() == before).then_some(values)
    }
}

impl<T> Merge for BTreeMap<String, T> {
    fn merge(&mut self, later: Self) {
        self.extend(later);
    }
}

/// The map that a node is; or the maps of a list, as repeated blocks of HCL are: later ones win.
pub(super) fn maps_of(node: &Node, dialect: Dialect) -> Option<Vec<&[(String, Node)]>> {
    match &node.value {
        Value::Map(entries) => Some(vec![entries]),
        Value::List(items) if dialect == Dialect::File => items
            .iter()
            .map(|item| match &item.value {
                Value::Map(entries) => Some(entries.as_slice()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}
