//! What agents ask each other over TCP, and answer.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes};
use foca::State as Swim;
use uuid::Uuid;

use crate::accusation::Charge;
use crate::book::MEMBERS_MAX;
use crate::error::{Refusal, Why};
use crate::identity::Identity;
use crate::item::Item;
use crate::member::Kind;
use crate::wire::{Malformed, Put, Reader};

/// Who an agent is: the answer to a knock, and the first part of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Iam {
    pub(crate) identity: Identity,
    pub(crate) name: String,
    pub(crate) datacenter: String,
    pub(crate) cluster: Option<Uuid>,
    /// Random number of this run.
    pub(crate) boot: u64,
    /// How long it has been up, in milliseconds.
    pub(crate) up: u64,
    /// It takes no part: it has left, or yields to another holder of its UUID or name.
    pub(crate) quiet: bool,
    /// The operator says that this agent takes the place of whoever holds its UUID or name.
    pub(crate) replace: bool,
}

/// What a joiner says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) iam: Iam,
    /// Oldest and newest form of the protocol.
    pub(crate) protocol: (u8, u8),
    pub(crate) record: Bytes,
}

/// Which cluster and datacenter an asker belongs to; what is asked under another is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Badge {
    pub(crate) cluster: Option<Uuid>,
    pub(crate) datacenter: String,
}

/// A member as the sender of an exchange sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) identity: Identity,
    pub(crate) incarnation: u16,
    pub(crate) swim: Swim,
    /// Why, if it is gone.
    pub(crate) gone: Option<Gone>,
    /// Its record, and the epoch it was told in.
    pub(crate) record: Option<(u64, Bytes)>,
}

/// How a member went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) kind: Kind,
    pub(crate) by: Option<Uuid>,
    /// How long ago, in seconds.
    pub(crate) age: u32,
}

/// What became of an attempt to reach an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reached {
    /// An agent of this cluster answered.
    Answered(Iam),
    /// Connection refused, or something else answers there.
    Refused,
    /// Nothing came back in time.
    Silent,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Who are you? `over`: this life of that node, and those before it, are held to be over, and why.
    Who { asker: Iam, over: Option<(Uuid, u64, Kind)> },
    /// Let me in.
    Join(Claim),
    /// Do our tables agree?
    Digest { badge: Badge, digest: u64 },
    /// Here is my table, give me yours.
    Exchange { badge: Badge, table: Vec<Seen>, fired: Vec<Item> },
    /// Try that address.
    Verify { badge: Badge, addr: SocketAddr },
    /// Do this with your keyring.
    Keys { badge: Badge, act: KeyAct },
    /// Do you live? `suspected`: you are, in this incarnation.
    Ping { badge: Badge, suspected: Option<u16> },
    /// How do you see that life? `verify`: its accuser is alone, look for yourself.
    Look { badge: Badge, of: Identity, verify: bool },
}

/// What can be done with a keyring; keys in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyAct {
    /// Tell which keys there are.
    List,
    /// Accept a key from now on.
    Install(String),
    /// Seal with an installed key from now on.
    Use(String),
    /// Accept a key no longer.
    Remove(String),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Response {
    Iam(Iam),
    /// Come in, under this cluster id and epoch.
    Admitted {
        cluster: Uuid,
        epoch: u64,
        /// Whether the asked one reaches the address that the joiner advertises.
        reached: bool,
    },
    /// There is no cluster here yet; these are waiting for one.
    Forming(Vec<Waiting>),
    Same,
    /// My table, and the newest events.
    Table(Vec<Seen>, Vec<Item>),
    Reached(Reached),
    /// The keys in the ring, the primary first.
    Keys(Vec<String>),
    Refused(Refusal),
    /// I live, in this life and incarnation.
    Pong {
        identity: Identity,
        incarnation: u16,
    },
    /// As I see it: its incarnation, and whether it lives; none, if I know no such life.
    Held(Option<Held>),
}

/// How a member is seen by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) incarnation: u16,
    pub(crate) alive: bool,
    /// The asked one's own accusation of it, which gossip may have lost.
    pub(crate) charge: Option<Charge>,
}

/// An agent that waits for a cluster to be founded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) identity: Identity,
    pub(crate) record: Bytes,
}

/// Most events with a table; nobody sends so many.
const FIRED_MAX: usize = 256;

