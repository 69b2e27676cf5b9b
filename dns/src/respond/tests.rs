//! What a real Consul answers, section by section.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::bounds::Transport;
use crate::config::{Config, Soa};
use crate::elsewhere::UNTOLD;
use crate::testing::{Answer, Ask, Catalog, NEAR};
use crate::wire::kind::{A, AAAA, ANY, CNAME, NS, PTR, SOA, SRV, TXT};

const MX: u16 = 15;
const NEGATIVE: &str = "consul. 0 IN SOA ns.consul. hostmaster.consul. 12345 3600 600 86400 0";

/// Nodes with and without meta, and every kind of address.
fn nodes() -> Catalog {
    let mut catalog = Catalog::new();
    let meta = [("rack", "r1"), ("rfc1035-txt", "raw text"), ("e=q", "v=w"), ("sp ace", "x y")];
    catalog.node("n4", "198.51.100.120", &meta);
    catalog.node("n6", "2001:db8::120", &[]).node("nname", "host.example.net", &[]);
    catalog.node("nown", "n4.node.consul", &[]).node("a.dotted.name", "198.51.100.121", &[]);
    catalog.node("Upper", "198.51.100.122", &[]).node("circle", "circle.node.consul", &[]);
    catalog
}

/// `web`: passing, warning, critical, and passing on a node whose own check is critical.
fn web() -> Catalog {
    let mut catalog = Catalog::new();
    let rows: [(&str, &str, &str, &[&str]); 4] = [
        ("s1", "198.51.100.131", "passing", &["v1", "Primary"]),
        ("s2", "198.51.100.132", "warning", &["v2"]),
        ("s3", "198.51.100.133", "critical", &["v1"]),
        ("s4", "198.51.100.134", "passing", &["v1"]),
    ];
    for (node, address, status, tags) in rows {
        catalog.node(node, address, &[]).instance(node, "web", "web", "", 8080, tags, status);
    }
    catalog.node_check("s4", "critical");
    catalog
}

/// Services with addresses of their own.
fn addresses() -> Catalog {
    let mut catalog = Catalog::new();
    catalog.node("a1", "198.51.100.141", &[]).node("a6", "2001:db8::142", &[]).node("an", "box.example.net", &[]);
    for (id, address) in [
        ("four", "203.0.113.141"),
        ("six", "2001:db8::141"),
        ("name", "www.example.net"),
        ("inner", "a1.node.consul"),
        ("same", "198.51.100.141"),
    ] {
        catalog.instance("a1", id, id, address, 80, &[], "passing");
    }
    for (id, name, port) in [("m1", "multi", 8001), ("m2", "multi", 8002), ("t1", "twice", 8000), ("t2", "twice", 8000)] {
        catalog.instance("a1", id, name, "", port, &[], "passing");
    }
    catalog.instance("a6", "node6", "node6", "", 80, &[], "passing");
    catalog.instance("an", "nodename", "nodename", "", 80, &[], "passing");
    catalog.instance("a1", "noport", "noport", "", 0, &[], "passing");
    catalog.instance("a1", "odd", "oddport", "", 70_000, &[], "passing");
    catalog
}

/// 200 instances on 100 nodes.
fn large() -> Catalog {
    let mut catalog = Catalog::new();
    for number in 0..100 {
        let node = format!("l{number:03}");
        catalog.node(&node, &format!("198.18.0.{number}"), &[]);
        for part in 0..2 {
            catalog.instance(&node, &format!("s{part}"), "large", "", 7000 + part, &[], "passing");
        }
    }
    catalog
}

#[track_caller]
fn sections(answer: &Answer, sections: [&[&str]; 3]) {
    for (got, want) in [&answer.answer, &answer.authority, &answer.additional].into_iter().zip(sections) {
        let mut want: Vec<&str> = want.to_vec();
        want.sort_unstable();
        assert_eq!(*got, want, "{answer:#?}");
    }
}

#[track_caller]
fn positive(catalog: &Catalog, ask: Ask, answer: &[&str], additional: &[&str]) {
    let got = catalog.ask(&ask);
    assert_eq!((got.rcode.as_str(), got.flags.as_str()), ("NoError", "aa rd"), "{ask:?}");
    sections(&got, [answer, &[], additional]);
}

