//! A check that nobody refuses a datagram: UDP knows no more than that.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use muster_catalog::{Status, UdpProbe};
use tokio::net::UdpSocket;

use super::{Deadline, Tools, dial};
use crate::text;
use crate::verdict::Outcome;

pub(super) async fn look(probe: &UdpProbe, timeout: Duration, tools: &Tools) -> Outcome {
    match ask(&probe.address, &Deadline::new(timeout), tools).await {
        Ok(()) => Outcome::new(Status::Passing, format!("UDP connect {}: Success", probe.address)),
        Err(why) => Outcome::critical(why),
    }
}

async fn ask(address: &str, deadline: &Deadline, tools: &Tools) -> Result<(), String> {
    let of_udp = |why: String| why.replacen("dial tcp", "dial udp", 1);
    let (host, port) = dial::split(address).map_err(of_udp)?;
    let mut why = String::new();
    for address in dial::addresses(host, port, &tools.names, deadline).await.map_err(of_udp)? {
        match once(address, deadline).await {
            Ok(()) => return Ok(()),
            Err(error) => why = format!("udp {address}: {}", text::system(&error)),
        }
    }
    Err(why)
}

/// Sends an empty datagram. An answer is good, and so is none: only a refusal by the host or the network is not.
async fn once(address: SocketAddr, deadline: &Deadline) -> std::io::Result<()> {
    let own: SocketAddr = if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(own).await?;
    socket.connect(address).await?;
    socket.send(&[]).await?;
    match deadline.bound(socket.recv(&mut [0; 1])).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}
