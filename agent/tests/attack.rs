//! What bad input gets: a clear answer or an end, nothing half-applied, bounded memory, and others are served meanwhile.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests read the clock; helpers may fail as their tests do

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Agent, Answer, Around, answer, eventually, request};

/// What an attack may cost in resident memory, in KB.
const GROWTH_KB_MAX: u64 = 32 << 10;
/// What a request of somebody else may take meanwhile: many times what it takes, on a busy machine.
const SERVED: Duration = Duration::from_secs(5);

/// A connection that comes from another address of this host than other clients' do.
fn connect_from(last: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0).into())?;
    socket.connect_timeout(&to.into(), SERVED)?;
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

fn send(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect_from(1, to).unwrap();
    let _ = stream.write_all(bytes);
    stream
}

/// Somebody else, from another address, is served at once over HTTP and DNS.
fn others_are_served(agent: &Agent) {
    let begun = Instant::now();
    let mut stream = connect_from(9, agent.http).unwrap();
    stream.write_all(b"GET /v1/catalog/nodes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(answer(stream).unwrap().status, 200);
    assert_eq!(agent.addresses("here.node.consul"), 1);
    assert!(begun.elapsed() < SERVED, "{:?}", begun.elapsed());
}

/// Runs an attack; afterwards memory is bounded, the log without a panic, and the agent ends cleanly.
fn withstands(agent: &mut Agent, attack: impl FnOnce(&Agent)) {
    others_are_served(agent);
    let before = agent.own_kb();
    attack(agent);
    others_are_served(agent);
    let after = agent.own_kb();
    assert!(after < before + GROWTH_KB_MAX, "{before} KB grew to {after} KB");
    agent.signal("TERM");
    let (status, took) = agent.ended(Duration::from_secs(10)).expect("it ends in time");
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10));
    let log = agent.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// The answer, or `None` if the other end just closed.
fn answered(stream: &TcpStream) -> Option<Answer> {
    answer(stream).ok()
}

const BODY_PATHS: [(&str, &str); 6] = [
    ("PUT", "/v1/kv/a"),
    ("PUT", "/v1/agent/service/register"),
    ("PUT", "/v1/agent/check/register"),
    ("PUT", "/v1/catalog/register"),
    ("PUT", "/v1/catalog/deregister"),
    ("PUT", "/v1/agent/check/update/x"),
];

#[test]
fn ten_gigabytes_announced_are_refused_at_once() {
    withstands(&mut Agent::new(), |agent| {
        let before = agent.own_kb();
        let mut held = Vec::new();
        for turn in 0..20 {
            let (method, path) = BODY_PATHS[turn % BODY_PATHS.len()];
            let begun = Instant::now();
            let stream = send(
                agent.http,
                format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10737418240\r\n\r\nx").as_bytes(),
            );
            let answer = answered(&stream).expect("an answer");
            assert!(matches!(answer.status, 400 | 413), "{path}: {} {}", answer.status, answer.text());
            assert!(begun.elapsed() < SERVED);
            held.push(stream);
        }
        assert!(agent.own_kb() < before + GROWTH_KB_MAX);
    });
}

#[test]
fn bodies_without_end_or_beyond_the_limit_are_cut() {
    withstands(&mut Agent::new(), |agent| {
        let before = agent.own_kb();
        let chunk = {
            let mut chunk = format!("{:x}\r\n", 1 << 16).into_bytes();
            chunk.resize(chunk.len() + (1 << 16), b'x');
            chunk.extend_from_slice(b"\r\n");
            chunk
        };
        std::thread::scope(|scope| {
            for turn in 0..8 {
                let (method, path) = BODY_PATHS[turn % BODY_PATHS.len()];
                let chunk = &chunk;
                scope.spawn(move || {
                    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
                    let mut stream = send(agent.http, head.as_bytes());
                    stream.set_write_timeout(Some(SERVED)).unwrap();
                    let sent = (0..1024).take_while(|_| stream.write_all(chunk).is_ok()).count();
                    assert!(sent < 1024, "{path}: 64 MB were taken");
                });
                scope.spawn(move || {
                    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 64 << 20);
                    let mut stream = send(agent.http, head.as_bytes());
                    stream.set_write_timeout(Some(SERVED)).unwrap();
                    let piece = vec![b' '; 1 << 16];
                    let _ = (0..1024).take_while(|_| stream.write_all(&piece).is_ok()).count();
                });
            }
        });
        assert!(agent.own_kb() < before + GROWTH_KB_MAX, "{before} {}", agent.own_kb());
        assert_eq!(agent.get("/v1/kv/a").status, 404, "nothing of it was taken");
    });
}

