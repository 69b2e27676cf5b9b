//! Checked names: what a node, a service, an instance of it, a check may be called.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Longest name of any kind, in bytes, as it is written and in lower case. Consul sets no bound; a DNS name ends at 255, and ids made by
/// programs (Nomad's are the longest seen, about 130 bytes) stay below twice that.
pub const NAME_BYTES_MAX: usize = 512;

/// Why a text is no name. Nothing was changed; the caller must send another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than [`NAME_BYTES_MAX`].
    #[error("a name of {0} bytes is too long (at most {NAME_BYTES_MAX})")]
    TooLong(usize),
    /// The text holds a control character.
    #[error("a name must not hold control characters: {0:?}")]
    Control(String),
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    let length = text.len().max(fold(text).len()); // "Ⱥ" is longer in lower case.
    if length > NAME_BYTES_MAX {
        return Err(NameError::TooLong(length));
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control(text.to_owned()));
    }
    Ok(())
}

/// The form under which node and service names are looked up: Consul matches them without regard to case.
/// Borrows when the text is lower case already.
pub fn fold(text: &str) -> std::borrow::Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii()) {
        std::borrow::Cow::Owned(text.to_lowercase())
    } else {
        std::borrow::Cow::Borrowed(text)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks `text` and makes it a name.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                check(text.as_ref())?;
                Ok(Self(SmolStr::new(text)))
            }

            /// What sorts before every name: where a range over a table begins.
            #[allow(dead_code, reason = "not every table is ranged over by every name")]
            pub(crate) fn least() -> Self {
                Self(SmolStr::default())
            }

            /// The name as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name without regard to case, as tables keep it.
            pub fn folded(&self) -> Self {
                match fold(&self.0) {
                    std::borrow::Cow::Borrowed(_) => self.clone(),
                    std::borrow::Cow::Owned(text) => Self(SmolStr::new(text)),
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = SmolStr::deserialize(from)?;
                check(&text).map_err(serde::de::Error::custom)?;
                Ok(Self(text))
            }
        }
    };
}

name! {
    /// A node's name, unique in its datacenter without regard to case.
    NodeName
}

impl NodeName {
    /// A node's UUID in the place of its name: what asks for a node takes either.
    pub(crate) fn of_id(id: uuid::Uuid) -> Self {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        Self(SmolStr::new(id.hyphenated().encode_lower(&mut text)))
    }
}

name! {
    /// What look-ups ask for: many instances share it; matched without regard to case.
    ServiceName
}
name! {
    /// One instance of a service on its node; matched exactly.
    ServiceId
}
name! {
    /// One check on its node; matched exactly.
    CheckId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_no_log_line_should_hold() {
        assert_eq!(ServiceName::new(""), Err(NameError::Empty));
        assert!(matches!(ServiceName::new("a\nb"), Err(NameError::Control(_))));
        assert_eq!(ServiceName::new("x".repeat(513)), Err(NameError::TooLong(513)));
        assert_eq!(ServiceName::new("Web").expect("a name").folded().as_str(), "web");
    }
}
