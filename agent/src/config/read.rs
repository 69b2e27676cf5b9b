//! From a tree to typed sections: all faults are collected, unknown keys are met with the nearest known one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::duration;
use super::fault::{Fault, nearest};
use super::tree::{At, Node, Value, shown_text};

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
    fn enough(&self) -> bool {
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
    ["token", "encrypt", "master", "key_file", "password", "secret", "default", "agent", "management"].iter().any(|word| {
        key.rsplit('.').next().is_some_and(|last| last.contains(word)) && (key.contains("token") || key.contains("encrypt"))
    }) || key.contains("header")
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
fn maps_of(node: &Node, dialect: Dialect) -> Option<Vec<&[(String, Node)]>> {
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

/// A set of known keys with a type each; made by `section!`.
pub(crate) trait Section: Sized + Default {
    /// The keys that have a field.
    const KEYS: &'static [&'static str];
    /// The keys that are left out on purpose: accepted at any shape.
    const LEFT_OUT: &'static [&'static str];
    /// The keys that have a field and no effect yet.
    const LATER: &'static [&'static str];
    /// Whether keys match with other case and without underscores in files too, as Consul's definitions do.
    const FOLDED: bool;
    /// Keys (lower case) that Consul does not know at this depth of an HTTP body.
    fn hidden(depth: usize) -> &'static [&'static str];
    /// Sets the field named by one of `KEYS`.
    fn set(&mut self, key: &str, node: &Node, reading: &mut Reading);
}

/// Reads all keys of a section. With a fault in it a definition is `None`, because its parts mean nothing without each
/// other; any other section keeps what is right, so that the values of that are judged too.
pub(crate) fn read_section<S: Section>(node: &Node, reading: &mut Reading) -> Option<S> {
    let before = reading.faults.len();
    let section = read_what_is_right(node, reading);
    (!S::FOLDED || reading.faults.len() == before).then_some(section)
}

/// Reads all keys of a section; those with a fault stay unset.
pub(crate) fn read_what_is_right<S: Section>(node: &Node, reading: &mut Reading) -> S {
    let Some(maps) = maps_of(node, reading.dialect) else {
        reading.fault(node, format!("must be a section with keys such as {}", S::KEYS.first().copied().unwrap_or_default()));
        let key = reading.key();
        let field = if key.is_empty() { "value".to_owned() } else { format!("struct field .{key}") };
        reading.go_errors.push(format!("json: cannot unmarshal {} into Go {field} of type struct", node.value.go_kind()));
        return S::default();
    };
    let mut section = S::default();
    for (key, item) in maps.into_iter().flatten() {
        if reading.enough() {
            break;
        }
        let known = known_key::<S>(key, reading);
        reading.within(key, |reading| match known {
            Known::Field(name) => {
                if S::LATER.contains(&name) && !matches!(item.value, Value::Null) {
                    let path = reading.key();
                    reading.later.push(path);
                }
                if !matches!(item.value, Value::Null) {
                    section.set(name, item, reading);
                }
            }
            Known::LeftOut => {
                let path = reading.key();
                reading.left_out.push(path);
            }
            Known::No => unknown::<S>(key, item, reading),
        });
    }
    section
}