#[track_caller]
fn none_of_type(catalog: &Catalog, name: &str, kind: u16) {
    let got = catalog.ask(&Ask::new(name, kind));
    assert_eq!((got.rcode.as_str(), got.flags.as_str()), ("NoError", "aa rd"), "{name}");
    sections(&got, [&[], &[NEGATIVE], &[]]);
}

#[track_caller]
fn unknown(catalog: &Catalog, name: &str, kind: u16) {
    let got = catalog.ask(&Ask::new(name, kind));
    assert_eq!((got.rcode.as_str(), got.flags.as_str()), ("NXDomain", "aa rd"), "{name}");
    sections(&got, [&[], &[NEGATIVE], &[]]);
}

#[test]
fn nodes_are_answered_with_their_address_and_meta() {
    let catalog = nodes();
    let meta = |owner: &str| ["sp ace=x y", "rack=r1", "raw text", "e`=q=v=w"].map(|text| format!("{owner} 0 IN TXT {text}"));
    let n4 = meta("n4.node.consul.");
    let n4: Vec<&str> = n4.iter().map(String::as_str).collect();
    let a = "n4.node.consul. 0 IN A 198.51.100.120";
    positive(&catalog, Ask::new("n4.node.consul", A), &[a], &n4);
    positive(&catalog, Ask::new("n4.node.consul", TXT), &n4, &[]);
    positive(&catalog, Ask::new("n4.node.consul", ANY), &[&[a], &n4[..]].concat(), &[]);
    for kind in [AAAA, SRV, MX] {
        none_of_type(&catalog, "n4.node.consul", kind);
    }
    none_of_type(&catalog, "n6.node.consul", A);
    none_of_type(&catalog, "n6.node.consul", TXT);
    positive(&catalog, Ask::new("n6.node.consul", AAAA), &["n6.node.consul. 0 IN AAAA 2001:db8::120"], &[]);
    let upper = "GD.a.dotted.NAME.node.consul";
    unknown(&catalog, upper, A);
    positive(
        &catalog,
        Ask::new("a.dotted.name.node.dc1.consul", A),
        &["a.dotted.name.node.dc1.consul. 0 IN A 198.51.100.121"],
        &[],
    );
    positive(&catalog, Ask::new("upper.node.consul", A), &["upper.node.consul. 0 IN A 198.51.100.122"], &[]);
    for name in ["none.node.consul", "n4.node.dc2.consul", "node.consul", "n4.node.dc1.extra.consul"] {
        unknown(&catalog, name, A);
        unknown(&catalog, name, AAAA);
    }
}

#[test]
fn the_askers_case_comes_back() {
    let got = nodes().ask(&Ask::new("N4.Node.CONSUL", A));
    assert_eq!(got.question, "N4.Node.CONSUL. IN A");
    assert_eq!(got.answer, ["N4.Node.CONSUL. 0 IN A 198.51.100.120"]);
    let got = web().ask(&Ask::new("WEB.service.Consul", SRV));
    assert!(got.answer.contains(&"WEB.service.Consul. 0 IN SRV 1 5 8080 s1.node.dc1.consul.".to_owned()), "{got:?}");
    assert!(got.additional.contains(&"s1.node.dc1.consul. 0 IN A 198.51.100.131".to_owned()), "{got:?}");
}

#[test]
fn a_host_name_is_a_cname_and_is_followed_inside_our_domain() {
    let catalog = nodes();
    for kind in [A, AAAA, ANY] {
        positive(&catalog, Ask::new("nname.node.consul", kind), &["nname.node.consul. 0 IN CNAME host.example.net."], &[]);
    }
    none_of_type(&catalog, "nname.node.consul", CNAME);
    let got = catalog.ask(&Ask::new("nown.node.consul", A));
    assert_eq!(got.answer.len(), 6, "{got:?}");
    assert!(got.answer.contains(&"nown.node.consul. 0 IN CNAME n4.node.consul.".to_owned()));
    assert!(got.answer.contains(&"n4.node.consul. 0 IN A 198.51.100.120".to_owned()));
    let got = catalog.ask(&Ask::new("circle.node.consul", A));
    assert_eq!(got.answer.len(), 4, "three names are followed: {got:?}");
}

