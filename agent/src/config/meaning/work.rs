//! What this agent does: checks and services, logs, metrics.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::{Meaning, text, value};
use crate::config::definition::{DefinitionLimits, LoneCheck, ServiceDefinition, check_from_file, service_from_file};
use crate::config::facility::facility;
use crate::config::file::ConfigFile;
use crate::config::read::Given;
use crate::config::settled::{AntiEntropy, ChecksConfig, ChecksTls, LogConfig, TelemetryConfig};
use crate::config::watch::WatchConfig;

const DAY: Duration = Duration::from_secs(86_400);
/// Largest output of a check that may be asked for: each check may keep this much, in memory and in the log.
const OUTPUT_BYTES_CAP: i64 = 1024 * 1024;

impl Meaning {
    pub(super) fn checks(&mut self, file: &ConfigFile) -> ChecksConfig {
        let remote_scripts = value(&file.enable_script_checks, false);
        if remote_scripts {
            self.warnings.push(
                "enable_script_checks lets everybody who reaches the HTTP port run programs here: enable_local_script_checks \
                 allows them from files only"
                    .to_owned(),
            );
        }
        ChecksConfig {
            remote_scripts,
            local_scripts: remote_scripts || value(&file.enable_local_script_checks, false),
            update_interval: value(&file.check_update_interval, Duration::from_secs(300)),
            output_bytes_max: self.number("check_output_max_size", &file.check_output_max_size, 1..=OUTPUT_BYTES_CAP, 4096),
            discard_output: value(&file.discard_check_output, false),
            anti_entropy: self.word(
                "anti_entropy",
                &file.anti_entropy,
                &[("muster", AntiEntropy::Muster), ("consul", AntiEntropy::Consul)],
                AntiEntropy::Muster,
            ),
            tls: value(&file.enable_agent_tls_for_checks, false).then(|| self.checks_tls(file)),
        }
    }

    /// The keys of what agents speak with each other, else of all uses, else the old ones.
    fn checks_tls(&mut self, file: &ConfigFile) -> ChecksTls {
        let tls = file.tls.clone().unwrap_or_default();
        let (own, all) = (tls.internal_rpc.unwrap_or_default(), tls.defaults.unwrap_or_default());
        let first = |given: [&Option<Given<String>>; 3]| given.into_iter().find_map(|given| text(given).cloned());
        let certificate = first([&own.cert_file, &all.cert_file, &file.cert_file]);
        let key = first([&own.key_file, &all.key_file, &file.key_file]);
        match (&certificate, &key) {
            (Some(given), None) => self.bad_text("cert_file", given, "needs a key_file beside it"),
            (None, Some(given)) => self.bad_text("key_file", given, "needs a cert_file beside it"),
            _ => {}
        }
        let path = |given: Given<String>| PathBuf::from(given.value);
        let roots = [first([&own.ca_file, &all.ca_file, &file.ca_file]), first([&own.ca_path, &all.ca_path, &file.ca_path])];
        ChecksTls {
            roots: roots.into_iter().flatten().map(path).collect(),
            identity: certificate.map(path).zip(key.map(path)),
            server_name: first([&own.server_name, &all.server_name, &file.server_name]).map(|given| given.value),
        }
    }

    pub(super) fn definitions(
        &mut self,
        file: &ConfigFile,
        limits: DefinitionLimits,
    ) -> (Vec<ServiceDefinition>, Vec<LoneCheck>) {
        let (mut services, mut lone) = (Vec::new(), Vec::new());
        let (mut service_ids, mut check_ids) = (BTreeSet::new(), BTreeSet::new());
        for text in file.services.iter().flatten() {
            match service_from_file(text, limits) {
                Ok(definition) => {
                    if !service_ids.insert(definition.service.id.clone()) {
                        let key = format!("services[{}]", definition.service.id);
                        self.fault(&key, text, String::new(), "this id is used by a service above: give one of them another id");
                    }
                    for check in &definition.checks {
                        if !check_ids.insert(check.id.clone()) {
                            let key = format!("services[{}].checks[{}]", definition.service.id, check.id);
                            self.fault(
                                &key,
                                text,
                                String::new(),
                                "this id is used by a check above: give one of them another id",
                            );
                        }
                    }
                    self.warnings.extend(definition.warnings.iter().cloned());
                    services.push(definition);
                }
                Err(fault) => self.faults.push(fault),
            }
        }
        for text in file.checks.iter().flatten() {
            match check_from_file(text, limits) {
                Ok(definition) => {
                    let key = format!("checks[{}]", definition.check.id);
                    if !check_ids.insert(definition.check.id.clone()) {
                        self.fault(&key, text, String::new(), "this id is used by a check above: give one of them another id");
                    }
                    self.warnings.extend(definition.warnings.iter().cloned());
                    lone.push(definition);
                }
                Err(fault) => self.faults.push(fault),
            }
        }
        (services, lone)
    }

