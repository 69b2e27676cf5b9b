//! A key of gossip: 16 or 32 bytes, written in base64, never printed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Bytes of a key that is newly made: AES-256, as Consul's `keygen`.
pub(crate) const NEW_KEY_BYTES: usize = 32;
/// Lengths that are taken: AES-128 and AES-256. Consul takes 24 bytes (AES-192) too, which nobody makes and few ciphers offer.
const KEY_BYTES: [usize; 2] = [16, NEW_KEY_BYTES];
/// Longest text that is looked at: 32 bytes take 44 letters.
const TEXT_BYTES_MAX: usize = 256;

/// A key that members of a cluster share.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GossipKey(Vec<u8>);

impl GossipKey {
    /// Takes these bytes for a key, if they are as many as a key has.
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, String> {
        let bytes = bytes.into();
        match bytes.len() {
            24 => {
                Err("is a key of 24 bytes (AES-192), which is not offered: make one of 32 bytes with `muster keygen`".to_owned())
            }
            length if KEY_BYTES.contains(&length) => Ok(Self(bytes)),
            length => Err(format!("must be the base64 of 16 or 32 bytes, not of {length}: `muster keygen` makes one")),
        }
    }

    /// Reads a key as files and requests have it. The error says what would be right, and never the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bytes = match text.len() {
            0..=TEXT_BYTES_MAX => BASE64.decode(text).ok(),
            _ => None,
        };
        match bytes {
            Some(bytes) => Self::new(bytes),
            None => Err("must be base64 with its = at the end, as `muster keygen` prints it".to_owned()),
        }
    }

    /// The text under which operators know it.
    pub(crate) fn base64(&self) -> String {
        BASE64.encode(&self.0)
    }
}

impl fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GossipKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_16_and_32_bytes_read_back_and_are_never_shown() {
        for length in [16, 32] {
            let key = GossipKey::new(vec![7; length]).unwrap();
            assert_eq!(GossipKey::parse(&format!(" {}\n", key.base64())).unwrap(), key);
            assert_eq!(BASE64.decode(key.base64()).unwrap().len(), length);
            assert_eq!(format!("{key:?}"), "GossipKey(…)");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        for (text, expected) in [
            (BASE64.encode([1; 24]), "24 bytes (AES-192)"),
            (BASE64.encode([1; 15]), "not of 15"),
            (BASE64.encode([1; 64]), "not of 64"),
            ("c2VjcmV0LXdpdGhvdXQtZW5k!".to_owned(), "must be base64"),
            ("x".repeat(100_000), "must be base64"),
        ] {
            let error = GossipKey::parse(&text).unwrap_err();
            assert!(error.contains(expected) && !error.contains(&text), "{error}");
        }
    }
}
