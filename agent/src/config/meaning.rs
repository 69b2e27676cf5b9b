//! From what was written to what it means: defaults, limits of values, and all that is wrong with them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use muster_catalog::{Meta, NodeName};
use smol_str::SmolStr;

use super::address::{Host, Listen, advertised, parse_ip, parse_listen};
use super::define::{check_meta, is_label};
use super::definition::{DefinitionLimits, LoneCheck, ServiceDefinition, check_from_file, service_from_file};
use super::fault::{Fault, Faults, nearest};
use super::file::{ConfigFile, HttpFile, LimitsFile};
use super::merge::Written;
use super::read::Given;
use super::refuse::refuse;
use super::tree::{At, shown_text};
use super::{
    Addresses, AntiEntropy, ChecksConfig, Config, DefaultReads, DnsConfig, HttpConfig, LogConfig, RaftConfig, Soa,
    TelemetryConfig, UnixSockets,
};

const DAY: Duration = Duration::from_secs(86_400);
/// Largest output of a check that may be asked for: each check may keep this much, in memory and in the log.
const OUTPUT_BYTES_CAP: i64 = 1024 * 1024;
/// Largest request that limits may allow: a body is held in memory whole.
const REQUEST_BYTES_CAP: i64 = 256 * 1024 * 1024;

impl Config {
    /// What `written` means on `host`, and what is worth a warning; or all that is wrong with it.
    pub(crate) fn new(mut written: Written, dev: bool, host: &Host) -> Result<(Self, Vec<String>), Faults> {
        let faults = std::mem::take(&mut written.faults);
        let mut meaning = Meaning { complete: faults.is_empty() && !written.lenient, faults, warnings: written.warnings(), dev };
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
        if !server && file.server.is_none() {
            self.missing("server", "this version has no client agents yet: set server = true (flag -server), or start with -dev");
        }
        let bootstrap = self.bootstrap(file);
        let data_dir = self.data_dir(file);
        let datacenter = self.datacenter("datacenter", &file.datacenter).unwrap_or_else(|| "dc1".to_owned());
        let primary = self.datacenter("primary_datacenter", &file.primary_datacenter);
        let node_name = self.node_name(file, host);
        let addresses = self.addresses(file, host);
        let checks = self.checks(file);
        let limits = DefinitionLimits { output_bytes_max: checks.output_bytes_max, scripts: checks.local_scripts };
        let (services, lone_checks) = self.definitions(file, limits);
        let performance = file.performance.clone().unwrap_or_default();
        let default_multiplier = if self.dev { 1 } else { 5 };
        Some(Config {
            dev: self.dev,
            server,
            bootstrap,
            data_dir,
            primary_datacenter: primary.unwrap_or_else(|| datacenter.clone()),
            datacenter,
            node_id: self.node_id(file),
            node_meta: self.node_meta(file),
            pid_file: text(&file.pid_file).map(|given| PathBuf::from(&given.value)),
            leave_on_terminate: value(&file.leave_on_terminate, !server),
            skip_leave_on_interrupt: value(&file.skip_leave_on_interrupt, server),
            dns: self.dns(file),
            http: self.http(file),
            checks,
            services,
            lone_checks,
            raft: RaftConfig {
                multiplier: self.number("performance.raft_multiplier", &performance.raft_multiplier, 1..=10, default_multiplier),
                snapshot_threshold: self.number("raft_snapshot_threshold", &file.raft_snapshot_threshold, 1..=i64::MAX, 16_384),
                snapshot_interval: value(&file.raft_snapshot_interval, Duration::from_secs(30)),
                trailing_logs: self.number("raft_trailing_logs", &file.raft_trailing_logs, 1..=i64::MAX, 10_000),
            },
            log: self.log(file),
            telemetry: self.telemetry(file),
            session_ttl_min: value(&file.session_ttl_min, Duration::from_secs(10)),
            translate_wan_addrs: value(&file.translate_wan_addrs, false),
            disable_coordinates: value(&file.disable_coordinates, false),
            enable_debug: value(&file.enable_debug, self.dev),
            leave_drain_time: value(&performance.leave_drain_time, Duration::from_secs(5)),
            rpc_hold_timeout: value(&performance.rpc_hold_timeout, Duration::from_secs(7)),
            node_name: node_name?,
            addresses,
        })
    }

