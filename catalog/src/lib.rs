//! The catalog: what is registered, how it changes, what can be asked of it, and what one agent was told to run.
//!
//! A [`Command`] enters at [`Store::apply`], the one place where anything changes; a [`Reader`] sees one consistent
//! [`State`] for as long as it holds it. No clock, no socket, no randomness lives here.

mod autopilot;
mod cause;
mod command;
mod coordinate;
#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod corpus;
mod definition;
mod error;
mod execute;
mod feed;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod grave;
mod interest;
mod kv;
mod local;
mod meta;
mod name;
mod pack;
mod past;
mod prepared;
mod query;
mod rebuild;
mod removal;
mod restore;
mod row;
mod run;
mod session;
mod snapshot;
mod state;
mod status;
mod store;
mod topic;
mod transaction;

pub use autopilot::{Autopilot, AutopilotRow, SetAutopilot};
pub use cause::{Cause, CauseKind, REASON_BYTES_MAX};
pub use command::{
    COMMANDS_IN_FLIGHT_MAX, Command, CreateSession, Deregister, EndSession, Offer, Outcome, Proposal, Refusal, Register, Removed,
    Run, Target,
};
pub use coordinate::{Coordinate, DIMENSIONS, Near, Placed};
pub use definition::{
    AliasProbe, CheckDefinition, DEREGISTER_AFTER_MIN, Definition, DockerProbe, ExecProbe, GrpcProbe, HttpProbe, INTERVAL_MIN,
    OUTPUT_BYTES_MAX_DEFAULT, OsServiceProbe, Probe, TcpProbe, UdpProbe,
};
pub use error::{DecodeError, EnterError, FeedError, SnapshotError};
pub use execute::{AllQueries, Asker, ExecuteQuery, Executed, QueryOne, ResolveQuery};
pub use feed::{Batch, Beat, FRAME_BYTES_MAX, Frames, Incoming, Intake, Position, Resume};
pub use grave::GRAVES_MAX;
pub use interest::{Interest, Part};
pub use kv::{Kv, KvVerb};
pub use local::{
    AntiEntropy, Local, LocalCheck, LocalService, NODE_MAINTENANCE, Plan, ROWS_A_COMMAND_MAX, SERVICE_MAINTENANCE_PREFIX, Scope,
    Source,
};
pub use meta::Meta;
pub use name::{CheckId, NAME_BYTES_MAX, NameError, NodeName, ServiceId, ServiceName, fold};
pub use pack::unpack;
pub use past::{CHANGES_OF_A_CHECK_MAX, CHANGES_OF_A_SERVICE_MAX, CHANGES_OF_A_SESSION_MAX, Change, PAST_BYTES_MAX, Subject};
pub use prepared::{PreparedQuery, QueryFailover, QueryFault, QueryRow, QueryService, QueryTemplate, SetQuery};
pub use query::{
    AllSessions, Ask, AutopilotSet, CatalogService, Coordinates, HealthService, KeyOne, KeysUnder, MetaFilter, NodeChecks,
    NodeServices, NodeSessions, Nodes, Reading, ServiceChecks, ServiceTags, Services, SessionOne, StateChecks, Usage,
    UsageCounts,
};
pub use removal::RemovalMark;
pub use restore::{CHUNK_BYTES_MAX, Chunk, STAGED_BYTES_MAX, Switch};
pub use row::{
    Address, Check, Entry, Index, Instance, Locality, Node, RareServiceFields, Row, Service, ServiceAddress, ServicePort, Weights,
};
pub use session::{Behavior, HELD_BACK_MAX, ServiceCheck, Session};
pub use snapshot::Survey;
pub use state::{Bucket, State, state_named};
pub use status::{Health, Status, worst};
pub use store::{Applied, Reader, Store, Touched};
pub use topic::Topic;
pub use transaction::{Fault, Found, Look, Op, RESULTS_BYTES_MAX, Transacted};
