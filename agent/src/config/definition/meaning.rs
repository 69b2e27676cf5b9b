//! What a definition means: its values checked in Consul's order and words, and turned into rows of the catalog.

use std::net::IpAddr;

use muster_catalog::{
    CheckDefinition, CheckId, DEREGISTER_AFTER_MIN, INTERVAL_MIN, Locality, NameError, RareServiceFields, Service,
    ServiceAddress, ServiceId, ServiceName, ServicePort, Status, Weights,
};
use smol_str::SmolStr;

use super::kinds::Kinds;
use super::outcome::{DefinitionError, DefinitionLimits, LoneCheck, ServiceDefinition};
use super::text::{CheckText, ServiceText, WeightsText};
use crate::config::names::{check_meta, is_label};
use crate::config::read::{Dialect, Nanoseconds};

fn invalid(text: impl Into<String>) -> DefinitionError {
    DefinitionError::Invalid(text.into())
}

/// Understands a service.
pub(super) fn service(
    text: &ServiceText,
    dialect: Dialect,
    limits: DefinitionLimits,
) -> Result<ServiceDefinition, DefinitionError> {
    let name = text.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(invalid("Missing service name"));
    }
    let bad_name = |error: NameError| invalid(format!("Invalid service name or ID: {error}"));
    let service_name = ServiceName::new(name).map_err(bad_name)?;
    let id = text.id.as_deref().filter(|id| !id.is_empty()).unwrap_or(name);
    let id = ServiceId::new(id).map_err(bad_name)?;

    let address = text.address.as_deref().unwrap_or_default();
    if matches!(address, "0.0.0.0" | "::" | "[::]") {
        return Err(invalid("Invalid service address"));
    }
    let weights = weights(text.weights.as_ref(), dialect)?;
    let meta = text.meta.clone().unwrap_or_default();
    check_meta(meta.iter().map(|(key, value)| (key.as_str(), value.as_str())))
        .map_err(|error| invalid(format!("Invalid Service Meta: {error}")))?;

    let port = text.port.unwrap_or_default();
    let mut service = Service {
        id,
        name: service_name,
        tags: text.tags.iter().flatten().map(SmolStr::new).collect(),
        address: SmolStr::new(address),
        tagged_addresses: text
            .tagged_addresses
            .iter()
            .flatten()
            .map(|(kind, at)| {
                let address = SmolStr::new(at.address.as_deref().unwrap_or_default());
                (SmolStr::new(kind), ServiceAddress { address, port: at.port.unwrap_or_default() })
            })
            .collect(),
        meta: meta.iter().map(|(key, value)| (SmolStr::new(key), SmolStr::new(value))).collect(),
        port,
        socket_path: SmolStr::new(text.socket_path.as_deref().unwrap_or_default()),
        enable_tag_override: text.enable_tag_override.unwrap_or_default(),
        weights,
        rare: rare(text),
    };
    tag_address(&mut service);
    let mut warnings = service_warnings(text, &service);
    let checks = service_checks(text, &service, limits, &mut warnings)?;
    Ok(ServiceDefinition { service, checks, token: text.token.clone().unwrap_or_default(), warnings })
}

/// Understands a check that is registered by itself.
pub(super) fn lone_check(text: &CheckText, limits: DefinitionLimits) -> Result<LoneCheck, DefinitionError> {
    let name = text.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(invalid("Missing check name"));
    }
    let Some(status) = status(text) else {
        return Err(invalid("Bad check status"));
    };
    let id = [&text.id, &text.check_id].into_iter().flatten().find(|id| !id.is_empty()).map_or(name, String::as_str);
    let service_id = text.service_id.as_deref().filter(|id| !id.is_empty()).map(ServiceId::new).transpose();
    let service_id = service_id.map_err(|error| invalid(format!("Invalid check: ServiceID: {error}")))?;
    let mut warnings = Vec::new();
    let check = check(text, id, name, service_id, status, limits, &mut warnings)?;
    Ok(LoneCheck { check, token: text.token.clone().unwrap_or_default(), warnings })
}

/// Over HTTP a partial object leaves the other weight 0, in files it keeps its default (as Consul).
fn weights(text: Option<&WeightsText>, dialect: Dialect) -> Result<Weights, DefinitionError> {
    let Some(text) = text else {
        return Ok(Weights::default());
    };
    let missing = i64::from(dialect == Dialect::File);
    let (passing, warning) = (text.passing.unwrap_or(missing), text.warning.unwrap_or(missing));
    if passing < 1 {
        return Err(invalid("Invalid Weights: Passing must be greater than 0"));
    }
    if warning < 0 {
        return Err(invalid("Invalid Weights: Warning must be greater or equal than 0"));
    }
    match (u16::try_from(passing), u16::try_from(warning)) {
        (Ok(passing), Ok(warning)) => Ok(Weights { passing, warning }),
        _ => Err(invalid("Invalid Weights: DNS Weight must be between 0 and 65535")),
    }
}

fn rare(text: &ServiceText) -> Option<Box<RareServiceFields>> {
    let locality = text.locality.as_ref().map(|locality| Locality {
        region: SmolStr::new(locality.region.as_deref().unwrap_or_default()),
        zone: SmolStr::new(locality.zone.as_deref().unwrap_or_default()),
    });
    let ports = text.ports.iter().flatten().map(|port| ServicePort {
        name: SmolStr::new(port.name.as_deref().unwrap_or_default()),
        port: port.port.unwrap_or_default(),
        default: port.default.unwrap_or_default(),
    });
    let kind = SmolStr::new(text.kind.as_deref().unwrap_or_default());
    let rare = RareServiceFields { kind, locality, ports: ports.collect() };
    (rare != RareServiceFields::default()).then(|| Box::new(rare))
}

