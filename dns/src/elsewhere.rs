//! What other name servers know: which of it an answer needs, whether a reply belongs to its question, and the addresses in it.

use std::collections::BTreeSet;

use muster_catalog::Part;

use crate::config::TTL_MAX;
use crate::question::{Question, name_end, skip_name};
use crate::record::{Data, Record};
use crate::wire::{HEADER, IN, LABEL_BYTES_MAX, NAME_BYTES_MAX, Name, flag, kind};

/// Names outside our domains that are resolved for one answer. An SRV answer with more of them leaves the rest to its reader.
const NAMES_MAX: usize = 8;
/// Records taken out of one reply: more addresses of one name help nobody.
const RECORDS_MAX: usize = 64;
/// Pointers followed in one name. Each leads backwards, so that this only bounds the work.
const POINTERS_MAX: usize = 32;
/// Bytes of a reply that we ask for over UDP ourselves: what passes every path unfragmented (DNS flag day 2020).
pub(crate) const RESOLVE_BYTES: u16 = 1232;

/// What an answer needs that is not here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lacking {
    /// Rows.
    pub(crate) parts: BTreeSet<Part>,
    /// Names outside our domains, with the type wanted.
    pub(crate) names: Vec<(Name, u16)>,
    /// All of it: the question is for others.
    pub(crate) outside: bool,
}

impl Lacking {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether other name servers are to be asked, and nothing else first.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.parts.is_empty() && (self.outside || !self.names.is_empty())
    }

    /// Notes a name whose addresses go with the answer.
    pub(crate) fn want(&mut self, name: &Name, wanted: u16, told: &Told) {
        let noted = self.names.iter().any(|(known, of)| known == name && *of == wanted);
        if !noted && self.names.len() + told.0.len() < NAMES_MAX {
            self.names.push((name.clone(), wanted));
        }
    }
}

/// What others said of names outside our domains; of who could not be resolved, nothing.
#[derive(Debug, Default)]
pub(crate) struct Told(Vec<(Name, u16, Vec<Record>)>);

/// Nobody was asked.
pub(crate) static UNTOLD: Told = Told(Vec::new());

impl Told {
    pub(crate) fn add(&mut self, name: Name, wanted: u16, records: Vec<Record>) {
        self.0.push((name, wanted, records));
    }

    pub(crate) fn of(&self, name: &Name, wanted: u16) -> Option<&[Record]> {
        let told = self.0.iter().find(|(known, of, _)| known == name && *of == wanted);
        told.map(|(_, _, records)| &**records)
    }
}

/// A query of our own for the records of a name.
pub(crate) fn ask(name: &Name, wanted: u16) -> Vec<u8> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    packet.extend_from_slice(name.wire());
    packet.extend_from_slice(&wanted.to_be_bytes());
    packet.extend_from_slice(&IN.to_be_bytes());
    let [s0, s1] = RESOLVE_BYTES.to_be_bytes();
    packet.extend_from_slice(&[0, 0, kind::OPT as u8, s0, s1, 0, 0, 0, 0, 0, 0]);
    packet
}

/// What a reply to a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Not an answer to it: forged, late, or of another question.
    Foreign,
    /// An answer that says that there is none to be had here: others are asked.
    Failed,
    /// An answer.
    Answer,
}

/// Judges a reply: its id, and its question without regard to case, must be those of the query.
pub(crate) fn judge(reply: &[u8], query: &[u8]) -> Fit {
    let (Some((head, after)), Some((asked, _))) = (reply.split_first_chunk::<HEADER>(), query.split_first_chunk::<HEADER>())
    else {
        return Fit::Foreign;
    };
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    if head[..2] != asked[..2] || word(2) & flag::RESPONSE == 0 || word(2) & flag::OPCODE != 0 {
        return Fit::Foreign;
    }
    let failed = !matches!(word(2) & 0xf, 0 | 3);
    match question_end(query).map(|end| &query[HEADER..end]) {
        // Some servers leave the question out of a refusal.
        _ if word(4) == 0 && failed => Fit::Failed,
        Some(question) if word(4) == 1 && after.get(..question.len()).is_some_and(|own| own.eq_ignore_ascii_case(question)) => {
            if failed {
                Fit::Failed
            } else {
                Fit::Answer
            }
        }
        _ => Fit::Foreign,
    }
}

fn question_end(packet: &[u8]) -> Option<usize> {
    let end = name_end(packet, HEADER)? + 4;
    (end <= packet.len()).then_some(end)
}