    fn bootstrap(&mut self, file: &ConfigFile) -> bool {
        let expect = file.bootstrap_expect.as_ref().filter(|given| given.value != 0);
        if let Some(given) = expect.filter(|given| given.value < 0) {
            self.fault("bootstrap_expect", given, given.value.to_string(), "must be 1, or 0 for not given");
        }
        if let (Some(given), true) = (expect, value(&file.bootstrap, false)) {
            self.fault(
                "bootstrap_expect",
                given,
                given.value.to_string(),
                "cannot stand beside bootstrap = true: remove one of them",
            );
        }
        let bootstrap = self.dev || expect.is_some() || value(&file.bootstrap, false);
        if !bootstrap && self.complete {
            self.warnings.push(
                "neither bootstrap nor bootstrap_expect is set: with an empty data_dir this server waits for a leader".to_owned(),
            );
        }
        bootstrap
    }

    fn data_dir(&mut self, file: &ConfigFile) -> Option<PathBuf> {
        match text(&file.data_dir) {
            _ if self.dev => None,
            Some(given) => Some(PathBuf::from(&given.value)),
            None => {
                self.missing("data_dir", "must be given (flag -data-dir), or start with -dev to keep everything in memory");
                None
            }
        }
    }

    fn datacenter(&mut self, key: &str, given: &Option<Given<String>>) -> Option<String> {
        let given = text(given)?;
        let lower = given.value.to_ascii_lowercase();
        if lower.len() > 63 || !lower.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_') {
            self.bad_text(key, given, "must consist of at most 63 letters, digits, - and _");
            return None;
        }
        Some(lower)
    }

    fn node_name(&mut self, file: &ConfigFile, host: &Host) -> Option<NodeName> {
        let given = text(&file.node_name);
        let name = given.map_or(host.name.as_str(), |given| given.value.as_str());
        let checked = if name.contains(|c: char| c.is_whitespace() || c == '"' || c == '\'') {
            Err("must not hold blanks or quotes".to_owned())
        } else {
            NodeName::new(name).map_err(|error| error.to_string())
        };
        match (checked, given) {
            (Ok(checked), _) => {
                if !is_label(name) {
                    self.warnings.push(format!("node name {name:?} is no DNS label: it cannot be looked up over DNS"));
                }
                Some(checked)
            }
            (Err(wanted), Some(given)) => {
                self.bad_text("node_name", given, wanted);
                None
            }
            (Err(wanted), None) => {
                self.missing("node_name", format!("must be given, because the host's name {name:?} {wanted}"));
                NodeName::new("unnamed").ok()
            }
        }
    }

    fn node_id(&mut self, file: &ConfigFile) -> Option<uuid::Uuid> {
        let given = text(&file.node_id)?;
        let parsed = uuid::Uuid::try_parse(&given.value.to_ascii_lowercase());
        if parsed.is_err() || given.value.len() != 36 {
            self.bad_text("node_id", given, "must be a UUID such as 6f9619ff-8b86-d011-b42d-00c04fc964ff");
        }
        parsed.ok()
    }

    fn node_meta(&mut self, file: &ConfigFile) -> Meta {
        let Some(pairs) = &file.node_meta else { return Meta::new() };
        let checked = check_meta(pairs.iter().map(|(key, given)| (key.as_str(), given.value.as_str())));
        if let (Err(wanted), Some((_, given))) = (checked, pairs.iter().next()) {
            self.fault("node_meta", given, String::new(), wanted);
        }
        pairs.iter().map(|(key, given)| (SmolStr::new(key), SmolStr::new(&given.value))).collect()
    }

    /// A port; `None` is off.
    fn port(&mut self, key: &str, given: &Option<Given<i64>>, default: u16) -> Option<u16> {
        let port = self.number(key, given, -1..=65_535, i32::from(default));
        u16::try_from(port).ok()
    }

    fn ip(&mut self, key: &str, given: &Option<Given<String>>) -> Option<IpAddr> {
        let given = text(given)?;
        parse_ip(&given.value).map_err(|wanted| self.bad_text(key, given, wanted)).ok()
    }

    fn addresses(&mut self, file: &ConfigFile, host: &Host) -> Addresses {
        let ports = file.ports.clone().unwrap_or_default();
        let own = file.addresses.clone().unwrap_or_default();
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let wildcard = if self.dev { loopback } else { IpAddr::from([0, 0, 0, 0]) };
        let bind_given = text(&file.bind_addr).is_some();
        // Of a bad address only the fault is left: nothing is started with what stands in for it.
        let stand_in = if bind_given { loopback } else { wildcard };
        let bind = self.ip("bind_addr", &file.bind_addr).unwrap_or(stand_in);
        let tell_v4 = self.told("advertise_addr_ipv4", &file.advertise_addr_ipv4);
        let tell_v6 = self.told("advertise_addr_ipv6", &file.advertise_addr_ipv6);
        let told = self.told("advertise_addr", &file.advertise_addr).or(tell_v4).or(tell_v6);
        let advertise = match told {
            Some(ip) => ip,
            None => match advertised(bind, host) {
                Ok(ip) => ip,
                Err(_) if self.dev => loopback,
                Err(wanted) => {
                    self.missing("bind_addr", wanted);
                    loopback
                }
            },
        };
        let wan_v4 = self.told("advertise_addr_wan_ipv4", &file.advertise_addr_wan_ipv4);
        let wan_v6 = self.told("advertise_addr_wan_ipv6", &file.advertise_addr_wan_ipv6);
        let wan = self.told("advertise_addr_wan", &file.advertise_addr_wan).or(wan_v4).or(wan_v6).unwrap_or(advertise);

        let mut tagged = Meta::new();
        for (name, first, more) in [("lan", advertise, [tell_v4, tell_v6]), ("wan", wan, [wan_v4, wan_v6])] {
            tagged.insert(SmolStr::new(name), SmolStr::new(first.to_string()));
            for ip in [Some(first)].into_iter().chain(more).flatten() {
                let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
                tagged.insert(SmolStr::new(format!("{name}_{family}")), SmolStr::new(ip.to_string()));
            }
        }

        let http_port = self.port("ports.http", &ports.http, 8500);
        let dns_port = self.port("ports.dns", &ports.dns, 8600);
        let server_port = self.port("ports.server", &ports.server, 8300);
        let lan_port = self.port("ports.serf_lan", &ports.serf_lan, 8301);
        let wan_port = self.port("ports.serf_wan", &ports.serf_wan, 8302);
        if let (Some(port), Some(given)) = (self.port("ports.https", &ports.https, 0), &ports.https) {
            self.warnings.push(format!("{}: ports.https = {port} is not opened: this version has no TLS", given.at));
        }
        self.port("ports.grpc", &ports.grpc, 0);
        self.port("ports.grpc_tls", &ports.grpc_tls, 0);
        let http = self.listen("addresses.http", &own.http, &file.client_addr, http_port, true);
        let dns = self.listen("addresses.dns", &own.dns, &file.client_addr, dns_port, false);
        let at = |port: Option<u16>| port.map(|port| SocketAddr::new(bind, port));
        let addresses = Addresses {
            bind,
            advertise,
            advertise_wan: wan,
            tagged,
            http,
            dns: dns
                .into_iter()
                .filter_map(|listen| match listen {
                    Listen::Tcp(address) => Some(address),
                    Listen::Unix(_) => None,
                })
                .collect(),
            server: at(server_port),
            serf_lan: at(lan_port),
            serf_wan: at(wan_port),
            unix_sockets: self.unix_sockets(file),
        };
        self.no_port_twice(&addresses, file);
        addresses
    }

    /// An address that others are told: never a wildcard.
    fn told(&mut self, key: &str, given: &Option<Given<String>>) -> Option<IpAddr> {
        let ip = self.ip(key, given)?;
        if let (true, Some(given)) = (ip.is_unspecified(), given) {
            self.bad_text(key, given, "must be one address of this host: others cannot reach a wildcard");
            return None;
        }
        Some(ip)
    }

    fn listen(
        &mut self,
        key: &str,
        own: &Option<Given<String>>,
        client: &Option<Given<String>>,
        port: Option<u16>,
        unix: bool,
    ) -> Vec<Listen> {
        let (key, given) = match (text(own), text(client)) {
            (Some(given), _) => (key, Some(given)),
            (None, client) => ("client_addr", client),
        };
        let listed =
            parse_listen(given.map_or("127.0.0.1", |given| &given.value), port.unwrap_or_default(), unix || given.is_none());
        match (listed, given) {
            // A port of -1 switches the listener off, a unix socket has none.
            (Ok(list), _) => list.into_iter().filter(|listen| port.is_some() || matches!(listen, Listen::Unix(_))).collect(),
            (Err(_), Some(given)) if key == "client_addr" && !unix && given.value.contains("unix://") => Vec::new(),
            (Err(wanted), Some(given)) => {
                self.bad_text(key, given, wanted);
                Vec::new()
            }
            (Err(_), None) => Vec::new(),
        }
    }

    fn unix_sockets(&mut self, file: &ConfigFile) -> UnixSockets {
        let given = file.unix_sockets.clone().unwrap_or_default();
        let mode = text(&given.mode).and_then(|given| {
            let mode = u32::from_str_radix(&given.value, 8).ok().filter(|mode| *mode <= 0o7777);
            if mode.is_none() {
                self.bad_text("unix_sockets.mode", given, "must be octal permission bits such as \"0770\"");
            }
            mode
        });
        let name = |given: &Option<Given<String>>| text(given).map(|given| given.value.clone());
        UnixSockets { user: name(&given.user), group: name(&given.group), mode }
    }

    /// Two TCP listeners of one agent on one port would only fail later, with less to say.
    fn no_port_twice(&mut self, addresses: &Addresses, file: &ConfigFile) {
        let http = addresses.http.iter().filter_map(|listen| match listen {
            Listen::Tcp(address) => Some(("ports.http", *address)),
            Listen::Unix(_) => None,
        });
        let dns = addresses.dns.iter().map(|address| ("ports.dns", *address));
        let between =
            [("ports.server", addresses.server), ("ports.serf_lan", addresses.serf_lan), ("ports.serf_wan", addresses.serf_wan)];
        let between = between.into_iter().filter_map(|(key, address)| Some((key, address?)));
        let mut seen: BTreeMap<SocketAddr, &str> = BTreeMap::new();
        for (key, address) in http.chain(dns).chain(between).filter(|(_, address)| address.port() != 0) {
            if let Some(other) = seen.insert(address, key)
                && other != key
            {
                let ports = file.ports.clone().unwrap_or_default();
                let places = [&ports.http, &ports.dns, &ports.server, &ports.serf_lan, &ports.serf_wan];
                let place = places.into_iter().flatten().find(|given| given.value == i64::from(address.port()));
                let at = place.map_or_else(|| At::whole("configuration"), |given| given.at.clone());
                let wanted = format!("{other} and {key} are both {address}: give them different ports");
                self.faults.push(Fault { at, key: key.to_owned(), value: address.port().to_string(), wanted });
            }
        }
    }

    fn domain(&mut self, key: &str, given: &Option<Given<String>>) -> Option<String> {
        let given = text(given)?;
        let domain = given.value.trim_end_matches('.').to_ascii_lowercase();
        // Domains of one's own may hold underscores.
        if domain.len() > 200 || !domain.split('.').all(|label| is_label(&label.replace('_', "-"))) {
            self.bad_text(key, given, "must be a DNS name such as consul. or cluster.example.");
            return None;
        }
        Some(domain)
    }

    fn dns(&mut self, file: &ConfigFile) -> DnsConfig {
        let dns = file.dns_config.clone().unwrap_or_default();
        let soa = dns.soa.clone().unwrap_or_default();
        let all = 0..=i64::from(u32::MAX);
        DnsConfig {
            domain: self.domain("domain", &file.domain).unwrap_or_else(|| "consul".to_owned()),
            alt_domain: self.domain("alt_domain", &file.alt_domain),
            recursors: file.recursors.iter().flatten().map(|given| given.value.clone()).collect(),
            allow_stale: value(&dns.allow_stale, true),
            max_stale: value(&dns.max_stale, Duration::from_secs(87_600 * 3600)),
            node_ttl: value(&dns.node_ttl, Duration::ZERO),
            service_ttl: dns.service_ttl.iter().flatten().map(|(name, given)| (name.to_lowercase(), given.value)).collect(),
            enable_truncate: value(&dns.enable_truncate, false),
            only_passing: value(&dns.only_passing, false),
            disable_compression: value(&dns.disable_compression, false),
            udp_answer_limit: self.number("dns_config.udp_answer_limit", &dns.udp_answer_limit, 0..=65_535, 3),
            a_record_limit: self.number("dns_config.a_record_limit", &dns.a_record_limit, 0..=65_535, 0),
            node_meta_txt: value(&dns.enable_additional_node_meta_txt, true),
            soa: Soa {
                refresh: self.number("dns_config.soa.refresh", &soa.refresh, all.clone(), 3600),
                retry: self.number("dns_config.soa.retry", &soa.retry, all.clone(), 600),
                expire: self.number("dns_config.soa.expire", &soa.expire, all.clone(), 86_400),
                min_ttl: self.number("dns_config.soa.min_ttl", &soa.min_ttl, all, 0),
            },
        }
    }

    fn http(&mut self, file: &ConfigFile) -> HttpConfig {
        let http: HttpFile = file.http_config.clone().unwrap_or_default();
        let limits: LimitsFile = file.limits.clone().unwrap_or_default();
        let mut allow_write_http_from = Vec::new();
        for given in http.allow_write_http_from.iter().flatten() {
            match given.value.parse() {
                Ok(net) => allow_write_http_from.push(net),
                Err(_) => {
                    self.bad_text("http_config.allow_write_http_from", given, "must be a network such as 10.0.0.0/8");
                }
            }
        }
        for (name, given) in http.response_headers.iter().flatten() {
            let good = http::HeaderName::try_from(name.as_str()).is_ok() && http::HeaderValue::try_from(&given.value).is_ok();
            if !good {
                self.bad_text(
                    &format!("http_config.response_headers.{name}"),
                    given,
                    "must be a name and a value that HTTP can carry",
                );
            }
        }
        let bytes = 0..=REQUEST_BYTES_CAP;
        HttpConfig {
            pretty: self.dev,
            block_endpoints: http.block_endpoints.iter().flatten().map(|given| given.value.clone()).collect(),
            response_headers: http
                .response_headers
                .iter()
                .flatten()
                .map(|(name, given)| (name.clone(), given.value.clone()))
                .collect(),
            allow_write_http_from,
            max_header_bytes: match self.number("http_config.max_header_bytes", &http.max_header_bytes, bytes.clone(), 0) {
                0 => 1024 * 1024,
                bytes => bytes,
            },
            allowed_hosts: file.allowed_hosts.iter().flatten().map(|given| given.value.to_ascii_lowercase()).collect(),
            max_conns_per_client: self.number(
                "limits.http_max_conns_per_client",
                &limits.http_max_conns_per_client,
                0..=i64::from(u32::MAX),
                200,
            ),
            kv_max_value_size: self.number("limits.kv_max_value_size", &limits.kv_max_value_size, bytes.clone(), 524_288),
            txn_max_req_len: self.number("limits.txn_max_req_len", &limits.txn_max_req_len, bytes, 524_288),
            default_query_time: value(&file.default_query_time, Duration::from_secs(300)),
            max_query_time: value(&file.max_query_time, Duration::from_secs(600)),
            discovery_max_stale: value(&file.discovery_max_stale, Duration::ZERO),
            default_reads: self.word(
                "default_reads",
                &file.default_reads,
                &[("local", DefaultReads::Local), ("consul", DefaultReads::Consul)],
                DefaultReads::Local,
            ),
        }
    }

    fn checks(&mut self, file: &ConfigFile) -> ChecksConfig {
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
        }
    }

    fn definitions(&mut self, file: &ConfigFile, limits: DefinitionLimits) -> (Vec<ServiceDefinition>, Vec<LoneCheck>) {
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

    fn log(&mut self, file: &ConfigFile) -> LogConfig {
        let levels = [
            ("trace", "trace"),
            ("debug", "debug"),
            ("info", "info"),
            ("warn", "warn"),
            ("warning", "warn"),
            ("error", "error"),
            ("err", "error"),
        ];
        let files: i64 = self.number("log_rotate_max_files", &file.log_rotate_max_files, -1..=i64::from(u32::MAX), 0);
        LogConfig {
            level: self.word("log_level", &file.log_level, &levels, if self.dev { "debug" } else { "info" }),
            json: value(&file.log_json, false),
            file: text(&file.log_file).map(|given| PathBuf::from(&given.value)),
            rotate_duration: value(&file.log_rotate_duration, DAY),
            rotate_bytes: self.number("log_rotate_bytes", &file.log_rotate_bytes, 0..=i64::MAX, 0),
            rotate_max_files: match files {
                0 => None,
                -1 => Some(0),
                files => usize::try_from(files).ok(),
            },
        }
    }

    fn telemetry(&mut self, file: &ConfigFile) -> TelemetryConfig {
        let telemetry = file.telemetry.clone().unwrap_or_default();
        let mut prefix_filter = Vec::new();
        for given in telemetry.prefix_filter.iter().flatten() {
            match (given.value.strip_prefix('+'), given.value.strip_prefix('-')) {
                (Some(prefix), _) => prefix_filter.push((true, prefix.to_owned())),
                (_, Some(prefix)) => prefix_filter.push((false, prefix.to_owned())),
                (None, None) => self.bad_text("telemetry.prefix_filter", given, "must begin with + (show) or - (hide)"),
            }
        }
        TelemetryConfig {
            prometheus_retention_time: value(&telemetry.prometheus_retention_time, Duration::ZERO),
            disable_hostname: value(&telemetry.disable_hostname, false),
            metrics_prefix: value(&telemetry.metrics_prefix, "consul".to_owned()),
            prefix_filter,
            filter_default: value(&telemetry.filter_default, true),
        }
    }
}