/// Most agents that are told while a cluster forms.
pub(crate) const WAITING_MAX: usize = 32;

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(256);
        match self {
            Self::Who { asker, over } => {
                to.push(1);
                put_iam(asker, &mut to);
                to.push(over.map_or(0, |(_, _, kind)| kind as u8));
                to.put_some_uuid(over.map(|(node, ..)| node));
                to.put_u64(over.map_or(0, |(_, epoch, _)| epoch));
            }
            Self::Join(claim) => {
                to.push(2);
                put_iam(&claim.iam, &mut to);
                to.push(claim.protocol.0);
                to.push(claim.protocol.1);
                to.put_block(&claim.record);
            }
            Self::Digest { badge, digest } => {
                to.push(3);
                put_badge(badge, &mut to);
                to.put_u64(*digest);
            }
            Self::Exchange { badge, table, fired } => {
                to.push(4);
                put_badge(badge, &mut to);
                put_table(table, &mut to);
                put_fired(fired, &mut to);
            }
            Self::Verify { badge, addr } => {
                to.push(5);
                put_badge(badge, &mut to);
                to.put_addr(*addr);
            }
            Self::Keys { badge, act } => {
                to.push(6);
                put_badge(badge, &mut to);
                let (tag, key) = match act {
                    KeyAct::List => (1, ""),
                    KeyAct::Install(key) => (2, key.as_str()),
                    KeyAct::Use(key) => (3, key.as_str()),
                    KeyAct::Remove(key) => (4, key.as_str()),
                };
                to.push(tag);
                to.put_text(key);
            }
            Self::Ping { badge, suspected } => {
                to.push(7);
                put_badge(badge, &mut to);
                to.push(suspected.is_some().into());
                to.put_u16(suspected.unwrap_or_default());
            }
            Self::Look { badge, of, verify } => {
                to.push(8);
                put_badge(badge, &mut to);
                of.put(&mut to);
                to.push((*verify).into());
            }
        }
        to
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let request = match from.u8()? {
            1 => {
                let (asker, kind) = (read_iam(&mut from)?, from.u8()?);
                let (node, epoch) = (from.uuid()?, from.u64()?);
                Self::Who { asker, over: (kind > 0).then(|| (node, epoch, Kind::from_u8(kind).unwrap_or(Kind::Told))) }
            }
            2 => Self::Join(Claim {
                iam: read_iam(&mut from)?,
                protocol: (from.u8()?, from.u8()?),
                record: Bytes::copy_from_slice(from.block()?),
            }),
            3 => Self::Digest { badge: read_badge(&mut from)?, digest: from.u64()? },
            4 => Self::Exchange { badge: read_badge(&mut from)?, table: read_table(&mut from)?, fired: read_fired(&mut from)? },
            5 => Self::Verify { badge: read_badge(&mut from)?, addr: from.addr()? },
            6 => {
                let badge = read_badge(&mut from)?;
                let act = match (from.u8()?, from.text()?) {
                    (1, _) => KeyAct::List,
                    (2, key) => KeyAct::Install(key),
                    (3, key) => KeyAct::Use(key),
                    (4, key) => KeyAct::Remove(key),
                    _ => return Err(Malformed),
                };
                Self::Keys { badge, act }
            }
            7 => {
                let (badge, there, incarnation) = (read_badge(&mut from)?, from.flag()?, from.u16()?);
                Self::Ping { badge, suspected: there.then_some(incarnation) }
            }
            8 => Self::Look { badge: read_badge(&mut from)?, of: Identity::read(&mut from)?, verify: from.flag()? },
            _ => return Err(Malformed),
        };
        from.end()?;
        Ok(request)
    }
}

