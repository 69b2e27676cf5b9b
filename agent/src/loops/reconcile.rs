//! Membership into the catalog: each member is a node with `serfHealth`, each server has the `consul` service.

use std::sync::Arc;
use std::time::Duration;

use muster_catalog::{
    Cause, CauseKind, Check, CheckId, Command, Meta, Node, Offer, Outcome, Register, Service, ServiceId, ServiceName, Status,
    Topic, Weights,
};
use smol_str::SmolStr;

use crate::desk::{Desk, DeskError};

/// Everything is looked at again this often, whatever was heard (Consul's reconcile interval).
const INTERVAL: Duration = Duration::from_secs(60);
/// After a failure, again in this much.
const RETRY: Duration = Duration::from_secs(1);

/// What membership knows of a member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) about: Node,
    /// The port of its RPC, if it is a server.
    pub(crate) server_port: Option<u16>,
    /// Meta of its `consul` service.
    pub(crate) server_meta: Meta,
}

/// Runs until the agent stops. This server is the one member there is.
pub(crate) async fn reconcile(desk: Desk, mut member: tokio::sync::watch::Receiver<Member>) {
    let mut stop = std::pin::pin!(desk.stopping());
    let bells =
        [Topic::Node(desk.name().folded()), Topic::NodeChecks(desk.name().folded())].map(|topic| desk.bells().take(&topic));
    loop {
        let mut rings = bells.each_ref().map(|bell| Box::pin(bell.rung()));
        for ring in &mut rings {
            ring.as_mut().enable();
        }
        let now = member.borrow_and_update().clone();
        let pause = match level(&desk, &now).await {
            Ok(()) => INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "this member is not in the catalog yet: trying again");
                RETRY
            }
        };
        tokio::select! {
            () = &mut stop => return,
            _ = futures_util::future::select_all(rings) => {}
            changed = member.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Writes what differs, if anything does.
async fn level(desk: &Desk, member: &Member) -> Result<(), DeskError> {
    desk.caught_up().await?;
    let node = desk.name();
    let service = member.server_port.map(|port| server(port, &member.server_meta));
    let check = alive();
    let level = {
        let state = desk.reader().load();
        let at = node.folded();
        let known = state.node(node.as_str()).is_some_and(|row| row.value == member.about && row.node == *node);
        let served =
            service.as_ref().is_none_or(|service| state.service_on(&at, &service.id).is_some_and(|row| row.value == *service));
        known && served && state.check_on(&at, &check.id).is_some_and(|row| row.value == check)
    };
    if level {
        return Ok(());
    }
    let register = Register {
        node: node.clone(),
        about: Some(member.about.clone()),
        services: service.into_iter().map(Offer::unowned).collect(),
        checks: vec![Offer::unowned(check)],
        owner: None,
    };
    let cause = Arc::new(Cause::new(node, CauseKind::Reconcile, desk.clock_ms(), "member is alive"));
    match desk.write_as(Command::Register(register), cause).await? {
        (_, Outcome::Refused(refusal)) => Err(DeskError::Refused(refusal)),
        _ => Ok(()),
    }
}

fn server(port: u16, meta: &Meta) -> Service {
    Service {
        id: ServiceId::new("consul").expect("the constant is a name"),
        name: ServiceName::new("consul").expect("the constant is a name"),
        tags: Vec::new(),
        address: SmolStr::default(),
        tagged_addresses: Default::default(),
        meta: meta.clone(),
        port: port.into(),
        socket_path: SmolStr::default(),
        enable_tag_override: false,
        weights: Weights::default(),
        rare: None,
    }
}

fn alive() -> Check {
    Check {
        id: CheckId::new("serfHealth").expect("the constant is a name"),
        name: SmolStr::new_static("Serf Health Status"),
        status: Status::Passing,
        notes: SmolStr::default(),
        output: SmolStr::new_static("Agent alive and reachable"),
        service_id: None,
        service_name: None,
        service_tags: Vec::new(),
        kind: SmolStr::default(),
        interval: SmolStr::default(),
        timeout: SmolStr::default(),
        definition: None,
    }
}
