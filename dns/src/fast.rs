//! The hot path: addresses and SRV of a service, written straight into the packet. Nothing is allocated and nothing locked; what
//! is rare is left to [`crate::answer`], which gives the same answers.

mod negative;

use std::sync::Arc;

use muster_catalog::{Address, Bucket, Instance};

use self::negative::negative;
use crate::bounds::{Answered, Bounds, View};
use crate::config::Zone;
use crate::draw::Draw;
use crate::elsewhere::Lacking;
use crate::instance::{append_text, is_told, nobody, port};
use crate::question::{EXTENDED_ERROR, Query, Question};
use crate::wire::{
    EXTENDED, Full, HEADER, IN, LABEL_BYTES_MAX, NAME_BYTES_MAX, OPT, POINTER_MAX, Rcode, TO_QUESTION, Writer, kind, text_len,
};

/// Answers that are written here. Each is compared with those before it; with more, a table is better.
const ANSWERS_MAX: usize = 128;

/// What a thread reuses from query to query.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) draw: Draw,
    picks: Vec<Pick>,
    text: Vec<u8>,
    /// What the last query needs and was not here.
    pub(crate) lacking: Lacking,
}

impl Scratch {
    pub(crate) fn new(seed: u64) -> Self {
        Self { draw: Draw::new(seed), picks: Vec::new(), text: Vec::new(), lacking: Lacking::default() }
    }
}

/// An instance that was answered by SRV.
#[derive(Debug, Clone, Copy)]
struct Pick {
    /// In its bucket.
    at: usize,
    /// A pointer to its target's name.
    target: u16,
    /// Whether it is the first with that target, so that it brings the address.
    first: bool,
}

/// The service asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) tag: Option<&'a str>,
    pub(crate) zone: usize,
}

/// Answers, or gives `None`: the general path must look.
pub(crate) fn service(
    wanted: Wanted<'_>,
    query: &Query<'_>,
    question: Question<'_>,
    bounds: Bounds,
    view: View<'_>,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Option<Answered> {
    let known = matches!(question.kind, kind::A | kind::AAAA | kind::ANY | kind::SRV);
    let held = view.state.interest().is_none_or(|held| held.services.contains(wanted.name));
    if !held || !known || !view.settings.compress || query.edns.is_some_and(|edns| edns.subnet.is_some()) {
        return None;
    }
    let said = OPT + if view.stale { EXTENDED } else { 0 };
    let room = bounds.bytes.min(out.len()).checked_sub(if query.edns.is_some() { said } else { 0 })?;
    let mut writer = Writer::new(&mut out[..room], 0);
    writer.bytes(&[0; HEADER]).ok()?;
    writer.bytes(question.wire).ok()?;
    let found = match view.state.service(wanted.name) {
        None => Found::Nothing(Rcode::NxDomain),
        Some(bucket) => {
            scratch.draw.start(bucket.instances().len());
            let task = Task { wanted, bucket, bounds, view, question };
            match question.kind {
                kind::SRV => task.srv(scratch, &mut writer)?,
                _ => task.addresses(&mut scratch.draw, &mut writer)?,
            }
        }
    };
    let written = match found {
        Found::Written(written) => written,
        Found::Nothing(rcode) => {
            negative(wanted.zone, question.name(), view, &mut writer).ok()?;
            Written { rcode, authority: 1, ..Written::default() }
        }
    };
    let end = writer.at();
    let mut writer = Writer::new(out, end);
    if let Some(edns) = query.edns {
        let [s0, s1] = edns.size.to_be_bytes();
        let extended = view.extended(written.rcode, true);
        let options = extended.map_or(0, |_| EXTENDED as u8);
        writer.bytes(&[0, 0, kind::OPT as u8, s0, s1, 0, 0, 0, 0, 0, options]).ok()?;
        if let Some(extended) = extended {
            [EXTENDED_ERROR, 2, extended].into_iter().try_for_each(|word| writer.u16(word)).ok()?;
        }
    }
    let truncated = written.trimmed && view.settings.enable_truncate;
    let additional = written.additional + u16::from(query.edns.is_some());
    let words = [
        query.head.id,
        view.flags(query.head, written.rcode, true, truncated),
        1,
        written.answers,
        written.authority,
        additional,
    ];
    for (at, word) in words.into_iter().enumerate() {
        writer.set_u16(2 * at, word);
    }
    Some(Answered::new(writer.at(), question.kind, written.trimmed))
}

/// What came of a look at a service's instances.
enum Found {
    Written(Written),
    /// There is none: not at all, or not of that type.
    Nothing(Rcode),
}

