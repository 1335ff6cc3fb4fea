//! The chart, a schedule, a proven Backup and a Restore: what a user has after an afternoon.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Release, Shop, cluster, wait_until};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use testbed::{PgVersion, Postgres};
use vouchsafe::api::{Backup, BackupSchedule};

const LIMIT: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_backs_up_and_a_restore_brings_it_back() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("installed").await?).await?;
    let mut release = Release::install(&shop.namespace).await?;
    let template = serde_json::to_value(&shop.backup("template", &json!({"collection": "shop"}))?.spec)?;
    let schedule: BackupSchedule = serde_json::from_value(json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule", "metadata": {"name": "minutely"},
        "spec": {"schedule": "* * * * *", "fullSchedule": "Always", "jitter": "0s", "template": {"spec": template}},
    }))?;
    shop.namespace.create(&schedule).await?;
    let fired = |schedule: Option<&BackupSchedule>| {
        schedule?.status.as_ref()?.last_success.as_ref().map(|success| success.name.clone())
    };
    let schedules = shop.namespace.api::<BackupSchedule>();
    let name = wait_until(schedules, "minutely", "with a proven Backup", LIMIT, fired).await;
    let name = name.with_context(|| format!("{}\n{}", shop.namespace.state(), release.home().state()))?;
    let backup = shop.namespace.api::<Backup>().get(&name).await?;
    assert!(backup.owner_references().is_empty(), "a schedule that is deleted would delete it");
    let complete = ["wait", "--for=condition=Complete", "--timeout=5s"];
    let named = format!("backups.vouchsafe.dev/{name}");
    shop.namespace.kubectl(&[&complete[..], &[&named]].concat())?;

    release.test()?;
    // Into another server, which knows nothing of the first.
    let other = Postgres::builder(PgVersion::V15).address(shop.namespace.cluster().host()).start();
    let restored = format!("{}_restored", shop.database);
    let back = shop.restore_on(&other, "back", &json!({"schedule": "minutely"}), &restored)?;
    shop.namespace.create(&back).await?;
    shop.restored_on(&other, "back", &restored, LIMIT).await?;

    // The schedule and the release go, and what they have made stays.
    shop.namespace.api::<BackupSchedule>().delete("minutely", &DeleteParams::default()).await?;
    release.uninstall()?;
    shop.namespace.api::<Backup>().get(&name).await.context("the Backup went with its schedule")?;
    assert!(!shop.keys("eu")?.is_empty());
    // None of what pods and the API server keep holds a password.
    let canary = testbed::PASSWORD;
    let pods = shop.namespace.api::<Pod>().list(&ListParams::default()).await?;
    let jobs = shop.namespace.api::<Job>().list(&ListParams::default()).await?;
    for text in [serde_json::to_string(&pods)?, serde_json::to_string(&jobs)?, shop.namespace.state()] {
        assert!(!text.contains(canary), "a password is shown");
        assert!(!text.contains(shop.minio.secret_key()), "a key is shown");
    }
    Ok(())
}