#[test]
fn sick_instances_are_left_out() {
    let catalog = web();
    let [one, two] = [131, 132].map(|last| format!("web.service.consul. 0 IN A 198.51.100.{last}"));
    for kind in [A, ANY] {
        positive(&catalog, Ask::new("web.service.consul", kind), &[&one, &two], &[]);
    }
    for kind in [AAAA, MX, CNAME] {
        none_of_type(&catalog, "web.service.consul", kind);
    }
    positive(&catalog, Ask::new("web.service.consul", TXT), &[], &[&one, &two]);
    let srv = ["2 8080 s2", "5 8080 s1"].map(|data| format!("web.service.dc1.consul. 0 IN SRV 1 {data}.node.dc1.consul."));
    let glue = ["s1.node.dc1.consul. 0 IN A 198.51.100.131", "s2.node.dc1.consul. 0 IN A 198.51.100.132"];
    positive(&catalog, Ask::new("web.service.dc1.consul", SRV), &[&srv[0], &srv[1]], &glue);
    let only_passing = Config { only_passing: true, ..Config::default() };
    positive(&catalog, Ask::new("web.service.consul", A).config(only_passing), &[&one], &[]);
    let mut catalog = catalog;
    catalog.instance("s1", "web", "web", "", 8080, &[], "critical").instance("s2", "web", "web", "", 8080, &[], "critical");
    for kind in [A, SRV, TXT, ANY] {
        unknown(&catalog, "web.service.consul", kind);
    }
}

#[test]
fn tags_narrow_a_service() {
    let catalog = web();
    for (name, kind) in [
        ("v1.web.service.consul", A),
        ("V1.web.service.consul", A),
        ("primary.web.service.consul", A),
        ("_web._v1.service.consul", A),
    ] {
        positive(&catalog, Ask::new(name, kind), &[&format!("{name}. 0 IN A 198.51.100.131")], &[]);
    }
    let glue = ["s1.node.dc1.consul. 0 IN A 198.51.100.131", "s2.node.dc1.consul. 0 IN A 198.51.100.132"];
    for name in ["_web._tcp.consul", "_web._tcp.service.consul", "_web._tcp.service.dc1.consul"] {
        let srv = ["2 8080 s2", "5 8080 s1"].map(|data| format!("{name}. 0 IN SRV 1 {data}.node.dc1.consul."));
        positive(&catalog, Ask::new(name, SRV), &[&srv[0], &srv[1]], &glue);
    }
    positive(
        &catalog,
        Ask::new("_web._V2.service.consul", SRV),
        &["_web._V2.service.consul. 0 IN SRV 1 2 8080 s2.node.dc1.consul."],
        &glue[1..],
    );
    for name in ["none.web.service.consul", "a.b.web.service.consul", "_web._udp.service.consul", "_web._none.service.consul"] {
        unknown(&catalog, name, SRV);
    }
    for (name, kind) in [("_web._tcp.consul", A), ("_web.service.consul", SRV), ("service.consul", A), ("web.consul", A)] {
        unknown(&catalog, name, kind);
    }
}

#[test]
fn a_services_own_address_comes_before_its_nodes() {
    let catalog = addresses();
    let of = |name: &str, kind: &str, data: &str| format!("{name}.service.consul. 0 IN {kind} {data}");
    for (name, address) in [
        ("four", "203.0.113.141"),
        ("same", "198.51.100.141"),
        ("multi", "198.51.100.141"),
        ("twice", "198.51.100.141"),
        ("noport", "198.51.100.141"),
    ] {
        for kind in [A, ANY] {
            positive(&catalog, Ask::new(&format!("{name}.service.consul"), kind), &[&of(name, "A", address)], &[]);
        }
        none_of_type(&catalog, &format!("{name}.service.consul"), AAAA);
    }
    for (name, address) in [("six", "2001:db8::141"), ("node6", "2001:db8::142")] {
        for kind in [AAAA, ANY] {
            positive(&catalog, Ask::new(&format!("{name}.service.consul"), kind), &[&of(name, "AAAA", address)], &[]);
        }
        none_of_type(&catalog, &format!("{name}.service.consul"), A);
    }
    for (name, target) in [("name", "www.example.net."), ("nodename", "box.example.net.")] {
        for kind in [A, AAAA, ANY] {
            positive(&catalog, Ask::new(&format!("{name}.service.consul"), kind), &[&of(name, "CNAME", target)], &[]);
        }
    }
    for kind in [A, ANY] {
        let chased = [&of("inner", "CNAME", "a1.node.consul."), "a1.node.consul. 0 IN A 198.51.100.141"];
        positive(&catalog, Ask::new("inner.service.consul", kind), &chased, &[]);
    }
    let got = catalog.ask(&Ask::new("inner.service.consul", AAAA));
    sections(&got, [&[&of("inner", "CNAME", "a1.node.consul.")], &[NEGATIVE], &[]]);
}

