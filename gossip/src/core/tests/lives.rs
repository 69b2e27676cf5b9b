//! Joining, failing, leaving, coming back.

use std::time::Duration;

use crate::accusation::Ground;
use crate::config::Config;

use super::net::{CLUSTER, Net, addr, config, secs};
use crate::core::{Dial, Done, Standing};
use crate::member::{Event, Kind, State};

#[test]
fn twenty_that_joined_through_one_know_each_other() {
    let mut net = Net::new(1);
    net.start(config(0));
    net.found(addr(0), CLUSTER);
    for n in 1..20 {
        net.start(config(n));
        assert_eq!(net.join(addr(n), addr(0)), Done::Well);
    }
    let took = net.until(secs(5), |net| net.all_see(20)).expect("all know all");
    assert!(took <= secs(2), "{took:?}");
    for at in net.nodes.keys() {
        assert_eq!(net.events(*at, |event| matches!(event, Event::Up(_))), 19, "each came up once, at {at}");
    }
}

#[test]
fn one_that_is_killed_on_a_living_host_is_known_dead_within_a_second() {
    let mut net = Net::cluster(2, 20);
    let killed = net.core(addr(7)).identity().node;
    net.kill(addr(7));
    // Who has a feed with it sees that close; without that, the first probe that fails begins the search half a second later.
    assert!(net.with(addr(1), |core, now| core.check(killed, now)));
    let took = net.until(secs(40), |net| net.nodes.keys().all(|at| net.seen(*at, "node-7") == Some(State::Failed)));
    assert!(took.expect("all know") <= secs(1), "{took:?}");
    net.run(secs(3));
    for node in net.nodes.values() {
        let member = node.core.members().into_iter().find(|member| member.name() == "node-7").expect("it is still listed");
        assert_eq!(member.cause.kind, Kind::Refused);
        assert!(member.cause.by.is_some_and(|by| by != member.node()));
        assert!(member.accusations.len() >= 2, "{:?}", member.accusations);
        assert!(member.accusations.iter().all(|accusation| accusation.ground == Ground::Refused));
    }
    assert!(net.all_see(19));
}

#[test]
fn a_host_that_falls_silent_is_known_dead_and_its_accusers_are_on_record() {
    for seed in 20..40 {
        let mut net = Net::cluster(seed, 20);
        net.gone.insert(addr(7));
        let others =
            |net: &Net| net.nodes.keys().filter(|at| **at != addr(7)).all(|at| net.seen(*at, "node-7") == Some(State::Failed));
        let took = net.until(secs(40), others).expect("all know");
        eprintln!("seed {seed}: {took:?}");
        assert!(took <= secs(8), "seed {seed}: {took:?}");
        for (_, node) in net.nodes.iter().filter(|(at, _)| **at != addr(7)) {
            let member = node.core.members().into_iter().find(|member| member.name() == "node-7").expect("it is still listed");
            assert_eq!(member.cause.kind, Kind::Silent);
            assert!(member.accusations.len() >= 2, "{:?}", member.accusations);
            assert_eq!(member.cause.by, member.accusations.first().map(|first| first.by));
        }
    }
}

#[test]
fn one_that_leaves_has_left_everywhere_within_a_second() {
    let mut net = Net::cluster(3, 20);
    net.with(addr(7), |core, now| core.leave(true, now));
    let took = net.until(secs(5), |net| {
        net.nodes.keys().filter(|at| **at != addr(7)).all(|at| net.seen(*at, "node-7") == Some(State::Left))
    });
    assert!(took.expect("all know") <= Duration::from_millis(1200), "{took:?}");
    net.until(secs(3), |net| *net.nodes[&addr(7)].core.standing() == Standing::Left).expect("it is done");
    net.kill(addr(7));
    net.run(secs(30));
    for at in net.nodes.keys() {
        assert_eq!(net.events(*at, |event| matches!(event, Event::Down(_))), 0, "leaving is not failing, at {at}");
        assert_eq!(net.events(*at, |event| matches!(event, Event::Left(member) if member.cause.kind == Kind::Left)), 1);
    }
}

