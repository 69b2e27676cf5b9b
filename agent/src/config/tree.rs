//! What stands in a file, with the place of each value: one shape for JSON, TOML and HCL.

use std::fmt;
use std::sync::Arc;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    /// The file as it was named, or the flag.
    pub(crate) source: Arc<str>,
    /// Line, from 1; 0 where there are no lines.
    pub(crate) line: u32,
    /// Column in characters, from 1; 0 where unknown.
    pub(crate) column: u32,
}

impl At {
    /// A source as a whole.
    pub(crate) fn whole(source: impl Into<Arc<str>>) -> Self {
        Self { source: source.into(), line: 0, column: 0 }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// The value.
    pub(crate) value: Value,
    /// Where it begins.
    pub(crate) at: At,
}

/// The kinds of value that all three languages have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing; means "not given" everywhere.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order they were written.
    Map(Vec<(String, Node)>),
}

/// Longest part of a value that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

impl Value {
    /// What kind it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Go's word for the kind, for messages of the HTTP API.
    pub(crate) fn go_kind(&self) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Int(number) => format!("number {number}"),
            Value::Float(number) => format!("number {number}"),
            Value::Text(_) => "string".to_owned(),
            Value::List(_) => "array".to_owned(),
            Value::Map(_) => "object".to_owned(),
        }
    }

    /// The value as a message shows it: short, scalars as written.
    pub(crate) fn shown(&self) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(text) => shown_text(text),
            Value::List(items) if items.is_empty() => "[]".to_owned(),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Map(entries) if entries.is_empty() => "{}".to_owned(),
            Value::Map(entries) => format!("a map of {}", entries.len()),
        }
    }
}

/// A text as a message shows it: quoted, and cut.
pub(crate) fn shown_text(text: &str) -> String {
    if text.chars().count() > SHOWN_CHARS_MAX {
        let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        format!("{start:?}…")
    } else {
        format!("{text:?}")
    }
}

/// Turns byte offsets of one text into places; offsets may come in any order.
pub(crate) struct Places<'a> {
    source: Arc<str>,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Places<'a> {
    /// Finds the lines of `text`.
    pub(crate) fn new(source: &str, text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(offset, _)| offset + 1);
        Self { source: source.into(), text, line_starts: std::iter::once(0).chain(newlines).collect() }
    }

    /// A value that begins at `offset`.
    pub(crate) fn node(&self, offset: usize, value: Value) -> Node {
        Node { value, at: self.at(offset) }
    }

    /// The place of the byte at `offset`.
    pub(crate) fn at(&self, offset: usize) -> At {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts[line - 1];
        let column = self.text.get(start..offset).map_or(1, |before| before.chars().count() + 1);
        At {
            source: self.source.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}
