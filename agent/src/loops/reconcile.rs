//! Membership into the catalog: each member is a node with `serfHealth`, each server has the `consul` service. The leader does it.
#![allow(clippy::disallowed_methods)] // how long somebody is gone is measured

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_catalog::{
    Cause, CauseKind, Check, CheckId, Command, Deregister, Meta, Node, NodeName, Offer, Outcome, Register, Service, ServiceId,
    ServiceName, State, Status, Target, Topic, Weights,
};
use smol_str::SmolStr;

use super::absence::{Absences, Patience};
use crate::desk::{Desk, DeskError, Member, Standing};
use crate::raft::Raft;

/// Everything is looked at again this often, whatever was heard (Consul's reconcile interval).
const INTERVAL: Duration = Duration::from_secs(60);
/// After a failure, again in this much. A server that does not lead looks this often whether it does.
const RETRY: Duration = Duration::from_secs(1);
/// Gauge: members that are gone, and whose services stay for now.
const HELD: &str = "reconcile.held";
/// Histogram, ms: until the leader's catalog had all that was committed, before members were looked at.
const BARRIER: &str = "leader.barrier";
/// Counter: those waits.
const RAFT_BARRIER: &str = "raft.barrier";
/// Histogram, ms: all members.
const ALL: &str = "leader.reconcile";
/// Histogram, ms: one member.
const MEMBER: &str = "leader.reconcileMember";

/// A new leader whose history has not begun looks again this soon.
const BEGINNING: Duration = Duration::from_millis(20);

/// All members are looked at again after a member changed, but not before this many times as long as it took the last time: of
/// thousands that change one after another, many are seen at once.
const MEMBERS_PACE: u32 = 4;
/// The same after somebody else wrote to the catalog, which seldom touches what is written here.
const CATALOG_PACE: u32 = 50;
/// The same, at least.
const CATALOG_PAUSE: Duration = Duration::from_secs(1);

/// Meta of Consul's own service that its clients look at.
const SERVER_META: [(&str, &str); 7] = [
    ("non_voter", "false"),
    ("read_replica", "false"),
    ("raft_version", "3"),
    ("serf_protocol_current", "2"),
    ("serf_protocol_min", "1"),
    ("serf_protocol_max", "5"),
    ("version", env!("CARGO_PKG_VERSION")),
];