pub(crate) fn is_truncated(reply: &[u8]) -> bool {
    reply.get(2).is_some_and(|flags| u16::from(*flags) << 8 & flag::TRUNCATED != 0)
}

/// A judged reply as the asker gets it: with his id and his letters, and if it is longer than he takes, nothing but that it is.
pub(crate) fn relay(reply: &[u8], id: u16, question: Question<'_>, bytes_max: usize) -> Vec<u8> {
    let end = HEADER + question.wire.len();
    let mut relayed = reply[..if reply.len() > bytes_max { end } else { reply.len() }].to_vec();
    relayed[..2].copy_from_slice(&id.to_be_bytes());
    relayed[HEADER..end].copy_from_slice(question.wire);
    if reply.len() > bytes_max {
        relayed[2] |= (flag::TRUNCATED >> 8) as u8;
        relayed[6..HEADER].fill(0);
    }
    relayed
}

/// The addresses of that type in a judged reply, with the aliases that lead to them. What is broken ends the list.
pub(crate) fn addresses(reply: &[u8], wanted: u16) -> Vec<Record> {
    let mut records = Vec::new();
    let (Some(mut at), Some(&[c0, c1])) = (question_end(reply), reply.get(6..8)) else { return records };
    for _ in 0..u16::from_be_bytes([c0, c1]) {
        let Some((end, record)) = record(reply, at, wanted) else { break };
        records.extend(record);
        if records.len() == RECORDS_MAX {
            break;
        }
        at = end;
    }
    // Aliases alone lead nowhere.
    if records.iter().all(|record| matches!(record.data, Data::Cname(_))) {
        records.clear();
    }
    records
}

/// The record at `at`, if it is one of those, and where it ends.
fn record(reply: &[u8], at: usize, wanted: u16) -> Option<(usize, Option<Record>)> {
    let head = skip_name(reply, at)?;
    let &[k0, k1, c0, c1, t0, t1, t2, t3, l0, l1] = reply.get(head..)?.first_chunk::<10>()?;
    let data_at = head + 10;
    let end = data_at + usize::from(u16::from_be_bytes([l0, l1]));
    let data = reply.get(data_at..end)?;
    if u16::from_be_bytes([c0, c1]) != IN {
        return Some((end, None));
    }
    let data = match u16::from_be_bytes([k0, k1]) {
        kind::A if wanted == kind::A => Data::V4(data.try_into().ok()?),
        kind::AAAA if wanted == kind::AAAA => Data::V6(data.try_into().ok()?),
        kind::CNAME => Data::Cname(whole_name(reply, data_at)?),
        _ => return Some((end, None)),
    };
    let ttl = u32::from_be_bytes([t0, t1, t2, t3]).min(TTL_MAX.as_secs() as u32);
    Some((end, Some(Record { owner: whole_name(reply, at)?, ttl, data })))
}