#[test]
fn srv_points_to_where_the_instance_is() {
    let catalog = addresses();
    let six = "20010db8000000000000000000000141.addr.dc1.consul.";
    for (name, data, glue) in [
        ("four", "80 cb00718d.addr.dc1.consul.", Some("cb00718d.addr.dc1.consul. 0 IN A 203.0.113.141")),
        ("same", "80 c633648d.addr.dc1.consul.", Some("c633648d.addr.dc1.consul. 0 IN A 198.51.100.141")),
        ("six", &format!("80 {six}"), Some(&*format!("{six} 0 IN AAAA 2001:db8::141"))),
        ("name", "80 www.example.net.", None),
        ("nodename", "80 box.example.net.", None),
        ("inner", "80 a1.node.consul.", Some("a1.node.consul. 0 IN A 198.51.100.141")),
        ("twice", "8000 a1.node.dc1.consul.", Some("a1.node.dc1.consul. 0 IN A 198.51.100.141")),
        ("node6", "80 a6.node.dc1.consul.", Some("a6.node.dc1.consul. 0 IN AAAA 2001:db8::142")),
        ("noport", "0 a1.node.dc1.consul.", Some("a1.node.dc1.consul. 0 IN A 198.51.100.141")),
        ("oddport", "0 a1.node.dc1.consul.", Some("a1.node.dc1.consul. 0 IN A 198.51.100.141")),
    ] {
        let answer = format!("{name}.service.consul. 0 IN SRV 1 5 {data}");
        for compressed in [true, false] {
            let config = Config { disable_compression: !compressed, ..Config::default() };
            let ask = Ask::new(&format!("{name}.service.consul"), SRV).config(config);
            positive(&catalog, ask, &[&answer], glue.as_slice());
        }
    }
    let srv = [8001, 8002].map(|port| format!("multi.service.consul. 0 IN SRV 1 5 {port} a1.node.dc1.consul."));
    positive(
        &catalog,
        Ask::new("multi.service.consul", SRV),
        &[&srv[0], &srv[1]],
        &["a1.node.dc1.consul. 0 IN A 198.51.100.141"],
    );
}

#[test]
fn srv_brings_the_nodes_meta_unless_told_not_to() {
    let mut catalog = Catalog::new();
    catalog.node("n1", "192.0.2.1", &[("rack", "r1")]).instance("n1", "web", "web", "", 80, &[], "passing");
    let answer = ["web.service.consul. 0 IN SRV 1 5 80 n1.node.dc1.consul."];
    let [address, meta] = ["n1.node.dc1.consul. 0 IN A 192.0.2.1", "n1.node.dc1.consul. 0 IN TXT rack=r1"];
    for disable_compression in [true, false] {
        let config = Config { disable_compression, ..Config::default() };
        positive(&catalog, Ask::new("web.service.consul", SRV).config(config.clone()), &answer, &[address, meta]);
        let config = Config { enable_additional_node_meta_txt: false, ..config };
        positive(&catalog, Ask::new("web.service.consul", SRV).config(config.clone()), &answer, &[address]);
        positive(&catalog, Ask::new("n1.node.consul", A).config(config), &["n1.node.consul. 0 IN A 192.0.2.1"], &[]);
    }
}

#[test]
fn a_node_that_dns_cannot_name_is_reached_by_address() {
    let mut catalog = Catalog::new();
    let long = "x".repeat(70);
    catalog.node(&long, "192.0.2.9", &[]).instance(&long, "web", "web", "", 80, &[], "passing");
    let glue = ["c0000209.addr.dc1.consul. 0 IN A 192.0.2.9"];
    positive(
        &catalog,
        Ask::new("web.service.consul", SRV),
        &["web.service.consul. 0 IN SRV 1 5 80 c0000209.addr.dc1.consul."],
        &glue,
    );
}

