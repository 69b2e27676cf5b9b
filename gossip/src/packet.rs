//! A packet of foca in our own form, and its reading before foca sees it.

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use uuid::Uuid;

use crate::coordinate::Coordinate;
use crate::identity::{IDENTITY_BYTES_MAX, Identity};
use crate::item::Item;
use crate::wire::{Malformed, Put, Reader, hash};

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

/// What rides before foca's part of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Note {
    /// What the sender's list of the living is: on pings and acks.
    pub(crate) digest: Option<u64>,
    /// The receiver is suspected, in this incarnation: it hears so at once, and not only by gossip.
    pub(crate) suspected: Option<u16>,
    /// The sender was asked to ping that node, and has no answer from it: it is the node that is silent, not the sender.
    pub(crate) nack: Option<(Uuid, u8)>,
    /// Where the sender is, in the space of round trips: on acks.
    pub(crate) coordinate: Option<Coordinate>,
}

/// Whom a packet is for: shorter than an identity, since the receiver knows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// [`Target::hash_of`] the receiver.
    pub(crate) hash: u64,
    /// Which of its lives.
    pub(crate) epoch: u64,
}

impl Target {
    pub(crate) fn of(identity: &Identity) -> Self {
        Self { hash: Self::hash_of(identity), epoch: identity.epoch }
    }

    /// Of node and address, not of the life.
    pub(crate) fn hash_of(identity: &Identity) -> u64 {
        let mut bytes = [0; IDENTITY_BYTES_MAX];
        let mut rest = &mut bytes[..];
        rest.put_uuid(identity.node);
        rest.put_addr(identity.addr);
        let unused = rest.len();
        hash(&bytes[..IDENTITY_BYTES_MAX - unused])
    }
}

/// A packet, read whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packet {
    pub(crate) note: Note,
    pub(crate) src: Identity,
    pub(crate) src_incarnation: u16,
    pub(crate) to: Target,
    pub(crate) message: Message<Identity>,
    pub(crate) updates: Vec<Member<Identity>>,
    pub(crate) items: Vec<Item>,
}

impl Packet {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let note = read_note(&mut from)?;
        let (src, src_incarnation) = (Identity::read(&mut from)?, from.u16()?);
        let to = Target { hash: from.u64()?, epoch: from.u64()? };
        let message = read_message(&mut from)?;
        let (mut updates, mut items) = (Vec::new(), Vec::new());
        if matches!(message, Message::Announce | Message::Broadcast) {
            return Err(Malformed); // neither is part of this protocol: admission comes before packets
        }
        if !from.is_empty() {
            for _ in 0..from.u16()? {
                let update = read_update(&mut from)?;
                if update.state() == State::Suspect {
                    return Err(Malformed); // who is suspected is told by accusations, which say by whom
                }
                updates.push(update);
            }
        }
        while !from.is_empty() {
            items.extend(Item::decode(from.block()?)?);
        }
        Ok(Self { note, src, src_incarnation, to, message, updates, items })
    }

    /// The packet with its items, as it travels.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(256);
        put_note(&self.note, &mut to);
        self.src.put(&mut to);
        to.put_u16(self.src_incarnation);
        to.put_u64(self.to.hash);
        to.put_u64(self.to.epoch);
        put_message(&self.message, &mut to);
        self.put_updates(&mut to);
        if self.updates.is_empty() && !self.items.is_empty() {
            to.put_u16(0);
        }
        for item in &self.items {
            to.put_block(&item.encode());
        }
        to
    }

    /// The packet as foca takes it, without items: `me` is whom it is for.
    pub(crate) fn encode_for_foca(&self, me: Identity) -> Vec<u8> {
        let mut to = Vec::with_capacity(256);
        let header = Header { src: self.src, src_incarnation: self.src_incarnation, dst: me, message: self.message.clone() };
        put_header(&header, &mut to);
        self.put_updates(&mut to);
        to
    }

    fn put_updates(&self, to: &mut Vec<u8>) {
        if !self.updates.is_empty() {
            to.put_u16(u16::try_from(self.updates.len()).unwrap_or(u16::MAX));
            for update in self.updates.iter().take(u16::MAX.into()) {
                put_update(update, to);
            }
        }
    }
}

/// A packet that foca made, read as far as its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made<'a> {
    pub(crate) header: Header<Identity>,
    /// Updates and items, as they are.
    rest: &'a [u8],
}

