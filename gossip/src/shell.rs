//! What touches the world: UDP and TCP on one port, the clock, randomness.
#![allow(clippy::disallowed_methods)] // the shell reads the clock for the core

mod handle;
mod line;
mod talk;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::config::{Config, Keep};
use crate::core::{Core, Dial, Standing};
use crate::error::Error;
use crate::key::Key;
use crate::member::{Event, Member};
use crate::seal::PACKET_BYTES_MAX;

pub use handle::{Handle, KeyAnswer};
pub(crate) use line::{CONNECT_TIMEOUT, GREETING_TIMEOUT, MESSAGE_TIMEOUT};
pub use talk::Joined;
pub(crate) use talk::{KNOCK_TIMEOUT, WITNESS_TIMEOUT, limit, unmet};

/// Events that may wait for a slow subscriber: all members of a large cluster twice. One that falls behind further is told so, and
/// looks at [`Handle::members`] instead.
const EVENTS_MAX: usize = 4096;
/// Connections to this agent at once; each may hold a message. What comes beyond them waits in the kernel.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// Of those, from one host: one host alone cannot take them all.
const CONNECTIONS_PER_HOST_MAX: usize = 64;
/// Pieces (of 64 KB) of long messages that all connections together may hold: 32 MB. A connection that needs more is closed; what it
/// was for is tried again.
const PIECES_MAX: usize = 512;
/// Conversations that this agent leads at once; more wait. Those with members that do not answer take a second each.
pub(crate) const DIALS_MAX: usize = 64;
/// Conversations that wait. Beyond them they are dropped: each has a timer that asks again.
pub(crate) const DIALS_WAITING_MAX: usize = 1024;
/// Packets taken in one turn, before timers and connections have theirs.
pub(crate) const PACKETS_PER_TURN: usize = 64;
/// Pause after the system refused a connection: it is out of descriptors, and asking again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Gossip for one agent. `seed` is for choices that need no secrecy.
pub fn new(config: Config, seed: u64) -> Result<(Handle, Driver), Error> {
    let random = SystemRandom::new();
    let mut boot = [0; 8];
    random.fill(&mut boot).map_err(|_| Error::Setting("the system gives no random numbers"))?;
    let keep = config.keep.clone();
    let core = Core::new(config, u64::from_be_bytes(boot), seed, Instant::now())?;
    let (dials, waiting) = mpsc::channel(DIALS_WAITING_MAX);
    let shared = Arc::new(Shared {
        members: ArcSwap::from_pointee(core.members().into()),
        standing: watch::channel(core.standing().clone()).0,
        version: watch::channel(0).0,
        core: Mutex::new(core),
        udp: ArcSwapOption::empty(),
        events: broadcast::channel(EVENTS_MAX).0,
        dials,
        wake: Notify::new(),
        keep,
        keeping: tokio::sync::Mutex::new(()),
        random,
        room: Arc::new(Semaphore::new(PIECES_MAX)),
    });
    Ok((Handle::new(shared.clone()), Driver { shared, dials: waiting }))
}

/// A new gossip key of 32 bytes.
pub fn keygen() -> Result<Key, Error> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Setting("the system gives no random numbers"))?;
    Ok(Key::new(&bytes)?)
}

/// UDP and TCP on one port.
#[derive(Debug)]
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    addr: SocketAddr,
}

impl Sockets {
    /// Opens both. Port 0 takes one that is free for both.
    pub async fn bind(addr: SocketAddr) -> Result<Self, Error> {
        let mut tries = if addr.port() == 0 { 20 } else { 1 };
        loop {
            tries -= 1;
            let tcp = TcpListener::bind(addr).await.map_err(|source| Error::Listen { transport: "TCP", addr, source })?;
            let bound = tcp.local_addr().map_err(|source| Error::Listen { transport: "TCP", addr, source })?;
            match UdpSocket::bind(bound).await {
                Ok(udp) => return Ok(Self { udp, tcp, addr: bound }),
                Err(_) if tries > 0 => {}
                Err(source) => return Err(Error::Listen { transport: "UDP", addr: bound, source }),
            }
        }
    }

