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

#[test]
fn what_is_too_big_or_fired_outside_is_refused() {
    let mut net = Net::cluster(92, 2);
    let big = Bytes::from(vec![0; 512]);
    assert!(matches!(net.with(addr(0), |core, now| core.fire("x", big, now)), Err(Error::EventTooBig)));
    assert!(matches!(fire(&mut net, 0, ""), Err(Error::EventTooBig)));
    net.start(super::net::config(9));
    assert!(matches!(fire(&mut net, 9, "x"), Err(Error::Out(_))));
}
