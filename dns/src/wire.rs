//! Numbers and names of RFC 1035, and a writer that never leaves its bounds.

use smallvec::SmallVec;

/// Bytes of a message's header.
pub(crate) const HEADER: usize = 12;
/// Bytes of an OPT record without options (RFC 6891).
pub(crate) const OPT: usize = 11;
/// Bytes of an extended error without a text (RFC 8914).
pub(crate) const EXTENDED: usize = 6;
/// What a client takes that does not say (RFC 1035).
pub(crate) const PLAIN_BYTES_MAX: usize = 512;
/// The longest name, as on the wire.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// The longest label.
pub(crate) const LABEL_BYTES_MAX: usize = 63;
/// What a compression pointer can reach.
pub(crate) const POINTER_MAX: usize = 0x3fff;
/// A pointer to the name in the question, which always stands behind the header.
pub(crate) const TO_QUESTION: u16 = 0xc000 | HEADER as u16;

/// Record types we know.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const ANY: u16 = 255;
}

/// The class of all our records.
pub(crate) const IN: u16 = 1;
/// A question for any class.
pub(crate) const CLASS_ANY: u16 = 255;

/// Header bits.
pub(crate) mod flag {
    pub(crate) const RESPONSE: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    pub(crate) const AUTHORITATIVE: u16 = 0x0400;
    pub(crate) const TRUNCATED: u16 = 0x0200;
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    pub(crate) const RECURSION_AVAILABLE: u16 = 0x0080;
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rcode {
    NoError = 0,
    FormErr = 1,
    /// The answer cannot be had at the moment.
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    /// EDNS version unknown; its upper bits travel in the OPT record.
    BadVers = 16,
}

/// A whole name in wire form, its root included, without pointers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name(SmallVec<[u8; 64]>);

impl Name {
    /// A name that was read from a packet and checked there.
    pub(crate) fn from_wire(wire: &[u8]) -> Self {
        Self(SmallVec::from_slice(wire))
    }

    /// Reads labels between dots, a last dot allowed; `None` if that is no name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut wire = SmallVec::new();
        append_labels(&mut wire, text)?;
        wire.push(0);
        (wire.len() <= NAME_BYTES_MAX).then_some(Self(wire))
    }

    /// `labels` in front of this name; `None` if that is no name.
    pub(crate) fn child(&self, labels: &str) -> Option<Self> {
        let mut wire = SmallVec::new();
        append_labels(&mut wire, labels)?;
        wire.extend_from_slice(&self.0);
        (wire.len() <= NAME_BYTES_MAX).then_some(Self(wire))
    }

    pub(crate) fn wire(&self) -> &[u8] {
        &self.0
    }
}

fn append_labels(wire: &mut SmallVec<[u8; 64]>, text: &str) -> Option<()> {
    for label in text.split('.') {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return None;
        }
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    Some(())
}

