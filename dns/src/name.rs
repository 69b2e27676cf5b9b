//! What a name asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use muster_catalog::fold;

use crate::config::Settings;
use crate::wire::{NAME_BYTES_MAX, kind};

/// A name as text without regard to case: labels between dots, no last dot.
#[derive(Clone)]
pub(crate) struct Folded {
    text: [u8; NAME_BYTES_MAX],
    length: usize,
}

impl Folded {
    /// Folds a name that [`crate::question`] read. `None` if it can be no name of ours: a label holds a dot, or it is not UTF-8.
    pub(crate) fn new(wire: &[u8]) -> Option<Self> {
        let mut folded = Self { text: [0; NAME_BYTES_MAX], length: 0 };
        let mut ascii = true;
        let mut rest = wire;
        while let Some((&length, after)) = rest.split_first()
            && length > 0
        {
            let (label, after) = after.split_at_checked(usize::from(length))?;
            let at = folded.length + usize::from(folded.length > 0);
            if at > 0 {
                folded.text[at - 1] = b'.';
            }
            for (to, &byte) in folded.text.get_mut(at..at + label.len())?.iter_mut().zip(label) {
                if byte == b'.' {
                    return None;
                }
                ascii &= byte.is_ascii();
                *to = byte.to_ascii_lowercase();
            }
            folded.length = at + label.len();
            rest = after;
        }
        if !ascii {
            let text = fold(std::str::from_utf8(&folded.text[..folded.length]).ok()?).into_owned();
            folded.text.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
            folded.length = text.len();
        }
        Some(folded)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.length]).unwrap_or_default()
    }
}

/// A name's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) asked: Asked<'a>,
    /// In which of our domains it is: [`Settings::zones`].
    pub(crate) zone: usize,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    /// A name in none of our domains.
    Outside,
    /// The domain itself.
    Apex,
    /// In our domain, but of no known form, or in another datacenter.
    Nothing,
    /// A node by its name, which may hold dots.
    Node(&'a str),
    /// A service, perhaps only its instances with a tag, which may hold dots.
    Service { name: &'a str, tag: Option<&'a str> },
    /// A prepared query by its name, which may hold dots, or its id.
    Query(&'a str),
    /// An address written in the name.
    Address(IpAddr),
    /// A name for an address; `None` if the name holds no address.
    Reverse(Option<IpAddr>),
}

/// Says what a folded name asks for. The type matters only for `_service._tag` without `.service`.
pub(crate) fn parse<'a>(name: &'a str, asked_kind: u16, settings: &Settings) -> Target<'a> {
    if let Some(zone) = settings.zone_of(name) {
        let domain = settings.zones[zone].text.len();
        let asked = match name.len().checked_sub(domain + 1) {
            None => Asked::Apex,
            Some(end) => inside(&name[..end], asked_kind, &settings.datacenter),
        };
        return Target { asked, zone };
    }
    let asked = match name.strip_suffix(".in-addr.arpa").map(reverse_v4) {
        Some(address) => Asked::Reverse(address),
        None => name.strip_suffix(".ip6.arpa").map(reverse_v6).map_or(Asked::Outside, Asked::Reverse),
    };
    Target { asked, zone: 0 }
}

/// The word that says what kind of thing is named is the first known one from the right; to its left stands the name,
/// to its right where to look.
fn inside<'a>(name: &'a str, asked_kind: u16, datacenter: &str) -> Asked<'a> {
    let mut rest = name;
    loop {
        let (left, label) = rest.rsplit_once('.').unwrap_or(("", rest));
        let locality = name[rest.len()..].trim_start_matches('.');
        match label {
            "service" if here(locality, datacenter) => return service(left),
            "node" if here(locality, datacenter) && !left.is_empty() => return Asked::Node(left),
            "addr" if !locality.contains('.') => return hexadecimal(left).map_or(Asked::Nothing, Asked::Address),
            "query" if here(locality, datacenter) && !left.is_empty() => return Asked::Query(query(left)),
            // The mesh's names are never ours.
            "service" | "node" | "addr" | "query" | "connect" | "virtual" | "ingress" => return Asked::Nothing,
            _ if left.is_empty() => break,
            _ => rest = left,
        }
    }
    match after_two_labels(name) {
        Some((pair, locality)) if asked_kind == kind::SRV && here(locality, datacenter) => {
            rfc2782(pair).unwrap_or(Asked::Nothing)
        }
        _ => Asked::Nothing,
    }
}

