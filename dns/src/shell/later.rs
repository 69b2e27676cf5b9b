//! Queries over UDP that need more than the rows at hand: they wait beside the threads, which go on.
#![allow(clippy::disallowed_methods)] // the shell reads the clock for the core

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use muster_catalog::Part;
use socket2::{MsgHdr, SockAddr, Socket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::shared::Shared;
use crate::bounds::{Transport, UDP_BYTES_MAX};
use crate::fast::Scratch;
use crate::metrics::Meters;

/// Queries that wait at once; further ones are refused. Each holds its packet and, while it is answered, 64 KB.
pub const ERRANDS_MAX: usize = 256;

/// A query that waits.
pub(super) struct Late {
    pub(super) query: Box<[u8]>,
    /// What it needs and was not here.
    pub(super) missing: BTreeSet<Part>,
    pub(super) transport: Transport,
    pub(super) origin: Origin,
    pub(super) socket: Arc<Socket>,
}

/// Where a datagram came from, and to which address of ours it was sent.
pub(super) struct Origin {
    pub(super) peer: SockAddr,
    /// As the system takes it; empty where the socket has but one address.
    pub(super) control: Box<[u8]>,
}

/// Answers those that come, until dropped.
pub(super) async fn serve(shared: Arc<Shared>, mut late: mpsc::Receiver<Late>) {
    let meters = Meters::new();
    let mut waiting = JoinSet::new();
    while let Some(late) = late.recv().await {
        while waiting.try_join_next().is_some() {}
        if waiting.len() >= ERRANDS_MAX {
            waiting.join_next().await;
        }
        waiting.spawn(answer(shared.clone(), late, meters.clone()));
    }
}

async fn answer(shared: Arc<Shared>, late: Late, mut meters: Meters) {
    let begun = Instant::now();
    let Late { query, missing, transport, origin, socket } = late;
    let (mut out, mut scratch) = (vec![0; UDP_BYTES_MAX], Scratch::new(rand::random()));
    let answered = shared.answer_late(missing, &query, transport, &mut scratch, &mut out).await;
    meters.tally(answered.tally);
    if answered.bytes > 0 {
        let parts = [IoSlice::new(&out[..answered.bytes])];
        let mut message = MsgHdr::new().with_addr(&origin.peer).with_buffers(&parts);
        if !origin.control.is_empty() {
            message = message.with_control(&origin.control);
        }
        // Whoever's buffers are full does not hold up the others: a datagram may be lost.
        let sent = socket.sendmsg(&message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        meters.lost(usize::from(sent.is_err()));
    }
    meters.flush(begun.elapsed());
}
