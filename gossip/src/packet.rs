//! A packet of foca in our own form, and its reading before foca sees it.

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};

use crate::identity::{IDENTITY_BYTES_MAX, Identity};
use crate::item::Item;
use crate::wire::{Malformed, Put, Reader};

/// How foca's headers and updates are written: fixed in width, but for IPv4 and IPv6.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codec;

/// Bytes of an update at most.
const UPDATE_BYTES_MAX: usize = IDENTITY_BYTES_MAX + 3;

impl foca::Codec<Identity> for Codec {
    type Error = Malformed;

    fn encode_header(&mut self, header: &Header<Identity>, mut to: impl BufMut) -> Result<(), Malformed> {
        if to.remaining_mut() < 3 * IDENTITY_BYTES_MAX + 4 {
            return Err(Malformed);
        }
        put_header(header, &mut to);
        Ok(())
    }

    fn decode_header(&mut self, from: impl Buf) -> Result<Header<Identity>, Malformed> {
        decode(from, read_header)
    }

    fn encode_member(&mut self, member: &Member<Identity>, mut to: impl BufMut) -> Result<(), Malformed> {
        if to.remaining_mut() < UPDATE_BYTES_MAX {
            return Err(Malformed);
        }
        put_update(member, &mut to);
        Ok(())
    }

    fn decode_member(&mut self, from: impl Buf) -> Result<Member<Identity>, Malformed> {
        decode(from, read_update)
    }
}

/// foca's buffers are one piece: what it does not promise in types, it does in words.
fn decode<T>(mut from: impl Buf, read: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>) -> Result<T, Malformed> {
    let mut reader = Reader::new(from.chunk());
    let before = reader.rest().len();
    let value = read(&mut reader)?;
    let taken = before - reader.rest().len();
    from.advance(taken);
    Ok(value)
}

/// A packet, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) header: Header<Identity>,
    pub(crate) updates: Vec<Member<Identity>>,
    pub(crate) items: Vec<Item>,
}

impl Packet {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let header = read_header(&mut from)?;
        let (mut updates, mut items) = (Vec::new(), Vec::new());
        if matches!(header.message, Message::Announce | Message::Broadcast) {
            return Err(Malformed); // neither is part of this protocol: admission comes before packets
        }
        if !from.is_empty() {
            for _ in 0..from.u16()? {
                updates.push(read_update(&mut from)?);
            }
        }
        while !from.is_empty() {
            items.extend(Item::decode(from.block()?)?);
        }
        Ok(Self { header, updates, items })
    }

    /// The packet with its items, as it travels.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = self.encode_for_foca();
        if self.updates.is_empty() && !self.items.is_empty() {
            to.put_u16(0);
        }
        for item in &self.items {
            to.put_block(&item.encode());
        }
        to
    }

    /// The packet as foca takes it, without items.
    pub(crate) fn encode_for_foca(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(256);
        put_header(&self.header, &mut to);
        if !self.updates.is_empty() {
            to.put_u16(u16::try_from(self.updates.len()).unwrap_or(u16::MAX));
            for update in self.updates.iter().take(u16::MAX.into()) {
                put_update(update, &mut to);
            }
        }
        to
    }
}

/// The sender's incarnation in a packet we made: foca tells its own nowhere else.
pub(crate) fn own_incarnation(packet: &[u8]) -> Option<u16> {
    let mut from = Reader::new(packet);
    Identity::read(&mut from).ok()?;
    from.u16().ok()
}

fn put_header(header: &Header<Identity>, to: &mut impl BufMut) {
    header.src.put(to);
    to.put_u16(header.src_incarnation);
    header.dst.put(to);
    let (tag, number, third) = match &header.message {
        Message::Ping(number) => (1, Some(*number), None),
        Message::Ack(number) => (2, Some(*number), None),
        Message::PingReq { target, probe_number } => (3, Some(*probe_number), Some(target)),
        Message::IndirectPing { origin, probe_number } => (4, Some(*probe_number), Some(origin)),
        Message::IndirectAck { target, probe_number } => (5, Some(*probe_number), Some(target)),
        Message::ForwardedAck { origin, probe_number } => (6, Some(*probe_number), Some(origin)),
        Message::Announce => (7, None, None),
        Message::Feed => (8, None, None),
        Message::Gossip => (9, None, None),
        Message::Broadcast => (10, None, None),
        Message::TurnUndead => (11, None, None),
    };
    to.put_u8(tag);
    if let Some(number) = number {
        to.put_u8(number);
    }
    if let Some(third) = third {
        third.put(to);
    }
}