#[test]
fn two_megabytes_of_headers_are_refused() {
    withstands(&mut Agent::new(), |agent| {
        let long = "x".repeat(2 << 20);
        let many: String = (0..40_000).map(|number| format!("X-{number}: {number:040}\r\n")).collect();
        for head in [
            format!("GET /v1/catalog/nodes HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n"),
            format!("GET /v1/catalog/nodes HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
            format!("GET /v1/kv/{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            format!("GET /v1/kv/a?filter={long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ] {
            let stream = send(agent.http, head.as_bytes());
            if let Some(answer) = answered(&stream) {
                assert!((400..500).contains(&answer.status), "{}", answer.status);
            }
        }
    });
}

#[test]
fn a_byte_a_second_on_300_connections_keeps_nobody_else_waiting() {
    withstands(&mut Agent::with(&["-hcl", "limits { http_max_conns_per_client = 0 }"]), |agent| {
        let mut slow: Vec<_> = (0..300).map(|_| connect_from(1, agent.http).unwrap()).collect();
        let head = b"GET /v1/catalog/nodes HTTP/1.1\r\nHost: localhost\r\n";
        for byte in &head[..6] {
            for stream in &mut slow {
                let _ = stream.write_all(&[*byte]);
            }
            others_are_served(agent);
            std::thread::sleep(Duration::from_millis(300)); // the attack's own rhythm
        }
    });
}

#[test]
fn a_thousand_slow_clients_are_bounded_and_others_served() {
    withstands(&mut Agent::new(), |agent| {
        // Beyond the limit of an address it is told so; what stays open is bounded.
        let slow: Vec<_> = (0..1000)
            .filter_map(|_| connect_from(1, agent.http).ok())
            .map(|mut stream| {
                let _ = stream.write_all(b"PUT /v1/kv/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx");
                stream
            })
            .collect();
        assert!(slow.len() > 900);
        others_are_served(agent);
        let open = std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
        assert!(open < 400, "{open} descriptors");
        let mut told = 0;
        for stream in slow.iter().skip(210).take(20) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            told += usize::from(answered(stream).is_some_and(|answer| answer.status == 429));
        }
        assert!(told > 0, "some are told why");
        assert_eq!(agent_get(agent, "/v1/kv/slow").status, 404);
    });
}

/// A request from another address than the attacker's.
fn agent_get(agent: &Agent, path: &str) -> Answer {
    let mut stream = connect_from(9, agent.http).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    answer(stream).unwrap()
}

#[test]
fn with_128_descriptors_400_idle_connections_are_outlived() {
    let around = Around { descriptors: Some(128), ..Around::default() };
    let mut agent = Agent::around(&["-hcl", "limits { http_max_conns_per_client = 0 }"], around);
    withstands(&mut agent, |agent| {
        let idle: Vec<_> = (0..400).filter_map(|_| connect_from(1, agent.http).ok()).collect();
        assert!(idle.len() >= 128);
        // What needs no connection of HTTP goes on: DNS, raft, checks.
        for _ in 0..5 {
            assert_eq!(agent.addresses("here.node.consul"), 1);
        }
        drop(idle);
        eventually("it serves again", || {
            connect_from(9, agent.http).is_ok_and(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                stream.write_all(b"PUT /v1/kv/after HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx").is_ok()
                    && answered(&stream).is_some_and(|answer| answer.status == 200)
            })
        });
    });
}

#[test]
fn what_is_nested_too_deep_is_an_error_and_no_overflow() {
    withstands(&mut Agent::new(), |agent| {
        let arrays = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let maps = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        for (method, path) in BODY_PATHS {
            if path.contains("/kv/") {
                continue; // A value is whatever it is.
            }
            for body in [&arrays, &maps] {
                let answer = agent.ask(method, path, body.as_bytes());
                assert!(matches!(answer.status, 400 | 413 | 404), "{path}: {} {}", answer.status, answer.text());
            }
        }
        let meta = format!("{{\"Name\": \"a\", \"Meta\": {{\"k\": {arrays}}}}}");
        assert_eq!(agent.put("/v1/agent/service/register", meta).status, 400);
        for filter in [
            format!("{}Node==a{}", "(".repeat(20_000), ")".repeat(20_000)),
            "(".repeat(20_000),
            "not%20".repeat(10_000) + "Node==a",
            "Node==a%20or%20".repeat(3_000) + "Node==a",
        ] {
            let answer = agent.get(&format!("/v1/catalog/nodes?filter={filter}"));
            assert!(matches!(answer.status, 200 | 400 | 431 | 414), "{}", answer.status);
        }
        assert_eq!(agent.get(&format!("/v1/catalog/nodes?filter={}", "(".repeat(20_000))).status, 400);
    });
}

/// Bytes like random ones, the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.next() as usize % most;
        (0..length).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn noise_on_every_port_changes_nothing() {
    withstands(&mut Agent::new(), |agent| {
        let before = agent.get("/v1/catalog/nodes").text();
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect(agent.dns).unwrap();
        for turn in 0..20_000 {
            let mut packet = noise.bytes(600);
            if turn % 2 == 0 && packet.len() > 12 {
                // A header that is almost right gets further.
                packet[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, (turn % 3) as u8]);
            }
            let _ = udp.send(&packet);
        }
        for _ in 0..100 {
            let packet = noise.bytes(2000);
            let mut framed = (packet.len() as u16).to_be_bytes().to_vec();
            framed.extend_from_slice(&packet);
            drop(send(agent.dns, &framed));
            drop(send(agent.dns, &packet));
            drop(send(agent.http, &packet));
            let mut almost = b"GET /v1/kv/".to_vec();
            almost.extend_from_slice(&packet);
            almost.extend_from_slice(b" HTTP/1.1\r\n\r\n");
            drop(send(agent.http, &almost));
        }
        assert_eq!(agent.get("/v1/catalog/nodes").text(), before);
    });
}

