//! One agent's gossip without sockets and clocks: packets, answers and `now` go in; packets, dials and events come out.

mod admission;
mod begin;
mod convey;
mod departure;
mod detect;
mod engine;
mod fire;
mod packets;
mod place;
mod rivals;
mod rounds;
mod tables;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foca::{Foca, Timer};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use crate::book::{Book, Entry, Timeouts, Told};
use crate::config::Config;
use crate::error::{Error, Refusal, Why};
use crate::identity::Identity;
use crate::item::{ITEM_BYTES_MAX, Item, Items};
use crate::key::Keyring;
use crate::member::{Cause, Event, Kind, Member, Quiet, State};
use crate::message::{Iam, Waiting};
use crate::metrics::{Doubted, Dropped, Meters};
use crate::packet::Codec;
use crate::record::{PROTOCOL_MAX, PROTOCOL_MIN, Record};
use crate::seal::Seal;
use crate::wheel::Wheel;

pub(crate) use admission::{Check, Evidence, texts};
use detect::Detect;
use engine::{FORGET_AFTER, Out};
use fire::Events;
pub use fire::FIRED_BYTES_MAX;
use place::Place;
pub(crate) use talk::{Dial, Done, Heard, Reply, Step};

/// One agent's gossip.
pub(crate) struct Core {
    config: Config,
    me: Identity,
    /// The epoch this run was admitted under: packets for an earlier life are not for us.
    admitted: u64,
    incarnation: u16,
    boot: u64,
    started: Instant,
    cluster: Option<Uuid>,
    standing: Standing,
    record: Arc<Record>,
    record_bytes: Bytes,
    foca: Foca<Identity, Codec, SmallRng, Items>,
    out: Out,
    wheel: Wheel<Due>,
    book: Book,
    seal: Seal,
    rng: SmallRng,
    teller: Teller,
    /// foca's gossip round, while there is nothing to gossip.
    parked: Option<Timer<Identity>>,
    /// When the last round of gossip was.
    gossiped: Option<Instant>,
    /// That round was the first after a pause.
    after_pause: bool,
    /// The size of the cluster that foca's settings are made for.
    sized_for: usize,
    waiting: BTreeMap<Uuid, (Waiting, Instant)>,
    detect: Detect,
    events: Events,
    place: Place,
    /// Members whose record is being fetched, or soon will be.
    fetched: BTreeSet<Uuid>,
    renewed: Option<Instant>,
    /// The epoch that the next renewal must be above.
    renew_later: u64,
    renewal_planned: bool,
    /// foca knows that this life is held dead.
    defunct: bool,
    contested: Option<Instant>,
    lonely: Duration,
    lonely_planned: bool,
    reap_at: Option<Instant>,
    /// The last refusal that was told here.
    refused: Option<(Instant, IpAddr, Refusal)>,
    /// A living member holds this agent's UUID or name: it was refused, and does not enter by itself.
    held: bool,
    /// The last time this agent was refused.
    refused_by: Option<(Instant, SocketAddr, Why)>,
    /// Lives that this agent buried before it was alone: it was the one cut off, and its word on them does not count.
    disowned: BTreeSet<Identity>,
    effects: Effects,
    meters: Meters,
}

/// Whether this agent takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not admitted yet.
    Outside,
    /// It takes part.
    Inside,
    /// It says good-bye; so many rounds are left.
    Leaving(u8),
    /// It has said good-bye.
    Left,
    /// It yields to another.
    Quiet(Quiet),
}

/// What is due at some instant.
#[derive(Debug)]
enum Due {
    Foca(Timer<Identity>),
    /// A member's record should have come by now.
    Fetch(Uuid, u8),
    Exchange,
    /// A ping that was asked for was not answered.
    Nack((Uuid, Uuid, u8)),
    Look(Uuid, u64),
    /// The time of a suspected member is over.
    Suspect(Uuid, u64),
    LastLook(Uuid, u64),
    Trial(Uuid, u64),
    Reconnect,
    Lonely,
    Reap,
    Renew,
    Goodbye,
    Form,
}

/// Whose word foca's notifications are, while it is being called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Teller {
    /// This agent's own probes.
    Own,
    /// A packet, or a table, of that member.
    Member(Uuid),
}

