//! Whatever comes in, what goes out is a whole message within its bounds; and the hot path answers as the general one does.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::bounds::Transport;
use crate::config::{Config, NegativeAnswer};
use crate::testing::{Answer, Ask, Catalog};

fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    let long = "x".repeat(60);
    catalog.node("n1", "192.0.2.1", &[("rack", "r1"), ("big", &"y".repeat(400))]).node("n2", "2001:db8::1", &[]);
    catalog.node(&format!("{long}.{long}.{long}"), "192.0.2.3", &[("k", "v")]).node("n4", "n1.node.consul", &[]);
    for number in 0..60 {
        let node = ["n1", "n2", &format!("{long}.{long}.{long}"), "n4"][number % 4].to_owned();
        let address = match number % 5 {
            0 => format!("198.51.100.{number}"),
            1 => format!("2001:db8::{number}"),
            2 if number % 7 == 0 => "web.service.consul".to_owned(),
            _ => String::new(),
        };
        let service = ["web", "db", "consul"][number % 3];
        catalog.instance(&node, &format!("i{number}"), service, &address, 80 + number as i64, &["v1"], "passing");
    }
    catalog
}

fn names() -> impl Strategy<Value = String> {
    let labels = prop_oneof![
        Just("web"),
        Just("db"),
        Just("consul"),
        Just("n1"),
        Just("n2"),
        Just("n4"),
        Just("service"),
        Just("node"),
        Just("addr"),
        Just("dc1"),
        Just("dc"),
        Just("_web"),
        Just("_tcp"),
        Just("v1"),
        Just("c0000201"),
        Just("in-addr"),
        Just("arpa"),
        Just("1"),
        Just("WEB"),
        Just("query"),
        Just("other")
    ];
    let free = vec(labels, 0..8).prop_map(|labels| labels.join("."));
    let good = prop_oneof![
        Just("web.service.consul"),
        Just("db.service.Consul"),
        Just("v1.web.service.dc1.consul"),
        Just("_web._tcp.service.consul"),
        Just("n1.node.consul"),
        Just("n4.node.consul"),
        Just("c0000201.addr.consul"),
        Just("consul"),
        Just("1.2.0.192.in-addr.arpa"),
        Just("web.service.other")
    ];
    prop_oneof![free, good.prop_map(str::to_owned)]
}

fn kinds() -> impl Strategy<Value = u16> {
    prop_oneof![Just(1), Just(2), Just(5), Just(6), Just(12), Just(15), Just(16), Just(28), Just(33), Just(255), any::<u16>()]
}

fn transports() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::UdpNear), Just(Transport::UdpAfar), Just(Transport::Tcp)]
}

prop_compose! {
    fn configs()(
        only_passing: bool, enable_truncate: bool, disable_compression: bool, enable_additional_node_meta_txt: bool,
        udp_answer_limit in 0..12_usize, a_record_limit in 0..6_usize, nodata: bool, recursion: bool,
    ) -> Config {
        Config {
            alt_domain: Some("other".to_owned()),
            negative_answer: if nodata { NegativeAnswer::NoData } else { NegativeAnswer::NxDomain },
            recursors: recursion.then(|| ([192, 0, 2, 53], 53).into()).into_iter().collect(),
            only_passing, enable_truncate, disable_compression, enable_additional_node_meta_txt, udp_answer_limit, a_record_limit,
            ..Config::default()
        }
    }
}

