//! JSON into a tree with places; serde_json judges the grammar, this file only finds where things stand.

use serde::de::IgnoredAny;

use super::fault::Fault;
use super::tree::{Node, Places, Value};

/// Deepest nesting of lists and maps: no key of Consul's needs more than six, and each level costs stack.
const DEPTH_MAX: usize = 64;

/// Reads a whole file.
pub(super) fn parse(source: &str, text: &str) -> Result<Node, Fault> {
    let places = Places::new(source, text);
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(malformed(&places, text, &error));
    }
    Reader { text, position: 0, places: &places, repeated: Repeated::Gathered }.document()
}

/// Reads the first value of an HTTP body as Go does: what follows it does not count. The error is Go's text.
pub(super) fn parse_body(body: &[u8]) -> Result<Node, String> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => std::borrow::Cow::Borrowed(text),
        // Go reads such bytes as U+FFFD.
        Err(_) => String::from_utf8_lossy(body),
    };
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<IgnoredAny>();
    match values.next() {
        None => return Err("EOF".to_owned()),
        Some(Err(error)) if error.is_eof() => return Err("unexpected EOF".to_owned()),
        Some(Err(error)) => return Err(go_syntax_error(&text, &error)),
        Some(Ok(IgnoredAny)) => {}
    }
    let end = values.byte_offset();
    let first = text.get(..end).unwrap_or(&text);
    let places = Places::new("body", first);
    Reader { text: first, position: 0, places: &places, repeated: Repeated::LastWins }.document().map_err(|fault| fault.wanted)
}

fn malformed(places: &Places<'_>, text: &str, error: &serde_json::Error) -> Fault {
    let offset = offset_of(text, error.line(), error.column());
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or(&message);
    places.fault(offset, format!("malformed JSON: {reason}"))
}

/// serde_json counts columns in bytes, and says 0 for the end of a line.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut offset = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

fn go_syntax_error(text: &str, error: &serde_json::Error) -> String {
    let character = text[offset_of(text, error.line(), error.column())..].chars().next();
    match character {
        Some(character) => format!("invalid character {character:?} looking for beginning of value"),
        None => "unexpected EOF".to_owned(),
    }
}

/// What a key that is given twice in one map means.
#[derive(Clone, Copy, PartialEq)]
enum Repeated {
    /// As Go's decoder: the last one counts.
    LastWins,
    /// As Consul's files: maps and lists are gathered, for scalars it is a fault.
    Gathered,
}

/// Walks text that is known to be JSON.
struct Reader<'a> {
    text: &'a str,
    position: usize,
    places: &'a Places<'a>,
    repeated: Repeated,
}

impl Reader<'_> {
    fn document(mut self) -> Result<Node, Fault> {
        self.blank();
        self.value(0)
    }

    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.position).copied().unwrap_or(0)
    }

    fn blank(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.position += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        let start = self.position;
        if depth > DEPTH_MAX {
            return Err(self.places.fault(start, format!("nested too deep: at most {DEPTH_MAX} levels")));
        }
        let value = match self.peek() {
            b'{' => self.map(depth)?,
            b'[' => self.list(depth)?,
            _ => self.scalar(start)?,
        };
        Ok(self.places.node(start, value))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut items = Vec::new();
        self.position += 1;
        loop {
            self.blank();
            match self.peek() {
                b',' => self.position += 1,
                b']' | 0 => break,
                _ => items.push(self.value(depth + 1)?),
            }
        }
        self.position += 1;
        Ok(Value::List(items))
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut known = std::collections::HashMap::new();
        self.position += 1;
        loop {
            self.blank();
            match self.peek() {
                b',' => self.position += 1,
                b'}' | 0 => break,
                _ => {
                    let at = self.position;
                    let key = match self.scalar(at)? {
                        Value::Text(key) => key,
                        other => other.shown(),
                    };
                    self.blank();
                    self.position += 1; // the colon
                    self.blank();
                    let node = self.value(depth + 1)?;
                    match known.get(&key).copied() {
                        None => {
                            known.insert(key.clone(), entries.len());
                            entries.push((key, node));
                        }
                        Some(index) if self.repeated == Repeated::LastWins => {
                            let (_, old): &mut (String, Node) = &mut entries[index];
                            *old = node;
                        }
                        Some(index) => gather(&mut entries[index].1, node).map_err(|()| given_twice(self.places, at, &key))?,
                    }
                }
            }
        }
        self.position += 1;
        Ok(Value::Map(entries))
    }

    fn scalar(&mut self, start: usize) -> Result<Value, Fault> {
        let bytes = self.text.as_bytes();
        if self.peek() == b'"' {
            let mut end = start + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            self.position = (end + 1).min(bytes.len());
        } else {
            while !matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b']' | b'}' | 0) {
                self.position += 1;
            }
        }
        let part = self.text.get(start..self.position).unwrap_or_default();
        match serde_json::from_str::<serde_json::Value>(part) {
            Ok(serde_json::Value::Null) => Ok(Value::Null),
            Ok(serde_json::Value::Bool(value)) => Ok(Value::Bool(value)),
            Ok(serde_json::Value::String(text)) => Ok(Value::Text(text)),
            Ok(serde_json::Value::Number(number)) => {
                Ok(number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int))
            }
            Ok(_) | Err(_) => Err(self.places.fault(start, "malformed JSON: not a value".to_owned())),
        }
    }
}

