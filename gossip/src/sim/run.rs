//! A simulation from its first moment until all agree.

use std::time::Duration;

use rand::RngExt;

use super::node::Node;
use super::report::Report;
use super::scenario::{Scenario, Start};
use super::task::{Ground, Tasks};
use super::{CLUSTER, LOOK_EVERY, What, World, nanos, talk};
use crate::book::Book;
use crate::error::Impossible;

/// Agents that know each other from the beginning started within this time: a period of probes.
const STARTS_SPREAD: u64 = 1_000_000_000;
/// Agents that join are so far apart.
const START_PAUSE: u64 = 50_000_000;

impl Scenario {
    /// Runs it.
    pub fn run(self) -> Result<Report, Impossible> {
        Ok(Run::new(self)?.to_the_end())
    }
}

/// A simulation that is under way: for those who look at the clock of this world while it runs.
pub struct Run {
    ground: Ground,
    tasks: Tasks,
    until: u64,
    heal: u64,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Run {
    /// Sets up the world. With [`Start::Converged`] all tables are filled here, which costs the square of the number of agents each.
    pub fn new(scenario: Scenario) -> Result<Self, Impossible> {
        scenario.check()?;
        let (until, heal) = (nanos(scenario.until), nanos(scenario.heal));
        let mut world = World::new(scenario);
        world.begin();
        Ok(Self { ground: Ground::new(world), tasks: Tasks::default(), until, heal })
    }

    /// Lets this much time pass, at most to the end of the faults. True: there is more to come.
    pub fn pass(&mut self, time: Duration) -> bool {
        let end = self.until.min(self.ground.world().now.saturating_add(nanos(time)));
        self.go_on(end);
        end < self.until && self.ground.world().report.failures.is_empty()
    }

    /// What came of it so far.
    pub fn so_far(&self) -> Report {
        let world = self.ground.world();
        let mut report = world.report.clone();
        report.trace = world.watch.trace.value();
        report.detections = world.detections();
        report.joins = world.joins();
        report.drops = world.drops();
        report.wrong.get_or_insert_with(|| world.wrong());
        report
    }

    /// Runs what is left of it, stops all faults, waits until all agree, and says what came of it.
    pub fn to_the_end(mut self) -> Report {
        self.go_on(self.until);
        self.heal();
        self.ground.world().look_at_drops();
        self.so_far()
    }

    fn go_on(&mut self, end: u64) {
        let ground = self.ground.clone();
        loop {
            let what = {
                let mut world = ground.world();
                if !world.report.failures.is_empty() {
                    return;
                }
                match world.next(end) {
                    Some(what) => what,
                    None => return,
                }
            };
            match what {
                What::Packet(to, bytes) => ground.world().receive(to, bytes),
                What::Tick(node) => ground.world().tick(node),
                What::Resume(side) => ground.world().resume(side),
                What::Wake(task) => self.tasks.wake(task, &ground),
                What::Enter(side) => ground.begin(talk::enter(ground.clone(), side)),
                What::Fault(number) => ground.world().fault(number),
                What::Feed(host, how) => ground.world().feed(host, how),
                What::Look => ground.world().look(),
            }
            loop {
                self.tasks.begin(&ground);
                let mut world = ground.world();
                let (dials, joining) = (std::mem::take(&mut world.dials), std::mem::take(&mut world.joining));
                drop(world);
                if dials.is_empty() && joining.is_empty() {
                    break;
                }
                dials.into_iter().for_each(|(side, dial)| ground.begin(talk::converse(ground.clone(), side, dial)));
                joining.into_iter().for_each(|side| ground.begin(talk::enter(ground.clone(), side)));
            }
        }
    }

    /// All faults stop; then all must come to agree.
    fn heal(&mut self) {
        if self.heal == 0 || !self.ground.world().report.failures.is_empty() {
            return;
        }
        self.ground.world().calm();
        let begun = self.until;
        let mut end = begun;
        loop {
            let agreement = self.ground.world().agreement();
            let mut world = self.ground.world();
            match agreement {
                Ok(()) => {
                    world.report.healed = Some(Duration::from_nanos(end - begun));
                    return;
                }
                Err(text) if end - begun >= self.heal => {
                    world.disagreement(format!("{} s after all faults not all agree: {text}", self.heal / 1_000_000_000));
                    return;
                }
                Err(_) => drop(world),
            }
            end += LOOK_EVERY;
            self.go_on(end);
            if !self.ground.world().report.failures.is_empty() {
                return;
            }
        }
    }
}

impl World {
    /// The agents of the beginning, and when what happens to them.
    fn begin(&mut self) {
        for number in 0..self.scenario.nodes {
            self.nodes.push(Node::new(number));
        }
        match self.scenario.start {
            Start::Converged => self.begin_converged(),
            Start::Joined => self.begin_joined(),
        }
        for number in 0..self.scenario.faults.len() {
            let at = nanos(self.scenario.faults[number].0);
            self.plan(at, What::Fault(number));
        }
        self.plan(LOOK_EVERY, What::Look);
    }

    fn begin_converged(&mut self) {
        // Agents were started at some time or other: they do not probe in step.
        let starts: Vec<u64> = self.nodes.iter().map(|_| self.rng.random_range(0..STARTS_SPREAD)).collect();
        for (node, at) in starts.iter().enumerate() {
            self.now = *at;
            self.nodes[node].disk.cluster = Some(CLUSTER);
            self.start(node);
        }
        let members = Book::filled(self.nodes.iter().filter_map(|node| Some(node.core.as_ref()?.introduction(self.base))));
        for (node, at) in starts.iter().enumerate() {
            self.now = *at;
            self.call(node, |core, now| core.begin_among(CLUSTER, &members, now));
        }
        self.now = 0;
    }

    fn begin_joined(&mut self) {
        for node in 0..self.nodes.len() {
            let side = self.start(node);
            if node == 0 {
                self.call(node, |core, now| core.found(CLUSTER, now));
            } else {
                let at = START_PAUSE * node as u64;
                self.plan(at, What::Enter(side));
            }
        }
    }
}
