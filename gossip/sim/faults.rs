//! What networks, hosts and strangers do, and nobody who lives is taken for dead for it; and that the watch sees it where it happens.

mod proof;

use std::time::Duration;

use muster_gossip::sim::{Expect, Fault, Loss, Network, Scenario, Who};
use muster_gossip::{Dropped, Impossible, Key};
use proof::{prove, secs, seeds};

#[test]
fn packets_that_come_twice_late_and_out_of_order_bury_nobody() {
    let network = Network {
        latency: (Duration::from_millis(100), Duration::from_millis(300)),
        duplicated: 0.1,
        reordered: 0.2,
        reordered_by: Duration::from_millis(200),
        ..Network::default()
    };
    for seed in seeds(3) {
        prove(Scenario::new(20, seed).on(network).until(secs(300)));
    }
}

#[test]
fn clocks_that_jump_and_hosts_without_cpu_bury_nobody() {
    let every = secs(1);
    for seed in seeds(3) {
        let scenario = Scenario::new(20, seed)
            .at(secs(10), Fault::Clock(Who::Any(1), secs(2)))
            .at(secs(40), Fault::Clock(Who::Any(2), secs(3600)))
            .at(secs(70), Fault::Starve { who: Who::Any(2), every, runs: every / 20 });
        prove(scenario.until(secs(240)));
    }
}

#[test]
fn a_pause_that_is_borne_buries_nobody() {
    for seed in seeds(10) {
        let pause = Fault::Pause(Who::Any(1), Duration::from_millis(3500));
        prove(Scenario::new(20, seed).at(secs(5), pause).until(secs(30)));
    }
}

#[test]
fn who_was_paused_for_long_buries_nobody_and_all_agree_soon() {
    for seed in seeds(5) {
        let report =
            prove(Scenario::new(30, seed).at(secs(5), Fault::Pause(Who::Any(3), secs(20))).until(secs(25)).heal(secs(20)));
        assert!(report.healed.is_some(), "{report}");
    }
}

/// A host with three agents on it sleeps for ten minutes, as a laptop does. They come back by themselves; nobody believes them
/// that the others were dead, and their waking makes no storm.
#[test]
fn three_that_sleep_for_ten_minutes_come_back_and_bury_nobody() {
    for seed in seeds(1) {
        let asleep = secs(600);
        let slept = |until| Scenario::new(12, seed).at(secs(5), Fault::Pause(Who::Any(3), asleep)).until(until).heal(secs(30));
        let report = prove(slept(secs(5) + asleep));
        assert!(report.healed.is_some(), "{report}");
        let longer = prove(slept(secs(5) + asleep + secs(60)));
        let after = longer.udp.packets.saturating_sub(report.udp.packets) as f64 / (12.0 * 60.0);
        assert!(after < 10.0, "{after} packets an agent and second after they woke");
    }
}

/// A third is promised; at half of all packets deaths are found out more slowly, and nobody flaps.
#[test]
fn three_in_ten_packets_lost_bury_nobody_and_half_of_them_neither() {
    for (loss, count) in [(0.3, 1), (0.5, 1)] {
        for seed in seeds(count) {
            let scenario = Scenario::new(12, seed).on(Network::udp_loss(loss)).at(secs(300), Fault::Silence(Who::Any(1)));
            let report = prove(scenario.until(secs(360)));
            assert!(report.detections[0].all.is_some(), "{report}");
        }
    }
}

#[test]
fn one_that_hears_nothing_or_no_udp_or_little_takes_nobody_along() {
    for loss in [Loss { udp: 1.0, all: 0.0 }, Loss { udp: 0.0, all: 0.8 }, Loss { udp: 0.0, all: 1.0 }] {
        for seed in seeds(1) {
            prove(Scenario::new(12, seed).at(secs(5), Fault::Input(Who::Any(1), loss)).until(secs(200)));
        }
    }
}

#[test]
fn one_way_cuts_between_some_pairs_bury_nobody() {
    for seed in seeds(1) {
        prove(Scenario::new(20, seed).at(secs(5), Fault::CutPairs(0.05)).until(secs(200)));
    }
}

#[test]
fn two_halves_come_together_again() {
    for seed in seeds(3) {
        prove(Scenario::new(24, seed).at(secs(5), Fault::Partition(0.5)).until(secs(120)));
    }
}

