//! Compares what came with what is expected. A text that begins with `~` is a matcher:
//! `~any ~string ~int ~index ~number ~bool ~uuid ~time ~object ~list ~nonempty ~base64`, `~absent-or:JSON` (the key may be
//! missing), `~re:PATTERN` (the whole text), `~gt:N ~ge:N ~eq:N ~lt:N`; in place of a list `["~unordered", […]]` or
//! `["~each", item]`, of an object `{"~only": {…}}` (other keys do not matter) or `{"~keys": …}` (every value).

use regex::Regex;
use serde_json::{Map, Value};

/// Keys that Consul has had since the recording, and a few of our own: extra keys that are welcome where none is expected.
const WELCOME: &[&str] = &[
    "Locality",
    "PeerName",
    "Partition",
    "Namespace",
    "SocketPath",
    "ServiceSocketPath",
    "ServiceLocality",
    "Datacenter",
    "Interval",
    "Timeout",
    "ExposedPort",
    "Type",
    "TxnID",
    "BuildDate",
    "VersionMetadata",
    "ResultsFilteredByACLs",
    "NotModified",
    "Backend",
    "Index",
    "ExpirationTime",
    "consul-version",
    "LastIndex",
    "MinQuorum",
    "Targets",
    "FIPS",
    "Mode",
    "Muster",
    "RaftID",
];

/// One line for each difference.
pub fn differences(expected: &Value, got: &Value, at: &str) -> Vec<String> {
    let differs = || vec![format!("{at}: expected {}, got {}", show(expected), show(got))];
    match (expected, got) {
        (Value::String(matcher), _) if matcher.starts_with('~') => {
            if fits(matcher, got) {
                Vec::new()
            } else {
                differs()
            }
        }
        (Value::Object(want), Value::Object(have)) => in_objects(want, have, at),
        (Value::Array(want), Value::Array(have)) => in_lists(want, have, at),
        (Value::Number(want), Value::Number(have)) if want.is_f64() && want.as_f64() == have.as_f64() => Vec::new(),
        _ if expected == got => Vec::new(),
        _ => differs(),
    }
}

fn in_objects(want: &Map<String, Value>, have: &Map<String, Value>, at: &str) -> Vec<String> {
    if let Some(each) = want.get("~keys") {
        return have.iter().flat_map(|(key, value)| differences(each, value, &format!("{at}/{key}"))).collect();
    }
    let only = want.get("~only").and_then(Value::as_object);
    let mut lines = Vec::new();
    for (key, value) in only.unwrap_or(want) {
        match have.get(key) {
            Some(got) => lines.extend(differences(value, got, &format!("{at}/{key}"))),
            None if value.as_str().is_some_and(|text| text.starts_with("~absent-or:")) => {}
            None => lines.push(format!("{at}: key {key} is absent, expected {}", show(value))),
        }
    }
    if only.is_none() {
        let unexpected = have.iter().filter(|(key, _)| !want.contains_key(*key) && !WELCOME.contains(&key.as_str()));
        lines.extend(unexpected.map(|(key, value)| format!("{at}: unexpected key {key} = {}", show(value))));
    }
    lines
}

fn in_lists(want: &[Value], have: &[Value], at: &str) -> Vec<String> {
    match want {
        [Value::String(form), Value::Array(items)] if form == "~unordered" => return unordered(items, have, at),
        [Value::String(form), each] if form == "~each" => {
            return have.iter().enumerate().flat_map(|(i, item)| differences(each, item, &format!("{at}/{i}"))).collect();
        }
        _ => {}
    }
    let mut lines = Vec::new();
    if want.len() != have.len() {
        lines.push(format!("{at}: expected {} elements, got {}: {}", want.len(), have.len(), show(&Value::from(have))));
    }
    let pairs = want.iter().zip(have).enumerate();
    lines.extend(pairs.flat_map(|(i, (want, have))| differences(want, have, &format!("{at}/{i}"))));
    lines
}

