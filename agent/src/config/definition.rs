//! Service and check definitions as they are written: one reader for files (snake_case) and for bodies of the HTTP API.

use std::collections::BTreeMap;

use muster_catalog::{CheckDefinition, Service};

use super::define;
use super::fault::Fault;
use super::json;
use super::read::{Anything, Dialect, Given, Merge, Nanoseconds, Read, Reading, section};
use super::tree::{Node, Value};

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

/// Reads the body of `PUT /v1/agent/service/register`.
pub(crate) fn service_from_body(body: &[u8], limits: DefinitionLimits) -> Result<ServiceDefinition, DefinitionError> {
    define::service(&read_body::<ServiceText>(body)?, Dialect::Http, limits)
}

/// Reads the body of `PUT /v1/agent/check/register`.
pub(crate) fn check_from_body(body: &[u8], limits: DefinitionLimits) -> Result<LoneCheck, DefinitionError> {
    define::lone_check(&read_body::<CheckText>(body)?, limits)
}

/// Reads the body of `PUT /v1/agent/check/update/…`.
pub(crate) fn update_from_body(body: &[u8]) -> Result<CheckUpdate, DefinitionError> {
    let text = read_body::<UpdateText>(body)?;
    let status = text.status.unwrap_or_default();
    if !matches!(status.as_str(), "passing" | "warning" | "critical") {
        return Err(DefinitionError::Invalid(format!("Invalid check status: '{status}'")));
    }
    Ok(CheckUpdate { status, output: text.output.unwrap_or_default() })
}

/// Understands a service of a configuration file.
pub(crate) fn service_from_file(text: &Given<ServiceText>, limits: DefinitionLimits) -> Result<ServiceDefinition, Fault> {
    let name = text.value.id.as_ref().or(text.value.name.as_ref());
    define::service(&text.value, Dialect::File, limits).map_err(|error| file_fault(text, "services", name, &error))
}

/// Understands a check of a configuration file that stands outside services.
pub(crate) fn check_from_file(text: &Given<CheckText>, limits: DefinitionLimits) -> Result<LoneCheck, Fault> {
    let name = text.value.id.as_ref().or(text.value.check_id.as_ref()).or(text.value.name.as_ref());
    define::lone_check(&text.value, limits).map_err(|error| file_fault(text, "checks", name, &error))
}

fn file_fault<T>(text: &Given<T>, list: &str, name: Option<&String>, error: &DefinitionError) -> Fault {
    let wanted = match error {
        DefinitionError::ScriptsDisabled => {
            "a check that runs a program; to allow this, set enable_local_script_checks = true (files only) or enable_script_checks = true"
                .to_owned()
        }
        other => other.to_string(),
    };
    let key = name.map_or_else(|| list.to_owned(), |name| format!("{list}[{name}]"));
    Fault { at: text.at.clone(), key, value: String::new(), wanted }
}

fn read_body<T: Read + Default>(body: &[u8]) -> Result<T, DefinitionError> {
    let node = json::parse_body(body).map_err(DefinitionError::Decode)?;
    if matches!(node.value, Value::Null) {
        return Ok(T::default());
    }
    let mut reading = Reading::new(Dialect::Http);
    let text = T::read(&node, &mut reading);
    match (text, reading.go_errors.into_iter().next()) {
        (Some(text), None) => Ok(text),
        (_, Some(error)) => Err(DefinitionError::Decode(error)),
        (None, None) => Err(DefinitionError::Decode("unexpected value".to_owned())),
    }
}

section! {
    /// A service as it was written.
    ServiceText {
        id: String,
        name: String,
        tags: Vec<String>,
        address: String,
        tagged_addresses: BTreeMap<String, AddressText>,
        meta: BTreeMap<String, String>,
        port: i64,
        ports: Vec<PortText>,
        socket_path: String,
        enable_tag_override: bool,
        weights: WeightsText,
        check: OneOrMore,
        checks: Vec<CheckText>,
        token: String,
        locality: LocalityText,
        kind: String,
        proxy: Anything,
        connect: Anything,
    }
    folded true
}

section! {
    /// A check as it was written.
    CheckText {
        id: String,
        check_id: String,
        name: String,
        notes: String,
        status: String,
        service_id: String,
        token: String,
        interval: Nanoseconds,
        timeout: Nanoseconds,
        ttl: Nanoseconds,
        args = "script_args": Vec<String>,
        script: Anything,
        http: String,
        method: String,
        header: BTreeMap<String, Vec<String>>,
        body: String,
        disable_redirects: bool,
        follow_foreign_redirects: bool,
        tls_server_name: String,
        tls_skip_verify: bool,
        tcp: String,
        tcp_use_tls: bool,
        udp: String,
        grpc: String,
        grpc_use_tls: bool,
        h2ping: String,
        h2ping_use_tls: bool,
        docker_container_id: String,
        shell: String,
        os_service: String,
        alias_node: String,
        alias_service: String,
        success_before_passing: i64,
        failures_before_warning: i64,
        failures_before_critical: i64,
        deregister_critical_service_after: Nanoseconds,
        output_max_size: i64,
    }
    folded true
    hidden not_in_bodies
}

/// A check by itself has an `ID`, one inside a service a `CheckID`; the old one-line `script` exists in files only.
fn not_in_bodies(depth: usize) -> &'static [&'static str] {
    match depth {
        0 => &["check_id", "checkid", "script"],
        _ => &["id", "check_id", "script"],
    }
}

section! {
    /// An address with its port.
    AddressText {
        address: String,
        port: i64,
    }
    folded true
}

section! {
    /// A named port.
    PortText {
        name: String,
        port: i64,
        default: bool,
    }
    folded true
}

section! {
    /// Weights for DNS.
    WeightsText {
        passing: i64,
        warning: i64,
    }
    folded true
}

section! {
    /// Where a service runs, in a provider's terms.
    LocalityText {
        region: String,
        zone: String,
    }
    folded true
}

section! {
    /// The body of a verdict.
    UpdateText {
        status: String,
        output: String,
    }
    folded true
}

/// `check`: one, or in a file also several blocks of that name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct OneOrMore(pub(crate) Vec<CheckText>);

impl Read for OneOrMore {
    const WANTED: &'static str = "a check";
    const GO: &'static str = "structs.CheckType";
    fn read(node: &Node, reading: &mut Reading) -> Option<Self> {
        match &node.value {
            Value::List(_) if reading.dialect == Dialect::File => Vec::read(node, reading).map(Self),
            _ => CheckText::read(node, reading).map(|check| Self(vec![check])),
        }
    }
}

impl Merge for OneOrMore {
    fn merge(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

macro_rules! merge_by_replacing {
    ($($type:ty),*) => { $( impl Merge for $type { fn merge(&mut self, later: Self) { *self = later; } } )* };
}
merge_by_replacing!(String, bool, i64, Nanoseconds);

#[cfg(test)]
mod tests;
