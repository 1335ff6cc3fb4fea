//! Whatever is killed, when it ends changes, and never what it claims.

use std::time::Duration;

use anyhow::Result;
use e2e::{Controller, Shop, cluster};
use serde_json::json;
use testbed::{WireFault, WireRule};
use vouchsafe::api::{ProcessStatus, RestoreStatus};

const LIMIT: Duration = Duration::from_secs(240);

/// Holds an export for about ten seconds: of a table of 1 MiB.
const SLOW: &str = "100Ki";

fn attempts_of<'a>(processes: &'a [ProcessStatus], name: &'a str) -> i64 {
    processes.iter().find(|it| it.name == name).map_or(0, |it| it.attempt)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_and_the_controller_killed_in_export() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("worker").await?).await?;
    let controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({"rateLimit": SLOW}))?).await?;
    shop.kill("first", "worker-us-a", LIMIT).await?;
    controller.kill9()?;
    let _next = Controller::start(&shop.namespace)?;
    let status = shop.succeeded("first", LIMIT).await?;
    assert_eq!(attempts_of(&status.processes, "worker-us-a"), 2, "{:?}", status.processes);
    assert_eq!(attempts_of(&status.processes, "coordinator"), 1, "{:?}", status.processes);
    assert_eq!(shop.run("verify", &["1"])?["proven"], true);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_killed_in_export_makes_a_new_plan_in_the_same_run() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("coordinator").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({"rateLimit": SLOW}))?).await?;
    let exporting = |status: &vouchsafe::api::BackupStatus| {
        status.processes.iter().any(|it| it.name == "worker-eu" && it.node.is_some())
    };
    let before = shop.reaches("first", "exporting", LIMIT, exporting).await?;
    shop.kill("first", "coordinator", LIMIT).await?;
    let status = shop.succeeded("first", LIMIT).await?;
    assert_eq!(attempts_of(&status.processes, "coordinator"), 2, "{:?}", status.processes);
    let plan = |status: &vouchsafe::api::BackupStatus| status.run.clone().and_then(|run| run.plan);
    assert_ne!(plan(&status), plan(&before));
    let runs = shop.run("list", &[])?;
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
    assert_eq!(shop.run("verify", &["1"])?["proven"], true);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_the_controller_and_the_coordinator_killed_while_reading_back() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("verifier").await?).await?;
    // Rows are read by verifiers only, and each reading comes late.
    shop.wire.set(vec![
        WireRule::during(0..u64::MAX, WireFault::Delay(Duration::from_secs(8))).only("GET ").only("/data/"),
    ]);
    let controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({}))?).await?;
    shop.kill("first", "verifier-us-b", LIMIT).await?;
    controller.kill9()?;
    let _next = Controller::start(&shop.namespace)?;
    shop.kill("first", "coordinator", LIMIT).await?;
    let status = shop.succeeded("first", LIMIT).await?;
    assert_eq!(attempts_of(&status.processes, "coordinator"), 2, "{:?}", status.processes);
    assert!(!shop.wire.fired().is_empty(), "nothing was held");
    assert_eq!(shop.run("verify", &["1"])?["proven"], true);
    Ok(())
}

/// Its target has been touched when it dies: the next attempt takes back what is there, and begins anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restorer_killed_while_it_loads_rows() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("restorer").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({}))?).await?;
    shop.succeeded("first", LIMIT).await?;
    // Every object of rows is read once before anything is touched, and once to be loaded.
    let tables = Shop::PLACES.len() as u64;
    let held = WireRule::during(tables + 1..u64::MAX, WireFault::Hold).only("GET ").only("/data/");
    shop.wire.set(vec![held]);
    let database = format!("{}_restored", shop.database);
    shop.namespace.create(&shop.restore("back", &json!({"backup": "first"}), &database)?).await?;
    shop.fired(LIMIT).await?;
    let loads =
        |status: &RestoreStatus| status.run.as_ref().and_then(|run| run.step.as_deref()) == Some("Data");
    shop.restore_reaches("back", "loading", LIMIT, loads).await?;
    // Of this shop alone: its server has others, too.
    let own = format!("SELECT datname FROM pg_database WHERE datname ~ '^{}(_|$)' ORDER BY 1", shop.database);
    let databases = || shop.postgres.psql("postgres", &own);
    let touched = databases()?;
    assert!(!touched.lines().any(|it| it == database), "{touched}");
    shop.kill_now("restorer").await?;
    shop.wire.heal();
    let status = shop.restored("back", &database, LIMIT).await?;
    assert_eq!(attempts_of(&status.processes, "restorer"), 2, "{:?}", status.processes);
    // Of those that were there while it loaded, one went: its unfinished database has become the wanted one.
    let left = databases()?;
    assert_eq!(left.lines().count(), touched.lines().count(), "{touched}{left}");
    Ok(())
}
