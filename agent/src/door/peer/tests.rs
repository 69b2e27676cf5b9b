//! The door for other agents on real sockets: who is let in, what is bounded, and what foreign bytes get.
#![allow(clippy::disallowed_methods)] // tests wait and measure

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::rpc::{AddressBook, CallError, Class, Code, Identity, Pool, frame};

const PATIENCE: Duration = Duration::from_secs(20);

/// Echoes queries, counts on a feed until it is left, and keeps orders waiting.
#[derive(Default)]
struct Echo {
    left: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
    closed: AtomicUsize,
}

struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Rooms for Echo {
    fn answer(&self, call: Call) -> BoxFuture<'static, Result<Answer, Refusal>> {
        let (left, waiting) = (self.left.clone(), self.waiting.clone());
        Box::pin(async move {
            match call.method {
                Method::Query => Ok(Answer::Whole(call.body)),
                Method::Feed => {
                    let (sender, frames) = mpsc::channel(4);
                    tokio::spawn(async move {
                        let mut number = 0u32;
                        let piece = vec![7; 200_000];
                        while sender.send(frame(&[&number.to_be_bytes(), &piece[..]].concat())).await.is_ok() {
                            number += 1;
                        }
                        left.store(number as usize, Ordering::SeqCst);
                    });
                    Ok(Answer::Frames(frames))
                }
                Method::Order => {
                    waiting.fetch_add(1, Ordering::SeqCst);
                    let _here = Waiting(waiting);
                    std::future::pending().await
                }
                method => Err(Refusal::new(Code::Failed, format!("no {method:?} today"))),
            }
        })
    }

    fn closed(&self, _caller: Caller) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

fn identity(node: u128) -> Identity {
    let identity = Identity::new(Uuid::from_u128(node), "dc1", Part::Client);
    identity.set_cluster(Uuid::from_u128(100));
    identity
}

