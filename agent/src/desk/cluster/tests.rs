//! Joining by all kinds of address.

use std::net::SocketAddr;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::testing::{Others, member};
use super::*;

fn addresses(texts: &[&str]) -> Vec<JoinAddress> {
    texts.iter().map(|text| JoinAddress::parse(text).unwrap()).collect()
}

#[tokio::test]
async fn one_that_answers_is_enough_and_nobody_is_said_for_each() {
    let others = Others::new(&[member(2, "consul"), member(3, "node")]);
    let cluster = others.cluster();
    assert!(cluster.is_alone());
    assert_eq!(cluster.join(&addresses(&["127.0.0.2", "127.0.0.9:1"])).await, Ok(1));
    assert_eq!(others.asked(), [vec!["127.0.0.2:8301".parse().unwrap(), "127.0.0.9:1".parse::<SocketAddr>().unwrap()]]);
    assert!(!cluster.is_alone());
    let names: Vec<String> = cluster.members().iter().map(|member| member.name.to_string()).collect();
    assert_eq!(names, ["n2", "own"]);
    let nobody = cluster.join(&addresses(&["127.0.0.8", "127.0.0.9:1"])).await.unwrap_err();
    assert_eq!(
        nobody.to_string(),
        "2 errors occurred:\n\t* Failed to join 127.0.0.8:8301: refused\n\t* Failed to join 127.0.0.9:1: refused\n\n"
    );
}

#[tokio::test]
async fn joining_oneself_counts_and_bothers_nobody() {
    let others = Others::new(&[]);
    assert_eq!(others.cluster().join(&addresses(&["127.0.0.1", "127.0.0.1:8301"])).await, Ok(2));
    assert!(others.asked().is_empty());
    assert!(others.cluster().join(&addresses(&["127.0.0.1:1"])).await.is_err());
}

#[tokio::test]
async fn names_of_the_hosts_file_are_found_and_others_end_in_time() {
    let found = resolve::all(&addresses(&["localhost", "localhost:7"]), 8301).await;
    for (at, port) in [(0, 8301), (1, 7)] {
        let found = found[at].1.as_ref().expect("every host has it");
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == port), "{found:?}");
    }
    let unknown = addresses(&["no-such-host.invalid", "_muster._tcp.no-such-host.invalid"]);
    let found = tokio::time::timeout(std::time::Duration::from_secs(10), resolve::all(&unknown, 8301)).await.expect("it ends");
    assert!(found.iter().all(|(_, found)| found.is_err()), "{found:?}");
}

/// Answers questions about `_muster._tcp.example.` and two hosts, over UDP, until it is dropped with the test.
async fn name_server() -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    #[allow(clippy::disallowed_methods)] // ends with the runtime of its test
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let Ok(question) = Message::from_vec(&packet[..length]) else { continue };
            let mut answer = question.clone();
            answer.metadata.message_type = MessageType::Response;
            answer.metadata.recursion_available = true;
            let Some(asked) = question.queries.first() else { continue };
            let (name, kind) = (asked.name().clone(), asked.query_type());
            let text = name.to_ascii();
            let target = |host: &str| Name::from_ascii(host).unwrap();
            let records = match (text.as_str(), kind) {
                ("_muster._tcp.example.", RecordType::SRV) => vec![
                    RData::SRV(SRV::new(2, 1, 9, target("b.example."))),
                    RData::SRV(SRV::new(1, 1, 8, target("a.example."))),
                    RData::SRV(SRV::new(3, 1, 7, target("gone.example."))),
                ],
                ("a.example.", RecordType::A) => vec![RData::A(A::new(192, 0, 2, 1))],
                ("b.example.", RecordType::A) => vec![RData::A(A::new(192, 0, 2, 2)), RData::A(A::new(192, 0, 2, 3))],
                _ => Vec::new(),
            };
            if records.is_empty() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            for data in records {
                answer.add_answer(Record::from_rdata(name.clone(), 1, data));
            }
            let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
        }
    });
    at
}

#[tokio::test]
async fn srv_names_give_the_ports_and_the_order() {
    let names = resolve::at(name_server().await);
    let found = |text: &'static str| {
        let names = &names;
        async move { resolve::one(names, &JoinAddress::parse(text).unwrap(), 8301).await.map_err(|error| error.to_string()) }
    };
    let texts = |found: Vec<SocketAddr>| found.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(found("_muster._tcp.example").await.unwrap()), ["192.0.2.1:8", "192.0.2.2:9", "192.0.2.3:9"]);
    assert_eq!(texts(found("b.example").await.unwrap()), ["192.0.2.2:8301", "192.0.2.3:8301"]);
    assert_eq!(texts(found("b.example:5").await.unwrap()), ["192.0.2.2:5", "192.0.2.3:5"]);
    assert!(found("gone.example").await.is_err());
    assert!(found("_other._tcp.example").await.is_err());
}