/// What any answer must be.
fn check(packet: &[u8], transport: Transport, config: &Config, catalog: &Catalog) -> Option<Answer> {
    let (answered, bytes) = catalog.respond(packet, transport, config, 99);
    let edns = question::parse(packet).ok().and_then(|query| query.edns).map(|edns| edns.size);
    let ask = Ask { edns, ..Ask::new("", 1).over(transport) };
    assert!(bytes.len() <= ask.bytes_max(), "{} bytes for {} over {transport:?}", bytes.len(), packet.len());
    if bytes.is_empty() {
        let elsewhere = !config.recursors.is_empty() && answered.tally == Tally::Beyond;
        assert!(elsewhere || answered.tally == Tally::Malformed, "{:?}", answered.tally);
        return None;
    }
    assert_eq!(bytes[..2], packet[..2]);
    assert!(bytes[2] & 0x80 != 0);
    Some(Answer::read(&bytes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn random_bytes_harm_nobody(packet in vec(any::<u8>(), 0..700), transport in transports()) {
        check(&packet, transport, &Config::default(), &catalog_once());
    }

    #[test]
    fn nearly_right_queries_harm_nobody(
        name in names(), kind in kinds(), edns in any::<Option<u16>>(), transport in transports(), config in configs(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut in 0..6_usize, tail in vec(any::<u8>(), 0..20),
    ) {
        let mut packet = Ask { edns, ..Ask::new(&name, kind) }.packet();
        for (at, byte) in changes {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        packet.truncate(packet.len() - cut);
        packet.extend_from_slice(&tail);
        check(&packet, transport, &config, &catalog_once());
    }

    #[test]
    fn whole_queries_are_answered_within_their_bounds(
        name in names(), kind in kinds(), edns in any::<Option<u16>>(), transport in transports(), config in configs(),
    ) {
        let packet = Ask { edns, ..Ask::new(&name, kind) }.packet();
        let answer = check(&packet, transport, &config, &catalog_once());
        prop_assert!(answer.is_some() || !config.recursors.is_empty(), "a query is answered");
        let Some(answer) = answer else { return Ok(()) };
        prop_assert_eq!(answer.flags.contains("ra"), !config.recursors.is_empty());
        prop_assert!(answer.edns.is_some() == edns.is_some());
        if answer.rcode == "NoError" && answer.flags.contains("aa") && !answer.flags.contains("tc") {
            prop_assert!(
                !answer.answer.is_empty() || !answer.authority.is_empty() || !answer.additional.is_empty(),
                "an empty answer must say why: {answer:?}"
            );
        }
    }

    #[test]
    fn the_hot_path_agrees_with_the_general_one(
        rows in vec((0..6_usize, 0..6_usize, 0..3_usize, 0..3_usize, 0..2_i64), 1..20), kind in prop_oneof![Just(1), Just(28), Just(33), Just(255)],
        tagged: bool, nodata: bool,
    ) {
        let mut catalog = Catalog::new();
        for node in 0..6 {
            let address = if node % 2 == 0 { format!("192.0.2.{node}") } else { format!("2001:db8::{node}") };
            catalog.node(&format!("n{node}"), &address, &[("rack", "r1")][..node % 3 % 2]);
        }
        for (at, (node, address, status, tag, port)) in rows.into_iter().enumerate() {
            let address = ["", "", "", "203.0.113.1", "203.0.113.2", "2001:db8::99"][address];
            let (status, tags) = (["passing", "warning", "critical"][status], &["v1", "v2", "V1"][tag..=tag]);
            catalog.instance(&format!("n{node}"), &format!("i{at}"), "web", address, port, tags, status);
        }
        let name = if tagged { "v1.web.service.consul" } else { "web.service.consul" };
        let ask = |disable_compression| {
            let negative_answer = if nodata { NegativeAnswer::NoData } else { NegativeAnswer::NxDomain };
            let config = Config { disable_compression, negative_answer, ..Config::default() };
            Answer { bytes: 0, ..catalog.ask(&Ask::new(name, kind).over(Transport::Tcp).config(config)) }
        };
        prop_assert_eq!(ask(false), ask(true));
    }
}

/// Made once a thread: it takes longer than a question.
fn catalog_once() -> std::rc::Rc<Catalog> {
    thread_local!(static CATALOG: std::rc::Rc<Catalog> = std::rc::Rc::new(catalog()));
    CATALOG.with(std::rc::Rc::clone)
}