/// What came out of a call.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) packets: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) dials: Vec<Dial>,
    pub(crate) events: Vec<Event>,
    /// The list of members is another one.
    pub(crate) changed: bool,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Core").field("me", &self.me).field("standing", &self.standing).finish_non_exhaustive()
    }
}

impl Core {
    /// `boot` must be a number that no other process has drawn.
    pub(crate) fn new(config: Config, boot: u64, seed: u64, now: Instant) -> Result<Self, Error> {
        if config.advertise.ip().is_unspecified() || config.advertise.port() == 0 {
            return Err(Error::Setting("the advertised gossip address must be one that others can reach"));
        }
        if config.node.is_nil() {
            return Err(Error::Setting("a node id is not all zeros"));
        }
        let me = Identity::new(config.node, config.epoch, config.advertise);
        let record = Record {
            name: config.name.clone(),
            datacenter: config.datacenter.clone(),
            version: 1,
            boot,
            protocol: (PROTOCOL_MIN, PROTOCOL_MAX),
            rpc: config.rpc,
            lan: config.lan,
            wan: config.wan,
            tags: config.tags.clone(),
            meta: config.meta.clone(),
        };
        let record_bytes = record.encode().ok_or(Error::RecordTooBig)?;
        let mut rng = SmallRng::seed_from_u64(seed);
        let settings = config.timing.foca(1, FORGET_AFTER);
        let foca = Foca::with_custom_broadcast(me, settings, SmallRng::seed_from_u64(rng.random()), Codec, Items);
        let mut core = Self {
            me,
            admitted: me.epoch,
            incarnation: 0,
            boot,
            started: now,
            cluster: config.cluster,
            standing: Standing::Outside,
            record: Arc::new(record),
            record_bytes,
            foca,
            out: Out::default(),
            wheel: Wheel::default(),
            book: Book::default(),
            seal: Seal::new(config.keys.clone(), boot),
            place: Place::new(rng.random()),
            rng,
            teller: Teller::Own,
            parked: None,
            gossiped: None,
            after_pause: false,
            sized_for: 1,
            waiting: BTreeMap::new(),
            detect: Detect::default(),
            events: Events::default(),
            fetched: BTreeSet::new(),
            renewed: None,
            renew_later: 0,
            renewal_planned: false,
            defunct: false,
            contested: None,
            lonely: rounds::LONELY_MIN,
            lonely_planned: false,
            reap_at: None,
            refused: None,
            held: false,
            refused_by: None,
            disowned: BTreeSet::new(),
            effects: Effects { changed: true, ..Effects::default() },
            meters: Meters::new(),
            config,
        };
        core.begin_rounds(now);
        Ok(core)
    }

    /// Takes what came out since the last time.
    pub(crate) fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    pub(crate) fn identity(&self) -> Identity {
        self.me
    }

    pub(crate) fn cluster(&self) -> Option<Uuid> {
        self.cluster
    }

    pub(crate) fn ring(&self) -> &Keyring {
        self.seal.ring()
    }

    pub(crate) fn drops(&self) -> BTreeMap<Dropped, u64> {
        self.meters.drops()
    }

    pub(crate) fn doubts(&self) -> BTreeMap<Doubted, u64> {
        self.meters.doubts()
    }

    /// How badly this agent fares as a member, 0 to 7.
    pub(crate) fn health(&self) -> u8 {
        self.detect.health.score()
    }

