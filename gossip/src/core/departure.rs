//! Leaving: one's own good-bye, and that of a failed member at an operator's word.

use std::time::Instant;

use super::{Core, Due, Standing};
use crate::book::Departed;
use crate::error::Error;
use crate::item::Item;
use crate::member::{Kind, State};

/// Rounds of gossip that carry a good-bye: the first reaches three members, each further one three more and what those told on.
const GOODBYE_ROUNDS: u8 = 5;

impl Core {
    /// Says good-bye; it is done when [`Core::standing`] is [`Standing::Left`].
    pub(crate) fn leave(&mut self, for_good: bool, now: Instant) {
        if !matches!(self.standing, Standing::Inside | Standing::Outside) {
            return;
        }
        let kind = if for_good { Kind::Left } else { Kind::Stopped };
        self.effects.changed = true;
        if self.book.alive().next().is_none() {
            self.standing = Standing::Left;
            self.wheel.clear();
            self.detect.clear();
            return;
        }
        self.standing = Standing::Leaving(GOODBYE_ROUNDS);
        self.say_goodbye(Departed { epoch: self.me.epoch, kind, by: self.me.node }, now);
        self.wheel.set(Due::Goodbye, now, self.config.timing.gossip_interval);
    }

    pub(super) fn say_goodbye(&mut self, departed: Departed, now: Instant) {
        let Departed { epoch, kind, by } = departed;
        self.tell(&Item::Departed { node: self.me.node, epoch, kind, by });
        let _ = self.foca.gossip(&mut self.out);
        self.settle(now);
    }

    pub(super) fn goodbye_round(&mut self, now: Instant) {
        let Standing::Leaving(rounds) = self.standing else { return };
        if rounds > 1 {
            self.standing = Standing::Leaving(rounds - 1);
            let _ = self.foca.gossip(&mut self.out);
            self.wheel.set(Due::Goodbye, now, self.config.timing.gossip_interval);
        } else {
            let _ = self.foca.leave_cluster(&mut self.out);
            self.standing = Standing::Left;
            self.effects.changed = true;
        }
        self.settle(now);
        if self.standing == Standing::Left {
            self.wheel.clear();
            self.detect.clear();
        }
    }

    /// Makes a failed member one that left, everywhere.
    pub(crate) fn force_leave(&mut self, name: &str, now: Instant) -> Result<(), Error> {
        if !self.is_inside() {
            return Err(Error::Out("it is in no cluster".into()));
        }
        let mut named: Vec<_> = self.book.iter().filter(|entry| entry.name() == Some(name)).collect();
        named.sort_by_key(|entry| entry.state != State::Failed);
        let Some(entry) = named.first() else {
            return Err(if name == self.record.name { Error::NotFailed(name.into()) } else { Error::UnknownMember(name.into()) });
        };
        let (node, epoch, state) = (entry.identity.node, entry.identity.epoch, entry.state);
        match state {
            State::Alive => Err(Error::NotFailed(name.into())),
            State::Left => Ok(()),
            State::Failed => {
                let departed = Departed { epoch, kind: Kind::Forced, by: self.me.node };
                if self.take_departure(node, departed, now) {
                    self.tell(&Item::Departed { node, epoch, kind: Kind::Forced, by: self.me.node });
                }
                self.settle(now);
                Ok(())
            }
        }
    }

    /// Has a member that failed or left dropped from the list, everywhere.
    pub(crate) fn prune(&mut self, name: &str, now: Instant) {
        let by = self.me.node;
        let gone = self.book.iter().filter(|entry| !entry.is_alive() && entry.name() == Some(name));
        let gone: Vec<_> = gone.map(|entry| (entry.identity.node, entry.identity.epoch)).collect();
        for (node, epoch) in gone {
            if self.take_departure(node, Departed { epoch, kind: Kind::Pruned, by }, now) {
                self.tell(&Item::Departed { node, epoch, kind: Kind::Pruned, by });
            }
        }
        self.settle(now);
    }
}
