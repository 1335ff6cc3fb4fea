//! Backups that are halted by their user, or by what they lack.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Controller, Shop, cluster};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, ObjectList};
use serde_json::json;
use vouchsafe::api::{Backup, BackupPhase, BackupStatus, BackupStore, ConditionStatus, ProcessState};
use vouchsafe::controller::pods::PROCESS;

const LIMIT: Duration = Duration::from_secs(240);
const SLOW: &str = "100Ki";

fn exporting(status: &BackupStatus) -> bool {
    status.processes.iter().any(|it| it.name == "worker-eu" && it.state == ProcessState::Running)
}

fn holds(status: &BackupStatus, type_: &str) -> bool {
    status.conditions.iter().any(|it| it.type_ == type_ && it.status == ConditionStatus::True)
}

/// The store's probes stay, and are of no run.
fn no_job_of_a_run(jobs: &ObjectList<Job>) -> bool {
    jobs.iter().all(|job| job.annotations().get(PROCESS).is_some_and(|it| it.starts_with("prober")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_it_has_no_pods_and_resumed_it_goes_on_and_succeeds() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("suspended").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({"rateLimit": SLOW}))?).await?;
    shop.reaches("first", "exporting", LIMIT, exporting).await?;
    shop.patch("first", &json!({"suspend": true})).await?;
    shop.reaches("first", "suspended", LIMIT, |status| holds(status, "Suspended")).await?;
    shop.namespace.until_listed::<Job>("gone", LIMIT, no_job_of_a_run).await?;
    shop.patch("first", &json!({"suspend": false})).await?;
    let status = shop.succeeded("first", LIMIT).await?;
    assert!(!holds(&status, "Suspended"));
    let runs = shop.run("list", &[])?;
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canceled_its_run_is_void() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("canceled").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({"rateLimit": SLOW}))?).await?;
    shop.reaches("first", "exporting", LIMIT, exporting).await?;
    shop.patch("first", &json!({"cancel": true})).await?;
    let status = shop.ended("first", LIMIT).await?;
    assert_eq!(status.phase, Some(BackupPhase::Canceled), "{:?}", status.failure);
    let runs = shop.run("list", &[])?;
    assert_eq!(runs["runs"][0]["outcome"], "Void", "{runs}");
    Ok(())
}

/// Its locality has no node: it names it, runs nowhere else, and fails in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_node_it_waits_by_name_and_fails_at_its_deadline() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("nowhere").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    let more = json!({"executionLocality": "region=mars-north1", "deadline": "20s"});
    shop.namespace.create(&shop.backup("first", &more)?).await?;
    let reason = |status: &BackupStatus| status.failure.as_ref().map(|it| it.reason.clone());
    let waiting = shop
        .reaches("first", "waiting for a node", LIMIT, |status| {
            reason(status).as_deref() == Some("Unschedulable")
        })
        .await?;
    assert_eq!(waiting.phase, Some(BackupPhase::Pending));
    let said = |status: &BackupStatus| status.failure.clone().map(|it| it.message).unwrap_or_default();
    assert!(said(&waiting).contains("region=mars-north1"), "{}", said(&waiting));
    let status = shop.ended("first", LIMIT).await?;
    assert_eq!(
        (status.phase, reason(&status).as_deref()),
        (Some(BackupPhase::Failed), Some("DeadlineExceeded"))
    );
    assert!(said(&status).contains("Unschedulable: no node for"), "{}", said(&status));
    assert!(said(&status).contains("region=mars-north1"), "{}", said(&status));
    let pods = shop.pods("coordinator").await?;
    assert!(pods.iter().all(|pod| pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none())));
    Ok(())
}

