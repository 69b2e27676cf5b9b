//! Who a packet is from and for: a node's UUID, which of its lives, and where it is reached.

use std::net::{SocketAddr, SocketAddrV6};

use bytes::BufMut;
use uuid::Uuid;

use crate::wire::{Malformed, Put, Reader};

/// One life of a node at one address.
///
/// Of one UUID the greater epoch counts; the address breaks a tie, so that all agree. An epoch is the count of starts times 2^16,
/// plus the renewals of this run; one that was raised at admission (above what the cluster had seen) goes on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The node.
    pub node: Uuid,
    /// Which of its lives.
    pub epoch: u64,
    /// Where its gossip port is.
    pub addr: SocketAddr,
}

/// Bytes of an identity with an IPv6 address.
pub(crate) const IDENTITY_BYTES_MAX: usize = 16 + 8 + 1 + 16 + 2;

impl Identity {
    pub(crate) fn new(node: Uuid, epoch: u64, addr: SocketAddr) -> Self {
        Self { node, epoch, addr: plain(addr) }
    }

    /// Which run of the process: its lives share it.
    pub(crate) fn run(&self) -> u64 {
        self.epoch >> 16
    }

    pub(crate) fn put(&self, to: &mut impl BufMut) {
        to.put_uuid(self.node);
        to.put_u64(self.epoch);
        to.put_addr(self.addr);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { node: from.uuid()?, epoch: from.u64()?, addr: from.addr()? })
    }
}

/// An address as it travels: without flow and scope, which mean nothing elsewhere.
fn plain(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => addr,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => (v4, v6.port()).into(),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0).into(),
        },
    }
}

impl foca::Identity for Identity {
    type Addr = Uuid;

    /// Never by foca itself: the core renews, when it may (see `core::conflict`).
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> Uuid {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.epoch, self.addr) > (adversary.epoch, adversary.addr)
    }
}
