//! What must be shown of finding out who is dead, row by row: scenarios, how many seeds of each, and the limits.

use std::time::Duration;

use muster_gossip::Key;
use muster_gossip::sim::{Expect, Fault, Loss, Network, Report, Scenario, Times, Who};

/// One row of the table.
pub struct Row {
    pub name: String,
    pub nodes: usize,
    pub seeds: u64,
    pub scenario: Box<dyn Fn(u64) -> Scenario + Sync>,
    pub must: Must,
}

/// What must hold in all runs of a row, beside the invariants of each.
#[derive(Clone, Copy)]
pub enum Must {
    /// Every death is known by all within these: at the median, for 99 of 100, at worst.
    Find { p50: Duration, p99: Duration, worst: Duration },
    /// Every death is known by all within this.
    FindWithin(Duration),
    /// Every join is known by all within these: at the median, at worst.
    Join { p50: Duration, worst: Duration },
    /// Nobody who lives and can be reached is taken for dead.
    BuryNobody,
    /// Nobody who lives and can be reached is taken for dead, and all agree so soon after.
    Heal(Duration),
}

/// What came of a row.
pub struct Outcome {
    /// From a process's end, or from when one asked to be let in, until all knew.
    pub all: Times,
    /// From the first who knew until all did.
    pub tail: Times,
    /// Deaths and joins that not all had heard of at the end.
    pub unknown: usize,
    /// Runs in which somebody who lives and can be reached was taken for dead.
    pub false_runs: usize,
    pub healed: Times,
    pub udp: f64,
    pub tcp: f64,
    /// Runs in which something else did not hold: the first of them.
    pub broken: Option<(u64, String)>,
    pub runs: usize,
}

impl Outcome {
    pub fn of(reports: &[Report]) -> Self {
        let found = || reports.iter().flat_map(|report| &report.detections);
        let joins = || reports.iter().flat_map(|report| report.joins.iter().copied());
        let mean = |of: fn(&Report) -> f64| reports.iter().map(of).sum::<f64>() / reports.len().max(1) as f64;
        Self {
            all: Times::new(found().map(|found| found.all).chain(joins()).flatten()),
            tail: Times::new(found().filter_map(|found| Some(found.all? - found.first?))),
            unknown: found().map(|found| found.all).chain(joins()).filter(Option::is_none).count(),
            false_runs: reports.iter().filter(|report| report.false_deaths() > 0).count(),
            healed: Times::new(reports.iter().filter_map(|report| report.healed)),
            udp: mean(Report::udp_bytes),
            tcp: mean(Report::tcp_bytes),
            broken: reports.iter().find_map(|report| Some((report.seed, report.failures.first()?.clone()))),
            runs: reports.len(),
        }
    }

