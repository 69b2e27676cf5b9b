//! The probe that foca has running: foca never hears that it failed, and what it failed for is looked after here.

use std::time::Instant;

use foca::{Header, Message};
use uuid::Uuid;

use super::super::{Core, Due};
use crate::identity::Identity;
use crate::member::Port;
use crate::packet::{Note, Packet, Target};

/// Pings for others that are waited for at once; beyond them an asker hears no nack, as if it were lost.
const ASKED_MAX: usize = 256;
/// How much of the time that a ping may take passes before the asker hears that there was no answer: it should hear in time.
const NACK_AFTER: f64 = 0.8;

/// By asker, asked for, number.
pub(super) type Asked = (Uuid, Uuid, u8);

/// A probe of foca's.
#[derive(Debug)]
pub(super) struct Probe {
    target: Identity,
    number: u8,
    sent: Instant,
    answered: bool,
    /// By an ack of its own: of that one it is known how long it took.
    seen: bool,
    /// foca has asked others to ping, and holds the member silent if it hears of no answer.
    indirect: bool,
    /// How many others were asked to ping.
    asked: u8,
    /// How many of them said that they got no answer either.
    nacks: u8,
}

impl Core {
    /// foca sends a packet.
    pub(in crate::core) fn note_sent(&mut self, header: &Header<Identity>, now: Instant) -> Note {
        let mut note = Note::default();
        match &header.message {
            Message::Ping(number) => {
                let (target, number) = (header.dst, *number);
                let probe =
                    Probe { target, number, sent: now, answered: false, seen: false, indirect: false, asked: 0, nacks: 0 };
                self.detect.probe = Some(probe);
                self.meters.probes(self.detect.health.score());
                note.digest = Some(self.living_digest());
            }
            Message::Ack(_) => {
                note.digest = Some(self.living_digest());
                note.coordinate = self.place.tell();
            }
            Message::PingReq { target, .. } => {
                if let Some(probe) = self.detect.probe.as_mut().filter(|probe| probe.target == *target) {
                    probe.asked = probe.asked.saturating_add(1);
                }
            }
            _ => {}
        }
        note.suspected = self.detect.suspicions.get(&header.dst.node).map(|suspicion| suspicion.incarnation);
        note
    }

    /// A packet of our own making.
    pub(super) fn send_own(&mut self, to: Identity, message: Message<Identity>, note: Note) {
        let (src, src_incarnation) = (self.me, self.incarnation);
        let (updates, items) = (Vec::new(), Vec::new());
        let packet = Packet { note, src, src_incarnation, to: Target::of(&to), message, updates, items };
        self.send_frame(to.addr, &packet.encode());
    }

    /// What a packet says about pings.
    pub(in crate::core) fn hear_answers(&mut self, packet: &Packet, now: Instant) {
        match &packet.message {
            Message::Ack(number) => {
                let probe = self.detect.probe.as_mut().filter(|probe| (probe.target, probe.number) == (packet.src, *number));
                if let Some(probe) = probe {
                    let (first, sent) = (!std::mem::replace(&mut probe.seen, true), probe.sent);
                    if first {
                        self.meters.probed(now.saturating_duration_since(sent));
                    }
                    if let Some(there) = packet.note.coordinate.filter(|_| first) {
                        self.measured(packet.src, &there, sent, now);
                    }
                }
                self.hear_ack(packet.src, *number);
                // A late one says that it answers, too.
                self.reached(packet.src, Port::Udp, true, now);
            }
            Message::ForwardedAck { origin, probe_number } => self.hear_ack(*origin, *probe_number),
            Message::PingReq { target, probe_number } if self.detect.asked.len() < ASKED_MAX => {
                let asked = (packet.src.node, target.node, *probe_number);
                self.detect.asked.insert(asked, packet.src);
                self.wheel.set(Due::Nack(asked), now, self.config.timing.patience().mul_f64(NACK_AFTER));
            }
            Message::IndirectAck { target, probe_number } => {
                self.detect.asked.remove(&(target.node, packet.src.node, *probe_number));
            }
            _ => {}
        }
        if let Some((node, number)) = packet.note.nack
            && let Some(probe) = &mut self.detect.probe
            && (probe.target.node, probe.number) == (node, number)
        {
            probe.nacks = probe.nacks.saturating_add(1).min(probe.asked);
        }
        if let Some(incarnation) = packet.note.suspected {
            self.refute(incarnation, now);
        }
        if let Some(digest) = packet.note.digest {
            self.hear_digest(packet.src, digest, now);
        }
    }

    fn hear_ack(&mut self, from: Identity, number: u8) {
        if self.detect.probe.as_ref().is_some_and(|probe| probe.target == from && probe.number == number) {
            self.probe_answered(from);
        }
        if self.detect.looks.get(&from.node).is_some_and(|look| look.is_of(from, number)) {
            self.look_answered(from.node);
        }
    }

    pub(super) fn probe_answered(&mut self, from: Identity) {
        if let Some(probe) = self.detect.probe.as_mut().filter(|probe| probe.target == from && !probe.answered) {
            probe.answered = true;
            self.detect.health.better();
            self.meters.health(self.detect.health.score());
        }
    }

    /// Somebody asked for a ping that was not answered.
    pub(in crate::core) fn nack_due(&mut self, asked: Asked) {
        if let Some(asker) = self.detect.asked.remove(&asked) {
            let note = Note { nack: Some((asked.1, asked.2)), ..Note::default() };
            self.send_own(asker, Message::Gossip, note);
        }
    }

    /// Whether the direct ping has taken too long.
    pub(in crate::core) fn probe_waits(&self, target: Identity) -> bool {
        self.detect.probe.as_ref().is_some_and(|probe| probe.target == target && !probe.answered)
    }

    /// Others were asked, and TCP is tried.
    pub(in crate::core) fn probe_indirect(&mut self, target: Identity, now: Instant) {
        if let Some(probe) = self.detect.probe.as_mut().filter(|probe| probe.target == target && !probe.answered) {
            probe.indirect = true;
            self.reached(target, Port::Udp, false, now);
            self.dial_ping(target);
        }
    }

    /// The probe's time is over, and the next one begins.
    pub(in crate::core) fn probe_over(&mut self, now: Instant) {
        let Some(probe) = self.detect.probe.take() else { return };
        self.ack_for_foca(&probe, now);
        if probe.answered {
            return;
        }
        // Members that were asked and did not even say that they failed: then it is this agent that hears nothing.
        let missing = if probe.asked > 0 { probe.asked - probe.nacks } else { 1 };
        self.detect.health.worse(missing);
        self.meters.health(self.detect.health.score());
        self.look_privately(probe.target, None, now);
    }

    /// This agent slept: the running probe says nothing.
    pub(super) fn probe_forgiven(&mut self, now: Instant) {
        if let Some(probe) = self.detect.probe.take() {
            self.ack_for_foca(&probe, now);
        }
    }

    /// foca must not suspect by itself: its suspicions say neither by whom nor why.
    fn ack_for_foca(&mut self, probe: &Probe, now: Instant) {
        let Some(entry) = self.living(probe.target).filter(|_| probe.indirect) else { return };
        let (src, src_incarnation, message) = (probe.target, entry.incarnation, Message::Ack(probe.number));
        let (note, updates, items) = (Note::default(), Vec::new(), Vec::new());
        let packet = Packet { note, src, src_incarnation, to: Target::of(&self.me), message, updates, items };
        let bytes = packet.encode_for_foca(self.me);
        let _ = self.with_foca(super::Teller::Own, |foca, out| foca.handle_data(&bytes, out), now);
    }
}