#[test]
fn dns_over_tcp_that_is_left_open_is_bounded_and_ends() {
    withstands(&mut Agent::new(), |agent| {
        let mut idle: Vec<_> = (0..300).filter_map(|_| connect_from(1, agent.dns).ok()).collect();
        for stream in &mut idle {
            let _ = stream.write_all(&[0xff]); // half a length
        }
        assert_eq!(agent.addresses("here.node.consul"), 1);
        others_are_served(agent);
    });
}

#[test]
fn path_tricks_reach_no_other_route_and_no_file() {
    withstands(&mut Agent::new(), |agent| {
        agent.done("/v1/kv/secret", "s");
        for path in [
            "/v1/kv/../../etc/passwd",
            "/v1/kv/%2e%2e/%2e%2e/etc/passwd",
            "/v1/kv/..%2f..%2fetc%2fpasswd",
            "/v1/kv/a/%2e%2e/secret",
            "/v1/../v1/agent/self",
            "/v1/agent//self",
            "//v1/agent/self",
            "/v1/agent/self/",
            "/v1\\agent\\self",
            "/v1/kv/%00",
            "/v1/kv/a%00b",
            "/v1/kv/%ff%fe",
            "/v1/catalog/service/%2e%2e%2fnodes",
            "/v1/health/service/..%2f..%2fkv%2fsecret",
            "/v1/agent/service/%2e%2e/self",
            "/v1/kv/%252e%252e/secret",
            "/v1/kv/%zz",
            "/%76%31/agent/self/..",
        ] {
            for method in ["GET", "PUT", "DELETE"] {
                let stream = send(
                    agent.http,
                    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                        .as_bytes(),
                );
                let Some(answer) = answered(&stream) else { continue };
                let text = answer.text();
                assert!(!text.contains("root:"), "{method} {path}: {text}");
                assert!(answer.status < 500, "{method} {path}: {} {text}", answer.status);
                assert_eq!(agent.get("/v1/kv/secret?raw").text(), "s", "{method} {path} reached it by another name");
            }
        }
        let keys = agent.get("/v1/kv/?keys").json();
        for key in keys.as_array().unwrap() {
            let key = key.as_str().unwrap();
            assert!(!key.split('/').any(|part| part == ".."), "{key:?}");
        }
    });
}

