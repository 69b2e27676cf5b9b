//! What can change the catalog, and the form in which it travels through the log.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::autopilot::SetAutopilot;
use crate::cause::Cause;
use crate::coordinate::Placed;
use crate::error::DecodeError;
use crate::kv::Kv;
use crate::name::{CheckId, NodeName, ServiceId};
use crate::pack::{length_of_first, pack, unpack};
use crate::prepared::SetQuery;
use crate::restore::{Chunk, Switch};
use crate::row::{Check, Node, Service};
use crate::session::Session;
use crate::transaction::{Found, Op, RESULTS_KEPT_BYTES_MAX, Transacted};

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
    /// How servers come and go is set.
    SetAutopilot(SetAutopilot),
    /// Nodes are found to be there, in the space of round trips.
    Place(Vec<Placed>),
    /// A session begins.
    CreateSession(CreateSession),
    /// A session ends. That it is not there is no error.
    EndSession(EndSession),
    /// Several things at once: all or nothing.
    Transaction(Vec<Op>),
    /// A piece of a snapshot is laid beside the tables.
    Stage(Chunk),
    /// What was laid there takes the place of the tables.
    Switch(Switch),
    /// What was laid there by this restore is not needed.
    GiveUp(Uuid),
    /// A prepared query is made or changed.
    SetQuery(Box<SetQuery>),
    /// A prepared query goes.
    DeleteQuery(Uuid),
}

/// A session that begins, if its node and its checks are there and none is critical.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSession {
    /// What it is; cause and index are filled in by apply.
    pub session: Session,
}

/// A session that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndSession {
    /// Which.
    pub id: Uuid,
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
    /// A key (or a setting) was changed, or its condition did not hold.
    Kv(bool),
    /// Nothing was changed, because the client asked for what cannot be.
    Refused(Refusal),
    /// A transaction was done, or it was not.
    Transaction(Transacted),
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
    /// A session is to be on a node that is not there.
    #[error("Missing node registration")]
    MissingNode,
    /// A session is to be tied to a check that its node has not.
    #[error("Missing check '{0}' registration")]
    MissingCheck(CheckId),
    /// A session is to be tied to a check that is critical.
    #[error("Check '{0}' is in critical state")]
    CriticalCheck(CheckId),
    /// There is a session with this id.
    #[error("session {0} exists")]
    SessionTaken(Uuid),
    /// A key is to be locked for a session that is not there.
    #[error("invalid session \"{0}\"")]
    UnknownSession(Uuid),
    /// A snapshot was not restored.
    #[error("{0}")]
    Restore(SmolStr),
    /// A prepared query cannot be as it was told.
    #[error("{0}")]
    Query(SmolStr),
}