/// The buffer is too small for what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// Writes into a bounded buffer.
pub(crate) struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Writes into `buffer` from `at`.
    pub(crate) fn new(buffer: &'a mut [u8], at: usize) -> Self {
        Self { buffer, at }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that can be written in all.
    pub(crate) fn room(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn written(&self) -> &[u8] {
        &self.buffer[..self.at]
    }

    /// Forgets what was written from `at` on.
    pub(crate) fn back_to(&mut self, at: usize) {
        self.at = self.at.min(at);
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let room = self.buffer.get_mut(self.at..self.at + bytes.len()).ok_or(Full)?;
        room.copy_from_slice(bytes);
        self.at += bytes.len();
        Ok(())
    }

    #[inline]
    pub(crate) fn u16(&mut self, value: u16) -> Result<(), Full> {
        self.bytes(&value.to_be_bytes())
    }

    #[inline]
    pub(crate) fn u32(&mut self, value: u32) -> Result<(), Full> {
        self.bytes(&value.to_be_bytes())
    }

    /// Sets two bytes that were written before.
    pub(crate) fn set_u16(&mut self, at: usize, value: u16) {
        self.buffer[..self.at][at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// Type, class IN, TTL: what stands between a record's owner and its data.
    #[inline]
    pub(crate) fn record(&mut self, kind: u16, ttl: u32) -> Result<(), Full> {
        let ([k0, k1], [t0, t1, t2, t3]) = (kind.to_be_bytes(), ttl.to_be_bytes());
        self.bytes(&[k0, k1, 0, IN as u8, t0, t1, t2, t3])
    }

    /// A whole address record whose owner is a pointer: one copy.
    #[inline]
    pub(crate) fn address(&mut self, owner: u16, ttl: u32, address: &[u8]) -> Result<(), Full> {
        let kind = if address.len() == 4 { kind::A } else { kind::AAAA };
        let ([o0, o1], [k0, k1], [t0, t1, t2, t3]) = (owner.to_be_bytes(), kind.to_be_bytes(), ttl.to_be_bytes());
        let head = [o0, o1, k0, k1, 0, IN as u8, t0, t1, t2, t3, 0, address.len() as u8];
        let room = self.buffer.get_mut(self.at..self.at + head.len() + address.len()).ok_or(Full)?;
        let (to_head, to_address) = room.split_at_mut(head.len());
        to_head.copy_from_slice(&head);
        to_address.copy_from_slice(address);
        self.at += head.len() + address.len();
        Ok(())
    }

    /// The data of a TXT record: a character string for each 255 bytes of the text, which may be empty.
    pub(crate) fn text(&mut self, text: &[u8]) -> Result<(), Full> {
        if text.is_empty() {
            return self.bytes(&[0]);
        }
        for part in text.chunks(255) {
            self.bytes(&[part.len() as u8])?;
            self.bytes(part)?;
        }
        Ok(())
    }
}

/// Length of the data that [`Writer::text`] writes.
pub(crate) fn text_len(text_bytes: usize) -> usize {
    text_bytes + text_bytes.div_ceil(255).max(1)
}

/// How many suffixes of names one message remembers: all of 1,024 different SRV targets. Later ones are written in full.
const SUFFIXES_MAX: usize = 1536;
const SLOTS: usize = 2048;

/// Compresses names: remembers where each suffix was written. Constant work a label, whatever the message; letters count,
/// since the owner of a record shows the asker's case and its target ours.
pub(crate) struct Compressor {
    /// Open addressing; 0 is free, else the place of a name's suffix in the message.
    slots: Option<Box<[u16; SLOTS]>>,
    used: usize,
}

impl Compressor {
    /// One that remembers nothing yet; with `on` false it never will.
    pub(crate) fn new(on: bool) -> Self {
        Self { slots: on.then(|| Box::new([0; SLOTS])), used: 0 }
    }

    /// Writes a name, in part as a pointer if it can be.
    pub(crate) fn write(&mut self, writer: &mut Writer<'_>, name: &Name) -> Result<(), Full> {
        let wire = name.wire();
        let start = writer.at();
        for (at, hash) in suffixes(wire) {
            match self.find(writer.written(), start + at, &wire[at..], hash) {
                Some(place) => {
                    writer.bytes(&wire[..at])?;
                    return writer.u16(0xc000 | place);
                }
                None if self.slots.is_none() => break,
                None => {}
            }
        }
        writer.bytes(wire)
    }

    /// Remembers a whole name that stands at `start` in what is `written`.
    pub(crate) fn note(&mut self, written: &[u8], start: usize, wire: &[u8]) {
        for (at, hash) in suffixes(wire) {
            if self.find(written, start + at, &wire[at..], hash).is_some() {
                return;
            }
        }
    }

    /// Where this suffix was written before; if nowhere, it is remembered to be at `place` from now on.
    fn find(&mut self, written: &[u8], place: usize, suffix: &[u8], hash: u32) -> Option<u16> {
        let slots = self.slots.as_mut()?;
        let mut slot = (hash ^ hash >> 15) as usize % SLOTS;
        while slots[slot] != 0 {
            if same(written, usize::from(slots[slot]), suffix) {
                return Some(slots[slot]);
            }
            slot = (slot + 1) % SLOTS;
        }
        if place <= POINTER_MAX && self.used < SUFFIXES_MAX {
            slots[slot] = place as u16;
            self.used += 1;
        }
        None
    }
}

/// Where each suffix of a name begins, the longest first, each with a hash of all of it.
fn suffixes(wire: &[u8]) -> SmallVec<[(usize, u32); 16]> {
    let mut suffixes: SmallVec<[(usize, u32); 16]> = SmallVec::new();
    let mut at = 0;
    while wire[at] != 0 {
        suffixes.push((at, 0));
        at += 1 + usize::from(wire[at]);
    }
    let mut hash: u32 = 0x811c_9dc5;
    let mut end = at;
    for (at, of) in suffixes.iter_mut().rev() {
        hash = wire[*at..end].iter().fold(hash, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        (*of, end) = (hash, *at);
    }
    suffixes
}

/// Whether the name that stands at `place` is `name`. Pointers in what we wrote lead backwards only. A place noted in the name
/// that is being written lies behind the end: not the same.
fn same(message: &[u8], mut place: usize, name: &[u8]) -> bool {
    let mut at = 0;
    loop {
        match message.get(place) {
            Some(&high) if high >= 0xc0 => match message.get(place + 1) {
                Some(&low) => place = usize::from(high & 0x3f) << 8 | usize::from(low),
                None => return false,
            },
            Some(&length) => {
                let whole = 1 + usize::from(length);
                if message.get(place..place + whole) != name.get(at..at + whole) {
                    return false;
                }
                if length == 0 {
                    return true;
                }
                (place, at) = (place + whole, at + whole);
            }
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_bounds() {
        assert_eq!(Name::parse("a.bc").expect("a name").wire(), b"\x01a\x02bc\0");
        assert_eq!(Name::parse("a.bc.").expect("a name").wire(), b"\x01a\x02bc\0");
        assert!(Name::parse("").is_none() && Name::parse("a..b").is_none() && Name::parse(&"x".repeat(64)).is_none());
        assert!(Name::parse(&["abcdefg"; 32].join(".")).is_none());
        assert!(Name::parse("consul").expect("a name").child("a b.node").is_some());
    }

    #[test]
    fn suffixes_are_written_once_and_case_counts() {
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer, 12);
        let mut names = Compressor::new(true);
        for name in ["n1.node.consul", "n2.node.consul", "n1.node.consul", "n1.node.CONSUL", "consul"] {
            names.write(&mut writer, &Name::parse(name).expect("a name")).expect("room");
        }
        assert_eq!(
            &writer.written()[12..],
            b"\x02n1\x04node\x06consul\0\x02n2\xc0\x0f\xc0\x0c\x02n1\x04node\x06CONSUL\0\xc0\x14"
        );
    }

    #[test]
    fn a_label_that_repeats_within_a_name_does_not_point_to_itself() {
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer, 12);
        let mut names = Compressor::new(true);
        names.write(&mut writer, &Name::parse("a.a.a").expect("a name")).expect("room");
        assert_eq!(&writer.written()[12..], b"\x01a\x01a\x01a\0");
    }

    #[test]
    fn a_full_buffer_is_an_error() {
        let mut buffer = [0; 5];
        let mut writer = Writer::new(&mut buffer, 0);
        assert_eq!(writer.bytes(b"123456"), Err(Full));
        assert_eq!(writer.address(TO_QUESTION, 0, &[1, 2, 3, 4]), Err(Full));
        assert_eq!(writer.at(), 0);
    }
}
