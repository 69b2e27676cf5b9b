//! The door as a client sees it: real sockets, a real desk, everything in memory.
#![allow(clippy::disallowed_methods)] // Tests have clocks and tasks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_catalog::{AntiEntropy, NodeName, Run, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::{AgentFacts, Config, Door, Doorway, Listener, routes, serve};
use crate::config::{AgentFlags, Host};
use crate::desk::{Bells, Cluster, Desk, LocalDesk, LocalSettings, Lone, Policy, Quorum, Setup, disk};
use crate::raft::{self, Raft};
use crate::telemetry::Metrics;

mod again;

struct House {
    address: std::net::SocketAddr,
    socket: std::path::PathBuf,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    doorway: Arc<Doorway>,
    _dir: tempfile::TempDir,
}

fn agent_config() -> crate::config::Config {
    let flags = AgentFlags::parse(["-dev".into()]).expect("a flag of Consul's");
    let host = Host::with("test-node", "lo", "127.0.0.1/8");
    crate::config::load(&flags, &host).expect("it needs nothing else").config
}

async fn house(change: impl FnOnce(&mut Config)) -> House {
    let house = house_over(raft::Config::new(None, Uuid::new_v4()), change).await;
    house.doorway.now().desk.caught_up().await.expect("it leads");
    house
}

/// A house whose raft may not lead yet.
async fn house_over(raft: raft::Config, change: impl FnOnce(&mut Config)) -> House {
    let id = raft.node;
    let (bells, store) = (Bells::new(), Store::new());
    let reader = store.reader();
    let (touched, all) = (bells.clone(), bells.clone());
    let ringing = raft::Bells { touched: Box::new(move |topics| touched.ring(topics)), all: Box::new(move || all.ring_all()) };
    let raft = Raft::start(raft, store, ringing).await.expect("raft starts");
    raft.initialize().await.expect("a cluster of one");
    let (verdicts, _) = mpsc::channel(8);
    let (runner, _driver) = muster_health::new(muster_health::Config::default(), verdicts);
    let (stop, stopping) = watch::channel(false);
    let (errands, _) = mpsc::channel(1);
    let settings = LocalSettings {
        policy: Policy::default(),
        output_delay: Duration::ZERO,
        discard_output: false,
        anti_entropy: AntiEntropy::OwnRows,
    };
    let about = agent_config();
    let desk = Desk::new(Setup {
        name: NodeName::new("test-node").expect("a name"),
        id,
        run: Run { agent: id, epoch: 1 << 16 },
        quorum: Quorum::alone(raft, &reader),
        reader,
        bells,
        local: LocalDesk::new(runner, None, disk::Kept { starts: 1, ..disk::Kept::default() }, settings),
        cluster: Cluster::new(id, about.addresses.clone(), Lone::new(&about, id)),
        forgetful: false,
        hold: Duration::from_secs(10),
        default_reads_fail: false,
        max_stale: Duration::MAX,
        wants: None,
        autopilot: muster_catalog::Autopilot::default(),
        server_address: ([127, 0, 0, 1], 8300).into(),
        stop: stopping,
        errands,
    });
    let mut config = Config::new("dc1");
    change(&mut config);
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = tcp.local_addr().expect("it is bound");
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("http.sock");
    let unix = UnixListener::bind(&socket).expect("a socket");
    let stopping = desk.stopping();
    let facts = Arc::new(AgentFacts::new(about, Metrics::unrecorded(false)));
    let doorway = Doorway::new(Door::new(config, desk, facts));
    let serving = tokio::spawn(serve(doorway.clone(), vec![Listener::Tcp(tcp), Listener::Unix(unix)], stopping));
    House { address, socket, stop, serving, doorway, _dir: dir }
}

/// An answer: its head as it came, and its body.
#[derive(Debug)]
struct Said {
    head: String,
    body: Vec<u8>,
}

impl Said {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
    /// The value of a header, its name in exactly this case.
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
    fn index(&self) -> u64 {
        self.header("X-Consul-Index").expect("an index").parse().expect("a number")
    }
}

impl House {
    /// All of it, its raft included.
    async fn end(self) {
        let raft = self.doorway.now().desk.raft().expect("a server").clone();
        self.stop.send_replace(true);
        timeout(Duration::from_secs(10), self.serving).await.expect("within its bound").expect("without a panic");
        raft.shutdown().await;
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }

