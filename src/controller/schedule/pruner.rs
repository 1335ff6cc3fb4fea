//! The objects of a prune. Pure.

use serde_json::json;

use super::prune::Prune;
use crate::api::{API_VERSION, BackupSchedule};
use crate::controller::Settings;
use crate::controller::attempts::Start;
use crate::controller::pods::{Built, JobOf, Needs, Owner, job, mounted, own_account, tiers, told};

/// The Job that `prune` starts, with what its pod needs first. It is given the schedule and the store in an
/// annotation, as a probe is: a ConfigMap for each edit of a spec would have to be cleared away.
pub(super) fn build(schedule: &BackupSchedule, prune: &Prune, settings: &Settings) -> Built {
    let Some((raw, valid)) = prune.store.as_deref().filter(|_| !prune.start.is_empty()) else {
        return Built::default();
    };
    let owner = Owner::of(schedule);
    let name = owner.objects_name();
    let template = valid.pod_template.as_ref().map(|it| it.get().clone()).unwrap_or_default();
    let documents = [
        json!({"apiVersion": API_VERSION, "kind": "BackupSchedule",
               "metadata": told(&schedule.metadata), "spec": schedule.spec}),
        json!({"apiVersion": API_VERSION, "kind": "BackupStore",
               "metadata": told(&raw.metadata), "spec": raw.spec}),
    ];
    let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
    // The register is in the default destination; the others are reached from there.
    let default = valid.destinations.iter().find(|it| it.default);
    let mut needs = Needs::on(tiers(default.and_then(|it| it.locality.as_ref())));
    for destination in &valid.destinations {
        needs.destination_to_prune(destination);
    }
    needs.annotated(&text.join("\n---\n"));
    let job = |start: &Start| {
        let mut arguments = mounted();
        arguments.extend(["--schedule".to_owned(), owner.name.clone()]);
        for run in &prune.runs {
            arguments.extend(["--run".to_owned(), run.to_string()]);
        }
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
        jobs: prune.start.iter().map(job).collect(),
        ..Built::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BackupStore, ValidatedBackupStore};
    use crate::controller::PullPolicy;
    use crate::controller::process::Process;

    #[test]
    fn a_pruner_gets_what_deletes_and_nothing_else() {
        let schedule: BackupSchedule = serde_json::from_value(json!({
            "apiVersion": API_VERSION, "kind": "BackupSchedule",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u-1", "annotations": {"secret": "no"}},
            "spec": {"schedule": "0 * * * *", "fullSchedule": "Always", "retention": {"keepLast": 2}, "template": {"spec": {
                "storeRef": {"name": "orders"}, "collection": "shop", "source": {"postgres": {"database": "shop",
                "endpoints": [{"name": "eu", "host": "pg", "credentialsSecret": {"name": "of-the-database"}}]}}}}},
        }))
        .unwrap();
        let s3 = json!({"bucket": "orders", "region": "eu-west-1"});
        let raw: BackupStore = serde_json::from_value(json!({
            "apiVersion": API_VERSION, "kind": "BackupStore",
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {"podTemplate": {"priorityClassName": "low"}, "destinations": [
                {"name": "eu", "default": true, "locality": "region=eu", "s3": s3,
                 "credentialsSecret": {"name": "writer"}, "deleteCredentialsSecret": {"name": "deleter"}},
                {"name": "disk", "locality": "region=us", "file": {"claim": "disk", "path": "p"}},
            ]},
        }))
        .unwrap();
        let valid = ValidatedBackupStore::try_from(raw.clone()).unwrap();
        let start = Start { process: Process::Pruner, order: "1 x first".into(), attempt: 1 };
        let prune = Prune {
            start: vec![start],
            runs: vec![3, 4],
            store: Some(Box::new((raw, valid))),
            ..Prune::default()
        };
        let settings = Settings {
            image: "vouchsafe:1".into(),
            pull_policy: PullPolicy::Never,
            namespaces: Vec::new(),
            traces: None,
        };
        let built = build(&schedule, &prune, &settings);
        assert!(built.role.is_none() && built.role_binding.is_none() && built.config_map.is_none());
        let account = built.service_account.unwrap();
        assert_eq!(account.automount_service_account_token, Some(false));
        let job = json!(built.jobs[0]);
        assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "u-1");
        let pod = &job["spec"]["template"]["spec"];
        let arguments = pod["containers"][0]["args"].to_string();
        assert!(arguments.ends_with(r#""--schedule","orders","--run","3","--run","4"]"#), "{arguments}");
        assert_eq!(
            (&pod["automountServiceAccountToken"], &pod["priorityClassName"]),
            (&json!(false), &json!("low"))
        );
        let volumes = pod["volumes"].to_string();
        assert!(volumes.contains(r#""deleter""#) && volumes.contains(r#""claimName":"disk""#), "{volumes}");
        assert!(!volumes.contains("writer") && !volumes.contains("of-the-database"), "{volumes}");
        let terms =
            pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"].to_string();
        assert!(terms.contains(r#""values":["eu"]"#) && !terms.contains("us"), "{terms}");
        let given =
            job["spec"]["template"]["metadata"]["annotations"]["vouchsafe.dev/objects"].as_str().unwrap();
        assert_eq!(crate::api::parse_documents(given).unwrap().len(), 2);
    }
}
