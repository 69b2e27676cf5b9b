//! Admission comes before packets: what a joiner claims, who is asked whether the claim may stand, and what is answered.

use std::net::SocketAddr;
use std::time::Instant;

use rand::seq::IteratorRandom;
use tracing::warn;
use uuid::Uuid;

use super::{Core, Dial, Done, Reply, Standing, Step};
use crate::book::Departed;
use crate::error::{KeyError, Refusal, Why};
use crate::identity::Identity;
use crate::item::Item;
use crate::key::{Key, Keyring};
use crate::member::{Event, Kind};
use crate::message::{Claim, Iam, KeyAct, Reached, Response, WAITING_MAX, Waiting};
use crate::record::{PROTOCOL_MAX, PROTOCOL_MIN, Record};

/// A claim that others stand against: they, or what is left of them, must be tried before it is judged.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) claim: Claim,
    /// Who holds the claimed UUID at another address, or the claimed name under another UUID.
    pub(crate) holders: Vec<Identity>,
    /// One more member to try them, if there is one.
    pub(crate) witness: Option<SocketAddr>,
}

/// What became of trying one holder, from here and from the witness.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) holder: Identity,
    pub(crate) reached: Vec<Reached>,
}

impl Core {
    pub(super) fn heard_join(&mut self, peer: SocketAddr, response: Response, now: Instant) -> Step {
        match response {
            Response::Admitted { cluster, epoch, reached } => {
                if !reached {
                    let advertised = self.me.addr;
                    warn!(%peer, %advertised, "the member that was joined cannot reach the address this agent advertises: look at advertise_addr, and at what stands between");
                    self.effects.events.push(Event::Unreachable { by: peer, advertised });
                }
                match self.cluster {
                    None => Step::Adopt(cluster, epoch),
                    Some(ours) if ours == cluster => self.admitted(epoch, now),
                    Some(ours) => Step::Done(Done::Refused(Refusal::cluster(ours, cluster))),
                }
            }
            Response::Forming(waiting) => {
                // Who answers is there; whom it names is asked, and not passed on by its word alone.
                let mut waiting = waiting.into_iter();
                if let Some(answerer) = waiting.next() {
                    self.remember_waiting(answerer, now);
                }
                for named in waiting {
                    if named.identity.node != self.me.node && !self.waiting.contains_key(&named.identity.node) {
                        self.effects.dials.push(Dial::Join(named.identity.addr));
                    }
                }
                Step::Done(Done::Waiting)
            }
            response => {
                let alone = self.book.alive().next().is_none();
                let step = self.heard_exchange(response, now);
                if alone && self.is_inside() {
                    self.tell_each(None, self.record_item());
                }
                step
            }
        }
    }

    /// The cluster id is on disk: from now on it is used.
    pub(crate) fn adopted(&mut self, cluster: Uuid, epoch: u64, now: Instant) -> Step {
        match self.cluster {
            None => {
                self.cluster = Some(cluster);
                self.event(Event::Cluster(cluster));
            }
            // Another conversation was faster.
            Some(ours) if ours != cluster => return Step::Done(Done::Refused(Refusal::cluster(ours, cluster))),
            Some(_) => {}
        }
        self.admitted(epoch, now)
    }

    fn admitted(&mut self, epoch: u64, now: Instant) -> Step {
        match self.standing {
            Standing::Outside => {
                if epoch > self.me.epoch {
                    self.live_as(epoch, now);
                }
                self.admitted = self.me.epoch;
                self.enter();
            }
            Standing::Inside if epoch > self.me.epoch => self.live_as(epoch, now),
            Standing::Inside => {}
            Standing::Leaving(_) | Standing::Left | Standing::Quiet(_) => return Step::Done(Done::Refused(self.out())),
        }
        Step::Send(self.exchange_request(now))
    }

    pub(super) fn enter(&mut self) {
        self.standing = Standing::Inside;
        self.held = false;
        self.effects.changed = true;
    }

    /// This agent founds the cluster: it is in it, alone at first. The id must be on disk. One whose UUID or name a living member
    /// holds is not in it before a member has let it in.
    pub(crate) fn found(&mut self, cluster: Uuid, now: Instant) -> bool {
        if self.cluster.is_some_and(|ours| ours != cluster) || self.standing != Standing::Outside || self.held {
            return self.cluster == Some(cluster) && self.is_inside();
        }
        if self.cluster.is_none() {
            self.cluster = Some(cluster);
            self.event(Event::Cluster(cluster));
        }
        self.enter();
        self.events.begin();
        let waiting: Vec<_> = self.waiting.values().map(|(waiting, _)| Dial::Join(waiting.identity.addr)).collect();
        self.effects.dials.extend(waiting);
        self.settle(now);
        true
    }

