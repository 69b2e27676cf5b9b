//! What rides on packets beside foca's updates: records, departures, and who accused whom.

use bytes::Bytes;
use uuid::Uuid;

use crate::accusation::{ACCUSERS_MAX, Charge};
use crate::member::Kind;
use crate::wire::{Malformed, Put, Reader};

/// Longest item. The record of a server with four addresses has some 500 bytes; a packet has 1,218 free beside the largest header.
/// An item larger than that would stay in foca's queue for ever, so this one leaves room for a few updates besides.
pub(crate) const ITEM_BYTES_MAX: usize = 900;

/// One thing that is told from member to member until all know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// What a node says about itself.
    Record { node: Uuid, epoch: u64, bytes: Bytes },
    /// A node has a record too big for a packet: ask it.
    Bigger { node: Uuid, epoch: u64, version: u64 },
    /// A life of a node ended by a decision: its own, an operator's, or that of whoever admitted another in its place.
    Departed { node: Uuid, epoch: u64, kind: Kind, by: Uuid },
    /// `by` buried a life of a node, for these accusations.
    Verdict { node: Uuid, epoch: u64, by: Uuid, charges: Vec<Charge> },
    /// `node` fired a user event, at the time `epoch` of Lamport's clock.
    Fired { node: Uuid, epoch: u64, number: u32, name: String, payload: Bytes },
    /// A life of a node is silent in this incarnation, says the charge's accuser.
    Accused { node: Uuid, epoch: u64, incarnation: u16, charge: Charge },
}

impl Item {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(64);
        match self {
            Self::Record { node, epoch, bytes } => {
                to.push(1);
                to.put_uuid(*node);
                to.extend_from_slice(&epoch.to_be_bytes());
                to.extend_from_slice(bytes);
            }
            Self::Bigger { node, epoch, version } => {
                to.push(2);
                to.put_uuid(*node);
                to.extend_from_slice(&epoch.to_be_bytes());
                to.extend_from_slice(&version.to_be_bytes());
            }
            Self::Departed { node, epoch, kind, by } => {
                to.push(3);
                to.put_uuid(*node);
                to.extend_from_slice(&epoch.to_be_bytes());
                to.push(*kind as u8);
                to.put_uuid(*by);
            }
            Self::Verdict { node, epoch, by, charges } => {
                to.push(4);
                to.put_uuid(*node);
                to.extend_from_slice(&epoch.to_be_bytes());
                to.put_uuid(*by);
                for charge in charges.iter().take(ACCUSERS_MAX) {
                    charge.put(&mut to);
                }
            }
            Self::Fired { node, epoch, number, name, payload } => {
                to.push(6);
                to.put_uuid(*node);
                to.extend_from_slice(&epoch.to_be_bytes());
                to.extend_from_slice(&number.to_be_bytes());
                to.put_text(name);
                to.put_block(payload);
            }
            Self::Accused { node, epoch, incarnation, charge } => {
                to.push(5);
                to.put_uuid(*node);
                to.extend_from_slice(&epoch.to_be_bytes());
                to.extend_from_slice(&incarnation.to_be_bytes());
                charge.put(&mut to);
            }
        }
        to
    }

    /// None: an item of a newer version, which is not passed on.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        if bytes.len() > ITEM_BYTES_MAX {
            return Err(Malformed);
        }
        let mut from = Reader::new(bytes);
        let tag = from.u8()?;
        if !(1..=6).contains(&tag) {
            return Ok(None);
        }
        let (node, epoch) = (from.uuid()?, from.u64()?);
        let item = match tag {
            1 => {
                let bytes = Bytes::copy_from_slice(from.rest());
                return Ok(Some(Self::Record { node, epoch, bytes }));
            }
            2 => Self::Bigger { node, epoch, version: from.u64()? },
            3 => {
                let kind = Kind::from_u8(from.u8()?).filter(|kind| kind.is_departure()).ok_or(Malformed)?;
                Self::Departed { node, epoch, kind, by: from.uuid()? }
            }
            4 => {
                let (by, mut charges) = (from.uuid()?, Vec::new());
                while !from.is_empty() {
                    if charges.len() >= ACCUSERS_MAX {
                        return Err(Malformed);
                    }
                    charges.push(Charge::read(&mut from)?);
                }
                Self::Verdict { node, epoch, by, charges }
            }
            6 => Self::Fired {
                node,
                epoch,
                number: from.u32()?,
                name: from.text()?,
                payload: Bytes::copy_from_slice(from.block()?),
            },
            _ => Self::Accused { node, epoch, incarnation: from.u16()?, charge: Charge::read(&mut from)? },
        };
        from.end()?;
        Ok(Some(item))
    }

    pub(crate) fn node(&self) -> Uuid {
        match self {
            Self::Record { node, .. }
            | Self::Bigger { node, .. }
            | Self::Departed { node, .. }
            | Self::Verdict { node, .. }
            | Self::Fired { node, .. }
            | Self::Accused { node, .. } => *node,
        }
    }
}

