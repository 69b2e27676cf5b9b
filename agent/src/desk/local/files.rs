//! What definition files tell: their services and checks, made what the files say now.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_catalog::{Cause, CheckDefinition, CheckId, LocalCheck, Service, ServiceName, Source};
use smol_str::SmolStr;

use super::{Kept, LocalDesk, row, verdict_of};
use crate::desk::DeskError;
use crate::desk::disk::{self, Note};

impl LocalDesk {
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
        of: Option<(&ServiceName, &Vec<SmolStr>)>,
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