#[test]
fn one_that_left_comes_back_in_its_next_life() {
    let mut net = Net::cluster(4, 5);
    net.with(addr(3), |core, now| core.leave(false, now));
    net.run(secs(3));
    net.start(Config { epoch: 2 << 16, cluster: Some(CLUSTER), kept_peers: vec![addr(1), addr(2)], ..config(3) });
    net.until(secs(10), |net| net.all_see(5)).expect("it is back");
}

#[test]
fn one_that_failed_can_be_made_to_leave() {
    let mut net = Net::cluster(5, 6);
    assert!(net.with(addr(0), |core, now| core.force_leave("node-4", now)).is_err(), "it lives");
    assert!(net.with(addr(0), |core, now| core.force_leave("nobody", now)).is_err());
    net.kill(addr(4));
    net.until(secs(40), |net| net.nodes.keys().all(|at| net.seen(*at, "node-4") == Some(State::Failed))).expect("all know");
    net.with(addr(0), |core, now| core.force_leave("node-4", now)).expect("it failed");
    net.until(secs(5), |net| net.nodes.keys().all(|at| net.seen(*at, "node-4") == Some(State::Left))).expect("all know");
    net.with(addr(0), |core, now| core.prune("node-4", now));
    assert_eq!(net.seen(addr(0), "node-4"), None);
    net.until(secs(5), |net| net.nodes.keys().all(|at| net.seen(*at, "node-4").is_none())).expect("all drop it");
    net.run(secs(120));
    assert!(net.nodes.keys().all(|at| net.seen(*at, "node-4").is_none()), "and it does not come back");
}

#[test]
fn one_that_is_killed_and_back_at_once_is_back_for_all() {
    let mut net = Net::cluster(6, 10);
    net.kill(addr(2));
    net.run(secs(1));
    net.start(Config { epoch: 2 << 16, cluster: Some(CLUSTER), kept_peers: vec![addr(5)], ..config(2) });
    net.until(secs(5), |net| net.all_see(10)).expect("it is back");
    net.run(secs(30));
    assert!(net.all_see(10), "and stays");
    for at in net.nodes.keys().filter(|at| **at != addr(2)) {
        let new = |event: &Event| matches!(event, Event::Up(member) | Event::Updated(member) if member.identity.epoch == 2 << 16);
        assert!(net.events(*at, new) >= 1, "its new life is told, at {at}");
    }
}

#[test]
fn a_partition_heals_and_everybody_is_back() {
    let mut net = Net::cluster(7, 20);
    net.groups = (0..10).map(|n| (addr(n), 1)).collect();
    net.until(secs(120), |net| net.all_see(10)).expect("each half is on its own");
    net.groups.clear();
    let took = net.until(secs(120), |net| net.all_see(20)).expect("it heals");
    assert!(took <= secs(60), "{took:?}");
    net.run(secs(120));
    assert!(net.all_see(20), "and stays so");
    assert!(net.nodes.values().all(|node| *node.core.standing() == Standing::Inside));
}

#[test]
fn one_that_lost_everybody_comes_back_by_itself() {
    let mut net = Net::cluster(9, 8);
    net.groups.insert(addr(3), 1);
    net.until(secs(120), |net| net.alive(addr(3)) == 1 && net.alive(addr(0)) == 7).expect("it is alone");
    assert!(net.events(addr(3), |event| *event == Event::Alone) >= 1);
    net.groups.clear();
    let took = net.until(secs(60), |net| net.all_see(8)).expect("it is back");
    assert!(took <= secs(45), "{took:?}");
}

/// Its last life was not yet held dead, and somebody compared tables with it before anybody had let it in.
#[test]
fn one_that_is_back_and_is_asked_for_its_table_first_enters_all_the_same() {
    let mut net = Net::cluster(6, 3);
    net.kill(addr(2));
    net.start(Config { epoch: 2 << 16, cluster: Some(CLUSTER), kept_peers: vec![addr(0)], ..config(2) });
    net.with(addr(0), |core, _| core.effects.dials.push(Dial::Exchange(addr(2))));
    assert_eq!((net.alive(addr(2)), net.core(addr(2)).standing()), (3, &Standing::Outside), "it knows them, and is not in");
    let inside = |net: &Net| *net.nodes[&addr(2)].core.standing() == Standing::Inside && net.all_see(3);
    assert!(net.until(secs(2), inside).is_some());
}