fn read_header(from: &mut Reader<'_>) -> Result<Header<Identity>, Malformed> {
    let src = Identity::read(from)?;
    let src_incarnation = from.u16()?;
    let dst = Identity::read(from)?;
    let message = match from.u8()? {
        1 => Message::Ping(from.u8()?),
        2 => Message::Ack(from.u8()?),
        3 => {
            let probe_number = from.u8()?;
            Message::PingReq { target: Identity::read(from)?, probe_number }
        }
        4 => {
            let probe_number = from.u8()?;
            Message::IndirectPing { origin: Identity::read(from)?, probe_number }
        }
        5 => {
            let probe_number = from.u8()?;
            Message::IndirectAck { target: Identity::read(from)?, probe_number }
        }
        6 => {
            let probe_number = from.u8()?;
            Message::ForwardedAck { origin: Identity::read(from)?, probe_number }
        }
        7 => Message::Announce,
        8 => Message::Feed,
        9 => Message::Gossip,
        10 => Message::Broadcast,
        11 => Message::TurnUndead,
        _ => return Err(Malformed),
    };
    Ok(Header { src, src_incarnation, dst, message })
}

fn put_update(member: &Member<Identity>, to: &mut impl BufMut) {
    member.id().put(to);
    to.put_u16(member.incarnation());
    to.put_u8(match member.state() {
        State::Alive => 1,
        State::Suspect => 2,
        State::Down => 3,
    });
}

fn read_update(from: &mut Reader<'_>) -> Result<Member<Identity>, Malformed> {
    let id = Identity::read(from)?;
    let incarnation = from.u16()?;
    let state = match from.u8()? {
        1 => State::Alive,
        2 => State::Suspect,
        3 => State::Down,
        _ => return Err(Malformed),
    };
    Ok(Member::new(id, incarnation, state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn identity() -> impl Strategy<Value = Identity> {
        (any::<u128>(), any::<u64>(), any::<[u8; 4]>(), any::<[u8; 16]>(), any::<bool>(), any::<u16>()).prop_map(
            |(node, epoch, v4, v6, short, port)| {
                let ip: std::net::IpAddr = if short { v4.into() } else { v6.into() };
                Identity { node: Uuid::from_u128(node), epoch, addr: (ip, port).into() }
            },
        )
    }

    fn message() -> impl Strategy<Value = Message<Identity>> {
        (0..8u8, any::<u8>(), identity()).prop_map(|(tag, probe_number, third)| match tag {
            0 => Message::Ping(probe_number),
            1 => Message::Ack(probe_number),
            2 => Message::PingReq { target: third, probe_number },
            3 => Message::IndirectPing { origin: third, probe_number },
            4 => Message::IndirectAck { target: third, probe_number },
            5 => Message::ForwardedAck { origin: third, probe_number },
            6 => Message::Gossip,
            _ => Message::TurnUndead,
        })
    }

    proptest! {
        #[test]
        fn a_packet_comes_back(
            src in identity(), dst in identity(), src_incarnation in any::<u16>(), message in message(),
            updates in prop::collection::vec((identity(), any::<u16>(), 0..3u8), 0..20),
        ) {
            let state = |n| [State::Alive, State::Suspect, State::Down][usize::from(n)];
            let updates = updates.into_iter().map(|(id, incarnation, n)| Member::new(id, incarnation, state(n))).collect();
            let packet = Packet { header: Header { src, src_incarnation, dst, message }, updates, items: Vec::new() };
            let bytes = packet.encode_for_foca();
            prop_assert_eq!(own_incarnation(&bytes), Some(src_incarnation));
            prop_assert_eq!(Packet::decode(&bytes), Ok(packet));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1400)) {
            let _ = Packet::decode(&bytes);
        }
    }
}
