//! What is simulated: how many agents, on which network, what happens to them, and what must hold.

use std::time::Duration;

use crate::config::Timing;
use crate::error::Impossible;
use crate::key::Key;

/// Most agents in one simulation: as many as a member table holds.
pub const NODES_MAX: usize = crate::book::MEMBERS_MAX;

/// One simulation. Two runs of equal scenarios are equal, packet by packet.
///
/// ```
/// use std::time::Duration;
/// use muster_gossip::sim::{Fault, Scenario, Who};
///
/// let report = Scenario::new(20, 7)
///     .at(Duration::from_secs(5), Fault::Silence(Who::Any(1)))
///     .until(Duration::from_secs(60))
///     .run()
///     .expect("it can be simulated");
/// assert!(report.failures.is_empty(), "{report}");
/// assert!(report.detections[0].all.is_some());
/// ```
#[derive(Debug, Clone)]
pub struct Scenario {
    /// How many agents there are at first.
    pub nodes: usize,
    /// How many of the first of them are servers: they have a feed with every agent, and notice when it ends. None: nobody does.
    pub servers: usize,
    /// What all chance in this run comes from.
    pub seed: u64,
    /// How fast gossip goes.
    pub timing: Timing,
    /// How long nobody is buried while nobody else can be asked.
    pub mass_loss_hold: Duration,
    /// What packets and connections are sealed with, if they are.
    pub key: Option<Key>,
    /// How the cluster comes about.
    pub start: Start,
    /// The network, until a fault changes it.
    pub network: Network,
    /// What happens, and when.
    pub faults: Vec<(Duration, Fault)>,
    /// How long it runs before all faults stop.
    pub until: Duration,
    /// How long after that all must agree on who lives and who does not. Zero: nobody looks.
    pub heal: Duration,
    /// What must hold beside agreement at the end.
    pub expect: Expect,
}

/// How the cluster comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Every agent knows every other from the beginning.
    Converged,
    /// The first founds the cluster, the others join through it, 50 ms apart.
    Joined,
}

/// What a network does to packets and to connections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// Shortest and longest way of a packet; every time between them is as likely. Packets overtake each other by it.
    pub latency: (Duration, Duration),
    /// Share of UDP packets that are lost.
    pub udp_loss: f64,
    /// Share of everything that is lost: of UDP packets besides, and of TCP segments, which are sent again.
    pub all_loss: f64,
    /// Share of UDP packets that come twice.
    pub duplicated: f64,
    /// Share of UDP packets that come later by up to `reordered_by`.
    pub reordered: f64,
    /// See there.
    pub reordered_by: Duration,
}

impl Default for Network {
    /// A quiet one in one building: 0.2 to 2 ms.
    fn default() -> Self {
        Self {
            latency: (Duration::from_micros(200), Duration::from_millis(2)),
            udp_loss: 0.0,
            all_loss: 0.0,
            duplicated: 0.0,
            reordered: 0.0,
            reordered_by: Duration::ZERO,
        }
    }
}

impl Network {
    /// Loses this share of UDP packets; TCP is whole.
    pub fn udp_loss(share: f64) -> Self {
        Self { udp_loss: share, ..Self::default() }
    }

    /// Loses this share of everything.
    pub fn all_loss(share: f64) -> Self {
        Self { all_loss: share, ..Self::default() }
    }
}

/// What one agent's host loses of what comes to it, or of what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// Share of UDP packets.
    pub udp: f64,
    /// Share of everything.
    pub all: f64,
}

/// Whom something happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// This one. Numbers begin with 0, in the order in which agents were started.
    Node(usize),
    /// So many of those that run and that nothing has happened to, by chance.
    Any(usize),
    /// Those of the fault before this one.
    Same,
    /// All whose process ended.
    Dead,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The process ends, the host lives: its port refuses.
    Kill(Who),
    /// The host is gone: nothing answers, nothing is refused.
    Silence(Who),
    /// The process starts again on its disk: the same UUID, a higher epoch. One that runs is killed first.
    Restart(Who),
    /// The process starts again on an empty disk: the same name, another UUID, no cluster.
    Wipe(Who),
    /// Says good-bye and stops.
    Leave(Who),
    /// The process stops, and goes on after this time: what comes waits in its socket as far as there is room.
    Pause(Who, Duration),
    /// From now on the process gets the CPU only now and then: `runs` in each `every`.
    Starve {
        /// Who.
        who: Who,
        /// The period.
        every: Duration,
        /// How much of it.
        runs: Duration,
    },
    /// The clock that the process counts time by jumps ahead. (The core asks for no other clock: what a wall clock says does not
    /// reach it.)
    Clock(Who, Duration),
    /// So many new agents join, 50 ms apart.
    Join(usize),
    /// From now on the host loses this share of what comes to it.
    Input(Who, Loss),
    /// From now on the host loses this share of what it sends.
    Output(Who, Loss),
    /// From now on nothing goes from the first to the second.
    Cut(usize, usize),
    /// From now on nothing goes from one to the other in this share of all ordered pairs.
    CutPairs(f64),
    /// From now on this share of the agents and the rest reach each other no more.
    Partition(f64),
    /// From now on the network is like this.
    Network(Network),
    /// So many packets by somebody without the key: changed ones, short ones, plain ones that tell of deaths.
    Forge(usize),
    /// So many packets of before, to whom they were for or to others.
    Replay(usize),
    /// All faults that last end: losses, cuts, partitions, starving.
    Calm,
}

