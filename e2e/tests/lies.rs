//! What others have called a success.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Controller, Shop, cluster};
use serde_json::json;
use testbed::{WireFault, WireRule};
use vouchsafe::api::{BackupPhase, BackupStatus, ProcessState};

const LIMIT: Duration = Duration::from_secs(300);

/// Uploads fail for a while, and metadata can be written again: the job that said it had succeeded (A-151050).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_failed_are_no_backup_though_the_store_is_well_again() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("outage").await?).await?;
    shop.wire.set(vec![WireRule::during(0..u64::MAX, WireFault::AccessDenied).only(" /").only("/data/")]);
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({}))?).await?;
    let failed = |status: &BackupStatus| {
        status.processes.iter().any(|it| it.name.starts_with("worker") && it.state == ProcessState::Failed)
    };
    shop.reaches("first", "without a worker", LIMIT, failed).await?;
    ensure!(!shop.wire.fired().is_empty(), "no upload was refused");
    shop.wire.heal();
    let status = shop.ended("first", LIMIT).await?;
    assert_eq!(status.phase, Some(BackupPhase::Failed));
    let failure = status.failure.context("no failure")?;
    assert_eq!(failure.reason, "Forbidden", "{failure:?}");
    let runs = shop.run("list", &[])?;
    assert_eq!(runs["runs"][0]["outcome"], "Void", "{runs}");
    Ok(())
}

/// Somebody else's bytes lie where a worker's should, before anything was read back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_damaged_before_it_is_read_back_fails_the_backup_by_name() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("damaged").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    // One locality is slow, so that another's objects lie there for a while.
    let big = "INSERT INTO item_us_b SELECT n + 10000, 'more', sha256(n::text::bytea) || sha256((n||'a')::bytea) \
        || sha256((n||'b')::bytea) FROM generate_series(1, 8000) n";
    shop.postgres.psql(&shop.database, big)?;
    shop.namespace.create(&shop.backup("first", &json!({"rateLimit": "100Ki"}))?).await?;
    let eu_done = |status: &BackupStatus| {
        let state = |name: &str| status.processes.iter().find(|it| it.name == name).map(|it| it.state);
        state("worker-eu") == Some(ProcessState::Done) && state("worker-us-b") == Some(ProcessState::Running)
    };
    shop.reaches("first", "done in eu alone", LIMIT, eu_done).await?;
    let key = shop.keys("eu")?.into_iter().find(|key| key.contains("/data/")).context("no data in eu")?;
    let damaged = tempfile::NamedTempFile::new()?;
    std::fs::write(damaged.path(), "not what was there")?;
    let path = format!("{}/{key}", shop.bucket("eu"));
    let answer = shop.minio.request("PUT", &path, &[], Some(damaged.path()));
    ensure!(answer.status == 200, "the object was not replaced: {answer:?}");
    let status = shop.ended("first", LIMIT).await?;
    assert_eq!(status.phase, Some(BackupPhase::Failed));
    let failure = status.failure.context("no failure")?;
    let (_, name) = key.rsplit_once("/data/").context("a key of data")?;
    assert!(failure.message.contains(name), "{failure:?} does not name {key}");
    let runs = shop.run("list", &[])?;
    assert_eq!(runs["runs"][0]["outcome"], "Void", "{runs}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_restarted_in_export_is_backed_up_by_a_new_plan() -> Result<()> {
    let shop = Shop::open_alone(cluster().await?.namespace("restarted").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({"rateLimit": "100Ki"}))?).await?;
    let exporting = |status: &BackupStatus| {
        status.processes.iter().any(|it| it.name == "worker-eu" && it.state == ProcessState::Running)
    };
    let before = shop.reaches("first", "exporting", LIMIT, exporting).await?;
    shop.postgres.restart();
    let status = shop.succeeded("first", LIMIT).await?;
    let plan = |status: &BackupStatus| status.run.clone().and_then(|run| run.plan);
    assert_ne!(plan(&status), plan(&before));
    assert_eq!(shop.run("verify", &["1"])?["proven"], true);
    Ok(())
}
