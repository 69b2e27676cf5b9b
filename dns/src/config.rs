//! How DNS answers: what an operator sets, and what is made of it once so that no query pays for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use muster_catalog::fold;
use smol_str::SmolStr;

use crate::beyond::Age;
use crate::error::Error;
use crate::wire::Name;

/// No answer lives longer in caches, whatever is configured: a wrong TTL must not pin an address for years (CVE-2025-58063).
pub const TTL_MAX: Duration = Duration::from_secs(86_400);

/// Consul's default for rows that may be old: ten years.
const MAX_STALE: Duration = Duration::from_secs(87_600 * 3600);

/// Consul's bound on [`Config::udp_answer_limit`]: what surely fits 512 bytes.
const UDP_ANSWERS_MAX: usize = 8;

/// Consul's default for how long a recursor is waited for.
const RECURSOR_TIMEOUT: Duration = Duration::from_secs(2);

/// Settings, with Consul's names and defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The domain we answer for.
    pub domain: String,
    /// A second one with the same names in it.
    pub alt_domain: Option<String>,
    /// Ours: names in another one do not exist.
    pub datacenter: String,
    /// Our node's name: what is near us is near that.
    pub node_name: SmolStr,
    /// Whether answers may come out of rows that are not known to be the newest.
    pub allow_stale: bool,
    /// How old such rows may be.
    pub max_stale: Duration,
    /// How old they may be while no leader is known.
    pub max_stale_alone: Duration,
    /// How long answers on nodes may be kept.
    pub node_ttl: Duration,
    /// How long answers on services may be kept: by a service's name, or by the beginning of it and `*`; the longest counts.
    pub service_ttl: BTreeMap<String, Duration>,
    /// Whether a warning takes an instance out of answers, as critical always does.
    pub only_passing: bool,
    /// Whether an answer that was shortened says so (TC), which makes clients ask again over TCP.
    pub enable_truncate: bool,
    /// Answers on a service over UDP to who does not use EDNS; at most 8 count.
    pub udp_answer_limit: usize,
    /// Address records on a service over any transport; 0 is no limit.
    pub a_record_limit: usize,
    /// Whether names are written in full each time.
    pub disable_compression: bool,
    /// Whether a node's meta goes with its addresses.
    pub enable_additional_node_meta_txt: bool,
    /// The SOA record.
    pub soa: Soa,
    /// What is said of a service that is there, when none of its instances may be told.
    pub negative_answer: NegativeAnswer,
    /// Whom other names are asked of, in this order; if nobody, they are refused.
    pub recursors: Vec<SocketAddr>,
    /// Whether they are asked in another order each time.
    pub recursor_random: bool,
    /// How long each of them is waited for.
    pub recursor_timeout: Duration,
}

/// What is said of a service that is there, when none of its instances may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NegativeAnswer {
    /// There is no such name, as Consul.
    #[default]
    NxDomain,
    /// There is the name, and nothing under it.
    NoData,
}

/// Numbers of the SOA record, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Soa {
    /// How often secondaries look.
    pub refresh: u32,
    /// How soon they look again.
    pub retry: u32,
    /// How long they go on without us.
    pub expire: u32,
    /// How long "there is none" may be kept.
    pub min_ttl: u32,
}

impl Default for Soa {
    fn default() -> Self {
        Self { refresh: 3600, retry: 600, expire: 86_400, min_ttl: 0 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: "consul.".to_owned(),
            alt_domain: None,
            datacenter: "dc1".to_owned(),
            node_name: SmolStr::default(),
            allow_stale: true,
            max_stale: MAX_STALE,
            max_stale_alone: MAX_STALE,
            node_ttl: Duration::ZERO,
            service_ttl: BTreeMap::new(),
            only_passing: false,
            enable_truncate: false,
            udp_answer_limit: 3,
            a_record_limit: 0,
            disable_compression: false,
            enable_additional_node_meta_txt: true,
            soa: Soa::default(),
            negative_answer: NegativeAnswer::default(),
            recursors: Vec::new(),
            recursor_random: false,
            recursor_timeout: RECURSOR_TIMEOUT,
        }
    }
}