/// What an item is about: of one node and subject, the later one makes the earlier one needless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemKey {
    node: Uuid,
    subject: u8,
    /// Of accusations, the accuser: several of them are told side by side.
    by: Uuid,
    /// Epoch and incarnation.
    order: (u64, u16),
}

impl foca::Invalidates for ItemKey {
    fn invalidates(&self, other: &Self) -> bool {
        let later = self.order > other.order || (self.by == other.by && self.order == other.order);
        self.node == other.node && self.subject == other.subject && later
    }
}

/// Gives foca the key of what we hand it; what comes in packets never gets there, so the core alone decides what is news.
#[derive(Debug)]
pub(crate) struct Items;

impl foca::BroadcastHandler<crate::identity::Identity> for Items {
    type Key = ItemKey;
    type Error = Malformed;

    fn receive_item(&mut self, data: &[u8], _: Option<&crate::identity::Identity>) -> Result<Option<ItemKey>, Malformed> {
        let Some(item) = Item::decode(data)? else { return Ok(None) };
        let (subject, by, order) = match &item {
            Item::Record { epoch, .. } | Item::Bigger { epoch, .. } => (1, Uuid::nil(), (*epoch, 0)),
            Item::Departed { epoch, .. } => (3, Uuid::nil(), (*epoch, 0)),
            Item::Verdict { epoch, .. } => (4, Uuid::nil(), (*epoch, 0)),
            // No event makes another one needless.
            Item::Fired { epoch, number, .. } => (6, Uuid::from_u64_pair(*epoch, (*number).into()), (0, 0)),
            Item::Accused { epoch, incarnation, charge, .. } => (5, charge.by, (*epoch, *incarnation)),
        };
        Ok(Some(ItemKey { node: item.node(), subject, by, order }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back() {
        let (node, by) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let charge = Charge { by, ground: crate::accusation::Ground::Tcp, health: 2, age: 1000 };
        for item in [
            Item::Record { node, epoch: 1, bytes: Bytes::from_static(b"abc") },
            Item::Bigger { node, epoch: 1, version: 7 },
            Item::Departed { node, epoch: 3, kind: Kind::Forced, by },
            Item::Verdict { node, epoch: 3, by, charges: vec![charge; ACCUSERS_MAX] },
            Item::Accused { node, epoch: 3, incarnation: 9, charge },
            Item::Fired { node, epoch: 3, number: 4, name: "deploy".into(), payload: Bytes::from_static(b"abc") },
        ] {
            let bytes = item.encode();
            assert_eq!(Item::decode(&bytes), Ok(Some(item)));
            assert!((1..25).all(|cut| Item::decode(&bytes[..cut]).is_err()));
        }
        assert_eq!(Item::decode(&[77, 1, 2]), Ok(None), "of a newer version");
        assert_eq!(Item::decode(&[]), Err(Malformed));
    }

    #[test]
    fn accusers_are_told_side_by_side_until_a_later_incarnation() {
        use foca::Invalidates;
        let key =
            |by, incarnation| ItemKey { node: Uuid::from_u128(1), subject: 5, by: Uuid::from_u128(by), order: (3, incarnation) };
        assert!(!key(1, 0).invalidates(&key(2, 0)));
        assert!(key(1, 0).invalidates(&key(1, 0)));
        assert!(key(1, 1).invalidates(&key(2, 0)) && !key(1, 0).invalidates(&key(2, 1)));
    }

    #[test]
    fn only_departures_depart() {
        let (node, by) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let bytes = Item::Departed { node, epoch: 3, kind: Kind::Silent, by }.encode();
        assert_eq!(Item::decode(&bytes), Err(Malformed));
    }
}