    /// How many coordinates and round trips were not taken.
    pub(crate) fn misplacements(&self) -> u64 {
        self.meters.misplacements()
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// All members whose record is known, this agent first, then by UUID.
    pub(crate) fn members(&self) -> Vec<Member> {
        let state = match self.standing {
            Standing::Left | Standing::Leaving(_) => State::Left,
            _ => State::Alive,
        };
        let cause = Cause { kind: Kind::Itself, by: Some(self.me.node) };
        let (identity, record, since) = (self.me, self.record.clone(), self.started);
        let own = Member {
            identity,
            state,
            record,
            cause,
            since,
            reach: Default::default(),
            accusations: Arc::default(),
            wrong: self.detect.wrong,
        };
        std::iter::once(own).chain(self.book.iter().filter_map(Entry::member)).collect()
    }

    /// Exchanges tags and metadata of this node's record, and tells the members.
    pub(crate) fn describe(
        &mut self,
        tags: BTreeMap<String, String>,
        meta: BTreeMap<String, String>,
        now: Instant,
    ) -> Result<(), Error> {
        if self.record.tags == tags && self.record.meta == meta {
            return Ok(());
        }
        let record = Record { tags, meta, version: self.record.version + 1, ..(*self.record).clone() };
        self.record_bytes = record.encode().ok_or(Error::RecordTooBig)?;
        self.record = Arc::new(record);
        self.effects.changed = true;
        self.tell_record();
        self.settle(now);
        Ok(())
    }

    pub(crate) fn set_ring(&mut self, ring: Keyring) {
        self.seal.set_ring(ring);
    }

    fn iam(&self, now: Instant) -> Iam {
        Iam {
            identity: self.me,
            name: self.record.name.clone(),
            datacenter: self.record.datacenter.clone(),
            cluster: self.cluster,
            boot: self.boot,
            up: self.up(now),
            quiet: matches!(self.standing, Standing::Quiet(_) | Standing::Left | Standing::Leaving(_)),
            replace: self.config.replace,
        }
    }

    /// How long this agent has been up, in milliseconds.
    fn up(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    fn is_inside(&self) -> bool {
        self.standing == Standing::Inside
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts { failed: self.config.reconnect_timeout, left: self.config.tombstone_timeout }
    }

    fn event(&mut self, event: Event) {
        self.meters.event(&event);
        self.effects.events.push(event);
        self.effects.changed = true;
    }

    /// An event about a member, if it can be shown.
    fn event_of(&mut self, node: Uuid, make: fn(Arc<Member>) -> Event) {
        if let Some(member) = self.book.get(node).and_then(Entry::member) {
            self.event(make(Arc::new(member)));
        }
    }

    /// Hands an item to foca, to be told from member to member.
    fn tell(&mut self, item: &Item) {
        let bytes = item.encode();
        if bytes.len() <= ITEM_BYTES_MAX {
            self.meters.item_told(bytes.len());
            // It fits, and its form is ours: foca has nothing to refuse.
            let _ = self.foca.add_broadcast(&bytes);
        }
    }

    /// Tells what this node says about itself.
    fn tell_record(&mut self) {
        let item = self.record_item();
        self.tell(&item);
    }

    /// What this node says about itself; where that is too big for a packet, that there is something to fetch.
    fn record_item(&self) -> Item {
        let (node, epoch) = (self.me.node, self.me.epoch);
        let item = Item::Record { node, epoch, bytes: self.record_bytes.clone() };
        let fits = item.encode().len() <= ITEM_BYTES_MAX;
        if fits { item } else { Item::Bigger { node, epoch, version: self.record.version } }
    }

    /// Takes a member's record, if it is news.
    fn take_record(&mut self, node: Uuid, epoch: u64, bytes: &Bytes, now: Instant) -> bool {
        let known = self.book.get(node).and_then(|entry| entry.told.as_ref());
        if known.is_some_and(|known| (known.epoch, &known.bytes) == (epoch, bytes)) {
            return false; // most of a table that is exchanged
        }
        let Ok(record) = Record::decode(bytes) else { return false };
        let Some(entry) = self.book.get_mut(node) else { return false };
        let told = Told { epoch, bytes: bytes.clone(), record: Arc::new(record) };
        if entry.told.as_ref().is_some_and(|known| known.order() >= told.order()) {
            return false;
        }
        let first = entry.told.is_none();
        let same = entry.told.as_ref().is_some_and(|known| {
            known.record.tags == told.record.tags
                && known.record.meta == told.record.meta
                && known.record.name == told.record.name
                && known.record.rpc == told.record.rpc
        });
        entry.told = Some(told);
        self.effects.changed = true;
        match (first, entry.state) {
            (true, State::Alive) => self.event_of(node, Event::Up),
            (true, State::Left) => self.event_of(node, Event::Left),
            (true, State::Failed) => self.event_of(node, Event::Down),
            (false, State::Alive) if !same => {
                entry.cause.kind = Kind::Changed;
                entry.cause.by = Some(node);
                self.event_of(node, Event::Updated);
            }
            (false, _) => {}
        }
        self.settle_name(node, now);
        true
    }
}
