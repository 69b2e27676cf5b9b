//! Definitions for tests.

use std::time::Duration;

use muster_catalog::{CheckDefinition, CheckId, OUTPUT_BYTES_MAX_DEFAULT, Probe};

pub(crate) fn check(id: &str, probe: Probe) -> CheckDefinition {
    CheckDefinition {
        id: CheckId::new(id).expect("a name"),
        name: id.into(),
        notes: Default::default(),
        service_id: None,
        status: None,
        probe,
        interval: Duration::from_secs(1),
        timeout: None,
        success_before_passing: 0,
        failures_before_warning: None,
        failures_before_critical: 0,
        deregister_critical_service_after: None,
        output_bytes_max: OUTPUT_BYTES_MAX_DEFAULT,
    }
}

pub(crate) fn ttl(id: &str, ttl: Duration) -> CheckDefinition {
    check(id, Probe::Ttl(ttl))
}
