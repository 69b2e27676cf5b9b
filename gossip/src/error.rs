//! What can go wrong with gossip, and who can mend it.

use std::net::SocketAddr;

use uuid::Uuid;

/// Why gossip cannot start or what its caller asked cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port could not be opened: the address is not this host's, or the port is taken. Nothing stays open; the operator mends it.
    #[error("cannot listen for gossip over {transport} on {addr}")]
    Listen {
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// Where.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The record of this node (name, tags, metadata) is over the bound. Nothing changed; shorten the tags or the metadata.
    #[error("name, tags and metadata of this node are over {max} bytes or {pairs} pairs", max = crate::RECORD_BYTES_MAX, pairs = crate::PAIRS_MAX)]
    RecordTooBig,
    /// A user event has no name, or is longer than gossip carries. Nothing was told; the caller mends it.
    #[error("a user event has a name, and with its payload at most {max} bytes", max = crate::FIRED_BYTES_MAX)]
    EventTooBig,
    /// More waits to be told than gossip carries in some seconds. Nothing was told; the caller tries again later.
    #[error("too many user events at once")]
    TooManyEvents,
    /// A setting makes no sense. Nothing changed; the caller mends it.
    #[error("{0}")]
    Setting(&'static str),
    /// No member has that name. Nothing changed.
    #[error("no member is named {0:?}")]
    UnknownMember(String),
    /// The member lives: it would come back at once. Nothing changed; stop it, or tell it to leave.
    #[error("member {0:?} is alive: only a failed member can be made to leave")]
    NotFailed(String),
    /// This agent has left, or went quiet. Nothing changed; it takes part again after a restart.
    #[error("this agent no longer takes part in gossip: {0}")]
    Out(String),
    /// What was adopted or changed could not be kept on disk, so it was not used. The operator mends the disk.
    #[error("cannot keep {what} on disk, so it is not used")]
    Keep {
        /// What was to be kept.
        what: &'static str,
        /// The caller's reason.
        source: std::io::Error,
    },
    /// A change of the keys makes no sense. Nothing changed.
    #[error("cannot change the gossip keys")]
    Key(#[from] KeyError),
}

/// Why something cannot be simulated. Nothing was run; who asked for it mends it.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Impossible {
    /// There is no agent in it.
    #[error("a cluster of 0 nodes has nobody who could find out anything")]
    Nobody,
    /// More agents than a member table holds.
    #[error("{nodes} nodes are more than a member table holds ({max})")]
    TooMany {
        /// How many there would be.
        nodes: usize,
        /// How many may be.
        max: usize,
    },
    /// All of the agents end.
    #[error("{ended} of {nodes} nodes end: at least one must be left to find out")]
    NobodyLeft {
        /// How many end.
        ended: usize,
        /// How many there are.
        nodes: usize,
    },
    /// Something happens to more agents than there are.
    #[error("{asked} of {nodes} nodes: there are not so many")]
    NotSoMany {
        /// To how many it would happen.
        asked: usize,
        /// How many there are.
        nodes: usize,
    },
    /// Something would happen when the run is over.
    #[error("something happens after {} s, and the run ends after {} s", at.as_secs_f64(), until.as_secs_f64())]
    Late {
        /// When it would happen.
        at: std::time::Duration,
        /// When the run ends.
        until: std::time::Duration,
    },
    /// A share is none, or so much is lost that nothing gets through.
    #[error("a share of {} % is not between 0 % and {} %", share * 100.0, max * 100.0)]
    Share {
        /// What was given.
        share: f64,
        /// What may be.
        max: f64,
    },
    /// The shortest way takes longer than the longest.
    #[error("the shortest latency is above the longest")]
    Latency,
    /// Without a key nothing tells a forged packet from a true one.
    #[error("packets can be forged where no key is set: nothing is found out by trying")]
    Unsealed,
    /// A process that never runs is a dead one.
    #[error("a starved process must run for some part of each period, and for no more than all of it")]
    Starved,
}

/// Why a key is not taken. Nothing changed; the operator mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is no base64.
    #[error("a gossip key is base64, as `keygen` prints it")]
    Base64,
    /// Neither 16 nor 32 bytes; 24 are Consul's AES-192, which is not spoken here.
    #[error("a gossip key has 16 or 32 bytes (AES-128 or AES-256), not {0} bytes; `keygen` makes one of 32")]
    Length(usize),
    /// The ring holds as many keys as it may.
    #[error("the keyring holds {max} keys already: remove one first", max = crate::KEYS_MAX)]
    Full,
    /// The key is not in the ring.
    #[error("requested key is not in the keyring")]
    Unknown,
    /// The primary key cannot be removed: use another one first.
    #[error("removing the primary key is not allowed")]
    Primary,
    /// Gossip is not encrypted.
    #[error("keyring is empty (encryption not enabled)")]
    NotEncrypted,
}

