//! One packet in, one packet out: what is asked where.

use crate::answer::{self, Reply};
use crate::bounds::{Answered, Bounds, Tally, Transport, View, flags};
use crate::fast::{self, Scratch};
use crate::name::{Asked, Folded, parse};
use crate::question::{self, Head, Malformed};
use crate::render;
use crate::wire::{CLASS_ANY, HEADER, IN, Rcode, Writer};

/// Answers a packet into `out`, which should have room for any answer of its transport: what has none is cut.
pub(crate) fn respond(packet: &[u8], transport: Transport, view: View<'_>, scratch: &mut Scratch, out: &mut [u8]) -> Answered {
    let malformed = |bytes| Answered { bytes, tally: Tally::Malformed };
    let query = match question::parse(packet) {
        Ok(query) => query,
        Err(Malformed::Silent) => return malformed(0),
        Err(Malformed::After(head)) => return malformed(bare(head, Rcode::FormErr, out)),
    };
    if query.head.opcode() != 0 {
        return malformed(bare(query.head, Rcode::NotImp, out));
    }
    let Some(question) = query.question else { return malformed(bare(query.head, Rcode::Refused, out)) };
    let bounds = Bounds::new(&query, transport, view.settings);
    let folded = Folded::new(question.name());
    let reply = match &folded {
        _ if query.edns.is_some_and(|edns| edns.version != 0) => Reply::bare(Rcode::BadVers),
        Some(name) if matches!(question.class, IN | CLASS_ANY) => {
            let target = parse(name.as_str(), question.kind, view.settings);
            if view.too_old && !matches!(target.asked, Asked::Outside) {
                return Answered { bytes: 0, tally: Tally::Beyond };
            }
            if let Asked::Service { name, tag } = target.asked {
                let wanted = fast::Wanted { name, tag, zone: target.zone };
                if let Some(answered) = fast::service(wanted, &query, question, bounds, view, scratch, out) {
                    return answered;
                }
            }
            match answer::look(target, question, query.edns.is_some(), view, &mut scratch.draw) {
                Ok(reply) => reply,
                Err(missing) => {
                    scratch.missing = missing;
                    return Answered { bytes: 0, tally: Tally::Beyond };
                }
            }
        }
        _ => Reply::bare(Rcode::Refused),
    };
    let (bytes, trimmed) = render::render(&query, question, &reply, bounds, view, out);
    Answered::new(bytes, question.kind, trimmed)
}

/// Says that the answer cannot be had at the moment.
pub(crate) fn refuse(packet: &[u8], transport: Transport, view: View<'_>, out: &mut [u8]) -> Answered {
    let Ok(query) = question::parse(packet) else { return Answered { bytes: 0, tally: Tally::Malformed } };
    let Some(question) = query.question else { return Answered { bytes: 0, tally: Tally::Malformed } };
    let bounds = Bounds::new(&query, transport, view.settings);
    let (bytes, trimmed) = render::render(&query, question, &Reply::bare(Rcode::ServFail), bounds, view, out);
    Answered::new(bytes, question.kind, trimmed)
}

/// A header alone: there is no question to give back, or none we understand.
fn bare(head: Head, rcode: Rcode, out: &mut [u8]) -> usize {
    let mut writer = Writer::new(out, 0);
    let words = [head.id, flags(head, rcode, false, false), 0, 0, 0, 0];
    for word in words {
        if writer.u16(word).is_err() {
            return 0;
        }
    }
    HEADER
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
