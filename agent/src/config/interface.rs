//! The network interfaces of this host, as address templates see them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    /// The interface's name.
    pub(crate) name: String,
    /// The address, with the length of its network's prefix.
    pub(crate) net: IpNet,
    /// `IFF_*`.
    pub(crate) flags: u32,
    /// Whether the default route leaves by it.
    pub(crate) is_default: bool,
}

impl Interface {
    /// An interface that is up, with one address and nothing special about it: for tests.
    #[cfg(test)]
    pub(crate) fn new(name: &str, net: &str) -> Self {
        let net = net.parse().unwrap_or_else(|_| IpNet::from(net.parse::<IpAddr>().expect("an address or a network")));
        Self { name: name.to_owned(), net, flags: libc::IFF_UP as u32, is_default: false }
    }

    /// The address.
    pub(crate) fn ip(&self) -> IpAddr {
        self.net.addr()
    }

    /// Whether a flag of go-sockaddr's names holds for it; `None` for an unknown one.
    pub(super) fn has(&self, flag: &str) -> Option<bool> {
        let is = |bit: libc::c_int| self.flags & bit as u32 != 0;
        let ip = self.ip();
        Some(match flag {
            "up" => is(libc::IFF_UP),
            "down" => !is(libc::IFF_UP),
            "broadcast" => is(libc::IFF_BROADCAST),
            "loopback" => is(libc::IFF_LOOPBACK) || ip.is_loopback(),
            "multicast" => ip.is_multicast(),
            "point-to-point" => is(libc::IFF_POINTOPOINT),
            "unspecified" => ip.is_unspecified(),
            "forwardable" => !is_within(ip, NOT_FORWARDED),
            "link-local unicast" => is_within(ip, &["169.254.0.0/16", "fe80::/10"]),
            "link-local multicast" => is_within(ip, &["224.0.0.0/24", "ff02::/16"]),
            "interface-local multicast" => is_within(ip, &["ff01::/16"]),
            "global unicast" => {
                let local = is_within(ip, &["169.254.0.0/16", "fe80::/10"]);
                !local && !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
            }
            _ => return None,
        })
    }

    /// Whether it lies in a network of that RFC; `None` for an unknown one.
    pub(super) fn is_of_rfc(&self, rfc: &str) -> Option<bool> {
        let nets: &[&str] = match rfc {
            "1112" => &["224.0.0.0/4"],
            "1918" => &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
            "2544" => &["198.18.0.0/15"],
            "3927" => &["169.254.0.0/16"],
            "4193" => &["fc00::/7"],
            "5737" => &["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"],
            "6598" => &["100.64.0.0/10"],
            "6890" => SPECIAL,
            _ => return None,
        };
        Some(is_within(self.ip(), nets))
    }
}

/// Networks for special purposes (RFC 6890): everything else is public.
const SPECIAL: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "64:ff9b::/96",
    "::ffff:0:0/96",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
];

/// Those of them that no router passes on.
const NOT_FORWARDED: &[&str] = &[
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "2001:db8::/32",
    "fe80::/10",
];

fn is_within(ip: IpAddr, nets: &[&str]) -> bool {
    nets.iter().filter_map(|net| net.parse::<IpNet>().ok()).any(|net| net.contains(&ip))
}

/// The addresses of all interfaces; empty if the system does not tell.
pub(super) fn interfaces() -> Vec<Interface> {
    let mut list = Vec::new();
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let default: Vec<&str> = routes.lines().filter_map(by_default).collect();
    // SAFETY: getifaddrs fills `first` with a list that is ours until freeifaddrs; each entry is read only while the list
    // lives, names are C strings, and an address is read as the type its family says.
    #[allow(unsafe_code)] // no crate of the house wraps getifaddrs
    unsafe {
        let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
        if libc::getifaddrs(&raw mut first) != 0 {
            return list;
        }
        let mut entry = first;
        while let Some(interface) = entry.as_ref() {
            let name = std::ffi::CStr::from_ptr(interface.ifa_name).to_string_lossy().into_owned();
            if let Some(ip) = address(interface.ifa_addr) {
                let mask = address(interface.ifa_netmask).and_then(|mask| ipnet::ip_mask_to_prefix(mask).ok());
                let whole = if ip.is_ipv4() { 32 } else { 128 };
                if let Ok(net) = IpNet::new(ip, mask.unwrap_or(whole)) {
                    let is_default = default.contains(&name.as_str());
                    list.push(Interface { is_default, net, flags: interface.ifa_flags, name });
                }
            }
            entry = interface.ifa_next;
        }
        libc::freeifaddrs(first);
    }
    list
}

/// # Safety
///
/// `of` is null, or points to an address as large as its family says.
#[allow(unsafe_code)] // an address of the system's is read as the type its family says
unsafe fn address(of: *mut libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller promises it.
    unsafe {
        match i32::from(of.as_ref()?.sa_family) {
            libc::AF_INET => Some(IpAddr::from(of.cast::<libc::sockaddr_in>().read_unaligned().sin_addr.s_addr.to_ne_bytes())),
            libc::AF_INET6 => Some(IpAddr::from(of.cast::<libc::sockaddr_in6>().read_unaligned().sin6_addr.s6_addr)),
            _ => None,
        }
    }
}

/// The interface of a line of `/proc/net/route`, if it is the default route.
fn by_default(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    let (name, destination) = (words.next()?, words.next()?);
    let mask = words.nth(5)?;
    (destination == "00000000" && mask == "00000000").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_loopback_interface() {
        let list = interfaces();
        let lo = list.iter().find(|one| one.ip() == IpAddr::from([127, 0, 0, 1])).expect("127.0.0.1");
        assert_eq!(lo.net.prefix_len(), 8);
        assert!(lo.has("loopback") == Some(true) && lo.has("forwardable") == Some(false) && !lo.is_default);
    }

    #[test]
    fn addresses_are_of_their_kinds() {
        let of = |ip: &str| Interface::new("eth0", ip);
        assert_eq!(of("10.1.2.3").is_of_rfc("1918"), Some(true));
        assert_eq!(of("8.8.8.8").is_of_rfc("6890"), Some(false));
        assert_eq!(of("8.8.8.8").is_of_rfc("1"), None);
        assert_eq!((of("8.8.8.8").has("global unicast"), of("fe80::1").has("link-local unicast")), (Some(true), Some(true)));
        assert_eq!((of("8.8.8.8").has("up"), of("8.8.8.8").has("junk")), (Some(true), None));
        assert_eq!(by_default("eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0"), Some("eth0"));
        assert_eq!(by_default("eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0"), None);
        assert_eq!(by_default("Iface Destination"), None);
    }
}
