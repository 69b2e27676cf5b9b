//! Packets that come in: opened, read whole, freed of what foca must not see, then given to it.

use std::time::Instant;

use foca::{Member, Message, State as Swim};
use uuid::Uuid;

use super::{Core, Standing, Teller};
use crate::accusation::Charge;
use crate::book::{Departed, Verdict};
use crate::identity::Identity;
use crate::item::Item;
use crate::member::{Cause, Event, Kind, State};
use crate::metrics::{Doubted, Dropped};
use crate::packet::{Note, Packet, Target};

/// Largest cluster in which what must be known soon is told to each member by itself: 32 KB at most, where ten members who pass
/// something on send as much.
const TOLD_EACH_MAX: usize = 128;

impl Core {
    /// Takes a packet, or counts why not.
    pub(crate) fn packet(&mut self, bytes: &[u8], now: Instant) {
        self.meters.received(bytes.len());
        self.wake(now);
        if let Err(cause) = self.take_packet(bytes, now) {
            self.meters.dropped(cause);
        }
    }

    fn take_packet(&mut self, bytes: &[u8], now: Instant) -> Result<(), Dropped> {
        if !matches!(self.standing, Standing::Inside | Standing::Leaving(_)) {
            return Err(Dropped::Out);
        }
        let cluster = self.cluster.ok_or(Dropped::Out)?;
        let payload = self.seal.open(cluster, bytes, now)?;
        let mut packet = Packet::decode(&payload).map_err(|_| Dropped::Malformed)?;
        self.address(&packet, now)?;
        let from = packet.src;
        if self.book.is_full() && self.book.get(from.node).is_none() {
            return Err(Dropped::Out);
        }
        if self.living(from).is_some() {
            self.hear_answers(&packet, now);
        }
        if self.answered_without_foca(&packet, now) {
            return Ok(());
        }
        // What explains a death is taken before the death, what a member says about itself after its birth.
        let (before, after): (Vec<_>, Vec<_>) = std::mem::take(&mut packet.items)
            .into_iter()
            .partition(|item| matches!(item, Item::Departed { .. } | Item::Verdict { .. }));
        for item in before {
            self.take_item(&item, now);
        }
        for update in std::mem::take(&mut packet.updates) {
            let (id, active) = (*update.id(), update.state() != Swim::Down);
            if id.node == self.me.node && id != self.me {
                self.rival_seen(id, active, now);
            } else if !active && id.node != self.me.node && !self.believes_dead(&update, from.node, now) {
                self.meters.doubted(Doubted::Unproven);
            } else if id.node == self.me.node || !self.book.is_full() || self.book.get(id.node).is_some() {
                packet.updates.push(update);
            }
        }
        let bytes = packet.encode_for_foca(self.me);
        let taken = self.with_foca(Teller::Member(from.node), |foca, out| foca.handle_data(&bytes, out), now);
        for item in after {
            self.take_item(&item, now);
        }
        self.note_incarnation(from, packet.src_incarnation, now);
        for update in packet.updates.iter().filter(|update| update.state() == Swim::Alive) {
            self.note_incarnation(*update.id(), update.incarnation(), now);
        }
        self.settle(now);
        taken.map_err(|_| Dropped::Malformed)
    }

    /// Whether the packet is for this life of this agent. One for an earlier life of the same run is: its sender has not heard of
    /// the renewal yet, and would find a deaf agent.
    fn address(&mut self, packet: &Packet, now: Instant) -> Result<(), Dropped> {
        let (from, to) = (packet.src, packet.to);
        if from.node == self.me.node {
            self.rival_seen(from, true, now);
            return Err(Dropped::NotForUs);
        }
        if to != Target::of(&self.me) {
            let same_run = to.hash == Target::hash_of(&self.me) && (self.admitted..self.me.epoch).contains(&to.epoch);
            // What an earlier life is told about its death, or its suspicion, is not for this one.
            if !same_run || packet.message == Message::TurnUndead || packet.note.suspected.is_some() {
                return Err(Dropped::NotForUs);
            }
        }
        Ok(())
    }

    /// Whether word of a death is believed. If it is not, the member is asked itself: the word alone changes nothing.
    fn believes_dead(&mut self, update: &Member<Identity>, by: Uuid, now: Instant) -> bool {
        let id = *update.id();
        let Some(entry) = self.book.get(id.node).filter(|entry| entry.is_alive()) else { return true };
        let (known, incarnation) = (entry.identity, entry.incarnation);
        let decided = entry.departed.is_some_and(|departed| departed.epoch >= id.epoch);
        let earlier = foca::Identity::win_addr_conflict(&known, &id);
        if decided || earlier {
            return true; // foca leaves an earlier life alone
        }
        if known == id && update.incarnation() < incarnation {
            return false;
        }
        if known == id && self.is_ripe(id, now) {
            return true;
        }
        self.doubt_death(known, by, now);
        false
    }

