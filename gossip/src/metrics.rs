//! What this crate counts, by name.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};

use crate::error::Why;
use crate::member::{Event, Member, State};

const SENT: &str = "memberlist.udp.sent";
const RECEIVED: &str = "memberlist.udp.received";
const DROPPED: &str = "gossip.packets.dropped";
const REFUSED: &str = "gossip.refused";
const DOUBTED: &str = "gossip.accusations.doubted";
const ACCUSED: &str = "memberlist.msg.suspect";
const WRONG: &str = "gossip.accusations.wrong";
const HEALTH: &str = "memberlist.health.score";
const MISPLACED: &str = "serf.coordinate.rejected";
const EVENTS: &str = "serf.events";
const TCP_ACCEPT: &str = "memberlist.tcp.accept";
const TCP_CONNECT: &str = "memberlist.tcp.connect";
const TCP_SENT: &str = "memberlist.tcp.sent";
const ALIVE: &str = "memberlist.msg.alive";
const DEAD: &str = "memberlist.msg.dead";
const ROUND: &str = "memberlist.gossip";
const PROBE: &str = "memberlist.probeNode";
const DEGRADED: &str = "memberlist.degraded.probe";
const EXCHANGE: &str = "memberlist.pushPullNode";
const MEMBERS: &str = "memberlist.node.instances";
const BACKLOG: &str = "memberlist.queue.broadcasts";
const ITEMS: &str = "serf.queue.Event";
const ITEM_SENT: &str = "serf.msgs.sent";
const ITEM_RECEIVED: &str = "serf.msgs.received";
const JOINED: &str = "serf.member.join";
const FAILED: &str = "serf.member.failed";
const FLAPPED: &str = "serf.member.flap";
const LEFT: &str = "serf.member.left";
const UPDATED: &str = "serf.member.update";

/// A member that is back this soon after it was held dead has flapped (serf's).
pub(crate) const FLAP_MAX: Duration = Duration::from_secs(60);

/// Tells the recorder what the names mean.
pub fn describe() {
    metrics::describe_counter!(SENT, Unit::Bytes, "Bytes of gossip sent over UDP");
    metrics::describe_counter!(RECEIVED, Unit::Bytes, "Bytes of gossip received over UDP");
    metrics::describe_counter!(DROPPED, Unit::Count, "Gossip packets that were not taken, by cause");
    metrics::describe_counter!(REFUSED, Unit::Count, "Agents that were refused or refused this one, by reason");
    metrics::describe_counter!(DOUBTED, Unit::Count, "Accusations and burials that were not believed, by cause");
    metrics::describe_counter!(ACCUSED, Unit::Count, "Accusations of other members by this one");
    metrics::describe_counter!(WRONG, Unit::Count, "Accusations by one member alone that the accused refuted");
    metrics::describe_gauge!(HEALTH, Unit::Count, "How badly this agent fares as a member, 0 to 7");
    metrics::describe_counter!(MISPLACED, Unit::Count, "Network coordinates and round trips that cannot be, and were not taken");
    metrics::describe_counter!(EVENTS, Unit::Count, "Changes of members");
    metrics::describe_counter!(TCP_ACCEPT, Unit::Count, "Gossip connections taken");
    metrics::describe_counter!(TCP_CONNECT, Unit::Count, "Gossip connections opened");
    metrics::describe_counter!(TCP_SENT, Unit::Bytes, "Bytes sent on gossip connections");
    metrics::describe_counter!(ALIVE, Unit::Count, "News of lives that began or changed");
    metrics::describe_counter!(DEAD, Unit::Count, "News of lives that ended");
    metrics::describe_histogram!(ROUND, Unit::Milliseconds, "One turn of what is due: gossip, probes, exchanges begun");
    metrics::describe_histogram!(PROBE, Unit::Milliseconds, "A probe of another member, until its answer");
    metrics::describe_counter!(DEGRADED, Unit::Count, "Probes while this agent fares badly itself, and so is slower");
    metrics::describe_histogram!(EXCHANGE, Unit::Milliseconds, "Comparing tables with another member");
    metrics::describe_gauge!(MEMBERS, Unit::Count, "Members, by how they are: alive, suspect, dead, left");
    metrics::describe_histogram!(BACKLOG, Unit::Count, "News of lives that wait to be passed on");
    metrics::describe_histogram!(ITEMS, Unit::Count, "Events, records and accusations that wait to be passed on");
    metrics::describe_histogram!(ITEM_SENT, Unit::Bytes, "Size of an event, record or accusation passed on");
    metrics::describe_histogram!(ITEM_RECEIVED, Unit::Bytes, "Size of one that came and was news");
    metrics::describe_counter!(JOINED, Unit::Count, "Members that joined or returned");
    metrics::describe_counter!(FAILED, Unit::Count, "Members found dead");
    metrics::describe_counter!(FLAPPED, Unit::Count, "Members that were back within a minute of being found dead");
    metrics::describe_counter!(LEFT, Unit::Count, "Members that left");
    metrics::describe_counter!(UPDATED, Unit::Count, "Members that changed");
}

