//! Why a row is as it is: who changed it, by which kind of act, when, with what reason.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Longest reason and actor, in bytes each: a cause rides on every row and every feed, so it is a line, not a story.
pub const REASON_BYTES_MAX: usize = 128;

/// The acts that change rows. A closed set, so that it can be counted and translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// A request to the catalog or KV API.
    Api,
    /// An agent brought its own services and checks into the catalog.
    Sync,
    /// A check's result changed.
    CheckResult,
    /// A TTL check was not heard of in time.
    TtlExpired,
    /// A check stayed critical for its `deregister_critical_service_after`.
    CriticalTooLong,
    /// Maintenance was switched on or off.
    Maintenance,
    /// A definition file appeared, changed or went.
    DefinitionFile,
    /// The leader brought membership into the catalog.
    Reconcile,
    /// A session was not renewed in time.
    SessionExpired,
    /// The agent started, and opened its session of the log.
    Start,
}

/// Who changed a row, how, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// The agent, client address or member that acted; at most [`REASON_BYTES_MAX`] bytes.
    #[serde(deserialize_with = "bounded")]
    pub actor: SmolStr,
    /// The kind of act.
    pub kind: CauseKind,
    /// Wall-clock milliseconds since 1970 at the door where it entered: told, never used to decide.
    pub at_ms: u64,
    /// Free text, at most [`REASON_BYTES_MAX`] bytes, may be empty.
    #[serde(deserialize_with = "bounded")]
    pub reason: SmolStr,
}

impl Cause {
    /// A cause with both texts cut to their bound.
    pub fn new(actor: impl AsRef<str>, kind: CauseKind, at_ms: u64, reason: impl AsRef<str>) -> Self {
        Self { actor: SmolStr::new(cut(actor.as_ref())), kind, at_ms, reason: SmolStr::new(cut(reason.as_ref())) }
    }
}

/// What arrives is held to the bound too: an agent may be of another version.
fn bounded<'de, D: serde::Deserializer<'de>>(from: D) -> Result<SmolStr, D::Error> {
    let text = SmolStr::deserialize(from)?;
    Ok(if text.len() > REASON_BYTES_MAX { SmolStr::new(cut(&text)) } else { text })
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_that_arrives_is_cut_too() {
        let long = Cause { reason: "ü".repeat(100).into(), ..Cause::new("a", CauseKind::Api, 0, "") };
        let bytes = rmp_serde::to_vec_named(&long).expect("plain data");
        let read: Cause = rmp_serde::from_slice(&bytes).expect("it was just written");
        assert_eq!(read, Cause::new("a", CauseKind::Api, 0, "ü".repeat(100)));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let cause = Cause::new("a", CauseKind::Api, 0, "ü".repeat(100));
        assert_eq!(cause.reason.len(), REASON_BYTES_MAX);
        assert_eq!(Cause::new("a", CauseKind::Api, 0, format!("x{}", "ü".repeat(100))).reason.len(), REASON_BYTES_MAX - 1);
    }
}
