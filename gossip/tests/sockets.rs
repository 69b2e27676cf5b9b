//! Whole drivers with real sockets on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_gossip::{
    Config, Event, Ground, Handle, JoinError, Joined, Key, KeyAct, Keyring, Kind, Outcome, Sockets, State, Timing, Why, new,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use uuid::Uuid;

const KEY_ONE: &str = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s=";
const KEY_TWO: &str = "jbuQMI4gMUeh1PPmKOtiBZz5z7CNYqBH4lLwzQ2m1IQ=";

struct Agent {
    handle: Handle,
    addr: SocketAddr,
    driver: JoinHandle<()>,
}

impl Agent {
    /// As if the process were killed: the sockets are closed, nobody says good-bye.
    async fn kill(self) -> Handle {
        self.driver.abort();
        let _ = self.driver.await;
        self.handle
    }
}

fn ring(keys: &[&str]) -> Keyring {
    Keyring::new(keys.iter().map(|key| Key::parse(key).expect("a key"))).expect("few keys")
}

/// Consul's timing under `-dev`: the same protocol, in a tenth of the time.
fn quick() -> Timing {
    let tenth = Duration::from_millis(100);
    Timing { gossip_interval: tenth / 4, probe_interval: tenth, probe_timeout: tenth / 2, ..Timing::default() }
}

async fn start(name: &str, change: impl FnOnce(Config) -> Config) -> Agent {
    start_at("127.0.0.1:0".parse().expect("an address"), name, change).await
}

async fn start_at(addr: SocketAddr, name: &str, change: impl FnOnce(Config) -> Config) -> Agent {
    let sockets = Sockets::bind(addr).await.expect("a free port");
    let addr = sockets.addr();
    let seed = addr.port().into();
    let config = Config { timing: quick(), ..Config::new(Uuid::from_u128(u128::from(addr.port()) + 1), name, addr) };
    let (handle, driver) = new(change(config), seed).expect("a good configuration");
    #[allow(clippy::disallowed_methods)] // a test ends what it starts
    let driver = tokio::spawn(driver.run(sockets, std::future::pending()));
    Agent { handle, addr, driver }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not within 20 s: {what}"));
}

fn state(handle: &Handle, name: &str) -> Option<State> {
    handle.members().iter().find(|member| member.name() == name).map(|member| member.state)
}

fn alive(handle: &Handle) -> usize {
    handle.members().iter().filter(|member| member.state == State::Alive).count()
}

/// Three that joined through the first.
async fn three(change: impl Fn(Config) -> Config) -> [Agent; 3] {
    let a = start("a", &change).await;
    assert!(a.handle.found(Uuid::from_u128(7)).await.expect("nothing to keep"));
    let (b, c) = (start("b", &change).await, start("c", &change).await);
    for agent in [&b, &c] {
        for (_, joined) in agent.handle.join([a.addr]).await {
            assert_eq!(joined.expect("it is let in"), Joined::In);
        }
    }
    eventually("all three know each other", || [&a, &b, &c].iter().all(|agent| alive(&agent.handle) == 3)).await;
    [a, b, c]
}

/// Whether a member answered an agent over UDP.
fn reaches(from: &Agent, to: &Agent) -> bool {
    let node = to.handle.identity().node;
    from.handle.reach().iter().any(|(member, reach)| *member == node && reach.udp.is_some())
}

#[tokio::test]
async fn packets_go_between_the_families_where_both_ends_have_both() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        #[allow(clippy::print_stderr)] // a test says what it does not judge
        {
            eprintln!("not judged: this host has no IPv6");
        }
        return;
    }
    let (both, ipv4) = (|| "[::]:0".parse().expect("an address"), || "127.0.0.1:0".parse().expect("an address"));
    let telling = |ip: &str| {
        let ip: std::net::IpAddr = ip.parse().expect("an address");
        move |config: Config| Config { advertise: (ip, config.advertise.port()).into(), ..config }
    };
    let a = start_at(both(), "a", telling("127.0.0.1")).await;
    assert!(a.handle.found(Uuid::from_u128(7)).await.expect("nothing to keep"));
    let (b, c) = (start_at(both(), "b", telling("::1")).await, start_at(ipv4(), "c", |config| config).await);
    for agent in [&b, &c] {
        for (_, joined) in agent.handle.join([a.handle.identity().addr]).await {
            assert_eq!(joined.expect("it is let in"), Joined::In);
        }
    }
    eventually("all of both families answer each other", || {
        [(&a, &b), (&b, &a), (&a, &c), (&c, &a)].iter().all(|(from, to)| reaches(from, to))
    })
    .await;
    // what goes to the other family cannot leave its socket: others and TCP have to answer for it, and do
    assert!(!reaches(&c, &b) && [&a, &b, &c].iter().all(|agent| alive(&agent.handle) == 3));
}