#[test]
fn addresses_can_be_spelled_as_names() {
    let catalog = Catalog::new();
    for name in ["cb00718d.addr.consul", "cb00718d.addr.dc1.consul", "cb00718d.addr.dc2.consul"] {
        positive(&catalog, Ask::new(name, A), &[&format!("{name}. 0 IN A 203.0.113.141")], &[]);
    }
    positive(&catalog, Ask::new("CB00718D.addr.consul", ANY), &["cb00718d.addr.consul. 0 IN A 203.0.113.141"], &[]);
    let six = "20010db8000000000000000000000141.addr.consul";
    positive(&catalog, Ask::new(six, AAAA), &[&format!("{six}. 0 IN AAAA 2001:db8::141")], &[]);
    let got = catalog.ask(&Ask::new("cb00718d.addr.consul", AAAA));
    sections(&got, [&[], &[NEGATIVE], &["cb00718d.addr.consul. 0 IN A 203.0.113.141"]]);
    for name in ["cb0071.addr.consul", "zz00718d.addr.consul", "addr.consul"] {
        unknown(&catalog, name, A);
    }
}

#[test]
fn addresses_have_names() {
    let mut catalog = Catalog::new();
    catalog.node("r1", "198.51.100.151", &[]).node("r6", "2001:DB8::151", &[]);
    catalog.instance("r1", "rev", "rev", "203.0.113.151", 80, &[], "passing");
    let six = "1.5.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    for (name, target) in [
        ("151.100.51.198.in-addr.arpa", "r1.node.dc1.consul."),
        ("151.113.0.203.in-addr.arpa", "rev.service.dc1.consul."),
        (six, "r6.node.dc1.consul."),
    ] {
        for kind in [PTR, ANY] {
            positive(&catalog, Ask::new(name, kind), &[&format!("{name}. 0 IN PTR {target}")], &[]);
        }
        assert_eq!(catalog.ask(&Ask::new(name, A)).answer, [""; 0]);
    }
    for name in ["9.9.9.9.in-addr.arpa", "junk.in-addr.arpa"] {
        assert_eq!(catalog.ask(&Ask::new(name, PTR)).rcode, "NXDomain");
    }
}

#[test]
fn the_domain_tells_its_servers() {
    let mut catalog = Catalog::new();
    none_of_type(&catalog, "consul", NS);
    catalog.node("srv", "192.0.2.1", &[("k", "v")]).instance("srv", "consul", "consul", "", 8300, &[], "passing");
    let ns = "consul. 0 IN NS srv.node.dc1.consul.";
    let glue = "srv.node.dc1.consul. 0 IN A 192.0.2.1";
    for name in ["consul", "anything.consul", "none.service.consul"] {
        positive(&catalog, Ask::new(name, NS), &[ns], &[glue]);
        sections(&catalog.ask(&Ask::new(name, SOA)), [&[NEGATIVE], &[ns], &[glue]]);
    }
    for kind in [A, ANY, TXT] {
        none_of_type(&catalog, "consul", kind);
    }
    for name in ["ns.consul", "nothing.consul", "x.query.consul", "x.connect.consul", "x.virtual.consul", "a.b.c.d.consul"] {
        unknown(&catalog, name, A);
    }
}

#[test]
fn what_is_not_ours_is_refused() {
    let catalog = web();
    for name in ["example.com", "consul.example.com", "notconsul", "."] {
        let got = catalog.ask(&Ask::new(name, NS));
        assert_eq!((got.rcode.as_str(), got.flags.as_str()), ("Refused", "rd"), "{name}");
        sections(&got, [&[], &[], &[]]);
    }
    let packet = |at: usize, value: u8| {
        let mut packet = Ask::new("web.service.consul", A).packet();
        let end = packet.len();
        packet[if at > 100 { end - 1 } else { at }] = value;
        Answer::read(&catalog.respond(&packet, Transport::UdpNear, &Config::default(), 1).1).rcode
    };
    assert_eq!(packet(101, 3), "Refused", "class CH");
    assert_eq!(packet(2, 0x10), "NotImp", "opcode STATUS");
    assert_eq!(packet(5, 0), "Refused", "no question");
    assert_eq!(packet(5, 2), "FormErr", "two announced, one there");
}