#[test]
fn what_is_forged_or_replayed_changes_nothing() {
    let key = || Key::parse("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").expect("it has 32 bytes");
    for seed in seeds(2) {
        let mut scenario = Scenario { key: Some(key()), ..Scenario::new(12, seed) }.at(secs(4), Fault::Kill(Who::Any(1)));
        for n in 0..20 {
            scenario = scenario.at(secs(2 + n), Fault::Forge(100)).at(secs(2 + n), Fault::Replay(100));
        }
        let report = prove(scenario.until(secs(60)));
        assert!(report.buried.is_empty() && report.quiet == 0 && report.renewals == 0, "{report}");
        for cause in [Dropped::Truncated, Dropped::Plaintext, Dropped::Forged, Dropped::Replay, Dropped::WrongKey] {
            assert!(report.drops.contains_key(&cause), "nothing was dropped as {cause:?}: {:?}", report.drops);
        }
    }
}

#[test]
fn a_living_agent_that_is_taken_for_dead_is_seen_and_told_with_what_came_before() {
    // A pause is not borne for half a minute; said to be borne, it is a false death.
    let expect = Expect { pause: secs(60), ..Expect::default() };
    let report = Scenario::new(10, 3).at(secs(5), Fault::Pause(Who::Node(4), secs(40))).expect(expect).run().expect("it can be");
    assert!(report.failures[0].contains("node-4 lives"), "{report}");
    assert!(report.last.iter().any(|line| line.contains("Pause")), "{report}");
    assert_eq!(report.false_deaths(), 1);
}

#[test]
fn who_does_not_come_to_agree_is_told() {
    // A death takes seconds to be found out.
    let scenario = Scenario::new(10, 1).at(secs(5), Fault::Silence(Who::Node(2))).until(secs(6)).heal(Duration::from_millis(200));
    let report = scenario.run().expect("it can be");
    assert!(report.failures[0].contains("not all agree: node-2 is dead"), "{report}");
}

/// It hears nothing, whatever it is sent and over whatever; what it says is heard.
#[test]
fn of_two_hundred_the_one_that_is_deaf_is_named_first_before_anybody_is_buried() {
    for seed in seeds(1) {
        let deaf = Loss { udp: 1.0, all: 1.0 };
        let report = prove(Scenario::new(200, seed).at(secs(5), Fault::Input(Who::Node(150), deaf)).until(secs(12)));
        let wrong = report.wrong.as_deref().unwrap_or_default();
        assert_eq!(wrong.first().map(|(node, _)| *node), Some(150), "seed {seed}: {wrong:?}");
    }
}

/// It is never buried, as it answers now and then; it goes on accusing.
#[test]
fn who_loses_most_of_what_it_is_sent_is_named_first_and_buries_nobody() {
    for seed in seeds(1) {
        let most = Loss { udp: 0.8, all: 0.8 };
        let report = prove(Scenario::new(40, seed).at(secs(5), Fault::Input(Who::Node(7), most)).until(secs(120)));
        let wrong = report.wrong.as_deref().unwrap_or_default();
        assert_eq!(wrong.first().map(|(node, _)| *node), Some(7), "seed {seed}: {wrong:?}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |scenario: Scenario| scenario.run().expect_err("it cannot be");
    assert_eq!(refused(Scenario::new(0, 1)), Impossible::Nobody);
    assert!(matches!(refused(Scenario::new(5, 1).on(Network::udp_loss(1.0))), Impossible::Share { .. }));
    assert!(matches!(refused(Scenario::new(5, 1).at(secs(1), Fault::Forge(1))), Impossible::Unsealed));
    assert!(matches!(refused(Scenario::new(5, 1).at(secs(1), Fault::Kill(Who::Any(5)))), Impossible::NobodyLeft { .. }));
    let paused = Fault::Pause(Who::Any(3), secs(1));
    let both = Scenario::new(5, 1).at(secs(1), Fault::Kill(Who::Any(3))).at(secs(1), paused);
    assert_eq!(refused(both), Impossible::NotSoMany { asked: 6, nodes: 5 });
    let late = Scenario::new(5, 1).at(secs(3), Fault::Kill(Who::Any(1))).until(secs(2));
    assert!(matches!(refused(late), Impossible::Late { .. }));
}