/// Why a packet was not taken. Nothing was changed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// Too short for its kind.
    Truncated,
    /// Longer than any packet we send.
    Oversize,
    /// Of a frame version that is not spoken here.
    Version,
    /// Not sealed, though this agent has a key.
    Plaintext,
    /// Sealed with a key that is not in the ring, or sealed where no key is set.
    WrongKey,
    /// Sealed with a key of the ring, as it says, and it is not.
    Forged,
    /// Of another cluster.
    WrongCluster,
    /// Seen before, or too old to tell.
    Replay,
    /// Authentic, and cannot be read.
    Malformed,
    /// For another agent, or for another life of this one.
    NotForUs,
    /// This agent is not admitted yet, has left, or is quiet.
    Out,
}

impl Dropped {
    /// All of them, for counters.
    pub const ALL: [Self; 11] = [
        Self::Truncated,
        Self::Oversize,
        Self::Version,
        Self::Plaintext,
        Self::WrongKey,
        Self::Forged,
        Self::WrongCluster,
        Self::Replay,
        Self::Malformed,
        Self::NotForUs,
        Self::Out,
    ];

    /// The label of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Oversize => "oversize",
            Self::Version => "version",
            Self::Plaintext => "plaintext",
            Self::WrongKey => "wrong_key",
            Self::Forged => "forged",
            Self::WrongCluster => "wrong_cluster",
            Self::Replay => "replay",
            Self::Malformed => "malformed",
            Self::NotForUs => "not_for_us",
            Self::Out => "out",
        }
    }
}

/// Why an accusation, or word of a burial, was not believed. It changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Doubted {
    /// About a life or an incarnation that is over.
    Stale,
    /// The accuser, or the accused, is no living member.
    Unknown,
    /// It cannot be: of itself, in this agent's name, or of an incarnation that the accused is far from.
    Contradictory,
    /// Known already.
    Repeated,
    /// More accusers than are kept.
    Full,
    /// A burial, and this agent has no accusers on record: it looks for itself.
    Unproven,
}

impl Doubted {
    /// All of them, for counters.
    pub const ALL: [Self; 6] = [Self::Stale, Self::Unknown, Self::Contradictory, Self::Repeated, Self::Full, Self::Unproven];

    /// The label of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Unknown => "unknown",
            Self::Contradictory => "contradictory",
            Self::Repeated => "repeated",
            Self::Full => "full",
            Self::Unproven => "unproven",
        }
    }
}

