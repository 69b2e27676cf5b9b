//! A request's query string, decoded once into pairs.

use std::net::Ipv6Addr;

use smallvec::SmallVec;
use smol_str::SmolStr;

use super::path::unescape;

/// The pairs of a query string, in the order they were written.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(SmallVec<[(SmolStr, SmolStr); 3]>);

impl Query {
    /// Decodes it; `None` if an escape in it is malformed.
    pub(super) fn parse(raw: &str) -> Option<Self> {
        let (mut pairs, mut rest) = (SmallVec::new(), raw);
        while !rest.is_empty() {
            let (part, behind) = cut(rest, b'&');
            if !part.is_empty() {
                let (key, value) = cut(part, b'=');
                pairs.push((text(key)?, text(value)?));
            }
            rest = behind;
        }
        Some(Self(pairs))
    }

    /// The pairs as they were written.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &SmolStr)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether it is there, with whatever value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Its first value.
    pub(super) fn get(&self, key: &str) -> Option<&SmolStr> {
        self.all(key).next()
    }

    /// Its first value, if that is not empty.
    pub(super) fn filled(&self, key: &str) -> Option<&SmolStr> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// All its values.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &SmolStr> {
        self.0.iter().filter(move |(has, _)| has == key).map(|(_, value)| value)
    }

    /// All pairs as Go writes them back: keys sorted, values in their order, everything escaped.
    pub(super) fn encoded(&self) -> String {
        let mut pairs: Vec<_> = self.0.iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
        pairs.join("&")
    }
}

/// What stands before a sign, and behind it: `split_once` looks for long texts, and these are short.
fn cut(text: &str, sign: u8) -> (&str, &str) {
    text.bytes().position(|byte| byte == sign).map_or((text, ""), |at| (&text[..at], &text[at + 1..]))
}

fn text(raw: &str) -> Option<SmolStr> {
    if !raw.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Some(SmolStr::new(raw));
    }
    unescape(raw, true).map(|bytes| SmolStr::new(String::from_utf8_lossy(&bytes)))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A host as it stands in `Host` or `Origin`, without its port and the brackets of an IPv6 address.
pub(super) fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.contains(':') => host,
        _ => authority,
    }
}

/// Whether a host is written as an address: nobody can rebind that. One that ends in a number is one of IPv4, or none at all (URL
/// Standard, host parsing).
pub(super) fn is_address(host: &str) -> bool {
    if host.contains(':') {
        return host.split('%').next().is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    }
    let last = host.rfind('.').map_or(host, |dot| &host[dot + 1..]);
    !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_empty_parts_skipped() {
        let query = Query::parse("unknown=1&&&=&tag=a%20b&tag=c+d&stale").expect("well formed");
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a b", "c d"]);
        assert!(query.has("stale"));
        assert_eq!(query.filled("stale"), None);
        assert!(Query::parse("a=%zz").is_none());
        assert!(Query::parse("%").is_none());
    }

    #[test]
    fn pairs_are_written_back_sorted() {
        let query = Query::parse("release=y&acquire=a b&recurse").expect("well formed");
        assert_eq!(query.encoded(), "acquire=a+b&recurse=&release=y");
    }

    #[test]
    fn hosts_lose_port_and_brackets() {
        for (authority, host) in
            [("a:80", "a"), ("a", "a"), ("[::1]:8500", "::1"), ("[::1]", "::1"), ("::1", "::1"), ("a:b", "a:b")]
        {
            assert_eq!(host_of(authority), host);
        }
        for (host, address) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("fe80::1%eth0", true),
            ("localhost", false),
            ("evil.example", false),
            ("127.0.0.1.example", false),
            ("a:b", false),
            ("", false),
        ] {
            assert_eq!(is_address(host), address, "{host}");
        }
    }
}
