//! User events: all get each once, and in an order that respects what led to what.

use bytes::Bytes;

use super::net::{Net, addr, secs};
use crate::error::Error;
use crate::member::Event;

fn fired(net: &Net, n: u16) -> Vec<(u64, String)> {
    let events = &net.nodes[&addr(n)].events;
    events
        .iter()
        .filter_map(|event| if let Event::Fired(fired) = event { Some((fired.time, fired.name.clone())) } else { None })
        .collect()
}

fn fire(net: &mut Net, n: u16, name: &str) -> Result<u64, Error> {
    net.with(addr(n), |core, now| core.fire(name, Bytes::from_static(b"payload"), now))
}

#[test]
fn each_event_reaches_all_once_also_under_loss() {
    let mut net = Net::cluster(90, 15);
    net.loss = 0.1;
    for n in 0..30 {
        fire(&mut net, n % 15, &format!("event-{n}")).expect("it is small");
        net.run(std::time::Duration::from_millis(100));
    }
    net.run(secs(10));
    for n in 0..15 {
        let mut names: Vec<_> = fired(&net, n).into_iter().map(|(_, name)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!((names.len(), fired(&net, n).len()), (30, 30), "at {n}");
    }
}

#[test]
fn what_follows_has_a_later_time() {
    let mut net = Net::cluster(91, 8);
    let mut last = None;
    for n in 0..6 {
        let time = fire(&mut net, n, "next").expect("it is small");
        assert!(last.is_none_or(|last| time > last), "{time} after {last:?}");
        last = Some(time);
        net.run(secs(3));
    }
}

/// Gossip has long stopped telling it when the two halves meet again.
#[test]
fn an_event_that_gossip_lost_comes_with_the_tables_once() {
    let mut net = Net::cluster(93, 6);
    net.groups.insert(addr(5), 1);
    fire(&mut net, 0, "while it was away").expect("it is small");
    // Too short to be buried, too long for gossip: an event is told some ten times.
    net.run(secs(3));
    net.groups.clear();
    net.run(secs(90));
    for n in 0..6 {
        assert_eq!(fired(&net, n).len(), 1, "at {n}");
    }
    let digests: Vec<u64> = (0..6).map(|n| net.core(addr(n)).events.digest()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "and their tables agree: {digests:?}");
}

#[test]
fn who_joins_hears_nothing_of_what_was_fired_before() {
    let mut net = Net::cluster(94, 4);
    for n in 0..100 {
        fire(&mut net, n % 4, "before").expect("it is small");
        net.run(std::time::Duration::from_millis(200));
    }
    net.run(secs(10));
    net.start(super::net::config(9));
    net.join(addr(9), addr(0));
    net.run(secs(60));
    assert_eq!(fired(&net, 9), []);
    let time = fire(&mut net, 9, "after").expect("it is small");
    assert!(time >= 100, "its clock has caught up: {time}");
    net.run(secs(5));
    assert!((0..4).all(|n| fired(&net, n).last() == Some(&(time, "after".to_owned()))));
}

#[test]
fn what_is_too_big_or_fired_outside_is_refused() {
    let mut net = Net::cluster(92, 2);
    let big = Bytes::from(vec![0; 512]);
    assert!(matches!(net.with(addr(0), |core, now| core.fire("x", big, now)), Err(Error::EventTooBig)));
    assert!(matches!(fire(&mut net, 0, ""), Err(Error::EventTooBig)));
    net.start(super::net::config(9));
    assert!(matches!(fire(&mut net, 9, "x"), Err(Error::Out(_))));
}
