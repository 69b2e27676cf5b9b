//! Who lives and who does not, found out under virtual time, on networks that are whole.

mod proof;

use std::time::Duration;

use muster_gossip::sim::{Fault, Scenario, Start, Times, Who};
use proof::{prove, secs, seeds};

#[test]
fn a_silent_host_is_known_dead_by_all() {
    for seed in seeds(20) {
        let report = prove(Scenario::new(20, seed).at(secs(5), Fault::Silence(Who::Any(1))).until(secs(40)));
        let all = report.detections[0].all.expect("all know");
        assert!(all < secs(16), "seed {seed}: {all:?}\n{report}");
    }
}

/// Its host refuses connections, and nobody misses the news of it: gossip alone missed one for seconds, with the seeds 4 and 73 of 8.
#[test]
fn an_agent_that_is_killed_on_a_living_host_is_known_dead_by_all_in_a_moment() {
    for (nodes, seeds) in [(8, seeds(80)), (20, seeds(20))] {
        for seed in seeds {
            let report = prove(Scenario::new(nodes, seed).at(secs(2), Fault::Kill(Who::Any(1))).until(secs(7)));
            let all = report.detections[0].all.expect("all know");
            assert!(all < Duration::from_millis(100), "seed {seed}: {all:?}\n{report}");
        }
    }
}

/// Who is new says so to each.
#[test]
fn who_joins_is_known_by_all_in_a_moment() {
    let seeds = seeds(40);
    let joins = |seed| prove(Scenario::new(20, seed).at(secs(5), Fault::Join(1)).until(secs(8))).joins;
    let took = Times::new(seeds.into_iter().flat_map(joins).map(|join| join.expect("all know")));
    let (p50, worst) = (took.quantile(0.5).expect("there are some"), took.worst().expect("there are some"));
    assert!(p50 < Duration::from_millis(50) && worst < Duration::from_millis(100), "{p50:?} at the median, {worst:?} at worst");
}

#[test]
fn a_cluster_that_joins_agrees() {
    for seed in seeds(3) {
        let report = prove(Scenario { start: Start::Joined, ..Scenario::new(30, seed) }.until(secs(5)).heal(secs(5)));
        assert!(report.quiet == 0 && report.buried.is_empty(), "{report}");
    }
}

#[test]
fn equal_scenarios_give_equal_runs() {
    let scenario = |seed| Scenario::new(20, seed).at(secs(3), Fault::Kill(Who::Any(2))).at(secs(9), Fault::Restart(Who::Dead));
    let (first, second, other) = (prove(scenario(1)), prove(scenario(1)), prove(scenario(2)));
    assert_eq!(first, second);
    assert_ne!(first.trace, other.trace);
}

#[test]
fn who_is_killed_and_comes_back_is_agreed_on() {
    for seed in seeds(5) {
        let scenario = Scenario::new(20, seed)
            .at(secs(2), Fault::Kill(Who::Any(3)))
            .at(secs(4), Fault::Restart(Who::Same))
            .at(secs(20), Fault::Kill(Who::Any(2)))
            .at(secs(60), Fault::Wipe(Who::Same))
            .at(secs(61), Fault::Join(3))
            .at(secs(70), Fault::Leave(Who::Any(1)));
        prove(scenario.until(secs(80)));
    }
}
