//! What can change the catalog, and the form in which it travels through the log.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::cause::Cause;
use crate::error::DecodeError;
use crate::name::{CheckId, NodeName, ServiceId};
use crate::row::{Check, Index, Node, Service};

/// Commands of one agent run that may be unanswered at once; more wait at the door. It bounds the outcomes that
/// servers keep for retries: 256 small ones an agent.
pub const COMMANDS_IN_FLIGHT_MAX: u64 = 256;

/// One run of one agent: the session of the log in which its commands are numbered (Ongaro's dissertation, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run {
    /// The agent's node UUID.
    pub agent: Uuid,
    /// Its stored start count × 2^16 + renewals in this run; the higher one counts.
    pub epoch: u64,
}

/// A command on its way through the log, with what makes it apply once and tells where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Made at the door where the request entered.
    pub request: Uuid,
    /// The session of the log it belongs to.
    pub run: Run,
    /// Its number in that session.
    pub number: u64,
    /// All numbers below this one have been answered: their outcomes need not be kept.
    pub answered_below: u64,
    /// The leader's time, milliseconds since 1970, never before that of the command before it: the only time that decides anything.
    pub time_ms: u64,
    /// Who, why.
    pub cause: Cause,
    /// What.
    pub command: Command,
}

/// A change of the catalog.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A new history begins: its id.
    Found(Uuid),
    /// The agent's run begins its session of the log.
    OpenRun,
    /// Node, services and checks are told.
    Register(Register),
    /// A node, a service or a check goes.
    Deregister(Deregister),
    /// A key is changed.
    Kv(Kv),
    /// The owner has seen these removals and dropped its definitions.
    AcknowledgeRemovals(Vec<Removed>),
}

/// A row that is offered, with the generation of the definition behind it (0 for rows without an owner).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer<T> {
    /// The row.
    pub value: T,
    /// Rises with each new registration of the same id at its agent.
    #[serde(default)]
    pub generation: u64,
    /// Why this row, where it is not why the whole command: one sync carries the news of many.
    #[serde(default)]
    pub cause: Option<Arc<Cause>>,
}

impl<T> Offer<T> {
    /// A row that the catalog API offers: nobody keeps it.
    pub fn unowned(value: T) -> Self {
        Self { value, generation: 0, cause: None }
    }
}

/// Tells of a node, and of services and checks on it: all or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The node.
    pub node: NodeName,
    /// What is known of it; `None` leaves the node as it is.
    pub about: Option<Node>,
    /// Services on it.
    #[serde(default)]
    pub services: Vec<Offer<Service>>,
    /// Checks on it.
    #[serde(default)]
    pub checks: Vec<Offer<Check>>,
    /// The agent whose anti-entropy tells; `None` for the catalog API.
    #[serde(default)]
    pub owner: Option<Uuid>,
}

/// Which row goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The node with all its services and checks.
    Node,
    /// A service with its checks.
    Service(ServiceId),
    /// A check.
    Check(CheckId),
}

/// Removes a row. That it is not there is no error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deregister {
    /// The node it is on.
    pub node: NodeName,
    /// The row.
    pub target: Target,
    /// The agent that removes its own row; others leave it a removal mark.
    #[serde(default)]
    pub owner: Option<Uuid>,
}

/// Changes one key, or removes a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kv {
    /// The key, or the prefix.
    pub key: SmolStr,
    /// What is done to it.
    pub verb: KvVerb,
}

/// What is done to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvVerb {
    /// Writes it; with `cas`, only if its modify index is that (0: only if it is absent).
    Set {
        /// New value.
        value: Bytes,
        /// New flags.
        flags: u64,
        /// Expected modify index.
        cas: Option<Index>,
    },
    /// Removes it; with `cas`, only if its modify index is that or it is absent.
    Delete {
        /// Expected modify index.
        cas: Option<Index>,
    },
    /// Removes all keys with this prefix.
    DeleteTree,
}

/// A row that somebody other than its owner removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// A service.
    Service(ServiceId, u64),
    /// A check.
    Check(CheckId, u64),
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is so now.
    Done,
    /// A key was changed, or its condition did not hold.
    Kv(bool),
    /// Nothing was changed, because the client asked for what cannot be.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The session of the log is unknown or over: whether the command was applied before cannot be told. The agent opens a new one.
    #[error("unknown session of the log")]
    UnknownRun,
    /// The number was answered long ago, or is too far ahead.
    #[error("command number outside the session's window")]
    OutsideWindow,
    /// A check names a service that is not on its node.
    #[error("Missing service registration on node {0:?}")]
    MissingService(SmolStr),
    /// The node is unknown and nothing was told about it.
    #[error("node {0:?} is not registered")]
    UnknownNode(SmolStr),
    /// The UUID belongs to a node of another name.
    #[error("node ID {id} belongs to node {by:?}")]
    NodeIdTaken {
        /// The UUID.
        id: Uuid,
        /// The node that has it.
        by: NodeName,
    },
    /// The name belongs to a node of another UUID that is not known to be dead.
    #[error("node name {name:?} is held by the living node {id}")]
    NodeNameTaken {
        /// The name.
        name: NodeName,
        /// The UUID that holds it.
        id: Uuid,
    },
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} #{}", self.request, self.command.name(), self.number)
    }
}

impl Command {
    /// A short word for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Found(_) => "found",
            Command::OpenRun => "open-run",
            Command::Register(_) => "register",
            Command::Deregister(_) => "deregister",
            Command::Kv(_) => "kv",
            Command::AcknowledgeRemovals(_) => "acknowledge-removals",
        }
    }

    /// The number under which the log knows this kind of command; never reused.
    fn tag(&self) -> u16 {
        match self {
            Command::Found(_) => 1,
            Command::OpenRun => 2,
            Command::Register(_) => 3,
            Command::Deregister(_) => 4,
            Command::Kv(_) => 5,
            Command::AcknowledgeRemovals(_) => 6,
        }
    }
}

