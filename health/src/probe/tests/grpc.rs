//! gRPC's health protocol: what servers say, and what is no such server.

use std::convert::Infallible;

use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use muster_catalog::GrpcProbe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// An HTTP/2 server that answers each call with what `answer` makes of the path, the headers and the message.
async fn h2(
    tls: Option<TlsAcceptor>,
    answer: impl Fn(&Request<()>, Bytes) -> Answer + Send + Sync + 'static,
) -> (SocketAddr, JoinSet<()>) {
    let answer = Arc::new(answer);
    serving(move |stream| {
        let (answer, tls) = (answer.clone(), tls.clone());
        async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    Ok::<_, hyper::Error>(answer(&Request::from_parts(head, ()), body))
                }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            match tls {
                None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(server.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        }
    })
    .await
}

fn called(message: &'static [u8], trailers: &'static [(&'static str, &'static str)]) -> Answer {
    let trailers: HeaderMap = trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let body = Full::new(Bytes::from_static(message)).with_trailers(async { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap()
}

fn grpc(target: impl ToString) -> GrpcProbe {
    GrpcProbe { target: target.to_string(), ..GrpcProbe::default() }
}

async fn see_grpc(probe: GrpcProbe) -> Outcome {
    see(Probe::Grpc(probe), LONG).await
}

const SERVES: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const OK: &[(&str, &str)] = &[("grpc-status", "0")];

#[tokio::test]
async fn a_service_that_serves_passes_and_another_is_critical_with_its_state() {
    let (address, _tasks) = h2(None, |request, message| {
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/grpc.health.v1.Health/Check"));
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", "20000m"),
            ("user-agent", "Consul Health Check"),
        ] {
            assert_eq!(request.headers()[name], value);
        }
        match &message[..] {
            b"\0\0\0\0\0" | b"\0\0\0\0\x05\x0a\x03web" => called(SERVES, OK),
            b"\0\0\0\0\x08\x0a\x06a/down" => called(&[0, 0, 0, 0, 2, 8, 2], OK),
            b"\0\0\0\0\x06\x0a\x04mute" => called(&[0, 0, 0, 0, 0], OK),
            b"\0\0\0\0\x07\x0a\x05later" => called(&[0, 0, 0, 0, 2, 8, 9], OK),
            _ => {
                let mut refused = called(b"", &[]);
                *refused.body_mut() = Full::new(Bytes::new()).boxed();
                refused.headers_mut().insert("grpc-status", "5".parse().unwrap());
                refused.headers_mut().insert("grpc-message", "unknown%20service".parse().unwrap());
                refused
            }
        }
    })
    .await;
    let not = "gRPC application didn't report service healthy: the server says of";
    for (target, status, output) in [
        (format!("{address}"), Status::Passing, format!("gRPC check {address}: success")),
        (format!("{address}/web"), Status::Passing, format!("gRPC check {address}/web: success")),
        (format!("{address}/a/down"), Status::Critical, format!("{not} a/down: NOT_SERVING")),
        (format!("{address}/mute"), Status::Critical, format!("{not} mute: UNKNOWN")),
        (format!("{address}/later"), Status::Critical, format!("{not} later: 9")),
        (format!("{address}/no"), Status::Critical, "rpc error: code = NotFound desc = unknown service".to_owned()),
    ] {
        assert_eq!(see_grpc(grpc(target)).await, Outcome::new(status, output));
    }
}

#[tokio::test]
async fn what_is_no_health_answer_is_critical_and_says_why() {
    let (address, _tasks) = h2(None, |_, message| match &message[7..] {
        b"torn" => called(&[0, 0, 0, 0, 9, 8, 1], OK),
        b"zip" => called(&[1, 0, 0, 0, 2, 8, 1], OK),
        b"empty" => called(b"", OK),
        b"untold" => called(SERVES, &[("x-other", "1")]),
        b"odd" => called(SERVES, &[("grpc-status", "99"), ("grpc-message", "odd")]),
        b"html" => {
            let mut page = called(b"<html>", OK);
            page.headers_mut().insert("content-type", "text/html".parse().unwrap());
            page
        }
        b"404" => {
            let mut page = called(b"not here", OK);
            *page.status_mut() = ::http::StatusCode::NOT_FOUND;
            page
        }
        _ => Response::builder().header("content-type", "application/grpc").body(Endless.boxed()).unwrap(),
    })
    .await;
    for (service, said) in [
        ("torn", "code = Internal desc = the answer is no HealthCheckResponse"),
        ("zip", "code = Internal desc = the answer is no HealthCheckResponse"),
        ("empty", "code = Internal desc = the answer is no HealthCheckResponse"),
        ("untold", "code = Internal desc = the stream ended without a status"),
        ("odd", "code = Unknown desc = odd"),
        ("html", "code = Unknown desc = content-type \"text/html\" is not gRPC's"),
        ("404", "code = Unimplemented desc = HTTP status 404 Not Found"),
        ("endless", "code = ResourceExhausted desc = the answer is longer than 4096 bytes"),
    ] {
        let outcome = see_grpc(grpc(format!("{address}/{service}"))).await;
        assert_eq!(outcome, Outcome::critical(format!("rpc error: {said}")), "{service}");
    }
}

/// A body without end.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1000])))))
    }
}

