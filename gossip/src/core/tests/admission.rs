//! Who is let in, and who is not.

use uuid::Uuid;

use super::net::{CLUSTER, Net, addr, config, secs};
use crate::config::Config;
use crate::core::{Dial, Done};
use crate::error::Why;
use crate::member::{Event, Kind, Quiet, State};

fn refused(done: &Done) -> Option<Why> {
    match done {
        Done::Refused(refusal) => Some(refusal.why),
        _ => None,
    }
}

/// A copy of agent 3's data directory on another host.
fn copy(n: u16) -> Config {
    Config { node: config(3).node, name: "another-name".into(), cluster: Some(CLUSTER), epoch: 2 << 16, ..config(n) }
}

#[test]
fn a_copied_data_directory_is_refused_and_the_first_is_unharmed() {
    let mut net = Net::cluster(21, 6);
    net.start(copy(30));
    assert_eq!(refused(&net.join(addr(30), addr(1))), Some(Why::Id));
    assert_eq!(refused(&net.join(addr(30), addr(3))), Some(Why::Id), "the original itself refuses too");
    net.run(secs(30));
    net.kill(addr(30));
    assert!(net.all_see(6));
    assert_eq!(net.events(addr(3), |event| matches!(event, Event::Epoch(_) | Event::Quiet(_))), 0);
    assert_eq!(net.events(addr(1), |event| matches!(event, Event::Refused { .. })), 1, "said on both sides");
}

#[test]
fn a_copy_that_was_refused_does_not_enter_by_itself() {
    let mut net = Net::cluster(28, 6);
    net.start(copy(30));
    let Done::Refused(refusal) = net.join(addr(30), addr(1)) else { panic!("the original lives") };
    let entered = net.with(addr(30), |core, now| {
        core.was_refused(&Dial::Join(addr(1)), &refusal, now);
        core.found(CLUSTER, now)
    });
    assert!(!entered, "it belongs to the cluster, and another stands in its place there");
    net.kill(addr(3));
    assert_eq!(net.join(addr(30), addr(1)), Done::Well, "the original is gone: a member lets it in");
}

#[test]
fn a_copy_takes_the_place_at_the_operators_word() {
    let mut net = Net::cluster(22, 6);
    net.start(Config { replace: true, ..copy(30) });
    assert_eq!(net.join(addr(30), addr(1)), Done::Well);
    net.run(secs(10));
    assert_eq!(net.events(addr(3), |event| *event == Event::Quiet(Quiet::Replaced)), 1);
    assert_eq!(net.seen(addr(0), "another-name"), Some(State::Alive));
    assert_eq!(net.alive(addr(0)), 6);
}

#[test]
fn a_holder_that_began_another_life_meanwhile_is_told_that_it_was_replaced() {
    let mut net = Net::cluster(34, 6);
    net.with(addr(3), |core, now| core.declared_dead(now));
    // Nobody has heard of that life yet: the word of the replacement is about the one before.
    net.start(Config { name: "node-3".into(), replace: true, ..config(40) });
    assert_eq!(net.join(addr(40), addr(1)), Done::Well);
    net.run(secs(10));
    assert_eq!(net.events(addr(3), |event| matches!(event, Event::Epoch(_))), 1);
    assert_eq!(net.events(addr(3), |event| *event == Event::Quiet(Quiet::Replaced)), 1);
    assert_eq!(net.alive(addr(0)), 6);
}

#[test]
fn a_node_moves_to_another_address_once_the_old_one_is_gone() {
    for host_gone in [false, true] {
        let mut net = Net::cluster(23, 6);
        net.kill(addr(3));
        if host_gone {
            net.gone.insert(addr(3));
        }
        net.start(Config { name: "node-3".into(), ..copy(30) });
        assert_eq!(net.join(addr(30), addr(1)), Done::Well, "old address silent: {host_gone}");
        net.until(secs(5), |net| net.all_see(6)).expect("it is there");
        net.run(secs(60));
        assert!(net.all_see(6));
        for n in [0, 1, 2, 4, 5] {
            assert_eq!(net.events(addr(n), |event| matches!(event, Event::Left(_))), 0, "it has moved, and not left");
        }
    }
}

#[test]
fn a_restored_disk_takes_the_highest_epoch_and_one() {
    let mut net = Net::cluster(24, 6);
    net.kill(addr(3));
    net.start(Config { epoch: 9 << 16, cluster: Some(CLUSTER), ..config(3) });
    net.join(addr(3), addr(0));
    net.run(secs(5));
    net.kill(addr(3));
    net.start(Config { epoch: 2 << 16, cluster: Some(CLUSTER), ..config(3) });
    assert_eq!(net.join(addr(3), addr(5)), Done::Well);
    assert_eq!(net.core(addr(3)).identity().epoch, (9 << 16) + 1);
    assert_eq!(net.events(addr(3), |event| *event == Event::Epoch((9 << 16) + 1)), 1);
    net.until(secs(5), |net| net.all_see(6)).expect("it is back");
    net.run(secs(60));
    assert!(net.all_see(6));
}

