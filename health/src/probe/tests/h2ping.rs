//! HTTP/2 pings.

use super::*;

fn plain(address: SocketAddr) -> TcpProbe {
    TcpProbe { address: address.to_string(), ..TcpProbe::default() }
}

async fn see_ping(probe: TcpProbe) -> Outcome {
    see(Probe::H2Ping(probe), LONG).await
}

/// A server of hyper's that answers no request.
async fn h2(tls: Option<TlsAcceptor>) -> (SocketAddr, JoinSet<()>) {
    serving(move |stream| {
        let tls = tls.clone();
        async move {
            let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            let service = hyper::service::service_fn(|_| async {
                Ok::<_, std::convert::Infallible>(::http::Response::new(http_body_util::Full::new(bytes::Bytes::new())))
            });
            match tls {
                None => drop(server.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(server.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await);
                    }
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_ping_that_is_acknowledged_passes_in_the_clear_and_over_tls() {
    let (address, _tasks) = h2(None).await;
    let passed = Outcome::new(Status::Passing, "HTTP2 ping was successful".to_owned());
    assert_eq!(see_ping(plain(address)).await, passed);
    let (root, acceptor) = certificate("ping.test");
    let (address, _tls) = h2(Some(acceptor)).await;
    let probe = TcpProbe { tls: true, ..plain(address) };
    let refused = see_ping(probe.clone()).await;
    let begins = format!("Failed to dial to {address}: tls: invalid peer certificate");
    assert!(refused.output.starts_with(&begins), "{}", refused.output);
    assert_eq!(see_ping(TcpProbe { tls_skip_verify: true, ..probe.clone() }).await, passed);
    let tools = Tools { tls: Tls::trusting(root), ..Tools::default() };
    let named = Probe::H2Ping(TcpProbe { tls_server_name: "ping.test".into(), ..probe });
    assert_eq!(see_with(named, LONG, &tools).await, passed);
}

/// What comes of a server that says this and then closes.
async fn told(says: &'static [u8]) -> Outcome {
    let (address, _tasks) = serving(move |mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(says).await;
        let _ = stream.shutdown().await;
        while let Ok(1..) = stream.read(&mut [0; 1024]).await {}
    })
    .await;
    see_ping(plain(address)).await
}

#[tokio::test]
async fn a_server_that_does_not_acknowledge_is_critical_and_why_is_told() {
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let with = |more: &[u8]| -> &'static [u8] { Box::leak([settings, more].concat().into_boxed_slice()) };
    let flood: Vec<u8> = [0, 0x40, 0, 0, 0, 0, 0, 0, 1].into_iter().chain([0; 0x4000]).collect();
    for (says, why) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "the answer does not begin as HTTP/2: it is in HTTP/1"),
        (b"220 mail.test ESMTP\r\n", "the answer does not begin as HTTP/2"),
        (b"", "the connection was closed"),
        (with(&[]), "the connection was closed"),
        (with(&[0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]), "the connection was closed"),
        (with(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]), "the server goes away with error 11"),
        (with(&[0, 0, 0, 7, 0, 0, 0, 0, 0]), "the server goes away with error 0"),
        (with(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]), "a frame of 16777215 bytes"),
        (with(&flood.repeat(5)), "no acknowledgement within 65536 bytes"),
    ] {
        assert_eq!(told(says).await, Outcome::critical(format!("HTTP2 ping failed: {why}")));
    }
    let closed = closed().await;
    let refused = format!("Failed to dial to {closed}: dial tcp {closed}: connect: connection refused");
    assert_eq!(see_ping(plain(closed)).await, Outcome::critical(refused));
    let (silent, _silent) = serving(|stream| async move {
        tokio::time::sleep(LONG).await;
        drop(stream);
    })
    .await;
    let late = see(Probe::H2Ping(plain(silent)), SHORT).await;
    assert_eq!(late, Outcome::critical("HTTP2 ping failed: context deadline exceeded".to_owned()));
}

#[tokio::test]
async fn pings_and_settings_of_the_server_are_acknowledged() {
    let (address, _tasks) = serving(|mut stream| async move {
        let mut begin = vec![0; 24 + 9 + 6 + 9 + 8];
        stream.read_exact(&mut begin).await.unwrap();
        let ping = b"\0\0\x08\x06\0\0\0\0\0theirs!!";
        stream.write_all(&[&[0, 0, 0, 4, 0, 0, 0, 0, 0], &ping[..]].concat()).await.unwrap();
        let mut acknowledged = vec![0; 9 + 9 + 8];
        stream.read_exact(&mut acknowledged).await.unwrap();
        assert_eq!(acknowledged, b"\0\0\0\x04\x01\0\0\0\0\0\0\x08\x06\x01\0\0\0\0theirs!!");
        let own = begin.split_off(begin.len() - 8);
        stream.write_all(&[&b"\0\0\x08\x06\x01\0\0\0\0"[..], &own].concat()).await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    assert_eq!(see_ping(plain(address)).await.status, Status::Passing);
}