struct House {
    address: SocketAddr,
    echo: Arc<Echo>,
    door: Door,
    stop: tokio::sync::oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

/// Node 1 behind its door.
async fn house() -> House {
    house_with(Limits { connections_per_client_max: usize::MAX, ..Limits::default() }).await
}

async fn house_with(limits: Limits) -> House {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = Arc::new(Echo::default());
    let door = Door::new(identity(1), None, echo.clone(), limits);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let served = tokio::spawn(serve(door.clone(), listener, async {
        stopped.await.ok();
    }));
    House { address, echo, door, stop, served }
}

fn pool(identity: Identity, address: SocketAddr) -> Pool {
    let book = AddressBook::new();
    book.set(Uuid::from_u128(1), address);
    Pool::new(identity, book)
}

async fn ask(pool: &Pool, body: impl Into<Bytes>) -> Result<Bytes, CallError> {
    pool.call(Uuid::from_u128(1), Method::Query, body, PATIENCE).await
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_one_connection_and_each_gets_its_own_answer() {
    let house = house().await;
    let pool = pool(identity(2), house.address);
    let asked = (0..500u32).map(|number| {
        let pool = pool.clone();
        async move { assert_eq!(ask(&pool, number.to_string()).await.unwrap(), number.to_string()) }
    });
    futures_util::future::join_all(asked).await;
    assert_eq!(house.door.shared.open.lock().unwrap().get(&Uuid::from_u128(2)), Some(&1));
    // raft has one of its own
    pool.call(Uuid::from_u128(1), Method::Ping, Bytes::new(), PATIENCE).await.unwrap();
    assert_eq!(house.door.shared.open.lock().unwrap().get(&Uuid::from_u128(2)), Some(&2));
    assert!(pool.is_up(Uuid::from_u128(1), Class::Raft));
    assert_eq!(house.echo.closed.load(Ordering::SeqCst), 0);
    drop(pool);
    eventually("the last connection's end is told", || house.echo.closed.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_flows_as_its_reader_reads_and_ends_when_it_is_dropped() {
    let house = house().await;
    let pool = pool(identity(2), house.address);
    let mut frames = pool.stream(Uuid::from_u128(1), Method::Feed, Bytes::new(), PATIENCE).await.unwrap();
    for number in 0..50u32 {
        let piece = timeout(PATIENCE, frames.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(piece[..4], number.to_be_bytes());
        assert_eq!(piece.len(), 200_004);
    }
    drop(frames);
    eventually("the writer is told", || house.echo.left.load(Ordering::SeqCst) > 0).await;
    let written = house.echo.left.load(Ordering::SeqCst);
    assert!(written < 100, "{written} pieces were written for 50 that were read");
    // the connection lives on
    assert_eq!(ask(&pool, "x").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_given_up_is_dropped_at_the_peer_too() {
    let house = house().await;
    let pool = pool(identity(2), house.address);
    let limit = Duration::from_millis(100);
    let given_up = pool.call(Uuid::from_u128(1), Method::Order, Bytes::new(), limit).await.unwrap_err();
    assert!(matches!(given_up, CallError::Timeout { .. } | CallError::Refused { .. }) && !given_up.is_undone(), "{given_up}");
    eventually("nobody waits there", || house.echo.waiting.load(Ordering::SeqCst) == 0).await;
    let dropped = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call(Uuid::from_u128(1), Method::Order, Bytes::new(), PATIENCE).await }
    });
    eventually("it waits there", || house.echo.waiting.load(Ordering::SeqCst) == 1).await;
    dropped.abort();
    eventually("nobody waits there", || house.echo.waiting.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_fit_is_refused_with_one_message() {
    let house = house().await;
    let stranger = Identity::new(Uuid::from_u128(3), "dc1", Part::Server);
    stranger.set_cluster(Uuid::from_u128(101));
    let refused = ask(&pool(stranger, house.address), "x").await.unwrap_err();
    assert!(refused.is_undone());
    let text = refused.to_string();
    assert!(text.contains(&Uuid::from_u128(100).to_string()) && text.contains(&Uuid::from_u128(101).to_string()), "{text}");
    let elsewhere = Identity::new(Uuid::from_u128(3), "dc2", Part::Server);
    elsewhere.set_cluster(Uuid::from_u128(100));
    let text = ask(&pool(elsewhere, house.address), "x").await.unwrap_err().to_string();
    assert!(text.contains("dc1") && text.contains("dc2"), "{text}");
    // a node that is looked for at an address where another answers
    let book = AddressBook::new();
    book.set(Uuid::from_u128(9), house.address);
    let text = Pool::new(identity(2), book).call(Uuid::from_u128(9), Method::Query, "x", PATIENCE).await.unwrap_err().to_string();
    assert!(text.contains(&Uuid::from_u128(9).to_string()), "{text}");
    let nobody = Pool::new(identity(2), AddressBook::new());
    assert!(ask(&nobody, "x").await.unwrap_err().is_undone());
    assert!(house.door.shared.open.lock().unwrap().is_empty(), "none of them was let in");
    assert_eq!(ask(&pool(identity(2), house.address), "x").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_came_later_is_found_and_one_that_restarted_is_dialled_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let pool = pool(identity(2), address);
    assert!(ask(&pool, "x").await.unwrap_err().is_undone());
    for _ in 0..3 {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let listener = {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(address).unwrap();
            socket.listen(16).unwrap()
        };
        let door = Door::new(identity(1), None, Arc::new(Echo::default()), Limits::default());
        let served = tokio::spawn(serve(door, listener, async {
            stopped.await.ok();
        }));
        let until = Instant::now() + PATIENCE;
        while let Err(error) = ask(&pool, "y").await {
            assert!(Instant::now() < until, "{error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.send(()).unwrap();
        timeout(PATIENCE, served).await.unwrap().unwrap();
        assert!(ask(&pool, "z").await.unwrap_err().is_undone());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_their_bound_are_refused() {
    let house = house().await;
    let pool = pool(identity(2), house.address);
    let most = Method::Query.body_bytes_max();
    assert_eq!(ask(&pool, vec![1; most]).await.unwrap().len(), most);
    let refused = ask(&pool, vec![1; most + 1]).await.unwrap_err();
    assert!(matches!(&refused, CallError::Refused { refusal, .. } if refusal.code == Code::TooLarge), "{refused}");
    assert_eq!(ask(&pool, "x").await.unwrap(), "x");
    // raft's methods are for servers
    let refused = pool.call(Uuid::from_u128(1), Method::Append, "x", PATIENCE).await.unwrap_err();
    assert!(matches!(&refused, CallError::Refused { refusal, .. } if refusal.code == Code::Method), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_connections_and_strangers_so_much_time() {
    let house = house_with(Limits { handshake_timeout: Duration::from_millis(300), connections_per_client_max: 2 }).await;
    let pool = pool(identity(2), house.address);
    assert_eq!(ask(&pool, "x").await.unwrap(), "x");
    let begun = Instant::now();
    let mut silent = TcpStream::connect(house.address).await.unwrap();
    let mut beyond = TcpStream::connect(house.address).await.unwrap();
    assert!(is_closed(&mut beyond).await);
    assert!(begun.elapsed() < Duration::from_millis(300));
    assert!(is_closed(&mut silent).await);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    // Its place is free again, and the one that talks was never touched.
    eventually("the place is free", || house.door.shared.from.lock().unwrap().values().sum::<usize>() == 1).await;
    assert_eq!(ask(&pool, "y").await.unwrap(), "y");
    pool.call(Uuid::from_u128(1), Method::Ping, Bytes::new(), PATIENCE).await.unwrap();
}

/// Whether the other side has closed the connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 4096];
    timeout(PATIENCE, async {
        loop {
            match stream.read(&mut rest).await {
                Ok(0) | Err(_) => return true,
                Ok(_) => {}
            }
        }
    })
    .await
    .unwrap_or(false)
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_bytes_are_dropped_and_the_door_stays() {
    let house = house().await;
    let pool = pool(identity(2), house.address);
    assert_eq!(ask(&pool, "x").await.unwrap(), "x");
    let mut rng = SmallRng::seed_from_u64(7);
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for round in 0..200u32 {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        let mut bytes: Vec<u8> = (0..rng.random_range(1..2000)).map(|_| rng.random()).collect();
        match round % 5 {
            0 => {}
            4 => bytes.splice(..0, *b"mLn1").for_each(drop),
            1 => bytes.splice(..0, PREFACE.iter().copied()).for_each(drop),
            2 => bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            _ => bytes = PREFACE[..rng.random_range(0..PREFACE.len())].to_vec(),
        }
        // the other side may have closed in the middle
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        assert!(is_closed(&mut stream).await, "round {round}");
    }
    // frames that are well-formed and announce more than may be
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let mut bytes = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    bytes.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]); // 16 MB of data on a stream that is not open
    stream.write_all(&bytes).await.unwrap();
    assert!(is_closed(&mut stream).await);
    assert_eq!(ask(&pool, "x").await.unwrap(), "x");
    eventually("all places are given back", || {
        house.door.shared.strangers.available_permits() == 256 && house.door.shared.open.lock().unwrap().len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_from_server_to_server() {
    let house = house().await;
    let to = crate::rpc::Target::from(Uuid::from_u128(1));
    let refused = pool(identity(2), house.address).line(to).await.expect_err("neither is a server");
    assert!(matches!(&refused, CallError::Refused { refusal, .. } if refusal.code == Code::Method), "{refused}");
    let other = Identity::new(Uuid::from_u128(2), "dc1", Part::Server);
    other.set_cluster(Uuid::from_u128(101));
    let refused = pool(other, house.address).line(to).await.expect_err("of another cluster");
    assert!(matches!(&refused, CallError::Refused { refusal, .. } if refusal.code == Code::Cluster), "{refused}");
    eventually("all places are given back", || house.door.shared.strangers.available_permits() == 256).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_before_the_hello_are_refused_and_the_connection_ends() {
    let house = house().await;
    let stream = TcpStream::connect(house.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    let driven = tokio::spawn(connection);
    for (path, code) in [("/1/query", Code::NoHello), ("/1/hello", Code::Body)] {
        let request = http::Request::post(format!("http://muster{path}")).body(http_body_util::Full::new(Bytes::from("junk")));
        let Ok(response) = sender.send_request(request.unwrap()).await else { break };
        assert_eq!(response.status(), http::StatusCode::CONFLICT);
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        assert_eq!(Refusal::decode(&body).code, code);
    }
    timeout(PATIENCE, driven).await.expect("it ends").unwrap().ok();
    // who connects and says nothing is closed as well
    let mut silent = TcpStream::connect(house.address).await.unwrap();
    assert!(is_closed(&mut silent).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_door_ends_what_is_under_way_within_a_bound() {
    let house = house().await;
    let pool = pool(identity(2), house.address);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call(Uuid::from_u128(1), Method::Order, Bytes::new(), PATIENCE).await }
    });
    eventually("it waits there", || house.echo.waiting.load(Ordering::SeqCst) == 1).await;
    let started = Instant::now();
    house.stop.send(()).unwrap();
    timeout(PATIENCE, house.served).await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(3));
    let error = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap_err();
    assert!(!error.is_undone(), "{error}");
}