    /// Where they listen.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// What the driver, its connections and the handles have in common.
#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    /// There while the driver runs.
    udp: ArcSwapOption<Udp>,
    members: ArcSwap<Arc<[Member]>>,
    standing: watch::Sender<Standing>,
    /// How often the list of members changed.
    version: watch::Sender<u64>,
    events: broadcast::Sender<Event>,
    dials: mpsc::Sender<Dial>,
    wake: Notify,
    keep: Keep,
    /// Held while something is kept on disk, so that what is kept last is what is used.
    keeping: tokio::sync::Mutex<()>,
    random: SystemRandom,
    /// Pieces of messages, beyond the first of each, that may be held at once.
    room: Arc<Semaphore>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        // The core keeps nothing half done across a call that could panic; and nothing in it should.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the core, and carries out what comes of it.
    fn with<R>(&self, act: impl FnOnce(&mut Core, Instant) -> R) -> R {
        let mut core = self.lock();
        let before = core.next();
        let result = act(&mut core, Instant::now());
        let effects = core.effects();
        if effects.changed {
            let members = core.members();
            core.meters().members(&members);
            self.members.store(Arc::new(members.into()));
            self.version.send_modify(|version| *version += 1);
            let standing = core.standing();
            self.standing.send_if_modified(|known| {
                let other = known != standing;
                if other {
                    known.clone_from(standing);
                }
                other
            });
        }
        for event in effects.events {
            let _ = self.events.send(event); // nobody may listen
        }
        let sooner = core.next().is_some_and(|next| before.is_none_or(|before| next < before));
        drop(core);
        if let Some(udp) = &*self.udp.load() {
            for (to, packet) in effects.packets {
                udp.send(&packet, to);
            }
        }
        for dial in effects.dials {
            if self.dials.try_send(dial).is_err() {
                debug!("too many conversations wait");
            }
        }
        if sooner {
            self.wake.notify_one();
        }
        result
    }

    /// Takes the packets that are there, as many as one turn may.
    fn take_packets(&self, udp: &Udp, buffer: &mut [u8]) {
        for _ in 0..PACKETS_PER_TURN {
            match udp.socket.try_recv_from(buffer) {
                Ok((length, _)) => self.with(|core, now| core.packet(&buffer[..length], now)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // The system tells of packets that could not be delivered: their members will be silent.
                Err(error) => debug!(%error, "udp"),
            }
        }
    }
}

/// The socket that packets leave by.
#[derive(Debug)]
struct Udp {
    socket: UdpSocket,
    reaches: Families,
    /// It was told that it reaches not everybody.
    told: AtomicBool,
}

/// Where a socket can send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Families {
    Ipv4,
    Ipv6,
    Both,
}

impl Udp {
    fn new(socket: UdpSocket, bound: IpAddr) -> Self {
        let reaches = match bound {
            IpAddr::V4(_) => Families::Ipv4,
            IpAddr::V6(ip) if ip.is_unspecified() => Families::Both,
            IpAddr::V6(_) => Families::Ipv6,
        };
        Self { socket, reaches, told: AtomicBool::new(false) }
    }

    /// What cannot be sent is as if it were lost.
    fn send(&self, packet: &[u8], to: SocketAddr) {
        let at = match (to, self.reaches) {
            (SocketAddr::V4(_), Families::Ipv4) | (SocketAddr::V6(_), Families::Ipv6 | Families::Both) => to,
            (SocketAddr::V4(v4), Families::Both) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            (SocketAddr::V6(_), Families::Ipv4) | (SocketAddr::V4(_), Families::Ipv6) => return self.cannot_reach(to),
        };
        if let Err(error) = self.socket.try_send_to(packet, at) {
            debug!(%to, %error, "packet not sent");
        }
    }

