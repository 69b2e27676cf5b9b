//! Partitions and rivals of many shapes: each seed another one.

use uuid::Uuid;

use super::net::{CLUSTER, Net, addr, config, secs};
use crate::config::Config;
use crate::core::{Done, Standing};
use crate::member::Event;

#[test]
fn partitions_of_many_shapes_heal_and_nobody_is_buried_by_the_healing() {
    for seed in 100..110 {
        let size = 6 + (seed * 7 % 20) as u16;
        let cut = 1 + (seed as u16 * 5 % (size / 2));
        let mut net = Net::cluster(seed, size);
        net.groups = (0..cut).map(|n| (addr(n), 1)).collect();
        let apart = |net: &Net| (0..size).all(|n| net.alive(addr(n)) == usize::from(if n < cut { cut } else { size - cut }));
        assert!(net.until(secs(200), apart).is_some(), "seed {seed}: {cut} of {size} are not apart");
        net.nodes.values_mut().for_each(|node| node.events.clear());
        net.groups.clear();
        let took = net.until(secs(60), |net| net.all_see(size.into()));
        assert!(took.is_some(), "seed {seed}: {cut} of {size} did not heal");
        net.run(secs(60));
        assert!(net.all_see(size.into()), "seed {seed}: it did not stay so");
        let buried: usize = (0..size).map(|n| net.events(addr(n), |event| matches!(event, Event::Down(_)))).sum();
        assert_eq!(buried, 0, "seed {seed}: {cut} of {size}");
    }
}

#[test]
fn of_two_holders_the_elder_stays_whatever_the_order() {
    for seed in 200..208 {
        let mut net = Net::cluster(seed, 10);
        net.groups = (0..5).chain([60]).map(|n| (addr(n), 1)).collect();
        net.until(secs(120), |net| net.all_see(5)).expect("each half is on its own");
        let epoch = if seed % 4 == 1 { 1 << 16 } else { 7 << 16 };
        let copy = Config { node: config(7).node, name: "node-7".into(), epoch, cluster: Some(CLUSTER), ..config(60) };
        net.start(if seed % 2 == 0 { Config { node: Uuid::from_u128(888), ..copy } } else { copy });
        assert_eq!(net.join(addr(60), addr(1)), Done::Well);
        net.run(secs(20));
        net.groups.clear();
        let quiet = |net: &Net| matches!(net.nodes[&addr(60)].core.standing(), Standing::Quiet(_));
        assert!(net.until(secs(120), quiet).is_some(), "seed {seed}");
        let whole =
            |net: &Net| (0..10).all(|n| net.alive(addr(n)) == 10 && *net.nodes[&addr(n)].core.standing() == Standing::Inside);
        assert!(net.until(secs(60), whole).is_some(), "seed {seed}");
        net.run(secs(60));
        assert!(whole(&net), "seed {seed}");
    }
}

#[test]
fn thirty_of_a_hundred_die_at_once_and_all_know() {
    let mut net = Net::cluster(300, 100);
    (60..90).for_each(|n| net.kill(addr(n)));
    let took = net.until(secs(120), |net| net.all_see(70)).expect("all know");
    assert!(took <= secs(30), "{took:?}");
    for n in 60..90 {
        net.start(Config { epoch: 2 << 16, cluster: Some(CLUSTER), kept_peers: vec![addr(0), addr(5), addr(99)], ..config(n) });
    }
    let took = net.until(secs(60), |net| net.all_see(100)).expect("they are back");
    assert!(took <= secs(5), "{took:?}");
}