impl<'a> Made<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let header = read_header(&mut from)?;
        Ok(Self { header, rest: from.rest() })
    }

    /// What foca would make where it has no update to tell.
    pub(crate) fn without_news(header: Header<Identity>) -> Self {
        Self { header, rest: &[0; 2] }
    }

    /// As it travels, with a note before it.
    pub(crate) fn travelling(&self, note: &Note) -> Vec<u8> {
        let mut to = Vec::with_capacity(self.rest.len() + 128);
        put_note(note, &mut to);
        self.header.src.put(&mut to);
        to.put_u16(self.header.src_incarnation);
        let target = Target::of(&self.header.dst);
        to.put_u64(target.hash);
        to.put_u64(target.epoch);
        put_message(&self.header.message, &mut to);
        to.extend_from_slice(self.rest);
        to
    }
}

const DIGEST: u8 = 1;
const SUSPECTED: u8 = 2;
const NACK: u8 = 4;
const COORDINATE: u8 = 8;

fn put_note(note: &Note, to: &mut Vec<u8>) {
    let bit = |there: bool, bit: u8| if there { bit } else { 0 };
    let bits = [
        bit(note.digest.is_some(), DIGEST),
        bit(note.suspected.is_some(), SUSPECTED),
        bit(note.nack.is_some(), NACK),
        bit(note.coordinate.is_some(), COORDINATE),
    ];
    to.push(bits.into_iter().sum());
    if let Some(digest) = note.digest {
        to.put_u64(digest);
    }
    if let Some(incarnation) = note.suspected {
        to.put_u16(incarnation);
    }
    if let Some((node, number)) = note.nack {
        to.put_uuid(node);
        to.push(number);
    }
    if let Some(coordinate) = note.coordinate {
        coordinate.put(to);
    }
}

fn read_note(from: &mut Reader<'_>) -> Result<Note, Malformed> {
    let bits = from.u8()?;
    if bits & !(DIGEST | SUSPECTED | NACK | COORDINATE) != 0 {
        return Err(Malformed);
    }
    Ok(Note {
        digest: if bits & DIGEST != 0 { Some(from.u64()?) } else { None },
        suspected: if bits & SUSPECTED != 0 { Some(from.u16()?) } else { None },
        nack: if bits & NACK != 0 { Some((from.uuid()?, from.u8()?)) } else { None },
        coordinate: if bits & COORDINATE != 0 { Some(Coordinate::read(from)?) } else { None },
    })
}

fn put_header(header: &Header<Identity>, to: &mut impl BufMut) {
    header.src.put(to);
    to.put_u16(header.src_incarnation);
    header.dst.put(to);
    put_message(&header.message, to);
}

fn put_message(message: &Message<Identity>, to: &mut impl BufMut) {
    let (tag, number, third) = match message {
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
    Ok(Header { src, src_incarnation, dst, message: read_message(from)? })
}

fn read_message(from: &mut Reader<'_>) -> Result<Message<Identity>, Malformed> {
    Ok(match from.u8()? {
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
    })
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
            digest in any::<Option<u64>>(), suspected in any::<Option<u16>>(), nack in any::<Option<(u128, u8)>>(),
            place in any::<Option<[f32; 11]>>(), src in identity(), dst in identity(), src_incarnation in any::<u16>(), message in message(),
            updates in prop::collection::vec((identity(), any::<u16>(), 0..2u8), 0..20),
        ) {
            let state = |n| [State::Alive, State::Down][usize::from(n)];
            let updates = updates.into_iter().map(|(id, incarnation, n)| Member::new(id, incarnation, state(n))).collect();
            let coordinate = place.map(|place| place.map(|number| f64::from(if number.is_nan() { 0.0 } else { number })));
            let coordinate = coordinate.map(|place| Coordinate {
                vec: std::array::from_fn(|n| place[n]), error: place[8], adjustment: place[9], height: place[10],
            });
            let nack = nack.map(|(node, number)| (Uuid::from_u128(node), number));
            let note = Note { digest, suspected, nack, coordinate };
            let to = Target::of(&dst);
            let packet = Packet { note, src, src_incarnation, to, message, updates, items: Vec::new() };
            prop_assert_eq!(&Packet::decode(&packet.encode()), &Ok(packet.clone()));
            let made = packet.encode_for_foca(dst);
            prop_assert_eq!(Made::read(&made).map(|made| made.travelling(&note)), Ok(packet.encode()));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1400)) {
            let _ = Packet::decode(&bytes);
        }
    }
}
