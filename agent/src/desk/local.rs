//! What this agent was told to run: kept on disk, looked after by the runner, brought into the catalog by the sync loop.
#![allow(clippy::disallowed_methods)] // The clock enters here: since when a check is critical, when output is due.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use muster_catalog::{
    AliasProbe, AntiEntropy, Cause, CauseKind, Check, CheckDefinition, CheckId, Local, LocalCheck, NODE_MAINTENANCE, NodeName,
    Plan, Probe, Removed, SERVICE_MAINTENANCE_PREFIX, Scope, Service, ServiceId, Source, State, Status,
};
use muster_health as health;
use smol_str::SmolStr;
use tokio::sync::watch;
use uuid::Uuid;

use super::disk::{self, Disk, Note};
use super::order::Order;
use super::{Act, Desk, DeskError, Policy, Unknown, Who, allow};
use crate::config::duration;
use crate::raft::Raft;

/// How long an order waits for the catalog to have it. The order itself is carried out before; a client that reads
/// its own write a moment later is what this is for.
const SYNC_WAIT: Duration = Duration::from_secs(5);

/// What the configuration says about local checks; exchanged at reload.
#[derive(Debug, Clone)]
pub(crate) struct LocalSettings {
    pub(crate) policy: Policy,
    /// Output alone is told to the catalog this late (Consul's `check_update_interval`).
    pub(crate) output_delay: Duration,
    /// Whether output is dropped.
    pub(crate) discard_output: bool,
    pub(crate) anti_entropy: AntiEntropy,
}

/// One agent's services and checks.
pub(crate) struct LocalDesk {
    kept: Mutex<Kept>,
    runner: health::Handle,
    disk: Option<Disk>,
    settings: ArcSwap<LocalSettings>,
    begun: Instant,
    /// Rises with each change.
    version: watch::Sender<u64>,
    /// The version that the catalog has.
    synced: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    local: Local,
    doomed: health::Deregister,
    turns: HashMap<CheckId, u64>,
    /// Checks whose verdict found no room on its way to the disk.
    unsaved: HashSet<CheckId>,
}

impl LocalDesk {
    /// Takes what a former run kept. Verdicts hold until the first new result: a restart is not a failure.
    pub(crate) fn new(runner: health::Handle, disk: Option<Disk>, kept: disk::Kept, settings: LocalSettings) -> Self {
        let mut local = Local::of_start(kept.starts);
        let mut checks = kept.checks;
        checks.retain(|local| {
            let program = local.definition.as_ref().is_some_and(|definition| definition.probe.runs_program());
            let allowed = !program || settings.policy.script_checks_by_api;
            if !allowed {
                let check = &local.check.id;
                tracing::warn!(%check, "a check told over the API runs a program, which is not enabled any more: it is dropped");
            }
            allowed
        });
        for local in &mut checks {
            if let Some((_, verdict)) = kept.verdicts.iter().find(|(id, _)| *id == local.check.id) {
                local.check.status = verdict.status.clone();
                local.check.output = verdict.output.clone();
            }
        }
        local.restore(kept.services, checks);
        let desk = Self {
            kept: Mutex::new(Kept { local, ..Kept::default() }),
            runner,
            disk,
            settings: ArcSwap::from_pointee(settings),
            begun: Instant::now(),
            version: watch::Sender::new(0),
            synced: watch::Sender::new(0),
        };
        let mut kept = desk.lock();
        let checks: Vec<_> = kept.local.checks().values().cloned().collect();
        for local in &checks {
            desk.look_after(&mut kept, local);
        }
        drop(kept);
        desk
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder of this lock panics")
    }