#[test]
fn edns_is_echoed() {
    let catalog = web();
    for (kind, size) in [(A, 1232), (SRV, 4096), (MX, 600), (TXT, 512)] {
        assert_eq!(catalog.ask(&Ask::new("web.service.consul", kind).edns(size)).edns, Some(size));
    }
    let mut packet = Ask::new("web.service.consul", A).edns(1232).packet();
    let end = packet.len();
    packet[end - 5] = 1;
    let (_, out) = catalog.respond(&packet, Transport::UdpNear, &Config::default(), 1);
    assert_eq!(Answer::read(&out).rcode, "BADSIG", "that is how the judge calls BADVERS: both are 16");
    packet[end - 5] = 0;
    packet[end - 1] = 11;
    packet.extend_from_slice(&[0, 8, 0, 7, 0, 1, 24, 9, 192, 0, 2]);
    let (_, out) = catalog.respond(&packet, Transport::UdpNear, &Config::default(), 1);
    assert!(out.ends_with(&[0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2]), "the subnet comes back with scope 0: {out:?}");
    assert_eq!(Answer::read(&out).answer.len(), 2);
}

#[test]
fn plain_udp_gets_three_and_edns_what_fits() {
    let catalog = large();
    let count = |ask: Ask| {
        let got = catalog.ask(&ask);
        assert_eq!(got.flags, "aa rd");
        (got.answer.len(), got.additional.len())
    };
    let ask = |kind| Ask::new("large.service.consul", kind);
    assert_eq!([A, ANY].map(|kind| count(ask(kind))), [(3, 0), (3, 0)]);
    let (srv, glue) = count(ask(SRV));
    assert!(srv == 3 && (2..=3).contains(&glue));
    for (size, a, srv) in
        [(600, 27..=42, 7..=11), (1232, 59..=92, 16..=25), (4096, 100..=100, 56..=88), (16_384, 100..=100, 200..=200)]
    {
        assert!(a.contains(&count(ask(A).edns(size)).0), "A in {size}");
        let got = count(ask(SRV).edns(size));
        assert!(srv.contains(&got.0), "SRV in {size}: {got:?}");
    }
    assert_eq!(count(ask(A).over(Transport::Tcp)), (100, 0));
    assert_eq!(count(ask(SRV).over(Transport::Tcp)), (200, 100));
    let afar = catalog.ask(&ask(A).edns(4096).over(Transport::UdpAfar));
    assert!(afar.bytes <= 1232 && afar.answer.len() > 70);
}

#[test]
fn every_srv_target_has_its_address_however_short_the_answer() {
    let catalog = large();
    for disable_compression in [false, true] {
        for size in [512, 600, 1232, 2000, 4096] {
            let config = Config { disable_compression, ..Config::default() };
            let got = catalog.ask(&Ask::new("large.service.consul", SRV).edns(size).config(config));
            for answer in &got.answer {
                let target = answer.rsplit(' ').next().expect("a target");
                assert_eq!(got.additional.iter().filter(|glue| glue.starts_with(target)).count(), 1, "{target} in {size}");
            }
        }
    }
}

#[test]
fn limits_and_truncation_are_as_configured() {
    let mut catalog = Catalog::new();
    for number in 0..6 {
        let node = format!("n{number}");
        catalog.node(&node, &format!("192.0.2.{number}"), &[]).instance(&node, "lim", "lim", "", 80, &[], "passing");
    }
    for disable_compression in [false, true] {
        let config =
            Config { udp_answer_limit: 2, a_record_limit: 4, enable_truncate: true, disable_compression, ..Config::default() };
        for (kind, counts) in [(A, [2, 4, 4]), (ANY, [2, 4, 4]), (SRV, [2, 6, 6])] {
            let ask = Ask::new("lim.service.consul", kind).config(config.clone());
            let got = [ask.clone(), ask.clone().edns(4096), ask.over(Transport::Tcp)].map(|ask| catalog.ask(&ask));
            assert_eq!(got.each_ref().map(|got| got.answer.len()), counts);
            assert_eq!(got.each_ref().map(|got| got.flags.as_str()), ["aa tc rd", "aa rd", "aa rd"]);
        }
        let silent = Config { enable_truncate: false, ..config };
        assert_eq!(catalog.ask(&Ask::new("lim.service.consul", A).config(silent)).flags, "aa rd");
    }
}