    pub(super) fn watches(&mut self, file: &ConfigFile) -> Vec<WatchConfig> {
        let mut watches = Vec::new();
        for text in file.watches.iter().flatten() {
            match WatchConfig::new(&text.value) {
                Ok(watch) => watches.push(watch),
                Err(wanted) => self.fault("watches", text, String::new(), wanted),
            }
        }
        watches
    }

    pub(super) fn log(&mut self, file: &ConfigFile) -> LogConfig {
        let levels = [
            ("trace", "trace"),
            ("debug", "debug"),
            ("info", "info"),
            ("warn", "warn"),
            ("warning", "warn"),
            ("error", "error"),
            ("err", "error"),
        ];
        let facility = match text(&file.syslog_facility) {
            None => facility("LOCAL0"),
            Some(given) => {
                let number = facility(&given.value);
                if number.is_none() {
                    self.bad_text("syslog_facility", given, "must be a facility of syslog such as LOCAL0 or DAEMON");
                }
                number
            }
        };
        let files: i64 = self.number("log_rotate_max_files", &file.log_rotate_max_files, -1..=i64::from(u32::MAX), 0);
        LogConfig {
            level: self.word("log_level", &file.log_level, &levels, if self.dev { "debug" } else { "info" }),
            json: value(&file.log_json, false),
            syslog: facility.filter(|_| value(&file.enable_syslog, false)),
            file: text(&file.log_file).map(|given| PathBuf::from(&given.value)),
            rotate_duration: self.pace("log_rotate_duration", &file.log_rotate_duration, DAY),
            rotate_bytes: self.number("log_rotate_bytes", &file.log_rotate_bytes, 0..=i64::MAX, 0),
            rotate_max_files: match files {
                0 => None,
                -1 => Some(0),
                files => usize::try_from(files).ok(),
            },
        }
    }

    pub(super) fn telemetry(&mut self, file: &ConfigFile) -> TelemetryConfig {
        let telemetry = file.telemetry.clone().unwrap_or_default();
        let mut prefix_filter = Vec::new();
        for given in telemetry.prefix_filter.iter().flatten() {
            match (given.value.strip_prefix('+'), given.value.strip_prefix('-')) {
                (Some(prefix), _) => prefix_filter.push((true, prefix.to_owned())),
                (_, Some(prefix)) => prefix_filter.push((false, prefix.to_owned())),
                (None, None) => self.bad_text("telemetry.prefix_filter", given, "must begin with + (show) or - (hide)"),
            }
        }
        let mut sink = |key: &str, given: &Option<Given<String>>, unix: bool| {
            let given = text(given)?;
            let port = given.value.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            let socket = unix && given.value.starts_with("unix:///");
            if !(port || socket) {
                self.bad_text(key, given, "must be a host and a port such as \"127.0.0.1:8125\"");
            }
            Some(given.value.clone())
        };
        let statsd = sink("telemetry.statsd_address", &telemetry.statsd_address, false);
        let statsite = sink("telemetry.statsite_address", &telemetry.statsite_address, false);
        let dogstatsd = sink("telemetry.dogstatsd_addr", &telemetry.dogstatsd_addr, true);
        TelemetryConfig {
            statsd,
            statsite,
            dogstatsd,
            dogstatsd_tags: telemetry.dogstatsd_tags.iter().flatten().map(|given| given.value.clone()).collect(),
            host_metrics: value(&telemetry.enable_host_metrics, false),
            prometheus_retention_time: value(&telemetry.prometheus_retention_time, Duration::ZERO),
            disable_hostname: value(&telemetry.disable_hostname, false),
            metrics_prefix: value(&telemetry.metrics_prefix, "consul".to_owned()),
            prefix_filter,
            filter_default: value(&telemetry.filter_default, true),
        }
    }
}
