//! Push and pull: two members compare their tables and take from each other what they lack.
//!
//! What one of them holds dead and the other alive is not buried at once: it may be the other half of a healed partition. The
//! member itself is asked. If it answers, it hears that it is held dead somewhere and begins another life; else it is buried.

use std::time::{Duration, Instant};

use bytes::Bytes;
use foca::{Member, State as Swim};
use uuid::Uuid;

use super::{Core, Done, Step, Teller};
use crate::book::{Departed, Entry, digest_of};
use crate::item::Item;
use crate::member::{Cause, Kind, State};
use crate::message::{Badge, Gone, Request, Response, Seen};

impl Core {
    pub(super) fn badge(&self) -> Badge {
        Badge { cluster: self.cluster, datacenter: self.record.datacenter.clone() }
    }

    /// What the table of all members is, with the newest events, in eight bytes.
    pub(super) fn digest(&self) -> u64 {
        let own = digest_of(self.me, State::Alive, (self.me.epoch, self.record.version));
        self.book.digest() ^ own ^ self.events.digest()
    }

    /// The table of all members, this agent included.
    pub(super) fn table(&self, now: Instant) -> Vec<Seen> {
        let own = Seen {
            identity: self.me,
            incarnation: self.incarnation,
            swim: Swim::Alive,
            gone: None,
            record: Some((self.me.epoch, self.record_bytes.clone())),
        };
        let others = self.foca.iter_membership_state().filter_map(|member| {
            let entry = self.book.get(member.id().node)?;
            let age = u32::try_from(now.saturating_duration_since(entry.since).as_secs()).unwrap_or(u32::MAX);
            let gone = (!entry.is_alive()).then_some(Gone { kind: entry.cause.kind, by: entry.cause.by, age });
            let record = entry.told.as_ref().map(|told| (told.epoch, told.bytes.clone()));
            Some(Seen { identity: *member.id(), incarnation: member.incarnation(), swim: member.state(), gone, record })
        });
        std::iter::once(own).chain(others).collect()
    }

    /// Takes what another member knows.
    pub(super) fn import(&mut self, from: Uuid, table: Vec<Seen>, fired: Vec<Item>, now: Instant) {
        let mut records: Vec<(Uuid, u64, Bytes)> = Vec::new();
        for seen in table {
            let node = seen.identity.node;
            if node == self.me.node {
                self.import_own(&seen, now);
                continue;
            }
            if self.book.is_full() && self.book.get(node).is_none() {
                continue;
            }
            if let Some((epoch, bytes)) = seen.record.clone() {
                records.push((node, epoch, bytes));
            }
            match (seen.swim, seen.gone) {
                (Swim::Down, gone) => self.import_dead(from, &seen, gone.unwrap_or(UNSAID), now),
                (Swim::Alive, _) => {
                    let update = Member::new(seen.identity, seen.incarnation, seen.swim);
                    let told = Teller::Member(from);
                    let _ = self.with_foca(told, |foca, out| foca.apply_many(std::iter::once(update), true, out), now);
                    self.note_incarnation(seen.identity, seen.incarnation, now);
                }
                // Who is suspected is told by accusations alone.
                (Swim::Suspect, _) => {}
            }
        }
        for (node, epoch, bytes) in records {
            if self.take_record(node, epoch, &bytes, now) && self.book.get(node).is_some_and(Entry::is_alive) {
                self.tell(&Item::Record { node, epoch, bytes });
            }
        }
        self.import_fired(fired);
        self.settle(now);
    }

    /// How this agent looks from there.
    fn import_own(&mut self, seen: &Seen, now: Instant) {
        if seen.identity != self.me {
            self.rival_seen(seen.identity, seen.swim != Swim::Down, now);
            return;
        }
        match (seen.swim, seen.gone) {
            (Swim::Alive | Swim::Suspect, _) => {}
            (Swim::Down, Some(gone)) if gone.kind.is_departure() => {
                self.told_departed(Departed { epoch: self.me.epoch, kind: gone.kind, by: gone.by.unwrap_or_default() }, now);
            }
            (Swim::Down, _) => self.renew_above(self.me.epoch, now),
        }
    }

