//! One query to another name server, and its reply.
#![allow(clippy::disallowed_methods)] // ids that nobody can guess

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::elsewhere::{Fit, is_truncated, judge};
use crate::wire::PLAIN_BYTES_MAX;

/// How a query goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// In a datagram, whose reply may be truncated: as long as that many bytes.
    Udp(usize),
    /// Over a connection.
    Tcp,
    /// In a datagram, and over a connection if its reply is truncated.
    UdpThenTcp(usize),
}

/// Asks, with an id of its own, from a port of its own. What does not belong to the query is passed over, as long as the caller waits.
pub(super) async fn exchange(to: SocketAddr, query: &[u8], way: Way) -> io::Result<(Fit, Vec<u8>)> {
    let mut packet = query.to_vec();
    if let Some(id) = packet.first_chunk_mut::<2>() {
        *id = rand::random();
    }
    let (room, retries) = match way {
        Way::Udp(room) => (room, false),
        Way::UdpThenTcp(room) => (room, true),
        Way::Tcp => return over_tcp(to, &packet).await,
    };
    let (fit, reply) = over_udp(to, &packet, room).await?;
    if retries && is_truncated(&reply) {
        return over_tcp(to, &packet).await;
    }
    Ok((fit, reply))
}

async fn over_udp(to: SocketAddr, packet: &[u8], room: usize) -> io::Result<(Fit, Vec<u8>)> {
    let here: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // The system draws the port; connected, the socket takes datagrams of that server alone, and hears that nobody listens there.
    let socket = UdpSocket::bind((here, 0)).await?;
    socket.connect(to).await?;
    socket.send(packet).await?;
    // One byte more than is taken shows what is too long.
    let mut reply = vec![0; room.max(PLAIN_BYTES_MAX) + 1];
    loop {
        let length = socket.recv(&mut reply).await?;
        let fit = judge(&reply[..length], packet);
        if fit != Fit::Foreign {
            reply.truncate(length);
            return Ok((fit, reply));
        }
    }
}

async fn over_tcp(to: SocketAddr, packet: &[u8]) -> io::Result<(Fit, Vec<u8>)> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let length = u16::try_from(packet.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(packet);
    stream.write_all(&framed).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    match judge(&reply, packet) {
        // The connection is for one query: nothing else can follow.
        Fit::Foreign => Err(io::ErrorKind::InvalidData.into()),
        fit => Ok((fit, reply)),
    }
}
