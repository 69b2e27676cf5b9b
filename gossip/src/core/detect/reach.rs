//! Which members this agent reaches over UDP and over TCP, by the probes and exchanges made anyway.

use std::net::SocketAddr;
use std::time::Instant;

use uuid::Uuid;

use super::super::{Core, Heard};
use crate::identity::Identity;
use crate::member::{Port, Reach};

impl Core {
    /// A member answered there, or did not.
    pub(super) fn reached(&mut self, identity: Identity, port: Port, answered: bool, now: Instant) {
        let Some(reach) = self.book.reach_mut(identity) else { return };
        let before = reach.failing();
        let (last, missed) = match port {
            Port::Udp => (&mut reach.udp, &mut reach.udp_missed),
            Port::Tcp => (&mut reach.tcp, &mut reach.tcp_missed),
        };
        if answered {
            (*last, *missed) = (Some(now), 0);
        } else {
            *missed = missed.saturating_add(1);
        }
        if reach.failing() != before {
            self.effects.changed = true;
        }
    }

    /// Tables were compared with who is there, or it did not answer: then it is asked once more whether it lives.
    pub(in crate::core) fn reached_for_exchange(&mut self, addr: SocketAddr, heard: &Heard, now: Instant) {
        let member = self.book.alive().map(|entry| entry.identity).find(|identity| identity.addr == addr);
        let Some(identity) = member else { return };
        let answered = matches!(heard, Heard::Response(_));
        self.reached(identity, Port::Tcp, answered, now);
        if !answered {
            self.dial_ping(identity);
        }
    }

    /// All living members, and how they are reached from here.
    pub(crate) fn reach(&self) -> Vec<(Uuid, Reach)> {
        self.book.alive().map(|entry| (entry.identity.node, entry.reach)).collect()
    }
}