    /// Said once: it does not change while this agent runs, and what it leads to is told of each member.
    fn cannot_reach(&self, to: SocketAddr) {
        if !self.told.swap(true, Ordering::Relaxed) {
            let (own, theirs) = if to.is_ipv6() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
            warn!(
                %to,
                "this agent's gossip is bound to {own} alone, and a member advertises {theirs}: packets do not go there; \
                 bind it to both (bind_addr or serf_lan = \"::\"), or have all members advertise one family"
            );
        }
    }
}

/// Takes the socket away from the handles when the driver ends, however it ends: the port is free then.
struct Plugged(Arc<Shared>);

impl Drop for Plugged {
    fn drop(&mut self) {
        self.0.udp.store(None);
    }
}

/// Gossips.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
    dials: mpsc::Receiver<Dial>,
}

impl Driver {
    /// Gossips on `sockets` until `shutdown` comes or this future is dropped. It does not say good-bye: [`Handle::leave`] does.
    pub async fn run(mut self, sockets: Sockets, shutdown: impl Future<Output = ()>) {
        let Sockets { udp, tcp, addr } = sockets;
        let shared = self.shared;
        if !addr.ip().is_loopback() && shared.lock().ring().primary().is_none() {
            warn!(%addr, "gossip is not encrypted: who reaches this port can join, evict members and read all of it; set `encrypt` (see `keygen`)");
        }
        let udp = Arc::new(Udp::new(udp, addr.ip()));
        shared.udp.store(Some(udp.clone()));
        let _plugged = Plugged(shared.clone());
        let mut buffer = vec![0; PACKET_BYTES_MAX + 1];
        let mut served: JoinSet<IpAddr> = JoinSet::new();
        let mut hosts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        let mut talks = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        let mut deadline = None;
        loop {
            let next = shared.with(|core, _| core.next());
            if next != deadline {
                deadline = next;
                if let Some(next) = next {
                    sleep.as_mut().reset(next.into());
                }
            }
            tokio::select! {
                () = &mut shutdown => return,
                readable = udp.socket.readable() => match readable {
                    Ok(()) => shared.take_packets(&udp, &mut buffer),
                    Err(error) => debug!(%error, "udp"),
                },
                () = &mut sleep, if deadline.is_some() => {
                    deadline = None;
                    // What came in while this agent slept is older than what is due now.
                    shared.take_packets(&udp, &mut buffer);
                    let began = Instant::now();
                    shared.with(Core::tick);
                    shared.lock().meters().turned(began.elapsed());
                }
                () = shared.wake.notified() => {}
                accepted = tcp.accept(), if served.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, peer)) => {
                        // An IPv4 address that came through an IPv6 socket is told as what it is.
                        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                        let count = hosts.entry(peer.ip()).or_default();
                        if *count < CONNECTIONS_PER_HOST_MAX {
                            *count += 1;
                            let shared = shared.clone();
                            served.spawn(async move {
                                talk::serve(&shared, stream, peer).await;
                                peer.ip()
                            });
                        }
                    }
                    Err(error) => {
                        warn!(%error, "cannot take gossip connections");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(dial) = self.dials.recv(), if talks.len() < DIALS_MAX => {
                    let shared = shared.clone();
                    talks.spawn(async move {
                        if let Err(error) = talk::converse(&shared, &dial).await {
                            debug!(?dial, error = &error as &dyn std::error::Error, "conversation");
                        }
                    });
                }
                Some(ended) = served.join_next(), if !served.is_empty() => {
                    if let Ok(host) = ended && let Some(count) = hosts.get_mut(&host) {
                        *count -= 1;
                        if *count == 0 {
                            hosts.remove(&host);
                        }
                    }
                }
                Some(_) = talks.join_next(), if !talks.is_empty() => {}
            }
        }
    }
}
