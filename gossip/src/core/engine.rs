//! foca, called with its own runtime; and what it asks for, carried out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::{Foca, Header, Message, OwnedNotification, Runtime, Timer};
use rand::rngs::SmallRng;

use super::{Core, Due, Teller};
use crate::identity::Identity;
use crate::item::{Item, Items};
use crate::packet::{Codec, Made, Packet};
use crate::seal::{FRAME_BYTES_MAX, PACKET_BYTES_MAX};

/// How long the first round of gossip after a pause waits.
const GOSSIP_SOON: Duration = Duration::from_millis(10);
/// The second round after a pause follows after this part of an interval. The first reaches all but one in twenty, who would wait a
/// whole interval; it costs nothing, as each update goes out as often as before.
const GOSSIP_AGAIN: u32 = 4;
/// From so many intervals without a round on it was a pause.
const GOSSIP_PAUSE: f64 = 1.5;

pub(super) type FocaHere = Foca<Identity, Codec, SmallRng, Items>;

/// foca's own forgetting is not used; it must only be later than ours.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where foca puts what it wants: to be carried on after the call, by [`Core::settle`].
#[derive(Debug, Default)]
pub(super) struct Out {
    packets: Vec<(Identity, Vec<u8>)>,
    timers: Vec<(Timer<Identity>, Duration)>,
    pub(super) notes: Vec<OwnedNotification<Identity>>,
}

impl Runtime<Identity> for Out {
    fn notify(&mut self, notification: foca::Notification<'_, Identity>) {
        self.notes.push(notification.to_owned());
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.packets.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((event, after));
    }
}

impl Core {
    /// Calls foca with its own runtime; whose word comes of it is `teller`'s. An error of foca's is about what came in, and has
    /// changed nothing: it is counted by the caller, where anybody cares.
    pub(super) fn with_foca<R>(&mut self, teller: Teller, act: impl FnOnce(&mut FocaHere, &mut Out) -> R, now: Instant) -> R {
        let before = std::mem::replace(&mut self.teller, teller);
        let result = act(&mut self.foca, &mut self.out);
        self.settle(now);
        self.teller = before;
        result
    }

    /// A round of gossip is made.
    pub(super) fn gossips(&mut self, now: Instant) {
        let pause = self.config.timing.gossip_interval.mul_f64(GOSSIP_PAUSE);
        self.after_pause = self.gossiped.is_none_or(|last| now.saturating_duration_since(last) >= pause);
        self.gossiped = Some(now);
    }