    /// Reads what this agent was told.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Local) -> T) -> T {
        at(&self.lock().local)
    }

    /// Rises with each change of what this agent was told, or of a verdict.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(crate) fn settings(&self) -> Arc<LocalSettings> {
        self.settings.load_full()
    }

    pub(crate) fn configure(&self, settings: LocalSettings) {
        self.settings.store(Arc::new(settings));
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Milliseconds on a clock that only this agent's run knows.
    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn look_after(&self, kept: &mut Kept, local: &LocalCheck) {
        kept.turns.remove(&local.check.id); // Verdicts of what it was have another generation.
        let Some(definition) = &local.definition else { return };
        match (definition.deregister_critical_service_after, &definition.service_id) {
            (Some(after), Some(service)) => kept.doomed.set(definition.id.clone(), service.clone(), after),
            _ => kept.doomed.remove(&definition.id),
        }
        self.runner.set(definition.clone(), local.generation);
    }

    fn forget(&self, kept: &mut Kept, id: &CheckId) {
        self.runner.remove(id);
        kept.doomed.remove(id);
        kept.turns.remove(id);
        kept.unsaved.remove(id);
    }

    /// Changes what this agent was told: in memory and on its way to the disk in one step, in the same order as others
    /// and whole even if whoever asked goes away. Returns when it is durable.
    async fn change<T>(&self, act: impl FnOnce(&mut Kept) -> Result<(T, Vec<Note>), DeskError> + Send) -> Result<T, DeskError> {
        let room = match &self.disk {
            Some(disk) => Some(disk.room().await.map_err(DeskError::Disk)?),
            None => None,
        };
        let (value, sent) = {
            let mut kept = self.lock();
            let (value, notes) = act(&mut kept)?;
            if notes.is_empty() {
                return Ok(value);
            }
            self.changed();
            (value, room.map(|room| room.send(notes)))
        };
        if let Some(sent) = sent {
            sent.durable().await.map_err(DeskError::Disk)?;
        }
        Ok(value)
    }

    /// Returns when everything changed so far is on disk.
    pub(crate) async fn flush(&self) {
        let Some(disk) = &self.disk else { return };
        if let Ok(room) = disk.room().await {
            let _ = room.send(Vec::new()).durable().await; // The writer has told what went wrong.
        }
    }

    /// What the catalog lacks, for the sync loop; also the version that it will have then.
    pub(crate) fn plan(&self, owner: Uuid, node: &NodeName, state: &State, scope: Scope) -> (Plan, u64) {
        let now = self.now_ms();
        let mode = self.settings.load().anti_entropy;
        let mut kept = self.lock();
        let version = *self.version.borrow();
        (kept.local.plan(owner, node, state, mode, scope, now), version)
    }

    /// How long until a deferred output is due.
    pub(crate) fn until(&self, due_ms: u64) -> Duration {
        Duration::from_millis(due_ms.saturating_sub(self.now_ms()))
    }

    /// The catalog has this version.
    pub(crate) fn synced(&self, version: u64) {
        self.synced.send_if_modified(|synced| {
            let newer = *synced < version;
            *synced = version.max(*synced);
            newer
        });
    }

    /// Drops what others removed; gives what is to be acknowledged.
    pub(crate) async fn heed_removals(&self, owner: Uuid, state: &State) -> Result<Vec<Removed>, DeskError> {
        self.change(|kept| {
            let (seen, services, checks) = kept.local.heed_removals(owner, state);
            for service in &services {
                tracing::info!(service = %service.service.id, "removed through the catalog by others: dropped here too");
            }
            for check in &checks {
                self.forget(kept, &check.check.id);
            }
            let mut notes: Vec<_> = checks.into_iter().map(|check| Note::NoCheck(check.check.id)).collect();
            // Told to the disk again if a former attempt failed: an acknowledged mark is gone for good.
            notes.extend(seen.iter().filter_map(|removed| match removed {
                Removed::Service(id, _) => (!kept.local.services().contains_key(id)).then(|| Note::NoService(id.clone())),
                Removed::Check(id, _) => (!kept.local.checks().contains_key(id)).then(|| Note::NoCheck(id.clone())),
            }));
            Ok((seen, notes))
        })
        .await
    }

    /// A probe's verdict, a report or an expiry; whether anything is different now.
    pub(crate) fn apply(&self, node: &NodeName, at_ms: u64, verdict: health::Verdict) -> bool {
        let settings = self.settings.load();
        let health::Verdict { check, generation, turn, status, mut output, source } = verdict;
        if settings.discard_output {
            output.clear();
        }
        let output = SmolStr::new(output);
        let mut kept = self.lock();
        let Some(local) = kept.local.checks().get(&check).filter(|local| local.generation == generation) else { return false };
        if kept.turns.get(&check).is_some_and(|last| *last >= turn) {
            return false;
        }
        let (kind, by) = match source {
            health::Source::Probe => (CauseKind::CheckResult, local.check.kind.as_str()),
            health::Source::Report => (CauseKind::CheckResult, "report"),
            health::Source::Expiry => (CauseKind::TtlExpired, "ttl"),
        };
        let cause = Cause::new(node, kind, at_ms, format!("{by}: {} after {}", status, local.check.status));
        let stagger = u64::from(foldhash_of(check.as_str())) % 1000;
        let due = self.now_ms() + settings.output_delay.as_millis() as u64 * (1000 + stagger) / 1000;
        let before = (local.check.status.clone(), local.check.output.clone());
        kept.turns.insert(check.clone(), turn);
        kept.doomed.result(&check, &status, Instant::now());
        let turned = kept.local.set_result(&check, status.clone(), output.clone(), cause, due);
        if turned == Some(true) {
            tracing::info!(check = %check, status = %status, "check is {status} now");
        }
        let same = before == (status.clone(), output.clone());
        if let Some(disk) = self.disk.as_ref().filter(|_| !same || kept.unsaved.contains(&check)) {
            // Under the lock, so that an older verdict cannot come to the disk after a newer one.
            if disk.keep_verdict(check.clone(), disk::Verdict { status, output }) {
                kept.unsaved.remove(&check);
            } else {
                kept.unsaved.insert(check);
            }
        }
        drop(kept);
        if !same {
            self.changed();
        }
        !same
    }

    /// The alias checks, for the loop that judges them.
    pub(crate) fn aliases(&self) -> Vec<(CheckId, u64, AliasProbe)> {
        let alias = |local: &LocalCheck| match &local.definition.as_ref()?.probe {
            Probe::Alias(alias) => Some((local.check.id.clone(), local.generation, alias.clone())),
            _ => None,
        };
        self.look(|local| local.checks().values().filter_map(alias).collect())
    }

    /// An alias check's verdict: it has no turn of its own, so the newest always counts.
    pub(crate) fn apply_alias(
        &self,
        node: &NodeName,
        at_ms: u64,
        check: CheckId,
        generation: u64,
        status: Status,
        output: String,
    ) {
        let turn = self.lock().turns.get(&check).map_or(1, |turn| turn + 1);
        self.apply(node, at_ms, health::Verdict { check, generation, turn, status, output, source: health::Source::Probe });
    }

    /// The services that were critical for too long.
    pub(crate) fn doomed(&self) -> BTreeMap<ServiceId, (CheckId, Duration)> {
        self.lock().doomed.due(Instant::now())
    }

    /// Makes definition files' services and checks what they say now: what is unchanged is not touched. What a file tells
    /// takes the place of what was told over the API under the same id, on disk too.
    pub(crate) async fn replace_files(
        &self,
        services: Vec<(Service, Vec<CheckDefinition>)>,
        checks: Vec<CheckDefinition>,
        verdicts: &[(CheckId, disk::Verdict)],
        cause: &Arc<Cause>,
    ) -> Result<(), DeskError> {
        self.change(|kept| {
            let mut notes = self.remove_files(kept, &services, &checks, cause);
            for (service, own) in services {
                let old = kept.local.services().get(&service.id);
                let same = old.is_some_and(|local| local.source == Source::File && local.service == service);
                if old.is_some_and(|local| local.source == Source::Api) {
                    notes.push(Note::NoService(service.id.clone()));
                }
                let (name, tags) = (service.name.clone(), service.tags.clone());
                if !same {
                    kept.local.put_service(service, Source::File, cause.clone());
                }
                for definition in own {
                    notes.extend(self.put_file_check(kept, definition, Some((&name, &tags)), verdicts, cause));
                }
            }
            for definition in checks {
                let service = definition.service_id.as_ref();
                let of = service.and_then(|id| kept.local.services().get(id));
                let of = of.map(|local| (local.service.name.clone(), local.service.tags.clone()));
                if let (Some(service), None) = (service, &of) {
                    let check = &definition.id;
                    tracing::warn!(%check, %service, "the check's service is not there: it is left out until the next reload");
                    continue;
                }
                let of = of.as_ref().map(|(name, tags)| (name, tags));
                notes.extend(self.put_file_check(kept, definition, of, verdicts, cause));
            }
            notes.extend(self.remove_orphans(kept, cause));
            let checks = kept.local.checks();
            notes.extend(verdicts.iter().filter(|(id, _)| !checks.contains_key(id)).map(|(id, _)| Note::NoCheck(id.clone())));
            self.changed();
            Ok(((), notes))
        })
        .await
    }

    /// Takes away what stood in a file and no longer does, with the checks that others told of such a service.
    fn remove_files(
        &self,
        kept: &mut Kept,
        services: &[(Service, Vec<CheckDefinition>)],
        checks: &[CheckDefinition],
        cause: &Arc<Cause>,
    ) -> Vec<Note> {
        let told: BTreeSet<_> = services.iter().map(|(service, _)| &service.id).collect();
        let told_checks: BTreeSet<_> =
            services.iter().flat_map(|(_, checks)| checks).chain(checks).map(|check| &check.id).collect();
        let all = kept.local.services().values();
        let gone = all.filter(|local| local.source == Source::File && !told.contains(&local.service.id));
        let gone: Vec<_> = gone.map(|local| local.service.id.clone()).collect();
        let mut notes = Vec::new();
        for id in gone {
            for check in kept.local.remove_service(&id, cause).into_iter().flat_map(|(_, checks)| checks) {
                self.forget(kept, &check.check.id);
                notes.push(Note::NoCheck(check.check.id));
            }
        }
        let all = kept.local.checks().values();
        let gone = all.filter(|local| local.source == Source::File && !told_checks.contains(&local.check.id));
        let gone: Vec<_> = gone.map(|local| local.check.id.clone()).collect();
        for id in gone {
            kept.local.remove_check(&id, cause);
            self.forget(kept, &id);
            notes.push(Note::NoCheck(id));
        }
        notes
    }

    /// Takes away checks of services that are not there: their file went while this agent was down.
    fn remove_orphans(&self, kept: &mut Kept, cause: &Arc<Cause>) -> Vec<Note> {
        let services = kept.local.services();
        let orphan = |local: &&LocalCheck| local.check.service_id.as_ref().is_some_and(|id| !services.contains_key(id));
        let orphans: Vec<_> = kept.local.checks().values().filter(orphan).map(|local| local.check.id.clone()).collect();
        for id in &orphans {
            kept.local.remove_check(id, cause);
            self.forget(kept, id);
        }
        orphans.into_iter().map(Note::NoCheck).collect()
    }

    fn put_file_check(
        &self,
        kept: &mut Kept,
        definition: CheckDefinition,
        of: Option<(&muster_catalog::ServiceName, &Vec<SmolStr>)>,
        verdicts: &[(CheckId, disk::Verdict)],
        cause: &Arc<Cause>,
    ) -> Vec<Note> {
        let id = definition.id.clone();
        let old = kept.local.checks().get(&id);
        if old.is_some_and(|local| local.source == Source::File && local.definition.as_ref() == Some(&definition)) {
            return Vec::new();
        }
        let was_api = old.is_some_and(|local| local.source == Source::Api);
        let mut check = row(&definition, of);
        if let Some((_, verdict)) = verdicts.iter().find(|(of, _)| *of == id) {
            check.status = verdict.status.clone();
            check.output = verdict.output.clone();
        }
        let local = kept.local.put_check(check, Some(definition), Source::File, cause.clone()).clone();
        self.look_after(kept, &local);
        if was_api { vec![Note::NoCheck(id.clone()), verdict_of(&local)] } else { vec![] }
    }
}

