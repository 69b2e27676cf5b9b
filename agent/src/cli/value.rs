//! Keys and values as people write them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::error::Error;

/// A key begins without a slash: most who write one mean the same key as without it, and would not find it again.
pub(crate) fn key(written: &str) -> Result<&str, Error> {
    match written.strip_prefix('/') {
        Some(rest) => Err(Error::Usage(format!("Key must not begin with a '/': {written} (did you mean {rest:?}?)"))),
        None => Ok(written),
    }
}

pub(crate) fn decode(key: &str, base64: &[u8]) -> Result<Vec<u8>, Error> {
    BASE64.decode(base64).map_err(|error| Error::Usage(format!("The value of {key} is no base64: {error}")))
}
