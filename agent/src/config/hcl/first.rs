//! What the first HCL allowed beyond the second: texts are made such that the second reads them, no byte moved.

/// The text with several attributes of a line (`lan { address = "x" port = 9 }`, commas between them or not) on a line each.
/// Places within are those of the text as it was written, for one blank or comma becomes one line's end. `None` if that changes
/// nothing, or where a here-document could be cut. What the second HCL reads already means the same afterwards.
pub(super) fn apart(text: &str) -> Option<String> {
    if text.contains("<<") {
        return None;
    }
    let mut scan = Scan { bytes: text.as_bytes().to_vec(), open: vec![Open::Body], awaits: Awaits::Key, at: 0 };
    while scan.at < scan.bytes.len() {
        scan.step();
    }
    let changed = String::from_utf8(scan.bytes).ok()?;
    (changed != text).then_some(changed)
}

/// What a bracket has opened.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    /// A file or a block.
    Body,
    /// A value in braces.
    Object,
    List,
}

#[derive(Clone, Copy, PartialEq)]
enum Awaits {
    /// A key has not ended yet: its words, labels and `=` or `{` come.
    Key,
    Value,
    /// A value was whole: another key, or the end.
    Next,
}

struct Scan {
    bytes: Vec<u8>,
    open: Vec<Open>,
    awaits: Awaits,
    at: usize,
}

impl Scan {
    fn step(&mut self) {
        let byte = self.bytes[self.at];
        let within = self.open.last().copied().unwrap_or(Open::Body);
        match byte {
            b'#' => self.skip_to(b"\n"),
            b'/' if self.bytes[self.at..].starts_with(b"//") => self.skip_to(b"\n"),
            b'/' if self.bytes[self.at..].starts_with(b"/*") => self.skip_to(b"*/"),
            b'\n' if within != Open::List && self.awaits != Awaits::Value => self.pass(Awaits::Key),
            b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
            b'=' | b':' if within != Open::List => self.pass(Awaits::Value),
            b',' => {
                if within == Open::Body {
                    self.bytes[self.at] = b'\n';
                }
                self.pass(if within == Open::List { Awaits::Value } else { Awaits::Key });
            }
            b'[' => self.begin(Open::List, Awaits::Value),
            b'{' if within == Open::Body && self.awaits == Awaits::Key => {
                self.begin(Open::Body, Awaits::Key);
                self.end_line(self.at);
            }
            b'{' => self.begin(Open::Object, Awaits::Key),
            b'}' | b']' => {
                if within == Open::Body && self.at > 0 {
                    self.end_line(self.at - 1);
                }
                if self.open.len() > 1 {
                    self.open.pop();
                }
                self.pass(Awaits::Next);
            }
            _ => self.word(within),
        }
    }

    /// A text or a bare word.
    fn word(&mut self, within: Open) {
        if self.awaits == Awaits::Next && within != Open::List {
            self.end_line(self.at - 1); // something was there before
            self.awaits = Awaits::Key;
        }
        let begin = self.at;
        if self.bytes[begin] == b'"' {
            self.at += 1;
            while self.at < self.bytes.len() && self.bytes[self.at] != b'"' {
                self.at += if self.bytes[self.at] == b'\\' { 2 } else { 1 };
            }
            self.at += 1;
        } else {
            let ends = |byte: &u8| byte.is_ascii_whitespace() || b",{}[]=\"#".contains(byte);
            self.at += self.bytes[begin..].iter().position(ends).unwrap_or(self.bytes.len() - begin).max(1);
        }
        if self.awaits == Awaits::Value {
            self.awaits = Awaits::Next;
        }
    }

    fn pass(&mut self, awaits: Awaits) {
        self.at += 1;
        self.awaits = awaits;
    }

    fn begin(&mut self, open: Open, awaits: Awaits) {
        self.open.push(open);
        self.pass(awaits);
    }

    /// One blank becomes a line's end.
    fn end_line(&mut self, at: usize) {
        if let Some(byte) = self.bytes.get_mut(at).filter(|byte| [b' ', b'\t'].contains(byte)) {
            *byte = b'\n';
        }
    }

    fn skip_to(&mut self, end: &[u8]) {
        let rest = &self.bytes[self.at..];
        let length = rest.windows(end.len()).position(|window| window == end);
        // The line's end is looked at again: it ends more than a remark.
        self.at += length.map_or(rest.len(), |length| if end == b"\n" { length } else { length + end.len() });
    }
}

/// The text with quoted keys at the start of a line bare (`"a" = 1`, `"ports" {`), columns kept; `None` if that changes
/// nothing or could reach into a here-document. Inside objects both forms mean the same, so nothing else can change.
pub(super) fn unquoted_keys(text: &str) -> Option<String> {
    if text.contains("<<") {
        return None;
    }
    let mut changed = false;
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| {
            let key = line.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
            match key {
                Some((key, rest))
                    if key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
                        && rest.trim_start().starts_with(['=', '{']) =>
                {
                    changed = true;
                    let indent = &line[..line.len() - line.trim_start().len()];
                    format!("{indent} {key} {rest}")
                }
                _ => line.to_owned(),
            }
        })
        .collect();
    changed.then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_a_line_get_a_line_each_and_no_byte_moves() {
        for (before, after) in [
            ("a = 1 b = 2", "a = 1\nb = 2"),
            ("a = 1, b = 2", "a = 1\n b = 2"),
            ("lan { address = \"x y\" port = 9 }", "lan {\naddress = \"x y\"\nport = 9\n}"),
            ("s { t { a = 1 } u { b = 2 } }", "s {\nt {\na = 1\n}\nu {\nb = 2\n}\n}"),
            ("s = [{ a = [1, 2] b = \"}\" }, { c = 3 }] d = 4", "s = [{ a = [1, 2]\nb = \"}\" }, { c = 3 }]\nd = 4"),
            ("m = { \"a\" = 1 \"b\" = 2 } # x = 1 y = 2", "m = { \"a\" = 1\n\"b\" = 2 } # x = 1 y = 2"),
            ("a = \"q\\\" b = 1\" c = /* d = 1 */ 2", "a = \"q\\\" b = 1\"\nc = /* d = 1 */ 2"),
        ] {
            assert_eq!(apart(before).as_deref(), Some(after), "{before}");
        }
        for same in
            ["a = 1\nb {\n  c = [\n    1,\n    2,\n  ]\n}\n", "a = 1 # b = 2\n", "service \"web\" {\n}\n", "t = <<E\na b\nE\n"]
        {
            assert_eq!(apart(same), None, "{same}");
        }
    }
}
