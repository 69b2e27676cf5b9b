//! Orders to the local agent, carried out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_catalog::{
    Cause, CauseKind, Check, CheckDefinition, CheckId, NODE_MAINTENANCE, SERVICE_MAINTENANCE_PREFIX, Service, ServiceId,
    ServiceName, Source, Status,
};
use muster_health as health;
use smol_str::SmolStr;

use super::{Kept, LocalDesk, row, verdict_of};
use crate::desk::disk::{self, Note};
use crate::desk::order::Order;
use crate::desk::{Act, Desk, DeskError, Unknown, Who, allow};
use crate::raft::Raft;

/// How long an order waits for the catalog to have it. The order itself is carried out before; a client that reads
/// its own write a moment later is what this is for.
const SYNC_WAIT: Duration = Duration::from_secs(5);

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
        of: Option<(&ServiceId, &ServiceName, &Vec<SmolStr>)>,
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
        of: Option<(&ServiceName, &Vec<SmolStr>)>,
        cause: &Arc<Cause>,
    ) -> [Note; 2] {
        let row = row(&definition, of);
        let local = kept.local.put_check(row, Some(definition), Source::Api, cause.clone()).clone();
        self.look_after(kept, &local);
        let verdict = verdict_of(&local);
        [Note::Check(Box::new(local)), verdict]
    }
}