/// A configuration as queries need it.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Our domain, then the alternative one if there is.
    pub(crate) zones: Vec<Zone>,
    /// Folded.
    pub(crate) datacenter: String,
    pub(crate) node_name: SmolStr,
    /// `None`: rows are asked for anew each time.
    max_stale: Option<Duration>,
    max_stale_alone: Duration,
    pub(crate) node_ttl: u32,
    pub(crate) only_passing: bool,
    pub(crate) enable_truncate: bool,
    /// At least 1.
    pub(crate) udp_answers: usize,
    /// `usize::MAX` is no limit.
    pub(crate) addresses: usize,
    pub(crate) compress: bool,
    pub(crate) node_meta: bool,
    pub(crate) soa: Soa,
    /// Whether a service none of whose instances may be told is a name all the same.
    pub(crate) nodata: bool,
    /// Whether others are asked for names that are not ours.
    pub(crate) recursion: bool,
    service_ttl: BTreeMap<String, u32>,
    /// Longest first.
    service_ttl_by_prefix: Vec<(String, u32)>,
}

/// A domain of ours.
#[derive(Debug)]
pub(crate) struct Zone {
    /// Folded, without the last dot.
    pub(crate) text: String,
    pub(crate) name: Name,
    /// `node.<dc>.<domain>` and so on: what follows a name in the names we give.
    pub(crate) nodes: Name,
    pub(crate) services: Name,
    pub(crate) addresses: Name,
    /// Of the SOA record.
    pub(crate) primary_server: Name,
    pub(crate) mailbox: Name,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let mut zones = vec![Zone::new(&config.domain, &config.datacenter)?];
        if let Some(domain) = config.alt_domain.as_deref().filter(|domain| !domain.trim_end_matches('.').is_empty()) {
            zones.push(Zone::new(domain, &config.datacenter)?);
        }
        let mut by_prefix = Vec::new();
        let mut exact = BTreeMap::new();
        for (name, ttl) in &config.service_ttl {
            let name = fold(name).into_owned();
            match name.strip_suffix('*') {
                Some(prefix) => by_prefix.push((prefix.to_owned(), seconds(*ttl))),
                None => drop(exact.insert(name, seconds(*ttl))),
            }
        }
        by_prefix.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(Self {
            zones,
            datacenter: fold(&config.datacenter).into_owned(),
            node_name: config.node_name.clone(),
            max_stale: config.allow_stale.then_some(config.max_stale),
            max_stale_alone: config.max_stale_alone,
            node_ttl: seconds(config.node_ttl),
            only_passing: config.only_passing,
            enable_truncate: config.enable_truncate,
            udp_answers: config.udp_answer_limit.clamp(1, UDP_ANSWERS_MAX),
            addresses: if config.a_record_limit == 0 { usize::MAX } else { config.a_record_limit },
            compress: !config.disable_compression,
            node_meta: config.enable_additional_node_meta_txt,
            soa: config.soa,
            nodata: config.negative_answer == NegativeAnswer::NoData,
            recursion: !config.recursors.is_empty(),
            service_ttl: exact,
            service_ttl_by_prefix: by_prefix,
        })
    }

    /// Whether rows of this age are too old to answer from.
    pub(crate) fn is_too_old(&self, age: Age) -> bool {
        let alone = !age.known_leader && age.last_contact > self.max_stale_alone;
        alone || self.max_stale.is_none_or(|most| age.last_contact > most)
    }

    /// Which of our domains a folded name is in; the longest one if it is in both.
    pub(crate) fn zone_of(&self, name: &str) -> Option<usize> {
        let within = |zone: &Zone| match name.strip_suffix(&zone.text) {
            Some(left) => left.is_empty() || left.ends_with('.'),
            None => false,
        };
        let zones = self.zones.iter().enumerate().filter(|(_, zone)| within(zone));
        zones.max_by_key(|(_, zone)| zone.text.len()).map(|(at, _)| at)
    }

    /// Whether a name as it stands in a packet is in one of our domains, also one that cannot be folded: it is nobody else's.
    pub(crate) fn is_ours(&self, wire: &[u8]) -> bool {
        let mut rest = wire;
        loop {
            if self.zones.iter().any(|zone| zone.name.wire().eq_ignore_ascii_case(rest)) {
                return true;
            }
            match rest.split_first() {
                Some((&length, after)) if length > 0 && after.len() > usize::from(length) => rest = &after[usize::from(length)..],
                _ => return false,
            }
        }
    }

    /// How long answers on a service (folded name) may be kept.
    pub(crate) fn service_ttl(&self, name: &str) -> u32 {
        let by_prefix = || self.service_ttl_by_prefix.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, ttl)| *ttl);
        self.service_ttl.get(name).copied().or_else(by_prefix).unwrap_or(0)
    }
}