const HOSTILE: [&str; 7] = [
    "<script>alert(1)</script>",
    "\"},{\"x\":\"",
    "\u{0}\u{1}\u{1f}\u{7f}",
    "\u{2028}\u{2029}\u{feff}",
    "\\\"\\\\/",
    "ünï😀\u{10ffff}",
    "\r\nX-Injected: 1\r\n\r\n",
];

#[test]
fn hostile_names_come_back_as_they_were_through_every_answer() {
    withstands(&mut Agent::new(), |agent| {
        for (number, hostile) in HOSTILE.into_iter().enumerate() {
            let id = format!("web{number}");
            let body = json!({
                "ID": id, "Name": "web", "Port": 80, "Tags": [hostile], "Meta": {"k": hostile},
                "Check": {"CheckID": format!("c{number}"), "Name": hostile, "Notes": hostile, "TTL": "10m"},
            });
            agent.done("/v1/agent/service/register", body.to_string());
            agent.done(&format!("/v1/agent/check/update/c{number}"), json!({"Status": "passing", "Output": hostile}).to_string());
        }
        for path in [
            "/v1/agent/services",
            "/v1/agent/checks",
            "/v1/agent/service/web0",
            "/v1/agent/health/service/name/web",
            "/v1/catalog/services",
            "/v1/catalog/service/web",
            "/v1/catalog/node/here",
            "/v1/catalog/node-services/here",
            "/v1/health/service/web",
            "/v1/health/node/here",
            "/v1/health/checks/web",
            "/v1/health/state/any",
        ] {
            for query in ["", "?pretty"] {
                let answer = agent.get(&format!("{path}{query}"));
                assert_eq!(answer.status, 200, "{path}");
                assert!(serde_json::from_slice::<Value>(&answer.body).is_ok(), "{path}: {}", answer.text());
                assert_eq!(answer.header("X-Injected"), None);
                assert_eq!(answer.header("Content-Type"), Some("application/json"), "{path}");
                assert!(!answer.text().contains("<script"), "{path}: as Consul's, < is escaped");
            }
        }
        let rows = agent.get("/v1/health/service/web").json();
        for (number, hostile) in HOSTILE.into_iter().enumerate() {
            let row = rows.as_array().unwrap().iter().find(|row| row["Service"]["ID"] == format!("web{number}")).unwrap();
            assert_eq!(row["Service"]["Tags"][0], hostile);
            assert_eq!(row["Service"]["Meta"]["k"], hostile);
        }
        agent.done("/v1/kv/page", "<script>alert(1)</script>");
        let raw = agent.get("/v1/kv/page?raw");
        assert_eq!(raw.header("X-Content-Type-Options"), Some("nosniff"));
        assert!(raw.header("Content-Security-Policy").is_some_and(|policy| policy.contains("sandbox")));
        assert!(raw.header("Content-Type").is_some_and(|kind| kind.starts_with("text/plain")));
    });
}

