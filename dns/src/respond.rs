//! One packet in, one packet out: what is asked where.

use crate::answer::{self, Reply};
use crate::bounds::{Answered, Asker, Bounds, Tally, View};
use crate::elsewhere::Lacking;
use crate::fast::{self, Scratch};
use crate::name::{Asked, Folded, parse};
use crate::question::{self, Head, Malformed};
use crate::render;
use crate::wire::{CLASS_ANY, HEADER, IN, Rcode, Writer};

/// Answers a packet into `out`, which should have room for any answer of its transport: what has none is cut.
pub(crate) fn respond(packet: &[u8], asker: Asker, view: View<'_>, scratch: &mut Scratch, out: &mut [u8]) -> Answered {
    let malformed = |bytes| Answered { bytes, tally: Tally::Malformed };
    let query = match question::parse(packet) {
        Ok(query) => query,
        Err(Malformed::Silent) => return malformed(0),
        Err(Malformed::After(head)) => return malformed(bare(head, Rcode::FormErr, view, out)),
    };
    if query.head.opcode() != 0 {
        return malformed(bare(query.head, Rcode::NotImp, view, out));
    }
    let Some(question) = query.question else { return malformed(bare(query.head, Rcode::Refused, view, out)) };
    let bounds = Bounds::new(&query, asker.transport, view.settings);
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
            match answer::look(target, question, &query, asker, view, &mut scratch.draw) {
                Ok(reply) => reply,
                Err(lacking) => {
                    scratch.lacking = lacking;
                    return Answered { bytes: 0, tally: Tally::Beyond };
                }
            }
        }
        // Of another class, or a name that none of ours can be.
        _ if view.settings.recursion && !view.settings.is_ours(question.name()) => {
            scratch.lacking = Lacking { outside: true, ..Lacking::default() };
            return Answered { bytes: 0, tally: Tally::Beyond };
        }
        _ => Reply::bare(Rcode::Refused),
    };
    let (bytes, trimmed) = render::render(&query, question, &reply, bounds, view, out);
    Answered::new(bytes, question.kind, trimmed)
}

/// Says that the answer cannot be had at the moment.
pub(crate) fn refuse(packet: &[u8], asker: Asker, view: View<'_>, out: &mut [u8]) -> Answered {
    let Ok(query) = question::parse(packet) else { return Answered { bytes: 0, tally: Tally::Malformed } };
    let Some(question) = query.question else { return Answered { bytes: 0, tally: Tally::Malformed } };
    let bounds = Bounds::new(&query, asker.transport, view.settings);
    let (bytes, trimmed) = render::render(&query, question, &Reply::bare(Rcode::ServFail), bounds, view, out);
    Answered::new(bytes, question.kind, trimmed)
}

/// A header alone: there is no question to give back, or none we understand.
fn bare(head: Head, rcode: Rcode, view: View<'_>, out: &mut [u8]) -> usize {
    let mut writer = Writer::new(out, 0);
    let words = [head.id, view.flags(head, rcode, false, false), 0, 0, 0, 0];
    for word in words {
        if writer.u16(word).is_err() {
            return 0;
        }
    }
    HEADER
}

#[cfg(test)]
mod choice;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