impl Outcome {
    /// What is kept of it for a second answer.
    pub(crate) fn to_keep(&self) -> Self {
        match self {
            Outcome::Transaction(Transacted::Done(found))
                if found.iter().map(Found::weight).sum::<usize>() > RESULTS_KEPT_BYTES_MAX =>
            {
                Outcome::Transaction(Transacted::Forgotten)
            }
            outcome => outcome.clone(),
        }
    }
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
            Command::SetAutopilot(_) => "set-autopilot",
            Command::Place(_) => "place",
            Command::CreateSession(_) => "create-session",
            Command::EndSession(_) => "end-session",
            Command::Transaction(_) => "transaction",
            Command::Stage(_) => "stage",
            Command::Switch(_) => "switch",
            Command::GiveUp(_) => "give-up",
            Command::SetQuery(_) => "set-query",
            Command::DeleteQuery(_) => "delete-query",
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
            Command::SetAutopilot(_) => 7,
            Command::Place(_) => 40,
            Command::CreateSession(_) => 8,
            Command::EndSession(_) => 9,
            Command::Transaction(_) => 10,
            Command::Stage(_) => 20,
            Command::Switch(_) => 21,
            Command::GiveUp(_) => 22,
            Command::SetQuery(_) => 23,
            Command::DeleteQuery(_) => 24,
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
            Command::SetAutopilot(set) => pack(&mut bytes, set),
            Command::Place(placed) => pack(&mut bytes, placed),
            Command::CreateSession(create) => pack(&mut bytes, create),
            Command::EndSession(end) => pack(&mut bytes, end),
            Command::Transaction(ops) => pack(&mut bytes, ops),
            Command::Stage(chunk) => pack(&mut bytes, chunk),
            Command::Switch(switch) => pack(&mut bytes, switch),
            Command::GiveUp(restore) => pack(&mut bytes, restore),
            Command::SetQuery(set) => pack(&mut bytes, set),
            Command::DeleteQuery(id) => pack(&mut bytes, id),
        }
        bytes
    }

    /// Reads what [`Proposal::encode`] wrote, in this or another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (&[envelope, high, low], rest) = bytes.split_first_chunk().ok_or(DecodeError::Short)?;
        if envelope != ENVELOPE {
            return Err(DecodeError::Envelope(envelope));
        }
        let tag = u16::from_be_bytes([high, low]);
        let (head, rest) = rest.split_at(length_of_first(rest).ok_or(DecodeError::Short)?);
        let command = match tag {
            1 => Command::Found(unpack(rest).map_err(body)?),
            2 => Command::OpenRun,
            3 => Command::Register(unpack(rest).map_err(body)?),
            4 => Command::Deregister(unpack(rest).map_err(body)?),
            5 => Command::Kv(unpack(rest).map_err(body)?),
            6 => Command::AcknowledgeRemovals(unpack(rest).map_err(body)?),
            7 => Command::SetAutopilot(unpack(rest).map_err(body)?),
            40 => Command::Place(unpack(rest).map_err(body)?),
            8 => Command::CreateSession(unpack(rest).map_err(body)?),
            9 => Command::EndSession(unpack(rest).map_err(body)?),
            10 => Command::Transaction(unpack(rest).map_err(body)?),
            20 => Command::Stage(unpack(rest).map_err(body)?),
            21 => Command::Switch(unpack(rest).map_err(body)?),
            22 => Command::GiveUp(unpack(rest).map_err(body)?),
            23 => Command::SetQuery(unpack(rest).map_err(body)?),
            24 => Command::DeleteQuery(unpack(rest).map_err(body)?),
            tag => return Err(DecodeError::UnknownCommand { tag, skippable: tag & MAY_SKIP != 0 }),
        };
        let Head { request, run, number, answered_below, time_ms, cause } = unpack(head).map_err(body)?;
        Ok(Self { request, run, number, answered_below, time_ms, cause, command })
    }
}