    /// Sends bytes on a connection of their own; the answer is what comes until it closes.
    async fn send(&self, bytes: &[u8]) -> Said {
        exchange(self.connect().await, bytes).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Said {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        self.send(format!("{head}{body}").as_bytes()).await
    }

    async fn get(&self, path: &str) -> Said {
        self.ask("GET", path, "", "").await
    }

    async fn put(&self, path: &str, body: &str) -> Said {
        self.ask("PUT", path, "", body).await
    }

    async fn register(&self, node: &str, status: &str) {
        let check = format!(r#"{{"CheckID":"{node}-c","Name":"c","Status":"{status}","ServiceID":"web"}}"#);
        let body =
            format!(r#"{{"Node":"{node}","Address":"192.0.2.1","Service":{{"Service":"web","Port":80}},"Check":{check}}}"#);
        let said = self.put("/v1/catalog/register", &body).await;
        assert_eq!((said.status(), said.text()), ("200", "true"));
    }
}

async fn exchange(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, bytes: &[u8]) -> Said {
    let _ = stream.write_all(bytes).await; // The other side may answer before it has read all.
    said(&mut stream).await
}

async fn said(stream: &mut (impl AsyncReadExt + Unpin)) -> Said {
    let mut all = Vec::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut all)).await.expect("an answer in time");
    if let Err(error) = read {
        assert!(!all.is_empty(), "no answer: {error}");
    }
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    Said { head: String::from_utf8(all[..end].to_vec()).expect("text"), body: all[end + 4..].to_vec() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_tells_its_methods_and_refuses_others() {
    let house = house(|_| {}).await;
    for route in routes::all() {
        let path = if route.path.ends_with('/') { format!("{}x", route.path) } else { route.path.to_owned() };
        let methods: Vec<_> = route.methods.iter().map(|(method, _)| method.as_str()).collect();
        let options = house.ask("OPTIONS", &path, "", "").await;
        assert_eq!(
            (options.status(), options.header("Allow")),
            ("200", Some(format!("OPTIONS,{}", methods.join(",")).as_str())),
            "{path}"
        );
        assert_eq!(options.header("Vary"), Some("Accept-Encoding"));
        for method in ["HEAD", "PATCH", "BREW"] {
            let refused = house.ask(method, &path, "", "").await;
            assert_eq!(refused.status(), "405", "{method} {path}");
            assert!(refused.header("Allow").is_some_and(|allow| allow.ends_with(&methods.join(","))), "{path}");
            assert_eq!(refused.text(), if method == "HEAD" { String::new() } else { format!("method {method} not allowed") });
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_are_cleaned_and_unknown_ones_say_so() {
    let house = house(|_| {}).await;
    let nope = house.get("/v1/nope").await;
    assert_eq!((nope.status(), nope.text()), ("404", "Invalid URL path: not a recognized HTTP API endpoint\n"));
    assert_eq!(nope.header("Vary"), None);
    for (path, to) in [("/v1//kv/x?raw&dc=dc1", "/v1/kv/x?raw&dc=dc1"), ("/v1/kv", "/v1/kv/"), ("/v1/kv/a/%2e%2e/b", "/v1/kv/b")]
    {
        let moved = house.get(path).await;
        assert_eq!((moved.status(), moved.header("Location")), ("301", Some(to)), "{path}");
        let moved = house.put(path, "x").await;
        assert_eq!((moved.status(), moved.text(), moved.header("Content-Type")), ("301", "", None), "{path}");
    }
    for (path, status, text) in
        [("/v1/kv/%00", "400", ""), ("/v1/kv/x%zz", "400", "400 Bad Request"), ("/v1/status/leader?%zz", "500", "")]
    {
        let said = house.get(path).await;
        assert_eq!((said.status(), said.text()), (status, text), "{path}");
    }
    let foreign = house.send(b"GET /v1/status/leader HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(foreign.status(), "403");
    assert_eq!(house.get("/v1/status/leader").await.text(), "\"127.0.0.1:8300\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_kept_and_given_back_as_consul_does() {
    let house = house(|_| {}).await;
    let none = house.get("/v1/kv/a%2Fb").await;
    assert_eq!((none.status(), none.text(), none.header("Content-Type")), ("404", "", None));
    assert!(none.index() >= 1);
    assert_eq!(house.put("/v1/kv/a%2Fb?flags=42", "<b>").await.text(), "true");
    let one = house.get("/v1/kv/a/b").await;
    let index = one.index();
    let json =
        format!(r#"[{{"LockIndex":0,"Key":"a/b","Flags":42,"Value":"PGI+","CreateIndex":{index},"ModifyIndex":{index}}}]"#);
    assert_eq!(one.text(), json);
    assert_eq!(one.header("Content-Type"), Some("application/json"));
    for (name, value) in
        [("X-Consul-Knownleader", "true"), ("X-Consul-Lastcontact", "0"), ("X-Consul-Default-Acl-Policy", "allow")]
    {
        assert_eq!(one.header(name), Some(value), "{name}");
    }
    let raw = house.get("/v1/kv/a/b?raw").await;
    assert_eq!(
        (raw.text(), raw.header("X-Content-Type-Options"), raw.header("Content-Security-Policy")),
        ("<b>", Some("nosniff"), Some("sandbox"))
    );
    assert_eq!(house.put("/v1/kv/a/b?cas=0", "x").await.text(), "false");
    assert_eq!(house.put(&format!("/v1/kv/a/b?cas={index}"), "x").await.text(), "true");
    assert_eq!(house.get("/v1/kv/?keys&separator=/").await.text(), "[\"a/\"]");
    let conflict = house.put("/v1/kv/a?release=y&acquire=x", "x").await;
    assert_eq!((conflict.status(), conflict.text()), ("400", "Conflicting flags: acquire=x&release=y"));
    assert_eq!(house.put("/v1/kv/a%2F%252e%252e%2Fb", "x").await.status(), "400");
    assert_eq!(house.ask("DELETE", "/v1/kv/?recurse", "", "").await.text(), "true");
    assert_eq!(house.get("/v1/kv/?recurse").await.status(), "404");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_reaches_a_waiting_reader() {
    let house = house(|_| {}).await;
    house.register("n1", "passing").await;
    let first = house.get("/v1/health/service/web?passing").await;
    assert_eq!(first.header("X-Consul-Effective-Consistency"), Some("leader"));
    let path = format!("/v1/health/service/web?passing&wait=20s&index={}", first.index());
    let begun = Instant::now();
    let (second, ()) = tokio::join!(house.get(&path), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        house.register("n2", "passing").await;
    });
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(second.index() > first.index());
    let rows: serde_json::Value = serde_json::from_slice(&second.body).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    assert_eq!(rows[1]["Checks"][0]["Status"], "passing");
    house.register("n2", "critical").await;
    let third: serde_json::Value = serde_json::from_slice(&house.get("/v1/health/service/web?passing").await.body).expect("JSON");
    assert_eq!(third.as_array().map(Vec::len), Some(1));
    let short = house.get("/v1/kv/none?index=999999&wait=50ms").await;
    assert_eq!(short.status(), "404");
}

/// A lone server has all that was acknowledged as soon as it leads again: nobody else has to be waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_look_up_right_after_a_start_is_not_behind_however_slow_the_disk() {
    let (dir, node) = (tempfile::tempdir().expect("a directory"), Uuid::new_v4());
    let on_disk = || raft::Config { disk_reserve: 0, ..raft::Config::new(Some(dir.path().to_owned()), node) };
    let before = house_over(on_disk(), |_| {}).await;
    before.register("n1", "passing").await;
    before.end().await;
    // the vote for itself is a commit, and the first entry of its term another
    raft::slow_disk(dir.path(), Duration::from_millis(800));
    let after = house_over(on_disk(), |_| {}).await;
    let said = after.get("/v1/health/service/web").await;
    assert_eq!((said.header("X-Consul-Knownleader"), said.text().contains("n1")), (Some("true"), true));
    raft::slow_disk(dir.path(), Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_answers_change_with_what_they_show() {
    let house = house(|_| {}).await;
    assert_eq!(house.get("/v1/catalog/services").await.text(), "{}");
    for number in 0..20 {
        house.register(&format!("n{number}"), "passing").await;
    }
    assert_eq!(house.get("/v1/catalog/services").await.text(), r#"{"web":[]}"#);
    let count = |said: &Said| serde_json::from_slice::<serde_json::Value>(&said.body).expect("JSON").as_array().map(Vec::len);
    assert_eq!(count(&house.get("/v1/health/service/web?passing").await), Some(20));
    house.register("n7", "critical").await;
    assert_eq!(count(&house.get("/v1/health/service/web?passing").await), Some(19));
    assert_eq!(count(&house.get("/v1/health/service/web").await), Some(20));
    let plain = house.get("/v1/health/service/web").await;
    for _ in 0..2 {
        let packed = house.ask("GET", "/v1/health/service/web", "Accept-Encoding: gzip\r\n", "").await;
        assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
        let mut unpacked = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut unpacked).expect("gzip");
        assert_eq!(unpacked, plain.body);
    }
    let pretty = house.get("/v1/health/service/web?pretty").await;
    assert!(pretty.text().starts_with("[\n    {\n        \"Node\": {") && pretty.text().ends_with("]\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let house = house(|_| {}).await;
    let head = "PUT /v1/kv/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let announced = house.send(format!("{head}Content-Length: 10000000000\r\n\r\n").as_bytes()).await;
    assert_eq!(announced.status(), "413");
    assert!(announced.text().starts_with("Request body(10000000000 bytes) too large, max size: 524288 bytes."));
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let endless = house.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(40)).as_bytes()).await;
    assert_eq!(endless.status(), "413");
    let registration =
        house.send(b"PUT /v1/catalog/register HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n\r\n").await;
    assert_eq!(registration.status(), "413");
    let nested = house.put("/v1/catalog/register", &"[".repeat(200_000)).await;
    assert_eq!(nested.status(), "400");
    let header =
        house.send(format!("GET /v1/kv/x HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(2 << 20)).as_bytes()).await;
    assert_eq!(header.status(), "431");
    let deep = format!("/v1/catalog/nodes?filter={}", "(".repeat(20_000));
    assert_eq!(house.get(&deep).await.status(), "400");
    assert_eq!(house.put("/v1/kv/x", &"x".repeat(524_288)).await.text(), "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_gets_its_share_of_connections_and_gives_it_back() {
    let house = house(|config| config.connections_per_client_max = 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = house.connect().await;
        stream.write_all(b"GET /v1/status/leader HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    let refused = house.get("/v1/status/leader").await;
    assert_eq!((refused.status(), refused.header("Retry-After")), ("429", Some("1")));
    let unix = UnixStream::connect(&house.socket).await.expect("it listens");
    let said = exchange(unix, b"GET /v1/status/leader HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(said.status(), "200");
    held.clear();
    let begun = Instant::now();
    while house.get("/v1/status/leader").await.status() != "200" {
        assert!(begun.elapsed() < Duration::from_secs(10), "the share is given back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_who_waits_and_ends() {
    let house = house(|_| {}).await;
    let mut idle = house.connect().await;
    let mut waiting = house.connect().await;
    waiting.write_all(b"GET /v1/kv/x?index=999999&wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    tokio::time::sleep(Duration::from_millis(300)).await;
    house.stop.send_replace(true);
    timeout(Duration::from_secs(10), house.serving).await.expect("within its bound").expect("without a panic");
    assert_eq!(said(&mut waiting).await.status(), "404");
    let mut nothing = Vec::new();
    let _ = idle.read_to_end(&mut nothing).await;
    assert!(TcpStream::connect(house.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_configured_holds_on_every_answer() {
    let house = house(|config| {
        config.block_endpoints = vec!["/v1/kv/blocked".into()];
        config.allow_write_from = vec!["10.0.0.0/8".parse().expect("a network")];
        config.response_headers = vec![("x-golden".parse().expect("a name"), "yes".parse().expect("a value"))];
        config.translate_wan_addrs = true;
    })
    .await;
    let blocked = house.get("/v1/kv/blocked-not").await;
    assert_eq!((blocked.status(), blocked.text()), ("403", "Endpoint is blocked by agent configuration"));
    assert_eq!((blocked.header("X-Golden"), blocked.header("X-Consul-Translate-Addresses")), (Some("yes"), Some("true")));
    let write = house.put("/v1/kv/x", "x").await;
    assert_eq!((write.status(), write.text()), ("403", "Access is restricted"));
    assert_eq!(house.get("/v1/kv/x").await.status(), "404");
    let namespace = house.get("/v1/catalog/services?ns=other").await;
    assert_eq!(
        (namespace.status(), namespace.text()),
        ("400", "Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature")
    );
    let elsewhere = house.get("/v1/health/service/x?dc=unknown").await;
    assert_eq!((elsewhere.status(), elsewhere.text(), elsewhere.index()), ("500", "No path to datacenter", 1));
    assert_eq!(
        (elsewhere.header("X-Consul-Knownleader"), elsewhere.header("X-Consul-Effective-Consistency")),
        (Some("false"), None)
    );
}