/// Whether a look-up goes to our datacenter: nothing is said, or its name.
fn here(locality: &str, datacenter: &str) -> bool {
    locality.is_empty() || locality == datacenter
}

/// `_service._tag` with what follows it.
fn after_two_labels(name: &str) -> Option<(&str, &str)> {
    let first = name.find('.')?;
    match name[first + 1..].find('.') {
        Some(second) => Some((&name[..first + 1 + second], &name[first + second + 2..])),
        None => Some((name, "")),
    }
}

/// `[<tag>.]<service>`, or `_<service>._<tag>`.
fn service(left: &str) -> Asked<'_> {
    if left.is_empty() {
        return Asked::Nothing;
    }
    rfc2782(left).unwrap_or_else(|| match left.rsplit_once('.') {
        Some((tag, name)) => Asked::Service { name, tag: Some(tag) },
        None => Asked::Service { name: left, tag: None },
    })
}

/// `<name>`, or `_<name>._tcp`.
fn query(left: &str) -> &str {
    let pair = left.split_once('.').filter(|(_, protocol)| *protocol == "_tcp");
    pair.and_then(|(name, _)| name.strip_prefix('_')).filter(|name| !name.is_empty()).unwrap_or(left)
}

/// `_tcp` is no tag, anything else is, `_udp` included.
fn rfc2782(pair: &str) -> Option<Asked<'_>> {
    let (name, tag) = pair.split_once('.')?;
    let (name, tag) = (name.strip_prefix('_')?, tag.strip_prefix('_')?);
    if name.is_empty() || tag.contains('.') {
        return None;
    }
    Some(Asked::Service { name, tag: (tag != "tcp").then_some(tag) })
}

/// 8 digits are an IPv4 address, 32 an IPv6 one.
fn hexadecimal(text: &str) -> Option<IpAddr> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match text.len() {
        8 => u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        32 => u128::from_str_radix(text, 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into()),
        _ => None,
    }
}

fn reverse_v4(name: &str) -> Option<IpAddr> {
    let mut octets = [0; 4];
    let mut labels = name.split('.');
    for octet in octets.iter_mut().rev() {
        *octet = labels.next()?.parse().ok()?;
    }
    labels.next().is_none().then(|| Ipv4Addr::from(octets).into())
}

