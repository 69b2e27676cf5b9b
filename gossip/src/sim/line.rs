//! A connection of a simulation: segments that are lost and sent again, and what travels on them as it does on a real one.

use std::cell::RefCell;
use std::rc::Rc;

use rand::RngExt;

use super::node::{Side, addr_of, index_of};
use super::talk;
use super::task::{Ground, Lost, Slot};
use crate::error::Refusal;
use crate::message::{Request, Response};
use crate::shell::{CONNECT_TIMEOUT, CONNECTIONS_MAX, GREETING_TIMEOUT, MESSAGE_TIMEOUT};
use crate::stream::{self, NONCE_BYTES, Sealed};
use crate::wire::Reader;

/// What fits into a segment: Ethernet's 1,500 bytes without the headers of IP and TCP and a time stamp.
const SEGMENT_BYTES: usize = 1448;
/// Headers of IPv4 and TCP, with a time stamp.
const TCP_HEADER_BYTES: u64 = 52;
/// A lost SYN, or its answer, is sent again after this; then after twice as long, and so on.
const SYN_AGAIN: u64 = 1_000_000_000;
/// So is a lost segment (Linux's least).
const SEGMENT_AGAIN: u64 = 200_000_000;
/// The longest wait before another try.
const AGAIN_MAX: u64 = 120_000_000_000;
/// How long one waits for a place at somebody who answers as many as it may.
const CROWDED_PAUSE: u64 = 10_000_000;

/// A connection after its greeting.
pub(super) struct Line {
    ground: Ground,
    own: Side,
    theirs: Side,
    sealed: Sealed,
    /// How the other side goes on; or, where it knows no key in common, what it says instead.
    accepted: Result<Rc<RefCell<Sealed>>, Refusal>,
    _place: Place,
}

/// One of the connections that an agent answers.
struct Place {
    ground: Ground,
    at: Side,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut world = self.ground.world();
        if world.runs(self.at) {
            world.nodes[self.at.node].served -= 1;
        }
        world.count_tcp(4, 4 * TCP_HEADER_BYTES); // both sides say that they are done
    }
}

impl Ground {
    /// Brings bytes from one host to another, however often it takes.
    async fn carry(&self, from: usize, to: usize, bytes: usize) {
        let mut segments = bytes.div_ceil(SEGMENT_BYTES).max(1);
        let mut again = SEGMENT_AGAIN;
        let mut size = bytes as u64;
        loop {
            let (lost, latency) = {
                let mut world = self.world();
                let acks = segments.div_ceil(2) as u64;
                world.count_tcp(segments as u64 + acks, size + (segments as u64 + acks) * TCP_HEADER_BYTES);
                let lost = (0..segments).filter(|_| world.is_lost(from, to, false)).count();
                (lost, world.latency())
            };
            if lost == 0 {
                return self.sleep(latency).await;
            }
            segments = lost;
            size = (lost * SEGMENT_BYTES) as u64;
            self.sleep(again).await;
            again = (again * 2).min(AGAIN_MAX);
        }
    }

    /// Connects to a port, if anybody listens on it.
    async fn shake_hands(&self, from: usize, to: usize) -> Result<(), Lost> {
        let mut again = SYN_AGAIN;
        loop {
            let (lost, way, listens) = {
                let mut world = self.world();
                world.count_tcp(3, 3 * TCP_HEADER_BYTES);
                let lost = world.is_lost(from, to, false) || world.is_lost(to, from, false);
                (lost, world.latency() + world.latency(), world.nodes[to].core.is_some())
            };
            if !lost {
                self.sleep(way).await;
                return if listens { Ok(()) } else { Err(Lost::Refused) };
            }
            self.sleep(again).await;
            again = (again * 2).min(AGAIN_MAX);
        }
    }

    fn nonce(&self) -> [u8; NONCE_BYTES] {
        self.world().rng.random()
    }