/// Why an agent was not let in, or a question not answered. Said on both sides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Which kind of reason.
    pub why: Why,
    /// The reason, with the way out.
    pub text: String,
}

/// Kinds of [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Why {
    /// The gossip keys differ, or only one side has one.
    Key = 1,
    /// The two belong to different clusters.
    Cluster = 2,
    /// The two belong to different datacenters.
    Datacenter = 3,
    /// No form of the protocol is spoken by both.
    Version = 4,
    /// A living member holds the UUID elsewhere.
    Id = 5,
    /// A living member of another UUID holds the name.
    Name = 6,
    /// The asked agent leaves, has left or is quiet.
    Out = 7,
    /// The request could not be read, or makes no sense.
    Malformed = 8,
    /// The asked agent serves as many connections as it may.
    Busy = 9,
    /// A reason of a newer version.
    Other = 255,
}

impl Why {
    /// All of them, for counters.
    pub(crate) const ALL: [Self; 10] = [
        Self::Key,
        Self::Cluster,
        Self::Datacenter,
        Self::Version,
        Self::Id,
        Self::Name,
        Self::Out,
        Self::Malformed,
        Self::Busy,
        Self::Other,
    ];

    pub(crate) fn from_u8(tag: u8) -> Self {
        Self::ALL.into_iter().find(|why| *why as u8 == tag).unwrap_or(Self::Other)
    }

    /// The label of it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Cluster => "cluster",
            Self::Datacenter => "datacenter",
            Self::Version => "version",
            Self::Id => "id",
            Self::Name => "name",
            Self::Out => "out",
            Self::Malformed => "malformed",
            Self::Busy => "busy",
            Self::Other => "other",
        }
    }
}

impl Refusal {
    pub(crate) fn new(why: Why, text: impl Into<String>) -> Self {
        Self { why, text: text.into() }
    }

    pub(crate) fn cluster(theirs: Uuid, ours: Uuid) -> Self {
        Self::new(
            Why::Cluster,
            format!(
                "it belongs to cluster {ours}, the agent that asks to cluster {theirs}: clusters never merge. To move an agent, \
                 stop it and start it once with --forget-cluster"
            ),
        )
    }
}

/// Why one address could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No connection. Nothing changed; it may be tried again.
    #[error("cannot connect to {addr}")]
    Connect {
        /// Where.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No answer within the deadline, or one that breaks off. Nothing changed; it may be tried again.
    #[error("{addr} does not answer as an agent does")]
    Talk {
        /// Where.
        addr: SocketAddr,
        /// What happened.
        source: std::io::Error,
    },
    /// The agent there, or this one, refuses. Nothing changed; the text says the way out.
    #[error("{addr} refused")]
    Refused {
        /// Where.
        addr: SocketAddr,
        /// Its reason.
        source: Refusal,
    },
    /// What the agent gave could not be used here.
    #[error("cannot use what {addr} gave")]
    Own {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: Error,
    },
}
