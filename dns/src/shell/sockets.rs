//! Where DNS listens: for each address one port, over UDP by several threads, over TCP by one listener.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::error::Error;

/// Connections that the system keeps for us until we take them.
const BACKLOG: i32 = 128;
/// Room for datagrams that wait: more than a thousand queries, so that a burst outlives a pause of a thread. The system may give less.
const RECEIVE_BYTES: usize = 1 << 20;
/// How often a free port is looked for that is free over both transports.
const PORT_TRIES: usize = 16;

/// Open listeners.
#[derive(Debug)]
pub struct Sockets {
    /// Of each address, one socket a thread; all share its port.
    pub(super) udp: Vec<Vec<Socket>>,
    pub(super) tcp: Vec<TcpListener>,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Sockets {
    /// Listens on all of `addresses`, with `threads` sockets over UDP on each. Port 0 is a free one, the same over both.
    pub fn bind(addresses: &[SocketAddr], threads: usize) -> Result<Self, Error> {
        let mut sockets = Self { udp: Vec::new(), tcp: Vec::new(), addresses: Vec::new() };
        for &address in addresses {
            // The wildcard of IPv6 is that of IPv4, too, unless IPv4 is listened for beside it.
            let ipv4 = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
            let only_v6 = address.ip().is_unspecified() && addresses.iter().any(ipv4);
            sockets.add(address, only_v6, threads.max(1))?;
        }
        Ok(sockets)
    }

    /// Where it listens, with the ports that were given: in the order of [`Sockets::bind`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    fn add(&mut self, address: SocketAddr, only_v6: bool, threads: usize) -> Result<(), Error> {
        let tries = if address.port() == 0 { PORT_TRIES } else { 1 };
        let mut left = tries;
        loop {
            left -= 1;
            match both(address, only_v6, threads) {
                Ok((at, udp, tcp)) => {
                    self.addresses.push(at);
                    self.udp.push(udp);
                    self.tcp.push(tcp);
                    return Ok(());
                }
                Err(Error::Listen { source, .. }) if left > 0 && source.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn both(address: SocketAddr, only_v6: bool, threads: usize) -> Result<(SocketAddr, Vec<Socket>, TcpListener), Error> {
    let failed = |transport, address| move |source| Error::Listen { transport, address, source };
    // Alone at first: with SO_REUSEPORT from the start, a second agent of the same user would silently share the port.
    let probe = udp(address, only_v6, false).map_err(failed("UDP", address))?;
    let at = probe.local_addr().map_err(failed("UDP", address))?.as_socket().unwrap_or(address);
    let tcp = tcp(at, only_v6).map_err(failed("TCP", at))?;
    drop(probe);
    let udp = (0..threads).map(|_| udp(at, only_v6, true)).collect::<io::Result<Vec<Socket>>>().map_err(failed("UDP", at))?;
    Ok((at, udp, tcp))
}

fn udp(address: SocketAddr, only_v6: bool, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&SockAddr::from(address))?;
    // A smaller buffer than asked for is no reason not to serve.
    let _ = socket.set_recv_buffer_size(RECEIVE_BYTES);
    Ok(socket)
}

fn tcp(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
