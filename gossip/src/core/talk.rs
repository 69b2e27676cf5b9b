//! Conversations: how one begins, how it goes on, what is answered, and who is refused.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tracing::{debug, warn};
use uuid::Uuid;

use super::admission::texts;
use super::{Check, Core, Standing};
use crate::error::{Refusal, Why};
use crate::identity::Identity;
use crate::member::{Event, Kind};
use crate::message::{Badge, Claim, KeyAct, Request, Response};
use crate::record::{PROTOCOL_MAX, PROTOCOL_MIN};

/// A conversation over TCP that this agent begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dial {
    /// Asks to be let in, or back in.
    Join(SocketAddr),
    /// Compares tables, and swaps them if they differ.
    Exchange(SocketAddr),
    /// Somebody else seems to have this node's UUID, in that epoch.
    Rival(SocketAddr, u64),
    /// Another node has this node's name.
    Namesake(SocketAddr, Uuid),
    /// A member was told dead by another: does it answer?
    Summon(Identity, Option<Uuid>),
    /// Another was admitted in that one's place: it should know, if it lives.
    Replaced(Identity),
    /// Does that member answer over TCP? It is suspected, in that incarnation.
    Ping(Identity, Option<u16>),
    /// How does the one there see that life? And, where its accuser is alone: it should look for itself.
    Look(Identity, Identity, bool),
    /// Does the first of them reach the second?
    Witness(Identity, Identity),
}

impl Dial {
    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Join(addr) | Self::Exchange(addr) | Self::Rival(addr, _) | Self::Namesake(addr, _) => *addr,
            Self::Summon(identity, _)
            | Self::Replaced(identity)
            | Self::Ping(identity, _)
            | Self::Look(identity, ..)
            | Self::Witness(identity, _) => identity.addr,
        }
    }
}

/// What was heard on a conversation.
#[derive(Debug)]
pub(crate) enum Heard {
    Response(Response),
    /// Connection refused, or something else answers there.
    Refused,
    /// Nothing came back in time.
    Silent,
}

/// How a conversation goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send this next on the same connection.
    Send(Request),
    /// Keep this cluster id on disk, then call [`Core::adopted`].
    Adopt(Uuid, u64),
    Done(Done),
}

/// How a conversation ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It did what it was for.
    Well,
    /// There is no cluster at the other end yet.
    Waiting,
    /// The other side, or this one, refuses.
    Refused(Refusal),
    /// The other side did not answer, or not to the point.
    Failed,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Reply {
    Now(Response),
    /// Look whether the holders of a claimed UUID or name live, then call [`Core::judge`].
    Check(Box<Check>),
    /// Try that address with [`Core::knock`], and answer what was reached.
    Verify(SocketAddr),
    /// Keep the ring of [`Core::keys_after`] on disk, then call [`Core::set_ring`], and answer with its keys.
    Keys(KeyAct),
}

/// How long the same refusal to the same host is not told again here: it asks again and again, and others have news to tell.
const REFUSAL_PAUSE: Duration = Duration::from_secs(30);

/// How long the same refusal by the same agent is not said again: a failed member is dialed for days, and may be another's by now.
const REFUSED_PAUSE: Duration = Duration::from_secs(600);

impl Core {
    /// How a conversation begins.
    pub(crate) fn open(&self, dial: &Dial, now: Instant) -> Request {
        match dial {
            Dial::Join(_) => Request::Join(self.claim(now)),
            Dial::Exchange(_) => Request::Digest { badge: self.badge(), digest: self.digest() },
            Dial::Rival(..) | Dial::Namesake(..) => self.knock(now),
            Dial::Summon(identity, _) => {
                Request::Who { asker: self.iam(now), over: Some((identity.node, identity.epoch, Kind::Told)) }
            }
            Dial::Ping(_, suspected) => Request::Ping { badge: self.badge(), suspected: *suspected },
            Dial::Look(_, of, verify) => Request::Look { badge: self.badge(), of: *of, verify: *verify },
            Dial::Witness(_, of) => self.verify(of.addr),
            Dial::Replaced(identity) => {
                Request::Who { asker: self.iam(now), over: Some((identity.node, identity.epoch, Kind::Replaced)) }
            }
        }
    }

    /// Asks who is there.
    pub(crate) fn knock(&self, now: Instant) -> Request {
        Request::Who { asker: self.iam(now), over: None }
    }

    /// Asks another member to try an address.
    pub(crate) fn verify(&self, addr: SocketAddr) -> Request {
        Request::Verify { badge: self.badge(), addr }
    }

    /// Asks another member to do something with its keyring.
    pub(crate) fn key_request(&self, act: &KeyAct) -> Request {
        Request::Keys { badge: self.badge(), act: act.clone() }
    }

    fn claim(&self, now: Instant) -> Claim {
        let protocol = (PROTOCOL_MIN, PROTOCOL_MAX);
        Claim { iam: self.iam(now), protocol, record: self.record_bytes.clone() }
    }

    /// How a conversation goes on after something was heard.
    pub(crate) fn heard(&mut self, dial: &Dial, heard: Heard, now: Instant) -> Step {
        self.wake(now);
        if let Dial::Exchange(addr) = dial {
            self.reached_for_exchange(*addr, &heard, now);
        }
        match (dial, heard) {
            (Dial::Ping(of, _), heard) => self.noted_heard(|core| core.heard_ping(*of, &heard, now), now),
            (Dial::Look(asked, of, _), heard) => self.noted_heard(|core| core.heard_look(*asked, *of, &heard, now), now),
            (Dial::Witness(witness, of), heard) => self.noted_heard(|core| core.heard_witness(*witness, *of, &heard, now), now),
            (Dial::Rival(_, epoch), heard) => self.heard_rival(*epoch, heard, now),
            (Dial::Namesake(_, node), heard) => self.heard_namesake(*node, heard, now),
            (Dial::Summon(identity, _), heard) => self.noted_heard(|core| core.heard_summoned(*identity, &heard, now), now),
            (Dial::Replaced(_), _) => Step::Done(Done::Well),
            (_, Heard::Refused | Heard::Silent) => Step::Done(Done::Failed),
            (Dial::Join(addr), Heard::Response(response)) => self.heard_join(*addr, response, now),
            (Dial::Exchange(_), Heard::Response(response)) => self.heard_exchange(response, now),
        }
    }