#[test]
fn a_wiped_node_takes_its_name_back_at_its_own_address() {
    let mut net = Net::cluster(25, 6);
    net.kill(addr(3));
    // A new UUID, the old name, the old address: that address now answers as the claimant.
    net.start(Config { node: Uuid::from_u128(777), ..config(3) });
    assert_eq!(net.join(addr(3), addr(1)), Done::Well);
    net.run(secs(5));
    assert!(net.all_see(6));
    let members = net.core(addr(0)).members();
    assert_eq!(members.iter().filter(|member| member.name() == "node-3").count(), 1, "the old UUID is gone");
    assert_eq!(net.events(addr(0), |event| matches!(event, Event::Reaped(member) if member.cause.kind == Kind::Replaced)), 1);
}

#[test]
fn a_re_imaged_host_takes_its_name_at_another_address() {
    let mut net = Net::cluster(26, 6);
    net.kill(addr(3));
    net.start(Config { node: Uuid::from_u128(777), name: "node-3".into(), ..config(40) });
    assert_eq!(net.join(addr(40), addr(1)), Done::Well);
    net.until(secs(5), |net| net.all_see(6)).expect("it is there");
    net.run(secs(60));
    assert!(net.all_see(6));
    assert!(net.nodes.keys().all(|at| net.seen(*at, "node-3") == Some(State::Alive)));
}

#[test]
fn a_living_members_name_is_refused_to_another() {
    let mut net = Net::cluster(27, 6);
    net.start(Config { name: "node-3".into(), ..config(40) });
    assert_eq!(refused(&net.join(addr(40), addr(1))), Some(Why::Name));
    assert_eq!(refused(&net.join(addr(40), addr(3))), Some(Why::Name));
    assert!(net.core(addr(40)).cluster().is_none(), "nothing was adopted");
    net.run(secs(20));
    assert_eq!(net.alive(addr(0)), 6);
}

#[test]
fn one_more_member_is_asked_before_a_name_changes_hands() {
    let mut net = Net::cluster(28, 6);
    // The admitting member alone cannot reach the holder.
    net.groups = (0..7).map(|n| (addr(n), 0)).collect();
    net.groups.insert(addr(1), 1);
    net.groups.insert(addr(40), 1);
    net.start(Config { name: "node-3".into(), ..config(40) });
    assert_eq!(net.join(addr(40), addr(1)), Done::Well, "cut off with the claimant, the member has no witness");
    let mut net = Net::cluster(28, 6);
    net.start(Config { name: "node-3".into(), ..config(40) });
    assert_eq!(refused(&net.join(addr(40), addr(1))), Some(Why::Name));
}

#[test]
fn two_clusters_pointed_at_each_other_never_merge() {
    let mut net = Net::cluster(29, 4);
    let other = Uuid::from_u128(9999);
    net.start(config(50));
    net.found(addr(50), other);
    net.start(config(51));
    assert_eq!(net.join(addr(51), addr(50)), Done::Well);
    for _ in 0..5 {
        for (from, to) in [(50, 0), (0, 50), (51, 2), (2, 51)] {
            let done = net.join(addr(from), addr(to));
            let Done::Refused(refusal) = done else { panic!("{done:?}") };
            assert_eq!(refusal.why, Why::Cluster);
            assert!(refusal.text.contains(&CLUSTER.to_string()) && refusal.text.contains(&other.to_string()), "{refusal}");
            assert!(refusal.text.contains("--forget-cluster"), "{refusal}");
        }
        net.run(secs(20));
    }
    assert!((0..4).all(|n| net.alive(addr(n)) == 4) && (50..52).all(|n| net.alive(addr(n)) == 2));
}

#[test]
fn another_datacenter_is_refused() {
    let mut net = Net::cluster(30, 3);
    net.start(Config { datacenter: "elsewhere".into(), ..config(40) });
    assert_eq!(refused(&net.join(addr(40), addr(1))), Some(Why::Datacenter));
}

#[test]
fn joining_again_changes_nothing() {
    let mut net = Net::cluster(31, 5);
    for to in [0, 1, 4] {
        assert_eq!(net.join(addr(4), addr(to)), Done::Well);
    }
    net.run(secs(20));
    assert!(net.all_see(5));
    assert_eq!(net.events(addr(4), |event| matches!(event, Event::Epoch(_))), 0);
}

#[test]
fn a_host_re_imaged_a_hundred_times_is_one_member() {
    let mut net = Net::cluster(32, 5);
    for n in 0..100u128 {
        net.kill(addr(3));
        net.start(Config { node: Uuid::from_u128(1000 + n), ..config(3) });
        assert_eq!(net.join(addr(3), addr((n % 3) as u16)), Done::Well, "the {n}th time");
        net.run(secs(2));
    }
    net.run(secs(10));
    assert!(net.all_see(5));
    assert!(net.nodes.values().all(|node| node.core.members().len() == 5), "the dead of that name are forgotten");
}

#[test]
fn an_agent_restarted_a_hundred_times_never_fails() {
    let mut net = Net::cluster(33, 5);
    for n in 0..100 {
        net.kill(addr(3));
        net.start(Config { epoch: (2 + n) << 16, cluster: Some(CLUSTER), kept_peers: vec![addr(0), addr(1)], ..config(3) });
        net.run(secs(1));
    }
    net.run(secs(20));
    assert!(net.all_see(5));
    for n in [0, 1, 2, 4] {
        assert_eq!(net.events(addr(n), |event| matches!(event, Event::Down(_))), 0, "at {n}");
    }
}
