//! Datagrams: answered, swallowed, refused.

use muster_catalog::UdpProbe;
use tokio::net::UdpSocket;

use super::*;

async fn see_udp(address: impl ToString, timeout: Duration) -> Outcome {
    see(Probe::Udp(UdpProbe { address: address.to_string() }), timeout).await
}

#[tokio::test]
async fn an_answer_passes_at_once() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (length, from) = server.recv_from(&mut [0; 16]).await.unwrap();
        assert_eq!(length, 0);
        server.send_to(b"here", from).await.unwrap();
    });
    let begun = Instant::now();
    let outcome = see_udp(address, LONG).await;
    assert_eq!(outcome, Outcome::new(Status::Passing, format!("UDP connect {address}: Success")));
    assert!(begun.elapsed() < LONG / 2);
}

#[tokio::test]
async fn silence_passes_at_the_timeout() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let begun = Instant::now();
    let outcome = see_udp(server.local_addr().unwrap(), SHORT).await;
    assert_eq!(outcome.status, Status::Passing);
    assert!((SHORT..SHORT + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_refusal_is_critical_at_once() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let begun = Instant::now();
    assert_eq!(see_udp(closed, LONG).await, Outcome::critical(format!("udp {closed}: connection refused")));
    assert!(begun.elapsed() < LONG / 2);
    assert_eq!(see_udp("nowhere", LONG).await.output, "dial udp: address nowhere: missing port in address");
}