/// Runs until the agent stops.
pub(crate) async fn reconcile(desk: Desk, patience: Patience) {
    let mut stop = std::pin::pin!(desk.stopping());
    let mut version = desk.cluster().version();
    let bell = desk.bells().take(&Topic::State(None));
    let nodes = desk.bells().take(&Topic::Nodes);
    let mut absences = Absences::new(patience);
    loop {
        let (mut check, mut node) = (Box::pin(bell.rung()), Box::pin(nodes.rung()));
        check.as_mut().enable();
        node.as_mut().enable();
        version.borrow_and_update();
        let leads = desk.raft().is_some_and(Raft::is_leader);
        let mut looked = Looked { at: Instant::now(), took: Duration::ZERO };
        let pause = match level_all(&desk, &mut absences, &mut looked).await {
            Ok(Levelled::All) => INTERVAL,
            Ok(Levelled::But(until)) => until.saturating_duration_since(Instant::now()).min(INTERVAL),
            Ok(Levelled::Not) if leads => BEGINNING,
            Ok(Levelled::Not) => RETRY,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "members are not in the catalog yet: trying again");
                RETRY
            }
        };
        let written = async {
            tokio::select! { () = check => {} () = node => {} }
            looked.again(CATALOG_PACE, CATALOG_PAUSE).await;
        };
        let changed = async {
            let changed = version.changed().await;
            looked.again(MEMBERS_PACE, Duration::ZERO).await;
            changed
        };
        tokio::select! {
            () = &mut stop => return,
            () = written => {}
            changed = changed => if changed.is_err() { return },
            () = begins_to_lead(&desk), if !leads => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// When all members were looked at, and how long that took, but for what had to be written.
#[derive(Clone, Copy)]
struct Looked {
    at: Instant,
    took: Duration,
}

impl Looked {
    /// Returns when they may be looked at again: so many times as long as it took after that, and at least so much.
    async fn again(self, pace: u32, least: Duration) {
        tokio::time::sleep_until((self.at + least.max(self.took * pace)).into()).await;
    }
}

/// Returns when this server leads; never on a client.
async fn begins_to_lead(desk: &Desk) {
    match desk.raft() {
        Some(raft) if raft.settled().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

/// How far members are in the catalog.
enum Levelled {
    /// Another server does it, or a history is begun first.
    Not,
    /// All of them are.
    All,
    /// All but some that are waited for, until then at least.
    But(Instant),
}

/// Writes what differs, if anything does and this server is the one to do it.
async fn level_all(desk: &Desk, absences: &mut Absences, looked: &mut Looked) -> Result<Levelled, DeskError> {
    if !desk.raft().is_some_and(Raft::is_leader) {
        absences.forget();
        return Ok(Levelled::Not);
    }
    let began = Instant::now();
    desk.caught_up().await?;
    metrics::counter!(RAFT_BARRIER).increment(1);
    tell(BARRIER, began);
    let began = Instant::now();
    let state = desk.reader().load();
    if state.history().is_none() {
        return Ok(Levelled::Not);
    }
    let members = desk.cluster().members();
    let waits = absences.look(&members, |member| is_told(&state, member), Instant::now());
    metrics::gauge!(HELD).set(waits.nodes.len() as f64);
    if let Some(lost) = waits.begun {
        tracing::error!(
            lost,
            "many members are lost at once, and it may be this server that is cut off: what they offer stays for now"
        );
    }
    let seen = members.iter().filter(|member| !waits.nodes.contains(&member.id));
    let wrong: Vec<_> = seen.filter_map(|member| Some((member, differs(&state, member)?))).collect();
    let forgotten = forgotten(&state, &members);
    drop(state);
    *looked = Looked { at: Instant::now(), took: began.elapsed() };
    for (member, command) in wrong {
        let began = Instant::now();
        let levelled = level(desk, member, command).await;
        tell(MEMBER, began);
        if let Err(error) = levelled {
            match error {
                // one that cannot be written must not keep the others from it
                DeskError::Refused(refusal) => tracing::error!(node = %member.name, %refusal, "the catalog refuses a member"),
                error => return Err(error),
            }
        }
    }
    for name in forgotten {
        let reason = "no member has this name any more";
        remove(desk, name, reason).await?;
    }
    tell(ALL, began);
    Ok(waits.until.map_or(Levelled::All, Levelled::But))
}

fn tell(name: &'static str, since: Instant) {
    metrics::histogram!(name).record(since.elapsed().as_secs_f64() * 1e3);
}

/// Whether the catalog has it that this member is gone.
fn is_told(state: &State, member: &Member) -> bool {
    let Some(row) = state.node(&member.name).filter(|row| row.id == Some(member.id)) else { return true };
    let check = health(false);
    member.standing == Standing::Failed && state.check_on(&row.node.folded(), &check.id).is_some_and(|row| row.value == check)
}

/// What makes the catalog say of a member what is known of it, if it does not.
fn differs(state: &State, member: &Member) -> Option<Command> {
    let name = NodeName::new(&member.name).ok()?; // admission lets no other in
    let at = name.folded();
    match member.standing {
        Standing::Alive | Standing::Leaving => living(state, &name, &at, member),
        Standing::Failed => failed(state, &name, &at, member),
        Standing::Left => {
            let known = state.node(name.as_str()).is_some_and(|row| row.id == Some(member.id));
            known.then_some(Command::Deregister(Deregister { node: name, target: Target::Node, owner: None }))
        }
    }
}

async fn level(desk: &Desk, member: &Member, command: Command) -> Result<(), DeskError> {
    let reason = match member.standing {
        Standing::Alive | Standing::Leaving => "member is alive",
        Standing::Failed => "member failed",
        Standing::Left => "member left",
    };
    let reason = if member.why.is_empty() { reason.to_owned() } else { format!("{reason}: {}", member.why) };
    write(desk, command, &reason).await
}

/// What a living member's node should be, if it is not.
fn living(state: &State, name: &NodeName, at: &NodeName, member: &Member) -> Option<Command> {
    let about = about(member);
    let service = member.server_address().map(|address| server(address.port()));
    let check = health(true);
    let known = state.node(name.as_str()).is_some_and(|row| row.value == about && row.node == *name);
    let served =
        service.as_ref().is_none_or(|service| state.service_on(at, &service.id).is_some_and(|row| row.value == *service));
    if known && served && state.check_on(at, &check.id).is_some_and(|row| row.value == check) {
        return None;
    }
    Some(Command::Register(Register {
        node: name.clone(),
        about: Some(about),
        services: service.into_iter().map(Offer::unowned).collect(),
        checks: vec![Offer::unowned(check)],
        owner: None,
    }))
}

/// The check of a member that failed turns critical; one that was never in the catalog does not come into it that way.
fn failed(state: &State, name: &NodeName, at: &NodeName, member: &Member) -> Option<Command> {
    let check = health(false);
    let row = state.node(name.as_str()).filter(|row| row.id == Some(member.id))?;
    if state.check_on(at, &check.id).is_some_and(|row| row.value == check) {
        return None;
    }
    Some(Command::Register(Register {
        node: row.node.clone(),
        about: None,
        services: Vec::new(),
        checks: vec![Offer::unowned(check)],
        owner: None,
    }))
}

/// Nodes with `serfHealth` that no member stands for: they were reaped while nobody led. What the API alone registered stays.
fn forgotten(state: &State, members: &[Member]) -> Vec<NodeName> {
    let serf = health(true).id;
    let members: HashSet<_> = members.iter().filter_map(|member| Some(NodeName::new(&member.name).ok()?.folded())).collect();
    let strangers = state.nodes().map(|row| (row, row.node.folded())).filter(|(_, at)| !members.contains(at));
    strangers.filter(|(_, at)| state.check_on(at, &serf).is_some()).map(|(row, _)| row.node.clone()).collect()
}

async fn remove(desk: &Desk, node: NodeName, reason: &str) -> Result<(), DeskError> {
    write(desk, Command::Deregister(Deregister { node, target: Target::Node, owner: None }), reason).await
}

async fn write(desk: &Desk, command: Command, reason: &str) -> Result<(), DeskError> {
    let cause = Arc::new(Cause::new(desk.name(), CauseKind::Reconcile, desk.clock_ms(), reason));
    match desk.write_as(command, cause).await? {
        (_, Outcome::Refused(refusal)) => Err(DeskError::Refused(refusal)),
        _ => Ok(()),
    }
}

fn about(member: &Member) -> Node {
    let mut meta = member.meta.clone();
    meta.insert("consul-network-segment".into(), "".into());
    let address = member.tagged.get("lan").cloned().unwrap_or_else(|| SmolStr::new(member.address.ip().to_string()));
    Node { id: Some(member.id), address, tagged_addresses: member.tagged.clone(), meta }
}

fn server(port: u16) -> Service {
    Service {
        id: ServiceId::new("consul").expect("the constant is a name"),
        name: ServiceName::new("consul").expect("the constant is a name"),
        tags: Vec::new(),
        address: SmolStr::default(),
        tagged_addresses: Default::default(),
        meta: SERVER_META
            .map(|(key, value)| (SmolStr::new_static(key), SmolStr::new_static(value)))
            .into_iter()
            .collect::<Meta>(),
        port: port.into(),
        socket_path: SmolStr::default(),
        enable_tag_override: false,
        weights: Weights::default(),
        rare: None,
    }
}

fn health(alive: bool) -> Check {
    let (status, output) = match alive {
        true => (Status::Passing, "Agent alive and reachable"),
        false => (Status::Critical, "Agent not live or unreachable"),
    };
    Check {
        id: CheckId::new("serfHealth").expect("the constant is a name"),
        name: SmolStr::new_static("Serf Health Status"),
        status,
        notes: SmolStr::default(),
        output: SmolStr::new_static(output),
        service_id: None,
        service_name: None,
        service_tags: Vec::new(),
        kind: SmolStr::default(),
        interval: SmolStr::default(),
        timeout: SmolStr::default(),
        definition: None,
    }
}
