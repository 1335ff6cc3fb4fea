//! Several controllers: those that lead one after the other, and those that believe to lead at once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Controller, Namespace, Shop, cluster, until, wait_until};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use testbed::{WireFault, WireRule};
use vouchsafe::api::{Backup, BackupPhase, BackupSchedule, BackupStatus, ProcessStatus};

const LIMIT: Duration = Duration::from_secs(240);

/// A Lease is waited for 15 s; the rest is for two busy cores.
const TERM: Duration = Duration::from_secs(60);

const LEASE: &str = "vouchsafe-controller";

async fn until_leads(namespace: &Namespace, controller: &Controller) -> Result<()> {
    let identity = format!("{}_", controller.name());
    let leads = |lease: Option<&Lease>| {
        lease?.spec.as_ref()?.holder_identity.as_ref()?.starts_with(&identity).then_some(())
    };
    let wanted = format!("held by {identity}");
    wait_until(namespace.api::<Lease>(), LEASE, &wanted, TERM, leads).await.with_context(|| controller.log())
}

/// Has every request of this kind be held, and lets those go that were held before.
fn hold(shop: &Shop, method: &str, part: &str) {
    let bucket = format!(" /{}/", shop.bucket("eu"));
    let rule = WireRule::during(0..u64::MAX, WireFault::Hold).only(method).only(&bucket).only(part);
    shop.wire.set(vec![rule]);
}

fn all_first(processes: &[ProcessStatus]) -> Result<()> {
    ensure!(!processes.is_empty() && processes.iter().all(|it| it.attempt == 1), "{processes:?}");
    Ok(())
}

/// No election: each works all the time. What one has done, the other finds done, or is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_lead_all_the_time_do_everything_once() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("split").await?).await?;
    let both = [Controller::start(&shop.namespace)?, Controller::start(&shop.namespace)?];
    let template = serde_json::to_value(&shop.backup("template", &json!({"collection": "shop"}))?.spec)?;
    let schedule: BackupSchedule = serde_json::from_value(json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule", "metadata": {"name": "minutely"},
        "spec": {"schedule": "* * * * *", "fullSchedule": "Always", "jitter": "0s", "template": {"spec": template}},
    }))?;
    shop.namespace.create(&schedule).await?;
    shop.namespace.create(&shop.backup("by-hand", &json!({}))?).await?;
    let status = shop.succeeded("by-hand", LIMIT).await?;
    all_first(&status.processes)?;
    let schedules: Api<BackupSchedule> = shop.namespace.api();
    let fired = |schedule: Option<&BackupSchedule>| {
        schedule?.status.as_ref()?.last_success.as_ref().map(|success| success.name.clone())
    };
    wait_until(schedules.clone(), "minutely", "with a proven Backup", LIMIT, fired).await?;
    let no_more = Patch::Merge(json!({"spec": {"suspend": true}}));
    schedules.patch("minutely", &PatchParams::default(), &no_more).await?;

    let mut firings = BTreeSet::new();
    let backups = shop.namespace.api::<Backup>().list(&ListParams::default()).await?;
    for backup in backups.iter().filter(|backup| backup.name_any() != "by-hand") {
        let status = shop.succeeded(&backup.name_any(), LIMIT).await?;
        all_first(&status.processes)?;
        // A Backup is named after the moment at which it was due.
        firings.insert(backup.creation_timestamp().context("no time")?.0.as_second() / 60);
    }
    let runs = shop.run_in("shop", "list", &[])?;
    let runs = runs["runs"].as_array().context("no runs")?.clone();
    assert_eq!((runs.len(), backups.items.len() - 1), (firings.len(), firings.len()), "{runs:?}");
    assert!(runs.iter().all(|run| run["outcome"] == "Sealed"), "{runs:?}");
    let runs = shop.run("list", &[])?;
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
    assert_eq!(shop.run("verify", &["1"])?["proven"], true);
    assert_eq!(shop.run_in("shop", "verify", &["1"])?["proven"], true);
    shop.distinct_jobs().await?;
    for controller in &both {
        assert!(controller.log().contains("decided"), "one of them did nothing");
    }
    Ok(())
}

/// Frozen in the middle of a Backup, and taken for dead; awake again, it is one who believes to lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_frozen_past_its_term_changes_nothing() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("frozen").await?).await?;
    let mut one = Controller::elected(&shop.namespace)?;
    until_leads(&shop.namespace, &one).await?;
    let other = Controller::elected(&shop.namespace)?;
    hold(&shop, "PUT ", "/data/");
    shop.namespace.create(&shop.backup("first", &json!({}))?).await?;
    shop.fired(LIMIT).await?;
    one.freeze()?;
    until_leads(&shop.namespace, &other).await?;
    // The other one is in the midst of verifying, of which the frozen one knows nothing.
    hold(&shop, "PUT ", "/verdicts/");
    shop.fired(LIMIT).await?;
    assert!(!one.log().contains("leads no longer"));
    one.thaw()?;
    until("told that it leads no longer", TERM, || one.log().contains("leads no longer").then_some(()))
        .await?;
    shop.wire.heal();
    let status = shop.succeeded("first", LIMIT).await?;
    all_first(&status.processes)?;
    shop.distinct_jobs().await?;
    let runs = shop.run("list", &[])?;
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
    assert_eq!(shop.run("verify", &["1"])?["proven"], true);
    Ok(())
}

/// Each time the next one goes on where the last one was killed; no process of the run notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_killed_in_every_phase() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("leaders").await?).await?;
    let mut leader = Controller::elected(&shop.namespace)?;
    until_leads(&shop.namespace, &leader).await?;
    let mut next = async || -> Result<()> {
        let next = Controller::elected(&shop.namespace)?;
        std::mem::replace(&mut leader, next).kill9()?;
        until_leads(&shop.namespace, &leader).await
    };
    let phase = async |name: &str| -> Result<Option<BackupPhase>> {
        Ok(shop.namespace.api::<Backup>().get(name).await?.status.and_then(|status| status.phase))
    };
    hold(&shop, "PUT ", "/data/");
    shop.namespace.create(&shop.backup("first", &json!({}))?).await?;
    let pending = |status: &BackupStatus| status.phase == Some(BackupPhase::Pending);
    shop.reaches("first", "pending", LIMIT, pending).await?;
    next().await?;
    shop.fired(LIMIT).await?;
    next().await?;
    assert_eq!(phase("first").await?, Some(BackupPhase::Exporting));
    hold(&shop, "PUT ", "/verdicts/");
    shop.fired(LIMIT).await?;
    next().await?;
    assert_eq!(phase("first").await?, Some(BackupPhase::Verifying));
    hold(&shop, "PUT ", "/outcome.json");
    shop.fired(LIMIT).await?;
    next().await?;
    assert_eq!(phase("first").await?, Some(BackupPhase::Verifying));
    shop.wire.heal();
    let status = shop.succeeded("first", LIMIT).await?;
    all_first(&status.processes)?;
    assert_eq!(shop.run("verify", &["1"])?["proven"], true);

    hold(&shop, "GET ", "/data/");
    let database = format!("{}_restored", shop.database);
    shop.namespace.create(&shop.restore("back", &json!({"backup": "first"}), &database)?).await?;
    shop.fired(LIMIT).await?;
    next().await?;
    shop.wire.heal();
    let status = shop.restored("back", &database, LIMIT).await?;
    all_first(&status.processes)?;
    shop.distinct_jobs().await?;
    Ok(())
}
