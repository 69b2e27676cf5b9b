//! How a suite of simulations runs: seed by seed, and a failure says how to see it again.
#![allow(dead_code)] // each suite uses what it needs

use std::time::Duration;

use muster_gossip::sim::{Report, Scenario};

/// The environment variable that names one seed to run instead of all.
const SEED: &str = "MUSTER_SIM_SEED";

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many seeds; or the one that is to be seen again.
pub fn seeds(count: u64) -> Vec<u64> {
    match std::env::var(SEED) {
        Ok(seed) => vec![seed.parse().expect("a seed is a number")],
        Err(_) => (0..count).collect(),
    }
}

/// Runs it. Whatever does not hold ends the test, with the seed and the command that runs it again.
pub fn prove(scenario: Scenario) -> Report {
    let seed = scenario.seed;
    let report = scenario.run().expect("it can be simulated");
    if !report.failures.is_empty() {
        let thread = std::thread::current();
        let (suite, test) = (env!("CARGO_CRATE_NAME"), thread.name().unwrap_or_default());
        panic!("{report}\nto see it again: {SEED}={seed} cargo test -p muster-gossip --test {suite} -- --exact {test}");
    }
    report
}
