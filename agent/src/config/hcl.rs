//! HCL into a tree with places: blocks and attributes become keys, a repeated block becomes a list.

use hcl_edit::Span;
use hcl_edit::expr::{Expression, ObjectKey, UnaryOperator};
use hcl_edit::structure::{Block, Body, Structure};
use hcl_edit::template::{Element, Template};

use super::fault::Fault;
use super::json::{self, gather, given_twice};
use super::tree::{Node, Places, Value};

mod first;

/// Reads a whole file. Files written for the first HCL are read as far as their meaning is the same:
/// a file that is JSON, keys in quotes at the start of a line, and several attributes on one.
pub(super) fn parse(source: &str, text: &str) -> Result<Node, Fault> {
    if text.trim_start().starts_with('{') {
        return json::parse(source, text);
    }
    let places = Places::new(source, text);
    parse_strict(&places, text).or_else(|fault| {
        let apart = first::apart(text);
        let bare = first::unquoted_keys(apart.as_deref().unwrap_or(text));
        let read = [apart, bare].into_iter().flatten().find_map(|changed| parse_strict(&places, &changed).ok());
        read.ok_or(fault)
    })
}

fn parse_strict(places: &Places<'_>, text: &str) -> Result<Node, Fault> {
    let body = hcl_edit::parser::parse_body(text).map_err(|error| {
        let offset = error.location().offset();
        let before = text.get(..offset).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
        let hint = if before.contains('{') { "; give each attribute its own line" } else { "" };
        places.fault(offset, format!("malformed HCL: {}{hint}", error.message()))
    })?;
    let reader = Reader { text, places };
    Ok(places.node(0, reader.body(&body)?))
}

/// Walks parsed HCL; its depth is bounded by the parser (64 levels).
struct Reader<'a> {
    text: &'a str,
    places: &'a Places<'a>,
}

impl Reader<'_> {
    fn body(&self, body: &Body) -> Result<Value, Fault> {
        let mut entries = Entries::default();
        for structure in body {
            let offset = start(structure);
            match structure {
                Structure::Attribute(attribute) => {
                    let node = self.expression(&attribute.value)?;
                    entries.add(self, offset, attribute.key.as_str(), node)?;
                }
                Structure::Block(block) => {
                    let node = self.block(block, offset)?;
                    entries.add(self, offset, block.ident.as_str(), node)?;
                }
            }
        }
        Ok(Value::Map(entries.entries))
    }

    /// Labels become keys of maps around the body, as in HCL's own JSON form.
    fn block(&self, block: &Block, offset: usize) -> Result<Node, Fault> {
        /// More labels than this are no block of anybody's: each is a level of nesting.
        const LABELS_MAX: usize = 8;
        if block.labels.len() > LABELS_MAX {
            return Err(self.places.fault(offset, format!("a block with more than {LABELS_MAX} labels")));
        }
        let at = self.places.at(offset);
        let mut node = Node { value: self.body(&block.body)?, at: at.clone() };
        for label in block.labels.iter().rev() {
            node = Node { value: Value::Map(vec![(label.as_str().to_owned(), node)]), at: at.clone() };
        }
        Ok(node)
    }

    fn expression(&self, expression: &Expression) -> Result<Node, Fault> {
        let offset = start(expression);
        let value = match expression {
            Expression::Null(_) => Value::Null,
            Expression::Bool(value) => Value::Bool(*value.value()),
            Expression::Number(number) => match number.value().as_i64() {
                Some(number) => Value::Int(number),
                None => Value::Float(number.value().as_f64().unwrap_or(f64::NAN)),
            },
            Expression::String(text) => Value::Text(text.value().clone()),
            Expression::StringTemplate(template) => Value::Text(self.template(template)),
            Expression::HeredocTemplate(heredoc) => {
                let mut heredoc = heredoc.clone();
                heredoc.dedent();
                Value::Text(self.template(&heredoc.template))
            }
            Expression::Array(items) => Value::List(items.iter().map(|item| self.expression(item)).collect::<Result<_, _>>()?),
            Expression::Object(object) => {
                let mut entries = Entries::default();
                for (key, value) in object.iter() {
                    let (offset, name) = match key {
                        ObjectKey::Ident(ident) => (start(ident), ident.as_str().to_owned()),
                        ObjectKey::Expression(Expression::String(text)) => (start(text), text.value().clone()),
                        ObjectKey::Expression(other) => {
                            return Err(self.places.fault(start(other), "a key must be a name or a text"));
                        }
                    };
                    entries.add(self, offset, &name, self.expression(value.expr())?)?;
                }
                Value::Map(entries.entries)
            }
            Expression::Parenthesis(inner) => self.expression(inner.inner())?.value,
            Expression::UnaryOp(unary) if *unary.operator.value() == UnaryOperator::Neg => {
                match self.expression(&unary.expr)?.value {
                    Value::Int(number) => Value::Int(number.wrapping_neg()),
                    Value::Float(number) => Value::Float(-number),
                    other => return Err(self.places.fault(offset, format!("a minus before {}", other.kind()))),
                }
            }
            Expression::Variable(_)
            | Expression::Conditional(_)
            | Expression::FuncCall(_)
            | Expression::Traversal(_)
            | Expression::UnaryOp(_)
            | Expression::BinaryOp(_)
            | Expression::ForExpr(_) => {
                let wanted = "an expression: write a plain value (texts in double quotes)";
                return Err(self.places.fault(offset, wanted));
            }
        };
        Ok(self.places.node(offset, value))
    }

    /// Interpolations are nobody's here: they stay as they were written.
    fn template(&self, template: &Template) -> String {
        template
            .iter()
            .map(|element| match element {
                Element::Literal(text) => text.value().clone(),
                other => other.span().and_then(|span| self.text.get(span)).unwrap_or_default().to_owned(),
            })
            .collect()
    }
}

