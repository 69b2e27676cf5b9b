//! Paths and queries of requests, percent-encoded as they grow.

use std::fmt::Write as _;

/// The path and query of one request.
#[derive(Clone, Debug)]
pub(crate) struct Target(String);

impl Target {
    pub(crate) fn at(path: &'static str) -> Target {
        Target(path.to_owned())
    }

    /// One that is encoded already.
    pub(crate) fn written(target: String) -> Target {
        Target(target)
    }

    /// Appends a name to the path. Slashes stay: the API takes all that follows its prefix as one name.
    pub(crate) fn name(mut self, name: &str) -> Target {
        encode(&mut self.0, name, b"-._~/");
        self
    }

    /// Appends a parameter without a value, such as `stale`.
    pub(crate) fn with(mut self, parameter: &str) -> Target {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(parameter);
        self
    }

    pub(crate) fn param(self, parameter: &str, value: &str) -> Target {
        let mut longer = self.with(parameter);
        longer.0.push('=');
        encode(&mut longer.0, value, b"-._~");
        longer
    }

    pub(crate) fn param_if(self, parameter: &str, value: Option<&str>) -> Target {
        match value {
            Some(value) => self.param(parameter, value),
            None => self,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn encode(to: &mut String, text: &str, plain: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            to.push(char::from(byte));
        } else {
            let _ = write!(to, "%{byte:02X}"); // a String takes everything
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_slashes_and_nothing_else_that_a_url_would_read() {
        let target = Target::at("/v1/kv/").name("a/b c?d#ü%").with("recurse").param("dc", "x&y=/");
        assert_eq!(target.as_str(), "/v1/kv/a/b%20c%3Fd%23%C3%BC%25?recurse&dc=x%26y%3D%2F");
    }
}
