//! TOML into a tree with places.

use toml::de::{DeTable, DeValue};

use super::fault::Fault;
use super::tree::{Node, Places, Value};

/// Most dots in one key: dotted keys nest without brackets, and the parser bounds only brackets.
const DOTS_MAX: usize = 64;

/// Reads a whole file.
pub(super) fn parse(source: &str, text: &str) -> Result<Node, Fault> {
    let places = Places::new(source, text);
    if let Some(line) = text.lines().find(|line| dots_before_value(line) > DOTS_MAX) {
        let offset = line.as_ptr() as usize - text.as_ptr() as usize;
        return Err(places.fault(offset, format!("nested too deep: at most {DOTS_MAX} levels")));
    }
    match DeTable::parse(text) {
        Ok(table) => Ok(places.node(table.span().start, map(&places, table.into_inner()))),
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            let reason = error.message().lines().collect::<Vec<_>>().join("; ");
            Err(places.fault(offset, format!("malformed TOML: {reason}")))
        }
    }
}

/// Dots of a line outside quotes: more than any sensible line has means a key made to nest.
fn dots_before_value(line: &str) -> usize {
    let mut quote = None;
    let mut dots = 0;
    for byte in line.bytes() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            (None, b'#') => break,
            (None, b'.') => dots += 1,
            _ => {}
        }
    }
    dots
}

fn map(places: &Places<'_>, table: DeTable<'_>) -> Value {
    let mut entries: Vec<(usize, String, Node)> = table
        .into_iter()
        .map(|(key, value)| {
            let start = key.span().start;
            let node = places.node(start, self::value(places, value.into_inner()));
            (start, key.into_inner().into_owned(), node)
        })
        .collect();
    entries.sort_by_key(|(start, _, _)| *start);
    Value::Map(entries.into_iter().map(|(_, key, node)| (key, node)).collect())
}

fn value(places: &Places<'_>, value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Int(number),
            Err(_) => Value::Float(f64::INFINITY),
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => Value::List(
            items.into_iter().map(|item| places.node(item.span().start, self::value(places, item.into_inner()))).collect(),
        ),
        DeValue::Table(table) => map(places, table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_places() {
        let node = parse("f", "a = 0x10\n[b]\nc = \"ü\"\nd = [1.5, true]\n[[e]]\nf = 1979-05-27\n").unwrap();
        let Value::Map(entries) = &node.value else { panic!("a map") };
        let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "e"]);
        assert_eq!(entries[0].1.value, Value::Int(16));
        let Value::Map(inner) = &entries[1].1.value else { panic!("a map") };
        assert_eq!(inner[1].1.at.to_string(), "f:4:1");
        let Value::List(items) = &inner[1].1.value else { panic!("a list") };
        assert_eq!((&items[0].value, items[1].at.to_string().as_str()), (&Value::Float(1.5), "f:4:11"));
    }

    #[test]
    fn malformed_text_is_refused_with_line_and_column() {
        let message = |text| parse("f", text).unwrap_err().to_string();
        assert!(message("a = 1\nb = \n").starts_with("f:2:5: malformed TOML: "), "{}", message("a = 1\nb = \n"));
        assert!(message("a = 1\na = 2\n").starts_with("f:2:1: malformed TOML: duplicate key"), "{}", message("a = 1\na = 2\n"));
    }

    #[test]
    fn deep_nesting_is_refused_before_it_costs_stack() {
        for text in [
            format!("a = {}{}", "[".repeat(200_000), "]".repeat(200_000)),
            format!("a = {}", "[".repeat(200_000)),
            format!("a = {}", "{a=".repeat(200_000)),
            format!("{}a = 1", "a.".repeat(200_000)),
            format!("[{}a]", "a.".repeat(200_000)),
            format!("x = {{ {}a = 1 }}", "a.".repeat(200_000)),
        ] {
            assert!(parse("f", &text).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse("f", &String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn no_mix_of_tokens_panics(tokens in proptest::collection::vec(proptest::sample::select(vec![
            "a", ".", " = ", "1", "0x", "[", "]", "[[", "]]", "{", "}", ",", "\"", "'", "\"\"\"", "\n", "#", "1979-05-27", "inf", "é",
        ]), 0..30)) {
            let _ = parse("f", &tokens.concat());
        }
    }
}