/// The verdict as it stands, to be kept.
fn verdict_of(local: &LocalCheck) -> Note {
    let LocalCheck { check: Check { id, status, output, .. }, .. } = local;
    Note::Verdict(id.clone(), disk::Verdict { status: status.clone(), output: output.clone() })
}

/// A small number out of a text: which of a thousand moments is this check's.
fn foldhash_of(text: &str) -> u32 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::with_seed(0).hash_one(text) as u32
}

/// The check as the catalog shows it before its first result.
fn row(definition: &CheckDefinition, of: Option<(&muster_catalog::ServiceName, &Vec<SmolStr>)>) -> Check {
    let text = |duration: Duration| if duration.is_zero() { SmolStr::default() } else { SmolStr::new(duration::text(duration)) };
    Check {
        id: definition.id.clone(),
        name: definition.name.clone(),
        status: definition.status.clone().unwrap_or(Status::Critical),
        notes: definition.notes.clone(),
        output: SmolStr::default(),
        service_id: definition.service_id.clone(),
        service_name: of.map(|(name, _)| name.clone()),
        service_tags: of.map(|(_, tags)| tags.clone()).unwrap_or_default(),
        kind: SmolStr::new_static(definition.probe.kind()),
        interval: text(definition.interval),
        timeout: text(definition.timeout.unwrap_or_default()),
        definition: None,
    }
}

