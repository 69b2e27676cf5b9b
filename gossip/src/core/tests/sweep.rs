//! Partitions and rivals of many shapes: each seed another one.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::net::{CLUSTER, Net, addr, config, secs};
use crate::config::Config;
use crate::core::{Done, Standing};
use crate::member::{Event, State};

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
    // 549: two holders with equal epochs, whose tables once looked the same to each other.
    for seed in (200..208).chain([549]) {
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

/// Agents are killed, started, stopped, cut off, told to leave and changed at random; then the faults end, and all must agree.
#[test]
fn after_any_mix_of_faults_all_agree_again() {
    for seed in 600..606 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let size = rng.random_range(4..14u16);
        let mut net = Net::cluster(seed, size);
        let mut epochs: BTreeMap<u16, u64> = (0..size).map(|n| (n, 1)).collect();
        let mut paused = Vec::new();
        let mut log = Vec::new();
        let peers: Vec<_> = (0..size).map(addr).collect();
        let mut again = |net: &mut Net, n: u16| {
            let epoch = epochs.get_mut(&n).expect("it was there from the start");
            *epoch += 1;
            net.start(Config { epoch: *epoch << 16, cluster: Some(CLUSTER), kept_peers: peers.clone(), ..config(n) });
        };
        for _ in 0..40 {
            let n = rng.random_range(0..size);
            let runs = net.nodes.contains_key(&addr(n)) && !paused.contains(&n);
            let act = rng.random_range(0..10);
            log.push((act, n));
            match act {
                0 | 1 if runs => net.kill(addr(n)),
                2 if runs => {
                    net.pause(addr(n));
                    paused.push(n);
                }
                3 if runs => net.with(addr(n), |core, now| core.leave(n % 2 == 0, now)),
                4 => net.groups = (0..size).filter(|_| rng.random()).map(|n| (addr(n), 1)).collect(),
                5 => net.groups.clear(),
                6 => net.loss = [0.0, 0.05, 0.3][rng.random_range(0..3)],
                7 if runs => {
                    let meta = [("n".to_owned(), rng.random::<u32>().to_string())].into();
                    net.with(addr(n), |core, now| core.describe(BTreeMap::new(), meta, now)).expect("it is small");
                }
                _ if !runs && !paused.contains(&n) => again(&mut net, n),
                _ => paused.drain(..).for_each(|n| net.resume(addr(n))),
            }
            net.run(Duration::from_millis(rng.random_range(100..15_000)));
        }
        net.groups.clear();
        net.loss = 0.0;
        paused.drain(..).for_each(|n| net.resume(addr(n)));
        for n in 0..size {
            let inside =
                net.nodes.get(&addr(n)).is_some_and(|node| matches!(node.core.standing(), Standing::Inside | Standing::Outside));
            if !inside {
                net.kill(addr(n));
                again(&mut net, n);
            }
        }
        let took = net.until(secs(180), |net| net.all_see(size.into()));
        let picture: Vec<_> = net
            .nodes
            .iter()
            .map(|(at, node)| {
                let gone = node.core.members().into_iter().filter(|member| member.state != State::Alive);
                (*at, node.core.standing().clone(), gone.map(|member| member.name().to_owned()).collect::<Vec<_>>())
            })
            .collect();
        assert!(took.is_some(), "seed {seed}: {picture:?} after {log:?}");
        net.run(secs(60));
        assert!(net.all_see(size.into()), "seed {seed}: it did not stay so");
        let about = |net: &Net, at: u16, n: u16| {
            let members = net.nodes[&addr(at)].core.members();
            members.into_iter().find(|member| member.identity.addr == addr(n)).map(|member| (member.identity, member.record))
        };
        for (at, n) in (0..size).flat_map(|at| (0..size).map(move |n| (at, n))) {
            assert_eq!(about(&net, at, n), about(&net, n, n), "seed {seed}: what {at} knows of {n}");
        }
    }
}