impl Response {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(256);
        match self {
            Self::Iam(iam) => {
                to.push(1);
                put_iam(iam, &mut to);
            }
            Self::Admitted { cluster, epoch, reached } => {
                to.push(2);
                to.put_uuid(*cluster);
                to.put_u64(*epoch);
                to.push((*reached).into());
            }
            Self::Forming(waiting) => {
                to.push(3);
                for one in waiting {
                    one.identity.put(&mut to);
                    to.put_block(&one.record);
                }
            }
            Self::Same => to.push(4),
            Self::Table(table, fired) => {
                to.push(5);
                put_table(table, &mut to);
                put_fired(fired, &mut to);
            }
            Self::Reached(reached) => {
                to.push(6);
                match reached {
                    Reached::Answered(iam) => {
                        to.push(1);
                        put_iam(iam, &mut to);
                    }
                    Reached::Refused => to.push(2),
                    Reached::Silent => to.push(3),
                }
            }
            Self::Keys(keys) => {
                to.push(7);
                for key in keys {
                    to.put_text(key);
                }
            }
            Self::Refused(refusal) => {
                to.push(8);
                put_refusal(refusal, &mut to);
            }
            Self::Pong { identity, incarnation } => {
                to.push(9);
                identity.put(&mut to);
                to.put_u16(*incarnation);
            }
            Self::Held(held) => {
                to.push(10);
                to.push(held.map_or(0, |held| 1 + u8::from(held.alive)));
                to.put_u16(held.map_or(0, |held| held.incarnation));
                if let Some(charge) = held.and_then(|held| held.charge) {
                    charge.put(&mut to);
                }
            }
        }
        to
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let response = match from.u8()? {
            1 => Self::Iam(read_iam(&mut from)?),
            2 => Self::Admitted { cluster: from.some_uuid()?.ok_or(Malformed)?, epoch: from.u64()?, reached: from.flag()? },
            3 => {
                let mut waiting = Vec::new();
                while !from.is_empty() && waiting.len() < WAITING_MAX {
                    let identity = Identity::read(&mut from)?;
                    waiting.push(Waiting { identity, record: Bytes::copy_from_slice(from.block()?) });
                }
                Self::Forming(waiting)
            }
            4 => Self::Same,
            5 => Self::Table(read_table(&mut from)?, read_fired(&mut from)?),
            6 => Self::Reached(match from.u8()? {
                1 => Reached::Answered(read_iam(&mut from)?),
                2 => Reached::Refused,
                3 => Reached::Silent,
                _ => return Err(Malformed),
            }),
            7 => {
                let mut keys = Vec::new();
                while !from.is_empty() && keys.len() < crate::KEYS_MAX {
                    keys.push(from.text()?);
                }
                Self::Keys(keys)
            }
            8 => Self::Refused(read_refusal(&mut from)?),
            9 => Self::Pong { identity: Identity::read(&mut from)?, incarnation: from.u16()? },
            10 => {
                let (tag, incarnation) = (from.u8()?, from.u16()?);
                let charge = if from.is_empty() { None } else { Some(Charge::read(&mut from)?) };
                Self::Held(match tag {
                    0 => None,
                    1 | 2 => Some(Held { incarnation, alive: tag == 2, charge }),
                    _ => return Err(Malformed),
                })
            }
            _ => return Err(Malformed),
        };
        from.end()?;
        Ok(response)
    }
}

/// Longest text of a refusal that is taken: it goes to a log.
const REFUSAL_TEXT_BYTES_MAX: usize = 1024;

pub(crate) fn put_refusal(refusal: &Refusal, to: &mut Vec<u8>) {
    to.push(refusal.why as u8);
    to.put_text(&refusal.text);
}

pub(crate) fn read_refusal(from: &mut Reader<'_>) -> Result<Refusal, Malformed> {
    let why = Why::from_u8(from.u8()?);
    let mut text = from.text()?.replace(char::is_control, " ");
    text.truncate(text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX));
    Ok(Refusal { why, text })
}

fn put_iam(iam: &Iam, to: &mut Vec<u8>) {
    iam.identity.put(to);
    to.put_text(&iam.name);
    to.put_text(&iam.datacenter);
    to.put_some_uuid(iam.cluster);
    to.put_u64(iam.boot);
    to.put_u64(iam.up);
    to.push(u8::from(iam.quiet) | u8::from(iam.replace) << 1);
}

fn read_iam(from: &mut Reader<'_>) -> Result<Iam, Malformed> {
    let identity = Identity::read(from)?;
    let (name, datacenter, cluster) = (from.text()?, from.text()?, from.some_uuid()?);
    let (boot, up, bits) = (from.u64()?, from.u64()?, from.u8()?);
    Ok(Iam { identity, name, datacenter, cluster, boot, up, quiet: bits & 1 != 0, replace: bits & 2 != 0 })
}

fn put_badge(badge: &Badge, to: &mut Vec<u8>) {
    to.put_some_uuid(badge.cluster);
    to.put_text(&badge.datacenter);
}

fn read_badge(from: &mut Reader<'_>) -> Result<Badge, Malformed> {
    Ok(Badge { cluster: from.some_uuid()?, datacenter: from.text()? })
}

/// Events at the end of a message.
fn put_fired(fired: &[Item], to: &mut Vec<u8>) {
    fired.iter().for_each(|item| to.put_block(&item.encode()));
}

/// What else stands there is of a newer version.
fn read_fired(from: &mut Reader<'_>) -> Result<Vec<Item>, Malformed> {
    let mut fired = Vec::new();
    while !from.is_empty() {
        if let Some(item @ Item::Fired { .. }) = Item::decode(from.block()?)? {
            fired.push(item);
        }
        if fired.len() > FIRED_MAX {
            return Err(Malformed);
        }
    }
    Ok(fired)
}

