//! What this crate counts, by name.

use std::collections::BTreeMap;

use metrics::{Counter, Gauge, Unit};

use crate::error::Why;

const SENT: &str = "memberlist.udp.sent";
const RECEIVED: &str = "memberlist.udp.received";
const DROPPED: &str = "gossip.packets.dropped";
const REFUSED: &str = "gossip.refused";
const DOUBTED: &str = "gossip.accusations.doubted";
const ACCUSED: &str = "memberlist.msg.suspect";
const HEALTH: &str = "memberlist.health.score";
const MISPLACED: &str = "serf.coordinate.rejected";
const EVENTS: &str = "serf.events";
const TCP_ACCEPT: &str = "memberlist.tcp.accept";
const TCP_CONNECT: &str = "memberlist.tcp.connect";

/// Tells the recorder what the names mean.
pub fn describe() {
    metrics::describe_counter!(SENT, Unit::Bytes, "Bytes of gossip sent over UDP");
    metrics::describe_counter!(RECEIVED, Unit::Bytes, "Bytes of gossip received over UDP");
    metrics::describe_counter!(DROPPED, Unit::Count, "Gossip packets that were not taken, by cause");
    metrics::describe_counter!(REFUSED, Unit::Count, "Agents that were refused or refused this one, by reason");
    metrics::describe_counter!(DOUBTED, Unit::Count, "Accusations and burials that were not believed, by cause");
    metrics::describe_counter!(ACCUSED, Unit::Count, "Accusations of other members by this one");
    metrics::describe_gauge!(HEALTH, Unit::Count, "How badly this agent fares as a member, 0 to 7");
    metrics::describe_counter!(MISPLACED, Unit::Count, "Network coordinates and round trips that cannot be, and were not taken");
    metrics::describe_counter!(EVENTS, Unit::Count, "Changes of members");
    metrics::describe_counter!(TCP_ACCEPT, Unit::Count, "Gossip connections taken");
    metrics::describe_counter!(TCP_CONNECT, Unit::Count, "Gossip connections opened");
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
    health: Gauge,
    refused: BTreeMap<Why, Counter>,
    sent: Counter,
    received: Counter,
    events: Counter,
    accepted: Counter,
    connected: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            dropped: Dropped::ALL.map(|cause| (cause, (0, metrics::counter!(DROPPED, "cause" => cause.as_str())))).into(),
            doubted: Doubted::ALL.map(|cause| (cause, (0, metrics::counter!(DOUBTED, "cause" => cause.as_str())))).into(),
            accused: metrics::counter!(ACCUSED),
            misplaced: (0, metrics::counter!(MISPLACED)),
            health: metrics::gauge!(HEALTH),
            refused: Why::ALL.map(|why| (why, metrics::counter!(REFUSED, "why" => why.as_str()))).into(),
            sent: metrics::counter!(SENT, "network" => "lan"),
            received: metrics::counter!(RECEIVED, "network" => "lan"),
            events: metrics::counter!(EVENTS),
            accepted: metrics::counter!(TCP_ACCEPT, "network" => "lan"),
            connected: metrics::counter!(TCP_CONNECT, "network" => "lan"),
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

    pub(crate) fn event(&self) {
        self.events.increment(1);
    }

    pub(crate) fn accepted(&self) {
        self.accepted.increment(1);
    }

    pub(crate) fn connected(&self) {
        self.connected.increment(1);
    }
}