#[tokio::test]
async fn what_speaks_no_http2_is_critical() {
    let (http1, _http1) = serving(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    for target in [http1.to_string(), closed().await.to_string(), "nonsense".to_owned(), "127.0.0.1:port/x".to_owned()] {
        let outcome = see_grpc(grpc(&target)).await;
        assert_eq!(outcome.status, Status::Critical);
        assert!(outcome.output.starts_with("rpc error: code = Unavailable desc = "), "{target}: {}", outcome.output);
    }
    let plain = GrpcProbe { tls: true, ..grpc(http1) };
    assert!(see_grpc(plain).await.output.contains("desc = tls: "));
}

#[tokio::test]
async fn silence_is_critical_at_the_timeout_and_leaves_no_connection() {
    let (gone, left) = std::sync::mpsc::channel();
    let (address, _tasks) = serving(move |mut stream| {
        let gone = gone.clone();
        async move {
            let mut taken = Vec::new();
            let _ = stream.read_to_end(&mut taken).await;
            gone.send(taken).unwrap();
        }
    })
    .await;
    let begun = Instant::now();
    let outcome = see(Probe::Grpc(grpc(address)), SHORT).await;
    assert_eq!(outcome, Outcome::critical("rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned()));
    assert!((SHORT..SHORT + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let taken = tokio::task::spawn_blocking(move || left.recv_timeout(LONG)).await.unwrap().expect("the connection is closed");
    assert!(taken.starts_with(b"PRI * HTTP/2.0"));
}

#[tokio::test]
async fn over_tls_the_certificate_counts_unless_any_is_taken() {
    let (root, acceptor) = certificate("rpc.test");
    let (address, _tasks) = h2(Some(acceptor), |request, _| {
        assert!(matches!(request.uri().host(), Some("rpc.test" | "127.0.0.1")), "{}", request.uri());
        called(SERVES, OK)
    })
    .await;
    let probe = GrpcProbe { tls: true, ..grpc(address) };
    let refused = see_grpc(probe.clone()).await;
    assert!(refused.output.contains("desc = tls: invalid peer certificate"), "{}", refused.output);
    let taken = see_grpc(GrpcProbe { tls_skip_verify: true, ..probe.clone() }).await;
    assert_eq!(taken, Outcome::new(Status::Passing, format!("gRPC check {address}: success")));
    let tools = Tools { tls: Tls::trusting(root), ..Tools::default() };
    let named = Probe::Grpc(GrpcProbe { tls_server_name: "rpc.test".into(), ..probe.clone() });
    assert_eq!(see_with(named, LONG, &tools).await.status, Status::Passing);
    assert_eq!(see_with(Probe::Grpc(probe), LONG, &tools).await.status, Status::Critical);
}