#[test]
fn what_fits_in_no_way_says_so() {
    let mut catalog = Catalog::new();
    catalog.node("n1", "192.0.2.1", &[("big", &"x".repeat(600))]);
    let got = catalog.ask(&Ask::new("n1.node.consul", TXT));
    assert_eq!((got.answer.len(), got.flags.as_str()), (0, "aa tc rd"));
    let got = catalog.ask(&Ask::new("n1.node.consul", TXT).over(Transport::Tcp));
    assert_eq!((got.answer.len(), got.flags.as_str()), (1, "aa rd"));
    let got = catalog.ask(&Ask::new("n1.node.consul", A));
    assert_eq!((got.answer.len(), got.additional.len(), got.flags.as_str()), (1, 0, "aa rd"));
}

#[test]
fn ttls_and_domains_are_as_configured() {
    let ttl = |name: &str, seconds| (name.to_owned(), Duration::from_secs(seconds));
    let config = Config {
        domain: "cluster.example.".to_owned(),
        alt_domain: Some("other.example.".to_owned()),
        node_ttl: Duration::from_secs(7),
        service_ttl: BTreeMap::from([ttl("exact", 11), ttl("*", 17)]),
        soa: Soa { refresh: 1200, retry: 300, expire: 9000, min_ttl: 30 },
        ..Config::default()
    };
    let mut catalog = Catalog::new();
    catalog.node("n0", "198.51.100.210", &[]).instance("n0", "exact", "exact", "", 80, &[], "passing");
    catalog.instance("n0", "plain", "plain", "203.0.113.212", 80, &[], "passing");
    catalog.instance("n0", "consul", "consul", "", 8300, &[], "passing");
    let ask = |name: &str, kind| Ask::new(name, kind).config(config.clone());
    for domain in ["cluster.example", "other.example"] {
        let n0 = format!("n0.node.dc1.{domain}.");
        let name = format!("exact.service.{domain}");
        positive(&catalog, ask(&name, A), &[&format!("{name}. 11 IN A 198.51.100.210")], &[]);
        positive(
            &catalog,
            ask(&name, SRV),
            &[&format!("{name}. 11 IN SRV 1 5 80 {n0}")],
            &[&format!("{n0} 11 IN A 198.51.100.210")],
        );
        let name = format!("plain.service.{domain}");
        let target = format!("cb0071d4.addr.dc1.{domain}.");
        positive(
            &catalog,
            ask(&name, SRV),
            &[&format!("{name}. 17 IN SRV 1 5 80 {target}")],
            &[&format!("{target} 17 IN A 203.0.113.212")],
        );
        let name = format!("cb0071d4.addr.{domain}");
        positive(&catalog, ask(&name, A), &[&format!("{name}. 7 IN A 203.0.113.212")], &[]);
        let name = format!("n0.node.{domain}");
        positive(&catalog, ask(&name, A), &[&format!("{name}. 7 IN A 198.51.100.210")], &[]);
        let soa = format!("{domain}. 30 IN SOA ns.{domain}. hostmaster.{domain}. 12345 1200 300 9000 30");
        let (ns, glue) = (format!("{domain}. 7 IN NS {n0}"), format!("{n0} 7 IN A 198.51.100.210"));
        sections(&catalog.ask(&ask(domain, SOA)), [&[&soa], &[&ns], &[&glue]]);
        sections(&catalog.ask(&ask(&format!("none.service.{domain}"), A)), [&[], &[&soa], &[]]);
    }
    positive(
        &catalog,
        ask("210.100.51.198.in-addr.arpa", PTR),
        &["210.100.51.198.in-addr.arpa. 0 IN PTR n0.node.dc1.cluster.example."],
        &[],
    );
    assert_eq!(catalog.ask(&ask("exact.service.consul", A)).rcode, "Refused");
}

#[test]
fn answers_come_in_another_order_each_time() {
    let catalog = large();
    let packet = Ask::new("large.service.consul", A).packet();
    let first: std::collections::BTreeSet<Vec<u8>> =
        (0..50).map(|seed| catalog.respond(&packet, Transport::UdpNear, &Config::default(), seed * 7919).1).collect();
    assert!(first.len() > 40, "{} different answers of 50", first.len());
}

