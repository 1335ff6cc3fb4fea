//! The objects of a Backup's run. Pure.

use serde_json::json;

use super::decide::Plan;
use super::given::Given;
use super::places;
use crate::api::{API_VERSION, Backup, BackupStore, RunStatus, ValidatedDestination};
use crate::controller::Settings;
use crate::controller::attempts::Start;
use crate::controller::pods::{Built, JobOf, Needs, Owner, identity, job, mounted, tiers, told};
use crate::controller::process::Process;

/// The resources as pods read them. JSON is YAML, and quotes whatever must be quoted.
pub(super) fn objects(backup: &Backup, store: &BackupStore) -> String {
    let backup = json!({
        "apiVersion": API_VERSION, "kind": "Backup", "metadata": told(&backup.metadata), "spec": backup.spec,
    });
    let store = json!({
        "apiVersion": API_VERSION, "kind": "BackupStore", "metadata": told(&store.metadata), "spec": store.spec,
    });
    format!("{backup}\n---\n{store}\n")
}

/// Everything that `plan` starts, with what its pods need first.
pub(super) fn build(backup: &Backup, plan: &Plan, settings: &Settings) -> Built {
    let Some(given) = plan.given.as_ref().filter(|_| !plan.start.is_empty()) else { return Built::default() };
    let owner = Owner::of(backup);
    let name = owner.objects_name();
    let template = given.backup.spec.pod_template.as_ref().map(|it| it.get().clone()).unwrap_or_default();
    let run = backup.status.as_ref().and_then(|status| status.run.clone()).unwrap_or_default();
    let mut built = match given.frozen {
        true => Built::default(),
        false => identity(&owner, &name, &given.text, &template, true),
    };
    let resolved = plan.status.resolved.as_ref().and_then(|it| it.image.as_deref());
    let image = resolved.unwrap_or(&settings.image);
    let job = |start: &Start| {
        let (needs, endpoints) = needs(&start.process, given);
        job(JobOf {
            owner: &owner,
            start,
            objects: &name,
            template: &template,
            needs: &needs,
            locality_labels: &given.store.locality_labels,
            image,
            pull_policy: settings.pull_policy,
            traces: settings.traces.as_ref(),
            arguments: arguments(&owner, plan, &run, start, &endpoints),
        })
    };
    built.jobs = plan.start.iter().map(job).collect();
    built
}

/// What a process touches, and the names of the servers among it.
fn needs(process: &Process, given: &Given) -> (Needs, Vec<String>) {
    let (spec, store) = (&given.backup.spec, &given.store);
    let mut reached: Vec<&ValidatedDestination> = store.destinations.iter().collect();
    let mut endpoints = Vec::new();
    let tiers = match process {
        Process::Worker(destination) => {
            let place = places::of_worker(spec, store, destination);
            endpoints = place.endpoints;
            reached.retain(|it| it.name == *destination);
            place.tiers
        }
        Process::Verifier(destination) => {
            reached.retain(|it| it.name == *destination);
            tiers(reached.first().and_then(|it| it.locality.as_ref()))
        }
        // The coordinator: a Backup has no others.
        _ => {
            endpoints = spec.source.endpoints.iter().map(|it| it.name.clone()).collect();
            tiers(spec.execution_locality.as_ref())
        }
    };
    let mut needs = Needs::on(tiers);
    for endpoint in spec.source.endpoints.iter().filter(|it| endpoints.contains(&it.name)) {
        needs.server(&endpoint.server);
    }
    for destination in reached {
        needs.destination(destination);
    }
    (needs, endpoints)
}

fn arguments(
    owner: &Owner,
    plan: &Plan,
    run: &RunStatus,
    start: &Start,
    endpoints: &[String],
) -> Vec<String> {
    let number = run.number.unwrap_or_default().to_string();
    let plan_id = run.plan.clone().unwrap_or_default();
    let mut arguments = mounted();
    let mut set = |option: &str, value: &str| arguments.extend([option.to_owned(), value.to_owned()]);
    set("--backup", &owner.name);
    let order_of = |destination: &str| run.orders.iter().find(|it| it.destination == destination).cloned();
    match &start.process {
        Process::Worker(destination) => {
            let tickets = order_of(destination).map(|it| it.tickets_sha256).unwrap_or_default();
            set("--destination", destination);
            for endpoint in endpoints {
                set("--endpoint", endpoint);
            }
            set("--run", &number);
            set("--plan", &plan_id);
            set("--tickets", &tickets);
        }
        Process::Verifier(destination) => {
            let part = order_of(destination).and_then(|it| it.part_sha256).unwrap_or_default();
            set("--destination", destination);
            set("--run", &number);
            set("--plan", &plan_id);
            set("--nonce", run.nonce.as_deref().unwrap_or_default());
            set("--manifest", run.manifest_sha256.as_deref().unwrap_or_default());
            set("--part", &part);
        }
        _ => {
            set("--attempt", &start.attempt.to_string());
            if let Some(left) = plan.time_left {
                set("--time-left", &format!("{}s", left.as_secs().max(1)));
            }
            if let Some(orphan) = &plan.orphan {
                set("--orphan", orphan);
            }
        }
    }
    arguments
}
