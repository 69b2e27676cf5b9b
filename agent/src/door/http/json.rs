//! Rows as Consul's JSON, spelled as Go spells it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use muster_catalog::{Check, Entry, Instance, Meta, Node, Row, Service};

use super::fields::{Fields, HealthView, NodeView, See, ServiceNodeView, Shown, Value};
use crate::config::duration;

/// Writes an object.
pub(super) fn object(out: &mut Vec<u8>, fields: &dyn Fields) {
    let mut writer = Writer { out, empty: true };
    writer.out.push(b'{');
    fields.show(&mut writer);
    writer.out.push(b'}');
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'a> See<'a> for Writer<'_> {
    fn field(&mut self, name: &'static str, field: Value<'a>, shown: Shown) {
        if matches!(shown, Shown::Filled | Shown::FilledUnasked) && is_empty(&field) {
            return;
        }
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        value(self.out, &field);
    }
}

fn is_empty(value: &Value<'_>) -> bool {
    match value {
        Value::Text(text) => text.is_empty(),
        Value::Id(id) => id.is_none(),
        Value::Duration(duration) => duration.is_zero(),
        Value::Number(number) => *number == 0,
        Value::Count(number) => *number == 0,
        Value::Truth(truth) => !truth,
        Value::Texts(texts) => texts.is_empty(),
        Value::Strings(texts) => texts.is_empty(),
        Value::Pairs(pairs) | Value::PairsAlways(pairs) => pairs.is_empty(),
        Value::Headers(headers) => headers.is_empty(),
        Value::Addresses(addresses) => addresses.is_empty(),
        Value::Ports(ports) => ports.is_empty(),
        Value::Checks(checks) => checks.is_empty(),
        Value::ServiceChecks(checks) => checks.is_empty(),
        Value::Object(object) => object.is_none(),
        Value::Fixed(_) => false,
    }
}

fn value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Text(value) => text(out, value),
        Value::Id(Some(id)) => text(out, id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer())),
        Value::Id(None) => text(out, ""),
        Value::Duration(value) => text(out, &duration::text(*value)),
        Value::Number(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Count(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Truth(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Texts(texts) => list(out, texts.iter(), |out, value| text(out, value)),
        Value::Strings(texts) => list(out, texts.iter(), |out, value| text(out, value)),
        Value::Pairs(all) if all.is_empty() => out.extend_from_slice(b"null"),
        Value::Pairs(all) | Value::PairsAlways(all) => pairs(out, all),
        Value::Headers(headers) => {
            map(out, headers.iter(), |out, lines: &Vec<String>| list(out, lines.iter(), |out, value| text(out, value)));
        }
        Value::Addresses(addresses) => map(out, addresses.iter(), |out, address| object(out, address)),
        Value::Ports(ports) => list(out, ports.iter(), |out, port| object(out, port)),
        Value::Checks(checks) => list(out, checks.iter(), |out, check| object(out, &**check)),
        Value::ServiceChecks(checks) => list(out, checks.iter(), |out, check| object(out, check)),
        Value::Object(Some(value)) => object(out, *value),
        Value::Object(None) => out.extend_from_slice(b"null"),
        Value::Fixed(json) => out.extend_from_slice(json.as_bytes()),
    }
}

/// Writes a list.
pub(super) fn list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// Writes an object of free keys.
pub(super) fn map<K: AsRef<str>, V>(
    out: &mut Vec<u8>,
    pairs: impl Iterator<Item = (K, V)>,
    mut write: impl FnMut(&mut Vec<u8>, V),
) {
    out.push(b'{');
    for (at, (key, value)) in pairs.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text(out, key.as_ref());
        out.push(b':');
        write(out, value);
    }
    out.push(b'}');
}

fn pairs(out: &mut Vec<u8>, pairs: &Meta) {
    map(out, pairs.iter(), |out, value| text(out, value));
}

/// Writes a text as Go does: what could end a script, and the two separators that JavaScript takes for line ends, escaped.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 | b'<' | b'>' | b'&' | 0x7f => {
                if byte == 0x7f {
                    continue;
                }
                out.extend_from_slice(&bytes[written..at]);
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                written = at + 1;
                continue;
            }
            0xe2 if matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) => {
                out.extend_from_slice(&bytes[written..at]);
                out.extend_from_slice(if bytes[at + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                written = at + 3;
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[written..at]);
        out.extend_from_slice(escape);
        written = at + 1;
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// An instance's health entry, rendered once for all readers.
pub(super) fn health_entry<'a>(instance: &'a Instance, datacenter: &str) -> &'a Bytes {
    instance.json.get_or_init(|| {
        let mut out = Vec::with_capacity(1024);
        object(&mut out, &HealthView::new(instance, datacenter));
        Bytes::from(out.into_boxed_slice())
    })
}

/// A list made of ready parts.
pub(super) fn join<'a>(parts: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
    let size = parts.clone().map(|part| part.len() + 1).sum::<usize>() + 2;
    let mut out = BytesMut::with_capacity(size);
    out.extend_from_slice(b"[");
    for (at, part) in parts.enumerate() {
        if at > 0 {
            out.extend_from_slice(b",");
        }
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"]");
    out.freeze()
}

/// `catalog/service`.
pub(super) fn service_nodes<'a>(instances: impl Iterator<Item = &'a Instance>, datacenter: &str) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    list(&mut out, instances, |out, instance| {
        object(out, &ServiceNodeView { node: &instance.node, service: &instance.service, datacenter });
    });
    out.into()
}