/// One agent's counts: told to the recorder, and kept for whoever asks this agent.
pub(crate) struct Meters {
    dropped: BTreeMap<Dropped, (u64, Counter)>,
    doubted: BTreeMap<Doubted, (u64, Counter)>,
    accused: Counter,
    misplaced: (u64, Counter),
    wrong: Counter,
    health: Gauge,
    refused: BTreeMap<Why, Counter>,
    sent: Counter,
    received: Counter,
    events: Counter,
    accepted: Counter,
    connected: Counter,
    stream_sent: Counter,
    /// Joined, failed, left, changed; and what of it is told as alive and as dead.
    members: [Counter; 4],
    told: [Counter; 2],
    flapped: Counter,
    round: Histogram,
    probe: Histogram,
    degraded: Counter,
    exchange: Histogram,
    instances: [Gauge; 4],
    backlog: [Histogram; 2],
    items: [Histogram; 2],
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            dropped: Dropped::ALL.map(|cause| (cause, (0, metrics::counter!(DROPPED, "cause" => cause.as_str())))).into(),
            doubted: Doubted::ALL.map(|cause| (cause, (0, metrics::counter!(DOUBTED, "cause" => cause.as_str())))).into(),
            accused: metrics::counter!(ACCUSED),
            misplaced: (0, metrics::counter!(MISPLACED)),
            wrong: metrics::counter!(WRONG),
            health: metrics::gauge!(HEALTH),
            refused: Why::ALL.map(|why| (why, metrics::counter!(REFUSED, "why" => why.as_str()))).into(),
            sent: metrics::counter!(SENT, "network" => "lan"),
            received: metrics::counter!(RECEIVED, "network" => "lan"),
            events: metrics::counter!(EVENTS),
            accepted: metrics::counter!(TCP_ACCEPT, "network" => "lan"),
            connected: metrics::counter!(TCP_CONNECT, "network" => "lan"),
            stream_sent: metrics::counter!(TCP_SENT, "network" => "lan"),
            members: [JOINED, FAILED, LEFT, UPDATED].map(|name| metrics::counter!(name)),
            told: [ALIVE, DEAD].map(|name| metrics::counter!(name)),
            flapped: metrics::counter!(FLAPPED),
            round: metrics::histogram!(ROUND, "network" => "lan"),
            probe: metrics::histogram!(PROBE, "network" => "lan"),
            degraded: metrics::counter!(DEGRADED, "network" => "lan"),
            exchange: metrics::histogram!(EXCHANGE, "network" => "lan"),
            instances: ["alive", "suspect", "dead", "left"]
                .map(|state| metrics::gauge!(MEMBERS, "network" => "lan", "node_state" => state)),
            backlog: [BACKLOG, ITEMS].map(|name| metrics::histogram!(name)),
            items: [ITEM_SENT, ITEM_RECEIVED].map(|name| metrics::histogram!(name)),
        }
    }

    pub(crate) fn dropped(&mut self, cause: Dropped) {
        if let Some((count, told)) = self.dropped.get_mut(&cause) {
            *count += 1;
            told.increment(1);
        }
    }

    /// How many packets were dropped, by cause.
    pub(crate) fn drops(&self) -> BTreeMap<Dropped, u64> {
        self.dropped.iter().filter(|(_, (count, _))| *count > 0).map(|(cause, (count, _))| (*cause, *count)).collect()
    }

    pub(crate) fn doubted(&mut self, cause: Doubted) {
        if let Some((count, told)) = self.doubted.get_mut(&cause) {
            *count += 1;
            told.increment(1);
        }
    }

    /// How many accusations and burials were not believed, by cause.
    pub(crate) fn doubts(&self) -> BTreeMap<Doubted, u64> {
        self.doubted.iter().filter(|(_, (count, _))| *count > 0).map(|(cause, (count, _))| (*cause, *count)).collect()
    }

    pub(crate) fn accused(&self) {
        self.accused.increment(1);
    }

    pub(crate) fn wrong(&self) {
        self.wrong.increment(1);
    }

    pub(crate) fn misplaced(&mut self) {
        self.misplaced.0 += 1;
        self.misplaced.1.increment(1);
    }

    /// How many coordinates and round trips were not taken.
    pub(crate) fn misplacements(&self) -> u64 {
        self.misplaced.0
    }

    pub(crate) fn health(&self, score: u8) {
        self.health.set(f64::from(score));
    }

    pub(crate) fn refused(&self, why: Why) {
        if let Some(told) = self.refused.get(&why) {
            told.increment(1);
        }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.increment(bytes as u64);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.increment(bytes as u64);
    }

    pub(crate) fn event(&self, event: &Event) {
        self.events.increment(1);
        let (member, told) = match event {
            Event::Up(_) => (0, 0),
            Event::Down(_) => (1, 1),
            Event::Left(_) => (2, 1),
            Event::Updated(_) => (3, 0),
            _ => return,
        };
        self.members[member].increment(1);
        self.told[told].increment(1);
    }

    pub(crate) fn flapped(&self) {
        self.flapped.increment(1);
    }

    /// One turn of what is due.
    pub(crate) fn turned(&self, took: Duration) {
        self.round.record(took.as_secs_f64() * 1e3);
    }

    /// A probe begins.
    pub(crate) fn probes(&self, health: u8) {
        if health > 0 {
            self.degraded.increment(1);
        }
    }

    /// A probe was answered.
    pub(crate) fn probed(&self, took: Duration) {
        self.probe.record(took.as_secs_f64() * 1e3);
    }

    /// Tables were compared.
    pub(crate) fn exchanged(&self, took: Duration) {
        self.exchange.record(took.as_secs_f64() * 1e3);
    }

    /// What waits to be passed on: lives, and what is told about them.
    pub(crate) fn waits(&self, lives: usize, items: usize) {
        for (told, count) in self.backlog.iter().zip([lives, items]) {
            told.record(count as f64);
        }
    }

    /// An item is passed on.
    pub(crate) fn item_told(&self, bytes: usize) {
        self.items[0].record(bytes as f64);
    }

    /// An item came, and was news.
    pub(crate) fn item_taken(&self, bytes: usize) {
        self.items[1].record(bytes as f64);
    }

    /// What a connection counts its bytes with.
    pub(crate) fn stream_sent(&self) -> Counter {
        self.stream_sent.clone()
    }

    /// How many members there are of each kind.
    pub(crate) fn members(&self, members: &[Member]) {
        let mut counts = [0; 4];
        for member in members {
            let at = match member.state {
                State::Alive if member.accusations.is_empty() => 0,
                State::Alive => 1,
                State::Failed => 2,
                State::Left => 3,
            };
            counts[at] += 1;
        }
        for (gauge, count) in self.instances.iter().zip(counts) {
            gauge.set(f64::from(count));
        }
    }

    pub(crate) fn accepted(&self) {
        self.accepted.increment(1);
    }

    pub(crate) fn connected(&self) {
        self.connected.increment(1);
    }
}
