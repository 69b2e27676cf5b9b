//! Addresses: what may be written for one, and which of the host's own is told to others.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::interface::{Interface, interfaces};

/// A place where HTTP is listened for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Listen {
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// What the meaning of a configuration takes from the machine it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Its name.
    pub(crate) name: String,
    /// Its addresses, with the interface of each.
    pub(crate) interfaces: Vec<Interface>,
}

impl Host {
    /// This machine.
    pub(crate) fn this() -> Self {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { name, interfaces: interfaces() }
    }

    /// A machine of that name with one interface: for tests.
    #[cfg(test)]
    pub(crate) fn with(name: &str, interface: &str, net: &str) -> Self {
        Self { name: name.to_owned(), interfaces: vec![Interface::new(interface, net)] }
    }
}

/// Reads one address. The error says what would be right.
pub(super) fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "must be an IP address".to_owned())
}

/// What a `unix://` path in a list of addresses is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnixPath {
    /// A listener.
    Listener,
    /// Somebody else's in a shared list.
    Skipped,
    /// A mistake.
    Refused,
}

/// Reads a list of addresses between blanks.
pub(super) fn parse_listen(text: &str, port: u16, unix: UnixPath) -> Result<Vec<Listen>, String> {
    let mut list = Vec::new();
    for part in text.split_whitespace() {
        match (part.strip_prefix("unix://"), unix) {
            (None, _) => list.push(Listen::Tcp(SocketAddr::new(parse_ip(part)?, port))),
            (Some(_), UnixPath::Refused) => {
                return Err("must be an IP address: a unix socket is possible for HTTP only".to_owned());
            }
            (Some(path), _) if !path.starts_with('/') => {
                return Err("a unix socket must be written as unix:// and an absolute path".to_owned());
            }
            (Some(path), UnixPath::Listener) => list.push(Listen::Unix(PathBuf::from(path))),
            (Some(_), UnixPath::Skipped) => {}
        }
    }
    if list.is_empty() && unix != UnixPath::Skipped {
        return Err("must be an IP address, or several with blanks between".to_owned());
    }
    Ok(list)
}

/// The address to tell others when `bind` is a wildcard: the one private IPv4 address, or the one global IPv6 address.
/// The error says what was found.
pub(super) fn advertised(bind: IpAddr, host: &Host) -> Result<IpAddr, String> {
    if !bind.is_unspecified() {
        return Ok(bind);
    }
    let of = |fits: fn(IpAddr) -> bool| host.interfaces.iter().filter(|one| fits(one.ip())).collect();
    let (kind, candidates): (&str, Vec<&Interface>) = match bind {
        IpAddr::V4(_) => ("private IPv4", of(is_private)),
        IpAddr::V6(_) => ("global IPv6", of(is_global_v6)),
    };
    match candidates.as_slice() {
        [] => Err(format!("this host has no {kind} address to tell others: set advertise_addr or bind_addr")),
        [one] => Ok(one.ip()),
        several => {
            let shown: Vec<String> = several.iter().map(|one| format!("{} ({})", one.ip(), one.name)).collect();
            Err(format!("this host has several {kind} addresses: {}; set advertise_addr or bind_addr to one", shown.join(", ")))
        }
    }
}

/// RFC 1918, and RFC 6598 as Consul has it.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || (ip & Ipv4Addr::new(255, 192, 0, 0)) == Ipv4Addr::new(100, 64, 0, 0),
        IpAddr::V6(_) => false,
    }
}

fn is_global_v6(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local() && !ip.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(addresses: &[&str]) -> Host {
        let interfaces = addresses.iter().enumerate().map(|(n, ip)| Interface::new(&format!("eth{n}"), ip)).collect();
        Host { name: "h".to_owned(), interfaces }
    }

    fn advertise(bind: &str, addresses: &[&str]) -> Result<String, String> {
        advertised(bind.parse().unwrap(), &host(addresses)).map(|ip| ip.to_string())
    }

    #[test]
    fn a_wildcard_tells_the_one_private_address() {
        assert_eq!(advertise("0.0.0.0", &["127.0.0.1", "10.1.2.3", "203.0.113.1"]), Ok("10.1.2.3".to_owned()));
        assert_eq!(advertise("0.0.0.0", &["127.0.0.1", "100.64.0.9"]), Ok("100.64.0.9".to_owned()));
        assert_eq!(advertise("192.168.1.1", &[]), Ok("192.168.1.1".to_owned()));
        assert_eq!(advertise("::", &["::1", "fe80::1", "2001:db8::1"]), Ok("2001:db8::1".to_owned()));
        assert_eq!(
            advertise("0.0.0.0", &["10.0.0.1", "172.17.0.1"]).unwrap_err(),
            "this host has several private IPv4 addresses: 10.0.0.1 (eth0), 172.17.0.1 (eth1); set advertise_addr or bind_addr to one"
        );
        assert_eq!(
            advertise("0.0.0.0", &["203.0.113.1"]).unwrap_err(),
            "this host has no private IPv4 address to tell others: set advertise_addr or bind_addr"
        );
    }

    #[test]
    fn listeners_are_lists_and_files() {
        assert_eq!(
            parse_listen("127.0.0.1  [::1] unix:///run/m.sock", 8500, UnixPath::Listener).unwrap(),
            [
                Listen::Tcp("127.0.0.1:8500".parse().unwrap()),
                Listen::Tcp("[::1]:8500".parse().unwrap()),
                Listen::Unix("/run/m.sock".into())
            ]
        );
        for bad in ["", "localhost", "{{ GetPrivateIP }}", "unix://x"] {
            assert!(parse_listen(bad, 1, UnixPath::Listener).is_err(), "{bad}");
        }
        assert!(parse_listen("unix:///x", 1, UnixPath::Refused).is_err());
        assert_eq!(parse_listen("unix:///x 127.0.0.1", 1, UnixPath::Skipped).unwrap().len(), 1);
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        let host = Host::this();
        assert!(!host.name.is_empty());
        assert!(host.interfaces.iter().any(|one| one.ip().is_loopback()), "{host:?}");
    }
}