#[test]
fn an_answer_that_nobody_vouches_for_says_so_to_who_uses_edns() {
    let (catalog, settings) = (web(), crate::config::Settings::new(&Config::default()).expect("a good configuration"));
    let view = View { state: catalog.store.state(), settings: &settings, now: 1, stale: true, too_old: false, told: &UNTOLD };
    let said = |ask: Ask| {
        let mut out = vec![0; 65_535];
        let answered = respond(&ask.packet(), NEAR, view, &mut crate::fast::Scratch::new(1), &mut out);
        Answer::read(&out[..answered.bytes]);
        out.truncate(answered.bytes);
        out
    };
    // The hot path and the general one, answers and their absence, a full packet.
    for (name, kind, code) in [
        ("web.service.consul", A, 3),
        ("web.service.consul", AAAA, 3),
        ("web.service.consul", TXT, 3),
        ("s1.node.consul", A, 3),
        ("no.service.consul", A, 19),
        ("no.node.consul", A, 19),
    ] {
        assert!(said(Ask::new(name, kind).edns(1232)).ends_with(&[0, 6, 0, 15, 0, 2, 0, code]), "{name} {kind}");
        assert!(!said(Ask::new(name, kind)).ends_with(&[0, code]), "{name} {kind}");
    }
    assert!(!said(Ask::new("example.net", A).edns(1232)).ends_with(&[0, 3]));
    let full = Ask { edns: Some(512), ..Ask::new("web.service.consul", SRV) };
    assert!(said(full).len() <= 512);
}

#[test]
fn what_a_narrow_copy_does_not_hold_is_named_and_nothing_is_answered_without_it() {
    use muster_catalog::{Interest, Part, ServiceName, State};
    let (catalog, settings) = (addresses(), crate::config::Settings::new(&Config::default()).expect("a good configuration"));
    let service = |name: &str| Part::Service(ServiceName::new(name).expect("a name"));
    let respond_with = |parts: &[Part], name: &str, kind: u16| {
        let mut interest = Interest::default();
        parts.iter().for_each(|part| assert!(interest.widen(part)));
        let state = State::of(catalog.store.state().part(&interest));
        let view = View { state: &state, settings: &settings, now: 12_345, stale: false, too_old: false, told: &UNTOLD };
        let (mut scratch, mut out) = (crate::fast::Scratch::new(7), vec![0; 65_535]);
        let answered = respond(&Ask::new(name, kind).packet(), NEAR, view, &mut scratch, &mut out);
        match answered.tally {
            Tally::Beyond => Err(scratch.lacking.parts.into_iter().collect::<Vec<_>>()),
            _ => Ok(Answer::read(&out[..answered.bytes])),
        }
    };
    let address: std::net::IpAddr = "203.0.113.141".parse().expect("an address");
    // What is asked, and what has to be fetched for it, one after the other.
    for (name, kind, parts) in [
        ("four.service.consul", A, vec![service("four")]),
        ("multi.service.consul", SRV, vec![service("multi")]),
        ("none.service.consul", A, vec![service("none")]),
        ("a6.node.consul", AAAA, vec![Part::Node("a6".into())]),
        ("inner.service.consul", A, vec![service("inner"), Part::Node("a1.node".into())]),
        ("141.113.0.203.in-addr.arpa", PTR, vec![Part::Address(address)]),
        ("consul", NS, vec![service("consul")]),
        ("cb00718d.addr.consul", A, vec![]),
        ("example.net", A, vec![]),
    ] {
        let mut known = Vec::new();
        let answer = loop {
            match respond_with(&known, name, kind) {
                Ok(answer) => break answer,
                Err(missing) => {
                    assert_eq!(missing.len(), 1, "{name}: {missing:?}");
                    assert!(!known.contains(&missing[0]), "{name}: {missing:?} again");
                    known.extend(missing);
                }
            }
        };
        assert_eq!(known.len(), parts.len(), "{name}: {known:?}");
        assert_eq!(known.first(), parts.first(), "{name}");
        assert_eq!(answer, catalog.ask(&Ask::new(name, kind)), "{name}");
    }
}
