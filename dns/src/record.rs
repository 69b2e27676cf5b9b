//! What a name holds.

use crate::config::Soa;
use crate::wire::{Name, kind};

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) owner: Name,
    pub(crate) ttl: u32,
    pub(crate) data: Data,
}

/// A record's data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Data {
    V4([u8; 4]),
    V6([u8; 16]),
    Ns(Name),
    Cname(Name),
    Ptr(Name),
    Txt(Vec<u8>),
    Srv { weight: u16, port: u16, target: Name },
    Soa { primary_server: Name, mailbox: Name, serial: u32, numbers: Soa },
}

impl Data {
    pub(crate) fn kind(&self) -> u16 {
        match self {
            Data::V4(_) => kind::A,
            Data::V6(_) => kind::AAAA,
            Data::Ns(_) => kind::NS,
            Data::Cname(_) => kind::CNAME,
            Data::Ptr(_) => kind::PTR,
            Data::Txt(_) => kind::TXT,
            Data::Srv { .. } => kind::SRV,
            Data::Soa { .. } => kind::SOA,
        }
    }
}