fn put_table(table: &[Seen], to: &mut Vec<u8>) {
    to.put_u32(u32::try_from(table.len()).unwrap_or(u32::MAX));
    for seen in table {
        seen.identity.put(to);
        to.put_u16(seen.incarnation);
        let swim = match seen.swim {
            Swim::Alive => 1,
            Swim::Suspect => 2,
            Swim::Down => 3,
        };
        to.push(swim | u8::from(seen.gone.is_some()) << 2 | u8::from(seen.record.is_some()) << 3);
        if let Some(gone) = seen.gone {
            to.push(gone.kind as u8);
            to.put_some_uuid(gone.by);
            to.put_u32(gone.age);
        }
        if let Some((epoch, record)) = &seen.record {
            to.put_u64(*epoch);
            to.put_block(record);
        }
    }
}

fn read_table(from: &mut Reader<'_>) -> Result<Vec<Seen>, Malformed> {
    let mut table = Vec::new();
    let count = from.u32()? as usize;
    if count > MEMBERS_MAX + 1 {
        return Err(Malformed);
    }
    while table.len() < count {
        let (identity, incarnation, bits) = (Identity::read(from)?, from.u16()?, from.u8()?);
        let swim = match bits & 3 {
            1 => Swim::Alive,
            2 => Swim::Suspect,
            3 => Swim::Down,
            _ => return Err(Malformed),
        };
        let gone = if bits & 4 != 0 {
            // A kind of a newer version is read as the plainest one.
            let kind = Kind::from_u8(from.u8()?).unwrap_or(Kind::Told);
            Some(Gone { kind, by: from.some_uuid()?, age: from.u32()? })
        } else {
            None
        };
        let record = if bits & 8 != 0 {
            let epoch = from.u64()?;
            Some((epoch, Bytes::copy_from_slice(from.block()?)))
        } else {
            None
        };
        table.push(Seen { identity, incarnation, swim, gone, record });
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn iam() -> Iam {
        Iam {
            identity: Identity { node: Uuid::from_u128(1), epoch: 1 << 16, addr: "127.0.0.1:8301".parse().expect("an address") },
            name: "a".into(),
            datacenter: "dc1".into(),
            cluster: None,
            boot: 7,
            up: 99,
            quiet: false,
            replace: true,
        }
    }

    fn table() -> Vec<Seen> {
        let gone = Some(Gone { kind: Kind::Left, by: Some(Uuid::from_u128(4)), age: 5 });
        let record = Some((1, Bytes::from_static(b"record")));
        vec![
            Seen { identity: iam().identity, incarnation: 3, swim: Swim::Suspect, gone: None, record: record.clone() },
            Seen { identity: iam().identity, incarnation: 3, swim: Swim::Down, gone, record: None },
        ]
    }

    fn fired() -> Vec<Item> {
        let (node, payload) = (Uuid::from_u128(6), Bytes::from_static(b"v2"));
        vec![Item::Fired { node, epoch: 8, number: 9, name: "deploy".into(), payload }]
    }

    #[test]
    fn what_is_asked_and_answered_comes_back() {
        let badge = Badge { cluster: Some(Uuid::from_u128(2)), datacenter: "dc1".into() };
        let charge = Charge { by: Uuid::from_u128(5), ground: crate::accusation::Ground::Feed, health: 1, age: 900 };
        let claim = Claim { iam: iam(), protocol: (1, 1), record: Bytes::from_static(b"record") };
        for request in [
            Request::Who { asker: iam(), over: Some((Uuid::from_u128(9), 4, Kind::Replaced)) },
            Request::Join(claim),
            Request::Digest { badge: badge.clone(), digest: 5 },
            Request::Exchange { badge: badge.clone(), table: table(), fired: fired() },
            Request::Verify { badge: badge.clone(), addr: iam().identity.addr },
            Request::Keys { badge: badge.clone(), act: KeyAct::Use("k".into()) },
            Request::Ping { badge: badge.clone(), suspected: Some(3) },
            Request::Look { badge, of: iam().identity, verify: true },
        ] {
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
        for response in [
            Response::Iam(iam()),
            Response::Admitted { cluster: Uuid::from_u128(2), epoch: 5, reached: true },
            Response::Forming(vec![Waiting { identity: iam().identity, record: Bytes::from_static(b"record") }]),
            Response::Same,
            Response::Table(table(), fired()),
            Response::Reached(Reached::Answered(iam())),
            Response::Reached(Reached::Silent),
            Response::Keys(vec!["a".into(), "b".into()]),
            Response::Refused(Refusal::new(Why::Name, "no")),
            Response::Pong { identity: iam().identity, incarnation: 7 },
            Response::Held(None),
            Response::Held(Some(Held { incarnation: 7, alive: true, charge: None })),
            Response::Held(Some(Held { incarnation: 7, alive: true, charge: Some(charge) })),
        ] {
            assert_eq!(Response::decode(&response.encode()), Ok(response));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 1..600), tag in 0..12u8) {
            bytes[0] = tag;
            let _ = Request::decode(&bytes);
            let _ = Response::decode(&bytes);
        }
    }
}
