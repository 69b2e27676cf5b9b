//! Which instances are told, in which order, and what is said where none is.

use std::net::IpAddr;

use muster_catalog::{Command, Coordinate, NodeName, Placed, PreparedQuery, QueryService, SetQuery};
use uuid::Uuid;

use super::*;
use crate::bounds::Transport;
use crate::config::{Config, NegativeAnswer};
use crate::testing::{Answer, Ask, Catalog, NEAR};
use crate::wire::kind::{A, AAAA, ANY, SRV, TXT};

fn query(catalog: &mut Catalog, id: u128, name: &str, service: QueryService) {
    let query = PreparedQuery { name: name.into(), service, ..PreparedQuery::default() };
    catalog.apply(Command::SetQuery(Box::new(SetQuery { id: Uuid::from_u128(id), create: true, query })));
}

/// `up` is well, `down` is not: its `v1` instance warns, the others are critical.
fn sick() -> Catalog {
    let mut catalog = Catalog::new();
    catalog.node("n1", "192.0.2.1", &[]);
    catalog.instance("n1", "u", "up", "", 80, &["v1"], "passing");
    catalog.instance("n1", "d1", "down", "", 80, &["v2"], "critical").instance("n1", "d2", "down", "", 81, &["v3"], "critical");
    let service = |name: &str| QueryService { service: name.into(), ..QueryService::default() };
    query(&mut catalog, 1, "q-down", service("down"));
    query(&mut catalog, 2, "q-none", service("none"));
    catalog
}

#[test]
fn a_service_without_a_healthy_instance_is_what_is_configured() {
    let catalog = sick();
    for disable_compression in [false, true] {
        let code = |negative_answer, name: &str, kind| {
            let config = Config { negative_answer, disable_compression, ..Config::default() };
            let answer = catalog.ask(&Ask::new(name, kind).config(config));
            assert!(answer.answer.is_empty() && answer.authority.len() == 1 && answer.flags == "aa rd", "{name}: {answer:?}");
            answer.rcode
        };
        for kind in [A, AAAA, SRV, ANY, TXT] {
            for name in ["down.service.consul", "v2.down.service.consul", "_down._tcp.service.consul", "q-down.query.consul"] {
                assert_eq!(code(NegativeAnswer::NxDomain, name, kind), "NXDomain", "{name} {kind}");
                assert_eq!(code(NegativeAnswer::NoData, name, kind), "NoError", "{name} {kind}");
            }
            for name in ["none.service.consul", "v9.down.service.consul", "q-none.query.consul", "q-9.query.consul"] {
                assert_eq!(code(NegativeAnswer::NoData, name, kind), "NXDomain", "{name} {kind}");
            }
        }
        assert_eq!(code(NegativeAnswer::NxDomain, "up.service.consul", AAAA), "NoError", "there are addresses of the other kind");
    }
    let warned = |only_passing| {
        let mut catalog = sick();
        catalog.instance("n1", "d3", "down", "", 82, &["v1"], "warning");
        let config = Config { only_passing, negative_answer: NegativeAnswer::NoData, ..Config::default() };
        let answer = catalog.ask(&Ask::new("v1.down.service.consul", A).config(config));
        (answer.rcode, answer.answer.len())
    };
    assert_eq!((warned(false), warned(true)), (("NoError".to_owned(), 1), ("NoError".to_owned(), 0)));
}

/// Four nodes on a line, and one that is nowhere, each with an instance of `web`; and queries near some of them.
fn placed() -> Catalog {
    let mut catalog = Catalog::new();
    for (number, node) in ["here", "near", "far", "six", "lost"].into_iter().enumerate() {
        let address = if node == "six" { "2001:db8::5".to_owned() } else { format!("192.0.2.{number}") };
        catalog.node(node, &address, &[]).instance(node, "web", "web", "", 80 + number as i64, &[], "passing");
    }
    let at = |node: &str, x: f64| Placed {
        node: NodeName::new(node).expect("a name"),
        coordinate: Coordinate { vec: [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], ..Coordinate::default() },
    };
    catalog.apply(Command::Place(vec![at("here", 0.0), at("near", 0.1), at("far", 0.4), at("six", 1.0)]));
    for (number, near) in (1..).zip(["_agent", "_ip", "FAR", "lost", "none", ""]) {
        let service = QueryService { service: "web".into(), near: near.into(), ..QueryService::default() };
        query(&mut catalog, number, &format!("q{}", near.to_lowercase()), service);
    }
    catalog
}