/// Version of the envelope; a newer one is refused, not guessed at.
const ENVELOPE: u8 = 1;
/// In a tag: a server that does not know it may leave the command out.
const MAY_SKIP: u16 = 0x8000;

/// The part of a proposal that is not its command.
#[derive(Serialize, Deserialize)]
struct Head {
    request: Uuid,
    run: Run,
    number: u64,
    answered_below: u64,
    time_ms: u64,
    cause: Cause,
}

impl Proposal {
    /// Version, tag, then head and command as named MessagePack maps: fields may be added, both ways.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.push(ENVELOPE);
        bytes.extend_from_slice(&self.command.tag().to_be_bytes());
        let head = Head {
            request: self.request,
            run: self.run,
            number: self.number,
            answered_below: self.answered_below,
            time_ms: self.time_ms,
            cause: self.cause.clone(),
        };
        pack(&mut bytes, &head);
        match &self.command {
            Command::Found(history) => pack(&mut bytes, history),
            Command::OpenRun => {}
            Command::Register(register) => pack(&mut bytes, register),
            Command::Deregister(deregister) => pack(&mut bytes, deregister),
            Command::Kv(kv) => pack(&mut bytes, kv),
            Command::AcknowledgeRemovals(removed) => pack(&mut bytes, removed),
        }
        bytes
    }

    /// Reads what [`Proposal::encode`] wrote, in this or another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (&[envelope, high, low], mut rest) = bytes.split_first_chunk().ok_or(DecodeError::Short)?;
        if envelope != ENVELOPE {
            return Err(DecodeError::Envelope(envelope));
        }
        let tag = u16::from_be_bytes([high, low]);
        let head: Head = unpack(&mut rest)?;
        let command = match tag {
            1 => Command::Found(unpack(&mut rest)?),
            2 => Command::OpenRun,
            3 => Command::Register(unpack(&mut rest)?),
            4 => Command::Deregister(unpack(&mut rest)?),
            5 => Command::Kv(unpack(&mut rest)?),
            6 => Command::AcknowledgeRemovals(unpack(&mut rest)?),
            tag => return Err(DecodeError::UnknownCommand { tag, skippable: tag & MAY_SKIP != 0 }),
        };
        let Head { request, run, number, answered_below, time_ms, cause } = head;
        Ok(Self { request, run, number, answered_below, time_ms, cause, command })
    }
}

fn pack(to: &mut Vec<u8>, value: &impl Serialize) {
    let mut packer = rmp_serde::Serializer::new(to).with_struct_map();
    value.serialize(&mut packer).expect("writing plain data to memory does not fail");
}

fn unpack<T: for<'de> Deserialize<'de>>(from: &mut &[u8]) -> Result<T, DecodeError> {
    let mut unpacker = rmp_serde::Deserializer::new(from);
    unpacker.set_max_depth(32);
    T::deserialize(&mut unpacker).map_err(|error| DecodeError::Body(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::CauseKind;

    fn proposal(command: Command) -> Proposal {
        Proposal {
            request: Uuid::from_u128(1),
            run: Run { agent: Uuid::from_u128(2), epoch: 65536 },
            number: 3,
            answered_below: 2,
            time_ms: 4,
            cause: Cause::new("a", CauseKind::Api, 5, "r"),
            command,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for command in [
            Command::Found(Uuid::from_u128(9)),
            Command::OpenRun,
            Command::Kv(Kv {
                key: "k".into(),
                verb: KvVerb::Set { value: Bytes::from_static(b"\xff"), flags: u64::MAX, cas: Some(0) },
            }),
            Command::Kv(Kv { key: "".into(), verb: KvVerb::DeleteTree }),
            Command::Deregister(Deregister {
                node: NodeName::new("n").expect("a name"),
                target: Target::Service(ServiceId::new("s").expect("a name")),
                owner: None,
            }),
        ] {
            let proposal = proposal(command);
            assert_eq!(Proposal::decode(&proposal.encode()).expect("it was just written"), proposal);
        }
    }

    #[test]
    fn the_form_in_the_log_stays_as_it_is() {
        let bytes = proposal(Command::Kv(Kv {
            key: "k".into(),
            verb: KvVerb::Set { value: Bytes::from_static(b"v"), flags: 7, cas: None },
        }))
        .encode();
        let golden = [
            "01000586a772657175657374c41000000000000000000000000000000001a372756e82a56167656e74c410000000000000000000",
            "00000000000002a565706f6368ce00010000a66e756d62657203ae616e7377657265645f62656c6f7702a774696d655f6d7304a5",
            "636175736584a56163746f72a161a46b696e64a3617069a561745f6d7305a6726561736f6ea17282a36b6579a16ba47665726281",
            "a373657483a576616c7565c40176a5666c61677307a3636173c0",
        ];
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden.concat());
    }

    #[test]
    fn foreign_bytes_are_errors() {
        assert!(matches!(Proposal::decode(&[]), Err(DecodeError::Short)));
        assert!(matches!(Proposal::decode(&[9, 0, 1]), Err(DecodeError::Envelope(9))));
        let mut bytes = proposal(Command::OpenRun).encode();
        bytes[1] = 0x80;
        bytes[2] = 99;
        assert!(matches!(Proposal::decode(&bytes), Err(DecodeError::UnknownCommand { skippable: true, .. })));
        for end in 3..bytes.len() {
            assert!(Proposal::decode(&bytes[..end]).is_err());
        }
    }
}
