//! A query as it stands in its packet: read without allocation, whatever it holds.

use crate::wire::{HEADER, LABEL_BYTES_MAX, NAME_BYTES_MAX, PLAIN_BYTES_MAX, flag, kind};

/// EDNS option: the asker's network (RFC 7871).
pub(crate) const CLIENT_SUBNET: u16 = 8;

/// EDNS option: what else is to be said of an answer (RFC 8914).
pub(crate) const EXTENDED_ERROR: u16 = 15;

/// What was asked. Borrows from the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    pub(crate) head: Head,
    /// The first question; further ones are not looked at. `None` if there is none.
    pub(crate) question: Option<Question<'a>>,
    pub(crate) edns: Option<Edns<'a>>,
}

/// What of a query's header counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: u16,
    pub(crate) flags: u16,
}

impl Head {
    /// What kind of message it is; 0 is a query.
    pub(crate) fn opcode(self) -> u16 {
        self.flags & flag::OPCODE
    }
}

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question<'a> {
    /// The whole question, for the echo.
    pub(crate) wire: &'a [u8],
    pub(crate) kind: u16,
    pub(crate) class: u16,
}

impl<'a> Question<'a> {
    /// The name, in the asker's case.
    pub(crate) fn name(&self) -> &'a [u8] {
        &self.wire[..self.wire.len() - 4]
    }
}

/// What the OPT record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edns<'a> {
    /// How long an answer the asker takes.
    pub(crate) size: u16,
    pub(crate) version: u8,
    /// The data of the client subnet option.
    pub(crate) subnet: Option<&'a [u8]>,
}

/// Why a packet is no query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Not even a header, or an answer: nothing is sent back, so that two servers cannot be set on each other.
    Silent,
    /// The header says query, the rest does not: a FORMERR.
    After(Head),
}

/// Reads a packet.
pub(crate) fn parse(packet: &[u8]) -> Result<Query<'_>, Malformed> {
    let Some((header, _)) = packet.split_first_chunk::<HEADER>() else { return Err(Malformed::Silent) };
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let head = Head { id: word(0), flags: word(2) };
    if head.flags & flag::RESPONSE != 0 {
        return Err(Malformed::Silent);
    }
    body(packet, head, word(4), usize::from(word(6)) + usize::from(word(8)), word(10)).ok_or(Malformed::After(head))
}

fn body(packet: &[u8], head: Head, questions: u16, before: usize, additional: u16) -> Option<Query<'_>> {
    let mut at = HEADER;
    let mut question = None;
    for number in 0..questions {
        let start = at;
        at = if number == 0 { name_end(packet, at)? } else { skip_name(packet, at)? } + 4;
        let wire = packet.get(start..at)?;
        if number == 0 {
            let [.., k0, k1, c0, c1] = wire else { return None };
            let (kind, class) = (u16::from_be_bytes([*k0, *k1]), u16::from_be_bytes([*c0, *c1]));
            question = Some(Question { wire, kind, class });
        }
    }
    // Each record takes 11 bytes at least, so that the packet's end bounds these loops, not the counts.
    for _ in 0..before {
        (at, _) = record(packet, at)?;
    }
    let mut edns = None;
    for _ in 0..additional {
        let (end, record) = record(packet, at)?;
        if record.kind == kind::OPT {
            if edns.is_some() || packet[at] != 0 {
                return None;
            }
            edns = Some(Edns { size: record.class, version: record.ttl[1], subnet: subnet(record.data)? });
        }
        at = end;
    }
    Some(Query { head, question, edns })
}

struct Record<'a> {
    kind: u16,
    class: u16,
    ttl: [u8; 4],
    data: &'a [u8],
}

fn record(packet: &[u8], at: usize) -> Option<(usize, Record<'_>)> {
    let at = skip_name(packet, at)?;
    let &[k0, k1, c0, c1, t0, t1, t2, t3, l0, l1] = packet.get(at..at + 10)?.first_chunk::<10>()?;
    let end = at + 10 + usize::from(u16::from_be_bytes([l0, l1]));
    let data = packet.get(at + 10..end)?;
    Some((end, Record { kind: u16::from_be_bytes([k0, k1]), class: u16::from_be_bytes([c0, c1]), ttl: [t0, t1, t2, t3], data }))
}

