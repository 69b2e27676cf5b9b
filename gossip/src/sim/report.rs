//! What came of a simulation: who found out what and when, what it cost, and what did not hold.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::metrics::Dropped;

/// What came of one run. Equal scenarios give equal reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How many agents there were at first.
    pub nodes: usize,
    /// Where its chance came from.
    pub seed: u64,
    /// Each process that ended and did not come back before all knew.
    pub detections: Vec<Detection>,
    /// Of each that joined a cluster that was there: from when it asked until all who were in it knew. None: not all did.
    pub joins: Vec<Option<Duration>>,
    /// Each life that was taken for dead while it lived.
    pub buried: Vec<Buried>,
    /// By whom living members were accused wrongly, and how often by the record of all together, the most often first: as it was before
    /// anybody was taken for dead.
    pub wrong: Option<Vec<(usize, u64)>>,
    /// UDP packets and their bytes, with the headers of IP and UDP.
    pub udp: Traffic,
    /// TCP segments and their bytes, with the headers of IP and TCP.
    pub tcp: Traffic,
    /// Time that all agents ran, together.
    pub node_seconds: f64,
    /// How long it took after all faults until all agreed. None: they did not, or nobody looked.
    pub healed: Option<Duration>,
    /// New lives that agents began because others held them dead.
    pub renewals: usize,
    /// Agents that yielded to another holder of their name or UUID.
    pub quiet: usize,
    /// Packets that those who ran at the end did not take, by cause.
    pub drops: BTreeMap<Dropped, u64>,
    /// Things that happened.
    pub steps: u64,
    /// All packets in eight bytes.
    pub trace: u64,
    /// What did not hold, the first first.
    pub failures: Vec<String>,
    /// What happened before the first of them.
    pub last: Vec<String>,
}

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// Bytes of all.
    pub bytes: u64,
}

impl Traffic {
    pub(super) fn count(&mut self, packets: u64, bytes: u64) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Its host refuses connections.
    Killed,
    /// Its host is gone.
    Silent,
    /// It said good-bye.
    Left,
}

/// A process that ended, and how long it took until others knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// Which.
    pub node: usize,
    /// How it ended.
    pub how: How,
    /// When.
    pub at: Duration,
    /// Until the first knew.
    pub first: Option<Duration>,
    /// Until all knew who ran all that time.
    pub all: Option<Duration>,
}

/// A life that was taken for dead while it lived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buried {
    /// Which.
    pub node: usize,
    /// Which of its lives.
    pub epoch: u64,
    /// When, in nanoseconds.
    pub at: u64,
    /// On whose word.
    pub by: Option<usize>,
    /// It could not be reached then, or not much later: nobody's mistake.
    pub excused: bool,
}

impl Report {
    pub(super) fn new(nodes: usize, seed: u64) -> Self {
        Self {
            nodes,
            seed,
            detections: Vec::new(),
            joins: Vec::new(),
            buried: Vec::new(),
            wrong: None,
            udp: Traffic::default(),
            tcp: Traffic::default(),
            node_seconds: 0.0,
            healed: None,
            renewals: 0,
            quiet: 0,
            drops: BTreeMap::new(),
            steps: 0,
            trace: 0,
            failures: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Lives that were taken for dead by mistake.
    pub fn false_deaths(&self) -> usize {
        self.buried.iter().filter(|buried| !buried.excused).count()
    }

    /// Bytes of UDP that one agent sends in a second.
    pub fn udp_bytes(&self) -> f64 {
        self.udp.bytes as f64 / self.node_seconds.max(f64::MIN_POSITIVE)
    }

    /// UDP packets that one agent sends in a second.
    pub fn udp_packets(&self) -> f64 {
        self.udp.packets as f64 / self.node_seconds.max(f64::MIN_POSITIVE)
    }

    /// Bytes of TCP that one agent sends in a second.
    pub fn tcp_bytes(&self) -> f64 {
        self.tcp.bytes as f64 / self.node_seconds.max(f64::MIN_POSITIVE)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} nodes, seed {}: {} steps, trace {:016x}", self.nodes, self.seed, self.steps, self.trace)?;
        for found in &self.detections {
            writeln!(f, "node-{} {:?} at {:?}: first {:?}, all {:?}", found.node, found.how, found.at, found.first, found.all)?;
        }
        for joined in &self.joins {
            writeln!(f, "joined, known by all after {joined:?}")?;
        }
        let (by_mistake, healed) = (self.false_deaths(), self.healed);
        writeln!(f, "buried alive {} of them {by_mistake} by mistake, renewals {}", self.buried.len(), self.renewals)?;
        let (packets, udp, tcp) = (self.udp_packets(), self.udp_bytes(), self.tcp_bytes());
        writeln!(f, "a node and second: {packets:.2} packets, {udp:.0} B of UDP, {tcp:.0} B of TCP; healed {healed:?}")?;
        if !self.failures.is_empty() {
            writeln!(f, "DID NOT HOLD:")?;
            self.failures.iter().try_for_each(|failure| writeln!(f, "  {failure}"))?;
            writeln!(f, "before it:")?;
            self.last.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        Ok(())
    }
}

/// Times in order, and what lies below which share of them.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// These.
    pub fn new(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }

    /// The least time that this share of them do not exceed. None: there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).or(self.0.last()).copied()
    }

    /// The longest.
    pub fn worst(&self) -> Option<Duration> {
        self.0.last().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