impl Zone {
    fn new(domain: &str, datacenter: &str) -> Result<Self, Error> {
        let wrong = || Error::Domain(domain.to_owned());
        let text = fold(domain.trim_end_matches('.')).into_owned();
        let name = Name::parse(&text).ok_or_else(wrong)?;
        let child = |labels: &str| name.child(labels).ok_or_else(wrong);
        let here = child(datacenter)?;
        let within = |labels: &str| here.child(labels).ok_or_else(wrong);
        Ok(Self {
            nodes: within("node")?,
            services: within("service")?,
            addresses: within("addr")?,
            primary_server: child("ns")?,
            mailbox: child("hostmaster")?,
            text,
            name,
        })
    }
}

fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.min(TTL_MAX).as_secs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_ttl_is_the_exact_one_else_the_longest_prefix() {
        let ttl = |name: &str, seconds| (name.to_owned(), Duration::from_secs(seconds));
        let service_ttl = BTreeMap::from([ttl("web", 11), ttl("we*", 13), ttl("*", 17), ttl("w*", 19), ttl("Old", 999_999)]);
        let settings = Settings::new(&Config { service_ttl, ..Config::default() }).expect("a good configuration");
        let ttls = ["web", "webs", "wood", "db", "old"].map(|name| settings.service_ttl(name));
        assert_eq!(ttls, [11, 13, 19, 17, 86_400]);
        assert_eq!(Settings::new(&Config::default()).expect("a good configuration").service_ttl("web"), 0);
    }

    #[test]
    fn a_domain_that_is_none_is_refused() {
        for domain in ["", ".", "a..b", &"x".repeat(64)] {
            let config = Config { domain: domain.to_owned(), ..Config::default() };
            assert!(matches!(Settings::new(&config), Err(Error::Domain(_))), "{domain}");
        }
    }

    #[test]
    fn rows_are_too_old_by_either_bound_and_always_where_none_may_be_old() {
        let [short, long] = [1, 60].map(Duration::from_secs);
        let config = Config { max_stale: long, max_stale_alone: short, ..Config::default() };
        let settings = Settings::new(&config).expect("a good configuration");
        let age = |known_leader, seconds| Age { known_leader, last_contact: Duration::from_secs(seconds) };
        assert!(!settings.is_too_old(age(true, 60)) && !settings.is_too_old(age(false, 1)));
        assert!(settings.is_too_old(age(true, 61)) && settings.is_too_old(age(false, 2)));
        let settings = Settings::new(&Config { allow_stale: false, ..config }).expect("a good configuration");
        assert!(settings.is_too_old(Age::NONE));
    }

    #[test]
    fn limits_are_what_can_be_kept() {
        let settings = Settings::new(&Config { udp_answer_limit: 100, ..Config::default() }).expect("a good configuration");
        assert_eq!((settings.udp_answers, settings.addresses), (8, usize::MAX));
        let settings = Settings::new(&Config { udp_answer_limit: 0, ..Config::default() }).expect("a good configuration");
        assert_eq!(settings.udp_answers, 1);
    }
}
