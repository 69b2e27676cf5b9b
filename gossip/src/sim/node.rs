//! One host of a simulation: the process on it, what its disk keeps, and what is done to both.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use uuid::Uuid;

use super::scenario::Loss;
use crate::core::{Core, Dial};

/// A host, and the agent on it.
pub(super) struct Node {
    pub(super) addr: SocketAddr,
    /// The running process, if there is one.
    pub(super) core: Option<Core>,
    /// Counts processes: what was meant for an earlier one does not reach the next.
    pub(super) life: u32,
    pub(super) disk: Disk,
    /// The lowest epoch of the running process.
    pub(super) first_epoch: u64,
    /// Nothing answers: the host is gone.
    pub(super) silent: bool,
    /// Something happened to it: chance chooses others.
    pub(super) touched: bool,
    pub(super) paused: Option<Pause>,
    /// Period, how much of it the process runs, and where in it the simulation began.
    pub(super) starved: Option<(u64, u64, u64)>,
    /// How far its clock is ahead.
    pub(super) ahead: u64,
    pub(super) input: Loss,
    pub(super) output: Loss,
    /// Only hosts of one group reach each other.
    pub(super) group: u8,
    /// Until when its being taken for dead is nobody's mistake.
    pub(super) excused: u64,
    /// Packets that wait in its socket.
    pub(super) held: VecDeque<Vec<u8>>,
    /// When it is to go on with what waits.
    pub(super) resumes: Option<u64>,
    /// When its core is to be called.
    pub(super) planned: u64,
    /// Conversations that it leads.
    pub(super) dialing: usize,
    pub(super) dials: VecDeque<Dial>,
    /// Connections that it answers.
    pub(super) served: usize,
    /// The highest epoch in which it saw each member.
    pub(super) seen: BTreeMap<Uuid, u64>,
}

/// What outlives a process.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) node: Uuid,
    pub(super) starts: u64,
    pub(super) wipes: u64,
    pub(super) cluster: Option<Uuid>,
    pub(super) peers: Vec<SocketAddr>,
}

/// A process that was stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    pub(super) since: u64,
    pub(super) until: u64,
}

/// One process of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) node: usize,
    pub(super) life: u32,
}

const PORT: u16 = 8301;

impl Node {
    pub(super) fn new(index: usize) -> Self {
        Self {
            addr: addr_of(index),
            core: None,
            life: 0,
            disk: Disk { node: uuid_of(index, 0), starts: 0, wipes: 0, cluster: None, peers: Vec::new() },
            first_epoch: 0,
            silent: false,
            touched: false,
            paused: None,
            starved: None,
            ahead: 0,
            input: Loss::default(),
            output: Loss::default(),
            group: 0,
            excused: 0,
            held: VecDeque::new(),
            resumes: None,
            planned: u64::MAX,
            dialing: 0,
            dials: VecDeque::new(),
            served: 0,
            seen: BTreeMap::new(),
        }
    }

    /// When the process next has the CPU.
    pub(super) fn runs_at(&self, now: u64) -> u64 {
        let at = self.paused.map_or(now, |pause| now.max(pause.until));
        match self.starved {
            Some((every, runs, begun)) => {
                let phase = at.saturating_sub(begun) % every;
                if phase < runs { at } else { at + every - phase }
            }
            None => at,
        }
    }

    /// An empty disk: another UUID.
    pub(super) fn wipe(&mut self, index: usize) {
        let wipes = self.disk.wipes + 1;
        self.disk = Disk { node: uuid_of(index, wipes), starts: 0, wipes, cluster: None, peers: Vec::new() };
    }

    /// What was under way in the process is over.
    pub(super) fn forget(&mut self) {
        self.life += 1;
        self.held.clear();
        self.resumes = None;
        self.planned = u64::MAX;
        self.dialing = 0;
        self.dials.clear();
        self.served = 0;
        self.seen.clear();
        self.paused = None;
    }
}

pub(super) fn addr_of(index: usize) -> SocketAddr {
    let [_, a, b, c] = (index as u32 + 1).to_be_bytes();
    ([10, a, b, c], PORT).into()
}

/// Which host has this address, if it is of the kind that hosts here have.
pub(super) fn index_of(addr: SocketAddr) -> Option<usize> {
    match addr {
        SocketAddr::V4(v4) if v4.port() == PORT && v4.ip().octets()[0] == 10 => {
            let [_, a, b, c] = v4.ip().octets();
            (u32::from_be_bytes([0, a, b, c]) as usize).checked_sub(1)
        }
        _ => None,
    }
}

fn uuid_of(index: usize, wipes: u64) -> Uuid {
    Uuid::from_u64_pair(wipes, index as u64 + 1)
}

/// Which host's disk has, or had, this UUID.
pub(super) fn host_of(node: Uuid) -> Option<usize> {
    (node.as_u64_pair().1 as usize).checked_sub(1)
}