    fn import_dead(&mut self, from: Uuid, seen: &Seen, gone: Gone, now: Instant) {
        let (identity, node) = (seen.identity, seen.identity.node);
        let state = if gone.kind.is_departure() { State::Left } else { State::Failed };
        let by = gone.by.or(Some(from));
        let departed = Departed { epoch: identity.epoch, kind: gone.kind, by: by.unwrap_or_default() };
        match self.book.get(node) {
            // One that was dead before we came: it is listed, and forgotten when its time is over, counted from its death.
            None => {
                let since = now.checked_sub(Duration::from_secs(gone.age.into())).unwrap_or(now);
                let namesake = seen
                    .record
                    .as_ref()
                    .and_then(|(_, bytes)| crate::record::Record::decode(bytes).ok())
                    .map(|record| record.name);
                let taken = namesake.is_some_and(|name| name == self.record.name || !self.book.named(&name, node).is_empty());
                if taken || Duration::from_secs(gone.age.into()) >= self.timeouts().of(state) {
                    return;
                }
                let entry = self.book.insert(Entry::new(identity, state, Cause { kind: gone.kind, by }, since));
                entry.departed = (state == State::Left).then_some(departed);
                let _ = self.with_foca(
                    Teller::Member(from),
                    |foca, out| foca.apply_many(std::iter::once(Member::down(identity)), false, out),
                    now,
                );
                self.plan_reaping(now);
            }
            Some(entry) if entry.identity == identity && state == State::Left => {
                let known = entry.departure().is_some();
                if !known && self.take_departure(node, departed, now) {
                    self.tell(&Item::Departed { node, epoch: departed.epoch, kind: departed.kind, by: departed.by });
                }
            }
            Some(entry) if entry.identity == identity && entry.is_alive() => self.held_dead(identity, by, now),
            // A life of it that we have not seen, and that is over: so is the one before.
            Some(entry) if foca::Identity::win_addr_conflict(&identity, &entry.identity) => {
                if state == State::Left
                    && let Some(entry) = self.book.get_mut(node)
                {
                    entry.departed = Some(departed);
                }
                let down = Member::down(identity);
                let _ = self.with_foca(Teller::Member(from), |foca, out| foca.apply_many(std::iter::once(down), true, out), now);
            }
            Some(_) => {}
        }
    }

    /// The other side's digest, as the accepting one.
    pub(super) fn asked_digest(&self, digest: u64) -> Response {
        if digest == self.digest() { Response::Same } else { Response::Table(Vec::new(), Vec::new()) }
    }

    /// The other side's table, as the accepting one; ours goes back.
    pub(super) fn asked_exchange(&mut self, table: Vec<Seen>, fired: Vec<Item>, now: Instant) -> Response {
        if let Some(from) = table.first().map(|seen| seen.identity.node) {
            self.import(from, table, fired, now);
        }
        Response::Table(self.table(now), self.events.exchanged())
    }

    /// Our table, for the other side's.
    pub(super) fn exchange_request(&self, now: Instant) -> Request {
        Request::Exchange { badge: self.badge(), table: self.table(now), fired: self.events.exchanged() }
    }

    /// The other side's answer, as the connecting one.
    pub(super) fn heard_exchange(&mut self, response: Response, now: Instant) -> Step {
        match response {
            Response::Same => Step::Done(Done::Well),
            Response::Table(table, _) if table.is_empty() => Step::Send(self.exchange_request(now)),
            Response::Table(table, fired) => {
                if let Some(from) = table.first().map(|seen| seen.identity.node) {
                    self.compare(&table);
                    self.import(from, table, fired, now);
                }
                Step::Done(Done::Well)
            }
            Response::Refused(refusal) => Step::Done(Done::Refused(refusal)),
            _ => Step::Done(Done::Failed),
        }
    }
}

/// A death without a reason, as an older version might tell it.
const UNSAID: Gone = Gone { kind: Kind::Told, by: None, age: 0 };
