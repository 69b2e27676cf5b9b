//! Connections: tarpits, TCP, IPv6, TLS.

use super::*;

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

/// A server that asks who is there, and answers nobody else.
fn guarded(own: &rcgen::CertifiedKey<rcgen::KeyPair>, known: &rcgen::CertifiedKey<rcgen::KeyPair>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(known.cert.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![own.cert.der().clone()], PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into()))
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A file as certificates and keys lie on disks.
fn pem(what: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

#[tokio::test]
async fn with_the_agents_tls_a_check_introduces_itself_and_trusts_its_roots() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (server, agent) = (made("node.test"), made("agent.test"));
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("roots")).unwrap();
    std::fs::write(path("roots/a.pem"), pem("CERTIFICATE", server.cert.der())).unwrap();
    std::fs::write(path("agent.pem"), pem("CERTIFICATE", agent.cert.der())).unwrap();
    std::fs::write(path("agent.key"), pem("PRIVATE KEY", &agent.signing_key.serialize_der())).unwrap();
    let identity = (path("agent.pem"), path("agent.key"));
    let load = |roots: &str, named: bool, name: &str| {
        AgentTls::load(&[path(roots)], named.then_some((identity.0.as_path(), identity.1.as_path())), name.to_owned())
    };
    let listening = Server::start_on("127.0.0.1:0", Some(guarded(&server, &agent)), |_| answer("200 OK", "", "fine")).await;
    let probe = || http(format!("https://{}/", listening.address));
    let see = async |tls: AgentTls, probe: HttpProbe| {
        let tools = Tools { tls: Tls::of_agent(tls), ..Tools::default() };
        see_with(Probe::Http(probe), LONG, &tools).await.status
    };
    assert_eq!(see(load("roots", true, "node.test").unwrap(), probe()).await, Status::Passing);
    let any = HttpProbe { tls_skip_verify: true, ..probe() };
    assert_eq!(see(load("agent.pem", true, "").unwrap(), any.clone()).await, Status::Passing);
    assert_eq!(see(load("roots", false, "node.test").unwrap(), any).await, Status::Critical, "nobody is not answered");
    assert_eq!(see(load("agent.pem", true, "node.test").unwrap(), probe()).await, Status::Critical, "another root");
    assert_eq!(see(load("roots", true, "").unwrap(), probe()).await, Status::Critical, "named by its address");
    let named = HttpProbe { tls_server_name: "node.test".into(), ..probe() };
    assert_eq!(see(load("roots", true, "other.test").unwrap(), named).await, Status::Passing, "the check's own name goes first");

    let said = |roots: &str| load(roots, true, "").unwrap_err().to_string();
    assert!(said("none.pem").contains("none.pem cannot be read as PEM: "), "{}", said("none.pem"));
    assert!(said("agent.key").ends_with("no certificate is in it"), "{}", said("agent.key"));
    let own = path("agent.pem");
    let unfit = AgentTls::load(&[], Some((path("roots/a.pem").as_path(), identity.1.as_path())), String::new());
    assert!(matches!(unfit.unwrap_err(), crate::TlsError::Unfit(_)));
    assert!(AgentTls::load(&[], Some((own.as_path(), own.as_path())), String::new()).is_err());
}
