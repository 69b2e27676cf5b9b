//! How questions are answered: DNS and HTTP.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use muster_dns::NegativeAnswer;

use super::{Meaning, text, value};
use crate::config::file::{ConfigFile, HttpFile, LimitsFile};
use crate::config::names::is_label;
use crate::config::read::Given;
use crate::config::settled::{DefaultReads, DnsConfig, HttpConfig, RequestLimits, Soa, UiConfig};

/// Most name servers that other names are asked of: while all are silent, a question waits for one after the other.
const RECURSORS_MAX: usize = 16;
/// Where name servers listen.
const DNS_PORT: u16 = 53;
/// Longest wait for one of them: whoever asked has given up long before.
const RECURSOR_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Largest request that limits may allow: a body is held in memory whole.
const REQUEST_BYTES_CAP: i64 = 256 * 1024 * 1024;

impl Meaning {
    pub(super) fn domain(&mut self, key: &str, given: &Option<Given<String>>) -> Option<String> {
        let given = text(given)?;
        let domain = given.value.trim_end_matches('.').to_ascii_lowercase();
        // Domains of one's own may hold underscores.
        if domain.len() > 200 || !domain.split('.').all(|label| is_label(&label.replace('_', "-"))) {
            self.bad_text(key, given, "must be a DNS name such as consul. or cluster.example.");
            return None;
        }
        Some(domain)
    }

    pub(super) fn dns(&mut self, file: &ConfigFile) -> DnsConfig {
        let dns = file.dns_config.clone().unwrap_or_default();
        let soa = dns.soa.clone().unwrap_or_default();
        let all = 0..=i64::from(u32::MAX);
        DnsConfig {
            domain: self.domain("domain", &file.domain).unwrap_or_else(|| "consul".to_owned()),
            alt_domain: self.domain("alt_domain", &file.alt_domain),
            recursors: self.recursors(file),
            recursor_random: self.word(
                "dns_config.recursor_strategy",
                &dns.recursor_strategy,
                &[("sequential", false), ("random", true)],
                false,
            ),
            // As Consul: none is the default.
            recursor_timeout: match value(&dns.recursor_timeout, Duration::ZERO) {
                Duration::ZERO => Duration::from_secs(2),
                timeout => timeout.min(RECURSOR_TIMEOUT_MAX),
            },
            negative_answer: self.word(
                "dns_config.negative_answer",
                &dns.negative_answer,
                &[("nxdomain", NegativeAnswer::NxDomain), ("nodata", NegativeAnswer::NoData)],
                NegativeAnswer::NxDomain,
            ),
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

    /// Addresses, each once, with the port of DNS where none is given.
    fn recursors(&mut self, file: &ConfigFile) -> Vec<SocketAddr> {
        let mut recursors = Vec::new();
        for given in file.recursors.iter().flatten().filter(|given| !given.value.trim().is_empty()) {
            let bare = given.value.trim().trim_start_matches('[').trim_end_matches(']');
            let address =
                given.value.trim().parse().ok().or_else(|| Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, DNS_PORT)));
            match address {
                Some(address) if address.ip().is_unspecified() || address.port() == 0 => {
                    self.bad_text("recursors", given, "must be the address of one name server");
                }
                Some(address) if recursors.contains(&address) => {}
                Some(_) if recursors.len() == RECURSORS_MAX => {
                    self.bad_text("recursors", given, format!("is one too many: at most {RECURSORS_MAX} name servers are asked"));
                    break;
                }
                Some(address) => recursors.push(address),
                None => self.bad_text(
                    "recursors",
                    given,
                    "must be an IP address, with or without a port: no name, which would have to be asked for itself",
                ),
            }
        }
        recursors
    }

    /// Files of one's own are a page, be it switched on or not, as Consul has it.
    pub(super) fn ui(&mut self, file: &ConfigFile) -> Option<UiConfig> {
        let ui = file.ui_config.clone().unwrap_or_default();
        let dir = text(&ui.dir).or(text(&file.ui_dir)).map(|given| PathBuf::from(&given.value));
        let switch = ui.enabled.as_ref().or(file.ui.as_ref());
        let path = match text(&ui.content_path).or(text(&file.ui_content_path)) {
            None => "/ui/".to_owned(),
            Some(given) => {
                let path = given.value.trim_matches('/');
                let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/');
                let good = !path.is_empty() && path.chars().all(letter) && !path.contains("//");
                if !good || path.split('/').next() == Some("v1") {
                    let wanted = "must be a path of letters, digits, -, _ and / that is not of the API, such as /ui/";
                    self.bad_text("ui_config.content_path", given, wanted);
                }
                format!("/{path}/")
            }
        };
        (dir.is_some() || switch.map_or(self.dev, |given| given.value)).then_some(UiConfig { path, dir })
    }

    pub(super) fn http(&mut self, file: &ConfigFile) -> HttpConfig {
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
        let wanted = limits.request_limits.clone().unwrap_or_default();
        let modes = [("disabled", None), ("permissive", Some(false)), ("enforcing", Some(true))];
        let rate = |given: &Option<Given<f64>>| given.as_ref().map(|given| given.value).filter(|rate| *rate >= 0.0);
        let request_limits = RequestLimits {
            refuses: self.word("limits.request_limits.mode", &wanted.mode, &modes, None),
            reads: rate(&wanted.read_rate),
            writes: rate(&wanted.write_rate),
        };
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
            use_cache: value(&http.use_cache, true),
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
            request_limits,
            kv_max_value_size: self.number("limits.kv_max_value_size", &limits.kv_max_value_size, bytes.clone(), 524_288),
            txn_max_req_len: self.number("limits.txn_max_req_len", &limits.txn_max_req_len, bytes, 524_288),
            default_query_time: value(&file.default_query_time, Duration::from_secs(300)),
            max_query_time: value(&file.max_query_time, Duration::from_secs(600)),
            discovery_max_stale: value(&file.discovery_max_stale, Duration::ZERO),
            default_reads: self.word(
                "default_reads",
                &file.default_reads,
                &[("muster", DefaultReads::Muster), ("consul", DefaultReads::Consul)],
                DefaultReads::Muster,
            ),
        }
    }
}
