//! The objects of a deletion. Pure.

use super::Plan;
use crate::api::Backup;
use crate::controller::Settings;
use crate::controller::attempts::Start;
use crate::controller::backup::build::objects;
use crate::controller::pods::{Built, JobOf, Needs, Owner, job, mounted, objects_name, own_account, tiers};

/// The Job that `plan` starts, with what its pod needs first. It is given the Backup and the store in an annotation, as
/// a prune is; and a ServiceAccount of its own name, as the run's may be on its way out with the rest.
pub(super) fn build(backup: &Backup, plan: &Plan, settings: &Settings) -> Built {
    let Some((raw, valid)) = plan.store.as_deref().filter(|_| !plan.start.is_empty()) else {
        return Built::default();
    };
    let owner = Owner::of(backup).not_blocking();
    let name = objects_name(&format!("{} deletion", owner.uid));
    let template = valid.pod_template.as_ref().map(|it| it.get().clone()).unwrap_or_default();
    // The register is in the default destination; the others are reached from there.
    let default = valid.destinations.iter().find(|it| it.default);
    let mut needs = Needs::on(tiers(default.and_then(|it| it.locality.as_ref())));
    for destination in &valid.destinations {
        needs.destination_to_prune(destination);
    }
    needs.annotated(&objects(backup, raw));
    let job = |start: &Start| {
        let mut arguments = mounted();
        arguments.extend(["--backup".to_owned(), owner.name.clone()]);
        job(JobOf {
            owner: &owner,
            start,
            objects: &name,
            template: &template,
            needs: &needs,
            locality_labels: &valid.locality_labels,
            image: &settings.image,
            pull_policy: settings.pull_policy,
            traces: settings.traces.as_ref(),
            arguments,
        })
    };
    Built {
        service_account: own_account(&owner, &name, &template),
        jobs: plan.start.iter().map(job).collect(),
        ..Built::default()
    }
}