    /// Takes an item, and passes it on if it is news.
    pub(super) fn take_item(&mut self, item: &Item, now: Instant) {
        let news = match item {
            Item::Record { node, .. } | Item::Bigger { node, .. } if *node == self.me.node => false,
            Item::Record { node, epoch, bytes } => self.take_record(*node, *epoch, bytes, now),
            Item::Bigger { node, epoch, version } => self.hear_of_record(*node, (*epoch, *version), now),
            Item::Departed { node, epoch, kind, by } => {
                self.take_departure(*node, Departed { epoch: *epoch, kind: *kind, by: *by }, now)
            }
            Item::Verdict { node, epoch, by, charges } => self.take_verdict(*node, *epoch, *by, charges, now),
            Item::Fired { node, epoch, number, name, payload } => self.take_fired(*node, *epoch, *number, name, payload),
            Item::Accused { node, epoch, incarnation, charge } => self.take_accused(*node, *epoch, *incarnation, charge, now),
        };
        if news {
            self.meters.item_taken(item.encode().len());
            self.tell(item);
        }
    }

    /// Tells each member at once, in a cluster that is not large. Gossip tells them as well, but takes some rounds, and one time in
    /// hundreds it misses one, who finds out by itself seconds later.
    pub(super) fn tell_each(&mut self, update: Option<Member<Identity>>, item: Item) {
        let members: Vec<Identity> = self.book.alive().map(|entry| entry.identity).collect();
        if members.len() > TOLD_EACH_MAX {
            return;
        }
        let (note, src, src_incarnation) = (Note::default(), self.me, self.incarnation);
        let (updates, items, to) = (Vec::from_iter(update), vec![item], Target::of(&src));
        let mut packet = Packet { note, src, src_incarnation, to, message: Message::Gossip, updates, items };
        for member in members {
            packet.to = Target::of(&member);
            self.send_frame(member.addr, &packet.encode());
        }
    }

    /// A life of a node ended by a decision. True if that is news.
    pub(super) fn take_departure(&mut self, node: Uuid, departed: Departed, now: Instant) -> bool {
        if node == self.me.node {
            self.told_departed(departed, now);
            return false;
        }
        let Some(entry) = self.book.get_mut(node) else { return false };
        let order = |departed: &Departed| (departed.epoch, departed.kind == Kind::Pruned);
        let stale = entry.departed.is_some_and(|known| order(&known) >= order(&departed));
        if stale || departed.epoch < entry.identity.epoch {
            return false;
        }
        entry.departed = Some(departed);
        if departed.epoch == entry.identity.epoch {
            self.depart(node, departed, now);
            if departed.kind == Kind::Pruned {
                self.reap(node, Cause { kind: Kind::Pruned, by: Some(departed.by) }, now);
            }
        }
        true
    }

    /// The life that is known has left: now, or after it had failed.
    pub(super) fn depart(&mut self, node: Uuid, departed: Departed, now: Instant) {
        let Some(entry) = self.book.get_mut(node) else { return };
        match entry.state {
            State::Alive => {
                let down = foca::Member::down(entry.identity);
                let teller = Teller::Member(departed.by);
                let _ = self.with_foca(teller, |foca, out| foca.apply_many(std::iter::once(down), true, out), now);
            }
            State::Failed => {
                entry.state = State::Left;
                entry.since = now;
                entry.cause = Cause { kind: departed.kind, by: Some(departed.by) };
                self.event_of(node, Event::Left);
                self.plan_reaping(now);
                self.yield_name(node, now);
            }
            State::Left => {}
        }
    }

    /// Who buried a life of a node, and why. True if that is news.
    fn take_verdict(&mut self, node: Uuid, epoch: u64, by: Uuid, charges: &[Charge], now: Instant) -> bool {
        let Some(entry) = self.book.get_mut(node) else { return false };
        if epoch < entry.identity.epoch || entry.verdict.as_ref().is_some_and(|known| known.epoch >= epoch) {
            return false;
        }
        let accusations = charges.iter().map(|charge| charge.accusation(now)).collect();
        let verdict = Verdict { epoch, by, accusations };
        if entry.state == State::Failed && epoch == entry.identity.epoch && entry.cause.kind == Kind::Told {
            entry.cause = verdict.cause();
            entry.accused = verdict.accusations.clone();
            self.effects.changed = true;
        }
        entry.verdict = Some(verdict);
        true
    }
}
