//! Two holders of one UUID or name; lives that are held dead.

use std::time::Duration;

use uuid::Uuid;

use super::net::{CLUSTER, Net, addr, config, secs};
use crate::config::Config;
use crate::core::{Done, Standing};
use crate::member::{Event, Quiet, State};

/// Agents 0..4 on one side of a cut, 5..9 on the other.
fn halves(seed: u64) -> Net {
    let mut net = Net::cluster(seed, 10);
    net.groups = (0..5).chain([60]).map(|n| (addr(n), 1)).collect();
    net.until(secs(120), |net| net.all_see(5)).expect("each half is on its own");
    net
}

#[test]
fn of_two_halves_that_hold_one_node_the_elder_stays_and_the_other_goes_quiet() {
    for epoch in [1 << 16, 7 << 16] {
        let mut net = halves(41);
        // Agent 7 lives beyond the cut; here its data directory is started a second time.
        net.start(Config { node: config(7).node, name: "node-7".into(), epoch, cluster: Some(CLUSTER), ..config(60) });
        assert_eq!(net.join(addr(60), addr(1)), Done::Well);
        net.run(secs(20));
        net.groups.clear();
        net.until(secs(180), |net| matches!(net.nodes[&addr(60)].core.standing(), Standing::Quiet(_))).expect("it goes quiet");
        assert_eq!(net.events(addr(60), |event| *event == Event::Quiet(Quiet::Id(addr(7)))), 1);
        net.kill(addr(60));
        net.until(secs(120), |net| net.all_see(10)).expect("the others are whole");
        net.run(secs(60));
        assert!(net.all_see(10));
        let seven = net.core(addr(0)).members().into_iter().find(|member| member.name() == "node-7").expect("it is there");
        assert_eq!(seven.identity.addr, addr(7));
    }
}

#[test]
fn of_two_that_have_one_name_the_elder_stays_and_nobody_fights() {
    let mut net = halves(42);
    net.start(Config { node: Uuid::from_u128(888), name: "node-7".into(), ..config(60) });
    assert_eq!(net.join(addr(60), addr(1)), Done::Well);
    net.run(secs(20));
    net.groups.clear();
    net.until(secs(180), |net| matches!(net.nodes[&addr(60)].core.standing(), Standing::Quiet(Quiet::Name(_))))
        .expect("it goes quiet");
    net.run(secs(120));
    for n in 0..10 {
        assert_eq!(net.alive(addr(n)), 10, "at {n}");
        let epochs = net.events(addr(n), |event| matches!(event, Event::Epoch(_)));
        assert!(epochs <= 3, "{epochs} renewals at {n}");
    }
}

#[test]
fn of_two_that_are_let_in_under_one_name_at_once_one_stays() {
    for seed in 46..50 {
        let mut net = Net::cluster(seed, 6);
        for (n, through) in [(70, 1), (71, 4)] {
            net.start(Config { name: "twin".into(), ..config(n) });
            assert_eq!(net.join(addr(n), addr(through)), Done::Well);
        }
        net.run(secs(60));
        let quiet = |net: &Net, n| matches!(net.nodes[&addr(n)].core.standing(), Standing::Quiet(Quiet::Name(_)));
        assert!(quiet(&net, 70) != quiet(&net, 71), "seed {seed}");
        assert!((0..6).all(|n| net.alive(addr(n)) == 7), "seed {seed}");
    }
}

#[test]
fn one_that_was_paused_begins_another_life_when_it_wakes() {
    let mut net = Net::cluster(43, 8);
    net.gone.insert(addr(4));
    net.until(secs(60), |net| net.nodes.keys().all(|at| *at == addr(4) || net.seen(*at, "node-4") == Some(State::Failed)))
        .expect("it failed");
    net.gone.clear();
    net.until(secs(60), |net| net.all_see(8)).expect("it is back");
    net.run(secs(60));
    assert!(net.all_see(8));
}

#[test]
fn one_that_sleeps_buries_nobody_when_it_wakes() {
    for seed in 70..76 {
        let mut net = Net::cluster(seed, 8);
        // It has just begun to suspect others when it is stopped.
        net.groups.insert(addr(4), 1);
        net.run(secs(4));
        net.pause(addr(4));
        net.groups.clear();
        net.run(secs(30));
        net.resume(addr(4));
        net.until(secs(60), |net| net.all_see(8)).expect("it is back");
        net.run(secs(60));
        assert!(net.all_see(8));
        for n in 0..8 {
            let buried = |event: &Event| matches!(event, Event::Down(member) if member.name() != "node-4");
            assert_eq!(net.events(addr(n), buried), 0, "seed {seed}, at {n}");
        }
    }
}

#[test]
fn renewals_are_paced() {
    let mut net = Net::cluster(44, 4);
    for n in 0..100 {
        net.run(Duration::from_millis(100));
        net.with(addr(2), |core, now| core.renew_above(n, now));
    }
    let renewals = net.events(addr(2), |event| matches!(event, Event::Epoch(_)));
    assert!((1..=3).contains(&renewals), "{renewals} renewals in ten seconds");
    net.run(secs(30));
    assert!(net.all_see(4));
}
