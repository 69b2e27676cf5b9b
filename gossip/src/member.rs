//! Members as others see them, what happens to them, and by what cause.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use crate::accusation::Accusation;
use crate::error::Refusal;
use crate::identity::Identity;
use crate::record::Record;

/// A member of the cluster, this agent included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who, in which life, and where its gossip port is.
    pub identity: Identity,
    /// How it is.
    pub state: State,
    /// What it says about itself.
    pub record: Arc<Record>,
    /// Why it is in that state.
    pub cause: Cause,
    /// Since when it is in that state, by this agent's clock.
    pub since: Instant,
    /// How it is reached from here, as it was when this list was made.
    pub reach: Reach,
    /// Who holds it silent: of a living one, who suspects it; of one that failed, by whose word.
    pub accusations: Arc<[Accusation]>,
    /// How often it alone accused another, in this run, who then said that it lives: who is wrong more often than the others hears nothing
    /// itself.
    pub wrong: u32,
}

impl Member {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its node UUID.
    pub fn node(&self) -> Uuid {
        self.identity.node
    }

    /// Whether it is alive, and suspected not to be.
    pub fn is_suspect(&self) -> bool {
        self.state == State::Alive && !self.accusations.is_empty()
    }

    /// The port that does not answer this agent, though the member is alive.
    pub fn degraded(&self) -> Option<Port> {
        self.reach.failing().filter(|_| self.state == State::Alive)
    }

    /// A tag of it.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.record.tags.get(key).map(String::as_str)
    }
}

/// How a member is reached from this agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// When it last answered a ping over UDP.
    pub udp: Option<Instant>,
    /// When it last answered over TCP.
    pub tcp: Option<Instant>,
    /// How many pings over UDP it has not answered since.
    pub udp_missed: u8,
    /// How often it has not answered over TCP since.
    pub tcp_missed: u8,
}

/// One of a member's two gossip ports, which have one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Packets.
    Udp,
    /// Connections.
    Tcp,
}

/// From so many pings over UDP in a row without an answer on, it is told. Where a quarter is lost each way, three in a row are one time in twelve.
const UDP_MISSED: u8 = 3;
/// And from so many failed connections in a row on: TCP sends again by itself.
const TCP_MISSED: u8 = 2;

impl Reach {
    /// The port that does not answer this agent.
    pub fn failing(&self) -> Option<Port> {
        if self.udp_missed >= UDP_MISSED {
            Some(Port::Udp)
        } else if self.tcp_missed >= TCP_MISSED {
            Some(Port::Tcp)
        } else {
            None
        }
    }
}

impl Port {
    /// The transport.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// How a member is. A suspected one is alive until it is buried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// It answers.
    Alive = 1,
    /// It said that it leaves, or was made to.
    Left = 2,
    /// It does not answer.
    Failed = 3,
}

impl State {
    /// Consul's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }
}

/// Why a member is as it is: which kind of reason, and whose word it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// Which kind of reason.
    pub kind: Kind,
    /// Whose word: the accuser, the admitting member, who forced it out. The member itself where nobody else is in it.
    pub by: Option<Uuid>,
}

/// Kinds of [`Cause`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// It is this agent.
    Itself = 1,
    /// It was admitted, or heard of.
    Joined = 2,
    /// It came back in a new life, or under a new address.
    Returned = 3,
    /// It changed its record.
    Changed = 4,
    /// It answered neither pings nor the pings of others, and did not refute in time; `by` is the accuser.
    Silent = 5,
    /// `by` holds it dead, and it did not answer when this agent asked.
    Told = 6,
    /// It said that it leaves, for good.
    Left = 7,
    /// It said that it stops, and may be back in a moment.
    Stopped = 8,
    /// `by` forced it out after it had failed.
    Forced = 9,
    /// Another holder of its name or UUID took its place: `by` admitted it.
    Replaced = 10,
    /// It was dead for as long as the dead are kept.
    Expired = 11,
    /// More dead were kept than there is room for.
    Crowded = 12,
    /// `by` had it dropped from the list.
    Pruned = 13,
    /// Its port refused `by` and another member, and answered nobody.
    Refused = 14,
}

impl Kind {
    pub(crate) fn from_u8(tag: u8) -> Option<Self> {
        use Kind::*;
        [Itself, Joined, Returned, Changed, Silent, Told, Left, Stopped, Forced, Replaced, Expired, Crowded, Pruned, Refused]
            .into_iter()
            .find(|kind| *kind as u8 == tag)
    }