impl Desk {
    /// Carries out an order, then gives the catalog a moment to have it.
    pub(crate) async fn obey(&self, who: &Who, order: Order) -> Result<(), DeskError> {
        let local = self.local();
        allow(who, &Act::Order(&order, &local.settings().policy))?;
        if !matches!(order, Order::Report { .. } | Order::Fire(_) | Order::Cluster(_) | Order::Reload | Order::Leave) {
            self.raft().map_or(Ok(()), Raft::room)?; // before anything is changed here: it could neither be kept nor told to the catalog
        }
        let cause = |kind, reason: &str| Arc::new(Cause::new(&who.from, kind, self.clock_ms(), reason));
        match order {
            Order::RegisterService { service, checks, replace_checks } => {
                self.register_service(*service, checks, replace_checks, &cause(CauseKind::Sync, "registered at its agent"))
                    .await?;
            }
            Order::DeregisterService(id) => {
                self.deregister_service(&id, &cause(CauseKind::Sync, "deregistered at its agent")).await?;
            }
            Order::RegisterCheck(definition) => {
                self.register_check(*definition, &cause(CauseKind::Sync, "registered at its agent")).await?;
            }
            Order::DeregisterCheck(id) => {
                self.deregister_check(&id, &cause(CauseKind::Sync, "deregistered at its agent")).await?;
            }
            Order::Report { check, status, output } => self.report(&check, status, output).await?,
            Order::ServiceMaintenance { service, on } => {
                self.maintain_service(&service, on, &cause(CauseKind::Maintenance, "")).await?;
            }
            Order::NodeMaintenance { on } => {
                let id = CheckId::new(NODE_MAINTENANCE).expect("the constant is a name");
                self.maintain(id, "Node Maintenance Mode", None, on, &cause(CauseKind::Maintenance, "")).await?;
            }
            Order::Fire(event) => return self.fire(*event),
            Order::Cluster(order) => return self.obey_about_cluster(who, order).await,
            Order::Reload => return self.reload().await,
            Order::Leave => return self.leave().await,
        }
        self.sync_soon().await;
        Ok(())
    }

