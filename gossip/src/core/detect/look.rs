//! A look at one member: pings of our own, of others, and one over TCP, for one interval, of which nobody else hears.

use std::time::Instant;

use foca::Message;
use rand::RngExt;
use uuid::Uuid;

use super::super::{Core, Dial, Due};
use crate::accusation::Ground;
use crate::core::Heard;
use crate::identity::Identity;
use crate::message::Response;
use crate::packet::Note;

/// Looks at once. Beyond them none is begun: the next failed probe asks again.
const LOOKS_MAX: usize = 256;
/// Pings in one interval.
const PINGS: u32 = 4;
/// How many others are asked to ping.
const OTHERS: usize = 3;

/// A look at one member.
#[derive(Debug)]
pub(super) struct Look {
    identity: Identity,
    since: Instant,
    until: Instant,
    serial: u64,
    /// Of its pings.
    number: u8,
    asked: bool,
    /// Nothing came back over TCP either.
    tcp: bool,
    refused: bool,
    /// What began it, if that was not a failed probe.
    ground: Option<Ground>,
    /// Others hold the member dead: it is buried if it does not answer. By whose word.
    told: Option<Uuid>,
    /// It failed, and the member is accused: the pings go on until that is decided.
    accused: bool,
}

impl Look {
    pub(super) fn is_of(&self, identity: Identity, number: u8) -> bool {
        (self.identity, self.number) == (identity, number)
    }
}

impl Core {
    /// A probe failed, an accusation is to be verified, or, with a ground, a feed fell silent.
    pub(in crate::core) fn look_privately(&mut self, identity: Identity, ground: Option<Ground>, now: Instant) {
        if self.begin_look(identity, now) {
            self.dial_ping(identity);
        }
        if let Some(look) = self.detect.looks.get_mut(&identity.node) {
            look.ground = look.ground.or(ground);
        }
    }

    /// A member that lives as this agent sees it is dead in another's table. If it lives, it hears that, and begins another life.
    pub(in crate::core) fn held_dead(&mut self, identity: Identity, by: Option<Uuid>, now: Instant) {
        if self.told_dead(identity, by, now) {
            self.effects.dials.push(Dial::Summon(identity, by));
        }
    }

    /// A packet tells of a death that nothing speaks for here. If the member lives, that is all.
    pub(in crate::core) fn doubt_death(&mut self, identity: Identity, by: Uuid, now: Instant) {
        if self.told_dead(identity, Some(by), now) {
            self.dial_ping(identity);
        }
    }

    /// False: that is looked at already.
    fn told_dead(&mut self, identity: Identity, by: Option<Uuid>, now: Instant) -> bool {
        self.begin_look(identity, now);
        let (by, until) = (by.unwrap_or(self.me.node), now + self.interval());
        let look = self.detect.looks.get_mut(&identity.node).filter(|look| look.identity == identity && look.told.is_none());
        let Some(look) = look else { return false };
        look.told = Some(by);
        if look.accused {
            // It has failed before: what is told now is worth another interval.
            (look.accused, look.until) = (false, until);
        }
        true
    }

    /// False: there is one, or there can be none.
    fn begin_look(&mut self, identity: Identity, now: Instant) -> bool {
        let looks = &self.detect.looks;
        if !self.is_inside() || self.living(identity).is_none() || looks.len() >= LOOKS_MAX || looks.contains_key(&identity.node)
        {
            return false;
        }
        let others = self.helpers(identity.node, OTHERS);
        let (serial, number) = (self.detect.next(), self.rng.random());
        let look = Look {
            identity,
            since: now,
            until: now + self.interval(),
            serial,
            number,
            asked: !others.is_empty(),
            tcp: false,
            refused: false,
            ground: None,
            told: None,
            accused: false,
        };
        self.detect.looks.insert(identity.node, look);
        for other in others {
            let message = Message::PingReq { target: identity, probe_number: number };
            self.send_own(other, message, Note::default());
        }
        self.look_due(identity.node, serial, now);
        true
    }

    pub(in crate::core) fn look_due(&mut self, node: Uuid, serial: u64, now: Instant) {
        let Some(look) = self.detect.looks.get(&node).filter(|look| look.serial == serial) else { return };
        let suspected = self.detect.suspicions.get(&node).map(|suspicion| suspicion.incarnation);
        if look.accused && suspected.is_none() {
            self.detect.looks.remove(&node);
            return;
        }
        if !look.accused && now >= look.until {
            self.look_failed(node, now);
        }
        let Some(look) = self.detect.looks.get(&node) else { return };
        let (identity, message) = (look.identity, Message::Ping(look.number));
        self.send_own(identity, message, Note { suspected, ..Note::default() });
        self.wheel.set(Due::Look(node, serial), now, self.interval() / PINGS);
    }

    pub(super) fn look_answered(&mut self, node: Uuid) {
        if self.detect.looks.get(&node).is_some_and(|look| !look.accused) {
            self.detect.looks.remove(&node);
        }
    }

    pub(super) fn look_silent(&mut self, identity: Identity) {
        if let Some(look) = self.detect.looks.get_mut(&identity.node).filter(|look| look.identity == identity) {
            look.tcp = true;
        }
    }

    /// The member's port refused this agent: of one that others hold dead, that is proof enough.
    pub(super) fn look_refused(&mut self, identity: Identity, now: Instant) {
        let Some(look) = self.detect.looks.get_mut(&identity.node).filter(|look| look.identity == identity) else { return };
        look.refused = true;
        if look.told.is_some() {
            self.look_failed(identity.node, now);
        }
    }

    /// Nothing was answered.
    fn look_failed(&mut self, node: Uuid, now: Instant) {
        let Some(look) = self.detect.looks.get_mut(&node) else { return };
        let ground = match look.ground {
            _ if look.refused => Ground::Refused,
            Some(ground) => ground,
            None if look.tcp => Ground::Tcp,
            None if look.asked => Ground::Indirect,
            None => Ground::Direct,
        };
        let (identity, since) = (look.identity, look.since);
        if let Some(by) = look.told {
            self.detect.looks.remove(&node);
            self.bury_told(identity, by, ground, since, now);
        } else {
            look.accused = true;
            self.accuse(identity, ground, since, now);
        }
    }

    /// One that is told dead was asked itself.
    pub(in crate::core) fn heard_summoned(&mut self, identity: Identity, heard: &Heard, now: Instant) {
        match heard {
            // It takes no part, or not in this cluster.
            Heard::Response(Response::Iam(iam))
                if iam.identity.node == identity.node && (iam.quiet || iam.cluster != self.cluster) => {}
            Heard::Response(Response::Iam(iam)) if iam.identity.node == identity.node => self.look_answered(identity.node),
            Heard::Response(Response::Iam(_)) | Heard::Refused => self.look_refused(identity, now),
            _ => {}
        }
    }
}
