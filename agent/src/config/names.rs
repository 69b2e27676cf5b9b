//! What names and meta data may be.

/// Most pairs of meta data of a node or service (Consul's).
pub(super) const META_PAIRS_MAX: usize = 64;
/// Longest key of meta data, in bytes (Consul's).
const META_KEY_BYTES_MAX: usize = 128;
/// Longest value of meta data, in bytes (Consul's).
const META_VALUE_BYTES_MAX: usize = 512;
/// Longest label of a DNS name (RFC 1035 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// The limits of meta data, in Consul's words.
pub(super) fn check_meta<'a>(pairs: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Result<(), String> {
    if pairs.len() > META_PAIRS_MAX {
        return Err(format!("Node metadata cannot contain more than {META_PAIRS_MAX} key/value pairs"));
    }
    for (key, value) in pairs {
        check_meta_pair(key, value).map_err(|problem| format!("Couldn't load metadata pair ('{key}', '{value}'): {problem}"))?;
    }
    Ok(())
}

/// The limits of one pair of meta data, in Consul's words.
pub(super) fn check_meta_pair(key: &str, value: &str) -> Result<(), String> {
    if key.is_empty() {
        Err("Key cannot be blank".to_owned())
    } else if !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        Err("Key contains invalid characters".to_owned())
    } else if key.len() > META_KEY_BYTES_MAX {
        Err(format!("Key is too long (limit: {META_KEY_BYTES_MAX} characters)"))
    } else if key.starts_with("consul-") {
        Err("Key prefix 'consul-' is reserved for internal use".to_owned())
    } else if value.len() > META_VALUE_BYTES_MAX {
        Err(format!("Value is too long (limit: {META_VALUE_BYTES_MAX} characters)"))
    } else {
        Ok(())
    }
}

/// Whether a name can be a label of a DNS name.
pub(super) fn is_label(name: &str) -> bool {
    !name.is_empty() && name.len() <= LABEL_BYTES_MAX && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
