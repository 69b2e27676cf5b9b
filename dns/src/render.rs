//! A reply as bytes, shortened until it fits.

use crate::answer::Reply;
use crate::bounds::{Bounds, View};
use crate::question::{CLIENT_SUBNET, EXTENDED_ERROR, Query, Question};
use crate::record::{Data, Record};
use crate::wire::{Compressor, EXTENDED, Full, HEADER, OPT, Writer, kind};

/// How much of a reply is written.
#[derive(Clone, Copy)]
struct Part {
    answers: usize,
    authority: bool,
    /// The addresses that SRV targets need.
    glue: bool,
    /// What else was added.
    extra: bool,
}

/// Writes a reply within its bounds: its length, and whether less was written than there is.
///
/// What goes first is what was only added, then the authority, then answers from the end with the addresses they need. One answer
/// stays as long as it fits without company; if not even that fits, the answer is empty and always says that it is truncated.
pub(crate) fn render(
    query: &Query<'_>,
    question: Question<'_>,
    reply: &Reply,
    bounds: Bounds,
    view: View<'_>,
    out: &mut [u8],
) -> (usize, bool) {
    let settings = view.settings;
    let room = bounds.bytes.min(out.len());
    let out = &mut out[..room];
    let plain = bounds.plain_answers.filter(|_| reply.of_service).unwrap_or(usize::MAX);
    let all = reply.answers.len().min(plain);
    let cut = all < reply.answers.len();
    let mut write = |part: Part, truncated: bool| {
        let bits = view.flags(query.head, reply.rcode, reply.authoritative, truncated);
        message(query, question, reply, part, bits, view, out).ok()
    };
    let whole = Part { answers: all, authority: true, glue: true, extra: true };
    let told = cut && settings.enable_truncate;
    for part in [whole, Part { extra: false, ..whole }, Part { extra: false, authority: all == 0, ..whole }] {
        if let Some(bytes) = write(part, told) {
            return (bytes, cut);
        }
    }
    let told = settings.enable_truncate;
    let short = Part { authority: false, extra: false, ..whole };
    let (mut fits, mut fits_not) = (0, all);
    while fits_not - fits > 1 {
        let middle = fits + (fits_not - fits) / 2;
        match write(Part { answers: middle, ..short }, told) {
            Some(_) => fits = middle,
            None => fits_not = middle,
        }
    }
    let alone = Part { answers: all.min(1), glue: false, ..short };
    let nothing = Part { answers: 0, ..alone };
    let last = if fits > 0 { write(Part { answers: fits, ..short }, told) } else { write(alone, told) };
    (last.or_else(|| write(nothing, true)).unwrap_or(0), true)
}

fn message(
    query: &Query<'_>,
    question: Question<'_>,
    reply: &Reply,
    part: Part,
    flags: u16,
    view: View<'_>,
    out: &mut [u8],
) -> Result<usize, Full> {
    let mut writer = Writer::new(out, 0);
    writer.bytes(&[0; HEADER])?;
    writer.bytes(question.wire)?;
    let mut names = Compressor::new(view.settings.compress);
    if view.settings.compress {
        // The question's name is the owner of most records.
        names.note(writer.written(), HEADER, question.name());
    }
    let mut counts = [1, 0, 0, 0];
    for answer in &reply.answers[..part.answers] {
        record(&mut writer, &mut names, answer)?;
        counts[1] += 1;
    }
    if part.authority {
        for authority in &reply.authority {
            record(&mut writer, &mut names, authority)?;
            counts[2] += 1;
        }
    }
    let needed = reply.glue.iter().filter(|glue| part.glue && glue.of < part.answers).map(|glue| &glue.record);
    for additional in needed.chain(reply.extra.iter().filter(|_| part.extra)) {
        record(&mut writer, &mut names, additional)?;
        counts[3] += 1;
    }
    if let Some(edns) = query.edns {
        let [s0, s1] = edns.size.to_be_bytes();
        let high = (reply.rcode as u16 >> 4) as u8;
        let extended = view.extended(reply.rcode, reply.authoritative);
        let subnet = edns.subnet.map_or(0, |subnet| 4 + subnet.len());
        let options = (subnet + extended.map_or(0, |_| EXTENDED)) as u8;
        let opt: [u8; OPT] = [0, 0, kind::OPT as u8, s0, s1, high, 0, 0, 0, 0, options];
        writer.bytes(&opt)?;
        if let Some(subnet) = edns.subnet {
            writer.u16(CLIENT_SUBNET)?;
            writer.u16(subnet.len() as u16)?;
            writer.bytes(&subnet[..3])?;
            writer.bytes(&[if reply.of_place { subnet[2] } else { 0 }])?;
            writer.bytes(&subnet[4..])?;
        }
        if let Some(extended) = extended {
            [EXTENDED_ERROR, 2, extended].into_iter().try_for_each(|word| writer.u16(word))?;
        }
        counts[3] += 1;
    }
    writer.set_u16(0, query.head.id);
    writer.set_u16(2, flags);
    for (at, count) in counts.into_iter().enumerate() {
        writer.set_u16(4 + 2 * at, count);
    }
    Ok(writer.at())
}

fn record(writer: &mut Writer<'_>, names: &mut Compressor, record: &Record) -> Result<(), Full> {
    names.write(writer, &record.owner)?;
    writer.record(record.data.kind(), record.ttl)?;
    let length_at = writer.at();
    writer.u16(0)?;
    match &record.data {
        Data::V4(address) => writer.bytes(address)?,
        Data::V6(address) => writer.bytes(address)?,
        Data::Ns(name) | Data::Cname(name) | Data::Ptr(name) => names.write(writer, name)?,
        Data::Txt(text) => writer.text(text)?,
        Data::Srv { weight, port, target } => {
            writer.u16(1)?;
            writer.u16(*weight)?;
            writer.u16(*port)?;
            // In full: RFC 2782 does not let it be compressed. Its address record's owner may point to it.
            let target_at = writer.at();
            writer.bytes(target.wire())?;
            names.note(writer.written(), target_at, target.wire());
        }
        Data::Soa { primary_server, mailbox, serial, numbers } => {
            names.write(writer, primary_server)?;
            names.write(writer, mailbox)?;
            for number in [*serial, numbers.refresh, numbers.retry, numbers.expire, numbers.min_ttl] {
                writer.u32(number)?;
            }
        }
    }
    let length = writer.at() - length_at - 2;
    writer.set_u16(length_at, u16::try_from(length).map_err(|_| Full)?);
    Ok(())
}
