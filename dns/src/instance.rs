//! What a row of the catalog is in DNS: whether an instance is told, where it points to, and a node's meta as text.

use muster_catalog::{Address, Health, Instance, Meta};

use crate::config::{Settings, Zone};
use crate::record::{Data, Record};
use crate::wire::{Name, Rcode, kind};

/// What is said where none of a service's instances is told: the name is there if one has the tag, whatever its health.
#[cold]
pub(crate) fn nobody<'i>(mut all: impl Iterator<Item = &'i Instance>, tag: Option<&str>, settings: &Settings) -> Rcode {
    let named = settings.nodata && all.any(|instance| has_tag(instance, tag));
    if named { Rcode::NoError } else { Rcode::NxDomain }
}

/// Whether an instance is told to askers: its health, and the tag if one is asked for.
pub(crate) fn is_told(instance: &Instance, tag: Option<&str>, settings: &Settings) -> bool {
    let usable = match instance.health {
        Health::Passing => true,
        Health::Warning => !settings.only_passing,
        Health::Critical => false,
    };
    usable && has_tag(instance, tag)
}

fn has_tag(instance: &Instance, tag: Option<&str>) -> bool {
    tag.is_none_or(|tag| instance.service.tags.iter().any(|has| is_tag(has, tag)))
}

/// `tag` comes folded out of a name.
fn is_tag(has: &str, tag: &str) -> bool {
    has.eq_ignore_ascii_case(tag) || !has.is_ascii() && has.to_lowercase() == tag
}

/// A port as SRV can tell it; what is out of its range is none.
pub(crate) fn port(instance: &Instance) -> u16 {
    u16::try_from(instance.service.port).unwrap_or(0)
}

/// What an SRV record of an instance points to.
pub(crate) struct Place {
    pub(crate) target: Name,
    /// Whether it is the node's own name.
    pub(crate) is_node: bool,
}

impl Place {
    /// The node if the service has no address of its own; else a name that spells the address, or the name that is the address.
    /// `None` if that is no name.
    pub(crate) fn of(instance: &Instance, zone: &Zone) -> Option<Self> {
        if let Address::Name(name) = instance.address() {
            return Name::parse(name).map(|target| Self { target, is_node: false });
        }
        // A node whose name DNS cannot write can still be reached by its address.
        let node = || zone.nodes.child(instance.node.node.as_str()).map(|target| Self { target, is_node: true });
        let spelled = || zone.addresses.child(&spell(instance.address())).map(|target| Self { target, is_node: false });
        if instance.service.address.is_empty() { node().or_else(spelled) } else { spelled() }
    }
}

/// An address in hexadecimal digits, for `.addr` names.
fn spell(address: &Address) -> String {
    match address {
        Address::V4(address) => format!("{:08x}", u32::from_be_bytes(*address)),
        Address::V6(address) => format!("{:032x}", u128::from_be_bytes(*address)),
        Address::Name(name) => name.to_string(),
    }
}

/// An address as data of a type, if it is of that type.
pub(crate) fn of_kind(address: &Address, asked_kind: u16) -> Option<Data> {
    match address {
        Address::V4(address) if asked_kind != kind::AAAA => Some(Data::V4(*address)),
        Address::V6(address) if asked_kind != kind::A => Some(Data::V6(*address)),
        _ => None,
    }
}

/// A node's meta as TXT records: `key=value` after RFC 1464, the value alone if the key begins with `rfc1035-`.
pub(crate) fn texts(owner: &Name, ttl: u32, meta: &Meta) -> impl Iterator<Item = Record> {
    meta.iter().map(move |(key, value)| Record { owner: owner.clone(), ttl, data: Data::Txt(text(key, value)) })
}

fn text(key: &str, value: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(key.len() + 1 + value.len());
    append_text(key, value, &mut text);
    text
}

/// Appends one pair of meta as a TXT record's text.
pub(crate) fn append_text(key: &str, value: &str, to: &mut Vec<u8>) {
    if key.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("rfc1035-")) {
        return to.extend_from_slice(value.as_bytes());
    }
    // RFC 1464: a grave accent quotes `=` and itself anywhere, blanks at either end.
    let inner = key.trim_matches([' ', '\t']);
    let leading = key.len() - key.trim_start_matches([' ', '\t']).len();
    for (at, byte) in key.bytes().enumerate() {
        let at_an_end = at < leading || at >= leading + inner.len();
        if matches!(byte, b'=' | b'`') || at_an_end {
            to.push(b'`');
        }
        to.push(byte);
    }
    to.push(b'=');
    for byte in value.bytes() {
        if byte == b'`' {
            to.push(b'`');
        }
        to.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_is_written_after_rfc_1464() {
        for (key, value, expected) in [
            ("rack", "r1", "rack=r1"),
            ("e=q", "v=w", "e`=q=v=w"),
            ("sp ace", "x y", "sp ace=x y"),
            (" edge ", "`", "` edge` =``"),
            ("rfc1035-txt", "raw text", "raw text"),
            ("RFC1035-", "", ""),
            ("k", "", "k="),
        ] {
            assert_eq!(String::from_utf8(text(key, value)).expect("text"), expected);
        }
    }
}
