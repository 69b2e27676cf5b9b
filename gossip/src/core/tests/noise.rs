//! Random, cut, repeated and foreign packets: counted, and nothing else.

use base64::Engine;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use super::net::{CLUSTER, Net, addr, config, secs};
use crate::config::Config;
use crate::core::{Core, Done};
use crate::key::{Key, Keyring};
use crate::member::{Event, State};
use crate::metrics::Dropped;

fn ring(n: u8) -> Keyring {
    Keyring::new([Key::parse(&base64::engine::general_purpose::STANDARD.encode([n; 32])).expect("32 bytes")]).expect("one key")
}

fn sealed(seed: u64, count: u16) -> Net {
    let mut net = Net::new(seed);
    for n in 0..count {
        net.start(Config { keys: ring(1), ..config(n) });
        if n == 0 {
            net.found(addr(0), CLUSTER);
        } else {
            assert_eq!(net.join(addr(n), addr(0)), Done::Well);
        }
    }
    net.run(secs(5));
    net
}

fn fingerprint(core: &Core) -> (Vec<(String, State, u64)>, u64) {
    let members = core.members().into_iter().map(|member| (member.name().to_owned(), member.state, member.identity.epoch));
    (members.collect(), core.digest())
}

#[test]
fn random_cut_and_flipped_packets_change_nothing() {
    let mut net = sealed(51, 4);
    let before = fingerprint(net.core(addr(0)));
    let mut rng = SmallRng::seed_from_u64(51);
    let recorded = net.recorded.clone();
    for n in 0..30_000 {
        let mut bytes = recorded[n % recorded.len()].1.clone();
        match n % 4 {
            0 => {
                bytes = vec![0; rng.random_range(0..2000)];
                rng.fill_bytes(&mut bytes);
            }
            1 => bytes.truncate(rng.random_range(0..bytes.len())),
            2 => {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
            _ => bytes.resize(rng.random_range(1401..3000), 7),
        }
        net.with(addr(0), |core, now| core.packet(&bytes, now));
    }
    assert_eq!(fingerprint(net.core(addr(0))), before);
    let drops = net.core(addr(0)).drops();
    assert_eq!(drops.values().sum::<u64>(), 30_000);
    for cause in
        [Dropped::Truncated, Dropped::Oversize, Dropped::Version, Dropped::Forged, Dropped::WrongCluster, Dropped::WrongKey]
    {
        assert!(drops.contains_key(&cause), "{cause:?}: {drops:?}");
    }
    net.run(secs(20));
    assert!(net.all_see(4));
}

#[test]
fn random_payloads_of_an_insider_never_panic() {
    let mut net = sealed(52, 4);
    let mut rng = SmallRng::seed_from_u64(52);
    let mut seal = crate::seal::Seal::new(ring(1), 4711);
    let recorded: Vec<_> = net.recorded.iter().filter(|(to, _)| *to == addr(0)).cloned().collect();
    for n in 0..20_000 {
        let mut payload = if n % 2 == 0 {
            let mut bytes = vec![0; rng.random_range(0..1300)];
            rng.fill_bytes(&mut bytes);
            bytes
        } else {
            let frame = &recorded[n % recorded.len()].1;
            let mut opener = crate::seal::Seal::new(ring(1), 4712);
            opener.open(CLUSTER, frame, net.now).expect("it was sealed with this key")
        };
        if !payload.is_empty() {
            let at = rng.random_range(0..payload.len());
            payload[at] = rng.random();
        }
        let frame = seal.seal(CLUSTER, &payload).expect("numbers are left");
        net.with(addr(0), |core, now| core.packet(&frame, now));
    }
    assert!(net.core(addr(0)).members().len() < 5000);
}

#[test]
fn the_dead_stay_dead_when_their_packets_are_repeated() {
    let mut net = sealed(53, 5);
    net.kill(addr(4));
    let repeated = net.recorded.clone();
    net.until(secs(40), |net| net.nodes.keys().all(|at| net.seen(*at, "node-4") == Some(State::Failed))).expect("all know");
    let recent = net.recorded.clone();
    for (to, bytes) in repeated.iter().chain(&recent).cycle().take(20_000) {
        if net.nodes.contains_key(to) {
            net.with(*to, |core, now| core.packet(bytes, now));
        }
    }
    net.run(secs(20));
    for at in net.nodes.keys() {
        assert_eq!(net.seen(*at, "node-4"), Some(State::Failed), "at {at}");
        assert_eq!(net.events(*at, |event| matches!(event, Event::Epoch(_))), 0, "at {at}");
    }
    assert!(net.core(addr(0)).drops()[&Dropped::Replay] > 1000);
}

#[test]
fn packets_of_another_cluster_and_without_a_key_are_counted() {
    let mut net = sealed(54, 2);
    let plain = crate::seal::Seal::new(Keyring::default(), 1).seal(CLUSTER, b"hello").expect("numbers are left");
    let foreign = crate::seal::Seal::new(ring(1), 2).seal(uuid::Uuid::from_u128(5), b"hello").expect("numbers are left");
    let other_key = crate::seal::Seal::new(ring(2), 3).seal(CLUSTER, b"hello").expect("numbers are left");
    for packet in [plain, foreign, other_key] {
        net.with(addr(0), |core, now| core.packet(&packet, now));
    }
    let drops = net.core(addr(0)).drops();
    assert_eq!((drops[&Dropped::Plaintext], drops[&Dropped::WrongCluster], drops[&Dropped::WrongKey]), (1, 1, 1));
}

#[test]
fn one_outside_takes_no_packet() {
    let mut net = sealed(55, 3);
    let packet = net.recorded.last().expect("some were sent").1.clone();
    net.start(Config { keys: ring(1), ..config(9) });
    net.with(addr(9), |core, now| core.packet(&packet, now));
    assert_eq!(net.core(addr(9)).drops()[&Dropped::Out], 1);
}
