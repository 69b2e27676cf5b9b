//! What this agent was told to run, and what is missing from the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::cause::Cause;
use crate::command::{Command, Deregister, Offer, Register, Removed, Target};
use crate::definition::CheckDefinition;
use crate::name::{CheckId, NodeName, ServiceId};
use crate::pack::pack;
use crate::row::{Check, Row, Service};
use crate::state::State;
use crate::status::Status;

/// Rows that one command of a plan carries at most: a full sync of thousands stays a handful of log entries, each
/// far below any limit on a message.
pub const ROWS_A_COMMAND_MAX: usize = 128;
/// Bytes of rows that one command of a plan carries at most, unless a single row is larger (a registration is at most as
/// large as this, too): many large rows together must not exceed what one log entry takes, or none of them would be written.
const ROW_BYTES_A_COMMAND_MAX: usize = 1 << 20;

/// Registrations of one start are counted in this many bits, starts in those above: 4 billion of each.
const GENERATION_BITS: u32 = 32;

/// Id of the check that holds the node in maintenance.
pub const NODE_MAINTENANCE: &str = "_node_maintenance";
/// Prefix of the ids of checks that hold a service in maintenance.
pub const SERVICE_MAINTENANCE_PREFIX: &str = "_service_maintenance:";

/// Where a definition came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Told over the API: kept on disk until it is deregistered.
    Api,
    /// Stands in a definition file: returns at each start and reload.
    File,
}

/// A service that this agent was told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalService {
    /// What it is.
    pub service: Service,
    /// Where it came from.
    pub source: Source,
    /// Rises with each registration, so that a removal mark for an earlier one cannot take a later one away.
    pub generation: u64,
    /// Who told of it.
    pub cause: Arc<Cause>,
}

/// A check that this agent was told of, with its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalCheck {
    /// The check as the catalog shows it.
    pub check: Check,
    /// How it is run; `None` for maintenance, which only stands.
    pub definition: Option<CheckDefinition>,
    /// Where it came from.
    pub source: Source,
    /// Rises with each registration.
    pub generation: u64,
    /// Who told of it, or why its verdict is what it is.
    pub cause: Arc<Cause>,
    /// While output alone differs from the catalog's, not before this time (milliseconds of the caller's clock).
    #[serde(skip)]
    pub output_due_ms: Option<u64>,
}

/// All that one agent was told to run.
#[derive(Debug, Clone, Default)]
pub struct Local {
    services: BTreeMap<ServiceId, LocalService>,
    checks: BTreeMap<CheckId, LocalCheck>,
    generation: u64,
    /// What changed since the last plan, gone or not.
    changed: Changed,
    /// Why what is gone went, until the catalog has been told. Bounded by the rows that the catalog still shows.
    gone: BTreeMap<Target, Arc<Cause>>,
}

#[derive(Debug, Clone, Default)]
struct Changed {
    services: BTreeSet<ServiceId>,
    checks: BTreeSet<CheckId>,
}

/// How much a plan looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What changed here since the last plan.
    Changed,
    /// Everything: what others did to the catalog, too.
    All,
}

/// Whether rows on this node that nobody keeps are left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AntiEntropy {
    /// Only rows that this agent owns are touched.
    OwnRows,
    /// As Consul: whatever this agent does not know goes, except what membership keeps.
    WholeNode,
}

/// What is to be done so that the catalog shows what this agent was told.
#[derive(Debug, Default)]
pub struct Plan {
    /// To be written, in this order, each with its cause if it has one of its own.
    pub commands: Vec<(Command, Option<Arc<Cause>>)>,
    /// When a deferred output is due, in milliseconds of the caller's clock.
    pub due_ms: Option<u64>,
}

impl Local {
    /// Of an agent that is started for the `starts`-th time. Generations of a later start are above all of earlier ones,
    /// those of rows that are gone included: no removal mark of a former run can hold a new registration back.
    pub fn of_start(starts: u64) -> Self {
        Self { generation: starts << GENERATION_BITS, ..Self::default() }
    }

    /// Everything it has, in the order of ids.
    pub fn services(&self) -> &BTreeMap<ServiceId, LocalService> {
        &self.services
    }

