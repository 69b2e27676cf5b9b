//! What this agent was told to run: kept on disk, looked after by the runner, brought into the catalog by the sync loop.
#![allow(clippy::disallowed_methods)] // The clock enters here: since when a check is critical, when output is due.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use muster_catalog::{
    AliasProbe, AntiEntropy, Cause, CauseKind, Check, CheckDefinition, CheckId, Local, LocalCheck, NodeName, Plan, Probe,
    Removed, Scope, ServiceId, State, Status,
};
use muster_health as health;
use smol_str::SmolStr;
use tokio::sync::watch;
use uuid::Uuid;

use super::disk::{self, Disk, Note};
use super::{DeskError, Policy};
use crate::config::duration;

mod files;
mod obey;

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
