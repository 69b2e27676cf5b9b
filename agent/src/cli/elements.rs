//! A JSON list cut into its elements as its bytes arrive, so that a list may be larger than memory.

/// The list as far as it has arrived.
#[derive(Debug)]
pub(crate) struct Elements {
    buffer: Vec<u8>,
    /// How far `buffer` was looked at.
    seen: usize,
    /// Where the current element begins.
    start: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
    element_bytes_max: usize,
}

/// An element is larger than the caller keeps in memory.
#[derive(Debug)]
pub(crate) struct TooLarge;

impl Elements {
    pub(crate) fn new(element_bytes_max: usize) -> Elements {
        Elements { buffer: Vec::new(), seen: 0, start: 0, depth: 0, in_text: false, escaped: false, element_bytes_max }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.seen -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole element, as bytes that may or may not be JSON: only its ends were looked for.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLarge> {
        while let Some(&byte) = self.buffer.get(self.seen) {
            let at = self.seen;
            self.seen += 1;
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_text = true,
                b'[' | b'{' => {
                    self.depth += 1;
                    if self.depth == 1 {
                        self.start = self.seen;
                    }
                }
                b']' | b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0
                        && let Some(element) = self.cut(at)
                    {
                        return Ok(Some(element));
                    }
                }
                b',' if self.depth == 1 => {
                    if let Some(element) = self.cut(at) {
                        return Ok(Some(element));
                    }
                }
                _ => {}
            }
        }
        if self.seen - self.start > self.element_bytes_max { Err(TooLarge) } else { Ok(None) }
    }

    /// That the list was whole: what is left over must be nothing, and all brackets closed.
    pub(crate) fn end(self) -> Result<(), serde_json::Error> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        if self.depth == 0 && rest.trim_ascii().is_empty() {
            return Ok(());
        }
        // The parser's own words for what is missing or too much, with the line and column of the remainder.
        serde_json::from_slice::<serde_json::Value>(rest)
            .map(|_| ())
            .and_then(|()| Err(serde::de::Error::custom("expected a list")))
    }

    fn cut(&mut self, end: usize) -> Option<Vec<u8>> {
        let element = self.buffer.get(self.start..end).unwrap_or_default().trim_ascii().to_vec();
        self.start = end + 1;
        (!element.is_empty()).then_some(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, piece: usize) -> Option<Vec<String>> {
        let mut elements = Elements::new(1000);
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            elements.push(piece);
            while let Some(element) = elements.next().ok()? {
                out.push(String::from_utf8(element).ok()?);
            }
        }
        elements.end().ok()?;
        Some(out)
    }

    #[test]
    fn elements_are_the_same_however_the_bytes_arrive() {
        let text = " [ {\"a\":\"x,]}\\\"\",\"b\":[1,{}]}, 2 ,\"t\\\\\", [] ]\n";
        let whole = vec!["{\"a\":\"x,]}\\\"\",\"b\":[1,{}]}", "2", "\"t\\\\\"", "[]"];
        for piece in 1..=text.len() {
            assert_eq!(cut(text, piece).expect("a list"), whole, "in pieces of {piece}");
        }
        assert_eq!(cut("[]", 1).expect("a list"), Vec::<String>::new());
    }

    #[test]
    fn a_list_that_breaks_off_is_a_fault() {
        for text in ["[1,", "[", "[{\"a\":1}", "[1] x", "<html>", "1"] {
            assert!(cut(text, 3).is_none(), "{text}");
        }
    }

    #[test]
    fn an_element_without_end_is_refused() {
        let mut elements = Elements::new(10);
        elements.push(b"[\"0123456789abc");
        assert!(elements.next().is_err());
    }
}
