//! Where this agent listens, and what it tells others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use muster_catalog::Meta;
use smol_str::SmolStr;

use super::{Meaning, text};
use crate::config::address::{Host, Listen, UnixPath, advertised, parse_ip, parse_listen};
use crate::config::fault::Fault;
use crate::config::file::ConfigFile;
use crate::config::read::Given;
use crate::config::settled::{Addresses, UnixSockets};
use crate::config::template::expand;
use crate::config::tree::At;

impl Meaning {
    /// Puts the addresses that templates give on this host in their place.
    pub(super) fn templates(&mut self, file: &mut ConfigFile, host: &Host) {
        let mut own = file.addresses.take().unwrap_or_default();
        for (key, given) in [
            ("bind_addr", &mut file.bind_addr),
            ("advertise_addr", &mut file.advertise_addr),
            ("advertise_addr_ipv4", &mut file.advertise_addr_ipv4),
            ("advertise_addr_ipv6", &mut file.advertise_addr_ipv6),
            ("advertise_addr_wan", &mut file.advertise_addr_wan),
            ("advertise_addr_wan_ipv4", &mut file.advertise_addr_wan_ipv4),
            ("advertise_addr_wan_ipv6", &mut file.advertise_addr_wan_ipv6),
            ("serf_lan", &mut file.serf_lan),
            ("serf_wan", &mut file.serf_wan),
        ] {
            self.template(key, given, 1, host);
        }
        for (key, given) in [
            ("client_addr", &mut file.client_addr),
            ("addresses.dns", &mut own.dns),
            ("addresses.http", &mut own.http),
            ("addresses.https", &mut own.https),
            ("addresses.grpc", &mut own.grpc),
            ("addresses.grpc_tls", &mut own.grpc_tls),
        ] {
            self.template(key, given, usize::MAX, host);
        }
        file.addresses = Some(own);
        let places = file.retry_join.take().into_iter().flatten();
        file.retry_join = Some(
            places
                .flat_map(|given| {
                    if !given.value.contains("{{") {
                        return vec![given];
                    }
                    let mut place = Some(given);
                    self.template("retry_join", &mut place, usize::MAX, host);
                    let each = |given: Given<String>| -> Vec<Given<String>> {
                        let one = |word: &str| Given { value: word.to_owned(), at: given.at.clone() };
                        given.value.split_whitespace().map(one).collect()
                    };
                    place.map(each).unwrap_or_default()
                })
                .collect(),
        );
    }

    /// A template that gives no address here, or too many, is a fault like any other; of another host's nobody knows.
    fn template(&mut self, key: &str, written: &mut Option<Given<String>>, most: usize, host: &Host) {
        let Some(given) = written.as_ref().filter(|given| given.value.contains("{{")) else { return };
        let found = match expand(&given.value, &host.interfaces) {
            Ok(text) => text,
            Err(wanted) => {
                self.bad_text(key, given, wanted);
                *written = None;
                return;
            }
        };
        let wanted = match found.split_whitespace().count() {
            0 => "gives no address on this host".to_owned(),
            count if count > most => {
                format!("gives several addresses ({found}), and one is needed: narrow it down, or end it with limit 1")
            }
            _ => {
                *written = Some(Given { value: found, at: given.at.clone() });
                return;
            }
        };
        if self.complete {
            self.bad_text(key, given, wanted);
        }
        *written = None;
    }

    /// A port; `None` is off.
    pub(super) fn port(&mut self, key: &str, given: &Option<Given<i64>>, default: u16) -> Option<u16> {
        let port = self.number(key, given, -1..=65_535, i32::from(default));
        u16::try_from(port).ok()
    }

    pub(super) fn ip(&mut self, key: &str, given: &Option<Given<String>>) -> Option<IpAddr> {
        let given = text(given)?;
        parse_ip(&given.value).map_err(|wanted| self.bad_text(key, given, wanted)).ok()
    }

    pub(super) fn addresses(&mut self, file: &ConfigFile, host: &Host) -> Addresses {
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
        let gossip = self.ip("serf_lan", &file.serf_lan).unwrap_or(bind);
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
            serf_lan: lan_port.map(|port| SocketAddr::new(gossip, port)),
            serf_wan: at(wan_port),
            unix_sockets: self.unix_sockets(file),
        };
        self.no_port_twice(&addresses, file);
        addresses
    }

    /// An address that others are told: never a wildcard.
    pub(super) fn told(&mut self, key: &str, given: &Option<Given<String>>) -> Option<IpAddr> {
        let ip = self.ip(key, given)?;
        if let (true, Some(given)) = (ip.is_unspecified(), given) {
            self.bad_text(key, given, "must be one address of this host: others cannot reach a wildcard");
            return None;
        }
        Some(ip)
    }

    pub(super) fn listen(
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
        let paths = match (unix, key) {
            (true, _) => UnixPath::Listener,
            (false, "client_addr") => UnixPath::Skipped,
            (false, _) => UnixPath::Refused,
        };
        match (parse_listen(given.map_or("127.0.0.1", |given| &given.value), port.unwrap_or_default(), paths), given) {
            // A port of -1 switches the listener off; a unix socket has none.
            (Ok(list), _) => list.into_iter().filter(|listen| port.is_some() || matches!(listen, Listen::Unix(_))).collect(),
            (Err(wanted), Some(given)) => {
                self.bad_text(key, given, wanted);
                Vec::new()
            }
            (Err(_), None) => Vec::new(),
        }
    }

    pub(super) fn unix_sockets(&mut self, file: &ConfigFile) -> UnixSockets {
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
    pub(super) fn no_port_twice(&mut self, addresses: &Addresses, file: &ConfigFile) {
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
}