/// Puts a second value of a key to the first: lists and maps become one list. Scalars cannot be gathered.
pub(super) fn gather(first: &mut Node, second: Node) -> Result<(), ()> {
    if !matches!(first.value, Value::List(_) | Value::Map(_)) || !matches!(second.value, Value::List(_) | Value::Map(_)) {
        return Err(());
    }
    let mut items = match std::mem::replace(&mut first.value, Value::Null) {
        Value::List(items) => items,
        map => vec![Node { value: map, at: first.at.clone() }],
    };
    match second.value {
        Value::List(more) => items.extend(more),
        map => items.push(Node { value: map, at: second.at }),
    }
    first.value = Value::List(items);
    Ok(())
}

/// The fault of a key that stands twice in one map.
pub(super) fn given_twice(places: &Places<'_>, offset: usize, key: &str) -> Fault {
    Fault { key: key.to_owned(), ..places.fault(offset, "given twice: keep one of the two") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(node: &Node) -> String {
        match &node.value {
            Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
            Value::Map(entries) => {
                format!(
                    "{{{}}}",
                    entries.iter().map(|(key, node)| format!("{key}={}", shown(node))).collect::<Vec<_>>().join(" ")
                )
            }
            other => other.shown(),
        }
    }

    #[test]
    fn values_know_their_places() {
        let node = parse("f", "{\n  \"a\": [1, -2.5, \"x\\n\\u00e9\"],\n  \"b\": {\"ü\": null, \"c\": true}\n}").unwrap();
        assert_eq!(shown(&node), r#"{a=[1 -2.5 "x\né"] b={ü=null c=true}}"#);
        let Value::Map(entries) = &node.value else { panic!("a map") };
        let Value::Map(inner) = &entries[1].1.value else { panic!("a map") };
        assert_eq!(inner[1].1.at.to_string(), "f:3:25");
    }

    #[test]
    fn malformed_text_is_refused_with_line_and_column() {
        for (text, expected) in [
            ("{\n \"a\": }", "f:2:7: malformed JSON: expected value"),
            ("", "f:1:1: malformed JSON: EOF while parsing a value"),
            ("{\"a\": 1} x", "f:1:10: malformed JSON: trailing characters"),
            ("{\"a\": 1, \"a\": 2}", "f:1:10: a: given twice: keep one of the two"),
        ] {
            assert_eq!(parse("f", text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn a_body_ends_with_its_first_value_and_its_errors_are_gos() {
        assert_eq!(shown(&parse_body(b"{\"a\":1,\"a\":2} trailing").unwrap()), "{a=2}");
        assert_eq!(parse_body(b"").unwrap_err(), "EOF");
        assert_eq!(parse_body(b"  ").unwrap_err(), "EOF");
        assert_eq!(parse_body(b"{").unwrap_err(), "unexpected EOF");
        assert_eq!(parse_body(b"%").unwrap_err(), "invalid character '%' looking for beginning of value");
    }

    #[test]
    fn deep_nesting_is_refused_before_it_costs_stack() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert!(parse("f", &deep).unwrap_err().wanted.contains("nested too deep"));
        assert!(parse("f", &"[".repeat(200_000)).is_err());
        assert!(parse("f", &"{\"a\":".repeat(200_000)).is_err());
        assert!(parse_body(deep.as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse_body(&bytes);
            let _ = parse("f", &String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn no_mix_of_tokens_panics(tokens in proptest::collection::vec(proptest::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\ud800\"", "1", "1e999", "-", "null", "tru", " ", "\n", "é", "\"",
        ]), 0..30)) {
            let text: String = tokens.concat();
            let _ = parse("f", &text);
            let _ = parse_body(text.as_bytes());
        }
    }
}