/// Each is told by its name: at once where nothing can come of waiting, else at the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_wrong_is_named() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("missing").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.secret("wrong", &[("username", "postgres"), ("password", "not this one")]).await?;
    let on_claim = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupStore", "metadata": {"name": "on-claim"},
        "spec": {"destinations": [{"name": "here", "default": true, "file": {"claim": "no-such-claim", "path": "pg"}}]},
    });
    shop.namespace.create(&serde_json::from_value::<BackupStore>(on_claim)?).await?;
    let endpoint = |field: &str, value: serde_json::Value| json!({"pointer": format!("/source/postgres/endpoints/0/{field}"), "value": value});
    let cases = [
        (
            "secret",
            endpoint("credentialsSecret/name", json!("no-such-secret")),
            "ReferenceMissing",
            "no-such-secret",
        ),
        ("password", endpoint("credentialsSecret/name", json!("wrong")), "AuthenticationFailed", "postgres"),
        ("service", endpoint("host", json!("no-such-service")), "ServerUnreachable", "no-such-service"),
        (
            "claim",
            json!({"pointer": "/storeRef/name", "value": "on-claim"}),
            "DeadlineExceeded",
            "no-such-claim",
        ),
    ];
    for (name, change, ..) in &cases {
        let mut backup =
            serde_json::to_value(shop.backup(name, &json!({"deadline": "45s", "collection": name}))?)?;
        let pointer = change["pointer"].as_str().context("a pointer")?;
        *backup["spec"].pointer_mut(pointer).with_context(|| format!("no {pointer}"))? =
            change["value"].clone();
        if *name == "claim" {
            // One destination for everything.
            backup["spec"]["source"]["postgres"]["placement"] = json!([]);
        }
        shop.namespace.create(&serde_json::from_value::<Backup>(backup)?).await?;
    }
    for (name, _, reason, named) in &cases {
        let status = shop.ended(name, LIMIT).await?;
        let failure = status.failure.context("no failure")?;
        assert_eq!(
            (status.phase, &*failure.reason),
            (Some(BackupPhase::Failed), *reason),
            "{name}: {failure:?}"
        );
        assert!(failure.message.contains(named), "{name}: {failure:?}");
        assert!(!failure.hint.is_empty(), "{name}: {failure:?}");
    }
    Ok(())
}

/// Deleted in flight, it leaves nothing in the namespace; the next Backup settles its run, and has what it needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_in_flight_it_leaves_nothing_and_is_in_nobodys_way() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("deleted").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({"rateLimit": SLOW}))?).await?;
    shop.reaches("first", "exporting", LIMIT, exporting).await?;
    shop.namespace.api::<Backup>().delete("first", &DeleteParams::default()).await?;
    shop.namespace.until_listed::<Job>("gone", LIMIT, no_job_of_a_run).await?;
    shop.namespace.create(&shop.backup("second", &json!({}))?).await?;
    shop.succeeded("second", LIMIT).await?;
    let runs = shop.run("list", &[])?;
    let outcomes: Vec<_> =
        runs["runs"].as_array().context("no runs")?.iter().map(|run| &run["outcome"]).collect();
    assert!(outcomes.contains(&&json!("Void")) && outcomes.contains(&&json!("Sealed")), "{runs}");
    Ok(())
}

/// Applied again from what was got, its run is not made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_is_applied_again_runs_nothing() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("history").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({}))?).await?;
    shop.succeeded("first", LIMIT).await?;
    let backups = shop.namespace.api::<Backup>();
    let mut again = backups.get("first").await?;
    backups.delete("first", &DeleteParams::default()).await?;
    shop.namespace.until_listed::<Job>("gone", LIMIT, no_job_of_a_run).await?;
    again.metadata = kube::core::ObjectMeta {
        name: again.metadata.name,
        annotations: again.metadata.annotations,
        ..kube::core::ObjectMeta::default()
    };
    again.status = None;
    shop.namespace.create(&again).await?;
    let status = shop.reaches("first", "stalled", LIMIT, |status| holds(status, "Stalled")).await?;
    assert_eq!(status.failure.context("no failure")?.reason, "HistoryLost");
    assert!(no_job_of_a_run(&shop.namespace.api::<Job>().list(&ListParams::default()).await?));
    Ok(())
}