enum Known {
    Field(&'static str),
    LeftOut,
    No,
}

fn known_key<S: Section>(key: &str, reading: &Reading) -> Known {
    if reading.dialect == Dialect::Http {
        let lower = key.to_lowercase();
        if S::hidden(reading.path.len()).contains(&lower.as_str()) {
            return Known::No;
        }
    } else if !S::FOLDED {
        return match S::KEYS.iter().find(|name| **name == key) {
            Some(name) => Known::Field(name),
            None if S::LEFT_OUT.contains(&key) => Known::LeftOut,
            None => Known::No,
        };
    }
    // `DeregisterCriticalServiceAfter` and `deregister_critical_service_after`, in any case.
    let same = |name: &&&str| {
        key.eq_ignore_ascii_case(name) || (key.len() < name.len() && fold(key) == fold(name) && !key.contains('_'))
    };
    match S::KEYS.iter().find(same) {
        Some(name) => Known::Field(name),
        None if S::LEFT_OUT.iter().any(|name| same(&name)) => Known::LeftOut,
        None => Known::No,
    }
}

fn fold(key: &str) -> String {
    key.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

fn unknown<S: Section>(key: &str, item: &Node, reading: &mut Reading) {
    let near = match reading.dialect {
        Dialect::File => nearest(key, S::KEYS.iter().chain(S::LEFT_OUT).copied()),
        Dialect::Http => None,
    };
    let wanted = match near {
        Some(near) => format!("unknown key; did you mean {near}?"),
        None if S::KEYS.len() <= 16 => format!("unknown key; here are known: {}", S::KEYS.join(", ")),
        None => "unknown key, and none is like it".to_owned(),
    };
    reading.fault(item, wanted);
    let enterprise = match key.to_ascii_lowercase().as_str() {
        "namespace" => " - Namespaces are a Consul Enterprise feature",
        "partition" => " - Partitions are a Consul Enterprise feature",
        _ => "",
    };
    reading.go_errors.push(format!("json: unknown field {}{enterprise}", shown_text(key)));
}

/// Puts a later value to an earlier one.
pub(crate) fn merge_option<T: Merge>(earlier: &mut Option<T>, later: Option<T>) {
    match (earlier.as_mut(), later) {
        (_, None) => {}
        (Some(earlier), Some(later)) => earlier.merge(later),
        (None, later) => *earlier = later,
    }
}

/// Makes a struct of optional fields that is read key by key and merged field by field. After `=` stand other spellings
/// of a key; `left_out` keys are accepted at any shape, `later` keys have a field and no effect yet.
macro_rules! section {
    (@folded) => { false };
    (@folded $folded:literal) => { $folded };
    (@hidden $depth:ident) => {{ let _ = $depth; &[] }};
    (@hidden $depth:ident, $hidden:expr) => { $hidden($depth) };
    (
        $(#[$doc:meta])* $name:ident {
            $( $(#[$field_doc:meta])* $field:ident $(= $($other:literal)|+)? : $type:ty ),* $(,)?
        }
        $(left_out { $($left:literal),* $(,)? })?
        $(later { $($later:literal),* $(,)? })?
        $(folded $folded:literal)?
        $(hidden $hidden:expr)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(crate) struct $name { $( $(#[$field_doc])* pub(crate) $field: Option<$type>, )* }

        impl $crate::config::read::Section for $name {
            const KEYS: &'static [&'static str] = &[$( stringify!($field), $($($other,)+)? )*];
            const LEFT_OUT: &'static [&'static str] = &[$($($left),*)?];
            const LATER: &'static [&'static str] = &[$($($later),*)?];
            const FOLDED: bool = section!(@folded $($folded)?);
            fn hidden(depth: usize) -> &'static [&'static str] {
                section!(@hidden depth $(, $hidden)?)
            }
            fn set(&mut self, key: &str, node: &$crate::config::tree::Node, reading: &mut $crate::config::read::Reading) {
                $( if key == stringify!($field) $($(|| key == $other)+)? {
                    let value = <$type as $crate::config::read::Read>::read(node, reading);
                    $crate::config::read::merge_option(&mut self.$field, value);
                    return;
                } )*
            }
        }

        impl $crate::config::read::Read for $name {
            const WANTED: &'static str = "a section";
            const GO: &'static str = "struct";
            fn read(node: &$crate::config::tree::Node, reading: &mut $crate::config::read::Reading) -> Option<Self> {
                $crate::config::read::read_section(node, reading)
            }
        }

        impl $crate::config::read::Merge for $name {
            fn merge(&mut self, later: Self) {
                $( $crate::config::read::merge_option(&mut self.$field, later.$field); )*
            }
        }
    };
}
pub(crate) use section;