    /// Everything it has, in the order of ids.
    pub fn checks(&self) -> &BTreeMap<CheckId, LocalCheck> {
        &self.checks
    }

    /// The checks of a service; with `None`, of the node.
    pub fn checks_of<'a>(&'a self, service: Option<&'a ServiceId>) -> impl Iterator<Item = &'a LocalCheck> {
        self.checks.values().filter(move |local| local.check.service_id.as_ref() == service)
    }

    /// Takes what was kept on disk.
    pub fn restore(&mut self, services: Vec<LocalService>, checks: Vec<LocalCheck>) {
        for local in services {
            self.generation = self.generation.max(local.generation);
            self.services.insert(local.service.id.clone(), local);
        }
        for local in checks {
            self.generation = self.generation.max(local.generation);
            self.checks.insert(local.check.id.clone(), local);
        }
    }

    /// Tells of a service; its checks are told separately.
    pub fn put_service(&mut self, service: Service, source: Source, cause: Arc<Cause>) -> &LocalService {
        self.generation += 1;
        let id = service.id.clone();
        self.changed.services.insert(id.clone());
        let local = LocalService { service, source, generation: self.generation, cause };
        self.services.insert(id.clone(), local);
        &self.services[&id]
    }

    /// Tells of a check. One whose definition is as before keeps its verdict.
    pub fn put_check(
        &mut self,
        check: Check,
        definition: Option<CheckDefinition>,
        source: Source,
        cause: Arc<Cause>,
    ) -> &LocalCheck {
        self.generation += 1;
        let id = check.id.clone();
        self.changed.checks.insert(id.clone());
        let mut local = LocalCheck { check, definition, source, generation: self.generation, cause, output_due_ms: None };
        if let Some(old) = self.checks.get(&id).filter(|old| same_probe(old.definition.as_ref(), local.definition.as_ref())) {
            local.check.status = old.check.status.clone();
            local.check.output = old.check.output.clone();
        }
        self.checks.insert(id.clone(), local);
        &self.checks[&id]
    }

    /// A service and its checks go; what went.
    pub fn remove_service(&mut self, id: &ServiceId, cause: &Arc<Cause>) -> Option<(LocalService, Vec<LocalCheck>)> {
        let service = self.services.remove(id)?;
        self.changed.services.insert(id.clone());
        self.gone.insert(Target::Service(id.clone()), cause.clone());
        let checks: Vec<_> = self.checks_of(Some(id)).map(|local| local.check.id.clone()).collect();
        Some((service, checks.iter().filter_map(|id| self.remove_check(id, cause)).collect()))
    }

    /// A check goes; what went.
    pub fn remove_check(&mut self, id: &CheckId, cause: &Arc<Cause>) -> Option<LocalCheck> {
        let check = self.checks.remove(id)?;
        self.changed.checks.insert(id.clone());
        self.gone.insert(Target::Check(id.clone()), cause.clone());
        Some(check)
    }

    /// A check has a new result. Says whether the verdict turned, so that the catalog must hear of it at once; new
    /// output with the same verdict waits until `output_due_ms`.
    pub fn set_result(
        &mut self,
        id: &CheckId,
        status: Status,
        output: SmolStr,
        cause: Cause,
        output_due_ms: u64,
    ) -> Option<bool> {
        let local = self.checks.get_mut(id)?;
        let turned = local.check.status != status;
        if turned {
            local.cause = Arc::new(cause);
        } else if local.check.output == output {
            return Some(false);
        } else if local.output_due_ms.is_none() {
            local.output_due_ms = Some(output_due_ms);
        }
        local.check.status = status;
        local.check.output = output;
        self.changed.checks.insert(id.clone());
        Some(turned)
    }