#[tokio::test]
async fn three_join_one_is_killed_and_one_leaves() {
    let [a, b, c] = three(|config| config).await;
    let mut events = a.handle.subscribe();
    c.kill().await;
    eventually("c has failed", || state(&a.handle, "c") == Some(State::Failed) && state(&b.handle, "c") == Some(State::Failed))
        .await;
    let down = loop {
        if let Event::Down(member) = events.recv().await.expect("events go on") {
            break member;
        }
    };
    assert_eq!((down.name(), down.cause.kind, down.cause.by.is_some()), ("c", Kind::Refused, true));
    b.handle.leave(true).await;
    eventually("b has left", || state(&a.handle, "b") == Some(State::Left)).await;
    loop {
        if let Event::Left(member) = events.recv().await.expect("events go on") {
            assert_eq!((member.name(), member.cause.kind), ("b", Kind::Left));
            break;
        }
    }
    a.handle.force_leave("c").expect("it failed");
    assert_eq!(state(&a.handle, "c"), Some(State::Left));
}

#[tokio::test]
async fn a_killed_agent_that_is_checked_is_known_dead_by_all_within_a_second() {
    let [a, b, c] = three(|config| Config { timing: Timing::default(), ..config }).await;
    let mut events = a.handle.subscribe();
    let (living, dead) = (b.handle.identity().node, c.handle.identity().node);
    assert!(a.handle.check(living));
    let proof = loop {
        if let Event::Checked(proof) = events.recv().await.expect("events go on") {
            break proof;
        }
    };
    assert_eq!((proof.identity.node, proof.outcome), (living, Outcome::Lives));
    c.kill().await;
    assert!(a.handle.check(dead));
    let known = eventually("both know", || [&a, &b].iter().all(|agent| state(&agent.handle, "c") == Some(State::Failed)));
    tokio::time::timeout(Duration::from_secs(1), known).await.expect("it takes no second");
    let member = b.handle.members().iter().find(|member| member.node() == dead).cloned().expect("it is listed");
    assert!(member.accusations.iter().all(|accusation| accusation.ground == Ground::Refused), "{:?}", member.accusations);
}

#[tokio::test]
async fn a_restarted_agent_finds_its_peers_by_itself() {
    let [a, b, c] = three(|config| config).await;
    let (node, addr, peers) = (c.handle.identity().node, c.addr, c.handle.kept_peers());
    assert_eq!(peers.len(), 2);
    c.kill().await;
    let again = start("c", |config| Config {
        node,
        epoch: 2 << 16,
        cluster: Some(Uuid::from_u128(7)),
        kept_peers: peers.iter().map(|peer| peer.addr).collect(),
        ..config
    })
    .await;
    eventually("it is back", || [&a, &b, &again].iter().all(|agent| alive(&agent.handle) == 3)).await;
    assert_ne!(again.addr, addr, "at another address, which the old one does not hold any more");
}

#[tokio::test]
async fn an_agent_comes_back_to_its_port_while_its_old_handle_lives() {
    let [a, b, c] = three(|config| config).await;
    let (node, addr) = (c.handle.identity().node, c.addr);
    let _old = c.kill().await;
    let cluster = Some(Uuid::from_u128(7));
    let again = start_at(addr, "c", |config| Config { node, epoch: 2 << 16, cluster, kept_peers: vec![a.addr], ..config }).await;
    let is_new = |agent: &Agent| agent.handle.members().iter().any(|member| member.identity == again.handle.identity());
    eventually("it is back in its next life", || is_new(&a) && is_new(&b) && alive(&again.handle) == 3).await;
}

