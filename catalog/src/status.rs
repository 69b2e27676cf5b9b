//! What checks say, and what that means for look-ups.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// What a check says. Consul stores any text; only the first three have a meaning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// All is well.
    Passing,
    /// Usable, with a remark.
    Warning,
    /// Not to be used.
    Critical,
    /// A text of the registrant's: neither passing nor critical.
    Other(SmolStr),
}

impl Status {
    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Status::Passing => "passing",
            Status::Warning => "warning",
            Status::Critical => "critical",
            Status::Other(text) => text,
        }
    }

    /// The status with that text.
    pub fn from_text(text: &str) -> Self {
        match text {
            "passing" => Status::Passing,
            "warning" => Status::Warning,
            "critical" => Status::Critical,
            other => Status::Other(SmolStr::new(other)),
        }
    }

    /// Under which state the check is listed: a text of the registrant's under none.
    pub(crate) fn listed(&self) -> Option<Health> {
        match self {
            Status::Other(_) => None,
            status => Some(status.health()),
        }
    }

    /// What it means for look-ups.
    pub fn health(&self) -> Health {
        match self {
            Status::Passing => Health::Passing,
            Status::Critical => Health::Critical,
            Status::Warning | Status::Other(_) => Health::Warning,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        SmolStr::deserialize(from).map(|text| Status::from_text(&text))
    }
}

/// The worst of some checks, in rising order of badness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Every check passes, or there is none.
    Passing,
    /// None critical, not all passing.
    Warning,
    /// At least one critical.
    Critical,
}

/// The worst of some verdicts; passing if there are none.
pub fn worst<'a>(all: impl IntoIterator<Item = &'a Status>) -> Health {
    all.into_iter().map(Status::health).max().unwrap_or(Health::Passing)
}