    /// Drops what somebody else removed from the catalog, unless it was told again since. Gives what to acknowledge,
    /// and which services and checks went.
    pub fn heed_removals(&mut self, owner: Uuid, state: &State) -> (Vec<Removed>, Vec<LocalService>, Vec<LocalCheck>) {
        let (mut seen, mut services, mut checks) = (Vec::new(), Vec::new(), Vec::new());
        for mark in state.removals_of(owner) {
            if mark.history != state.history() {
                seen.push(mark.removed.clone());
                continue;
            }
            match &mark.removed {
                Removed::Service(id, generation) => match self.services.get(id) {
                    Some(local) if local.generation > *generation => continue,
                    Some(_) => {
                        if let Some((service, own)) = self.remove_service(id, &mark.cause) {
                            services.push(service);
                            checks.extend(own);
                        }
                    }
                    None => {}
                },
                Removed::Check(id, generation) => match self.checks.get(id) {
                    Some(local) if local.generation > *generation => continue,
                    Some(_) => checks.extend(self.remove_check(id, &mark.cause)),
                    None => {}
                },
            }
            seen.push(mark.removed.clone());
        }
        (seen, services, checks)
    }

    /// What the catalog lacks or has too much of, looking only at rows that are this agent's to keep. It counts as
    /// carried out: when writing a part of it fails, the next plan is to look at everything.
    pub fn plan(&mut self, owner: Uuid, node: &NodeName, state: &State, mode: AntiEntropy, scope: Scope, now_ms: u64) -> Plan {
        let at = node.folded();
        let changed = std::mem::take(&mut self.changed);
        let changed = match scope {
            Scope::Changed => changed,
            Scope::All => self.everything(owner, &at, state, mode),
        };
        let mut plan = Plan::default();
        let (mut services, mut checks) = (Vec::new(), Vec::new());
        let mut removed = Vec::new();
        for id in changed.services {
            match (self.services.get(&id), state.service_on(&at, &id)) {
                (Some(local), row) => services.extend(offer_service(local, row.map(|row| &**row), owner)),
                (None, Some(row)) if row.owner == Some(owner) || mode == AntiEntropy::WholeNode => {
                    removed.push(Target::Service(id));
                }
                (None, _) => {}
            }
        }
        for id in changed.checks {
            match (self.checks.get_mut(&id), state.check_on(&at, &id)) {
                (Some(local), row) => match judge(local, row.map(|row| &**row), owner, now_ms) {
                    Judgement::Level => {}
                    Judgement::Offer => {
                        let (value, generation, cause) = (local.check.clone(), local.generation, Some(local.cause.clone()));
                        checks.push(Offer { value, generation, cause });
                    }
                    Judgement::Later(due) => {
                        self.changed.checks.insert(id);
                        plan.due_ms = Some(plan.due_ms.map_or(due, |other| other.min(due)));
                    }
                },
                (None, Some(row)) if row.owner == Some(owner) || mode == AntiEntropy::WholeNode => {
                    let with_service =
                        row.service_id.as_ref().is_some_and(|service| removed.contains(&Target::Service(service.clone())));
                    if !with_service {
                        removed.push(Target::Check(id));
                    }
                }
                (None, _) => {}
            }
        }
        let mut gone = std::mem::take(&mut self.gone);
        plan.commands = removed
            .into_iter()
            .map(|target| {
                let cause = gone.remove(&target);
                (Command::Deregister(Deregister { node: node.clone(), target, owner: Some(owner) }), cause)
            })
            .collect();
        plan.commands.extend(registrations(node, owner, services, checks).into_iter().map(|command| (command, None)));
        plan
    }

    /// All ids of this agent's own rows, here or in the catalog.
    fn everything(&self, owner: Uuid, at: &NodeName, state: &State, mode: AntiEntropy) -> Changed {
        let ours = |row_owner: Option<Uuid>, id: &str| {
            row_owner == Some(owner) || (mode == AntiEntropy::WholeNode && id != "consul" && id != crate::store::SERF_HEALTH)
        };
        let services = state.services_of(at).filter(|row| ours(row.owner, row.id.as_str())).map(|row| row.id.clone());
        let checks = state.checks_of(at).filter(|row| ours(row.owner, row.id.as_str())).map(|row| row.id.clone());
        Changed {
            services: services.chain(self.services.keys().cloned()).collect(),
            checks: checks.chain(self.checks.keys().cloned()).collect(),
        }
    }
}

/// The service as the catalog should have it, if it has not; with tags of the catalog's where those may be changed there.
fn offer_service(local: &LocalService, row: Option<&Row<Service>>, owner: Uuid) -> Option<Offer<Service>> {
    let mut value = local.service.clone();
    if let Some(row) = row.filter(|_| value.enable_tag_override) {
        value.tags.clone_from(&row.tags);
    }
    let level = row.is_some_and(|row| row.value == value && row.owner == Some(owner));
    (!level).then(|| Offer { value, generation: local.generation, cause: Some(local.cause.clone()) })
}

