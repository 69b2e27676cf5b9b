//! Sections: sets of known keys with a type each. Unknown keys are met with the nearest known one.

use super::fault::nearest;
use super::read::{Dialect, Merge, Reading, maps_of};
use super::tree::{Node, Value, shown_text};

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
        // HCL's `service "web" { … }` reads as a key `web`.
        None if matches!(item.value, Value::Map(_)) => {
            "unknown key (a label of a block counts as one: write name = … inside)".to_owned()
        }
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

        impl $crate::config::section::Section for $name {
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
                    $crate::config::section::merge_option(&mut self.$field, value);
                    return;
                } )*
            }
        }

        impl $crate::config::read::Read for $name {
            const WANTED: &'static str = "a section";
            const GO: &'static str = "struct";
            fn read(node: &$crate::config::tree::Node, reading: &mut $crate::config::read::Reading) -> Option<Self> {
                $crate::config::section::read_section(node, reading)
            }
        }

        impl $crate::config::read::Merge for $name {
            fn merge(&mut self, later: Self) {
                $( $crate::config::section::merge_option(&mut self.$field, later.$field); )*
            }
        }
    };
}
pub(crate) use section;