/// An IP address stands under its family's names too.
fn tag_address(service: &mut Service) {
    let names = match service.address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => ["lan_ipv4", "wan_ipv4"],
        Ok(IpAddr::V6(_)) => ["lan_ipv6", "wan_ipv6"],
        Err(_) => return,
    };
    let own = ServiceAddress { address: service.address.clone(), port: service.port };
    for name in names {
        service.tagged_addresses.entry(SmolStr::new_static(name)).or_insert_with(|| own.clone());
    }
}

fn service_checks(
    text: &ServiceText,
    service: &Service,
    limits: DefinitionLimits,
    warnings: &mut Vec<String>,
) -> Result<Vec<CheckDefinition>, DefinitionError> {
    // An empty `Check` object is none; an empty one in `Checks` is one that is wrong.
    let single = text.check.iter().flat_map(|check| &check.0).filter(|check| **check != CheckText::default());
    let all: Vec<&CheckText> = single.chain(text.checks.iter().flatten()).collect();
    let mut checks = Vec::with_capacity(all.len());
    for (index, text) in all.iter().enumerate() {
        let Some(status) = status(text) else {
            return Err(invalid("Status for checks must 'passing', 'warning', 'critical'"));
        };
        let own = [&text.check_id, &text.id].into_iter().flatten().find(|id| !id.is_empty());
        let id = match own {
            Some(id) => id.clone(),
            None if all.len() == 1 => format!("service:{}", service.id),
            None => format!("service:{}:{}", service.id, index + 1),
        };
        let name = match text.name.as_deref() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => format!("Service '{}' check", service.name),
        };
        checks.push(check(text, &id, &name, Some(service.id.clone()), status, limits, warnings)?);
    }
    Ok(checks)
}

fn service_warnings(text: &ServiceText, service: &Service) -> Vec<String> {
    let mut warnings = Vec::new();
    if !is_label(service.name.as_str()) {
        warnings.push(format!("service name {:?} is no DNS label: it cannot be looked up over DNS", service.name.as_str()));
    }
    warnings.extend(
        service
            .tags
            .iter()
            .filter(|tag| !is_label(tag))
            .map(|tag| format!("tag {tag:?} of service {} is no DNS label: it cannot be looked up over DNS", service.name)),
    );
    let mesh = [
        ("Kind", text.kind.as_ref().is_some_and(|kind| !kind.is_empty())),
        ("Proxy", text.proxy.is_some()),
        ("Connect", text.connect.is_some()),
    ];
    let ignored: Vec<&str> = mesh.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
    if !ignored.is_empty() {
        warnings.push(format!("service {}: without effect, because muster has no mesh: {}", service.name, ignored.join(", ")));
    }
    warnings
}

/// `None` for a status that does not exist; `Some(None)` for none given.
fn status(text: &CheckText) -> Option<Option<Status>> {
    match text.status.as_deref() {
        None | Some("") => Some(None),
        Some(word @ ("passing" | "warning" | "critical")) => Some(Some(Status::from_text(word))),
        Some(_) => None,
    }
}

fn check(
    text: &CheckText,
    id: &str,
    name: &str,
    service_id: Option<ServiceId>,
    status: Option<Status>,
    limits: DefinitionLimits,
    warnings: &mut Vec<String>,
) -> Result<CheckDefinition, DefinitionError> {
    let refused = |text: &str| invalid(format!("Invalid check: {text}"));
    let kinds = Kinds::of(text);
    kinds.check(text).map_err(|text| refused(&text))?;
    let count = |value: Option<i64>, key: &str| {
        u32::try_from(value.unwrap_or_default()).map_err(|_| refused(&format!("{key} must not be negative")))
    };
    let failures_before_critical = count(text.failures_before_critical, "FailuresBeforeCritical")?;
    let failures_before_warning = count(text.failures_before_warning, "FailuresBeforeWarning")?;
    if failures_before_warning > failures_before_critical {
        return Err(refused("FailuresBeforeWarning can't be higher than FailuresBeforeCritical"));
    }
    let probe = kinds.probe(text, warnings).map_err(|text| refused(&text))?;
    if probe.runs_program() && !limits.scripts {
        return Err(DefinitionError::ScriptsDisabled);
    }
    let output_bytes_max = match text.output_max_size.and_then(|bytes| usize::try_from(bytes).ok()) {
        None | Some(0) => limits.output_bytes_max,
        Some(bytes) => bytes.min(limits.output_bytes_max),
    };
    let interval = text.interval.and_then(Nanoseconds::positive);
    let deregister = text.deregister_critical_service_after.and_then(Nanoseconds::positive);
    Ok(CheckDefinition {
        id: CheckId::new(id).map_err(|error| refused(&error.to_string()))?,
        name: SmolStr::new(name),
        notes: SmolStr::new(text.notes.as_deref().unwrap_or_default()),
        service_id,
        status,
        probe,
        interval: interval.map(|interval| interval.max(INTERVAL_MIN)).unwrap_or_default(),
        timeout: text.timeout.and_then(Nanoseconds::positive),
        success_before_passing: count(text.success_before_passing, "SuccessBeforePassing")?,
        failures_before_warning: text.failures_before_warning.is_some_and(|n| n > 0).then_some(failures_before_warning),
        failures_before_critical,
        deregister_critical_service_after: deregister.map(|after| after.max(DEREGISTER_AFTER_MIN)),
        output_bytes_max,
    })
}
