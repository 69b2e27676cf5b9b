//! DNS over real sockets: both transports, stopping, settings exchanged at run time, and hostile clients.
#![allow(clippy::disallowed_methods)] // tests drive the shell

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Catalog, PATIENCE, Server, ask, catalog, query};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use muster_dns::{
    Age, Beyond, Config, Error, Sockets, TCP_CONNECTIONS_MAX, TCP_IDLE_CROWDED, TCP_MESSAGE_TIMEOUT, TCP_QUERY_BYTES_MAX,
};

fn send(stream: &mut TcpStream, packet: &[u8]) {
    let length = u16::try_from(packet.len()).expect("a short query").to_be_bytes();
    stream.write_all(&[&length, packet].concat()).expect("an open connection");
}

fn receive(stream: &mut TcpStream) -> std::io::Result<Message> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(Message::from_vec(&answer).expect("every answer parses"))
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    stream
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.expect("no panic")
}

#[tokio::test]
async fn queries_are_answered_over_udp_by_all_threads() {
    let server = Server::start(&catalog(), "127.0.0.1:0", 3);
    let at = server.address;
    blocking(move || {
        let mut orders = BTreeSet::new();
        for _ in 0..200 {
            let answer = ask(at, &query("WeB.service.consul.", RecordType::A, Some(1232))).expect("an answer");
            assert_eq!((answer.id, answer.response_code, answer.answers.len()), (4711, ResponseCode::NoError, 3));
            assert_eq!(answer.queries[0].name().to_ascii(), "WeB.service.consul.");
            orders.insert(answer.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>());
        }
        assert_eq!(orders.len(), 6, "every order of three comes up");
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_connection_takes_several_queries() {
    let server = Server::start(&catalog(), "127.0.0.1:0", 1);
    let at = server.address;
    blocking(move || {
        let mut stream = connect(at);
        for (name, count) in [("large.service.consul.", 100), ("web.service.consul.", 3), ("none.service.consul.", 0)] {
            send(&mut stream, &query(name, RecordType::SRV, None));
            assert_eq!(receive(&mut stream).expect("an answer").answers.len(), count);
        }
        send(&mut stream, &query("web.service.consul.", RecordType::A, None));
        send(&mut stream, &query("large.service.consul.", RecordType::A, None));
        assert_eq!([3, 100], [(); 2].map(|()| receive(&mut stream).expect("an answer").answers.len()), "in the order asked");
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn on_a_wildcard_address_the_answer_comes_from_the_address_asked() {
    for (listen, asked) in [("0.0.0.0:0", "127.0.0.7"), ("[::]:0", "127.0.0.8"), ("[::]:0", "::1")] {
        let asked: std::net::IpAddr = asked.parse().expect("an address");
        let server = Server::start(&catalog(), listen, 2);
        let to = SocketAddr::new(asked, server.address.port());
        let packet = query("web.service.consul.", RecordType::A, None);
        blocking(move || {
            let socket = UdpSocket::bind(if asked.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" }).expect("a free port");
            socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
            socket.send_to(&packet, to).expect("loopback");
            let (_, from) = socket.recv_from(&mut [0; 512]).expect("an answer");
            assert_eq!(from, to);
        })
        .await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_new_row_is_answered_at_once_and_new_settings_too() {
    let mut rows = catalog();
    let server = Server::start(&rows, "127.0.0.1:0", 2);
    let at = server.address;
    let packet = query("db.service.consul.", RecordType::A, None);
    let (first, second) = (packet.clone(), packet);
    assert_eq!(blocking(move || ask(at, &first)).await.expect("an answer").response_code, ResponseCode::NXDomain);
    rows.instance("d1", "192.0.2.77", "db", 5432);
    let found = blocking(move || ask(at, &second)).await.expect("an answer");
    assert_eq!((found.answers.len(), found.answers[0].ttl), (1, 0));
    let service_ttl = [("d*".to_owned(), Duration::from_secs(9))].into();
    server.handle.configure(Config { domain: "example".to_owned(), service_ttl, ..Config::default() }).expect("a good one");
    let packet = query("db.service.example.", RecordType::A, None);
    assert_eq!(blocking(move || ask(at, &packet)).await.expect("an answer").answers[0].ttl, 9);
    assert!(matches!(server.handle.configure(Config { domain: "..".to_owned(), ..Config::default() }), Err(Error::Domain(_))));
    server.stop().await;
}

#[tokio::test]
async fn a_store_that_was_never_written_answers() {
    let empty = Catalog::new();
    let server = Server::start(&empty, "127.0.0.1:0", 1);
    let at = server.address;
    let answer = blocking(move || ask(at, &query("web.service.consul.", RecordType::A, None))).await.expect("an answer");
    assert_eq!((answer.response_code, answer.authorities.len()), (ResponseCode::NXDomain, 1));
    server.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let at = taken.local_addr().expect("it is bound");
    let error = Sockets::bind(&[at], 2).expect_err("it is taken");
    assert_eq!(error.to_string(), format!("cannot listen for DNS over UDP on {at}"));
    let server = Server::start(&catalog(), "127.0.0.1:0", 2);
    assert!(Sockets::bind(&[server.address], 2).is_err(), "a second agent does not share the first one's port");
    let at = server.address;
    server.stop().await;
    Sockets::bind(&[at], 2).expect("it is free again");
}

#[tokio::test]
async fn dig_understands_us() {
    let server = Server::start(&catalog(), "127.0.0.1:0", 1);
    let port = server.address.port().to_string();
    let run = move |args: Vec<&'static str>| {
        let port = port.clone();
        blocking(move || Command::new("dig").args(["@127.0.0.1", "-p", &port, "+time=5"]).args(args).output())
    };
    match run(vec!["web.service.consul", "SRV"]).await {
        Err(error) => eprintln!("NOT RUN: dig is not here ({error})"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("status: NOERROR") && text.contains("ANSWER: 3") && text.contains("ADDITIONAL: 4"), "{text}");
            assert!(!text.contains("WARNING: Message") && !text.contains("malformed"), "{text}");
            let output = run(vec!["+tcp", "large.service.consul", "A", "+short"]).await.expect("it ran before");
            assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 100);
        }
    }
    server.stop().await;
}

fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(field)).expect("a known field");
    line.split_whitespace().nth(1).expect("a value").parse().expect("a number")
}

/// Fault 28 of our list: a flood of rubbish, and half of it nearly right.
#[tokio::test]
async fn twenty_thousand_random_datagrams_leave_no_trace() {
    let server = Server::start(&catalog(), "127.0.0.1:0", 2);
    let at = server.address;
    blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let good = query("web.service.consul.", RecordType::SRV, Some(4096));
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize
        };
        let mut flood = |count: usize| {
            for number in 0..count {
                let packet: Vec<u8> = if number % 2 == 0 {
                    (0..next() % 600).map(|_| next() as u8).collect()
                } else {
                    let mut packet = good.clone();
                    let at = next() % packet.len();
                    packet[at] = next() as u8;
                    packet.truncate(packet.len() - next() % 4);
                    packet
                };
                let _ = socket.send_to(&packet, at);
                if number % 100 == 0 {
                    assert!(ask(at, &good).is_some(), "it still answers");
                }
            }
        };
        flood(2000);
        let (memory, threads) = (status("VmRSS:"), status("Threads:"));
        flood(20_000);
        let answer = ask(at, &good).expect("an answer");
        assert_eq!((answer.answers.len(), answer.additionals.len()), (3, 3));
        let grown = status("VmRSS:").saturating_sub(memory);
        assert!(grown < 8 << 10, "{grown} KiB more");
        // Tests beside this one come and go with their threads.
        assert!(status("Threads:") < threads + 40);
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn slow_clients_are_cut_and_others_served() {
    let server = Server::start(&catalog(), "127.0.0.1:0", 1);
    let at = server.address;
    blocking(move || {
        let begun = Instant::now();
        let mut halves: Vec<TcpStream> = (0..TCP_CONNECTIONS_MAX + 20)
            .map(|number| {
                let mut stream = connect(at);
                // Half a length, a length without its query, or nothing at all.
                stream.write_all(&[0, 40, 1][..number % 4 % 3]).expect("an open connection");
                stream
            })
            .collect();
        let mut stream = connect(at);
        send(&mut stream, &query("web.service.consul.", RecordType::A, None));
        assert_eq!(receive(&mut stream).expect("a place came free").answers.len(), 3);
        assert!(begun.elapsed() < 2 * (TCP_MESSAGE_TIMEOUT + TCP_IDLE_CROWDED) + Duration::from_secs(2));
        assert_eq!(ask(at, &query("web.service.consul.", RecordType::A, None)).expect("an answer").answers.len(), 3);
        assert_eq!(halves[0].read(&mut [0; 1]).expect("it was closed"), 0);
        let mut stream = connect(at);
        stream.write_all(&[0xff, 0xff]).expect("an open connection");
        assert!(receive(&mut stream).is_err(), "nobody asks in more than {TCP_QUERY_BYTES_MAX} bytes");
        let mut stream = connect(at);
        send(&mut stream, b"rubbish");
        assert!(receive(&mut stream).is_err(), "what is not even a header ends the connection");
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let server = Server::start(&catalog(), "127.0.0.1:0", 1);
    let at = server.address;
    blocking(move || {
        let mut stream = connect(at);
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        let packet = query("large.service.consul.", RecordType::SRV, None);
        let message = [&[0, u8::try_from(packet.len()).expect("a short query")], &packet[..]].concat();
        let many = message.repeat(1000);
        // Some 6 MB of answers per turn: the buffers between us fill, and then it waits no longer than it says.
        let begun = Instant::now();
        while stream.write_all(&many).is_ok() {
            assert!(begun.elapsed() < PATIENCE, "it answers a client that reads nothing");
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn rows_that_are_too_old_are_asked_for_anew_and_refused_if_nobody_has_them() {
    let (errands, mut inlet) = tokio::sync::mpsc::channel(8);
    let age = || Age { known_leader: false, last_contact: Duration::MAX };
    let beyond = Beyond { age: std::sync::Arc::new(age), errands };
    let old = Catalog::new();
    // A wildcard address: the answer must come from where the question went.
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let server = Server::start_with(&old, listen, 1, beyond.clone());
        let mut at = server.address;
        at.set_ip([127, 0, 0, 1].into());
        let asked = blocking(move || {
            let question = query("web.service.consul.", RecordType::A, Some(1232));
            let mut stream = connect(at);
            send(&mut stream, &question);
            [ask(at, &question).expect("an answer"), receive(&mut stream).expect("an answer")]
        });
        let new = catalog();
        let serve = async {
            for _ in 0..2 {
                let errand: muster_dns::Errand = inlet.recv().await.expect("an errand");
                errand.answer.send(new.store.reader().load().clone()).expect("it is waited for");
            }
        };
        for answer in tokio::join!(asked, serve).0 {
            assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::NoError, 3));
        }
        let asked = blocking(move || ask(at, &query("web.service.consul.", RecordType::A, None)).expect("an answer"));
        let (answer, errand) = tokio::join!(asked, async { inlet.recv().await.map(drop) });
        assert_eq!((answer.response_code, errand), (ResponseCode::ServFail, Some(())));
        // What is not in the catalog needs no rows.
        let asked = blocking(move || ask(at, &query("example.net.", RecordType::A, None)).expect("an answer"));
        assert_eq!(asked.await.response_code, ResponseCode::Refused);
        server.stop().await;
    }
}