    /// Agents that wait for a cluster, as this one does, and their records.
    pub(crate) fn waiting(&self) -> Vec<(Identity, Record)> {
        let read = |waiting: &Waiting| Some((waiting.identity, Record::decode(&waiting.record).ok()?));
        self.waiting.values().filter_map(|(waiting, _)| read(waiting)).collect()
    }

    fn remember_waiting(&mut self, waiting: Waiting, now: Instant) {
        let node = waiting.identity.node;
        let known = self.waiting.contains_key(&node);
        if self.cluster.is_none() && node != self.me.node && (known || self.waiting.len() < WAITING_MAX) {
            self.waiting.insert(node, (waiting, now));
            self.effects.changed = true;
        }
    }

    pub(super) fn check_claim(&self, claim: &Claim) -> Result<(), Refusal> {
        if !matches!(self.standing, Standing::Inside | Standing::Outside) {
            return Err(self.out());
        }
        if claim.protocol.0 > PROTOCOL_MAX || claim.protocol.1 < PROTOCOL_MIN {
            let (oldest, newest) = claim.protocol;
            let text = format!(
                "it speaks gossip protocol {PROTOCOL_MIN} to {PROTOCOL_MAX}, the agent that asks {oldest} to {newest}: upgrade the older one"
            );
            return Err(Refusal::new(Why::Version, text));
        }
        self.check_datacenter(&claim.iam.datacenter)?;
        if let (Some(ours), Some(theirs)) = (self.cluster, claim.iam.cluster)
            && ours != theirs
        {
            return Err(Refusal::cluster(theirs, ours));
        }
        let named =
            Record::decode(&claim.record).is_ok_and(|record| record.name == claim.iam.name && record.boot == claim.iam.boot);
        if !named || claim.iam.identity.node.is_nil() {
            return Err(Refusal::new(Why::Malformed, "its claim contradicts its record"));
        }
        Ok(())
    }

    pub(super) fn asked_join(&mut self, claim: Claim, now: Instant) -> Reply {
        let (identity, boot) = (claim.iam.identity, claim.iam.boot);
        if self.cluster.is_none() {
            if claim.iam.cluster.is_some() {
                // There is a cluster, and it knocks: the way in is to knock back.
                self.effects.dials.push(Dial::Join(identity.addr));
                return Reply::Now(Response::Forming(Vec::new()));
            }
            let own = Waiting { identity: self.me, record: self.record_bytes.clone() };
            let others = self.waiting.values().map(|(waiting, _)| waiting.clone());
            let waiting: Vec<_> = std::iter::once(own).chain(others).take(WAITING_MAX).collect();
            if boot != self.boot {
                self.remember_waiting(Waiting { identity, record: claim.record }, now);
            }
            return Reply::Now(Response::Forming(waiting));
        }
        if boot == self.boot {
            // It found itself: that lets nobody in.
            return Reply::Now(if self.is_inside() { Response::Same } else { Response::Forming(Vec::new()) });
        }
        if identity.node == self.me.node {
            return Reply::Now(self.refuse(identity.addr, self.id_taken(identity, self.me.addr), now));
        }
        if claim.iam.name == self.record.name {
            return Reply::Now(self.refuse(identity.addr, self.name_taken(&claim.iam, self.me), now));
        }
        let holders = self.holders(&claim);
        if holders.is_empty() || claim.iam.replace {
            return Reply::Now(self.admit(&claim, holders, now));
        }
        let addrs: Vec<_> = holders.iter().map(|holder| holder.addr).chain([identity.addr]).collect();
        let witness =
            self.book.alive().map(|entry| entry.identity.addr).filter(|addr| !addrs.contains(addr)).choose(&mut self.rng);
        Reply::Check(Box::new(Check { claim, holders, witness }))
    }

    /// Who, not known to have left, holds what is claimed.
    fn holders(&self, claim: &Claim) -> Vec<Identity> {
        let iam = &claim.iam;
        let holds = |entry: &&crate::book::Entry| {
            let same_node = entry.identity.node == iam.identity.node;
            let same_run = entry.told.as_ref().is_some_and(|told| told.record.boot == iam.boot);
            let id = same_node && entry.identity.addr != iam.identity.addr && !same_run;
            let name = !same_node && entry.name() == Some(&iam.name);
            entry.state != crate::member::State::Left && (id || name)
        };
        self.book.iter().filter(holds).map(|entry| entry.identity).take(HOLDERS_MAX).collect()
    }