fn start(spanned: &impl Span) -> usize {
    spanned.span().map_or(0, |span| span.start)
}

/// Keys of one body, with what a repeated one means.
#[derive(Default)]
struct Entries {
    entries: Vec<(String, Node)>,
    known: std::collections::HashMap<String, usize>,
}

impl Entries {
    fn add(&mut self, reader: &Reader<'_>, offset: usize, key: &str, node: Node) -> Result<(), Fault> {
        match self.known.get(key) {
            Some(index) => gather(&mut self.entries[*index].1, node).map_err(|()| given_twice(reader.places, offset, key)),
            None => {
                self.known.insert(key.to_owned(), self.entries.len());
                self.entries.push((key.to_owned(), node));
                Ok(())
            }
        }
    }
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

    fn read(text: &str) -> String {
        parse("f", text).map_or_else(|fault| fault.to_string(), |node| shown(&node))
    }

    #[test]
    fn blocks_attributes_and_objects_are_one_tree() {
        assert_eq!(
            read("a = 1\nports {\n  dns = -1\n}\nm = { \"k\" = \"v\", l = [true, null, 1.5] }\n# remark\n"),
            "{a=1 ports={dns=-1} m={k=\"v\" l=[true null 1.5]}}"
        );
        assert_eq!(read("service \"web\" {\n  port = 1\n}\n"), "{service={web={port=1}}}");
        assert_eq!(read("t = <<-E\n    a\n      b\n  E\n"), "{t=\"a\\n  b\\n\"}");
    }

    #[test]
    fn repeated_blocks_become_a_list() {
        assert_eq!(read("s {\n a = 1\n}\ns {\n a = 2\n}\ns = [{ a = 3 }]\n"), "{s=[{a=1} {a=2} {a=3}]}");
        assert_eq!(read("ports = { dns = 1 }\nports {\n  http = 2\n}\n"), "{ports=[{dns=1} {http=2}]}");
    }

    #[test]
    fn what_would_be_lost_is_refused_with_its_line() {
        assert!(read("a = 1\na = 2\n").starts_with("f:2:1: malformed HCL: invalid attribute"), "{}", read("a = 1\na = 2\n"));
        assert_eq!(read("a = 1\na {\n}\n"), "f:2:1: a: given twice: keep one of the two");
        assert!(read("m = { a = 1, a = 2 }\n").contains("redefined object key"));
        assert_eq!(read("m = { a = 1, \"a\" = 2 }\n"), "f:1:14: a: given twice: keep one of the two");
        assert_eq!(read("a = yes\n"), "f:1:5: an expression: write a plain value (texts in double quotes)");
        assert_eq!(read("a = 1 + 2\n"), "f:1:5: an expression: write a plain value (texts in double quotes)");
        assert_eq!(read("a { b {} }\n"), "{a={b={}}}");
        assert!(read("a = \n").starts_with("f:1:5: malformed HCL: "), "{}", read("a = \n"));
    }

    #[test]
    fn templates_stay_text() {
        assert_eq!(read("a = \"x ${HOME} y\"\nb = \"{{ GetPrivateIP }}\"\n"), "{a=\"x ${HOME} y\" b=\"{{ GetPrivateIP }}\"}");
    }

    #[test]
    fn files_of_the_first_hcl_are_read() {
        assert_eq!(read(" {\"a\": {\"b\": 1}}"), "{a={b=1}}");
        assert_eq!(
            read("\"a\" = 1\n\"ports\" {\n  \"dns\" = 2\n}\nm = {\n  \"k\" = \"v\"\n}\n"),
            "{a=1 ports={dns=2} m={k=\"v\"}}"
        );
        assert_eq!(
            read("a = 1 ports { dns = 2, \"http\" = 3 }\ns = [{ a = 1 b = \"x ${y}\" }]"),
            "{a=1 ports={dns=2 http=3} s=[{a=1 b=\"x ${y}\"}]}"
        );
        assert_eq!(read("b {\n c = 1 d = 2 e = f\n}"), "f:2:8: malformed HCL: expected newline or eof");
        assert_eq!(read("\"a\" = 1\nb = yes\n"), "f:1:1: malformed HCL: unexpected token");
    }

    #[test]
    fn deep_nesting_is_refused_before_it_costs_stack() {
        for text in [
            format!("a = {}{}", "[".repeat(200_000), "]".repeat(200_000)),
            format!("a = {}", "[".repeat(200_000)),
            format!("a = {}", "(".repeat(200_000)),
            format!("a = {}", "{a=".repeat(200_000)),
            format!("a = \"{}", "${".repeat(200_000)),
            "a {\n".repeat(200_000),
            format!("a = {}1", "-".repeat(200_000)),
            format!("a = 1{}", "+1".repeat(200_000)),
            format!("a = b{}", ".c".repeat(200_000)),
            format!("a {} {{\n}}\n", "\"b\" ".repeat(200_000)),
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
            "a", " = ", "1", "-", "{", "}", "[", "]", "\"", "${", "%{", "if", "<<E", "\nE\n", "\n", "#", "/*", "(", ",", "\"k\"", "é", ".",
        ]), 0..25)) {
            let _ = parse("f", &tokens.concat());
        }
    }
}
