//! Prints how fast and how surely deaths are found out, row by row: `cargo run --release -p muster-gossip --example detection`.
//!
//! `-- WORDS` runs only the rows whose name and size (`n=20`) hold all of these words; `-- --share 0.1` runs a tenth of the seeds.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)] // a program: it tells what came out, and how long it took

#[path = "../sim/proof/rows.rs"]
mod rows;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use muster_gossip::sim::Report;
use rows::{Must, Outcome, Row, rows};

fn main() -> ExitCode {
    let (mut words, mut share) = (Vec::new(), 1.0);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--share" {
            let Some(given) = args.next().and_then(|given| given.parse().ok()) else {
                eprintln!("--share takes a number, such as 0.1");
                return ExitCode::FAILURE;
            };
            share = given;
        } else {
            words.push(arg);
        }
    }
    println!(
        "{:<46} {:>5} {:>4}  {:>18} {:>11} {:>6} {:>6} {:>6} {:>6}  {:<16} {:>7}",
        "", "n", "runs", "p50 / p99 / worst", "tail p99", "false", "heal", "UDP/s", "TCP/s", "limit", "took"
    );
    let mut all_hold = true;
    for row in rows().iter().filter(|row| words.iter().all(|word| title(row).contains(word.as_str()))) {
        all_hold &= run(row, share);
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn title(row: &Row) -> String {
    format!("{} n={} ", row.name, row.nodes)
}

/// Runs a row, prints it, and says whether it holds.
fn run(row: &Row, share: f64) -> bool {
    let seeds = ((row.seeds as f64 * share).ceil() as u64).max(1);
    let begun = Instant::now();
    let reports: Vec<Report> = (0..seeds).map(|seed| (row.scenario)(seed).run().expect("it can be simulated")).collect();
    let took = begun.elapsed();
    let outcome = Outcome::of(&reports);
    let holds = outcome.holds(row.must);
    let three = [outcome.all.quantile(0.5), outcome.all.quantile(0.99), outcome.all.worst()].map(short).join(" / ");
    println!(
        "{:<46} {:>5} {:>4}  {:>18} {:>11} {:>6} {:>6} {:>6.0} {:>6.0}  {:<16} {:>6.1}s  {}",
        row.name,
        row.nodes,
        outcome.runs,
        three,
        short(outcome.tail.quantile(0.99)),
        outcome.false_runs,
        short(outcome.healed.worst()),
        outcome.udp,
        outcome.tcp,
        limit(row),
        took.as_secs_f64(),
        if holds { "holds" } else { "DOES NOT HOLD" },
    );
    if outcome.unknown > 0 {
        println!("    {} were not known by all", outcome.unknown);
    }
    if let Some((seed, text)) = outcome.broken {
        println!("    seed {seed}: {text}");
    }
    holds
}

fn short(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| format!("{:.2}", time.as_secs_f64()))
}

fn limit(row: &Row) -> String {
    match row.must {
        Must::Find { p50, p99, worst } => {
            // Half a period until the next probe begins, one for the probe, then the fixed patience.
            let memberlist = 1.75 + 4.0 * (row.nodes as f64).log10().max(1.0);
            let [p50, p99, worst] = [p50, p99, worst].map(|time| time.as_secs_f64());
            format!("{p50} / {p99} / {worst} (memberlist {memberlist:.1})")
        }
        Must::Join { p50, worst } => format!("{} / {}", p50.as_secs_f64(), worst.as_secs_f64()),
        Must::FindWithin(limit) => format!("worst {} s", limit.as_secs()),
        Must::BuryNobody => "none buried".to_owned(),
        Must::Heal(limit) => format!("agree in {} s", limit.as_secs()),
    }
}
