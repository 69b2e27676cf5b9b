//! Queries over UDP that need more than the rows at hand: they wait beside the threads, which go on.
#![allow(clippy::disallowed_methods)] // the shell reads the clock for the core

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use socket2::{MsgHdr, SockAddr, Socket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::recursors::FORWARDS_MAX;
use super::shared::Shared;
use crate::bounds::Asker;
use crate::elsewhere::Lacking;
use crate::fast::Scratch;
use crate::metrics::Meters;

/// Queries that wait for rows at once; further ones are refused. Each holds its packet and, while it is answered, 64 KB.
pub const ERRANDS_MAX: usize = 256;

/// Queries that wait to be begun: each is at once, as long as there is a place for it.
const QUEUE: usize = 64;

/// A query that waits.
pub(super) struct Late {
    pub(super) query: Box<[u8]>,
    /// What it needs and was not here.
    pub(super) lacking: Lacking,
    pub(super) asker: Asker,
    pub(super) origin: Origin,
    pub(super) socket: Arc<Socket>,
}

/// Where a datagram came from, and to which address of ours it was sent.
pub(super) struct Origin {
    pub(super) peer: SockAddr,
    /// As the system takes it; empty where the socket has but one address.
    pub(super) control: Box<[u8]>,
}

/// Where queries wait: for rows, or for other name servers. Neither holds up the other.
#[derive(Clone)]
pub(super) struct Lanes {
    rows: mpsc::Sender<Late>,
    outside: mpsc::Sender<Late>,
}

/// The end of a lane, and how many of it are at work at once.
pub(super) struct Waiting {
    late: mpsc::Receiver<Late>,
    most: usize,
}

impl Lanes {
    pub(super) fn new() -> (Self, Waiting, Waiting) {
        let (rows, of_rows) = mpsc::channel(ERRANDS_MAX);
        let (outside, of_outside) = mpsc::channel(QUEUE);
        let waiting = |late, most| Waiting { late, most };
        (Self { rows, outside }, waiting(of_rows, ERRANDS_MAX), waiting(of_outside, FORWARDS_MAX))
    }

    /// False if there is no place.
    pub(super) fn wait(&self, late: Late) -> bool {
        let lane = if late.lacking.is_elsewhere() { &self.outside } else { &self.rows };
        lane.try_send(late).is_ok()
    }
}

/// Answers those that come, until dropped.
pub(super) async fn serve(shared: Arc<Shared>, Waiting { mut late, most }: Waiting) {
    let meters = Meters::new();
    let mut waiting = JoinSet::new();
    while let Some(late) = late.recv().await {
        while waiting.try_join_next().is_some() {}
        if waiting.len() >= most {
            waiting.join_next().await;
        }
        waiting.spawn(answer(shared.clone(), late, meters.clone()));
    }
}

async fn answer(shared: Arc<Shared>, late: Late, mut meters: Meters) {
    let begun = Instant::now();
    let Late { query, lacking, asker, origin, socket } = late;
    let elsewhere = lacking.is_elsewhere();
    let (mut out, mut scratch) = (Vec::new(), Scratch::new(rand::random()));
    let answered = shared.answer_late(lacking, &query, asker, &mut scratch, &mut out).await;
    meters.tally(answered.tally);
    if answered.bytes > 0 {
        let parts = [IoSlice::new(&out)];
        let mut message = MsgHdr::new().with_addr(&origin.peer).with_buffers(&parts);
        if !origin.control.is_empty() {
            message = message.with_control(&origin.control);
        }
        // Whoever's buffers are full does not hold up the others: a datagram may be lost.
        let sent = socket.sendmsg(&message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        meters.lost(usize::from(sent.is_err()));
    }
    meters.flush(begun.elapsed());
    drop(out);
    if elsewhere {
        shared.look_again(&query).await;
    }
}
