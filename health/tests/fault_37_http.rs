//! Fault 37: an HTTP check against a tarpit, a redirect, a body of a gigabyte, bad TLS, a name that is IPv6 only.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // tests look at the clock and may panic

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Running, SECOND, eventually, http, resident};
use muster_catalog::{CheckDefinition, Probe, Status};
use muster_health::{Config, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The first verdict on a definition.
async fn look(definition: CheckDefinition) -> Verdict {
    let mut running = Running::start(Config::default());
    running.handle.set(definition, 1);
    let verdict = running.verdict().await;
    running.stop().await;
    verdict
}

async fn serve<F: Future<Output = ()> + Send + 'static>(
    at: &str,
    with: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            if matches!(stream.read(&mut request).await, Ok(1..)) {
                connections.spawn(with(stream));
            }
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn a_tarpit_is_critical_at_the_timeout_and_not_later() {
    let accepted = Arc::new(std::sync::Mutex::new(None));
    let since = accepted.clone();
    let (address, _tasks) = serve("127.0.0.1:0", move |mut stream| {
        *since.lock().unwrap() = Some(Instant::now());
        async move {
            // A byte of a status line that never ends.
            while stream.write_all(b"H").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    })
    .await;
    let definition = http("tarpit", format!("http://{address}/"));
    let verdict = look(CheckDefinition { timeout: Some(SECOND), ..definition }).await;
    let took = accepted.lock().unwrap().unwrap().elapsed();
    assert_eq!(verdict.status, Status::Critical);
    assert!(took < 2 * SECOND, "{took:?}: {}", verdict.output);
    println!("critical {took:?} after the request: {}", verdict.output);
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let (inner, _inner) = serve("127.0.0.1:0", move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async {}
    })
    .await;
    let (address, _tasks) = serve("127.0.0.1:0", move |mut stream| async move {
        let text = format!("HTTP/1.1 302 Found\r\nLocation: http://{inner}/secret\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(text.as_bytes()).await;
    })
    .await;
    let verdict = look(http("redirect", format!("http://{address}/"))).await;
    assert_eq!(verdict.status, Status::Critical);
    assert!(verdict.output.contains("is not followed: another host"), "{}", verdict.output);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_of_a_gigabyte_costs_nothing() {
    const BODY: u64 = 1 << 30;
    let sent = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicUsize::new(0));
    let (counter, ended) = (sent.clone(), done.clone());
    let (address, _tasks) = serve("127.0.0.1:0", move |mut stream| {
        let (counter, ended) = (counter.clone(), ended.clone());
        async move {
            let chunk = [b'x'; 64 * 1024];
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            while counter.load(Ordering::SeqCst) < BODY && stream.write_all(&chunk).await.is_ok() {
                counter.fetch_add(chunk.len() as u64, Ordering::SeqCst);
            }
            ended.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let before = resident();
    let verdict = look(CheckDefinition { interval: 2 * SECOND, ..http("body", format!("http://{address}/")) }).await;
    assert_eq!(verdict.status, Status::Passing);
    assert_eq!(verdict.output.matches('x').count(), 4096);
    eventually("the server sees that nobody reads on", || done.load(Ordering::SeqCst) > 0).await;
    let (sent, grown) = (sent.load(Ordering::SeqCst), resident().saturating_sub(before));
    println!("{sent} of {BODY} bytes sent, memory grown by {grown}");
    assert!(sent < 32 << 20, "{sent} bytes were taken");
    assert!(grown < 16 << 20, "memory grew by {grown}");
}

#[tokio::test]
async fn what_is_no_tls_and_what_never_shakes_hands_is_critical() {
    let (plain, _plain) = serve("127.0.0.1:0", |mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let verdict = look(http("plain", format!("https://{plain}/"))).await;
    assert_eq!(verdict.status, Status::Critical);
    assert!(verdict.output.contains("tls: "), "{}", verdict.output);

    let (silent, _silent) = serve("127.0.0.1:0", |stream| async move {
        tokio::time::sleep(600 * SECOND).await;
        drop(stream);
    })
    .await;
    let definition = http("silent", format!("https://{silent}/"));
    let verdict = look(CheckDefinition { timeout: Some(SECOND / 2), ..definition }).await;
    assert!(verdict.output.ends_with("TLS handshake timeout"), "{}", verdict.output);
}

#[tokio::test]
async fn a_certificate_nobody_signed_is_refused_unless_the_check_takes_any() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    let strict = http("tls", url.clone());
    let verdict = look(strict.clone()).await;
    assert_eq!(verdict.status, Status::Critical);
    assert!(verdict.output.contains("tls: invalid peer certificate"), "{}", verdict.output);
    let Probe::Http(probe) = strict.probe.clone() else { unreachable!("it is HTTP") };
    let any = Probe::Http(muster_catalog::HttpProbe { tls_skip_verify: true, ..probe });
    let verdict = look(CheckDefinition { probe: any, ..strict }).await;
    assert_eq!((verdict.status, verdict.output), (Status::Passing, format!("HTTP GET {url}: 200 OK Output: fine")));
}

#[tokio::test]
async fn a_name_whose_service_listens_on_ipv6_only_is_reached() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6 loopback: not tried");
        return;
    }
    let (address, _tasks) = serve("[::1]:0", |mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nsix").await;
    })
    .await;
    for name in ["localhost", "ip6-localhost"] {
        use std::net::ToSocketAddrs;
        if !(name, 0).to_socket_addrs().is_ok_and(|mut found| found.any(|found| found.is_ipv6())) {
            eprintln!("on this machine {name} is not IPv6: not tried");
            continue;
        }
        let verdict = look(http("six", format!("http://{name}:{}/", address.port()))).await;
        assert_eq!(verdict.status, Status::Passing, "{}", verdict.output);
    }
}
