//! The objects of a store's probes. Pure.

use serde_json::json;

use super::decide::Plan;
use crate::api::{API_VERSION, BackupStore};
use crate::controller::Settings;
use crate::controller::attempts::Start;
use crate::controller::pods::{Built, JobOf, Needs, Owner, job, mounted, own_account, tiers, told};
use crate::controller::process::Process;

/// Everything that `plan` starts, with what its pods need first. A probe is given its store in an annotation: a
/// ConfigMap for each edit of the spec would have to be cleared away.
pub(super) fn build(store: &BackupStore, plan: &Plan, settings: &Settings) -> Built {
    let Some(valid) = plan.store.as_ref().filter(|_| !plan.start.is_empty()) else { return Built::default() };
    let owner = Owner::of(store);
    let name = owner.objects_name();
    let template = valid.pod_template.as_ref().map(|it| it.get().clone()).unwrap_or_default();
    let text = json!({
        "apiVersion": API_VERSION, "kind": "BackupStore", "metadata": told(&store.metadata), "spec": store.spec,
    });
    let text = text.to_string();
    let job = |start: &Start| {
        let Process::Prober(destination) = &start.process else { return None };
        let reached = valid.destinations.iter().find(|it| it.name == *destination)?;
        let mut needs = Needs::on(tiers(reached.locality.as_ref()));
        needs.destination(reached);
        needs.annotated(&text);
        let mut arguments = mounted();
        let mut set = |option: &str, value: &str| arguments.extend([option.to_owned(), value.to_owned()]);
        set("--store", &owner.name);
        set("--destination", destination);
        Some(job(JobOf {
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
        }))
    };
    Built {
        service_account: own_account(&owner, &name, &template),
        jobs: plan.start.iter().filter_map(job).collect(),
        ..Built::default()
    }
}
