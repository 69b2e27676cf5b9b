//! What a caller of this crate can get wrong. What a probe meets is no error: it is a verdict.

use muster_catalog::CheckId;

/// Why this agent's own TLS cannot be used for checks. Nothing runs yet; whoever wrote the configuration can mend it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file with certificates or a key cannot be read, or is none.
    #[error("{path} cannot be read as PEM: {fault}")]
    Pem {
        /// Which.
        path: std::path::PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// A directory of certificates cannot be listed.
    #[error("{path} cannot be listed")]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificate and key do not fit, or a root is none.
    #[error("certificates and key cannot be used")]
    Unfit(#[from] rustls::Error),
}

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