/// A name with its pointers followed.
fn whole_name(message: &[u8], mut at: usize) -> Option<Name> {
    let mut wire = Vec::new();
    let mut pointers = 0;
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0..=LABEL_BYTES_MAX => {
                wire.extend_from_slice(message.get(at..=at + length)?);
                if length == 0 {
                    return (wire.len() <= NAME_BYTES_MAX).then(|| Name::from_wire(&wire));
                }
                if wire.len() > NAME_BYTES_MAX {
                    return None;
                }
                at += 1 + length;
            }
            0xc0.. => {
                let to = (length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                pointers += 1;
                if to >= at || pointers > POINTERS_MAX {
                    return None;
                }
                at = to;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `a.example` is an alias of `b.example`, which has two addresses of each kind.
    fn reply() -> Vec<u8> {
        let name = Name::parse("a.example").expect("a name");
        let mut reply = ask(&name, kind::A);
        reply.truncate(reply.len() - 11);
        (reply[2], reply[3], reply[7], reply[11]) = (0x81, 0x80, 4, 0);
        reply.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01b\xc0\x0e");
        let target = (reply.len() - 4) as u8;
        for last in [1, 2] {
            reply.extend_from_slice(&[0xc0, target, 0, 1, 0, 1, 0, 0xff, 0, 0, 0, 4, 192, 0, 2, last]);
        }
        reply.extend_from_slice(&[0xc0, target, 0, 28, 0, 1, 0, 0, 0, 9, 0, 16]);
        reply.extend_from_slice(&[0x20; 16]);
        reply
    }

    fn query() -> Vec<u8> {
        ask(&Name::parse("a.example").expect("a name"), kind::A)
    }

    #[test]
    fn addresses_are_read_with_the_aliases_that_lead_to_them() {
        let name = |text: &str| Name::parse(text).expect("a name");
        let alias = Record { owner: name("a.example"), ttl: 60, data: Data::Cname(name("b.example")) };
        let address = |last| Record { owner: name("b.example"), ttl: 86_400, data: Data::V4([192, 0, 2, last]) };
        assert_eq!(addresses(&reply(), kind::A), [alias.clone(), address(1), address(2)]);
        let v6 = Record { owner: name("b.example"), ttl: 9, data: Data::V6([0x20; 16]) };
        assert_eq!(addresses(&reply(), kind::AAAA), [alias, v6]);
        let mut alone = reply();
        alone[7] = 1;
        assert_eq!(addresses(&alone, kind::A), []);
    }

    #[test]
    fn a_reply_must_belong_to_its_query() {
        assert_eq!(judge(&reply(), &query()), Fit::Answer);
        let changed = |at: usize, to: u8| {
            let mut reply = reply();
            reply[at] = to;
            judge(&reply, &query())
        };
        assert_eq!((changed(13, b'A'), changed(3, 3)), (Fit::Answer, Fit::Answer));
        assert_eq!((changed(3, 2), changed(3, 5)), (Fit::Failed, Fit::Failed));
        for (at, to) in [(0, 9), (1, 9), (2, 1), (2, 0x89), (5, 0), (5, 2), (13, b'x'), (15, b'X' + 1), (24, 28)] {
            assert_eq!(changed(at, to), Fit::Foreign, "{at} {to}");
        }
        assert_eq!(judge(&reply()[..20], &query()), Fit::Foreign);
        assert_eq!(judge(b"\0\0\x81\x85\0\0\0\0\0\0\0\0", &query()), Fit::Failed, "a refusal without the question");
        assert_eq!(judge(b"\0\0\x81\x80\0\0\0\0\0\0\0\0", &query()), Fit::Foreign);
    }

    #[test]
    fn the_asker_gets_his_id_and_letters_and_no_more_than_he_takes() {
        let packet = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01A\x07exAMple\0\0\x01\0\x01";
        let question = crate::question::parse(packet).expect("a query").question.expect("a question");
        let whole = relay(&reply(), 0x1234, question, 512);
        assert_eq!((&whole[..2], &whole[12..27], whole.len()), (&b"\x12\x34"[..], question.wire, reply().len()));
        assert_eq!(whole[27..], reply()[27..]);
        let cut = relay(&reply(), 0x1234, question, reply().len() - 1);
        assert_eq!(cut[..12], *b"\x12\x34\x83\x80\0\x01\0\0\0\0\0\0");
        assert_eq!(cut[12..], *question.wire);
        assert!(is_truncated(&cut) && !is_truncated(&whole));
    }

    #[test]
    fn names_wanted_are_bounded() {
        let (mut lacking, mut told) = (Lacking::default(), Told::default());
        for round in 0..3 {
            for number in 0..20 {
                lacking.want(&Name::parse(&format!("n{number}.x")).expect("a name"), kind::A, &told);
            }
            assert_eq!(lacking.names.len(), if round == 0 { NAMES_MAX } else { 0 });
            lacking.names.drain(..).for_each(|(name, wanted)| told.add(name, wanted, Vec::new()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn whatever_a_recursor_sends_harms_nobody(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in 0..30_usize,
            tail in proptest::collection::vec(any::<u8>(), 0..40), bytes_max in 12..600_usize,
        ) {
            let mut reply = reply();
            for (at, byte) in changes {
                let at = at.index(reply.len());
                reply[at] = byte;
            }
            reply.truncate(reply.len() - cut);
            reply.extend_from_slice(&tail);
            for wanted in [kind::A, kind::AAAA] {
                for record in addresses(&reply, wanted) {
                    prop_assert!(record.owner.wire().len() <= NAME_BYTES_MAX);
                }
            }
            if judge(&reply, &query()) == Fit::Answer {
                let packet = query();
                let question = crate::question::parse(&packet).expect("a query").question.expect("a question");
                let relayed = relay(&reply, 7, question, bytes_max);
                prop_assert!(relayed.len() <= bytes_max.max(HEADER + question.wire.len()));
            }
        }
    }
}