    /// Takes services that were critical for too long away.
    pub(crate) async fn deregister_doomed(&self, id: &ServiceId, check: &CheckId, critical: Duration) -> Result<(), DeskError> {
        let reason = format!("check {check} critical for {} s", critical.as_secs());
        tracing::warn!(service = %id, check = %check, "service is deregistered: critical for {} s", critical.as_secs());
        let cause = Arc::new(Cause::new(self.name(), CauseKind::CriticalTooLong, self.clock_ms(), reason));
        self.deregister_service(id, &cause).await
    }

    async fn sync_soon(&self) {
        let local = self.local();
        let version = *local.version.borrow();
        let mut synced = local.synced.subscribe();
        tokio::select! {
            _ = tokio::time::timeout(SYNC_WAIT, synced.wait_for(|synced| *synced >= version)) => {}
            () = self.stopping() => {} // The next run brings it to the catalog.
        }
    }

    async fn register_service(
        &self,
        service: Service,
        checks: Vec<CheckDefinition>,
        replace: bool,
        cause: &Arc<Cause>,
    ) -> Result<(), DeskError> {
        let desk = self.local();
        desk.change(|kept| {
            let (id, name, tags) = (service.id.clone(), service.name.clone(), service.tags.clone());
            let mut notes = Vec::new();
            if replace {
                let told: BTreeSet<_> = checks.iter().map(|check| &check.id).collect();
                let old: Vec<_> = kept
                    .local
                    .checks_of(Some(&id))
                    .map(|local| local.check.id.clone())
                    .filter(|old| !told.contains(old))
                    .collect();
                for old in old {
                    kept.local.remove_check(&old, cause);
                    desk.forget(kept, &old);
                    notes.push(Note::NoCheck(old));
                }
            }
            notes.push(Note::Service(Box::new(kept.local.put_service(service, Source::Api, cause.clone()).clone())));
            for definition in checks {
                notes.extend(desk.put_api_check(kept, definition, Some((&name, &tags)), cause));
            }
            Ok(((), notes))
        })
        .await
    }

