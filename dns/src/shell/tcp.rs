//! DNS over TCP: several queries a connection, and an end for who is slow.
#![allow(clippy::disallowed_methods)] // the shell reads the clock for the core

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::shared::Shared;
use crate::bounds::{Asker, TCP_BYTES_MAX, Tally, Transport};
use crate::fast::Scratch;
use crate::metrics::Meters;
use crate::respond::respond;

/// Connections at once on a listener: each costs a descriptor and a few KB, and 64 KB while it is answered. Further ones wait to be accepted until one ends, which
/// under load takes [`TCP_IDLE_CROWDED`].
pub const TCP_CONNECTIONS_MAX: usize = 256;
/// How long a connection may be without a query (RFC 7766 6.2.3: in the order of seconds).
pub const TCP_IDLE: Duration = Duration::from_secs(10);
/// The same when more than half of [`TCP_CONNECTIONS_MAX`] are open: who does not use a connection leaves it to others.
pub const TCP_IDLE_CROWDED: Duration = Duration::from_secs(1);
/// How long a message may take from its first byte to its last, in either direction.
pub const TCP_MESSAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest query taken; a longer one ends the connection. Far more than one question with options needs.
pub const TCP_QUERY_BYTES_MAX: usize = 4096;
/// Pause after accept failed, most likely for want of descriptors.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Takes connections until dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let meters = Meters::new();
    let places = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut seed: u64 = rand::random();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let (shared, places, meters) = (shared.clone(), places.clone(), meters.clone());
                connections.spawn(async move {
                    // How a connection ends is its peer's affair.
                    let _ = converse(stream, peer.ip(), &shared, &places, meters, seed).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "DNS cannot take a connection");
                sleep(AFTER_ERROR).await;
            }
        }
    }
}

async fn converse(
    mut stream: TcpStream,
    peer: IpAddr,
    shared: &Shared,
    places: &Semaphore,
    mut meters: Meters,
    seed: u64,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut scratch = Scratch::new(seed);
    let asker = Asker { transport: Transport::Tcp, address: Some(peer) };
    loop {
        let mut length = [0; 2];
        if first_byte(&mut stream, &mut length[..1], places).await? == 0 {
            return Ok(());
        }
        let query = timeout(TCP_MESSAGE_TIMEOUT, async {
            stream.read_exact(&mut length[1..]).await?;
            let length = usize::from(u16::from_be_bytes(length));
            if length > TCP_QUERY_BYTES_MAX {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
            let mut query = vec![0; length];
            stream.read_exact(&mut query).await?;
            Ok(query)
        });
        let query = query.await??;
        let answer = answer(&query, asker, shared, &mut scratch, &mut meters).await;
        if answer.len() <= 2 {
            return Ok(());
        }
        timeout(TCP_MESSAGE_TIMEOUT, stream.write_all(&answer)).await??;
    }
}

/// Waits for the next query to begin, as long as there are places enough for it. 0 is the end.
async fn first_byte(stream: &mut TcpStream, byte: &mut [u8], places: &Semaphore) -> io::Result<usize> {
    let begun = Instant::now();
    loop {
        // Looked at again each time: a connection that was idle when it was quiet must give way when it is not.
        match timeout(TCP_IDLE_CROWDED, stream.read(byte)).await {
            Ok(read) => return read,
            Err(_) if places.available_permits() < TCP_CONNECTIONS_MAX / 2 || begun.elapsed() >= TCP_IDLE => return Ok(0),
            Err(_) => {}
        }
    }
}

/// The answer with its length in front.
async fn answer(query: &[u8], asker: Asker, shared: &Shared, scratch: &mut Scratch, meters: &mut Meters) -> Vec<u8> {
    let begun = Instant::now();
    let mut out = vec![0; 2 + TCP_BYTES_MAX];
    let mut answered = {
        let state = shared.reader.load();
        let settings = shared.settings.load();
        let view = shared.view(&state, &settings);
        let answered = respond(query, asker, view, scratch, &mut out[2..]);
        meters.stale(usize::from(view.stale && answered.bytes > 0));
        answered
    };
    if answered.tally == Tally::Beyond {
        let (lacking, mut late) = (std::mem::take(&mut scratch.lacking), Vec::new());
        answered = shared.answer_late(lacking, query, asker, scratch, &mut late).await;
        out[2..2 + late.len()].copy_from_slice(&late);
    }
    meters.tally(answered.tally);
    meters.flush(begun.elapsed());
    let length = u16::try_from(answered.bytes).unwrap_or(0);
    out[..2].copy_from_slice(&length.to_be_bytes());
    out.truncate(2 + usize::from(length));
    out
}
