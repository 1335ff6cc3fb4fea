//! Backups that are deleted with their data.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Controller, Shop, cluster};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use serde_json::json;
use vouchsafe::api::{Backup, BackupStore};

const LIMIT: Duration = Duration::from_secs(240);

/// Keys of a run that hold more than its history, by destination.
fn data_of(shop: &Shop, run: u32) -> Result<BTreeMap<&'static str, Vec<String>>> {
    let below = format!("pg/runs/{run:08}/p");
    let of = |place: &e2e::Place| {
        let keys = shop.keys(place.name)?.into_iter().filter(|key| key.starts_with(&below));
        anyhow::Ok((place.name, keys.collect()))
    };
    Shop::PLACES.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_objects_go_from_every_bucket_and_the_other_backup_verifies() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("purged").await?).await?;
    let stores = shop.namespace.api::<BackupStore>();
    let mut store = stores.get("orders").await?;
    for destination in &mut store.spec.destinations {
        destination.delete_credentials_secret = destination.credentials_secret.clone();
    }
    let spec = Patch::Merge(json!({"spec": store.spec}));
    stores.patch("orders", &PatchParams::default(), &spec).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({"deletionPolicy": "Delete"}))?).await?;
    shop.succeeded("first", LIMIT).await?;
    shop.namespace.create(&shop.backup("second", &json!({}))?).await?;
    shop.succeeded("second", LIMIT).await?;
    let (first, second) = (data_of(&shop, 1)?, data_of(&shop, 2)?);
    assert!(first.values().chain(second.values()).all(|keys| !keys.is_empty()), "{first:?} {second:?}");

    let backups = shop.namespace.api::<Backup>();
    let uid = backups.get("first").await?.uid().context("a UID")?;
    backups.delete("first", &DeleteParams::default()).await?;
    let gone = tokio::time::timeout(LIMIT, await_condition(backups, "first", is_deleted(&uid)));
    gone.await.with_context(|| shop.namespace.state())??;
    assert!(data_of(&shop, 1)?.values().all(Vec::is_empty), "{:?}", data_of(&shop, 1)?);
    assert_eq!(data_of(&shop, 2)?, second);
    let verified = shop.run("verify", &["2"])?;
    assert_eq!(verified["run"], 2, "{verified}");
    let runs = shop.run("list", &[])?;
    let outcomes: Vec<_> =
        runs["runs"].as_array().context("no runs")?.iter().map(|run| &run["outcome"]).collect();
    assert_eq!(
        outcomes,
        ["Retired", "Sealed", "Pruned"].map(|it| json!(it)).iter().collect::<Vec<_>>(),
        "{runs}"
    );
    Ok(())
}