/// What the writer holds now.
struct Written {
    rcode: Rcode,
    answers: u16,
    authority: u16,
    additional: u16,
    trimmed: bool,
}

impl Default for Written {
    fn default() -> Self {
        Self { rcode: Rcode::NoError, answers: 0, authority: 0, additional: 0, trimmed: false }
    }
}

struct Task<'a> {
    wanted: Wanted<'a>,
    bucket: &'a Bucket,
    bounds: Bounds,
    view: View<'a>,
    question: Question<'a>,
}

impl Task<'_> {
    /// The next instance in random order that can be told.
    fn next(&self, draw: &mut Draw) -> Option<(usize, &Instance)> {
        loop {
            let at = draw.next()?;
            let instance = self.instance(at)?;
            if is_told(instance, self.wanted.tag, self.view.settings) {
                return Some((at, instance));
            }
        }
    }

    fn instance(&self, at: usize) -> Option<&Instance> {
        self.bucket.instances().get(at).map(|instance| &**instance)
    }

    /// What is said where no instance is told.
    fn nobody(&self) -> Rcode {
        nobody(self.bucket.instances().iter().map(|instance| &**instance), self.wanted.tag, self.view.settings)
    }

    fn answers_max(&self) -> usize {
        self.bounds.plain_answers.unwrap_or(usize::MAX)
    }

    fn addresses(&self, draw: &mut Draw, writer: &mut Writer<'_>) -> Option<Found> {
        let ttl = self.view.settings.service_ttl(self.wanted.name);
        let start = writer.at();
        let mut written = Written::default();
        let (mut others, mut names) = (false, false);
        while let Some((_, instance)) = self.next(draw) {
            let address: &[u8] = match instance.address() {
                Address::V4(address) if self.question.kind != kind::AAAA => address,
                Address::V6(address) if self.question.kind != kind::A => address,
                // A name is told only where there is no address.
                Address::Name(_) => {
                    names = true;
                    continue;
                }
                Address::V4(_) | Address::V6(_) => {
                    others = true;
                    continue;
                }
            };
            if holds_address(&writer.written()[start..], address) {
                continue;
            }
            let count = usize::from(written.answers);
            if count >= self.view.settings.addresses {
                break;
            }
            if count >= self.answers_max() || writer.address(TO_QUESTION, ttl, address).is_err() {
                written.trimmed = true;
                break;
            }
            if count == ANSWERS_MAX {
                return None;
            }
            written.answers += 1;
        }
        match (written.answers, written.trimmed || names) {
            // Not even one has room, or there is a name to follow.
            (0, true) => None,
            (0, false) if others => Some(Found::Nothing(Rcode::NoError)),
            (0, false) => Some(Found::Nothing(self.nobody())),
            _ => Some(Found::Written(written)),
        }
    }

    fn srv(&self, scratch: &mut Scratch, writer: &mut Writer<'_>) -> Option<Found> {
        let ttl = self.view.settings.service_ttl(self.wanted.name);
        let zone = &self.view.settings.zones[self.wanted.zone];
        let room = writer.room();
        let mut glue_bytes = 0;
        let mut trimmed = false;
        scratch.picks.clear();
        while let Some((at, instance)) = self.next(&mut scratch.draw) {
            let glue = match instance.address() {
                Address::V4(_) => 16,
                Address::V6(_) => 28,
                Address::Name(_) => return None,
            };
            let mut earlier = scratch.picks.iter().filter_map(|pick| self.instance(pick.at));
            let known = earlier.clone().any(|other| same_place(other, instance));
            if known && earlier.any(|other| same_place(other, instance) && port(other) == port(instance)) {
                continue;
            }
            let before = writer.at();
            let told = scratch.picks.len();
            if told == ANSWERS_MAX || before > POINTER_MAX - NAME_BYTES_MAX {
                return None;
            }
            let target = (told < self.answers_max()).then(|| srv(writer, zone, ttl, instance));
            let glue = if known { 0 } else { glue };
            match target {
                Some(Some(Ok(target))) if writer.at() + glue_bytes + glue <= room => {
                    scratch.picks.push(Pick { at, target, first: !known });
                    glue_bytes += glue;
                }
                // A name that DNS cannot write.
                Some(None) => return None,
                _ => {
                    writer.back_to(before);
                    trimmed = true;
                    break;
                }
            }
        }
        let answers = scratch.picks.len() as u16;
        match (answers, trimmed) {
            (0, true) => return None,
            (0, false) => return Some(Found::Nothing(self.nobody())),
            _ => {}
        }
        let mut written = Written { answers, trimmed, ..Written::default() };
        let firsts = scratch.picks.iter().filter(|pick| pick.first);
        let firsts = firsts.filter_map(|pick| Some((pick.target, self.instance(pick.at)?)));
        for (target, instance) in firsts.clone() {
            let address: &[u8] = match instance.address() {
                Address::V4(address) => address,
                Address::V6(address) => address,
                Address::Name(_) => return None,
            };
            writer.address(target, ttl, address).ok()?;
            written.additional += 1;
        }
        if self.view.settings.node_meta && !trimmed {
            let before = (writer.at(), written.additional);
            for (target, instance) in firsts.filter(|(_, instance)| instance.service.address.is_empty()) {
                for (key, value) in &instance.node.meta {
                    scratch.text.clear();
                    append_text(key, value, &mut scratch.text);
                    if txt(writer, target, ttl, &scratch.text).is_err() {
                        // All or nothing, as where answers are rendered.
                        writer.back_to(before.0);
                        written.additional = before.1;
                        return Some(Found::Written(written));
                    }
                    written.additional += 1;
                }
            }
        }
        Some(Found::Written(written))
    }
}

