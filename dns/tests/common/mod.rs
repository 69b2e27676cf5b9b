//! A DNS server on real sockets with a small catalog, and clients for it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use muster_catalog::{
    Cause, CauseKind, Command, Meta, Node, NodeName, Offer, Outcome, Proposal, Register, Run, Service, ServiceId, ServiceName,
    Store, Weights,
};
use muster_dns::{Beyond, Config, Error, Handle, Sockets};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Catalog {
    pub(crate) store: Store,
    number: u64,
}

impl Catalog {
    pub(crate) fn new() -> Self {
        let mut catalog = Self { store: Store::new(), number: 0 };
        catalog.apply(Command::OpenRun);
        catalog
    }

    fn apply(&mut self, command: Command) {
        self.number += 1;
        let proposal = Proposal {
            request: Uuid::from_u128(u128::from(self.number)),
            run: Run { agent: Uuid::from_u128(1), epoch: 65_536 },
            number: self.number,
            answered_below: self.number,
            time_ms: 1,
            cause: Cause::new("test", CauseKind::Api, 1, "test"),
            command,
        };
        assert_eq!(self.store.apply(self.number, proposal).outcome, Outcome::Done);
        self.store.publish();
    }

    /// A node with one instance of a service.
    pub(crate) fn instance(&mut self, node: &str, address: &str, service: &str, port: i64) {
        let about = Node { id: None, address: address.into(), tagged_addresses: Meta::new(), meta: Meta::new() };
        let value = Service {
            id: ServiceId::new(service).expect("a name"),
            name: ServiceName::new(service).expect("a name"),
            tags: vec![],
            address: "".into(),
            tagged_addresses: BTreeMap::new(),
            meta: Meta::new(),
            port,
            socket_path: "".into(),
            enable_tag_override: false,
            weights: Weights::default(),
            rare: None,
        };
        let services = vec![Offer::unowned(value)];
        let node = NodeName::new(node).expect("a name");
        self.apply(Command::Register(Register { node, about: Some(about), services, checks: vec![], owner: None }));
    }
}

/// `web` on three nodes, `large` on a hundred.
pub(crate) fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    for number in 1..=3 {
        catalog.instance(&format!("n{number}"), &format!("192.0.2.{number}"), "web", 8080);
    }
    for number in 0..100 {
        catalog.instance(&format!("l{number}"), &format!("198.18.0.{number}"), "large", 80);
    }
    catalog
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), Error>>,
}

impl Server {
    pub(crate) fn start(catalog: &Catalog, listen: &str, threads: usize) -> Self {
        Self::start_with(catalog, listen, threads, Beyond::nobody())
    }

    pub(crate) fn start_with(catalog: &Catalog, listen: &str, threads: usize, beyond: Beyond) -> Self {
        let listen = listen.parse().expect("an address");
        Self::start_on(catalog, Sockets::bind(&[listen], threads).expect("a free port"), Config::default(), beyond)
    }

    pub(crate) fn start_on(catalog: &Catalog, sockets: Sockets, config: Config, beyond: Beyond) -> Self {
        let (handle, driver) = muster_dns::new(config, catalog.store.reader(), beyond).expect("a good configuration");
        let address = sockets.addresses()[0];
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(driver.run(sockets, async {
            let _ = stopped.await;
        }));
        Self { address, handle, stop: Some(stop), running }
    }

    /// Ends it; fails if that takes longer than anybody would wait.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        let ended = tokio::time::timeout(Duration::from_secs(3), self.running).await.expect("it stops when told to");
        ended.expect("it does not panic").expect("it had all it needs");
    }
}

/// A query as a foreign encoder writes it.
pub(crate) fn query(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    if let Some(size) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.edns = Some(edns);
    }
    message.to_vec().expect("a query can be written")
}

/// Asks over TCP and waits; blocks.
pub(crate) fn ask_tcp(server: SocketAddr, packet: &[u8]) -> Option<Message> {
    let mut stream = TcpStream::connect(server).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let length = u16::try_from(packet.len()).expect("a short query");
    stream.write_all(&[&length.to_be_bytes(), packet].concat()).expect("loopback");
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).ok()?;
    Some(Message::from_vec(&answer).expect("every answer parses"))
}

/// Asks over UDP and waits; blocks.
pub(crate) fn ask(server: SocketAddr, packet: &[u8]) -> Option<Message> {
    let socket = match server {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)),
    };
    let socket = socket.expect("a free port");
    socket.connect(server).expect("loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    socket.send(packet).expect("loopback");
    let mut buffer = [0; 65_535];
    let length = socket.recv(&mut buffer).ok()?;
    Some(Message::from_vec(&buffer[..length]).expect("every answer parses"))
}
