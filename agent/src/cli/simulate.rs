//! `simulate`: the gossip of this program on a cluster that is made up, with the operator's own settings.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use clap::Args;
use muster_gossip::Timing;
use muster_gossip::sim::{Expect, Fault, How, Network, Report, Run, Scenario, Times, Who};

use super::done::Done;
use super::error::Error;
use super::print::{self, Out};
use super::table::Table;
use crate::config::AbsenceConfig;

/// How fast gossip goes, and how the dead are waited for.
type Settings = (Timing, AbsenceConfig);

/// Reads these from an agent's configuration, in a file or a folder; or says what is wrong with it.
pub(crate) type Reads = fn(&Path) -> Result<Settings, String>;

/// When something happens in a run: after all agents have probed a few times.
const THEN: Duration = Duration::from_secs(5);
/// How long after a run all may take to agree.
const HEAL: Duration = Duration::from_secs(60);
/// What an agent takes, and what it knows of another: that once, and more of those that it has probed, one a second. As measured with
/// 1,000 of them, and some room.
const BYTES_A_NODE: u64 = 40_000;
const BYTES_A_PAIR: u64 = 130;
const BYTES_A_PROBED: u64 = 600;
/// How often a person who waits hears how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// What one step of progress is.
const STEP: Duration = Duration::from_millis(500);
/// Longest run: what takes a year is not found out by trying.
const SECONDS_MAX: u64 = 366 * 24 * 3600;
/// Most runs.
const SEEDS_MAX: u64 = 1_000_000;
const DAY: f64 = 24.0 * 3600.0;

#[derive(Args, Debug)]
pub(crate) struct Simulate {
    /// How many agents there are.
    #[arg(long, value_name = "N", default_value_t = 100)]
    nodes: usize,

    /// Share of UDP packets that the network loses, such as 2%.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    loss: f64,

    /// Share of everything that the network loses, TCP included.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    loss_all: f64,

    /// So many agents are killed in each run; their hosts live.
    #[arg(long, value_name = "N", default_value_t = 0)]
    kill: usize,

    /// So many hosts fall silent in each run.
    #[arg(long, value_name = "N", default_value_t = 0)]
    silent: usize,

    /// So many agents are stopped for 20 seconds in each run.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pause: usize,

    /// How long each run is, in seconds of the cluster.
    #[arg(long, value_name = "N", default_value_t = 120)]
    seconds: u64,

    /// How many runs there are.
    #[arg(long, value_name = "N", default_value_t = 10)]
    seeds: u64,

    /// Where the chance of the first run comes from; each further run has the next number.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Take the settings of gossip from this configuration file or folder instead of the defaults.
    #[arg(long, value_name = "PATH")]
    config_file: Option<PathBuf>,

    /// Run the same with the settings of this one, and show the difference.
    #[arg(long, value_name = "PATH")]
    beside: Option<PathBuf>,
}

/// A share as people write one: 2%, or 0.02.
fn share(written: &str) -> Result<f64, String> {
    let (number, whole) = written.strip_suffix('%').map_or((written, 1.0), |number| (number, 100.0));
    let number: f64 = number.trim().parse().map_err(|_| "it is a share such as 2% or 0.02".to_owned())?;
    Ok(number / whole)
}