#[tokio::test]
async fn agents_meet_over_ipv6() {
    let loopback: SocketAddr = "[::1]:0".parse().expect("an address");
    if UdpSocket::bind(loopback).await.is_err() {
        eprintln!("this host has no IPv6");
        return;
    }
    let keys = || ring(&[KEY_ONE]);
    let a = start_at(loopback, "a", |config| Config { keys: keys(), ..config }).await;
    a.handle.found(Uuid::from_u128(7)).await.expect("nothing to keep");
    let b = start_at(loopback, "b", |config| Config { keys: keys(), ..config }).await;
    assert_eq!(b.handle.join([a.addr]).await.remove(0).1.expect("it is let in"), Joined::In);
    eventually("they know each other", || alive(&a.handle) == 2 && alive(&b.handle) == 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((alive(&a.handle), alive(&b.handle)), (2, 2), "and their packets arrive");
    assert_eq!(a.handle.drops(), BTreeMap::new());
}

#[tokio::test]
async fn an_encrypted_cluster_changes_its_key_while_it_runs() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let [a, b, c] = three(|config| {
        let kept = kept.clone();
        let mut config = Config { keys: ring(&[KEY_ONE]), ..config };
        config.keep.keys = Arc::new(move |ring: &Keyring| {
            kept.lock().expect("no holder panics").push(ring.keys().len());
            Ok(())
        });
        config
    })
    .await;
    for act in [KeyAct::Install(KEY_TWO.into()), KeyAct::Use(KEY_TWO.into()), KeyAct::Remove(KEY_ONE.into())] {
        let answer = a.handle.keys(&act).await.expect("encryption is on");
        assert_eq!((answer.nodes.len(), answer.errors().count()), (3, 0), "{answer:?}");
    }
    let answer = b.handle.keys(&KeyAct::List).await.expect("encryption is on");
    assert_eq!(answer.keys(), BTreeMap::from([(KEY_TWO, 3)]));
    assert_eq!(answer.primary_keys(), BTreeMap::from([(KEY_TWO, 3)]));
    assert_eq!(kept.lock().expect("no holder panics").len(), 9, "each ring was kept each time");
    let refused = a.handle.keys(&KeyAct::Remove(KEY_TWO.into())).await.expect("encryption is on");
    assert_eq!(refused.errors().count(), 3, "the primary key stays");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!([&a, &b, &c].iter().all(|agent| alive(&agent.handle) == 3), "nobody was lost");
}

#[tokio::test]
async fn a_wrong_key_is_said_on_both_sides() {
    let [a, ..] = three(|config| Config { keys: ring(&[KEY_ONE]), ..config }).await;
    let mut events = a.handle.subscribe();
    for keys in [ring(&[KEY_TWO]), Keyring::default()] {
        let stranger = start("stranger", |config| Config { keys, ..config }).await;
        let joined = stranger.handle.join([a.addr]).await.remove(0).1;
        let Err(JoinError::Refused { source, .. }) = joined else { panic!("{joined:?}") };
        assert_eq!(source.why, Why::Key);
        assert!(source.text.contains("encrypt"), "{source}");
        let Ok(Event::Refused { refusal, .. }) = events.recv().await else { panic!("it is told here too") };
        assert_eq!(refusal, source);
        assert_eq!(stranger.handle.cluster(), None);
    }
}

#[tokio::test]
async fn a_copy_a_taken_name_and_another_cluster_are_refused() {
    let [a, b, _c] = three(|config| config).await;
    let why = async |agent: &Agent, to: SocketAddr| match agent.handle.join([to]).await.remove(0).1 {
        Err(JoinError::Refused { source, .. }) => source.why,
        other => panic!("{other:?}"),
    };
    let node = b.handle.identity().node;
    let copy = start("other-name", |config| Config { node, cluster: Some(Uuid::from_u128(7)), ..config }).await;
    assert_eq!(why(&copy, a.addr).await, Why::Id);
    let namesake = start("b", |config| config).await;
    assert_eq!(why(&namesake, a.addr).await, Why::Name);
    let foreign = start("foreign", |config| config).await;
    foreign.handle.found(Uuid::from_u128(8)).await.expect("nothing to keep");
    assert_eq!(why(&foreign, a.addr).await, Why::Cluster);
    assert_eq!(why(&a, foreign.addr).await, Why::Cluster);
    let elsewhere = start("elsewhere", |config| Config { datacenter: "dc2".into(), ..config }).await;
    assert_eq!(why(&elsewhere, a.addr).await, Why::Datacenter);
    assert_eq!(alive(&a.handle), 3);
}

