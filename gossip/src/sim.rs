//! A cluster under virtual time: the core as it ships, on hosts, a network and connections that are made up, and told when to fail.
//!
//! A [`Scenario`] says how many agents there are, what their network is like, what happens to them and what must hold;
//! [`Scenario::run`] gives a [`Report`]. What a core does goes through the same calls as in the shell, packets and connections
//! through the same bytes; equal scenarios (the seed is part of one) give equal runs.
//!
//! Invariants are looked at after each step on what a core tells (epochs never fall, nobody who lives and can be reached is taken
//! for dead, a death has somebody who stands for it) and every 100 ms of virtual time on what it holds (tables and queues are
//! bounded). At the end all faults stop, and all must come to agree. The first that does not hold ends the run.

mod fault;
mod feed;
mod line;
mod node;
mod report;
mod run;
mod scenario;
mod talk;
mod task;
mod watch;
mod world;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use uuid::Uuid;

use crate::core::Dial;
use node::{Node, Side};
use watch::Watch;

pub use report::{Buried, Detection, How, Report, Times, Traffic};
pub use run::Run;
pub use scenario::{Expect, Fault, Loss, NODES_MAX, Network, Scenario, Start, Who};

const CLUSTER: Uuid = Uuid::from_u128(0x2222_2222_2222_4222_8222_2222_2222_2222);
/// How often the world is looked at where a look at each step would cost too much.
const LOOK_EVERY: u64 = 100_000_000;
/// All of it.
struct World {
    /// Nanoseconds since the beginning.
    now: u64,
    base: Instant,
    rng: SmallRng,
    queue: BinaryHeap<Reverse<Planned>>,
    count: u64,
    scenario: Scenario,
    nodes: Vec<Node>,
    network: Network,
    cuts: BTreeSet<(usize, usize)>,
    partitioned: bool,
    /// Packets of before, where somebody is to replay or to change them.
    recorded: Option<VecDeque<(usize, Vec<u8>)>>,
    /// Whom the last fault happened to.
    same: Vec<usize>,
    /// Conversations that are to begin.
    dials: VecDeque<(Side, Dial)>,
    /// Agents that are to join.
    joining: VecDeque<Side>,
    /// The conversation that runs now.
    task: u64,
    watch: Watch,
    report: Report,
}

/// What happens at some time.
#[derive(Debug)]
enum What {
    Packet(usize, Vec<u8>),
    /// The core of a host has something due.
    Tick(usize),
    /// A process has the CPU again.
    Resume(Side),
    /// A conversation goes on.
    Wake(u64),
    /// An agent asks to be let in.
    Enter(Side),
    /// The fault of that number.
    Fault(usize),
    /// The other end of the feed of a process that ended in this way finds out.
    Feed(usize, How),
    Look,
}

struct Planned {
    at: u64,
    number: u64,
    what: What,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