impl Simulate {
    pub(crate) fn run(self, reads: Reads, out: &mut Out) -> Result<Done, Error> {
        if self.seeds == 0 || self.seconds == 0 {
            return Err(Error::Usage(
                "Nothing comes of no runs, or of runs of no time: -seeds and -seconds are at least 1".to_owned(),
            ));
        }
        if self.seeds > SEEDS_MAX || self.seconds > SECONDS_MAX {
            let most = format!("There are at most {SEEDS_MAX} runs (-seeds) of {SECONDS_MAX} s (-seconds), a year");
            return Err(Error::Usage(most));
        }
        let read = |path: &Option<PathBuf>| match path {
            Some(path) => {
                let settings = reads(path).map_err(Error::Usage)?;
                Ok((
                    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned()),
                    settings,
                ))
            }
            None => Ok(("defaults".to_owned(), Settings::default())),
        };
        let mut settings = vec![read(&self.config_file)?];
        if self.beside.is_some() {
            settings.push(read(&self.beside)?);
        }
        self.scenario(Settings::default(), self.seed).check().map_err(|impossible| Error::Usage(sentence(impossible)))?;
        let workers = self.workers()?;
        let mut columns = Vec::new();
        for (name, settings) in &settings {
            columns.push(Column::of(name, &self.run_all(*settings, workers)?, self.seconds, settings.1.restart_grace));
        }
        out.line(self.head())?;
        out.line("")?;
        out.line(table(&columns))?;
        let broken: Vec<&String> = columns.iter().flat_map(|column| &column.broken).collect();
        for line in &broken {
            out.line(line)?;
        }
        if broken.is_empty() { Ok(Done::Well) } else { Err(Error::NotDone("What must hold in each run did not".to_owned())) }
    }

    fn scenario(&self, (timing, absence): Settings, seed: u64) -> Scenario {
        let network = Network { udp_loss: self.loss, all_loss: self.loss_all, ..Network::default() };
        let expect = Expect { no_false_death: false, ..Expect::default() };
        let until = Duration::from_secs(self.seconds);
        let scenario = Scenario::new(self.nodes, seed).on(network).expect(expect).until(until).heal(HEAL);
        let mut scenario = Scenario { timing, mass_loss_hold: absence.mass_loss_hold, ..scenario };
        for (count, fault) in [
            (self.kill, Fault::Kill(Who::Any(self.kill))),
            (self.silent, Fault::Silence(Who::Any(self.silent))),
            (self.pause, Fault::Pause(Who::Any(self.pause), Duration::from_secs(20))),
        ] {
            if count > 0 {
                scenario = scenario.at(THEN, fault);
            }
        }
        scenario
    }

    /// How many runs go at once: as many as there are cores and memory for.
    fn workers(&self) -> Result<u64, Error> {
        let (nodes, probed) = (self.nodes as u64, self.seconds.min(self.nodes as u64));
        let needed = nodes * (BYTES_A_NODE + nodes * BYTES_A_PAIR + probed * BYTES_A_PROBED);
        let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
        let fit = match memory_free() {
            Some(free) if needed > free => {
                let (needed, free) = (gigabytes(needed), gigabytes(free));
                let nodes = self.nodes;
                return Err(Error::Usage(format!(
                    "A cluster of {nodes} needs about {needed} of memory here, for each knows each; {free} are free"
                )));
            }
            Some(free) => free / needed.max(1),
            None => cores,
        };
        Ok(cores.min(fit).min(self.seeds).max(1))
    }

    fn run_all(&self, settings: Settings, workers: u64) -> Result<Vec<Report>, Error> {
        let passed = AtomicU64::new(0);
        let next = AtomicU64::new(0);
        let mut reports: Vec<Report> = Vec::new();
        let total = self.seeds * self.seconds * 1000;
        let live = print::stderr_is_terminal();
        let impossible = thread::scope(|scope| {
            let (done, finished) = mpsc::channel();
            for _ in 0..workers {
                let (done, passed, next) = (done.clone(), &passed, &next);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.seeds {
                            return;
                        }
                        let report = self.run_one(settings, self.seed.wrapping_add(number), passed);
                        if done.send(report).is_err() {
                            return; // nobody waits any more
                        }
                    }
                });
            }
            drop(done);
            loop {
                match finished.recv_timeout(TELL_EVERY) {
                    Ok(Ok(report)) => reports.push(report),
                    Ok(Err(impossible)) => return Some(impossible),
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {}
                }
                if live {
                    let percent = passed.load(Ordering::Relaxed).min(total) * 100 / total;
                    print::progress(format_args!("{} of {} runs, {percent} %", reports.len(), self.seeds));
                }
            }
        });
        if live {
            print::progress(format_args!("{:40}\r", ""));
        }
        if let Some(impossible) = impossible {
            return Err(Error::Usage(sentence(impossible)));
        }
        reports.sort_by_key(|report| report.seed);
        Ok(reports)
    }

    fn run_one(&self, settings: Settings, seed: u64, passed: &AtomicU64) -> Result<Report, muster_gossip::Impossible> {
        let mut run = Run::new(self.scenario(settings, seed))?;
        while run.pass(STEP) {
            passed.fetch_add(STEP.as_millis() as u64, Ordering::Relaxed);
        }
        Ok(run.to_the_end())
    }

    fn head(&self) -> String {
        let mut parts = vec![format!("{} nodes", self.nodes)];
        let mut say = |on: bool, text: String| {
            if on {
                parts.push(text);
            }
        };
        say(self.loss > 0.0, format!("{} of UDP lost", percent(self.loss)));
        say(self.loss_all > 0.0, format!("{} of everything lost", percent(self.loss_all)));
        say(self.kill > 0, format!("{} killed", self.kill));
        say(self.silent > 0, format!("{} silent", self.silent));
        say(self.pause > 0, format!("{} paused for 20 s", self.pause));
        let (runs, first, last) = (self.seeds, self.seed, self.seed.wrapping_add(self.seeds - 1));
        format!("{}: {runs} runs of {} s, seeds {first} to {last}", parts.join(", "), self.seconds)
    }
}