    /// One word for it, for logs and causes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Itself => "itself",
            Self::Joined => "joined",
            Self::Returned => "returned",
            Self::Changed => "changed",
            Self::Silent => "silent",
            Self::Told => "told",
            Self::Left => "left",
            Self::Stopped => "stopped",
            Self::Forced => "forced",
            Self::Replaced => "replaced",
            Self::Expired => "expired",
            Self::Crowded => "crowded",
            Self::Pruned => "pruned",
            Self::Refused => "refused",
        }
    }

    /// Whether a member that is gone for this reason has left rather than failed.
    pub(crate) fn is_departure(self) -> bool {
        matches!(self, Self::Left | Self::Stopped | Self::Forced | Self::Replaced | Self::Pruned)
    }
}

/// What happened among the members. Each member carries the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member is there, or there again.
    Up(Arc<Member>),
    /// A member failed.
    Down(Arc<Member>),
    /// A member left; also one that had failed before.
    Left(Arc<Member>),
    /// A living member changed its record, its address or its epoch.
    Updated(Arc<Member>),
    /// A dead member is forgotten; its `cause` says why.
    Reaped(Arc<Member>),
    /// Two living members have one name. The one that has been up longer stays, the other goes quiet.
    Clash {
        /// The name.
        name: String,
        /// Its holders.
        nodes: [Uuid; 2],
    },
    /// Somebody asked to be let in, or for something else, and was refused. The same to the same host is told once in half a minute.
    Refused {
        /// Who asked.
        peer: SocketAddr,
        /// Why not.
        refusal: Refusal,
    },
    /// The member that let this agent in cannot reach the address that this agent advertises.
    Unreachable {
        /// Who cannot.
        by: SocketAddr,
        /// What it tried.
        advertised: SocketAddr,
    },
    /// A member was looked for over TCP, from here and from others: because [`crate::Handle::check`] asked, or its port refused.
    Checked(Arc<Proof>),
    /// Somebody fired a user event: [`crate::Handle::fire`].
    Fired(Arc<Fired>),
    /// This agent and another do not come to agree on who lives, however often they compare. Told once, until they agree again.
    Disagreement {
        /// The other.
        with: Uuid,
        /// Lives that go on as this agent sees it, and not as the other does; a few of them.
        only_here: Vec<Identity>,
        /// Lives that go on as the other sees it, and not as this agent does; a few of them.
        only_there: Vec<Identity>,
    },
    /// This agent is in no cluster's gossip any more: it must not fight with another holder of its UUID or name.
    Quiet(Quiet),
    /// Every other member is lost; kept peers are dialed until one answers.
    Alone,
    /// This agent's epoch is now this one.
    Epoch(u64),
    /// This agent belongs to this cluster now.
    Cluster(Uuid),
}

/// A user event. Each is told once; in what order they come is chance, and in what order they are is their time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// Lamport's time: of two events of which one led to the other, that one's is earlier.
    pub time: u64,
    /// Who fired it.
    pub by: Uuid,
    /// Its name.
    pub name: String,
    /// What it carries.
    pub payload: bytes::Bytes,
}

/// What came of looking for a member over TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Who was looked for.
    pub identity: Identity,
    /// What it proves.
    pub outcome: Outcome,
    /// From which members it was refused.
    pub refused: Vec<Uuid>,
    /// Which member it answered.
    pub answered: Option<Uuid>,
}

/// What a [`Proof`] proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Lives,
    /// It was refused from enough hosts, and answered none: it is buried.
    Dead,
    /// Neither: it is looked for in the way of silence.
    Open,
}

/// Why an agent went quiet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Quiet {
    /// Another agent that has been up longer holds this UUID: this data directory is a copy.
    #[error(
        "the agent at {0} has the same node id and has been up longer: this agent went quiet. If its data directory is a copy, \
         give it a node id of its own; if that agent is to go, stop it and start this one with --replace"
    )]
    Id(SocketAddr),
    /// Another agent that has been up longer holds this name.
    #[error(
        "the agent at {0} has the same node name and has been up longer: this agent went quiet. Start it under another name; or \
         stop that agent and start this one with --replace"
    )]
    Name(SocketAddr),
    /// A member admitted another agent in this one's place.
    #[error(
        "another agent was admitted in this one's place: this agent went quiet. To take the place back, start it with --replace"
    )]
    Replaced,
}

/// What is needed to find a member again after a restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its UUID.
    pub node: Uuid,
    /// Its name.
    pub name: String,
    /// Its gossip port.
    pub addr: SocketAddr,
}