enum Judgement {
    Level,
    Offer,
    /// Output alone differs: at this time, in milliseconds of the caller's clock.
    Later(u64),
}

fn judge(local: &mut LocalCheck, row: Option<&Row<Check>>, owner: Uuid, now_ms: u64) -> Judgement {
    match row.map_or(Difference::All, |row| difference(&local.check, &row.value)) {
        Difference::Output
            if row.is_some_and(|row| row.owner == Some(owner)) && local.output_due_ms.is_some_and(|due| due > now_ms) =>
        {
            Judgement::Later(local.output_due_ms.unwrap_or(now_ms))
        }
        Difference::None if row.is_some_and(|row| row.owner == Some(owner)) => {
            local.output_due_ms = None;
            Judgement::Level
        }
        _ => {
            local.output_due_ms = None;
            Judgement::Offer
        }
    }
}

/// Services go before checks, so that a check always finds its service.
fn registrations(node: &NodeName, owner: Uuid, services: Vec<Offer<Service>>, checks: Vec<Offer<Check>>) -> Vec<Command> {
    let empty = || Register { node: node.clone(), about: None, services: Vec::new(), checks: Vec::new(), owner: Some(owner) };
    let (mut full, mut part, mut bytes) = (Vec::new(), empty(), 0);
    let mut make_room = |part: &mut Register, row: usize| {
        let rows = part.services.len() + part.checks.len();
        if rows >= ROWS_A_COMMAND_MAX || (rows > 0 && bytes + row > ROW_BYTES_A_COMMAND_MAX) {
            full.push(Command::Register(std::mem::replace(part, empty())));
            bytes = 0;
        }
        bytes += row;
    };
    for offer in services {
        make_room(&mut part, weight(&offer.value));
        part.services.push(offer);
    }
    for offer in checks {
        make_room(&mut part, weight(&offer.value));
        part.checks.push(offer);
    }
    if !part.services.is_empty() || !part.checks.is_empty() {
        full.push(Command::Register(part));
    }
    full
}

/// How many bytes a row takes in a command.
fn weight(row: &impl Serialize) -> usize {
    let mut bytes = Vec::new();
    pack(&mut bytes, row);
    bytes.len()
}

/// Whether two definitions are run alike: a new name or note is no reason to forget a verdict.
fn same_probe(old: Option<&CheckDefinition>, new: Option<&CheckDefinition>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            old.probe == new.probe
                && old.interval == new.interval
                && old.timeout == new.timeout
                && old.service_id == new.service_id
        }
        _ => false,
    }
}

enum Difference {
    None,
    Output,
    All,
}