/// `catalog/nodes`.
pub(super) fn nodes<'a>(nodes: impl Iterator<Item = &'a Row<Node>>, datacenter: &str) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    list(&mut out, nodes, |out, node| object(out, &NodeView { node, datacenter }));
    out.into()
}

/// Lists of checks.
pub(super) fn checks<'a>(checks: impl Iterator<Item = &'a Row<Check>>) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    list(&mut out, checks, |out, check| object(out, check));
    out.into()
}

/// `catalog/node`: the services by id.
pub(super) fn node_with_services<'a>(
    node: &Row<Node>,
    services: impl Iterator<Item = &'a Row<Service>>,
    datacenter: &str,
) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(br#"{"Node":"#);
    object(&mut out, &NodeView { node, datacenter });
    out.extend_from_slice(br#","Services":"#);
    map(&mut out, services.map(|service| (service.id.clone(), service)), |out, service| object(out, service));
    out.push(b'}');
    out.into()
}

/// `catalog/node-services`: the services as a list, `null` for a node that never had one.
pub(super) fn node_services_list<'a>(
    node: &Row<Node>,
    services: impl Iterator<Item = &'a Row<Service>>,
    has_services: bool,
    datacenter: &str,
) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(br#"{"Node":"#);
    object(&mut out, &NodeView { node, datacenter });
    out.extend_from_slice(br#","Services":"#);
    if has_services {
        list(&mut out, services, |out, service| object(out, service));
    } else {
        out.extend_from_slice(b"null");
    }
    out.push(b'}');
    out.into()
}

/// Keys with their values.
pub(super) fn entries<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Bytes {
    // Megabytes of values must not be held twice, as a list that doubles while it grows would.
    let bytes: usize = entries.clone().map(|entry| entry.value.len().div_ceil(3) * 4 + entry.key.len() + ENTRY_BYTES).sum();
    let mut out = Vec::with_capacity(bytes + 2);
    list(&mut out, entries, entry);
    out.into()
}

/// What an entry takes beside its key and value, with its session and large numbers.
const ENTRY_BYTES: usize = 200;

/// Writes a key with its value.
pub(super) fn entry(out: &mut Vec<u8>, entry: &Entry) {
    out.extend_from_slice(format!("{{\"LockIndex\":{},\"Key\":", entry.lock_index).as_bytes());
    text(out, &entry.key);
    out.extend_from_slice(format!(",\"Flags\":{},\"Value\":", entry.flags).as_bytes());
    if entry.value.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        out.push(b'"');
        let start = out.len();
        out.resize(start + entry.value.len().div_ceil(3) * 4, 0);
        let written = STANDARD.encode_slice(&entry.value, &mut out[start..]).expect("base64 needs four bytes for three");
        out.truncate(start + written);
        out.push(b'"');
    }
    if let Some(session) = entry.session {
        out.extend_from_slice(format!(",\"Session\":\"{}\"", session.hyphenated()).as_bytes());
    }
    out.extend_from_slice(format!(",\"CreateIndex\":{},\"ModifyIndex\":{}}}", entry.create_index, entry.modify_index).as_bytes());
}

/// A list of texts.
pub(super) fn texts<'a>(all: impl Iterator<Item = &'a str>) -> Bytes {
    let mut out = Vec::with_capacity(256);
    list(&mut out, all, text);
    out.into()
}

/// Compact JSON with line breaks and four blanks a level, ended by a newline, as Consul's `?pretty` answers.
pub(super) fn indent(compact: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let new_line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 4 * depth, b' ');
    };
    for (at, &byte) in compact.iter().enumerate() {
        if quoted {
            out.push(byte);
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => {
                quoted = true;
                out.push(byte);
            }
            b'{' | b'[' => {
                out.push(byte);
                if !matches!(compact.get(at + 1), Some(b'}' | b']')) {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                if !matches!(out.last(), Some(b'{' | b'[')) {
                    depth = depth.saturating_sub(1);
                    new_line(&mut out, depth);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            byte => out.push(byte),
        }
    }
    out.push(b'\n');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(value: &str) -> String {
        let mut out = Vec::new();
        text(&mut out, value);
        String::from_utf8(out).expect("it was text")
    }

    #[test]
    fn texts_are_escaped_as_go_does() {
        assert_eq!(spelled("<&>'\"\\/ç\u{2028}\u{1}\n\u{7f}"), "\"\\u003c\\u0026\\u003e'\\\"\\\\/ç\\u2028\\u0001\\n\u{7f}\"");
        for value in ["", "plain", "\u{2027}\u{2029}", "日本\u{0}"] {
            let read: String = serde_json::from_str(&spelled(value)).expect("it is JSON");
            assert_eq!(read, value);
        }
    }

    #[test]
    fn pretty_has_four_blanks_and_a_newline() {
        let compact = br#"{"a":[1,{"b":"x,\"{"}],"c":[],"d":{},"e":null}"#;
        let pretty = "{\n    \"a\": [\n        1,\n        {\n            \"b\": \"x,\\\"{\"\n        }\n    ],\n    \"c\": [],\n    \"d\": {},\n    \"e\": null\n}\n";
        assert_eq!(indent(compact), pretty);
        assert_eq!(indent(b"[]"), "[]\n");
        assert_eq!(indent(b"\"a\\\\\""), "\"a\\\\\"\n");
    }

    #[test]
    fn parts_are_joined_to_a_list() {
        let parts = [Bytes::from_static(b"1"), Bytes::from_static(b"2")];
        assert_eq!(join(parts.iter()), "[1,2]");
        assert_eq!(join([].iter()), "[]");
    }
}
