//! Coordinates in a cluster: found from probes, and not from what cannot be.

use super::net::{Net, addr, secs};
use crate::coordinate::Coordinate;

#[test]
fn members_find_where_they_are_by_the_probes_made_anyway() {
    let mut net = Net::cluster(80, 10);
    net.run(secs(300));
    let places: Vec<Coordinate> = (0..10).map(|n| net.core(addr(n)).coordinate()).collect();
    for (a, one) in places.iter().enumerate() {
        assert!(one.is_sound() && one.error < 1.0, "{one:?}");
        for other in &places[..a] {
            let distance = one.distance(other);
            assert!((0.0002..0.008).contains(&distance), "a round trip takes 0.4 to 4 ms, not {distance} s");
        }
    }
}

#[test]
fn a_coordinate_that_cannot_be_is_counted_and_moves_nobody() {
    let mut net = Net::cluster(81, 3);
    net.run(secs(60));
    let from = net.core(addr(1)).identity();
    let before = net.core(addr(0)).coordinate();
    let (mut absurd, now) = (before, net.now);
    absurd.vec[2] = f64::NAN;
    net.with(addr(0), |core, _| core.measured(from, &absurd, now, now));
    net.with(addr(0), |core, _| core.measured(from, &before, now - secs(20), now));
    assert_eq!((net.core(addr(0)).coordinate(), net.core(addr(0)).misplacements()), (before, 2));
}