#[test]
fn all_that_were_stopped_find_each_other_again() {
    let mut net = Net::cluster(10, 6);
    let peers: Vec<_> = (0..6).map(addr).collect();
    peers.iter().for_each(|at| net.kill(*at));
    net.run(secs(60));
    for n in 0..6 {
        net.start(Config { epoch: 2 << 16, cluster: Some(CLUSTER), kept_peers: peers.clone(), ..config(n) });
        net.run(Duration::from_millis(300));
    }
    let took = net.until(secs(60), |net| net.all_see(6)).expect("they are back");
    assert!(took <= secs(10), "{took:?}");
}

#[test]
fn the_dead_are_forgotten_by_class() {
    let mut net = Net::new(11);
    let short = |n| Config { reconnect_timeout: secs(120), tombstone_timeout: secs(40), ..config(n) };
    net.start(short(0));
    net.found(addr(0), CLUSTER);
    for n in 1..6 {
        net.start(short(n));
        net.join(addr(n), addr(0));
    }
    net.run(secs(5));
    net.with(addr(1), |core, now| core.leave(true, now));
    net.run(secs(2));
    net.kill(addr(1));
    net.kill(addr(2));
    net.run(secs(30));
    assert_eq!((net.seen(addr(0), "node-1"), net.seen(addr(0), "node-2")), (Some(State::Left), Some(State::Failed)));
    net.run(secs(30));
    assert_eq!((net.seen(addr(0), "node-1"), net.seen(addr(0), "node-2")), (None, Some(State::Failed)));
    net.run(secs(100));
    for at in net.nodes.keys() {
        assert_eq!(net.seen(*at, "node-2"), None, "at {at}");
        assert_eq!(net.events(*at, |event| matches!(event, Event::Reaped(member) if member.cause.kind == Kind::Expired)), 2);
    }
    net.run(secs(300));
    assert!(net.all_see(4), "and do not come back");
}

#[test]
fn a_changed_record_reaches_all_also_a_big_one() {
    let mut net = Net::cluster(12, 15);
    for size in [10, 3000] {
        let meta: std::collections::BTreeMap<String, String> = [("about".to_owned(), "x".repeat(size))].into();
        net.with(addr(3), |core, now| core.describe(Default::default(), meta.clone(), now)).expect("it is not too big");
        let knows = |net: &Net| {
            net.nodes
                .values()
                .all(|node| node.core.members().iter().any(|member| member.name() == "node-3" && member.record.meta == meta))
        };
        let took = net.until(secs(20), knows).expect("all know");
        assert!(took <= secs(4), "{took:?}");
    }
    let big = [("about".to_owned(), "x".repeat(10_000))].into();
    assert!(net.with(addr(3), |core, now| core.describe(Default::default(), big, now)).is_err());
}

#[test]
fn those_without_a_cluster_wait_until_one_founds_it() {
    let mut net = Net::new(13);
    for n in 0..4 {
        net.start(config(n));
    }
    for n in 1..4 {
        assert_eq!(net.join(addr(n), addr(0)), Done::Waiting);
    }
    net.run(secs(1));
    assert_eq!(net.nodes[&addr(3)].core.waiting().len(), 3, "they know of each other");
    assert!(net.sent.is_empty(), "none may send a packet");
    net.found(addr(2), CLUSTER);
    let took = net.until(secs(5), |net| net.all_see(4)).expect("all are in");
    assert!(took <= secs(2), "{took:?}");
    assert!(net.nodes.values().all(|node| node.core.cluster() == Some(CLUSTER)));
}

#[test]
fn an_idle_agent_sends_little() {
    let mut net = Net::cluster(14, 20);
    net.run(secs(30));
    net.sent.clear();
    net.run(secs(120));
    for (at, (packets, bytes)) in &net.sent {
        assert!(*bytes / 120 <= 300, "{} bytes and {} packets a second at {at}", bytes / 120, packets / 120);
    }
}

#[test]
fn loss_kills_nobody() {
    let mut net = Net::cluster(15, 20);
    net.loss = 0.05;
    net.run(secs(300));
    net.loss = 0.0;
    net.run(secs(60));
    assert!(net.all_see(20));
    for at in net.nodes.keys() {
        assert_eq!(net.events(*at, |event| matches!(event, Event::Down(_) | Event::Epoch(_))), 0, "at {at}");
    }
}