    pub fn holds(&self, must: Must) -> bool {
        let below = |time: Option<Duration>, limit: Duration| time.is_some_and(|time| time <= limit);
        self.broken.is_none()
            && match must {
                Must::Find { p50, p99, worst } => {
                    self.unknown == 0
                        && below(self.all.quantile(0.5), p50)
                        && below(self.all.quantile(0.99), p99)
                        && below(self.all.worst(), worst)
                }
                Must::Join { p50, worst } => {
                    self.unknown == 0 && below(self.all.quantile(0.5), p50) && below(self.all.worst(), worst)
                }
                Must::FindWithin(limit) => self.unknown == 0 && below(self.all.worst(), limit),
                Must::BuryNobody => self.false_runs == 0,
                Must::Heal(limit) => self.false_runs == 0 && below(self.healed.worst(), limit),
            }
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// When whatever happens in a row begins.
const THEN: Duration = Duration::from_secs(5);
const TEN_MINUTES: Duration = Duration::from_secs(600);

/// False deaths are counted here, run by run, so they end none.
fn counting(scenario: Scenario) -> Scenario {
    scenario.expect(Expect { no_false_death: false, ..Expect::default() })
}

fn row(
    name: impl Into<String>,
    nodes: usize,
    seeds: u64,
    must: Must,
    make: impl Fn(Scenario) -> Scenario + Sync + 'static,
) -> Row {
    let scenario = Box::new(move |seed| make(counting(Scenario::new(nodes, seed))));
    Row { name: name.into(), nodes, seeds, scenario, must }
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let find = Must::Find { p50: Duration::from_millis(5500), p99: secs(7), worst: secs(9) };
    for (nodes, seeds) in [(20, 200), (100, 60), (1000, 20)] {
        rows.push(row("a silent host", nodes, seeds, find, |base| base.at(THEN, Fault::Silence(Who::Any(1))).until(secs(60))));
    }
    for (nodes, seeds) in [(8, 200), (20, 200), (100, 60), (1000, 20)] {
        rows.push(row("a killed agent, its host lives", nodes, seeds, Must::FindWithin(secs(1)), |base| {
            base.at(THEN, Fault::Kill(Who::Any(1))).until(secs(60))
        }));
    }
    // What a process takes until it asks is not in it.
    let join = Must::Join { p50: Duration::from_millis(200), worst: Duration::from_millis(400) };
    for (nodes, seeds) in [(20, 200), (100, 60)] {
        rows.push(row("one joins", nodes, seeds, join, |base| base.at(THEN, Fault::Join(1)).until(secs(20))));
    }
    for (nodes, silent, seeds) in [(20, 4, 100), (100, 10, 40), (1000, 100, 20)] {
        let name = format!("{silent} silent hosts at once");
        rows.push(row(name, nodes, seeds, Must::FindWithin(secs(12)), move |base| {
            base.at(THEN, Fault::Silence(Who::Any(silent))).until(secs(60))
        }));
    }
    for (nodes, seeds) in [(20, 100), (100, 10)] {
        rows.extend(standing(nodes, seeds));
    }
    for loss in [5, 20] {
        let network = Network::udp_loss(f64::from(loss) / 100.0);
        rows.push(row(format!("{loss} % of UDP lost for an hour"), 1000, 1, Must::BuryNobody, move |base| {
            base.on(network).until(secs(3600))
        }));
    }
    for (nodes, seeds) in [(20, 100), (100, 20), (1000, 2)] {
        rows.push(row("10 % paused for 20 s", nodes, seeds, Must::Heal(secs(10)), move |base| {
            base.at(THEN, Fault::Pause(Who::Any(nodes / 10), secs(20))).until(THEN + secs(20))
        }));
    }
    for (nodes, seeds) in [(20, 100), (100, 20)] {
        rows.push(row("one paused for 3.5 s", nodes, seeds, Must::BuryNobody, |base| {
            base.at(THEN, Fault::Pause(Who::Any(1), Duration::from_millis(3500))).until(secs(40))
        }));
    }
    for (nodes, seeds) in [(20, 20), (100, 5)] {
        rows.extend(unruly(nodes, seeds));
    }
    rows
}

/// Faults that last for ten minutes, and bury nobody.
fn standing(nodes: usize, seeds: u64) -> Vec<Row> {
    let network =
        |name: &str, network: Network| row(name, nodes, seeds, Must::BuryNobody, move |base| base.on(network).until(TEN_MINUTES));
    let input = |name: &str, loss: Loss| {
        row(name, nodes, seeds, Must::BuryNobody, move |base| base.at(THEN, Fault::Input(Who::Any(1), loss)).until(TEN_MINUTES))
    };
    vec![
        network("25 % of UDP lost", Network::udp_loss(0.25)),
        network("30 % of UDP lost", Network::udp_loss(0.30)),
        network("25 % of everything lost", Network::all_loss(0.25)),
        network("30 % of everything lost", Network::all_loss(0.30)),
        input("one deaf to UDP", Loss { udp: 1.0, all: 0.0 }),
        input("one loses 80 % of what comes", Loss { udp: 0.0, all: 0.8 }),
        input("one hears nothing", Loss { udp: 0.0, all: 1.0 }),
        row("one-way cuts between 5 % of pairs", nodes, seeds, Must::BuryNobody, |base| {
            base.at(THEN, Fault::CutPairs(0.05)).until(TEN_MINUTES)
        }),
    ]
}

/// What the trial left out.
fn unruly(nodes: usize, seeds: u64) -> Vec<Row> {
    let slow = Network {
        latency: (Duration::from_millis(100), Duration::from_millis(300)),
        duplicated: 0.1,
        reordered: 0.2,
        reordered_by: Duration::from_millis(200),
        ..Network::default()
    };
    let doubled = Network { duplicated: 0.3, reordered: 0.3, reordered_by: Duration::from_millis(100), ..Network::default() };
    let every = Duration::from_millis(1000);
    vec![
        row("30 % doubled, 30 % out of order", nodes, seeds, Must::BuryNobody, move |base| base.on(doubled).until(TEN_MINUTES)),
        row("200 ms ± 100, 20 % out of order, 10 % doubled", nodes, seeds, Must::BuryNobody, move |base| {
            base.on(slow).until(TEN_MINUTES)
        }),
        row("clocks jump by a second, a minute, an hour", nodes, seeds, Must::BuryNobody, |base| {
            base.at(secs(10), Fault::Clock(Who::Any(1), secs(1)))
                .at(secs(40), Fault::Clock(Who::Any(1), secs(60)))
                .at(secs(80), Fault::Clock(Who::Any(1), secs(3600)))
                .until(secs(180))
        }),
        row("a quarter joins anew", nodes, seeds, Must::Heal(secs(10)), move |base| {
            base.at(secs(10), Fault::Join(nodes / 4)).until(secs(20))
        }),
        row("a tenth gets 5 % of a CPU", nodes, seeds, Must::BuryNobody, move |base| {
            base.at(secs(10), Fault::Starve { who: Who::Any(nodes / 10), every, runs: every / 20 }).until(TEN_MINUTES)
        }),
        row("a tenth restarts, one disk is empty", nodes, seeds, Must::Heal(secs(15)), move |base| {
            base.at(secs(10), Fault::Restart(Who::Any(nodes / 10))).at(secs(12), Fault::Wipe(Who::Any(1))).until(secs(30))
        }),
        row("10,000 packets forged, 10,000 replayed", nodes, seeds, Must::BuryNobody, |base| {
            let key = Key::parse("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").expect("it has 32 bytes");
            let base = Scenario { key: Some(key), ..base };
            (0..100)
                .fold(base, |base, n| {
                    let at = secs(5) + Duration::from_millis(500) * n;
                    base.at(at, Fault::Forge(100)).at(at, Fault::Replay(100))
                })
                .until(secs(90))
        }),
        row("halves apart for five minutes", nodes, seeds, Must::Heal(secs(60)), |base| {
            base.at(THEN, Fault::Partition(0.5)).until(THEN + secs(300))
        }),
    ]
}
