//! Service and check definitions as they are written: one reader for files (snake_case) and for bodies of the HTTP API.

mod kinds;
mod meaning;
mod outcome;
mod text;

use super::fault::Fault;
use super::json;
use super::read::{Dialect, Given, Read, Reading};
use super::tree::Value;
pub(crate) use outcome::{CheckUpdate, DefinitionError, DefinitionLimits, LoneCheck, ServiceDefinition};
pub(crate) use text::{CheckText, ServiceText};

/// Reads the body of `PUT /v1/agent/service/register`.
pub(crate) fn service_from_body(body: &[u8], limits: DefinitionLimits) -> Result<ServiceDefinition, DefinitionError> {
    meaning::service(&read_body::<ServiceText>(body)?, Dialect::Http, limits)
}

/// Reads the body of `PUT /v1/agent/check/register`.
pub(crate) fn check_from_body(body: &[u8], limits: DefinitionLimits) -> Result<LoneCheck, DefinitionError> {
    meaning::lone_check(&read_body::<CheckText>(body)?, limits)
}

/// Reads the body of `PUT /v1/agent/check/update/…`.
pub(crate) fn update_from_body(body: &[u8]) -> Result<CheckUpdate, DefinitionError> {
    let text = read_body::<text::UpdateText>(body)?;
    let status = text.status.unwrap_or_default();
    if !matches!(status.as_str(), "passing" | "warning" | "critical") {
        return Err(DefinitionError::Invalid(format!("Invalid check status: '{status}'")));
    }
    Ok(CheckUpdate { status, output: text.output.unwrap_or_default() })
}

/// Understands a service of a configuration file.
pub(crate) fn service_from_file(text: &Given<ServiceText>, limits: DefinitionLimits) -> Result<ServiceDefinition, Fault> {
    let name = text.value.id.as_ref().or(text.value.name.as_ref());
    meaning::service(&text.value, Dialect::File, limits).map_err(|error| file_fault(text, "services", name, &error))
}

/// Understands a check of a configuration file that stands outside services.
pub(crate) fn check_from_file(text: &Given<CheckText>, limits: DefinitionLimits) -> Result<LoneCheck, Fault> {
    let name = text.value.id.as_ref().or(text.value.check_id.as_ref()).or(text.value.name.as_ref());
    meaning::lone_check(&text.value, limits).map_err(|error| file_fault(text, "checks", name, &error))
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

#[cfg(test)]
mod tests;
