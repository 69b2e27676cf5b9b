//! What this one agent is told to do.

use muster_catalog::{CheckDefinition, CheckId, Service, ServiceId, Status};

use super::cluster::ClusterOrder;
use super::events::UserEvent;

/// Something that one named agent does.
#[derive(Debug)]
pub(crate) enum Order {
    /// Look after a service and its checks.
    RegisterService {
        service: Box<Service>,
        checks: Vec<CheckDefinition>,
        /// Whether checks of the service that are not told now go.
        replace_checks: bool,
    },
    /// Forget a service and its checks.
    DeregisterService(ServiceId),
    /// Look after a check.
    RegisterCheck(Box<CheckDefinition>),
    /// Forget a check.
    DeregisterCheck(CheckId),
    /// Take a TTL check's report.
    Report { check: CheckId, status: Status, output: String },
    /// Take a service out of the answers, with a reason, or back.
    ServiceMaintenance { service: ServiceId, on: Option<String> },
    /// Take the node out of the answers, with a reason, or back.
    NodeMaintenance { on: Option<String> },
    /// Tell all agents of an event.
    Fire(Box<UserEvent>),
    /// Do something about the cluster.
    Cluster(ClusterOrder),
    /// Read the configuration again.
    Reload,
    /// Leave the cluster and stop.
    Leave,
}

impl Order {
    /// Whether it makes this agent run programs.
    pub(crate) fn runs_programs(&self) -> bool {
        let program = |check: &CheckDefinition| check.probe.runs_program();
        match self {
            Order::RegisterService { checks, .. } => checks.iter().any(program),
            Order::RegisterCheck(check) => program(check),
            _ => false,
        }
    }
}

/// What the assembly does for the desk: it alone can read the configuration again, or end the process.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Read the configuration again; the answer is every fault, if there are any.
    Reload(tokio::sync::oneshot::Sender<Result<(), String>>),
    /// Leave, and tell when it is done.
    Leave(tokio::sync::oneshot::Sender<()>),
}
