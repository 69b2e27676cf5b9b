//! A request's path: decoded once, checked for what no path may hold, and cleaned as Go's servers clean it.

use std::borrow::Cow;

/// Why a path is refused before anything looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathFault {
    /// A `%` without two hexadecimal digits behind it.
    Escape,
    /// The decoded bytes are no UTF-8: names and keys here are text.
    Utf8,
}

/// Whether a path is what it seems: nothing in it is escaped, unprintable, or to be cleaned. Nearly all are, which one pass tells.
pub(super) fn is_plain(path: &str) -> bool {
    let mut before = 0;
    path.starts_with('/')
        && path.bytes().all(|byte| {
            let doubled = before == b'/' && (byte == b'/' || byte == b'.');
            before = byte;
            (0x21..0x7f).contains(&byte) && byte != b'%' && !doubled
        })
}

/// The path with its percent escapes decoded, once. Borrows where there are none.
pub(super) fn decode(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let bytes = unescape(raw, false).ok_or(PathFault::Escape)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| PathFault::Utf8)
}

/// Decodes percent escapes, and in a query the plus sign, which stands for a blank there.
pub(super) fn unescape(raw: &str, plus_is_blank: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                high << 4 | low
            }
            b'+' if plus_is_blank => b' ',
            other => other,
        });
    }
    Some(out)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Whether Go would print every letter of it. What Unicode has not assigned counts as printable here.
pub(super) fn is_printable(text: &str) -> bool {
    text.is_ascii() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) || text.chars().all(is_printable_char)
}

fn is_printable_char(c: char) -> bool {
    let format = matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    let private = matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}');
    c == ' ' || !(c.is_control() || c.is_whitespace() || format || private)
}

/// The path without `//`, `/./` and `/../`; `None` if it has none of them. A slash at the end stays.
pub(super) fn clean(path: &str) -> Option<String> {
    let unclean = !path.starts_with('/') || path.contains("//") || path.contains("/.");
    if !unclean {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    let mut cleaned = String::with_capacity(path.len() + 1);
    for part in &kept {
        cleaned.push('/');
        cleaned.push_str(part);
    }
    if kept.is_empty() || path.ends_with('/') {
        cleaned.push('/');
    }
    (cleaned != path).then_some(cleaned)
}

/// The path as it stands in a `Location` header: escaped where Go escapes it.
pub(super) fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(decode("/v1/kv/a%2Fb%2520").as_deref(), Ok("/v1/kv/a/b%20"));
        assert_eq!(decode("/v1/kv/x%zz"), Err(PathFault::Escape));
        assert_eq!(decode("/v1/kv/x%f"), Err(PathFault::Escape));
        assert_eq!(decode("/v1/kv/%FF%FE"), Err(PathFault::Utf8));
    }

    #[test]
    fn unclean_paths_are_cleaned_and_clean_ones_left_alone() {
        for (path, cleaned) in [
            ("/v1//agent/self", Some("/v1/agent/self")),
            ("//v1/agent/self", Some("/v1/agent/self")),
            ("/v1/./agent/self", Some("/v1/agent/self")),
            ("/v1/kv/x/../dot/", Some("/v1/kv/dot/")),
            ("/v1/kv/..", Some("/v1")),
            ("/../../etc/passwd", Some("/etc/passwd")),
            ("/v1/kv/.hidden", None),
            ("/v1/kv/a..b", None),
            ("/", None),
        ] {
            assert_eq!(clean(path).as_deref(), cleaned, "{path}");
            assert!(!is_plain(path) || cleaned.is_none(), "{path}");
        }
        assert!(is_plain("/v1/health/service/web-1.a~b"));
        for path in ["", "v1", "/v1/kv/a%20b", "/v1/kv/a b", "/v1/kv/\u{7f}", "/v1/kv/\u{e7}"] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn letters_of_any_script_print_and_control_characters_do_not() {
        for text in ["abc ~", "ç日本", "🦀"] {
            assert!(is_printable(text), "{text}");
        }
        for text in ["a\n", "\0", "\u{7f}", "\u{a0}", "\u{2028}", "\u{200b}", "\u{feff}"] {
            assert!(!is_printable(text), "{text:?}");
        }
    }
}
