//! The objects of a restore. Pure.

use serde_json::json;

use super::decide::{Given, Plan};
use super::origin::Origin;
use crate::api::{API_VERSION, Restore, RestoreSpec};
use crate::controller::Settings;
use crate::controller::attempts::Start;
use crate::controller::pods::{Built, JobOf, Needs, Owner, identity, job, mounted, tiers, told};

/// The resources as pods read them: the Restore with what its `from` was resolved to.
pub(super) fn objects(restore: &Restore, origin: &Origin) -> String {
    let known = restore.spec.expect_manifest_sha256.clone();
    let spec = RestoreSpec {
        from: origin.written(),
        // The user's own word first: if it is another than the Backup's, the restore is refused.
        expect_manifest_sha256: known.or_else(|| origin.manifest_sha256.clone()),
        suspend: None,
        cancel: None,
        ..restore.spec.clone()
    };
    let restore = json!({
        "apiVersion": API_VERSION, "kind": "Restore", "metadata": told(&restore.metadata), "spec": spec,
    });
    let store = &origin.store;
    let store = json!({
        "apiVersion": API_VERSION, "kind": "BackupStore", "metadata": told(&store.metadata), "spec": store.spec,
    });
    format!("{restore}\n---\n{store}\n")
}

/// Everything that `plan` starts, with what its pod needs first.
pub(super) fn build(restore: &Restore, plan: &Plan, settings: &Settings) -> Built {
    let Some(given) = plan.given.as_ref().filter(|_| !plan.start.is_empty()) else { return Built::default() };
    let owner = Owner::of(restore);
    let name = owner.objects_name();
    let template = given.restore.pod_template.as_ref().map(|it| it.get().clone()).unwrap_or_default();
    let mut built = match given.frozen {
        true => Built::default(),
        false => identity(&owner, &name, &given.text, &template, true),
    };
    let needs = needs(given);
    let job = |start: &Start| {
        job(JobOf {
            owner: &owner,
            start,
            objects: &name,
            template: &template,
            needs: &needs,
            locality_labels: &given.store.locality_labels,
            image: &settings.image,
            pull_policy: settings.pull_policy,
            traces: settings.traces.as_ref(),
            arguments: arguments(restore, plan, start),
        })
    };
    built.jobs = plan.start.iter().map(job).collect();
    built
}

/// The target, and every destination: which of them hold the run's parts, only its manifest says.
fn needs(given: &Given) -> Needs {
    let mut needs = Needs::on(tiers(given.restore.execution_locality.as_ref()));
    needs.server(&given.restore.target.server);
    for destination in &given.store.destinations {
        needs.destination(destination);
    }
    needs
}

fn arguments(restore: &Restore, plan: &Plan, start: &Start) -> Vec<String> {
    let mut arguments = mounted();
    let mut set = |option: &str, value: &str| arguments.extend([option.to_owned(), value.to_owned()]);
    set("--restore", restore.metadata.name.as_deref().unwrap_or_default());
    set("--attempt", &start.attempt.to_string());
    // What an earlier attempt has chosen and begun to restore: this one takes it up.
    let run = restore.status.as_ref().and_then(|status| status.run.as_ref());
    if let Some((number, manifest)) = run.and_then(|run| Some((run.number?, run.manifest_sha256.clone()?))) {
        set("--run", &number.to_string());
        set("--manifest", &manifest);
    }
    if let Some(left) = plan.time_left {
        set("--time-left", &format!("{}s", left.as_secs().max(1)));
    }
    arguments
}