fn unordered(want: &[Value], have: &[Value], at: &str) -> Vec<String> {
    let mut left: Vec<&Value> = have.iter().collect();
    let mut lines = Vec::new();
    for item in want {
        match left.iter().position(|got| differences(item, got, at).is_empty()) {
            Some(found) => drop(left.swap_remove(found)),
            None => lines.push(format!("{at}: no element like {}", show(item))),
        }
    }
    lines.extend(left.iter().map(|item| format!("{at}: left over {}", show(item))));
    lines
}

/// Whether a value is what a matcher asks for.
pub fn fits(matcher: &str, got: &Value) -> bool {
    let (name, argument) = matcher[1..].split_once(':').unwrap_or((&matcher[1..], ""));
    let text = got.as_str();
    let whole = |pattern: &str| {
        let pattern = Regex::new(&format!("(?s)^(?:{pattern})$")).unwrap_or_else(|error| panic!("{matcher}: {error}"));
        text.is_some_and(|text| pattern.is_match(text))
    };
    let compared = || Some(integer(got)?.cmp(&integer(&Value::from(argument))?));
    match name {
        "any" => true,
        "string" => text.is_some(),
        "int" => integer(got).is_some(),
        "index" => integer(got).is_some_and(|index| index >= 1),
        "number" => got.is_number(),
        "bool" => got.is_boolean(),
        "uuid" => whole("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        "time" => whole(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"),
        "base64" => whole("[A-Za-z0-9+/]*=*"),
        "object" => got.is_object(),
        "list" => got.is_array(),
        "nonempty" => {
            text.is_some_and(|text| !text.is_empty())
                || got.as_array().is_some_and(|items| !items.is_empty())
                || got.as_object().is_some_and(|fields| !fields.is_empty())
        }
        "re" => whole(argument),
        "absent-or" => {
            let expected = serde_json::from_str(argument).unwrap_or_else(|error| panic!("{matcher}: {error}"));
            differences(&expected, got, "").is_empty()
        }
        "gt" => compared().is_some_and(std::cmp::Ordering::is_gt),
        "ge" => compared().is_some_and(std::cmp::Ordering::is_ge),
        "eq" => compared().is_some_and(std::cmp::Ordering::is_eq),
        "lt" => compared().is_some_and(std::cmp::Ordering::is_lt),
        _ => panic!("no matcher {matcher}"),
    }
}

/// A whole number, or in headers, where all is text, a text of digits.
fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number.as_i128(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A section of a DNS answer: a list of lines whose words may be matchers, in any order, or
/// `{"count": n or [low, high], "each": regex}`.
pub fn in_records(section: &str, expected: &Value, got: &[String]) -> Vec<String> {
    if let Some(lines) = expected.as_array() {
        return in_lines(section, lines, got);
    }
    let bound = |i: usize| expected["count"].as_u64().or_else(|| expected["count"][i].as_u64()).expect("a count") as usize;
    let mut lines = Vec::new();
    if !(bound(0)..=bound(1)).contains(&got.len()) {
        lines.push(format!("{section}: expected {} records, got {}", expected["count"], got.len()));
    }
    let distinct: std::collections::BTreeSet<&String> = got.iter().collect();
    if section == "answer" && distinct.len() != got.len() {
        lines.push(format!("{section}: a record is repeated"));
    }
    if let Some(each) = expected["each"].as_str() {
        let strange = got.iter().filter(|line| !fits(&format!("~re:{each}"), &Value::from(line.as_str())));
        lines.extend(strange.map(|line| format!("{section}: {line} does not fit {each}")));
    }
    lines
}

fn in_lines(section: &str, expected: &[Value], got: &[String]) -> Vec<String> {
    let word_fits = |(want, have): (&str, &str)| {
        if want.starts_with('~') { fits(want, &Value::from(have)) } else { want == have }
    };
    let mut left: Vec<&String> = got.iter().collect();
    let mut lines = Vec::new();
    for want in expected.iter().map(|line| line.as_str().expect("a record is a line")) {
        let hit = left.iter().position(|have| {
            want.split(' ').count() == have.split(' ').count() && want.split(' ').zip(have.split(' ')).all(word_fits)
        });
        match hit {
            Some(found) => drop(left.swap_remove(found)),
            None => lines.push(format!("{section}: missing {want}")),
        }
    }
    lines.extend(left.iter().map(|have| format!("{section}: unexpected {have}")));
    lines
}

pub fn show(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}
