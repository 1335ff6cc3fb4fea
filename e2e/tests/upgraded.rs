//! A release that is upgraded, rolled back, uninstalled and installed again: what goes on goes on, and what is over
//! stays over.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Namespace, Release, Shop, cluster};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use testbed::{WireFault, WireRule};
use vouchsafe::api::{Backup, BackupPhase, BackupStatus, ProcessState};
use vouchsafe::controller::pods::PROCESS;

const LIMIT: Duration = Duration::from_secs(240);

/// UIDs of the controller's pods that are not on their way out.
async fn controllers(home: &Namespace) -> Result<Vec<String>> {
    let of_release = ListParams::default().labels("app.kubernetes.io/component=controller");
    let pods = home.api::<Pod>().list(&of_release).await?;
    let stay = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(stay.filter_map(ResourceExt::uid).collect())
}

/// UIDs of the Jobs of runs, by their process.
async fn jobs(shop: &Shop) -> Result<BTreeMap<String, Vec<String>>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for job in shop.namespace.api::<Job>().list(&ListParams::default()).await? {
        let process = job.annotations().get(PROCESS).cloned().context("a Job of no process")?;
        if !process.starts_with("prober") {
            found.entry(process).or_default().push(job.uid().unwrap_or_default());
        }
    }
    Ok(found)
}

fn exporting(status: &BackupStatus) -> bool {
    status.processes.iter().any(|it| it.name == "worker-eu" && it.state == ProcessState::Running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_flight_or_over_no_run_is_begun_twice() -> Result<()> {
    let shop = Shop::open_in_one(cluster().await?.namespace("upgraded").await?).await?;
    let mut release = Release::install(&shop.namespace).await?;
    let backups = shop.namespace.api::<Backup>();
    // Its rows get through when the release was upgraded and rolled back.
    shop.wire.set(vec![WireRule::during(0..u64::MAX, WireFault::Hold).only("PUT ").only("/data/")]);
    shop.namespace.create(&shop.backup("first", &json!({}))?).await?;
    let before = shop.reaches("first", "exporting", LIMIT, exporting).await?;
    let mut generations = vec![controllers(release.home()).await?];

    // Definitions are applied anew by whoever upgrades without Helm.
    let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds").display().to_string();
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", &definitions];
    shop.namespace.cluster().run_kubectl(&apply)?;
    release.upgrade("debug")?;
    generations.push(controllers(release.home()).await?);
    release.roll_back()?;
    generations.push(controllers(release.home()).await?);
    for (older, newer) in [(0, 1), (1, 2), (0, 2)] {
        let stayed = generations[newer].iter().any(|uid| generations[older].contains(uid));
        assert!(!stayed && !generations[newer].is_empty(), "its pods were not replaced: {generations:?}");
    }
    let meanwhile = backups.get("first").await?.status.context("no status")?;
    assert_eq!(meanwhile.phase, Some(BackupPhase::Exporting), "it was over before it could be disturbed");
    assert!(!shop.wire.fired().is_empty(), "nothing was held");
    shop.wire.heal();
    let status = shop.succeeded("first", LIMIT).await?;
    let plan = |status: &BackupStatus| status.run.clone().and_then(|run| run.plan);
    assert_eq!(plan(&status), plan(&before));
    assert!(status.processes.iter().all(|process| process.attempt == 1), "{:?}", status.processes);
    let first_jobs = jobs(&shop).await?;
    let processes: Vec<&str> = first_jobs.keys().map(String::as_str).collect();
    assert_eq!(processes, ["coordinator", "verifier-eu", "worker-eu"]);
    assert!(first_jobs.values().all(|of_process| of_process.len() == 1), "{first_jobs:?}");
    assert_eq!(shop.run("verify", &["1"])?["proven"], true);

    // What there is outlives the release; installed again, it is looked at and left alone.
    let (kept, keys) = (backups.get("first").await?, shop.keys("eu")?);
    release.uninstall()?;
    let definitions: Api<CustomResourceDefinition> = Api::all(shop.namespace.cluster().client().await?);
    for kind in ["backups", "backupschedules", "backupstores", "restores"] {
        definitions.get(&format!("{kind}.vouchsafe.dev")).await.context("a definition went")?;
    }
    assert_eq!(backups.get("first").await?.resource_version(), kept.resource_version());
    assert_eq!(shop.keys("eu")?, keys);
    release.install_again()?;
    // A change without effect, so that it is known that the new controller has looked.
    shop.patch("first", &json!({"suspend": true})).await?;
    let seen = |status: &BackupStatus| status.observed_generation > kept.metadata.generation;
    let seen = shop.reaches("first", "looked at", LIMIT, seen).await?;
    assert_eq!((seen.phase, &seen.proof), (Some(BackupPhase::Succeeded), &status.proof));
    assert_eq!(seen.processes, status.processes);
    // Another one of the same collection goes on from there.
    shop.namespace.create(&shop.backup("second", &json!({}))?).await?;
    shop.succeeded("second", LIMIT).await?;
    let all = jobs(&shop).await?;
    for (process, of_first) in &first_jobs {
        let (old, new): (Vec<_>, Vec<_>) = all[process].iter().partition(|uid| of_first.contains(uid));
        assert_eq!((old.len(), new.len()), (1, 1), "{process}: {all:?}");
    }
    let now = shop.keys("eu")?;
    assert!(keys.iter().all(|key| key.contains("/probes/") || now.contains(key)), "{keys:?}\n{now:?}");
    assert_eq!(shop.run("verify", &["1"])?["proven"], true);
    Ok(())
}