#[test]
fn a_page_of_another_site_can_neither_read_nor_write() {
    withstands(&mut Agent::new(), |agent| {
        let ask =
            |method: &str, headers: &[(&str, &str)]| request(agent.http, method, "/v1/kv/page", headers, b"x").unwrap().status;
        assert_eq!(ask("GET", &[("Host", "evil.example")]), 403, "a name that was bound to this address");
        assert_eq!(ask("PUT", &[("Host", "evil.example:8500")]), 403);
        assert_eq!(ask("PUT", &[("Origin", "http://evil.example")]), 403);
        assert_eq!(ask("PUT", &[("Origin", "null")]), 403);
        assert_eq!(ask("PUT", &[("Sec-Fetch-Site", "cross-site")]), 403);
        assert_eq!(ask("DELETE", &[("Sec-Fetch-Site", "cross-site")]), 403);
        let line = b"PUT http://evil.example/v1/kv/page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(answered(&send(agent.http, line)).unwrap().status, 403, "the request line's host counts");
        assert_eq!(agent.get("/v1/kv/page").status, 404, "nothing was written");
        for host in ["localhost", "127.0.0.1:8500", "[::1]:8500", "here", "here.node.consul", "consul.service.consul"] {
            assert_eq!(ask("PUT", &[("Host", host)]), 200, "{host}");
        }
        assert_eq!(ask("PUT", &[("Sec-Fetch-Site", "same-origin"), ("Origin", "http://localhost:8500")]), 200);
    });
}

#[test]
fn a_request_that_is_given_up_halfway_is_whole_or_nothing() {
    let mut agent = Agent::new();
    for number in 0..200 {
        let body = json!({"Name": format!("s{number}"), "Port": 80}).to_string();
        let head =
            format!("PUT /v1/agent/service/register HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut stream = send(agent.http, head.as_bytes());
        let _ = stream.write_all(body.as_bytes());
        if number % 3 == 0 {
            std::thread::sleep(Duration::from_micros(number * 20)); // the attack's own rhythm
        }
        drop(stream);
        if number % 7 == 0 {
            let mut cut = send(agent.http, head.as_bytes());
            let _ = cut.write_all(&body.as_bytes()[..body.len() / 2]);
        }
    }
    let local = || agent.get("/v1/agent/services").json();
    eventually("the catalog has what the agent has", || {
        let (local, catalog) = (local(), agent.get("/v1/catalog/node/here").json());
        let names = catalog["Services"].as_object().unwrap();
        local.as_object().unwrap().len() == names.len()
    });
    let before = local();
    agent.kill_and_start();
    assert_eq!(agent.get("/v1/agent/services").json(), before, "so has the disk");
}

#[test]
fn an_answer_that_nobody_reads_is_held_once() {
    withstands(&mut Agent::new(), |agent| {
        for number in 0..20 {
            agent.done(&format!("/v1/kv/big/{number}"), vec![b'x'; 100 << 10]);
        }
        let before = agent.own_kb();
        // Each asks for 2.7 MB and reads nothing.
        let held: Vec<_> =
            (0..8).map(|_| send(agent.http, b"GET /v1/kv/big?recurse HTTP/1.1\r\nHost: localhost\r\n\r\n")).collect();
        others_are_served(agent);
        let mut first = [0; 16];
        for mut stream in &held {
            stream.read_exact(&mut first).unwrap();
        }
        assert!(agent.own_kb() < before + GROWTH_KB_MAX, "{before} {}", agent.own_kb());
    });
}

#[test]
fn writes_that_nobody_waits_for_disturb_no_others() {
    let mut agent = Agent::new();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let agent = &agent;
            scope.spawn(move || {
                for turn in 0..100 {
                    // Given up at once: it is written or not, and its number is nobody else's.
                    let path = format!("/v1/kv/dropped/{writer}/{turn}");
                    drop(send(
                        agent.http,
                        format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx").as_bytes(),
                    ));
                    let path = format!("/v1/kv/kept/{writer}");
                    let index = if turn == 0 { 0 } else { agent.get(&path).json()[0]["ModifyIndex"].as_u64().unwrap() };
                    assert_eq!(agent.put(&format!("{path}?cas={index}"), turn.to_string()).text().trim(), "true");
                }
            });
        }
    });
    for writer in 0..8 {
        assert_eq!(agent.get(&format!("/v1/kv/kept/{writer}?raw")).text(), "99");
    }
    let dropped = agent.get("/v1/kv/dropped?keys").text();
    agent.kill_and_start();
    assert_eq!(agent.get("/v1/kv/dropped?keys").text(), dropped, "what is applied is durable");
    let log = agent.log();
    assert!(!log.contains("panicked") && !log.contains("OutsideWindow"), "{log}");
}
