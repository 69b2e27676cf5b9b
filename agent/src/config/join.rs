//! Where other agents are looked for: what may stand in `retry_join` and behind `muster join`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::names::is_label;

/// Longest DNS name in text (RFC 1035 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// A place to look for other agents.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JoinAddress {
    /// One address; without a port, at this agent's own port of gossip.
    Address(IpAddr, Option<u16>),
    /// A host name: every address that it has.
    Host(String, Option<u16>),
    /// A name such as `_muster._tcp.example.com`: every host and port that its SRV records name.
    Service(String),
}

impl JoinAddress {
    /// Reads `10.0.0.1`, `10.0.0.1:8301`, `[2001:db8::1]:8301`, `host.example:8301` or `_muster._tcp.example`.
    /// The error says what would be right.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("provider=") {
            return Err(
                "looking agents up at a cloud is not offered: write addresses, or a DNS name that has them (A, AAAA or SRV)"
                    .to_owned(),
            );
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Address(address.ip(), Some(address.port())));
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<Ipv6Addr>() {
            return Ok(Self::Address(ip.into(), None));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Address(ip, None));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => match port.parse::<u16>() {
                Ok(port) if port > 0 => (name, Some(port)),
                _ => return Err("must end in a port from 1 to 65535, or in none".to_owned()),
            },
            None => (text, None),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let labels = || name.split('.');
        if name.len() > NAME_BYTES_MAX || !labels().all(|label| is_label(&label.replace('_', "-"))) {
            return Err("must be an address, a host name or an SRV name, with or without a port".to_owned());
        }
        // `10.0.0` and `300.1.2.3` are mistakes, not names.
        if labels().all(|label| label.bytes().all(|b| b.is_ascii_digit())) {
            return Err("is no whole IP address".to_owned());
        }
        match (is_service(&name), port) {
            (true, None) => Ok(Self::Service(name)),
            (true, Some(_)) => Err("is an SRV name, whose records say the ports: leave the port away".to_owned()),
            (false, port) => Ok(Self::Host(name, port)),
        }
    }
}

/// Whether a name has the form of RFC 2782: `_service._proto.name`.
fn is_service(name: &str) -> bool {
    let mut labels = name.split('.');
    let (service, protocol) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    service.starts_with('_') && matches!(protocol, "_tcp" | "_udp") && labels.next().is_some()
}

impl fmt::Display for JoinAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip, Some(port)) => SocketAddr::new(*ip, *port).fmt(f),
            Self::Address(ip, None) => ip.fmt(f),
            Self::Host(name, Some(port)) => write!(f, "{name}:{port}"),
            Self::Host(name, None) | Self::Service(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hosts_and_srv_names_are_told_apart() {
        let v4 = IpAddr::from([10, 0, 0, 1]);
        let v6 = "2001:db8::1".parse().unwrap();
        let host = |name: &str, port| JoinAddress::Host(name.to_owned(), port);
        for (text, expected) in [
            ("10.0.0.1", JoinAddress::Address(v4, None)),
            ("10.0.0.1:7", JoinAddress::Address(v4, Some(7))),
            ("2001:db8::1", JoinAddress::Address(v6, None)),
            ("[2001:db8::1]", JoinAddress::Address(v6, None)),
            ("[2001:db8::1]:7", JoinAddress::Address(v6, Some(7))),
            ("Servers.Example.", host("servers.example", None)),
            ("node_1:8301", host("node_1", Some(8301))),
            ("_muster._tcp.example", JoinAddress::Service("_muster._tcp.example".to_owned())),
            ("_muster._tcp", host("_muster._tcp", None)),
        ] {
            let read = JoinAddress::parse(text).unwrap();
            assert_eq!(read, expected, "{text}");
            assert_eq!(JoinAddress::parse(&read.to_string()).unwrap(), read, "{text}");
        }
    }

    #[test]
    fn what_is_none_of_them_is_refused_with_what_would_be_right() {
        for (text, expected) in [
            ("", "must be an address"),
            ("not a host", "must be an address"),
            ("http://a:1", "must be an address"),
            ("provider=aws tag_key=x", "looking agents up at a cloud is not offered"),
            ("{{ GetPrivateIP }}", "must be an address"), // evaluated before
            ("a:0", "from 1 to 65535"),
            ("a:70000", "from 1 to 65535"),
            ("a:b", "from 1 to 65535"),
            ("300.1.2.3", "no whole IP address"),
            ("_muster._tcp.example:1", "leave the port away"),
        ] {
            let error = JoinAddress::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(JoinAddress::parse(&"a.".repeat(10_000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_prints_back(text in "[a-z0-9_.:\\[\\]=-]{0,40}") {
            if let Ok(read) = JoinAddress::parse(&text) {
                proptest::prop_assert_eq!(JoinAddress::parse(&read.to_string()), Ok(read));
            }
        }
    }
}
