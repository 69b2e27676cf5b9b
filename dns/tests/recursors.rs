//! Names that are not ours: asked of other name servers on real sockets, whatever those do.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock and may fail

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Catalog, PATIENCE, Server, ask, ask_tcp, catalog, query};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use muster_dns::{Beyond, Config, FORWARDS_MAX, Sockets};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What a recursor was asked: from which port, over TCP or not, and the packet.
type Asked = Arc<Mutex<Vec<(u16, bool, Vec<u8>)>>>;
/// What it sends back for a packet, in this order.
type Act = Box<dyn Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync>;

/// A name server of the test's making.
struct Recursor {
    address: SocketAddr,
    asked: Asked,
}

impl Recursor {
    async fn new(act: impl Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", act).await
    }

    async fn at(listen: &str, act: impl Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = loop {
            let udp = tokio::net::UdpSocket::bind(listen).await.unwrap();
            if let Ok(tcp) = tokio::net::TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let (address, asked, act) = (udp.local_addr().unwrap(), Asked::default(), Arc::<Act>::new(Box::new(act)));
        let (noted, does) = (asked.clone(), act.clone());
        tokio::spawn(async move {
            let mut packet = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut packet).await {
                noted.lock().unwrap().push((peer.port(), false, packet[..length].to_vec()));
                for reply in does(&packet[..length], false) {
                    udp.send_to(&reply, peer).await.unwrap();
                }
            }
        });
        let noted = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, peer)) = tcp.accept().await {
                let (noted, act) = (noted.clone(), act.clone());
                tokio::spawn(async move {
                    let length = stream.read_u16().await.unwrap();
                    let mut packet = vec![0; length.into()];
                    stream.read_exact(&mut packet).await.unwrap();
                    noted.lock().unwrap().push((peer.port(), true, packet.clone()));
                    for reply in act(&packet, true) {
                        stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
                        stream.write_all(&reply).await.unwrap();
                    }
                    let _ = stream.read_u8().await;
                });
            }
        });
        Self { address, asked }
    }

    /// One that answers nothing.
    async fn silent() -> Self {
        Self::new(|_, _| vec![]).await
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// A reply with that code and these addresses, in the question's own letters.
fn reply(packet: &[u8], code: u8, addresses: &[[u8; 4]]) -> Vec<u8> {
    let mut end = 12;
    while packet[end] > 0 {
        end += 1 + usize::from(packet[end]);
    }
    let mut reply = packet[..end + 5].to_vec();
    (reply[2], reply[3]) = (0x81, 0x80 | code);
    reply[6..12].copy_from_slice(&[0, addresses.len() as u8, 0, 0, 0, 0]);
    for address in addresses {
        reply.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x2a\0\x04");
        reply.extend_from_slice(address);
    }
    reply
}

fn good(packet: &[u8]) -> Vec<u8> {
    reply(packet, 0, &[[203, 0, 113, 5]])
}

fn config(recursors: &[&Recursor]) -> Config {
    Config {
        recursors: recursors.iter().map(|recursor| recursor.address).collect(),
        recursor_timeout: Duration::from_millis(300),
        ..Config::default()
    }
}

fn start(catalog: &Catalog, config: Config) -> Server {
    start_at("127.0.0.1:0", catalog, config)
}

fn start_at(listen: &str, catalog: &Catalog, config: Config) -> Server {
    let sockets = Sockets::bind(&[listen.parse().unwrap()], 2).unwrap();
    Server::start_on(catalog, sockets, config, Beyond::nobody())
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.unwrap()
}

async fn asked(server: &Server, name: &str, kind: RecordType) -> Message {
    let (to, packet) = (server.address, query(name, kind, None));
    blocking(move || ask(to, &packet)).await.expect("an answer")
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

fn lines(message: &Message) -> Vec<String> {
    message.answers.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_others_comes_back_from_the_recursor_as_it_was_asked() {
    let recursor = Recursor::new(|packet, _| vec![good(packet)]).await;
    let server = start(&catalog(), config(&[&recursor]));
    for _ in 0..3 {
        let answer = asked(&server, "WwW.Example.com.", RecordType::A).await;
        assert_eq!(lines(&answer), ["WwW.Example.com. 42 IN A 203.0.113.5"]);
        assert_eq!(answer.queries[0].to_string(), "WwW.Example.com. IN A");
        let meta = &answer.metadata;
        assert!(meta.id == 4711 && meta.recursion_available && !meta.authoritative);
    }
    let seen = recursor.asked.lock().unwrap().clone();
    let (ports, ids): (Vec<_>, Vec<_>) = seen.iter().map(|(port, _, packet)| (*port, packet[..2].to_vec())).unzip();
    assert_eq!(seen.len(), 3);
    assert!(ports[0] != ports[1] || ports[1] != ports[2], "another port each time: {ports:?}");
    assert!(ids.iter().all(|id| *id != 4711_u16.to_be_bytes()) || ids[0] != ids[1], "another id each time: {ids:?}");
    assert_eq!(seen[0].2[2..], query("WwW.Example.com.", RecordType::A, None)[2..], "the rest goes as it came");
    // RA is said with our own names too, and only while there are recursors
    assert!(asked(&server, "web.service.consul.", RecordType::A).await.metadata.recursion_available);
    assert!(asked(&server, "none.node.consul.", RecordType::A).await.metadata.recursion_available);
    server.handle.configure(Config::default()).unwrap();
    let answer = asked(&server, "www.example.com.", RecordType::A).await;
    assert_eq!((code(&answer), answer.metadata.recursion_available), (ResponseCode::Refused, false));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_our_domains_never_leave() {
    let recursor = Recursor::new(|packet, _| vec![good(packet)]).await;
    let server = start(&catalog(), Config { alt_domain: Some("other.test".to_owned()), ..config(&[&recursor]) });
    for name in ["none.service.consul.", "x.consul.", "CONSUL.", "x.y.OTHER.test.", "web.service.dc9.consul.", "x.query.consul."]
    {
        let answer = asked(&server, name, RecordType::A).await;
        assert!(answer.metadata.authoritative, "{name}: {answer:?}");
    }
    // Names that cannot be folded: a dot within a label, and bytes that are no text.
    for label in [&b"\x03a.b"[..], b"\x02\xff\xfe"] {
        for zone in [&b"\x06consul\0"[..], b"\x05oTHER\x04test\0"] {
            let packet = [b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0", label, zone, b"\0\x01\0\x01"].concat();
            let to = server.address;
            assert_eq!(code(&blocking(move || ask(to, &packet)).await.unwrap()), ResponseCode::Refused);
        }
    }
    assert_eq!(recursor.count(), 0);
    let packet = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02\xff\xfe\x03com\0\0\x10\0\x03".to_vec();
    let to = server.address;
    assert_eq!(code(&blocking(move || ask(to, &packet)).await.unwrap()), ResponseCode::NoError, "others' names may be anything");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_reply_says_so_and_a_connection_is_asked_over_a_connection() {
    let many: Vec<[u8; 4]> = (0..100).map(|number| [198, 18, 0, number]).collect();
    let recursor = Recursor::new(move |packet, tcp| {
        let mut cut = reply(packet, 0, &[]);
        cut[2] |= 2;
        vec![if tcp { reply(packet, 0, &many) } else { cut }]
    })
    .await;
    let server = start(&catalog(), config(&[&recursor]));
    let answer = asked(&server, "many.example.", RecordType::A).await;
    assert!(answer.metadata.truncation && answer.answers.is_empty());
    let (to, packet) = (server.address, query("many.example.", RecordType::A, None));
    let answer = blocking(move || ask_tcp(to, &packet)).await.unwrap();
    assert_eq!((answer.answers.len(), answer.metadata.truncation), (100, false));
    assert_eq!(recursor.asked.lock().unwrap().iter().map(|(_, tcp, _)| *tcp).collect::<Vec<_>>(), [false, true]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_longer_than_the_asker_takes_is_cut_and_says_so() {
    let many: Vec<[u8; 4]> = (0..60).map(|number| [198, 18, 0, number]).collect();
    let recursor = Recursor::new(move |packet, _| vec![reply(packet, 0, &many)]).await;
    let server = start(&catalog(), config(&[&recursor]));
    let answer = asked(&server, "many.example.", RecordType::A).await;
    assert!(answer.metadata.truncation && answer.answers.is_empty() && answer.queries.len() == 1);
    let (to, packet) = (server.address, query("many.example.", RecordType::A, Some(4096)));
    let answer = blocking(move || ask(to, &packet)).await.unwrap();
    assert_eq!((answer.answers.len(), answer.metadata.truncation), (60, false));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_belong_to_another_question_are_passed_over() {
    let recursor = Recursor::new(|packet, _| {
        let forged = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut reply = reply(packet, 0, &[[6, 6, 6, 6]]);
            change(&mut reply);
            reply
        };
        vec![
            forged(&|reply| reply[0] ^= 1),
            forged(&|reply| reply[13] ^= 1),
            forged(&|reply| reply[2] &= 0x7f),
            b"junk".to_vec(),
            good(packet),
        ]
    })
    .await;
    let server = start(&catalog(), config(&[&recursor]));
    assert_eq!(lines(&asked(&server, "a.example.", RecordType::A).await), ["a.example. 42 IN A 203.0.113.5"]);
    // Over TCP nothing can come after it.
    let (to, packet) = (server.address, query("a.example.", RecordType::A, None));
    assert_eq!(code(&blocking(move || ask_tcp(to, &packet)).await.unwrap()), ResponseCode::ServFail);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_one_lead_to_the_next_and_of_all_to_servfail() {
    let failing = |code: u8| Recursor::new(move |packet, _| vec![reply(packet, code, &[])]);
    let (servfail, refused, formerr) = (failing(2).await, failing(5).await, failing(1).await);
    let last = Recursor::new(|packet, _| vec![reply(packet, 3, &[])]).await;
    let server = start(&catalog(), config(&[&servfail, &refused, &formerr, &last]));
    for _ in 0..4 {
        assert_eq!(code(&asked(&server, "a.example.", RecordType::A).await), ResponseCode::NXDomain);
    }
    // An error is an answer: the order stays, since the first may know names that the others do not.
    assert_eq!((servfail.count(), refused.count(), formerr.count(), last.count()), (4, 4, 4, 4));
    server.handle.configure(config(&[&servfail, &refused])).unwrap();
    let answer = asked(&server, "a.example.", RecordType::A).await;
    assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::ServFail, 0));
    assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_recursor_is_asked_last_until_it_answers() {
    let quiet = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_quiet = quiet.clone();
    let first = Recursor::new(move |packet, _| {
        let quiet = is_quiet.load(std::sync::atomic::Ordering::SeqCst);
        if quiet { vec![] } else { vec![reply(packet, 0, &[[203, 0, 113, 1]])] }
    })
    .await;
    let second = Recursor::new(|packet, _| vec![reply(packet, 0, &[[203, 0, 113, 2]])]).await;
    let server = start(&catalog(), Config { recursor_timeout: Duration::from_secs(1), ..config(&[&first, &second]) });
    let by = async |number: u8| {
        let begun = Instant::now();
        let answer = asked(&server, &format!("n{number}.example."), RecordType::A).await;
        (lines(&answer)[0].rsplit('.').next().unwrap().to_owned(), begun.elapsed())
    };
    for number in 0..2 {
        assert_eq!(by(number).await.0, "2");
    }
    for number in 2..5 {
        let (who, took) = by(number).await;
        assert!(who == "2" && took < Duration::from_secs(1), "{who} after {took:?}");
    }
    assert!(first.count() <= 3, "two, and one look whether it is back: {}", first.count());
    quiet.store(false, std::sync::atomic::Ordering::SeqCst);
    let end = Instant::now() + PATIENCE;
    let mut number = 5;
    while by(number).await.0 != "1" {
        assert!(Instant::now() < end, "it is asked first again");
        number += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_strategy_asks_all() {
    let make = || Recursor::new(|packet: &[u8], _| vec![good(packet)]);
    let (one, two) = (make().await, make().await);
    let server = start(&catalog(), Config { recursor_random: true, ..config(&[&one, &two]) });
    for number in 0..30 {
        asked(&server, &format!("n{number}.example."), RecordType::A).await;
    }
    assert!(one.count() > 0 && two.count() > 0 && one.count() + two.count() == 30);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_at_host_names_are_resolved() {
    let recursor = Recursor::new(|packet, _| {
        let asks_v6 = packet.windows(4).any(|bytes| bytes == b"\0\x1c\0\x01");
        let mut alias = reply(packet, 0, &[]);
        // An alias first, as content networks have them.
        alias[7] = 2;
        alias.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\0\x05\0\x06\x03cdn\xc0\x10");
        let target = (alias.len() - 6) as u8;
        if asks_v6 {
            alias.extend_from_slice(&[0xc0, target, 0, 28, 0, 1, 0, 0, 0, 7, 0, 16]);
            alias.extend_from_slice(&"2001:db8::5".parse::<std::net::Ipv6Addr>().unwrap().octets());
        } else {
            alias.extend_from_slice(&[0xc0, target, 0, 1, 0, 1, 0, 0, 0, 7, 0, 4, 203, 0, 113, 5]);
        }
        vec![alias]
    })
    .await;
    let mut rows = catalog();
    rows.instance("ext", "ext.example.com", "outside", 443);
    let server = start(&rows, config(&[&recursor]));
    let way = ["CNAME ext.example.com.", "CNAME cdn.example.com.", "A 203.0.113.5"];
    for (name, kind) in [("outside.service.consul.", RecordType::A), ("ext.node.consul.", RecordType::A)] {
        let answer = asked(&server, name, kind).await;
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
        let lines = lines(&answer);
        assert!(lines.len() == 3 && lines.iter().zip(way).all(|(line, end)| line.ends_with(end)), "{lines:?}");
    }
    let lines_v6 = lines(&asked(&server, "outside.service.consul.", RecordType::AAAA).await);
    assert!(lines_v6.len() == 3 && lines_v6[2] == "cdn.example.com. 7 IN AAAA 2001:db8::5", "{lines_v6:?}");
    let (to, packet) = (server.address, query("outside.service.consul.", RecordType::SRV, Some(4096)));
    let srv = blocking(move || ask_tcp(to, &packet)).await.unwrap();
    assert_eq!(lines(&srv), ["outside.service.consul. 0 IN SRV 1 1 443 ext.example.com."]);
    assert!(srv.additionals.iter().any(|record| record.to_string() == "cdn.example.com. 7 IN A 203.0.113.5"), "{srv:?}");
    // Nobody to ask, or nobody who answers: the alias alone.
    let silent = Recursor::silent().await;
    for config in [Config::default(), config(&[&silent])] {
        server.handle.configure(config).unwrap();
        let lines = lines(&asked(&server, "outside.service.consul.", RecordType::A).await);
        assert_eq!(lines, ["outside.service.consul. 0 IN CNAME ext.example.com."]);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_nobody_here_has_are_looked_up_elsewhere() {
    let recursor = Recursor::new(|packet, _| vec![reply(packet, 0, &[])]).await;
    let server = start(&catalog(), config(&[&recursor]));
    let own = asked(&server, "1.2.0.192.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!((own.answers.len(), recursor.count()), (1, 0));
    for name in ["9.9.9.9.in-addr.arpa.", "9.in-addr.arpa.", "1.ip6.arpa."] {
        let answer = asked(&server, name, RecordType::PTR).await;
        assert_eq!((code(&answer), answer.metadata.authoritative), (ResponseCode::NoError, false), "{name}");
    }
    assert_eq!(recursor.count(), 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_do_not_ask_ourselves() {
    for (listen, other) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")]
    {
        let sockets = Sockets::bind(&[listen.parse().unwrap()], 1).unwrap();
        let port = sockets.addresses()[0].port();
        let itself = SocketAddr::new(other.parse().unwrap(), port);
        // It would be waited for ten times as long as a test lasts.
        let config = Config { recursors: vec![itself], recursor_timeout: PATIENCE * 10, ..Config::default() };
        let server = Server::start_on(&catalog(), sockets, config, Beyond::nobody());
        let packet = query("a.example.", RecordType::A, None);
        let answer = blocking(move || ask(itself, &packet)).await.expect("at once");
        assert_eq!(code(&answer), ResponseCode::ServFail, "{listen}");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recursor_that_asks_us_does_not_make_a_storm() {
    let back: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
    let to = back.clone();
    // It sends us each question, under another id and with other letters, and would give back what we say.
    let recursor = Recursor::new(move |packet, _| {
        let mut packet = packet.to_vec();
        packet[0] = packet[0].wrapping_add(1);
        packet[13] ^= 0x20;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&packet, to.lock().unwrap().unwrap()).unwrap();
        vec![]
    })
    .await;
    let server = start(&catalog(), config(&[&recursor]));
    *back.lock().unwrap() = Some(server.address);
    assert_eq!(code(&asked(&server, "loop.example.", RecordType::A).await), ResponseCode::ServFail);
    assert_eq!(recursor.count(), 1, "it came back, and waited for itself");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_the_same_are_one_question() {
    let recursor = Recursor::new(|_, _| vec![]).await;
    let server = start(&catalog(), Config { recursor_timeout: Duration::from_secs(1), ..config(&[&recursor]) });
    let to = server.address;
    let asking: Vec<_> =
        (0..50).map(|_| tokio::task::spawn_blocking(move || ask(to, &query("same.example.", RecordType::A, None)))).collect();
    for answer in asking {
        assert_eq!(code(&answer.await.unwrap().unwrap()), ResponseCode::ServFail);
    }
    assert!(recursor.count() <= 2, "those who came late began another: {}", recursor.count());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_wait_for_others_are_bounded_and_hold_up_no_answer_of_ours() {
    let recursor = Recursor::silent().await;
    let server = start(&catalog(), Config { recursor_timeout: PATIENCE, ..config(&[&recursor]) });
    let to = server.address;
    let refused = blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(PATIENCE / 2)).unwrap();
        for number in 0..3 * FORWARDS_MAX {
            socket.send(&query(&format!("n{number}.example."), RecordType::A, None)).unwrap();
            if number % 32 == 31 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // Beside them, our own names are answered.
        for _ in 0..20 {
            let begun = Instant::now();
            assert_eq!(ask(to, &query("web.service.consul.", RecordType::A, None)).unwrap().answers.len(), 3);
            assert!(begun.elapsed() < Duration::from_secs(1));
        }
        let mut packet = [0; 512];
        let length = socket.recv(&mut packet).unwrap();
        code(&Message::from_vec(&packet[..length]).unwrap())
    });
    assert_eq!(refused.await, ResponseCode::ServFail);
    assert!(recursor.count() <= FORWARDS_MAX, "{}", recursor.count());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_ipv6_all_of_it_is_the_same() {
    let recursor = Recursor::at("[::1]:0", |packet, _| vec![good(packet)]).await;
    let mut rows = Catalog::new();
    rows.instance("six", "2001:db8::6", "web", 80);
    let server = start_at("[::1]:0", &rows, config(&[&recursor]));
    assert_eq!(lines(&asked(&server, "a.example.", RecordType::A).await), ["a.example. 42 IN A 203.0.113.5"]);
    let web = asked(&server, "web.service.consul.", RecordType::AAAA).await;
    assert_eq!(lines(&web), ["web.service.consul. 0 IN AAAA 2001:db8::6"]);
    let (to, packet) = (server.address, query("a.example.", RecordType::A, None));
    assert_eq!(blocking(move || ask_tcp(to, &packet)).await.unwrap().answers.len(), 1);
    let name = "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    assert_eq!(asked(&server, name, RecordType::PTR).await.answers.len(), 1);
    server.stop().await;
}