    /// Connects and greets. The refusal is our own: the other side speaks no version that we do.
    pub(super) async fn connect(&self, own: Side, addr: std::net::SocketAddr) -> Result<Result<Line, Refusal>, Lost> {
        self.with(own, |core, _| core.meters().connected()).await?;
        let hosts = self.world().nodes.len();
        let Some(peer) = index_of(addr).filter(|peer| *peer < hosts) else { return Err(Lost::Silent) };
        self.within(CONNECT_TIMEOUT, self.shake_hands(own.node, peer)).await?;
        let theirs = self.world().side(peer);
        let (place, greeting, key) = self.within(GREETING_TIMEOUT, self.greeted(own, theirs)).await?;
        let nonce = self.nonce();
        let answer = self.with(own, |core, _| stream::answer(&greeting, core.ring().primary(), nonce)).await?;
        let (answer, sealed) = match answer {
            Ok(answer) => answer,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let from = addr_of(own.node);
        let accepted = self.with(theirs, |core, now| {
            stream::answered(&answer, core.ring(), key).inspect_err(|refusal| {
                core.refuse(from, refusal.clone(), now);
            })
        });
        let accepted = accepted.await.map_err(theirs_gone)?.map(|sealed| Rc::new(RefCell::new(sealed)));
        Ok(Ok(Line { ground: self.clone(), own, theirs, sealed, accepted, _place: place }))
    }

    /// The other side takes the connection and greets.
    async fn greeted(&self, own: Side, theirs: Side) -> Result<(Place, Vec<u8>, [u8; NONCE_BYTES]), Lost> {
        while self.world().nodes[theirs.node].served >= CONNECTIONS_MAX {
            self.sleep(CROWDED_PAUSE).await;
        }
        self.with(theirs, |core, _| core.meters().accepted()).await.map_err(theirs_gone)?;
        self.world().nodes[theirs.node].served += 1;
        let place = Place { ground: self.clone(), at: theirs };
        let nonce = self.nonce();
        let greeting = stream::greet(nonce);
        self.carry(theirs.node, own.node, greeting.len()).await;
        Ok((place, greeting, nonce))
    }
}

impl Line {
    /// Asks, and waits for the answer.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Response, Lost> {
        let ground = self.ground.clone();
        let asked = self.sealed.seal(&request.encode()).ok_or(Lost::Broken)?;
        let answered = ground.within(MESSAGE_TIMEOUT, self.exchange(asked)).await?;
        match answered {
            Ok(bytes) => {
                let bytes = open(&mut self.sealed, &bytes).ok_or(Lost::Broken)?;
                Response::decode(&bytes).map_err(|_| Lost::Broken)
            }
            Err(refusal) => Ok(Response::Refused(refusal)),
        }
    }

    async fn exchange(&self, asked: Vec<u8>) -> Result<Result<Vec<u8>, Refusal>, Lost> {
        let ground = &self.ground;
        ground.carry(self.own.node, self.theirs.node, asked.len()).await;
        if !ground.world().runs(self.theirs) {
            return Err(Lost::Broken);
        }
        let sealed = match &self.accepted {
            Ok(sealed) => sealed.clone(),
            Err(refusal) => {
                ground.carry(self.theirs.node, self.own.node, refusal.text.len()).await;
                return Ok(Err(refusal.clone()));
            }
        };
        let request =
            open(&mut sealed.borrow_mut(), &asked).and_then(|bytes| Request::decode(&bytes).ok()).ok_or(Lost::Broken)?;
        // The other side goes on with it, whether anybody waits or not.
        let (slot, theirs, peer) = (Slot::new(), self.theirs, addr_of(self.own.node));
        let (there, answer) = (ground.clone(), slot.clone());
        ground.begin(async move {
            let response = talk::respond(&there, theirs, peer, request).await;
            let bytes = response.ok().and_then(|response| sealed.borrow_mut().seal(&response.encode()));
            answer.fill(&there, bytes);
        });
        let bytes = slot.value(ground).await.ok_or(Lost::Broken)?;
        ground.carry(self.theirs.node, self.own.node, bytes.len()).await;
        Ok(Ok(bytes))
    }
}

/// A message out of its pieces.
fn open(sealed: &mut Sealed, bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut reader, mut message) = (Reader::new(bytes), Vec::new());
    loop {
        let length = reader.u32().ok()?;
        if sealed.open(reader.bytes(length as usize).ok()?.to_vec(), &mut message).ok()? {
            return Some(message);
        }
    }
}

/// For the other side a process that ended is a broken connection.
fn theirs_gone(lost: Lost) -> Lost {
    if lost == Lost::Gone { Lost::Broken } else { lost }
}