    async fn register_check(&self, definition: CheckDefinition, cause: &Arc<Cause>) -> Result<(), DeskError> {
        let desk = self.local();
        desk.change(|kept| {
            let of = match &definition.service_id {
                None => None,
                Some(id) => {
                    let local = kept
                        .local
                        .services()
                        .get(id)
                        .ok_or_else(|| DeskError::Unknown(Unknown::ServiceOfCheck(id.to_string())))?;
                    Some((local.service.name.clone(), local.service.tags.clone()))
                }
            };
            let of = of.as_ref().map(|(name, tags)| (name, tags));
            Ok(((), desk.put_api_check(kept, definition, of, cause).into()))
        })
        .await
    }

    async fn deregister_service(&self, id: &ServiceId, cause: &Arc<Cause>) -> Result<(), DeskError> {
        let desk = self.local();
        desk.change(|kept| {
            let (_, checks) =
                kept.local.remove_service(id, cause).ok_or_else(|| DeskError::Unknown(Unknown::Service(id.to_string())))?;
            let mut notes = vec![Note::NoService(id.clone())];
            for local in checks {
                desk.forget(kept, &local.check.id);
                notes.push(Note::NoCheck(local.check.id));
            }
            Ok(((), notes))
        })
        .await
    }

    async fn deregister_check(&self, id: &CheckId, cause: &Arc<Cause>) -> Result<(), DeskError> {
        let desk = self.local();
        desk.change(|kept| {
            kept.local.remove_check(id, cause).ok_or_else(|| DeskError::Unknown(Unknown::Check(id.to_string())))?;
            desk.forget(kept, id);
            Ok(((), vec![Note::NoCheck(id.clone())]))
        })
        .await
    }

