//! From what was written to what it means: defaults, limits of values, and all that is wrong with them at once.

mod cluster;
mod doors;
mod identity;
mod network;
mod work;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::address::Host;
use super::duration;
use super::fault::{Fault, Faults, nearest};
use super::file::ConfigFile;
use super::merge::Written;
use super::read::Given;
use super::refuse::refuse;
use super::settled::{Config, RaftConfig};
use super::tree::{At, shown_text};

impl Config {
    /// What `written` means on `host`, and what is worth a warning; or all that is wrong with it.
    pub(crate) fn new(mut written: Written, dev: bool, host: &Host) -> Result<(Self, Vec<String>), Faults> {
        let faults = std::mem::take(&mut written.faults);
        let mut meaning = Meaning { complete: faults.is_empty() && !written.lenient, faults, warnings: written.warnings(), dev };
        meaning.templates(&mut written.file, host);
        let config = meaning.config(&written.file, host);
        match config {
            Some(config) if meaning.faults.is_empty() => Ok((config, meaning.warnings)),
            _ => {
                let mut faults = meaning.faults;
                faults.sort_by(|a, b| a.at.cmp(&b.at));
                faults.dedup();
                Err(Faults(faults))
            }
        }
    }
}

/// Collects what is wrong while values are given their meaning.
struct Meaning {
    /// Whether everything written could be read: only then can something be missing.
    complete: bool,
    faults: Vec<Fault>,
    warnings: Vec<String>,
    dev: bool,
}

fn value<T: Clone>(given: &Option<Given<T>>, default: T) -> T {
    given.as_ref().map_or(default, |given| given.value.clone())
}

fn text(given: &Option<Given<String>>) -> Option<&Given<String>> {
    given.as_ref().filter(|given| !given.value.is_empty())
}

impl Meaning {
    fn fault<T>(&mut self, key: &str, given: &Given<T>, value: String, wanted: impl Into<String>) {
        self.faults.push(Fault { at: given.at.clone(), key: key.to_owned(), value, wanted: wanted.into() });
    }

    fn bad_text(&mut self, key: &str, given: &Given<String>, wanted: impl Into<String>) {
        self.fault(key, given, shown_text(&given.value), wanted);
    }

    fn missing(&mut self, key: &str, wanted: impl Into<String>) {
        if self.complete {
            self.faults.push(Fault {
                at: At::whole("configuration"),
                key: key.to_owned(),
                value: String::new(),
                wanted: wanted.into(),
            });
        }
    }

    /// A whole number within bounds.
    fn number<N: TryFrom<i64>>(&mut self, key: &str, given: &Option<Given<i64>>, bounds: RangeInclusive<i64>, default: N) -> N {
        let Some(given) = given else { return default };
        match N::try_from(given.value) {
            Ok(number) if bounds.contains(&given.value) => number,
            _ => {
                let (least, most) = bounds.into_inner();
                let wanted = if most == i64::MAX {
                    format!("must be at least {least}")
                } else {
                    format!("must be between {least} and {most}")
                };
                self.fault(key, given, given.value.to_string(), wanted);
                default
            }
        }
    }

    /// A duration that paces something: never zero.
    fn pace(&mut self, key: &str, given: &Option<Given<Duration>>, default: Duration) -> Duration {
        match given {
            Some(given) if given.value.is_zero() => {
                self.fault(key, given, "0s".to_owned(), "must be above 0s");
                default
            }
            Some(given) => given.value,
            None => default,
        }
    }

    /// A duration with a lower bound.
    fn at_least(&mut self, key: &str, given: &Option<Given<Duration>>, least: Duration, default: Duration) -> Duration {
        match given {
            Some(given) if given.value < least => {
                let shown = duration::text(given.value);
                self.fault(key, given, shown, format!("must be at least {}", duration::text(least)));
                default
            }
            Some(given) => given.value,
            None => default,
        }
    }

    /// One word of several.
    fn word<T: Copy>(&mut self, key: &str, given: &Option<Given<String>>, words: &[(&str, T)], default: T) -> T {
        let Some(given) = text(given) else { return default };
        let lower = given.value.to_ascii_lowercase();
        match words.iter().find(|(word, _)| *word == lower) {
            Some((_, meaning)) => *meaning,
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let mut wanted = format!("must be one of {}", known.join(", "));
                if let Some(near) = nearest(&lower, known) {
                    wanted = format!("{wanted}; did you mean {near}?");
                }
                self.bad_text(key, given, wanted);
                default
            }
        }
    }

    fn config(&mut self, file: &ConfigFile, host: &Host) -> Option<Config> {
        refuse(file, &mut self.faults);
        let server = value(&file.server, self.dev);
        let data_dir = self.data_dir(file);
        let datacenter = self.datacenter("datacenter", &file.datacenter).unwrap_or_else(|| "dc1".to_owned());
        let primary = self.datacenter("primary_datacenter", &file.primary_datacenter);
        let node_name = self.node_name(file, host);
        let addresses = self.addresses(file, host);
        let cluster = self.cluster(file, server, &addresses);
        let checks = self.checks(file);
        let (services, lone_checks) = self.definitions(file, checks.of_files());
        let watches = self.watches(file);
        let _: u32 = self.number("raft_protocol", &file.raft_protocol, 3..=3, 3);
        let performance = file.performance.clone().unwrap_or_default();
        let default_multiplier = if self.dev { 1 } else { 5 };
        Some(Config {
            dev: self.dev,
            server,
            bootstrap: cluster.bootstrap_expect == 1,
            cluster,
            data_dir,
            primary_datacenter: primary.unwrap_or_else(|| datacenter.clone()),
            datacenter,
            node_id: self.node_id(file),
            node_meta: self.node_meta(file),
            auto_reload: value(&file.auto_reload_config, false),
            pid_file: text(&file.pid_file).map(|given| PathBuf::from(&given.value)),
            leave_on_terminate: value(&file.leave_on_terminate, !server),
            skip_leave_on_interrupt: value(&file.skip_leave_on_interrupt, server),
            dns: self.dns(file),
            http: self.http(file),
            ui: self.ui(file),
            checks,
            services,
            lone_checks,
            watches,
            raft: RaftConfig {
                multiplier: self.number("performance.raft_multiplier", &performance.raft_multiplier, 1..=10, default_multiplier),
                snapshot_threshold: self.number("raft_snapshot_threshold", &file.raft_snapshot_threshold, 1..=i64::MAX, 16_384),
                trailing_logs: self.number("raft_trailing_logs", &file.raft_trailing_logs, 1..=i64::MAX, 10_000),
            },
            log: self.log(file),
            telemetry: self.telemetry(file),
            session_ttl_min: value(&file.session_ttl_min, Duration::from_secs(10)),
            translate_wan_addrs: value(&file.translate_wan_addrs, false),
            disable_coordinates: value(&file.disable_coordinates, false),
            disable_kv_key_validation: value(&file.disable_kv_key_validation, false),
            disable_http_unprintable_char_filter: value(&file.disable_http_unprintable_char_filter, false),
            enable_debug: value(&file.enable_debug, self.dev),
            leave_drain_time: value(&performance.leave_drain_time, Duration::from_secs(5)),
            rpc_hold_timeout: value(&performance.rpc_hold_timeout, Duration::from_secs(7)),
            node_name: node_name?,
            addresses,
        })
    }
}