    /// The holders were tried: the claim wins if none of them answered.
    pub(crate) fn judge(&mut self, check: &Check, evidence: &[Evidence], now: Instant) -> Response {
        let claim = &check.claim;
        for Evidence { holder, reached } in evidence {
            for answer in reached.iter().filter_map(|reached| match reached {
                Reached::Answered(iam) => Some(iam),
                Reached::Refused | Reached::Silent => None,
            }) {
                let lives = answer.identity.node == holder.node
                    && !answer.quiet
                    && answer.boot != claim.iam.boot
                    && answer.cluster == self.cluster;
                if lives && holder.node == claim.iam.identity.node {
                    let refusal = self.id_taken(claim.iam.identity, holder.addr);
                    return self.refuse(claim.iam.identity.addr, refusal, now);
                }
                if lives && answer.name == claim.iam.name {
                    let refusal = self.name_taken(&claim.iam, *holder);
                    return self.refuse(claim.iam.identity.addr, refusal, now);
                }
            }
        }
        self.admit(claim, check.holders.clone(), now)
    }

    fn id_taken(&self, claimed: Identity, holder: SocketAddr) -> Refusal {
        let text = format!(
            "node id {} is held by the living agent at {holder}. If this data directory is a copy, remove its node id; if that agent is \
             to go, stop it, or start this one with --replace",
            claimed.node
        );
        Refusal::new(Why::Id, text)
    }

    fn name_taken(&self, claimed: &Iam, holder: Identity) -> Refusal {
        let text = format!(
            "node name {:?} is held by the living agent {} at {}. Give this agent another name; or, if that agent is to go, stop it, or \
             start this one with --replace",
            claimed.name, holder.node, holder.addr
        );
        Refusal::new(Why::Name, text)
    }

    /// The claim stands. Who held the name under another UUID is told to have been replaced; who held the UUID gives way to its
    /// higher epoch.
    fn admit(&mut self, claim: &Claim, holders: Vec<Identity>, now: Instant) -> Response {
        let Some(cluster) = self.cluster else { return Response::Forming(Vec::new()) };
        let (claimed, by) = (claim.iam.identity, self.me.node);
        for holder in holders {
            if holder.node == claimed.node && !claim.iam.replace {
                continue; // nobody answers where it was: it has moved, and was never gone
            }
            let departed = Departed { epoch: holder.epoch, kind: Kind::Replaced, by };
            if self.take_departure(holder.node, departed, now) {
                self.tell(&Item::Departed { node: holder.node, epoch: holder.epoch, kind: Kind::Replaced, by });
            }
            // It is in nobody's gossip any more.
            self.effects.dials.push(Dial::Replaced(holder));
        }
        let epoch = match self.book.get(claimed.node) {
            None => claimed.epoch,
            Some(entry) => {
                let same_run = entry.told.as_ref().is_some_and(|told| told.record.boot == claim.iam.boot);
                let highest = entry.identity.epoch;
                if same_run && entry.is_alive() {
                    highest.max(claimed.epoch)
                } else {
                    claimed.epoch.max(highest.saturating_add(1))
                }
            }
        };
        if self.standing == Standing::Outside {
            self.enter(); // it belongs to the cluster, and now there are two
        }
        self.settle(now);
        Response::Admitted { cluster, epoch, reached: true }
    }

    /// The ring after an act on it.
    pub(crate) fn keys_after(&self, act: &KeyAct) -> Result<Keyring, KeyError> {
        let ring = self.ring();
        if ring.primary().is_none() {
            return Err(KeyError::NotEncrypted);
        }
        match act {
            KeyAct::List => Ok(ring.clone()),
            KeyAct::Install(key) => ring.with(Key::parse(key)?),
            KeyAct::Use(key) => ring.with_primary(&Key::parse(key)?),
            KeyAct::Remove(key) => ring.without(&Key::parse(key)?),
        }
    }
}

/// Most holders that one claim may set us looking for: one of the UUID, and those of the name.
const HOLDERS_MAX: usize = 4;

/// The keys of a ring in their written form, the primary first.
pub(crate) fn texts(ring: &Keyring) -> Vec<String> {
    ring.keys().iter().map(Key::to_base64).collect()
}
