//! What is believed of the silent, and what is not: forged, repeated and contradictory words, feeds, checks, digests.

use std::time::Duration;

use foca::Message;
use uuid::Uuid;

use super::net::{CLUSTER, Net, addr, secs};
use crate::accusation::{ACCUSERS_MAX, Charge, Ground};
use crate::identity::Identity;
use crate::item::Item;
use crate::key::Keyring;
use crate::member::{Event, Kind, Member, Outcome, Port, State};
use crate::metrics::Doubted;
use crate::packet::{Note, Packet, Target};
use crate::seal::Seal;

fn member(net: &Net, at: u16, of: u16) -> Member {
    let members = net.nodes[&addr(at)].core.members();
    members.into_iter().find(|member| member.identity.addr == addr(of)).expect("it is listed")
}

fn identity(net: &mut Net, n: u16) -> Identity {
    net.core(addr(n)).identity()
}

/// An insider says so, to all but the accused.
fn accuse(net: &mut Net, of: Identity, by: Uuid, incarnation: u16, epoch: u64) {
    let charge = Charge { by, ground: Ground::Tcp, health: 0, age: 3_600_000 };
    let item = Item::Accused { node: of.node, epoch, incarnation, charge };
    let others: Vec<_> = net.nodes.keys().copied().filter(|at| *at != of.addr).collect();
    for at in others {
        net.with(at, |core, now| core.take_item(&item, now));
    }
}

fn nobody_was_buried(net: &Net) {
    for at in net.nodes.keys() {
        assert_eq!(net.events(*at, |event| matches!(event, Event::Down(_) | Event::Epoch(_))), 0, "at {at}");
    }
}

#[test]
fn a_living_member_whom_many_accuse_in_forged_names_stays() {
    let mut net = Net::cluster(70, 12);
    let victim = identity(&mut net, 3);
    for round in 0..5 {
        for n in 4..9 {
            let by = identity(&mut net, n).node;
            accuse(&mut net, victim, by, round, victim.epoch);
        }
        net.run(secs(10));
    }
    nobody_was_buried(&net);
    assert!(net.all_see(12));
    assert!(!member(&net, 0, 3).is_suspect(), "it has refuted");
}

#[test]
fn what_cannot_be_is_counted_and_changes_nothing() {
    let mut net = Net::cluster(71, 6);
    let victim = identity(&mut net, 3);
    let (other, own) = (identity(&mut net, 4).node, identity(&mut net, 0).node);
    for (by, incarnation, epoch) in [
        (victim.node, 0, victim.epoch),         // of itself
        (other, 60_000, victim.epoch),          // of an incarnation it is far from
        (Uuid::from_u128(99), 0, victim.epoch), // by nobody
        (other, 0, victim.epoch - 1),           // of an earlier life
        (other, 0, victim.epoch + 1),           // of a life nobody has seen
        (own, 0, victim.epoch),                 // in the receiver's name
    ] {
        let charge = Charge { by, ground: Ground::Tcp, health: 0, age: 0 };
        let item = Item::Accused { node: victim.node, epoch, incarnation, charge };
        net.with(addr(0), |core, now| core.take_item(&item, now));
    }
    let doubts = net.core(addr(0)).doubts();
    assert_eq!((doubts[&Doubted::Contradictory], doubts[&Doubted::Unknown], doubts[&Doubted::Stale]), (3, 2, 1));
    assert!(!member(&net, 0, 3).is_suspect());
    net.run(secs(30));
    nobody_was_buried(&net);
}

#[test]
fn repeated_accusations_count_once_and_more_than_a_few_accusers_are_none() {
    let mut net = Net::cluster(82, 14);
    let victim = identity(&mut net, 3);
    let accusers: Vec<Uuid> = (4..14).map(|n| identity(&mut net, n).node).collect();
    for by in accusers.iter().flat_map(|by| [by, by]) {
        let charge = Charge { by: *by, ground: Ground::Tcp, health: 0, age: 0 };
        let item = Item::Accused { node: victim.node, epoch: victim.epoch, incarnation: 0, charge };
        let now = net.now;
        net.core(addr(0)).take_item(&item, now); // nobody looks into it yet
    }
    let doubts = net.core(addr(0)).doubts();
    let beyond = 2 * (accusers.len() - ACCUSERS_MAX);
    assert_eq!((doubts[&Doubted::Repeated], doubts[&Doubted::Full]), (ACCUSERS_MAX as u64, beyond as u64));
    assert_eq!(member(&net, 0, 3).accusations.len(), ACCUSERS_MAX);
    net.run(secs(20));
    nobody_was_buried(&net);
    assert!(!member(&net, 0, 3).is_suspect() && (0..14).all(|n| member(&net, 0, n).wrong == 0), "so many are not wrong alone");
}