fn reverse_v6(name: &str) -> Option<IpAddr> {
    let mut bits = 0;
    let mut labels = name.split('.');
    for place in 0..32 {
        let [digit] = labels.next()?.as_bytes() else { return None };
        bits |= u128::from(char::from(*digit).to_digit(16)?) << (4 * place);
    }
    labels.next().is_none().then(|| Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::wire::Name;

    fn settings() -> Settings {
        let config = Config { alt_domain: Some("other.consul.".to_owned()), ..Config::default() };
        Settings::new(&config).expect("a good configuration")
    }

    fn ask(name: &str, asked_kind: u16) -> (Asked<'static>, usize) {
        let wire = Name::parse(name).expect("a name");
        let folded = Folded::new(wire.wire()).expect("text");
        let text: &'static str = Box::leak(folded.as_str().to_owned().into_boxed_str());
        let target = parse(text, asked_kind, &settings());
        (target.asked, target.zone)
    }

    fn service(name: &'static str, tag: Option<&'static str>) -> Asked<'static> {
        Asked::Service { name, tag }
    }

    #[test]
    fn names_mean_what_consul_means_by_them() {
        let v4 = |text: &str| text.parse::<IpAddr>().expect("an address");
        for (name, asked) in [
            ("consul", Asked::Apex),
            ("Web.Service.CONSUL", service("web", None)),
            ("web.service.dc1.consul", service("web", None)),
            ("web.service.DC1.dc.consul", Asked::Nothing),
            ("web.service.dc2.consul", Asked::Nothing),
            ("web.service.dc1.extra.consul", Asked::Nothing),
            ("v1.web.service.consul", service("web", Some("v1"))),
            ("a.b.web.service.consul", service("web", Some("a.b"))),
            ("_web._tcp.service.consul", service("web", None)),
            ("_web._udp.service.dc1.consul", service("web", Some("udp"))),
            ("_web._v1.service.consul", service("web", Some("v1"))),
            ("_web.service.consul", service("_web", None)),
            ("service.consul", Asked::Nothing),
            ("node.service.consul", service("node", None)),
            ("n1.node.consul", Asked::Node("n1")),
            ("a.b.c.node.dc1.consul", Asked::Node("a.b.c")),
            ("node.consul", Asked::Nothing),
            ("service.node.consul", Asked::Node("service")),
            ("cb00718d.addr.consul", Asked::Address(v4("203.0.113.141"))),
            ("CB00718D.addr.dc2.consul", Asked::Address(v4("203.0.113.141"))),
            ("cb00718d.addr.a.b.consul", Asked::Nothing),
            ("20010db8000000000000000000000141.addr.consul", Asked::Address(v4("2001:db8::141"))),
            ("cb0071.addr.consul", Asked::Nothing),
            ("+b00718d.addr.consul", Asked::Nothing),
            ("x.cb00718d.addr.consul", Asked::Nothing),
            ("x.query.consul", Asked::Query("x")),
            ("a.b.query.dc1.consul", Asked::Query("a.b")),
            ("_x._tcp.query.consul", Asked::Query("x")),
            ("_x._udp.query.consul", Asked::Query("_x._udp")),
            ("x.query.dc2.consul", Asked::Nothing),
            ("query.consul", Asked::Nothing),
            ("x.connect.consul", Asked::Nothing),
            ("web.consul", Asked::Nothing),
            ("notconsul", Asked::Outside),
            ("consul.example.com", Asked::Outside),
            ("4.3.2.1.in-addr.arpa", Asked::Reverse(Some(v4("1.2.3.4")))),
            ("3.2.1.in-addr.arpa", Asked::Reverse(None)),
            ("5.4.3.2.1.in-addr.arpa", Asked::Reverse(None)),
            ("junk.ip6.arpa", Asked::Reverse(None)),
        ] {
            assert_eq!(ask(name, kind::A), (asked, 0), "{name}");
        }
    }

    #[test]
    fn the_service_label_may_be_left_out_only_for_srv() {
        assert_eq!(ask("_web._tcp.consul", kind::SRV).0, service("web", None));
        assert_eq!(ask("_web._v1.dc1.consul", kind::SRV).0, service("web", Some("v1")));
        assert_eq!(ask("_web._tcp.dc2.consul", kind::SRV).0, Asked::Nothing);
        assert_eq!(ask("_web._tcp.consul", kind::A).0, Asked::Nothing);
        assert_eq!(ask("web.tcp.consul", kind::SRV).0, Asked::Nothing);
    }

    #[test]
    fn the_longest_domain_counts() {
        assert_eq!(ask("web.service.other.consul", kind::A), (service("web", None), 1));
        assert_eq!(ask("other.consul", kind::A), (Asked::Apex, 1));
    }

    #[test]
    fn ip6_names_are_read_from_the_right() {
        let name = "1.5.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.IP6.arpa";
        assert_eq!(ask(name, kind::PTR).0, Asked::Reverse("2001:db8::151".parse().ok()));
    }

    #[test]
    fn names_that_can_be_nobodys_are_refused() {
        assert!(Folded::new(b"\x03a.b\x06consul\0").is_none());
        assert!(Folded::new(b"\x02\xff\xfe\x06consul\0").is_none());
        assert_eq!(Folded::new("\u{4}\u{c4}\u{d6}\0".as_bytes()).expect("text").as_str(), "\u{e4}\u{f6}");
        assert_eq!(Folded::new(b"\0").expect("the root").as_str(), "");
    }
}
