//! One thread that answers over UDP.
#![allow(clippy::disallowed_methods)] // the shell reads the clock for the core

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::later::{Lanes, Late};
use super::mmsg::{Batch, tell_destinations};
use super::shared::Shared;
use crate::bounds::{Asker, Tally, Transport};
use crate::fast::Scratch;
use crate::metrics::Meters;
use crate::respond::{refuse, respond};

/// How long a thread waits before it looks whether it is to stop. It is woken then anyway; this is for when that fails.
const WAIT: Duration = Duration::from_secs(1);
/// How long it waits for room to send: a full interface must not hold up queries for good.
const SEND_WAIT: Duration = Duration::from_millis(200);
/// Pause after an error that may last, so that it does not fill the log or a core.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Answers until told to stop.
pub(super) fn serve(socket: &Arc<Socket>, shared: &Shared, late: &Lanes, seed: u64) {
    if let Err(error) = prepare(socket) {
        tracing::warn!(%error, "DNS cannot set up a UDP socket as it should be");
    }
    let wildcard = local_address(socket).is_some_and(|address| address.is_unspecified());
    let mut meters = Meters::new();
    let mut scratch = Scratch::new(seed);
    let mut batch = Batch::new();
    while !shared.stopped.load(Ordering::Acquire) {
        match batch.receive(socket, wildcard) {
            Ok(0) => {}
            Ok(count) => {
                answer(&mut batch, count, socket, shared, late, &mut scratch, &mut meters);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                _ => {
                    tracing::warn!(%error, "DNS cannot receive over UDP");
                    std::thread::sleep(AFTER_ERROR);
                }
            },
        }
    }
}

fn answer(
    batch: &mut Batch,
    count: usize,
    socket: &Arc<Socket>,
    shared: &Shared,
    late: &Lanes,
    scratch: &mut Scratch,
    meters: &mut Meters,
) {
    let begun = Instant::now();
    {
        let state = shared.reader.load();
        let settings = shared.settings.load();
        let view = shared.view(&state, &settings);
        let mut stale = 0;
        for at in 0..count {
            if !batch.has_room() {
                meters.lost(batch.send(socket));
            }
            let address = batch.peer(at);
            let transport = match address {
                Some(peer) if is_near(peer) => Transport::UdpNear,
                _ => Transport::UdpAfar,
            };
            let asker = Asker { transport, address };
            let (query, out) = batch.slot(at);
            let mut answered = respond(query, asker, view, scratch, out);
            if answered.tally == Tally::Beyond {
                let (query, socket) = (Box::from(query), socket.clone());
                let lacking = std::mem::take(&mut scratch.lacking);
                let waiting = |origin| Late { query, lacking, asker, origin, socket };
                let waits = batch.origin(at).is_some_and(|origin| late.wait(waiting(origin)));
                if waits {
                    continue;
                }
                let (query, out) = batch.slot(at);
                answered = refuse(query, asker, view, out);
            }
            meters.tally(answered.tally);
            if answered.bytes > 0 {
                batch.keep(at, answered.bytes);
                stale += usize::from(view.stale);
            }
        }
        meters.stale(stale);
    }
    meters.lost(batch.send(socket));
    meters.flush(begun.elapsed());
}

fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.set_write_timeout(Some(SEND_WAIT))?;
    match local_address(socket) {
        Some(address) if address.is_unspecified() => tell_destinations(socket, address.is_ipv6()),
        _ => Ok(()),
    }
}

fn local_address(socket: &Socket) -> Option<IpAddr> {
    Some(socket.local_addr().ok()?.as_socket()?.ip())
}

/// Loopback, private and link-local addresses: nobody far away can have an answer sent there.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_what_cannot_be_forged_from_afar() {
        for near in
            ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.1.1", "::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"]
        {
            assert!(is_near(near.parse().expect("an address")), "{near}");
        }
        for far in ["8.8.8.8", "172.32.0.1", "192.0.2.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(!is_near(far.parse().expect("an address")), "{far}");
        }
    }
}