    /// A report is an order that was given: it is kept before it is acknowledged, as a probe's verdict need not be.
    async fn report(&self, id: &CheckId, status: Status, output: String) -> Result<(), DeskError> {
        let verdict = self.local().runner.report(id, status, output).map_err(|error| match error {
            health::Error::UnknownCheck(id) => DeskError::Unknown(Unknown::Check(id.to_string())),
            health::Error::NotTtl(id) => DeskError::Unknown(Unknown::NotTtl(id.to_string())),
        })?;
        if !self.local().apply(self.name(), self.clock_ms(), verdict) {
            return Ok(());
        }
        let now = |kept: &Kept| {
            let check = &kept.local.checks().get(id)?.check;
            Some(Note::Verdict(id.clone(), disk::Verdict { status: check.status.clone(), output: check.output.clone() }))
        };
        self.local().change(|kept| Ok(((), now(kept).into_iter().collect()))).await
    }

    async fn maintain_service(&self, id: &ServiceId, on: Option<String>, cause: &Arc<Cause>) -> Result<(), DeskError> {
        let known = self
            .local()
            .look(|local| local.services().get(id).map(|local| (local.service.name.clone(), local.service.tags.clone())));
        let (name, tags) = known.ok_or_else(|| DeskError::Unknown(Unknown::Service(id.to_string())))?;
        let check = CheckId::new(format!("{SERVICE_MAINTENANCE_PREFIX}{id}"))
            .map_err(|_| DeskError::Unknown(Unknown::Service(id.to_string())))?;
        self.maintain(check, "Service Maintenance Mode", Some((id, &name, &tags)), on, cause).await
    }

    /// Maintenance is a critical check that only stands. Switching it on twice keeps the first reason.
    async fn maintain(
        &self,
        id: CheckId,
        name: &'static str,
        of: Option<(&ServiceId, &muster_catalog::ServiceName, &Vec<SmolStr>)>,
        on: Option<String>,
        cause: &Arc<Cause>,
    ) -> Result<(), DeskError> {
        let desk = self.local();
        desk.change(|kept| {
            let stands = kept.local.checks().contains_key(&id);
            let note = match on {
                Some(reason) if !stands => {
                    let reason =
                        if reason.is_empty() { "Taken out of service by an operator; no reason was given." } else { &reason };
                    let check = Check {
                        id,
                        name: SmolStr::new_static(name),
                        status: Status::Critical,
                        notes: SmolStr::new(reason),
                        output: SmolStr::default(),
                        service_id: of.map(|(id, ..)| id.clone()),
                        service_name: of.map(|(_, name, _)| name.clone()),
                        service_tags: of.map(|(.., tags)| tags.clone()).unwrap_or_default(),
                        kind: SmolStr::new_static("maintenance"),
                        interval: SmolStr::default(),
                        timeout: SmolStr::default(),
                        definition: None,
                    };
                    Note::Check(Box::new(kept.local.put_check(check, None, Source::Api, cause.clone()).clone()))
                }
                None if stands => {
                    kept.local.remove_check(&id, cause);
                    Note::NoCheck(id)
                }
                Some(_) | None => return Ok(((), Vec::new())),
            };
            Ok(((), vec![note]))
        })
        .await
    }
}

impl LocalDesk {
    /// The same check told again goes on as it was: its counters, its rhythm, its verdict. Only a report's time starts anew.
    fn put_api_check(
        &self,
        kept: &mut Kept,
        definition: CheckDefinition,
        of: Option<(&muster_catalog::ServiceName, &Vec<SmolStr>)>,
        cause: &Arc<Cause>,
    ) -> [Note; 2] {
        let row = row(&definition, of);
        let local = kept.local.put_check(row, Some(definition), Source::Api, cause.clone()).clone();
        self.look_after(kept, &local);
        let verdict = verdict_of(&local);
        [Note::Check(Box::new(local)), verdict]
    }
}