#[test]
fn who_accuses_the_living_alone_is_wrong_and_all_keep_how_often() {
    let mut net = Net::cluster(83, 8);
    let (first, second, liar) = (identity(&mut net, 3), identity(&mut net, 5), identity(&mut net, 4).node);
    for (victim, incarnation) in [(first, 0), (second, 0), (first, 1)] {
        accuse(&mut net, victim, liar, incarnation, victim.epoch);
        net.run(secs(10));
    }
    nobody_was_buried(&net);
    for n in (0..8).filter(|n| ![3, 4, 5].contains(n)) {
        let wrong: Vec<u32> = (0..8).map(|of| member(&net, n, of).wrong).collect();
        assert_eq!(wrong, [0, 0, 0, 0, 3, 0, 0, 0], "at {n}");
    }
}

#[test]
fn word_of_a_death_without_accusers_is_looked_into_and_not_believed() {
    let mut net = Net::cluster(72, 8);
    let (victim, liar, to) = (identity(&mut net, 3), identity(&mut net, 4), identity(&mut net, 0));
    let packet = Packet {
        note: Note::default(),
        src: liar,
        src_incarnation: 0,
        to: Target::of(&to),
        message: Message::Gossip,
        updates: vec![foca::Member::down(victim)],
        items: Vec::new(),
    };
    let frame = Seal::new(Keyring::default(), 9).seal(CLUSTER, &packet.encode()).expect("numbers are left");
    for _ in 0..20 {
        net.with(addr(0), |core, now| core.packet(&frame, now));
        net.run(secs(1));
    }
    nobody_was_buried(&net);
    assert!(net.core(addr(0)).doubts()[&Doubted::Unproven] >= 20);
    assert!(net.all_see(8));
}

#[test]
fn one_that_is_silent_is_seen_as_suspect_before_it_is_buried() {
    let mut net = Net::cluster(73, 10);
    net.gone.insert(addr(3));
    let others = || (0..10).filter(|n| *n != 3);
    net.until(secs(10), |net| others().all(|n| member(net, n, 3).is_suspect())).expect("all suspect it");
    let suspected = member(&net, 0, 3);
    assert_eq!(suspected.state, State::Alive);
    assert!(suspected.accusations.iter().all(|accusation| accusation.by != suspected.node()));
    net.until(secs(10), |net| others().all(|n| member(net, n, 3).state == State::Failed)).expect("all bury it");
    for n in others() {
        let dead = member(&net, n, 3);
        assert!(dead.accusations.len() >= 2, "{:?}", dead.accusations);
        assert_eq!((dead.cause.kind, dead.cause.by), (Kind::Silent, Some(dead.accusations[0].by)));
    }
}

#[test]
fn a_feed_that_falls_silent_accuses_only_who_answers_nobody() {
    let mut net = Net::cluster(74, 6);
    let (living, dead) = (identity(&mut net, 2), identity(&mut net, 3));
    net.gone.insert(addr(3));
    assert!(net.with(addr(0), |core, now| core.feed_silent(living.node, now)));
    assert!(net.with(addr(0), |core, now| core.feed_silent(dead.node, now)));
    assert!(!net.with(addr(0), |core, now| core.feed_silent(Uuid::from_u128(99), now)), "nobody has that id");
    let all = |net: &Net| (0..6).filter(|n| *n != 3).all(|n| member(net, n, 3).state == State::Failed);
    let took = net.until(secs(10), all).expect("all bury it");
    assert!(took <= secs(4), "{took:?}");
    assert!(member(&net, 0, 3).accusations.iter().any(|accusation| accusation.ground == Ground::Feed));
    assert_eq!(member(&net, 0, 2).state, State::Alive);
}

