//! Every kind of probe against real sockets and processes.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use muster_catalog::{ExecProbe, HttpProbe, Status, TcpProbe};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing;

/// A server that answers each connection with what `answer` makes of the request, and closes.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::start_on("127.0.0.1:0", None, answer).await
    }

    async fn start_on(at: &str, tls: Option<TlsAcceptor>, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
        let counter = asked.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (counter, answer, tls) = (counter.clone(), answer.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &counter, &*answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &counter, &*answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    asked: &AtomicUsize,
    answer: &(dyn Fn(&str) -> String + Sync + Send),
) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !whole(&request) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let text = answer(&String::from_utf8_lossy(&request));
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(|n| n.parse::<usize>().unwrap()));
    body.len() >= length.unwrap_or(0)
}

fn answer(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
}

fn http(url: String) -> HttpProbe {
    HttpProbe { url, ..HttpProbe::default() }
}

async fn see(probe: Probe, timeout: Duration) -> Outcome {
    see_with(probe, timeout, &Tools::default()).await
}

async fn see_with(probe: Probe, timeout: Duration, tools: &Tools) -> Outcome {
    let definition = CheckDefinition { timeout: Some(timeout), ..testing::check("c", probe) };
    look(&definition, tools).await.expect("there is something to look at")
}

async fn see_http(probe: HttpProbe) -> Outcome {
    see(Probe::Http(probe), LONG).await
}