    /// Carries on what foca asked for.
    pub(super) fn settle(&mut self, now: Instant) {
        while !self.out.notes.is_empty() {
            for note in std::mem::take(&mut self.out.notes) {
                self.noted(note, now);
            }
        }
        for (timer, after) in std::mem::take(&mut self.out.timers) {
            match timer {
                // The dead are reaped by class, from the book.
                Timer::RemoveDown(_) => {}
                // Who is silent is accused, and nobody is buried by foca alone.
                Timer::ChangeSuspectToDown { .. } => {}
                Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } => {
                    // Both by the same factor: foca wants them in this order.
                    let after = self.detect.health.stretch(after);
                    self.wheel.set(Due::Foca(timer), now, after);
                }
                Timer::PeriodicGossip(_) => self.parked = Some(timer),
                timer => self.wheel.set(Due::Foca(timer), now, after),
            }
        }
        if self.has_news()
            && let Some(timer) = self.parked.take()
        {
            // The first round after a pause is soon, but takes along what happens in the same moment.
            let interval = self.config.timing.gossip_interval;
            let pace = if self.after_pause { interval / GOSSIP_AGAIN } else { interval };
            let due = self.gossiped.map_or(Duration::ZERO, |last| (last + pace).saturating_duration_since(now));
            self.wheel.set(Due::Foca(timer), now, due.max(GOSSIP_SOON));
        }
        for (to, packet) in std::mem::take(&mut self.out.packets) {
            let Ok(made) = Made::read(&packet) else { continue };
            // foca tells its own incarnation nowhere else.
            self.incarnation = made.header.src_incarnation;
            self.send_made(to, &made, now);
        }
    }

    fn send_made(&mut self, to: Identity, made: &Made<'_>, now: Instant) {
        let mut note = self.note_sent(&made.header, now);
        let mut packet = made.travelling(&note);
        if packet.len() > PACKET_BYTES_MAX - FRAME_BYTES_MAX {
            // foca filled it with news, and left room for what it knows of. Where this agent is can wait for another ack.
            note.coordinate = None;
            packet = made.travelling(&note);
        }
        let packet = self.without_disowned(packet);
        self.send_frame(to.addr, &packet);
    }

    /// A ping or an ack without news of a member that is known so: foca would look through its list of all members, and change nothing.
    /// To a ping it would send the ack that is sent here, where there are no news here either; of an ack it hears at the end of its
    /// probe, if it must (see [`Core::probe_over`]). Most packets of a cluster at rest are these.
    pub(super) fn answered_without_foca(&mut self, packet: &Packet, now: Instant) -> bool {
        let (from, incarnation) = (packet.src, packet.src_incarnation);
        let news = !packet.updates.is_empty() || !packet.items.is_empty();
        if news || !self.is_inside() || self.defunct || self.living(from).is_none_or(|entry| entry.incarnation < incarnation) {
            return false;
        }
        match packet.message {
            Message::Ping(number) if !self.has_news() => {
                let header = Header { src: self.me, src_incarnation: self.incarnation, dst: from, message: Message::Ack(number) };
                self.send_made(from, &Made::without_news(header), now);
                true
            }
            Message::Ack(_) => true,
            _ => false,
        }
    }

    /// Whether foca has something to tell.
    fn has_news(&self) -> bool {
        self.foca.updates_backlog() > 0 || self.foca.custom_broadcast_backlog() > 0
    }

    /// Seals a packet, and has it sent.
    pub(super) fn send_frame(&mut self, to: SocketAddr, packet: &[u8]) {
        let Some(cluster) = self.cluster else { return };
        if let Some(frame) = self.seal.seal(cluster, packet) {
            self.meters.sent(frame.len());
            self.effects.packets.push((to, frame));
        }
    }

    /// A packet without the accusations that foca still carries from before this agent was alone.
    fn without_disowned(&self, bytes: Vec<u8>) -> Vec<u8> {
        if self.disowned.is_empty() {
            return bytes;
        }
        let Ok(mut packet) = Packet::decode(&bytes) else { return bytes };
        let disowned = |node, epoch| self.disowned.iter().any(|identity| identity.node == node && identity.epoch == epoch);
        packet.updates.retain(|update| update.state() != foca::State::Down || !self.disowned.contains(update.id()));
        packet.items.retain(|item| {
            !matches!(item, Item::Verdict { node, epoch, .. } | Item::Accused { node, epoch, .. } if disowned(*node, *epoch))
        });
        packet.encode()
    }

    fn noted(&mut self, note: OwnedNotification<Identity>, now: Instant) {
        match note {
            OwnedNotification::MemberUp(identity) => self.came_up(identity, now),
            OwnedNotification::MemberDown(identity) => self.went_down(identity, now),
            OwnedNotification::Rename(_, identity) => self.renamed(identity, now),
            OwnedNotification::Idle => self.became_lonely(now),
            OwnedNotification::Defunct => self.declared_dead(now),
            OwnedNotification::Active | OwnedNotification::Rejoin(_) => {}
        }
        self.resize();
    }

    /// foca's patience and spread follow the size of the cluster.
    pub(super) fn resize(&mut self) {
        let members = self.foca.num_members() + 1;
        if members != self.sized_for {
            self.sized_for = members;
            // Only periods may not change, and they are the same ones.
            let _ = self.foca.set_config(self.config.timing.foca(members, FORGET_AFTER));
        }
    }
}
