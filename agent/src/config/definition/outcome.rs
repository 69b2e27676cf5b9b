//! What becomes of a definition: a service with its checks, a check, a verdict; or why not.

use muster_catalog::{CheckDefinition, Service};

/// Why a definition is not taken: the text is the whole answer of the HTTP API. Nothing was registered; whoever wrote
/// the definition can mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DefinitionError {
    /// The body is no JSON, has an unknown field or a value of the wrong type.
    #[error("Request decode failed: {0}")]
    Decode(String),
    /// A value is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// A program is to be run, and this agent runs none that were told to it over HTTP.
    #[error("Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true")]
    ScriptsDisabled,
}

/// What definitions need to know of the agent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DefinitionLimits {
    /// `check_output_max_size`: default and cap of a check's own.
    pub(crate) output_bytes_max: usize,
    /// Whether checks from this source may run programs.
    pub(crate) scripts: bool,
}

/// A service and its checks, ready for the local state.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServiceDefinition {
    /// The service.
    pub(crate) service: Service,
    /// Its checks.
    pub(crate) checks: Vec<CheckDefinition>,
    /// The ACL token it is registered with; empty for the agent's.
    pub(crate) token: String,
    /// What was accepted but is worth a word in the log.
    pub(crate) warnings: Vec<String>,
}

/// A check by itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoneCheck {
    /// The check; it may name a service.
    pub(crate) check: CheckDefinition,
    /// The ACL token it is registered with; empty for the agent's.
    pub(crate) token: String,
    /// What was accepted but is worth a word in the log.
    pub(crate) warnings: Vec<String>,
}

/// A verdict on a TTL check.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CheckUpdate {
    /// `passing`, `warning`, `critical`, or what must be refused.
    pub(crate) status: String,
    /// What to show.
    pub(crate) output: String,
}