/// What came of all runs with some settings.
struct Column {
    name: String,
    found: Times,
    /// Until their services are out of the answers.
    out: Times,
    deaths: usize,
    unknown: usize,
    false_deaths: usize,
    days: f64,
    healed: Option<Duration>,
    packets: f64,
    udp: f64,
    tcp: f64,
    broken: Vec<String>,
}

impl Column {
    fn of(name: &str, reports: &[Report], seconds: u64, grace: Duration) -> Self {
        let found = || reports.iter().flat_map(|report| &report.detections);
        let mean = |of: fn(&Report) -> f64| reports.iter().map(of).sum::<f64>() / reports.len().max(1) as f64;
        let broken = reports.iter().filter_map(|report| {
            let failure = report.failures.first()?;
            let before = report.last.join("\n  ");
            Some(format!("With {name} and -seed {} did not hold: {failure}\n  {before}", report.seed))
        });
        Self {
            name: name.to_owned(),
            found: Times::new(found().filter_map(|found| found.all)),
            // Who is gone while its host lives is waited for: it may be restarted.
            out: Times::new(
                found().filter_map(|found| Some(found.all? + if found.how == How::Killed { grace } else { Duration::ZERO })),
            ),
            deaths: found().count(),
            unknown: found().filter(|found| found.all.is_none()).count(),
            false_deaths: reports.iter().map(Report::false_deaths).sum(),
            days: reports.len() as f64 * seconds as f64 / DAY,
            healed: reports.iter().filter_map(|report| report.healed).max(),
            packets: mean(Report::udp_packets),
            udp: mean(Report::udp_bytes),
            tcp: mean(Report::tcp_bytes),
            broken: broken.collect(),
        }
    }

    fn a_day(&self) -> f64 {
        self.false_deaths as f64 / self.days
    }
}

fn table(columns: &[Column]) -> Table {
    let mut heading = vec!["A node, and a death".to_owned()];
    heading.extend(columns.iter().map(|column| column.name.clone()));
    if columns.len() > 1 {
        heading.push("Difference".to_owned());
    }
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    let mut table = Table::headed(&heading);
    let mut row = |label: &str, value: &dyn Fn(&Column) -> Option<f64>, unit: &str, digits: usize| {
        let text = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.digits$}{unit}"));
        let mut cells = vec![label.to_owned()];
        cells.extend(columns.iter().map(|column| text(value(column))));
        if let [first, second] = columns {
            let difference = value(first).zip(value(second)).map(|(first, second)| second - first);
            cells.push(difference.map_or("-".to_owned(), |difference| format!("{difference:+.digits$}{unit}")));
        }
        table.row(cells);
    };
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    if columns.iter().any(|column| column.deaths > 0) {
        row("Known dead by all, p50", &|column| seconds(column.found.quantile(0.5)), " s", 2);
        row("Known dead by all, p99", &|column| seconds(column.found.quantile(0.99)), " s", 2);
        row("Known dead by all, worst", &|column| seconds(column.found.worst()), " s", 2);
        row("Its services in no answer, p50", &|column| seconds(column.out.quantile(0.5)), " s", 2);
        row("Its services in no answer, worst", &|column| seconds(column.out.worst()), " s", 2);
        row("Deaths not known by all", &|column| Some(column.unknown as f64), "", 0);
    }
    row("False deaths seen", &|column| Some(column.false_deaths as f64), "", 0);
    row("False deaths a day", &|column| Some(column.a_day()), "", 1);
    row("All agree again, worst", &|column| seconds(column.healed), " s", 2);
    row("UDP packets a second", &|column| Some(column.packets), "", 2);
    row("UDP a second", &|column| Some(column.udp), " B", 0);
    row("TCP a second", &|column| Some(column.tcp), " B", 0);
    table
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}

/// As an error of the command line.
fn sentence(impossible: impl Display) -> String {
    format!("This cannot be simulated: {impossible}")
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Memory that this host can still give, where it says so.
fn memory_free() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_either_way() {
        assert_eq!((share("2%"), share("0.02"), share("25 %")), (Ok(0.02), Ok(0.02), Ok(0.25)));
        assert!(share("two").is_err());
        assert_eq!((percent(0.02), percent(0.125)), ("2 %".to_owned(), "12.5 %".to_owned()));
    }
}