impl Fault {
    /// To which agents it happens, where it happens to some of them.
    fn who(&self) -> Option<Who> {
        match self {
            Self::Kill(who) | Self::Silence(who) | Self::Restart(who) | Self::Wipe(who) | Self::Leave(who) => Some(*who),
            Self::Pause(who, _) | Self::Clock(who, _) | Self::Input(who, _) | Self::Output(who, _) => Some(*who),
            Self::Starve { who, .. } => Some(*who),
            _ => None,
        }
    }
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    /// No agent that runs and can be reached is taken for dead.
    pub no_false_death: bool,
    /// Whoever takes a member for dead can say whose word that is.
    pub accuser: bool,
    /// A pause of no more than this is none: who is paused for longer may be taken for dead.
    pub pause: Duration,
}

impl Default for Expect {
    fn default() -> Self {
        Self { no_false_death: true, accuser: true, pause: Duration::from_millis(3500) }
    }
}

impl Scenario {
    /// So many agents on a quiet network for a minute, and a minute to heal.
    pub fn new(nodes: usize, seed: u64) -> Self {
        Self {
            nodes,
            servers: 3,
            seed,
            timing: Timing::default(),
            mass_loss_hold: Duration::from_secs(60),
            key: None,
            start: Start::Converged,
            network: Network::default(),
            faults: Vec::new(),
            until: Duration::from_secs(60),
            heal: Duration::from_secs(60),
            expect: Expect::default(),
        }
    }

    /// On this network.
    pub fn on(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// With this happening then.
    pub fn at(mut self, time: Duration, fault: Fault) -> Self {
        self.faults.push((time, fault));
        self
    }

    /// For so long.
    pub fn until(mut self, time: Duration) -> Self {
        self.until = time;
        self
    }

    /// With so much time to heal.
    pub fn heal(mut self, time: Duration) -> Self {
        self.heal = time;
        self
    }

    /// Expecting this.
    pub fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// Whether it can be.
    pub fn check(&self) -> Result<(), Impossible> {
        if self.nodes == 0 {
            return Err(Impossible::Nobody);
        }
        let joining: usize = self.faults.iter().map(|(_, fault)| if let Fault::Join(count) = fault { *count } else { 0 }).sum();
        if self.nodes + joining > NODES_MAX {
            return Err(Impossible::TooMany { nodes: self.nodes + joining, max: NODES_MAX });
        }
        self.network.check()?;
        let (mut ended, mut touched) = (0, 0);
        for (at, fault) in &self.faults {
            if *at > self.until {
                return Err(Impossible::Late { at: *at, until: self.until });
            }
            if let Some(Who::Any(count)) = fault.who() {
                touched += count;
            }
            match fault {
                Fault::Kill(Who::Any(count)) | Fault::Silence(Who::Any(count)) | Fault::Leave(Who::Any(count)) => ended += count,
                Fault::Kill(_) | Fault::Silence(_) | Fault::Leave(_) => ended += 1,
                Fault::Restart(_) | Fault::Wipe(_) => ended = 0,
                Fault::Join(count) => ended = ended.saturating_sub(*count),
                Fault::Network(network) => network.check()?,
                Fault::Input(_, loss) | Fault::Output(_, loss) => {
                    share(loss.udp, 1.0)?;
                    share(loss.all, 1.0)?;
                }
                Fault::CutPairs(cut) | Fault::Partition(cut) => share(*cut, 1.0)?,
                Fault::Forge(_) if self.key.is_none() => return Err(Impossible::Unsealed),
                Fault::Starve { every, runs, .. } if runs.is_zero() || runs > every => return Err(Impossible::Starved),
                _ => {}
            }
            if ended >= self.nodes + joining {
                return Err(Impossible::NobodyLeft { ended, nodes: self.nodes + joining });
            }
        }
        // Chance chooses among those that nothing has happened to.
        if touched > self.nodes + joining {
            return Err(Impossible::NotSoMany { asked: touched, nodes: self.nodes + joining });
        }
        Ok(())
    }
}

/// Most loss of a whole network that is simulated: beyond it nothing gets through that could be measured.
const LOSS_MAX: f64 = 0.99;

impl Network {
    fn check(&self) -> Result<(), Impossible> {
        share(self.udp_loss, LOSS_MAX)?;
        share(self.all_loss, LOSS_MAX)?;
        share(self.duplicated, 1.0)?;
        share(self.reordered, 1.0)?;
        if self.latency.0 > self.latency.1 {
            return Err(Impossible::Latency);
        }
        Ok(())
    }
}

fn share(share: f64, max: f64) -> Result<(), Impossible> {
    if (0.0..=max).contains(&share) { Ok(()) } else { Err(Impossible::Share { share, max }) }
}