#[tokio::test]
async fn the_cluster_id_is_kept_before_it_is_used() {
    let a = start("a", |config| config).await;
    a.handle.found(Uuid::from_u128(7)).await.expect("nothing to keep");
    let kept = Arc::new(Mutex::new(None));
    let b = start("b", |mut config| {
        let kept = kept.clone();
        config.keep.cluster = Arc::new(move |id| {
            kept.lock().expect("no holder panics").replace(id);
            Ok(())
        });
        config
    })
    .await;
    assert_eq!(b.handle.join([a.addr]).await.remove(0).1.expect("it is let in"), Joined::In);
    assert_eq!(*kept.lock().expect("no holder panics"), Some(Uuid::from_u128(7)));
    let c = start("c", |mut config| {
        config.keep.cluster = Arc::new(|_| Err(std::io::Error::other("the disk is full")));
        config
    })
    .await;
    assert!(matches!(c.handle.join([a.addr]).await.remove(0).1, Err(JoinError::Own { .. })));
    assert_eq!((c.handle.cluster(), c.handle.is_inside()), (None, false), "what cannot be kept is not used");
}

#[tokio::test]
async fn those_that_wait_are_in_within_a_second_of_the_founding() {
    let agents = [start("a", |config| config).await, start("b", |config| config).await, start("c", |config| config).await];
    for agent in &agents[1..] {
        assert_eq!(agent.handle.join([agents[0].addr]).await.remove(0).1.expect("it answers"), Joined::Waiting);
    }
    eventually("they know of each other", || agents.iter().all(|agent| agent.handle.waiting().len() == 2)).await;
    agents[1].handle.found(Uuid::from_u128(7)).await.expect("nothing to keep");
    let in_time = tokio::time::timeout(
        Duration::from_secs(2),
        eventually("all are in", || agents.iter().all(|agent| alive(&agent.handle) == 3)),
    );
    in_time.await.expect("it takes no second");
}

#[tokio::test]
async fn noise_on_both_ports_costs_nothing() {
    let [a, b, c] = three(|config| Config { keys: ring(&[KEY_ONE]), ..config }).await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    for n in 0..2000usize {
        let bytes: Vec<u8> = (0..n % 1500).map(|at| (at * 31 + n * 7) as u8).collect();
        udp.send_to(&bytes, a.addr).await.expect("loopback takes it");
    }
    let mut streams = Vec::new();
    for n in 0..50u32 {
        let mut stream = TcpStream::connect(a.addr).await.expect("it listens");
        match n % 4 {
            0 => {} // says nothing
            1 => stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: none\r\n\r\n").await.expect("it reads"),
            2 => stream.write_all(b"MSTR\x01\0\0\0\0aaaaaaaaaaaaaaaa\xff\xff\xff\xff").await.expect("it reads"),
            _ => stream.write_all(b"MSTR").await.expect("it reads"),
        }
        streams.push(stream);
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(2), streams[1].read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "what is no greeting is answered and closed at once");
    eventually("the noise is counted", || a.handle.drops().values().sum::<u64>() > 200).await;
    let late = start("late", |config| Config { keys: ring(&[KEY_ONE]), ..config }).await;
    drop(streams);
    let joined = tokio::time::timeout(Duration::from_secs(3), late.handle.join([a.addr])).await;
    assert_eq!(joined.expect("it has time for us").remove(0).1.expect("it is let in"), Joined::In);
    eventually("all four know each other", || [&a, &b, &c, &late].iter().all(|agent| alive(&agent.handle) == 4)).await;
}

#[tokio::test]
async fn an_address_that_nobody_reaches_is_said_at_the_join() {
    let [a, ..] = three(|config| config).await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it is bound")
    };
    let hidden = start("hidden", |config| Config { advertise: closed, ..config }).await;
    let mut events = hidden.handle.subscribe();
    assert_eq!(hidden.handle.join([a.addr]).await.remove(0).1.expect("it is let in"), Joined::In);
    assert_eq!(events.recv().await.expect("the first event"), Event::Unreachable { by: a.addr, advertised: closed });
}

#[tokio::test]
async fn joining_itself_lets_nobody_in() {
    let a = start("a", |config| Config { cluster: Some(Uuid::from_u128(7)), ..config }).await;
    assert_eq!(a.handle.join([a.addr]).await.remove(0).1.expect("it answers"), Joined::Waiting);
    assert!(!a.handle.is_inside());
    assert!(a.handle.found(Uuid::from_u128(7)).await.expect("nothing to keep"), "its own cluster it may enter alone");
    assert!(!a.handle.found(Uuid::from_u128(8)).await.expect("nothing to keep"), "and no other");
    assert_eq!(a.handle.join([a.addr]).await.remove(0).1.expect("it answers"), Joined::In);
}