/// Compares what this agent tells; the service's name and tags are filled in by apply.
fn difference(ours: &Check, row: &Check) -> Difference {
    let Check {
        id,
        name,
        status,
        notes,
        output,
        service_id,
        service_name: _,
        service_tags: _,
        kind,
        interval,
        timeout,
        definition,
    } = ours;
    let told = id == &row.id
        && name == &row.name
        && status == &row.status
        && notes == &row.notes
        && service_id == &row.service_id
        && kind == &row.kind
        && interval == &row.interval
        && timeout == &row.timeout
        && definition == &row.definition;
    match (told, output == &row.output) {
        (false, _) => Difference::All,
        (true, false) => Difference::Output,
        (true, true) => Difference::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::CauseKind;
    use crate::command::{Outcome, Proposal, Run};
    use crate::meta::Meta;
    use crate::row::Node;
    use crate::store::Store;

    struct Bench {
        store: Store,
        local: Local,
        number: u64,
    }

    const OWNER: Uuid = Uuid::from_u128(7);

    fn cause() -> Arc<Cause> {
        Arc::new(Cause::new("test", CauseKind::Api, 0, ""))
    }

    fn node() -> NodeName {
        NodeName::new("Host").expect("a name")
    }

    fn service(id: &str, port: i64) -> Service {
        Service {
            id: ServiceId::new(id).expect("a name"),
            name: crate::ServiceName::new("web").expect("a name"),
            tags: Vec::new(),
            address: "".into(),
            tagged_addresses: BTreeMap::new(),
            meta: Meta::new(),
            port,
            socket_path: "".into(),
            enable_tag_override: false,
            weights: crate::Weights::default(),
            rare: None,
        }
    }

    fn check(id: &str, service: Option<&str>) -> Check {
        Check {
            id: CheckId::new(id).expect("a name"),
            name: id.into(),
            status: Status::Critical,
            notes: "".into(),
            output: "".into(),
            service_id: service.map(|id| ServiceId::new(id).expect("a name")),
            service_name: None,
            service_tags: Vec::new(),
            kind: "ttl".into(),
            interval: "".into(),
            timeout: "".into(),
            definition: None,
        }
    }

    impl Bench {
        fn new() -> Self {
            let mut bench = Bench { store: Store::new(), local: Local::default(), number: 0 };
            bench.apply(Command::OpenRun);
            let about = Node { id: Some(OWNER), address: "10.0.0.1".into(), tagged_addresses: Meta::new(), meta: Meta::new() };
            bench.apply(Command::Register(Register {
                node: node(),
                about: Some(about),
                services: Vec::new(),
                checks: Vec::new(),
                owner: None,
            }));
            bench
        }

        fn apply(&mut self, command: Command) -> Outcome {
            self.number += 1;
            let proposal = Proposal {
                request: Uuid::from_u128(self.number.into()),
                run: Run { agent: OWNER, epoch: 1 },
                number: self.number,
                answered_below: self.number,
                time_ms: 0,
                cause: Cause::new("test", CauseKind::Api, 0, ""),
                command,
            };
            self.store.apply(self.number, proposal).outcome
        }

        fn sync(&mut self, mode: AntiEntropy) -> usize {
            let plan = self.local.plan(OWNER, &node(), self.store.state(), mode, Scope::All, 0);
            let count = plan.commands.len();
            for (command, _) in plan.commands {
                assert_eq!(self.apply(command), Outcome::Done);
            }
            count
        }
    }

    #[test]
    fn one_plan_brings_the_catalog_in_line_and_the_next_is_empty() {
        let mut bench = Bench::new();
        for n in 0..300 {
            bench.local.put_service(service(&format!("web-{n}"), n), Source::Api, cause());
            bench.local.put_check(check(&format!("c-{n}"), Some(&format!("web-{n}"))), None, Source::Api, cause());
        }
        assert_eq!(bench.sync(AntiEntropy::OwnRows), 600_usize.div_ceil(ROWS_A_COMMAND_MAX));
        assert_eq!(bench.sync(AntiEntropy::OwnRows), 0);
        assert_eq!(bench.store.state().service("web").map(|bucket| bucket.instances().len()), Some(300));
        bench.local.remove_service(&ServiceId::new("web-5").expect("a name"), &cause());
        assert_eq!(bench.sync(AntiEntropy::OwnRows), 1);
        assert_eq!(bench.sync(AntiEntropy::OwnRows), 0);
        assert_eq!(bench.store.state().checks().count(), 299);
    }

    #[test]
    fn rows_of_others_stay_unless_consul_is_imitated() {
        let mut bench = Bench::new();
        bench.apply(Command::Register(Register {
            node: node(),
            about: None,
            services: vec![Offer::unowned(service("foreign", 1))],
            checks: vec![Offer::unowned(check("serfHealth", None))],
            owner: None,
        }));
        assert_eq!(bench.sync(AntiEntropy::OwnRows), 0);
        assert_eq!(bench.sync(AntiEntropy::WholeNode), 1);
        assert_eq!(bench.store.state().checks().count(), 1);
    }

    #[test]
    fn a_row_removed_by_others_goes_from_its_agent_and_one_told_again_returns() {
        let mut bench = Bench::new();
        bench.local.put_service(service("web-1", 1), Source::Api, cause());
        bench.sync(AntiEntropy::OwnRows);
        let id = ServiceId::new("web-1").expect("a name");
        let remove = Command::Deregister(Deregister { node: node(), target: Target::Service(id.clone()), owner: None });
        bench.apply(remove.clone());
        // A sync that was on its way cannot bring it back.
        bench.sync(AntiEntropy::OwnRows);
        assert!(bench.store.state().service("web").is_none());
        let (seen, services, _) = bench.local.heed_removals(OWNER, bench.store.state());
        assert_eq!((seen.len(), services.len()), (1, 1));
        bench.apply(Command::AcknowledgeRemovals(seen));
        assert_eq!(bench.store.state().removals_of(OWNER).count(), 0);

        bench.local.put_service(service("web-1", 1), Source::Api, cause());
        bench.sync(AntiEntropy::OwnRows);
        bench.apply(remove);
        bench.local.put_service(service("web-1", 1), Source::Api, cause());
        assert!(bench.local.heed_removals(OWNER, bench.store.state()).0.is_empty());
        bench.sync(AntiEntropy::OwnRows);
        assert!(bench.store.state().service("web").is_some());
        assert_eq!(bench.store.state().removals_of(OWNER).count(), 0);
    }

    #[test]
    fn what_is_registered_after_a_restart_is_not_held_back_by_a_mark_from_before() {
        let mut bench = Bench::new();
        bench.local = Local::of_start(1);
        bench.local.put_service(service("other", 1), Source::Api, cause());
        bench.local.put_service(service("web-1", 1), Source::File, cause());
        bench.sync(AntiEntropy::OwnRows);
        let id = ServiceId::new("web-1").expect("a name");
        bench.apply(Command::Deregister(Deregister { node: node(), target: Target::Service(id), owner: None }));
        assert_eq!(bench.store.state().removals_of(OWNER).count(), 1);
        // the agent is killed before it reads the mark; its disk has what was told over the API, the file tells of the rest
        let kept: Vec<_> = bench.local.services().values().filter(|local| local.source == Source::Api).cloned().collect();
        bench.local = Local::of_start(2);
        bench.local.restore(kept, Vec::new());
        bench.local.put_service(service("web-1", 1), Source::File, cause());
        assert!(bench.local.heed_removals(OWNER, bench.store.state()).1.is_empty(), "the new registration is dropped");
        bench.sync(AntiEntropy::OwnRows);
        assert_eq!(bench.store.state().service("web").map(|bucket| bucket.instances().len()), Some(2));
        assert_eq!(bench.store.state().removals_of(OWNER).count(), 0);
    }

    #[test]
    fn output_alone_waits_and_a_verdict_does_not() {
        let mut bench = Bench::new();
        let id = CheckId::new("c").expect("a name");
        bench.local.put_check(check("c", None), None, Source::Api, cause());
        bench.sync(AntiEntropy::OwnRows);
        assert_eq!(bench.local.set_result(&id, Status::Critical, "new".into(), (*cause()).clone(), 100), Some(false));
        let plan = bench.local.plan(OWNER, &node(), bench.store.state(), AntiEntropy::OwnRows, Scope::Changed, 50);
        assert_eq!((plan.commands.len(), plan.due_ms), (0, Some(100)));
        let plan = bench.local.plan(OWNER, &node(), bench.store.state(), AntiEntropy::OwnRows, Scope::Changed, 100);
        assert_eq!((plan.commands.len(), plan.due_ms), (1, None));
        assert_eq!(bench.local.set_result(&id, Status::Passing, "new".into(), (*cause()).clone(), 300), Some(true));
        assert_eq!(bench.sync(AntiEntropy::OwnRows), 1);
    }

    #[test]
    fn large_rows_are_spread_over_commands_and_each_is_told_once() {
        let mut bench = Bench::new();
        for number in 0..10 {
            let mut large = service(&format!("s{number}"), number);
            large.tags = vec!["x".repeat(600 << 10).into()];
            bench.local.put_service(large, Source::Api, cause());
        }
        let state = bench.store.state().clone();
        let plan = bench.local.plan(OWNER, &node(), &state, AntiEntropy::OwnRows, Scope::All, 0);
        let mut told = Vec::new();
        for (command, _) in &plan.commands {
            let Command::Register(register) = command else { panic!("{command:?}") };
            assert_eq!(register.services.len(), 1, "two together are over the bound");
            told.extend(register.services.iter().map(|offer| offer.value.id.clone()));
        }
        told.dedup();
        assert_eq!(told.len(), 10);
    }
}