#[test]
fn a_check_proves_life_and_death() {
    let mut net = Net::cluster(75, 6);
    let (living, dead) = (identity(&mut net, 2), identity(&mut net, 3));
    net.kill(addr(3));
    for node in [living.node, dead.node] {
        assert!(net.with(addr(0), |core, now| core.check(node, now)));
    }
    let proofs = |outcome| net.events(addr(0), move |event| matches!(event, Event::Checked(proof) if proof.outcome == outcome));
    assert_eq!((proofs(Outcome::Lives), proofs(Outcome::Dead)), (1, 1));
    assert_eq!(member(&net, 0, 3).cause.kind, Kind::Refused);
    let all = |net: &Net| (0..6).filter(|n| *n != 3).all(|n| member(net, n, 3).state == State::Failed);
    let took = net.until(secs(5), all).expect("all know");
    assert!(took <= secs(1), "{took:?}");
    assert!(!net.with(addr(0), |core, now| core.check(dead.node, now)), "it is dead already");
}

#[test]
fn one_refusal_is_no_proof_where_others_are_answered() {
    let mut net = Net::cluster(76, 5);
    let victim = identity(&mut net, 3);
    net.with(addr(0), |core, now| core.heard(&crate::core::Dial::Ping(victim, None), crate::core::Heard::Refused, now));
    net.run(secs(20));
    assert_eq!(net.events(addr(0), |event| matches!(event, Event::Checked(proof) if proof.outcome == Outcome::Lives)), 1);
    nobody_was_buried(&net);
}

#[test]
fn of_two_that_are_left_one_alone_decides_in_memberlists_time() {
    let mut net = Net::cluster(77, 2);
    net.gone.insert(addr(1));
    let took = net.until(secs(20), |net| member(net, 0, 1).state == State::Failed).expect("it is buried");
    assert!(took >= secs(4) && took <= secs(8), "{took:?}");
}

#[test]
fn a_member_whose_udp_is_deaf_is_alive_and_degraded() {
    let mut net = Net::cluster(80, 6);
    net.deaf.insert(addr(3));
    net.run(secs(120));
    nobody_was_buried(&net);
    for n in (0..6).filter(|n| *n != 3) {
        assert_eq!(member(&net, n, 3).degraded(), Some(Port::Udp), "at {n}");
        assert_eq!(member(&net, n, (n + 1) % 3).degraded(), None, "at {n}");
    }
    net.deaf.clear();
    net.run(secs(30));
    assert_eq!(member(&net, 0, 3).degraded(), None, "and well again");
}

#[test]
fn who_wakes_up_accuses_nobody() {
    let mut net = Net::cluster(78, 10);
    net.pause(addr(0));
    net.run(secs(600));
    net.resume(addr(0));
    net.run(secs(1));
    net.until(secs(30), |net| net.all_see(10)).expect("it is back");
    net.run(secs(60));
    for n in 1..10 {
        assert_eq!(net.events(addr(n), |event| matches!(event, Event::Epoch(_))), 0, "nobody else was buried, at {n}");
    }
}

#[test]
fn a_disagreement_that_stays_is_told_once_with_both_views() {
    let mut net = Net::cluster(79, 4);
    let (from, lost) = (identity(&mut net, 1), identity(&mut net, 2));
    for _ in 0..40 {
        let now = net.now;
        net.core(addr(0)).hear_digest(from, 4711, now);
        net.now += Duration::from_millis(1000);
    }
    let now = net.now;
    let table: Vec<_> = net.core(addr(1)).table(now).into_iter().filter(|seen| seen.identity != lost).collect();
    for _ in 0..3 {
        net.with(addr(0), |core, _| core.compare(&table));
    }
    let told = |event: &Event| matches!(event, Event::Disagreement { with, only_here, only_there } if *with == from.node && *only_here == [lost] && only_there.is_empty());
    assert_eq!(net.events(addr(0), told), 1);
}

/// foca would suspect one that answers over TCP alone, and no other member would read the packets that say so.
#[test]
fn who_answers_over_tcp_alone_is_suspected_by_nobody_and_every_packet_is_read() {
    let mut net = Net::cluster(81, 6);
    net.deaf.insert(addr(3));
    net.run(secs(120));
    for n in 0..6 {
        assert!(!member(&net, n, 3).is_suspect(), "at {n}");
        assert!(net.core(addr(n)).drops().is_empty(), "{:?} at {n}", net.core(addr(n)).drops());
    }
}