/// The ports in the order of the answer, each of another node, and the answer.
fn order(catalog: &Catalog, name: &str, address: Option<IpAddr>, subnet: Option<&[u8]>, seed: u64) -> (Vec<u16>, Vec<u8>) {
    let mut packet = Ask::new(name, SRV).edns(4096).packet();
    if let Some(subnet) = subnet {
        let at = packet.len() - 1;
        packet[at] = 4 + subnet.len() as u8;
        packet.extend_from_slice(&[0, 8, 0, subnet.len() as u8]);
        packet.extend_from_slice(subnet);
    }
    let config = Config { node_name: "HERE".into(), ..Config::default() };
    let (_, bytes) = catalog.respond_to(&packet, Asker { address, ..NEAR }, &config, seed);
    let message = hickory_proto::op::Message::from_vec(&bytes).expect("every answer parses");
    let port = |record: &hickory_proto::rr::Record| record.to_string().split(' ').nth(6).and_then(|port| port.parse().ok());
    (message.answers.iter().map(|record| port(record).expect("a port")).collect(), bytes)
}

#[test]
fn a_query_near_a_node_tells_the_nearest_first() {
    let catalog = placed();
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    for seed in 1..20 {
        for (name, from, expected) in [
            ("q_agent.query.consul", None, [80, 81, 82, 83, 84]),
            ("qfar.query.consul", None, [82, 81, 80, 83, 84]),
            ("q_ip.query.consul", Some(address("192.0.2.1")), [81, 80, 82, 83, 84]),
            ("q_ip.query.consul", Some(address("::ffff:192.0.2.2")), [82, 81, 80, 83, 84]),
            ("q_ip.query.consul", Some(address("2001:db8:0::5")), [83, 82, 81, 80, 84]),
        ] {
            assert_eq!(order(&catalog, name, from, None, seed).0, expected, "{name} from {from:?}");
        }
        assert_eq!(order(&catalog, "qlost.query.consul", None, None, seed).0[0], 84, "it is first wherever it is");
    }
    for (name, from) in
        [("q.query.consul", None), ("qnone.query.consul", None), ("q_ip.query.consul", Some(address("192.0.2.77")))]
    {
        let orders: std::collections::BTreeSet<_> =
            (1..40).map(|seed| order(&catalog, name, from, None, seed * 7919).0).collect();
        assert!(orders.len() > 10, "{name}: no order is wanted or known: {}", orders.len());
    }
}

#[test]
fn the_askers_network_counts_before_his_address_and_is_told_to_count() {
    let catalog = placed();
    let from = Some([192, 0, 2, 1].into());
    let v4 = [0, 1, 32, 0, 192, 0, 2, 2];
    let mut v6 = vec![0, 2, 128, 0];
    v6.extend_from_slice(&"2001:db8::5".parse::<std::net::Ipv6Addr>().expect("an address").octets());
    // The last: a network whose last bytes are left out.
    for (subnet, first, scope) in [(&v4[..], 82, 32), (&v6, 83, 128), (&[0, 1, 16, 0, 192, 0], 0, 16)] {
        let (ports, bytes) = order(&catalog, "q_ip.query.consul", from, Some(subnet), 5);
        assert!(first == 0 || ports[0] == first, "{subnet:?}: {ports:?}");
        let tail = &bytes[bytes.len() - subnet.len()..];
        assert_eq!((&tail[..3], tail[3], &tail[4..]), (&subnet[..3], scope, &subnet[4..]));
        // What does not depend on where he is says so.
        let (_, bytes) = order(&catalog, "q_agent.query.consul", from, Some(subnet), 5);
        assert_eq!(bytes[bytes.len() - subnet.len() + 3], 0);
    }
}

#[test]
fn only_addresses_that_fit_are_told_and_limits_hold_with_an_order() {
    let catalog = placed();
    let config = Config { node_name: "here".into(), a_record_limit: 1, ..Config::default() };
    let one = |kind| catalog.ask(&Ask::new("q_agent.query.consul", kind).over(Transport::Tcp).config(config.clone()));
    assert_eq!(Answer { bytes: 0, ..one(A) }.answer, ["q_agent.query.consul. 0 IN A 192.0.2.0"]);
    assert_eq!(one(AAAA).answer, ["q_agent.query.consul. 0 IN AAAA 2001:db8::5"]);
}