fn body(error: rmp_serde::decode::Error) -> DecodeError {
    DecodeError::Body(error.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cause::CauseKind;
    use crate::kv::KvVerb;

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

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn node_name() -> NodeName {
        NodeName::new("n").expect("a name")
    }

    /// A registration with every field set.
    fn full() -> Register {
        use crate::definition::Definition;
        use crate::name::ServiceName;
        use crate::row::{Locality, RareServiceFields, ServiceAddress, ServicePort, Weights};
        use crate::status::Status;
        use std::time::Duration;

        let service_id = ServiceId::new("s").expect("a name");
        let service = Service {
            id: service_id.clone(),
            name: ServiceName::new("web").expect("a name"),
            tags: vec!["t".into()],
            address: "a".into(),
            tagged_addresses: [("lan".into(), ServiceAddress { address: "b".into(), port: 1 })].into(),
            meta: [("k".into(), "v".into())].into(),
            port: -1,
            socket_path: "p".into(),
            enable_tag_override: true,
            weights: Weights { passing: 2, warning: 3 },
            rare: Some(Box::new(RareServiceFields {
                kind: "connect-proxy".into(),
                locality: Some(Locality { region: "r".into(), zone: "z".into() }),
                ports: vec![ServicePort { name: "h".into(), port: 80, default: true }],
            })),
        };
        let text = |text: &str| text.to_owned();
        let definition = Definition {
            http: text("a"),
            tls_server_name: text("b"),
            tls_skip_verify: true,
            header: [(text("h"), vec![text("v")])].into(),
            method: text("c"),
            body: text("d"),
            disable_redirects: true,
            tcp: text("e"),
            tcp_use_tls: true,
            udp: text("f"),
            h2ping: text("g"),
            h2ping_use_tls: true,
            os_service: text("h"),
            output_bytes_max: 1,
            interval: Duration::from_secs(2),
            timeout: Duration::from_millis(3),
            deregister_critical_service_after: Duration::from_secs(4),
            script_args: vec![text("i")],
            docker_container_id: text("j"),
            shell: text("k"),
            grpc: text("l"),
            grpc_use_tls: true,
            alias_node: text("m"),
            alias_service: text("n"),
            ttl: Duration::from_secs(5),
        };
        let check = Check {
            id: CheckId::new("c").expect("a name"),
            name: "x".into(),
            status: Status::Warning,
            notes: "n".into(),
            output: "o".into(),
            service_id: Some(service_id),
            service_name: Some(ServiceName::new("web").expect("a name")),
            service_tags: vec!["t".into()],
            kind: "ttl".into(),
            interval: "1s".into(),
            timeout: "2s".into(),
            definition: Some(Box::new(definition)),
        };
        let about = Node {
            id: Some(Uuid::from_u128(8)),
            address: "a".into(),
            tagged_addresses: [("lan".into(), "b".into())].into(),
            meta: [("k".into(), "v".into())].into(),
        };
        let cause = Arc::new(Cause::new("w", CauseKind::CheckResult, 6, "y"));
        Register {
            node: node_name(),
            about: Some(about),
            services: vec![Offer { value: service, generation: 4, cause: Some(cause) }],
            checks: vec![Offer { value: check, generation: 5, cause: None }],
            owner: Some(Uuid::from_u128(8)),
        }
    }

    /// The tag, and the command as it stands after the head.
    fn body(command: Command) -> String {
        let whole = proposal(command.clone()).encode();
        assert_eq!(Proposal::decode(&whole).expect("it was just written"), proposal(command));
        let head = proposal(Command::OpenRun).encode().len();
        format!("{} {}", hex(&whole[1..3]), hex(&whole[head..]))
    }

    #[test]
    fn the_form_of_every_command_stays_as_it_is() {
        assert_eq!(body(Command::OpenRun), "0002 ");
        assert_eq!(body(Command::Found(Uuid::from_u128(9))), "0001 c41000000000000000000000000000000009");
        assert_eq!(body(Command::Register(full())), REGISTER.concat());
        let target = Target::Check(CheckId::new("c").expect("a name"));
        let deregister = Deregister { node: node_name(), target, owner: Some(Uuid::from_u128(8)) };
        assert_eq!(
            body(Command::Deregister(deregister)),
            "0004 83a46e6f6465a16ea674617267657481a5636865636ba163a56f776e6572c41000000000000000000000000000000008"
        );
        let deregister = Deregister { node: node_name(), target: Target::Node, owner: None };
        assert_eq!(body(Command::Deregister(deregister)), "0004 83a46e6f6465a16ea6746172676574a46e6f6465a56f776e6572c0");
        let removed = vec![
            Removed::Service(ServiceId::new("s").expect("a name"), 3),
            Removed::Check(CheckId::new("c").expect("a name"), 70_000),
        ];
        assert_eq!(
            body(Command::AcknowledgeRemovals(removed)),
            "0006 9281a77365727669636592a1730381a5636865636b92a163ce00011170"
        );
    }

    fn session() -> Session {
        use crate::session::{Behavior, ServiceCheck};
        let check = |id: &str| CheckId::new(id).expect("a name");
        Session {
            id: Uuid::from_u128(9),
            name: "s".into(),
            node: node_name(),
            node_checks: Some(vec![check("a")]),
            service_checks: Some(vec![ServiceCheck { id: check("b"), namespace: "x".into() }]),
            checks: vec![check("c")],
            lock_delay_ns: -1,
            behavior: Behavior::Delete,
            ttl: "10s".into(),
            ttl_ns: 10_000_000_000,
            cause: std::sync::Arc::new(Cause::new("a", CauseKind::SessionExpired, 5, "r")),
            create_index: 0,
        }
    }

    #[test]
    fn the_form_of_sessions_locks_and_transactions_stays_as_it_is() {
        let value = Bytes::from_static(b"v");
        let acquire = KvVerb::Acquire { value: value.clone(), flags: 7, session: Uuid::from_u128(9) };
        let release = KvVerb::Release { value, flags: 7, session: Uuid::from_u128(9) };
        let ops = vec![
            Op::Kv(Kv { key: "k".into(), verb: KvVerb::DeleteTree }),
            Op::Key { key: "k".into(), look: crate::transaction::Look::CheckIndex(3) },
            Op::DeleteNode("n".into(), Some(4)),
            Op::Refused("no".into()),
        ];
        let forms = [
            body(Command::CreateSession(CreateSession { session: session() })),
            body(Command::EndSession(EndSession { id: Uuid::from_u128(9) })),
            body(Command::Kv(Kv { key: "k".into(), verb: acquire })),
            body(Command::Kv(Kv { key: "k".into(), verb: release })),
            body(Command::Transaction(ops)),
        ];
        assert_eq!(forms, SESSIONS.map(str::to_owned));
        let create = Command::CreateSession(CreateSession { session: session() });
        assert_eq!(Proposal::decode(&proposal(create.clone()).encode()).expect("it was just written").command, create);
    }

    const SESSIONS: [&str; 5] = [
        "0008 81a773657373696f6e8ca26964c41000000000000000000000000000000009a46e616d65a173a46e6f6465a16eab6e6f64655f63686\
         5636b7391a161ae736572766963655f636865636b739182a26964a162a96e616d657370616365a178a6636865636b7391a163ad6c6f636b5\
         f64656c61795f6e73ffa86265686176696f72a664656c657465a374746ca3313073a674746c5f6e73cf00000002540be400a563617573658\
         4a56163746f72a161a46b696e64af73657373696f6e5f65787069726564a561745f6d7305a6726561736f6ea172ac6372656174655f696e6\
         4657800",
        "0009 81a26964c41000000000000000000000000000000009",
        "0005 82a36b6579a16ba47665726281a76163717569726583a576616c7565c40176a5666c61677307a773657373696f6ec41000000000000\
         000000000000000000009",
        "0005 82a36b6579a16ba47665726281a772656c6561736583a576616c7565c40176a5666c61677307a773657373696f6ec41000000000000\
         000000000000000000009",
        "000a 9481a26b7682a36b6579a16ba476657262ab64656c6574655f7472656581a36b657982a36b6579a16ba46c6f6f6b81ab636865636b5\
         f696e6465780381ab64656c6574655f6e6f646592a16e0481a772656675736564a26e6f",
    ];

    #[test]
    fn the_form_of_restores_and_queries_stays_as_it_is() {
        let [one, two] = [1, 2].map(Uuid::from_u128);
        let chunk = Chunk { restore: one, offset: 3, bytes: Bytes::from_static(b"x") };
        assert_eq!(
            body(Command::Stage(chunk)),
            "0014 83a7726573746f7265c41000000000000000000000000000000001a66f666673657403a56279746573c40178"
        );
        assert_eq!(
            body(Command::Switch(Switch { restore: one, length: 4, history: two })),
            "0015 83a7726573746f7265c41000000000000000000000000000000001a66c656e67746804a7686973746f7279c41000000000000000000000000000000002"
        );
        assert_eq!(body(Command::GiveUp(one)), "0016 c41000000000000000000000000000000001");
        assert_eq!(body(Command::DeleteQuery(two)), "0018 c41000000000000000000000000000000002");
        let set = SetQuery { id: one, create: true, query: crate::prepared::PreparedQuery::default() };
        assert!(body(Command::SetQuery(Box::new(set))).starts_with("0017 83a26964c410"));
    }

    /// A proposal with another body: as an older or a newer version would write it.
    fn foreign(tag: u16, body: &impl Serialize) -> Vec<u8> {
        let mut bytes = proposal(Command::OpenRun).encode();
        bytes[1..3].copy_from_slice(&tag.to_be_bytes());
        pack(&mut bytes, body);
        bytes
    }

    #[test]
    fn what_an_older_version_left_out_is_read_with_its_default() {
        #[derive(Serialize)]
        struct Old<T> {
            node: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            target: Option<&'static str>,
            services: Vec<T>,
        }
        #[derive(Serialize)]
        struct OldOffer {
            value: OldService,
        }
        #[derive(Serialize)]
        struct OldService {
            id: &'static str,
            name: &'static str,
        }
        let old = Old { node: "n", target: None, services: vec![OldOffer { value: OldService { id: "s", name: "web" } }] };
        let Command::Register(register) = Proposal::decode(&foreign(3, &old)).expect("the rest has defaults").command else {
            panic!("it has the tag of a registration")
        };
        assert_eq!((register.about, register.owner, register.checks.len()), (None, None, 0));
        assert_eq!((register.services[0].generation, &register.services[0].cause), (0, &None));
        assert_eq!(register.services[0].value.weights, crate::row::Weights::default());
        let old = Old::<()> { node: "n", target: Some("node"), services: vec![] };
        let decoded = Proposal::decode(&foreign(4, &old)).expect("the rest has defaults").command;
        assert_eq!(decoded, Command::Deregister(Deregister { node: node_name(), target: Target::Node, owner: None }));
    }

    #[test]
    fn what_a_newer_version_adds_is_left_out() {
        #[derive(Serialize)]
        struct New {
            future: Vec<Option<&'static str>>,
            #[serde(flatten)]
            register: Register,
            more: f64,
        }
        let new = New { future: vec![None, Some("x")], register: full(), more: 0.5 };
        assert_eq!(Proposal::decode(&foreign(3, &new)).expect("the rest is known").command, Command::Register(full()));
    }

    fn damage(whole: &[u8]) {
        for end in 0..whole.len() {
            assert!(Proposal::decode(&whole[..end]).is_err());
        }
        for at in 0..whole.len() {
            for byte in [0x00, 0x93, 0xc1, 0xc6, 0xdb, 0xdd, 0xdf, 0xff, whole[at] ^ 1] {
                let mut other = whole.to_vec();
                other[at] = byte;
                let _ = Proposal::decode(&other);
            }
        }
    }

    #[test]
    fn damaged_bytes_and_false_lengths_are_errors_or_other_commands_but_no_panic() {
        let ops = vec![Op::Kv(Kv { key: "k".into(), verb: KvVerb::DeleteTree }), Op::Refused("no".into())];
        for command in
            [Command::Register(full()), Command::CreateSession(CreateSession { session: session() }), Command::Transaction(ops)]
        {
            damage(&proposal(command).encode());
        }
        let deep = [&foreign(3, &())[..3], &[0x91; 100_000]].concat();
        assert!(Proposal::decode(&deep).is_err());
    }

    const REGISTER: &[&str] = &[
        "0003 85a46e6f6465a16ea561626f757484a26964c41000000000000000000000000000000008a761646472657373a161b07461676765645",
        "f61646472657373657381a36c616ea162a46d65746181a16ba176a873657276696365739183a576616c75658ba26964a173a46e616d65a37",
        "76562a47461677391a174a761646472657373a161b07461676765645f61646472657373657381a36c616e82a761646472657373a162a4706",
        "f727401a46d65746181a16ba176a4706f7274ffab736f636b65745f70617468a170b3656e61626c655f7461675f6f76657272696465c3a77",
        "765696768747382a770617373696e6702a77761726e696e6703a47261726583a46b696e64ad636f6e6e6563742d70726f7879a86c6f63616",
        "c69747982a6726567696f6ea172a47a6f6e65a17aa5706f7274739183a46e616d65a168a4706f727450a764656661756c74c3aa67656e657",
        "26174696f6e04a5636175736584a56163746f72a177a46b696e64ac636865636b5f726573756c74a561745f6d7306a6726561736f6ea179a",
        "6636865636b739183a576616c75658ca26964a163a46e616d65a178a6737461747573a77761726e696e67a56e6f746573a16ea66f7574707",
        "574a16faa736572766963655f6964a173ac736572766963655f6e616d65a3776562ac736572766963655f7461677391a174a46b696e64a37",
        "4746ca8696e74657276616ca23173a774696d656f7574a23273aa646566696e6974696f6ede0019a468747470a161af746c735f736572766",
        "5725f6e616d65a162af746c735f736b69705f766572696679c3a668656164657281a16891a176a66d6574686f64a163a4626f6479a164b16",
        "4697361626c655f726564697265637473c3a3746370a165ab7463705f7573655f746c73c3a3756470a166a6683270696e67a167ae6832706",
        "96e675f7573655f746c73c3aa6f735f73657276696365a168b06f75747075745f62797465735f6d617801a8696e74657276616c82a473656",
        "37302a56e616e6f7300a774696d656f757482a47365637300a56e616e6f73ce002dc6c0d921646572656769737465725f637269746963616",
        "c5f736572766963655f616674657282a47365637304a56e616e6f7300ab7363726970745f6172677391a169b3646f636b65725f636f6e746",
        "1696e65725f6964a16aa57368656c6ca16ba467727063a16cac677270635f7573655f746c73c3aa616c6961735f6e6f6465a16dad616c696",
        "1735f73657276696365a16ea374746c82a47365637305a56e616e6f7300aa67656e65726174696f6e05a56361757365c0a56f776e6572c41",
        "000000000000000000000000000000008",
    ];
}
