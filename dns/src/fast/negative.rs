//! "There is none" on the hot path: every second question is for an IPv6 address that nobody has.

use crate::bounds::View;
use crate::wire::{Full, HEADER, Writer, kind};

/// Writes the SOA record that says how long there is none.
pub(super) fn negative(zone: usize, asked: &[u8], view: View<'_>, writer: &mut Writer<'_>) -> Result<(), Full> {
    let (zone, soa) = (&view.settings.zones[zone], view.settings.soa);
    let domain = zone.name.wire();
    let pointer = match asked.strip_suffix(domain) {
        Some(before) => {
            let pointer = 0xc000 | (HEADER + before.len()) as u16;
            writer.u16(pointer)?;
            pointer
        }
        // The asker wrote our domain in other letters.
        None => {
            let pointer = 0xc000 | writer.at() as u16;
            writer.bytes(domain)?;
            pointer
        }
    };
    writer.record(kind::SOA, soa.min_ttl)?;
    let length_at = writer.at();
    writer.u16(0)?;
    for name in [&zone.primary_server, &zone.mailbox] {
        writer.bytes(name.wire().strip_suffix(domain).unwrap_or(name.wire()))?;
        writer.u16(pointer)?;
    }
    for number in [view.now, soa.refresh, soa.retry, soa.expire, soa.min_ttl] {
        writer.u32(number)?;
    }
    writer.set_u16(length_at, (writer.at() - length_at - 2) as u16);
    Ok(())
}