async fn see_exec(args: &[&str], timeout: Duration) -> Outcome {
    see(Probe::Exec(ExecProbe { args: args.iter().map(ToString::to_string).collect() }), timeout).await
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

/// A port at which nobody listens.
async fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn http_statuses_become_verdicts_and_texts() {
    let server = Server::start(|request| {
        let status = request.split(' ').nth(1).unwrap().trim_start_matches('/').replace('_', " ");
        answer(&status, "", "target says")
    })
    .await;
    for (path, status, line) in [
        ("200_OK", Status::Passing, "200 OK"),
        ("204_No_Content", Status::Passing, "204 No Content"),
        ("200_Quite_Fine", Status::Passing, "200 Quite Fine"),
        ("429_Too_Many_Requests", Status::Warning, "429 Too Many Requests"),
        ("503_Service_Unavailable", Status::Critical, "503 Service Unavailable"),
        ("404_Not_Found", Status::Critical, "404 Not Found"),
        ("304_Not_Modified", Status::Critical, "304 Not Modified"),
    ] {
        let url = server.url(&format!("/{path}"));
        let outcome = see_http(http(url.clone())).await;
        let body = if path.starts_with("204") || path.starts_with("304") { "" } else { "target says" };
        assert_eq!((outcome.status, outcome.output), (status, format!("HTTP GET {url}: {line} Output: {body}")));
    }
}

#[tokio::test]
async fn an_http_request_carries_what_was_asked_for_and_consuls_defaults() {
    let server = Server::start(|request| answer("200 OK", "", request)).await;
    let port = server.address.port();
    let plain = see_http(http(format!("http://me:s%40cret@127.0.0.1:{port}/x?y=1#z"))).await.output.to_lowercase();
    for line in [
        "output: get /x?y=1 http/1.1\r\n",
        "user-agent: consul health check\r\n",
        "accept: text/plain, text/*, */*\r\n",
        "connection: close\r\n",
        &format!("host: 127.0.0.1:{port}\r\n"),
        "authorization: basic bwu6c0bjcmv0\r\n",
    ] {
        assert!(plain.contains(line), "{line:?} in {plain}");
    }
    let header = [("Host", vec!["named.example"]), ("Accept", vec!["a/b"]), ("X-Probe", vec!["yes", "and no"])];
    let header = header.map(|(name, values)| (name.to_owned(), values.into_iter().map(str::to_owned).collect()));
    let full =
        HttpProbe { method: "POST".into(), body: "payload".into(), header: BTreeMap::from(header), ..http(server.url("/")) };
    let full = see_http(full).await.output;
    assert!(full.starts_with("HTTP POST http://127.0.0.1"), "{full}");
    let full = full.to_lowercase();
    for line in ["host: named.example\r\n", "accept: a/b\r\n", "x-probe: yes\r\n", "x-probe: and no\r\n", "\r\n\r\npayload"] {
        assert!(full.contains(line), "{line:?} in {full}");
    }
    assert!(!full.contains("127.0.0.1\r\n") && !full.contains("text/plain"));
}

#[tokio::test]
async fn http_output_is_the_beginning_of_the_body() {
    let server = Server::start(|_| answer("200 OK", "", &"y".repeat(5000))).await;
    let outcome = see_http(http(server.url("/"))).await;
    assert_eq!(outcome.output.matches('y').count(), 4096);
}

#[tokio::test]
async fn what_cannot_be_asked_is_critical_and_says_why() {
    let closed = closed().await;
    for (url, said) in [
        (format!("http://{closed}/"), format!("Get \"http://{closed}/\": dial tcp {closed}: connect: connection refused")),
        ("http://nosuch.invalid/".into(), "Get \"http://nosuch.invalid/\": dial tcp: lookup nosuch.invalid: no such host".into()),
        ("ftp://host/".into(), "Get \"ftp://host/\": unsupported protocol scheme \"ftp\"".into()),
        ("/only/a/path".into(), "Get \"/only/a/path\": unsupported protocol scheme \"\"".into()),
        ("http://a b/".into(), "Get \"http://a b/\": ".into()),
        (String::new(), "Get \"\": ".into()),
    ] {
        let outcome = see_http(http(url)).await;
        assert_eq!(outcome.status, Status::Critical);
        assert!(outcome.output.starts_with(&said), "{}", outcome.output);
    }
    let header = BTreeMap::from([("X-Bad".to_owned(), vec!["line\r\nX-Smuggled: 1".to_owned()])]);
    let outcome = see_http(HttpProbe { header, ..http(format!("http://{closed}/")) }).await;
    assert!(outcome.output.contains("invalid header field value"), "{}", outcome.output);
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_has_an_endless_head_is_critical() {
    let noise = Server::start(|_| "SSH-2.0-OpenSSH_9.2\r\n".into()).await;
    assert_eq!(see_http(http(noise.url("/"))).await.status, Status::Critical);
    let endless = Server::start(|_| format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(10_000_000))).await;
    let outcome = see_http(http(endless.url("/"))).await;
    assert!(outcome.output.contains("too large"), "{}", outcome.output);
    let nothing = Server::start(|_| String::new()).await;
    assert_eq!(see_http(http(nothing.url("/"))).await.status, Status::Critical);
}

#[tokio::test]
async fn a_body_that_breaks_off_has_said_what_it_has_said_and_is_not_waited_for() {
    let server = Server::start(|_| "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf".into()).await;
    let begun = Instant::now();
    let outcome = see_http(http(server.url("/"))).await;
    assert_eq!((outcome.status, outcome.output), (Status::Passing, format!("HTTP GET {}: 200 OK Output: half", server.url("/"))));
    assert!(begun.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_chunked_answer_and_a_large_request_are_no_trouble() {
    let server = Server::start(|request| {
        let length = request.rsplit("\r\n\r\n").next().unwrap().len();
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{length}\r\n0\r\n\r\n")
    })
    .await;
    let outcome = see_http(HttpProbe { method: "PUT".into(), body: "b".repeat(1_000_000), ..http(server.url("/")) }).await;
    assert!(outcome.output.ends_with("200 OK Output: 1000000"), "{}", outcome.output);
}

#[tokio::test]
async fn of_several_hosts_the_first_is_asked_for() {
    let server = Server::start(|request| answer("200 OK", "", request)).await;
    let header = BTreeMap::from([("host".to_owned(), vec!["one.example".to_owned(), "two.example".to_owned()])]);
    let output = see_http(HttpProbe { header, ..http(server.url("/")) }).await.output;
    assert!(output.contains("one.example") && !output.contains("two.example"), "{output}");
}

#[tokio::test]
async fn redirects_on_the_same_host_are_followed_and_the_url_told_is_the_checks() {
    let server = Server::start(|request| match request.split(' ').nth(1) {
        Some("/start") => answer("302 Found", "Location: /next\r\n", ""),
        Some("/next") => answer("301 Moved Permanently", "Location: end?x=1\r\n", ""),
        Some("/end?x=1") => answer("200 OK", "", request.split(' ').next().unwrap()),
        _ => answer("404 Not Found", "", ""),
    })
    .await;
    let url = server.url("/start");
    let outcome = see_http(HttpProbe { method: "POST".into(), body: "p".into(), ..http(url.clone()) }).await;
    assert_eq!(outcome, Outcome::new(Status::Passing, format!("HTTP POST {url}: 200 OK Output: GET")));
    let itself = see_http(HttpProbe { disable_redirects: true, ..http(url.clone()) }).await;
    assert_eq!(itself, Outcome::critical(format!("HTTP GET {url}: 302 Found Output: ")));
}

#[tokio::test]
async fn a_307_keeps_method_and_body() {
    let server = Server::start(|request| match request.split(' ').nth(1) {
        Some("/start") => answer("307 Temporary Redirect", "Location: /end\r\n", ""),
        _ => answer("200 OK", "", request.rsplit("\r\n\r\n").next().unwrap()),
    })
    .await;
    let outcome = see_http(HttpProbe { method: "PUT".into(), body: "payload".into(), ..http(server.url("/start")) }).await;
    assert!(outcome.output.ends_with("200 OK Output: payload"), "{}", outcome.output);
}

#[tokio::test]
async fn redirects_to_other_hosts_are_followed_only_if_asked_and_without_secrets() {
    let other = Server::start(|request| answer("200 OK", "", request)).await;
    let to = other.url("/secret");
    let server = Server::start(move |_| answer("302 Found", &format!("Location: {to}\r\n"), "elsewhere")).await;
    let outcome = see_http(http(server.url("/"))).await;
    assert_eq!(outcome.status, Status::Critical);
    assert!(outcome.output.contains("302 Found (redirect to "), "{}", outcome.output);
    assert!(outcome.output.ends_with("is not followed: another host) Output: elsewhere"), "{}", outcome.output);
    assert_eq!(other.asked.load(Ordering::SeqCst), 0);

    let header = BTreeMap::from([("Authorization".to_owned(), vec!["Bearer secret".to_owned()])]);
    let url = server.url("/").replace("127.0.0.1", "localhost");
    let outcome = see_http(HttpProbe { follow_foreign_redirects: true, header, ..http(url) }).await;
    assert_eq!((outcome.status, other.asked.load(Ordering::SeqCst)), (Status::Passing, 1));
    assert!(!outcome.output.contains("Bearer"), "{}", outcome.output);
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let server = Server::start(|_| answer("302 Found", "Location: /\r\n", "")).await;
    let outcome = see_http(http(server.url("/"))).await;
    assert!(outcome.output.ends_with("stopped after 10 redirects"), "{}", outcome.output);
    assert_eq!(server.asked.load(Ordering::SeqCst), 11);
}

#[tokio::test]
async fn tarpits_are_critical_at_the_timeout_whatever_they_wait_with() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().map(|address| (silent, address)).unwrap();
    let url = |scheme: &str| format!("{scheme}://{}/", silent.1);
    let dripping = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let drip_url = format!("http://{}/", dripping.local_addr().unwrap());
    let mut drips = JoinSet::new();
    drips.spawn(async move {
        let (mut stream, _) = dripping.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let tls = TcpProbe { address: silent.1.to_string(), tls: true, ..TcpProbe::default() };
    for (probe, said) in [
        (Probe::Http(http(url("http"))), "(Client.Timeout exceeded while awaiting headers)"),
        (Probe::Http(http(url("https"))), "TLS handshake timeout"),
        (Probe::Http(http(drip_url)), "(Client.Timeout exceeded while reading body)"),
        (Probe::Tcp(tls), "i/o timeout"),
    ] {
        let begun = Instant::now();
        let outcome = see(probe, SHORT).await;
        assert_eq!(outcome.status, Status::Critical);
        assert!(outcome.output.ends_with(said), "{}", outcome.output);
        assert!((SHORT..SHORT + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn an_address_that_swallows_packets_is_critical_at_the_timeout() {
    // A listener whose backlog is full answers no more connections.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SHORT, tokio::net::TcpStream::connect(address)).await {
        held.push(stream);
    }
    let begun = Instant::now();
    let outcome = see(Probe::Tcp(TcpProbe { address: address.to_string(), ..TcpProbe::default() }), SHORT).await;
    assert_eq!(outcome, Outcome::critical(format!("dial tcp {address}: i/o timeout")));
    assert!(begun.elapsed() < SHORT + Duration::from_secs(1));
}

#[tokio::test]
async fn tcp_passes_when_it_connects() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
        let outcome = see(Probe::Tcp(TcpProbe { address: address.clone(), ..TcpProbe::default() }), LONG).await;
        assert_eq!(outcome, Outcome::new(Status::Passing, format!("TCP connect {address}: Success")));
    }
    let closed = closed().await;
    let outcome = see(Probe::Tcp(TcpProbe { address: closed.to_string(), ..TcpProbe::default() }), LONG).await;
    assert_eq!(outcome, Outcome::critical(format!("dial tcp {closed}: connect: connection refused")));
}

#[tokio::test]
async fn ipv6_is_looked_at_as_well() {
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("this machine has no IPv6 loopback: not tried");
        return;
    }
    let server = Server::start_on("[::1]:0", None, |_| answer("200 OK", "", "six")).await;
    assert_eq!(see_http(http(server.url("/"))).await.status, Status::Passing);
    let probe = TcpProbe { address: server.address.to_string(), ..TcpProbe::default() };
    assert_eq!(see(Probe::Tcp(probe), LONG).await.status, Status::Passing);
}

fn certificate(name: &str) -> (CertificateDer<'static>, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (made.cert.der().clone(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused_unless_verification_is_skipped() {
    let (_, acceptor) = certificate("web.test");
    let server = Server::start_on("127.0.0.1:0", Some(acceptor), |_| answer("200 OK", "", "fine")).await;
    let url = format!("https://{}/", server.address);
    let refused = see_http(http(url.clone())).await;
    assert_eq!(refused.status, Status::Critical);
    assert!(refused.output.contains("tls: invalid peer certificate"), "{}", refused.output);
    let taken = see_http(HttpProbe { tls_skip_verify: true, ..http(url.clone()) }).await;
    assert_eq!(taken, Outcome::new(Status::Passing, format!("HTTP GET {url}: 200 OK Output: fine")));

    let tcp = TcpProbe { address: server.address.to_string(), tls: true, ..TcpProbe::default() };
    assert_eq!(see(Probe::Tcp(tcp.clone()), LONG).await.status, Status::Critical);
    assert_eq!(see(Probe::Tcp(TcpProbe { tls_skip_verify: true, ..tcp }), LONG).await.status, Status::Passing);
}

#[tokio::test]
async fn a_trusted_certificate_must_bear_the_name_that_is_expected() {
    let (root, acceptor) = certificate("web.test");
    let server = Server::start_on("127.0.0.1:0", Some(acceptor), |_| answer("200 OK", "", "fine")).await;
    let tools = Tools { tls: Tls::trusting(root), ..Tools::default() };
    let url = format!("https://{}/", server.address);
    let as_address = see_with(Probe::Http(http(url.clone())), LONG, &tools).await;
    assert_eq!(as_address.status, Status::Critical, "{}", as_address.output);
    let named = HttpProbe { tls_server_name: "web.test".into(), ..http(url) };
    let named = see_with(Probe::Http(named), LONG, &tools).await;
    assert_eq!(named.status, Status::Passing, "{}", named.output);
}

#[tokio::test]
async fn http_to_https_on_the_same_host_is_followed() {
    let (_, acceptor) = certificate("127.0.0.1");
    let secure = Server::start_on("127.0.0.1:0", Some(acceptor), |_| answer("200 OK", "", "secured")).await;
    let to = format!("https://{}/", secure.address);
    let plain = Server::start(move |_| answer("308 Permanent Redirect", &format!("Location: {to}\r\n"), "")).await;
    let outcome = see_http(HttpProbe { tls_skip_verify: true, ..http(plain.url("/")) }).await;
    assert_eq!(outcome.status, Status::Passing, "{}", outcome.output);
    assert!(outcome.output.ends_with("200 OK Output: secured"));
}

#[tokio::test]
async fn exit_codes_become_verdicts_and_both_streams_are_kept() {
    for (script, status, output) in [
        ("echo fine", Status::Passing, "fine\n"),
        ("echo hm; exit 1", Status::Warning, "hm\n"),
        ("echo out; echo bad >&2; exit 2", Status::Critical, "out\nbad\n"),
        ("kill -9 $$", Status::Critical, ""),
    ] {
        let outcome = see_exec(&["/bin/sh", "-c", script], LONG).await;
        assert_eq!(outcome, Outcome::new(status, output.to_owned()), "{script}");
    }
}

#[tokio::test]
async fn no_shell_reads_the_arguments() {
    let outcome = see_exec(&["echo", "$HOME; echo two", "*"], LONG).await;
    assert_eq!(outcome.output, "$HOME; echo two *\n");
}

#[tokio::test]
async fn a_long_output_is_cut_to_its_end() {
    let outcome = see_exec(&["/bin/sh", "-c", "head -c 5000 /dev/zero | tr '\\0' y"], LONG).await;
    assert_eq!(outcome.output, format!("Captured 4096 of 5000 bytes\n...\n{}", "y".repeat(4096)));
}

#[tokio::test]
async fn a_program_that_cannot_start_is_critical_at_once() {
    for (args, said) in [
        (vec!["/no/such/program"], "fork/exec /no/such/program: no such file or directory"),
        (vec!["no-such-program"], "exec: \"no-such-program\": executable file not found in $PATH"),
        (vec!["/etc/passwd"], "fork/exec /etc/passwd: permission denied"),
        (vec![], "no program given"),
    ] {
        let outcome = see_exec(&args, LONG).await;
        assert_eq!(outcome, Outcome { at_once: true, ..Outcome::critical(said.to_owned()) });
    }
}

#[tokio::test]
async fn at_the_timeout_a_script_says_what_it_had_said() {
    let begun = Instant::now();
    let outcome = see_exec(&["/bin/sh", "-c", "echo begun; sleep 60"], SHORT).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    let said = "Timed out (300ms) running check\n\nbegun\n".to_owned();
    assert_eq!(outcome, Outcome { at_once: true, ..Outcome::critical(said) });
    let quiet = see_exec(&["sleep", "60"], SHORT).await;
    assert_eq!(quiet.output, "Timed out (300ms) running check");
}

#[tokio::test]
async fn who_left_the_group_and_holds_the_pipe_is_not_waited_for() {
    let begun = Instant::now();
    let outcome = see_exec(&["/bin/sh", "-c", "echo mine; setsid sleep 3 & exit 0"], SHORT).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!((outcome.status, outcome.at_once), (Status::Critical, true));
}

#[tokio::test]
async fn a_program_that_closes_its_streams_is_waited_for_until_the_timeout() {
    let outcome = see_exec(&["/bin/sh", "-c", "exec >&- 2>&-; sleep 0.1; exit 1"], LONG).await;
    assert_eq!(outcome.status, Status::Warning);
    let begun = Instant::now();
    let outcome = see_exec(&["/bin/sh", "-c", "exec >&- 2>&-; exec sleep 60"], SHORT).await;
    assert!(outcome.at_once && begun.elapsed() < Duration::from_secs(2));
}
