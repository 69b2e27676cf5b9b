//! What a node says about itself: its name, where it is reached, tags and metadata.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::{BufMut, Bytes};

use crate::wire::{Malformed, Put, Reader};

/// Most bytes of a record. Gossip is no place for documents: each member holds each record.
pub const RECORD_BYTES_MAX: usize = 8 * 1024;

/// Most pairs in tags and in metadata each, as Consul bounds node metadata.
pub const PAIRS_MAX: usize = 64;

/// Oldest form of the protocol that this version speaks.
pub const PROTOCOL_MIN: u8 = 3;
/// Newest form of the protocol that this version speaks.
pub const PROTOCOL_MAX: u8 = 3;

/// What a node says about itself. It alone changes this, and counts the changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The node's name.
    pub name: String,
    /// Its datacenter.
    pub datacenter: String,
    /// How often it changed its record in this life.
    pub version: u64,
    /// A random number of this run of the process: tells two holders of one UUID apart.
    pub boot: u64,
    /// The forms of the gossip protocol it speaks: oldest, newest.
    pub protocol: (u8, u8),
    /// Where its RPC port is, if it is a server.
    pub rpc: Option<u16>,
    /// The address it advertises inside its datacenter, where that is not the address of its gossip port.
    pub lan: Option<IpAddr>,
    /// The address it advertises to other datacenters.
    pub wan: Option<IpAddr>,
    /// Tags: role, versions, what servers expect.
    pub tags: BTreeMap<String, String>,
    /// What the operator wrote about the node.
    pub meta: BTreeMap<String, String>,
}

impl Record {
    /// The bytes of it, if they are not too many.
    pub(crate) fn encode(&self) -> Option<Bytes> {
        if self.tags.len() > PAIRS_MAX || self.meta.len() > PAIRS_MAX || self.name.len() > 255 || self.datacenter.len() > 255 {
            return None;
        }
        let mut bytes = Vec::with_capacity(256);
        bytes.put_text(&self.name);
        bytes.put_text(&self.datacenter);
        bytes.put_u64(self.version);
        bytes.put_u64(self.boot);
        bytes.put_u8(self.protocol.0);
        bytes.put_u8(self.protocol.1);
        bytes.put_u16(self.rpc.unwrap_or(0));
        bytes.put_some_ip(self.lan);
        bytes.put_some_ip(self.wan);
        for pairs in [&self.tags, &self.meta] {
            bytes.put_u8(u8::try_from(pairs.len()).ok()?);
            for (key, value) in pairs {
                bytes.put_text(key);
                bytes.put_text(value);
            }
        }
        (bytes.len() <= RECORD_BYTES_MAX).then(|| bytes.into())
    }

    /// Fields are only ever appended: what follows the last one known is of a newer version, and is passed on unread.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(Malformed);
        }
        let mut reader = Reader::new(bytes);
        let mut record = Self {
            name: reader.text()?,
            datacenter: reader.text()?,
            version: reader.u64()?,
            boot: reader.u64()?,
            protocol: (reader.u8()?, reader.u8()?),
            rpc: Some(reader.u16()?).filter(|port| *port > 0),
            lan: reader.some_ip()?,
            wan: reader.some_ip()?,
            ..Self::default()
        };
        if record.name.is_empty() || record.name.len() > 255 || record.datacenter.len() > 255 {
            return Err(Malformed);
        }
        for pairs in [&mut record.tags, &mut record.meta] {
            let count = reader.u8()?;
            if usize::from(count) > PAIRS_MAX {
                return Err(Malformed);
            }
            for _ in 0..count {
                pairs.insert(reader.text()?, reader.text()?);
            }
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            name: "web-1".into(),
            datacenter: "dc1".into(),
            version: 3,
            boot: 9,
            protocol: (1, 1),
            rpc: Some(8300),
            wan: Some("203.0.113.9".parse().expect("an address")),
            tags: [("role".to_owned(), "consul".to_owned())].into(),
            ..Record::default()
        }
    }

    #[test]
    fn a_record_comes_back_whole_also_from_a_newer_version() {
        let mut bytes = record().encode().expect("it is small").to_vec();
        assert_eq!(Record::decode(&bytes), Ok(record()));
        bytes.extend_from_slice(b"of a newer version");
        assert_eq!(Record::decode(&bytes), Ok(record()));
    }

    #[test]
    fn a_cut_record_is_none() {
        let bytes = record().encode().expect("it is small");
        for cut in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..cut]), Err(Malformed), "cut at {cut}");
        }
    }

    #[test]
    fn a_record_too_big_is_not_sent() {
        let meta = (0..10).map(|n| (n.to_string(), "x".repeat(1000))).collect();
        assert_eq!(Record { meta, ..record() }.encode(), None);
    }
}