/// Whether two instances have the same target: the same node, or the same address of their own.
fn same_place(one: &Instance, other: &Instance) -> bool {
    match (one.service.address.is_empty(), other.service.address.is_empty()) {
        (true, true) => Arc::ptr_eq(&one.node, &other.node) || one.node.node == other.node.node,
        (false, false) => one.address() == other.address(),
        _ => false,
    }
}

/// Whether an address is among the records written, all of which have a pointer for an owner.
fn holds_address(mut records: &[u8], address: &[u8]) -> bool {
    const BEFORE_DATA: usize = 12;
    while let Some((head, rest)) = records.split_at_checked(BEFORE_DATA) {
        let (data, rest) = rest.split_at(usize::from(head[BEFORE_DATA - 1]).min(rest.len()));
        if data == address {
            return true;
        }
        records = rest;
    }
    false
}

/// Writes an SRV record and gives a pointer to its target; `None` if the target is no name.
fn srv(writer: &mut Writer<'_>, zone: &Zone, ttl: u32, instance: &Instance) -> Option<Result<u16, Full>> {
    let mut digits = [0; 32];
    let (labels, suffix) = match (instance.service.address.is_empty(), instance.address()) {
        (true, _) => (instance.node.node.as_str(), zone.nodes.wire()),
        (false, Address::V4(address)) => (spell(address, &mut digits), zone.addresses.wire()),
        (false, Address::V6(address)) => (spell(address, &mut digits), zone.addresses.wire()),
        (false, Address::Name(_)) => return None,
    };
    let writable = |label: &str| (1..=LABEL_BYTES_MAX).contains(&label.len());
    let length = labels.len() + 1 + suffix.len();
    if !labels.split('.').all(writable) || length > NAME_BYTES_MAX {
        return None;
    }
    Some(write_srv(writer, ttl, instance, labels, suffix, length))
}

fn write_srv(
    writer: &mut Writer<'_>,
    ttl: u32,
    instance: &Instance,
    labels: &str,
    suffix: &[u8],
    length: usize,
) -> Result<u16, Full> {
    let [t0, t1, t2, t3] = ttl.to_be_bytes();
    let [o0, o1] = TO_QUESTION.to_be_bytes();
    // Priority, weight and port stand before the target.
    let [l0, l1] = (length as u16 + 6).to_be_bytes();
    let [w0, w1] = instance.weight().to_be_bytes();
    let [p0, p1] = port(instance).to_be_bytes();
    writer.bytes(&[o0, o1, 0, kind::SRV as u8, 0, IN as u8, t0, t1, t2, t3, l0, l1, 0, 1, w0, w1, p0, p1])?;
    let target = writer.at();
    // In full: RFC 2782 does not let it be compressed. Its address record's owner may point to it.
    for label in labels.split('.') {
        writer.bytes(&[label.len() as u8])?;
        writer.bytes(label.as_bytes())?;
    }
    writer.bytes(suffix)?;
    Ok(0xc000 | target as u16)
}

fn txt(writer: &mut Writer<'_>, owner: u16, ttl: u32, text: &[u8]) -> Result<(), Full> {
    writer.u16(owner)?;
    writer.record(kind::TXT, ttl)?;
    writer.u16(u16::try_from(text_len(text.len())).map_err(|_| Full)?)?;
    writer.text(text)
}

/// An address in hexadecimal digits.
fn spell<'a>(address: &[u8], digits: &'a mut [u8; 32]) -> &'a str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(address) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
    std::str::from_utf8(&digits[..2 * address.len()]).unwrap_or_default()
}

#[cfg(test)]
mod tests;