    /// A conversation of one question.
    fn noted_heard(&mut self, hear: impl FnOnce(&mut Self), now: Instant) -> Step {
        hear(self);
        self.settle(now);
        Step::Done(Done::Well)
    }

    /// Answers what another agent asks.
    pub(crate) fn asked(&mut self, peer: SocketAddr, request: Request, now: Instant) -> Reply {
        let badge = match &request {
            Request::Who { .. } => None,
            Request::Join(claim) => {
                if let Err(refusal) = self.check_claim(claim) {
                    return Reply::Now(self.refuse(peer, refusal, now));
                }
                None
            }
            Request::Digest { badge, .. }
            | Request::Exchange { badge, .. }
            | Request::Verify { badge, .. }
            | Request::Ping { badge, .. }
            | Request::Look { badge, .. }
            | Request::Keys { badge, .. } => Some(badge),
        };
        if let Some(badge) = badge
            && let Err(refusal) = self.check_badge(badge)
        {
            return Reply::Now(self.refuse(peer, refusal, now));
        }
        match request {
            Request::Who { asker, over } => Reply::Now(self.asked_who(&asker, over, now)),
            Request::Join(claim) => self.asked_join(claim, now),
            Request::Digest { digest, .. } => Reply::Now(self.asked_digest(digest)),
            Request::Exchange { table, fired, .. } => Reply::Now(self.asked_exchange(table, fired, now)),
            Request::Verify { addr, .. } if self.book.iter().any(|entry| entry.identity.addr == addr) => Reply::Verify(addr),
            // Nobody has other people's ports tried by us.
            Request::Verify { .. } => Reply::Now(Response::Refused(Refusal::new(Why::Other, "no member has that address"))),
            Request::Ping { suspected, .. } => Reply::Now(self.asked_ping(suspected, now)),
            Request::Look { of, verify, .. } => {
                let response = self.asked_look(of, verify, now);
                self.settle(now);
                Reply::Now(response)
            }
            Request::Keys { act, .. } => match self.keys_after(&act) {
                Ok(ring) if ring == *self.ring() => Reply::Now(Response::Keys(texts(&ring))),
                Ok(_) => Reply::Keys(act),
                Err(error) => Reply::Now(Response::Refused(Refusal::new(Why::Key, error.to_string()))),
            },
        }
    }

    pub(super) fn out(&self) -> Refusal {
        let text = match &self.standing {
            Standing::Quiet(why) => format!("it went quiet: {why}"),
            _ => "it is leaving the cluster, or has left".to_owned(),
        };
        Refusal::new(Why::Out, text)
    }

    /// One message on each side: the refusal travels, and is told here.
    pub(crate) fn refuse(&mut self, peer: SocketAddr, refusal: Refusal, now: Instant) -> Response {
        self.meters.refused(refusal.why);
        let again = self.refused.as_ref().is_some_and(|(at, ip, last)| {
            (*ip, last) == (peer.ip(), &refusal) && now.saturating_duration_since(*at) < REFUSAL_PAUSE
        });
        if again {
            debug!(%peer, why = refusal.why.as_str(), "refused: {refusal}");
        } else {
            self.refused = Some((now, peer.ip(), refusal.clone()));
            self.effects.events.push(Event::Refused { peer, refusal: refusal.clone() });
        }
        Response::Refused(refusal)
    }

    /// This agent asked, and was refused.
    pub(crate) fn was_refused(&mut self, dial: &Dial, refusal: &Refusal, now: Instant) {
        let (peer, why) = (dial.addr(), refusal.why);
        self.held |= matches!(why, Why::Id | Why::Name) && self.standing == Standing::Outside;
        self.meters.refused(why);
        let again = self
            .refused_by
            .is_some_and(|(at, last, known)| (last, known) == (peer, why) && now.saturating_duration_since(at) < REFUSED_PAUSE);
        if again || matches!(dial, Dial::Join(_)) {
            debug!(%peer, why = why.as_str(), "this agent was refused: {refusal}"); // who wants to join is told by its join
        } else {
            self.refused_by = Some((now, peer, why));
            warn!(%peer, why = why.as_str(), "this agent was refused: {refusal}");
        }
    }

    fn check_badge(&self, badge: &Badge) -> Result<(), Refusal> {
        if !matches!(self.standing, Standing::Inside | Standing::Outside) {
            return Err(self.out());
        }
        self.check_datacenter(&badge.datacenter)?;
        match (self.cluster, badge.cluster) {
            (Some(ours), Some(theirs)) if ours == theirs => Ok(()),
            (Some(ours), Some(theirs)) => Err(Refusal::cluster(theirs, ours)),
            _ => Err(Refusal::new(Why::Cluster, "one of the two belongs to no cluster yet: it must join first")),
        }
    }

    pub(super) fn check_datacenter(&self, theirs: &str) -> Result<(), Refusal> {
        let ours = &self.record.datacenter;
        if theirs == ours {
            return Ok(());
        }
        let text =
            format!("it belongs to datacenter {ours:?}, the agent that asks to {theirs:?}: set the same `datacenter` on both");
        Err(Refusal::new(Why::Datacenter, text))
    }
}
