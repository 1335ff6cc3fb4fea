//! Pods that the cluster takes away, or does not let start.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Controller, Shop, cluster, wait_until};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::ResourceExt;
use kube::api::{DeleteParams, EvictParams};
use serde_json::json;
use vouchsafe::api::{
    BackupPhase, BackupStatus, BackupStore, ConditionStatus, Failure, ProcessState, ProcessStatus,
};

const LIMIT: Duration = Duration::from_secs(240);
const SLOW: &str = "100Ki";

fn worker(status: &BackupStatus) -> Option<&ProcessStatus> {
    status.processes.iter().find(|it| it.name == "worker-us-a")
}

/// A worker is evicted while a quota has no room for another one: the run waits, says for what, and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_worker_waits_for_the_quota_and_goes_on() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("evicted").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({"rateLimit": SLOW}))?).await?;
    let running = |status: &BackupStatus| worker(status).is_some_and(|it| it.state == ProcessState::Running);
    shop.reaches("first", "exporting", LIMIT, running).await?;
    let quota = json!({"metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}});
    shop.namespace.create(&serde_json::from_value::<ResourceQuota>(quota)?).await?;
    // Before it has counted, it refuses nothing.
    let counted = |quota: Option<&ResourceQuota>| quota?.status.as_ref()?.used.as_ref().map(drop);
    wait_until(shop.namespace.api::<ResourceQuota>(), "full", "counted", LIMIT, counted).await?;
    let evicted = shop.running("worker-us-a").await?;
    shop.namespace.api::<Pod>().evict(&evicted.name_any(), &EvictParams::default()).await?;
    let refused = |status: &BackupStatus| {
        worker(status).and_then(|it| it.failure.as_ref()).is_some_and(|it| it.reason == "PodRefused")
    };
    let waiting = shop.reaches("first", "refused by the quota", LIMIT, refused).await?;
    let failure = worker(&waiting).and_then(|it| it.failure.clone()).context("no failure")?;
    assert!(failure.message.contains("exceeded quota: full"), "{failure:?}");
    assert_ne!(waiting.phase, Some(BackupPhase::Failed));
    shop.namespace.api::<ResourceQuota>().delete("full", &DeleteParams::default()).await?;
    let status = shop.succeeded("first", LIMIT).await?;
    assert_eq!(worker(&status).map(|it| it.attempt), Some(2), "{:?}", status.processes);
    assert_eq!(shop.run("verify", &["1"])?["proven"], true);
    Ok(())
}

/// An image that nobody has: it is named while there is time, and at the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_not_there_is_named() -> Result<()> {
    const IMAGE: &str = "localhost/no-such-image:1";
    let shop = Shop::open(cluster().await?.namespace("image").await?).await?;
    let controller = Controller::start(&shop.namespace)?;
    let ready = |store: Option<&BackupStore>| {
        let conditions = &store?.status.as_ref()?.conditions;
        conditions.iter().any(|it| it.type_ == "Ready" && it.status == ConditionStatus::True).then_some(())
    };
    wait_until(shop.namespace.api::<BackupStore>(), "orders", "ready", LIMIT, ready).await?;
    controller.kill9()?;
    let _other = Controller::start_of(&shop.namespace, IMAGE)?;
    shop.namespace.create(&shop.backup("first", &json!({"deadline": "30s"}))?).await?;
    let named = |failure: &Failure| failure.message.contains(IMAGE);
    let pulls = |status: &BackupStatus| {
        status.failure.as_ref().is_some_and(|it| it.reason == "ImagePullFailed" && named(it))
    };
    let waiting = shop.reaches("first", "without its image", LIMIT, pulls).await?;
    assert_eq!(waiting.phase, Some(BackupPhase::Pending));
    let status = shop.ended("first", LIMIT).await?;
    let failure = status.failure.context("no failure")?;
    assert_eq!((status.phase, &*failure.reason), (Some(BackupPhase::Failed), "DeadlineExceeded"));
    assert!(named(&failure), "{failure:?}");
    Ok(())
}
