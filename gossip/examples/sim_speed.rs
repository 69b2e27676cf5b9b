//! Prints how fast the simulator runs, against real time: `cargo run --release -p muster-gossip --example sim_speed`.
//!
//! `-- 10000` runs only those of so many nodes, `-- 1000 5` only the one of them where 5 % of UDP are lost. The number at the end of a row is all of its packets in eight bytes: two builds that
//! print the same did the same.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // a program: it tells how long it took

use std::time::{Duration, Instant};

use muster_gossip::sim::{Network, Run, Scenario};

fn main() {
    let [only, lost] = [1, 2].map(|n| std::env::args().nth(n));
    let all = [(20, 60, 0.0), (100, 20, 0.0), (1000, 5, 0.0), (1000, 5, 0.05), (1000, 2, 0.2), (4000, 2, 0.0), (10_000, 2, 0.0)];
    let wanted = |(nodes, _, loss): &(usize, u64, f64)| {
        only.as_ref().is_none_or(|only| *only == nodes.to_string())
            && lost.as_ref().is_none_or(|lost| *lost == (loss * 100.0).to_string())
    };
    for (nodes, minutes, loss) in all.into_iter().filter(wanted) {
        let time = Duration::from_secs(60 * minutes);
        let scenario = Scenario::new(nodes, 1).on(Network::udp_loss(loss)).until(time).heal(Duration::ZERO);
        let begun = Instant::now();
        let mut run = Run::new(scenario).expect("it can be simulated");
        let filled = begun.elapsed();
        let begun = Instant::now();
        while run.pass(Duration::from_secs(1)) {}
        let took = begun.elapsed();
        let report = run.to_the_end();
        println!(
            "{nodes:>6} nodes, {:>2.0} % of UDP lost: {:>6.0} x real time ({} s in {:.2} s, {:.1} steps a node and second, {:.0} B of UDP), filled in {:.2} s, {:016x}",
            loss * 100.0,
            time.as_secs_f64() / took.as_secs_f64(),
            time.as_secs(),
            took.as_secs_f64(),
            report.steps as f64 / report.node_seconds,
            report.udp_bytes(),
            filled.as_secs_f64(),
            report.trace,
        );
    }
}
