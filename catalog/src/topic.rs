//! What a reader can wait for.

use std::sync::Arc;

use uuid::Uuid;

use crate::name::{NodeName, ServiceName};
use crate::status::Health;

/// Something whose answers change together. Names are folded. Rung only when an answer on the topic can have changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The list of nodes.
    Nodes,
    /// The list of services and their tags.
    Services,
    /// One node and the services on it.
    Node(NodeName),
    /// The checks of one node, its services' included.
    NodeChecks(NodeName),
    /// The instances of a service and the nodes they are on.
    Service(ServiceName),
    /// The instances of a service with everything that bears on their health.
    Health(ServiceName),
    /// The checks of a service's instances.
    ServiceChecks(ServiceName),
    /// All checks of a status; `None` is any status.
    State(Option<Health>),
    /// One key.
    Key(Arc<str>),
    /// All keys with this prefix; rung through [`Topic::Key`] of a key under it.
    Prefix(Arc<str>),
    /// Where nodes are.
    Coordinates,
    /// The list of sessions.
    Sessions,
    /// The sessions on one node.
    NodeSessions(NodeName),
    /// One session.
    Session(Uuid),
}