/// The client subnet among an OPT record's options; `None` if they are not whole.
fn subnet(mut options: &[u8]) -> Option<Option<&[u8]>> {
    let mut found = None;
    while !options.is_empty() {
        let (&[c0, c1, l0, l1], rest) = options.split_first_chunk::<4>()?;
        let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        // RFC 7871: family, source and scope lengths, at most an IPv6 address.
        if u16::from_be_bytes([c0, c1]) == CLIENT_SUBNET {
            if !(4..=20).contains(&data.len()) {
                return None;
            }
            found = Some(data);
        }
        options = rest;
    }
    Some(found)
}

/// Where the name that begins at `start` ends. Nothing stands before the first question that it could point to.
pub(crate) fn name_end(packet: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = usize::from(*packet.get(at)?);
        if length > LABEL_BYTES_MAX {
            return None;
        }
        at += 1 + length;
        if at - start > NAME_BYTES_MAX {
            return None;
        }
        if length == 0 {
            return Some(at);
        }
    }
}

/// Where a name ends that may end in a pointer, which is not followed.
pub(crate) fn skip_name(packet: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = usize::from(*packet.get(at)?);
        match length {
            0 => return Some(at + 1),
            1..=LABEL_BYTES_MAX => at += 1 + length,
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
        if at - start > NAME_BYTES_MAX {
            return None;
        }
    }
}

impl Edns<'_> {
    /// How long an answer the asker takes: less than without EDNS is not meant.
    pub(crate) fn bytes_max(&self) -> usize {
        usize::from(self.size).max(PLAIN_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03Web\x07service\x06consul\0\0\x01\0\x01";

    fn with_opt(opt: &[u8]) -> Vec<u8> {
        let mut packet = PLAIN.to_vec();
        packet[11] = 1;
        packet.extend_from_slice(opt);
        packet
    }

    #[test]
    fn a_question_is_read_as_it_was_asked() {
        let query = parse(PLAIN).expect("a query");
        let question = query.question.expect("a question");
        assert_eq!(query.head, Head { id: 0x1234, flags: 0x0100 });
        assert_eq!((question.name(), question.kind, question.class), (&b"\x03Web\x07service\x06consul\0"[..], 1, 1));
        assert_eq!(query.edns, None);
    }

    #[test]
    fn edns_is_read_with_its_subnet() {
        let packet = with_opt(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
        assert_eq!(parse(&packet).expect("a query").edns, Some(Edns { size: 1232, version: 0, subnet: None }));
        let packet = with_opt(b"\0\0\x29\x04\xd0\0\x01\0\0\0\x13\0\x0a\0\x04cook\0\x08\0\x07\0\x01\x18\0\x0a\0\0");
        let edns = parse(&packet).expect("a query").edns.expect("edns");
        assert_eq!((edns.version, edns.subnet), (1, Some(&b"\0\x01\x18\0\x0a\0\0"[..])));
    }

    #[test]
    fn what_is_no_query_is_told_apart() {
        assert_eq!(parse(&PLAIN[..11]), Err(Malformed::Silent));
        let mut answer = PLAIN.to_vec();
        answer[2] |= 0x80;
        assert_eq!(parse(&answer), Err(Malformed::Silent));
        for end in 12..PLAIN.len() {
            assert_eq!(parse(&PLAIN[..end]), Err(Malformed::After(Head { id: 0x1234, flags: 0x0100 })), "{end}");
        }
        for opt in [&b"\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x08\0\x07"[..], b"\x01a\0\0\x29\x04\xd0\0\0\0\0\0\0", b""] {
            assert!(matches!(parse(&with_opt(opt)), Err(Malformed::After(_))));
        }
        let mut pointer = PLAIN.to_vec();
        pointer[12] = 0xc0;
        assert!(matches!(parse(&pointer), Err(Malformed::After(_))));
        let mut many = PLAIN.to_vec();
        many[6] = 0xff;
        assert!(matches!(parse(&many), Err(Malformed::After(_))));
    }

    #[test]
    fn no_question_and_several_are_queries() {
        assert_eq!(parse(b"\0\x01\0\0\0\0\0\0\0\0\0\0").expect("a query").question, None);
        let mut two = PLAIN.to_vec();
        two[5] = 2;
        two.extend_from_slice(b"\xc0\x0c\0\x1c\0\x01");
        assert_eq!(parse(&two).expect("a query").question.expect("a question").kind, 1);
    }
}
