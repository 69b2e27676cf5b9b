//! What an answer is made from, how long it may be, and what is told of it afterwards.

use std::net::IpAddr;

use muster_catalog::State;

use crate::config::Settings;
use crate::elsewhere::Told;
use crate::question::{Head, Query};
use crate::wire::{PLAIN_BYTES_MAX, Rcode, flag, kind};

/// The longest answer over TCP that Consul sends: a message and its length in 65,535 bytes, with some room.
pub(crate) const TCP_BYTES_MAX: usize = 65_523;
/// The longest answer over UDP: what an IPv4 datagram holds, with room for IPv6's head and options.
pub(crate) const UDP_BYTES_MAX: usize = 65_467;
/// The longest answer to addresses that may be forged from afar: what passes every path unfragmented (DNS flag day 2020).
pub(crate) const UDP_BYTES_MAX_AFAR: usize = 1232;

/// Extended error (RFC 8914): the answer is what was known when somebody could last be asked.
const STALE_ANSWER: u16 = 3;
/// The same of a name that did not exist then.
const STALE_NXDOMAIN: u16 = 19;

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// By UDP from loopback or a private network.
    UdpNear,
    /// By UDP from anywhere else.
    UdpAfar,
    /// Over a connection.
    Tcp,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) transport: Transport,
    /// Where from; `None` if the system did not say.
    pub(crate) address: Option<IpAddr>,
}

/// What an answer may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes of the whole message.
    pub(crate) bytes: usize,
    /// Answers on a service because the asker speaks plain UDP.
    pub(crate) plain_answers: Option<usize>,
}

impl Bounds {
    /// What the asker takes, and what its way allows.
    pub(crate) fn new(query: &Query<'_>, transport: Transport, settings: &Settings) -> Self {
        let (bytes, plain_answers) = match (transport, query.edns) {
            (Transport::Tcp, _) => (TCP_BYTES_MAX, None),
            (_, None) => (PLAIN_BYTES_MAX, Some(settings.udp_answers)),
            (Transport::UdpNear, Some(edns)) => (edns.bytes_max().min(UDP_BYTES_MAX), None),
            (Transport::UdpAfar, Some(edns)) => (edns.bytes_max().min(UDP_BYTES_MAX_AFAR), None),
        };
        Self { bytes, plain_answers }
    }
}

/// What is seen by all queries of a batch.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) state: &'a State,
    pub(crate) settings: &'a Settings,
    /// Seconds since 1970, for the SOA's serial.
    pub(crate) now: u32,
    /// Whether nobody vouches for the rows: answers say so to who uses EDNS.
    pub(crate) stale: bool,
    /// Whether the rows are too old to answer from.
    pub(crate) too_old: bool,
    /// What other name servers said of names outside our domains.
    pub(crate) told: &'a Told,
}

impl View<'_> {
    /// What an answer says of its age, as an extended error.
    pub(crate) fn extended(&self, rcode: Rcode, authoritative: bool) -> Option<u16> {
        let stale = if matches!(rcode, Rcode::NxDomain) { STALE_NXDOMAIN } else { STALE_ANSWER };
        (self.stale && authoritative).then_some(stale)
    }

    /// The flags of an answer.
    pub(crate) fn flags(&self, head: Head, rcode: Rcode, authoritative: bool, truncated: bool) -> u16 {
        let mut flags = flag::RESPONSE | head.flags & (flag::OPCODE | flag::RECURSION_DESIRED) | rcode as u16 & 0xf;
        if authoritative {
            flags |= flag::AUTHORITATIVE;
        }
        if truncated {
            flags |= flag::TRUNCATED;
        }
        if self.settings.recursion {
            flags |= flag::RECURSION_AVAILABLE;
        }
        flags
    }
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Bytes of the answer; 0 is none.
    pub(crate) bytes: usize,
    pub(crate) tally: Tally,
}

impl Answered {
    /// An answer to a question of that type.
    pub(crate) fn new(bytes: usize, asked_kind: u16, trimmed: bool) -> Self {
        Self { bytes, tally: if trimmed { Tally::Trimmed(asked_kind) } else { Tally::Whole(asked_kind) } }
    }
}

/// What there is to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tally {
    /// Answered: the type asked for.
    Whole(u16),
    /// Answered with less than there is.
    Trimmed(u16),
    /// No query, or a broken one.
    Malformed,
    /// Not answered: it needs what is not here.
    Beyond,
}

/// Whether a type is answered with addresses.
pub(crate) fn wants_addresses(asked_kind: u16) -> bool {
    matches!(asked_kind, kind::A | kind::AAAA | kind::ANY)
}
