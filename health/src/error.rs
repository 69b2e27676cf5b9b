//! What a caller of this crate can get wrong. What a probe meets is no error: it is a verdict.

use muster_catalog::CheckId;

/// Why a report was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No check of that id is looked after. Nothing changed; the reporter has the wrong id or agent.
    #[error("check {0:?} is not known")]
    UnknownCheck(CheckId),
    /// The check is probed, not reported. Nothing changed; the reporter has the wrong id.
    #[error("check {0:?} has no TTL")]
    NotTtl(CheckId),
}
