//! A namespace that goes with all that is in it.

use std::time::Duration;

use anyhow::Result;
use e2e::{Controller, Shop, cluster, wait_until};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use serde_json::json;
use testbed::{WireFault, WireRule};

const LIMIT: Duration = Duration::from_secs(240);

/// It goes, with its Backup in flight; what lies in the bucket stays, and the controller has forgotten it while it goes
/// on with another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_deleted_in_flight_goes_and_another_ones_backup_goes_on() -> Result<()> {
    let cluster = cluster().await?;
    let going = Shop::open(cluster.namespace("going").await?).await?;
    let staying = Shop::open(going.namespace.another("staying").await?).await?;
    let controller = Controller::of_all(&[&going.namespace, &staying.namespace])?;
    for shop in [&going, &staying] {
        // One locality's rows have arrived, and another's are on their way.
        let bucket = format!(" /{}/", shop.bucket("us-a"));
        let held = WireRule::during(0..u64::MAX, WireFault::Hold).only("PUT ").only(&bucket).only("/data/");
        shop.wire.set(vec![held]);
        shop.namespace.create(&shop.backup("first", &json!({}))?).await?;
    }
    for shop in [&going, &staying] {
        shop.fired(LIMIT).await?;
    }
    let before = going.objects("eu")?;
    assert!(before.keys().any(|key| key.ends_with("/run.json")), "no run was claimed: {before:?}");

    going.namespace.kubectl(&["delete", "namespace", going.namespace.name(), "--wait=false"])?;
    let gone = |namespace: Option<&Namespace>| namespace.is_none().then_some(());
    let namespaces: Api<Namespace> = Api::all(cluster.client().await?);
    wait_until(namespaces, going.namespace.name(), "gone", LIMIT, gone).await?;

    let complaints = || {
        let log = controller.log();
        let of_it = |line: &&str| line.contains(going.namespace.name()) && !line.contains("DEBUG");
        log.lines().filter(of_it).map(str::to_owned).collect::<Vec<_>>()
    };
    let at_its_end = complaints();
    assert!(!at_its_end.is_empty(), "the log names no namespace");
    staying.wire.heal();
    staying.succeeded("first", LIMIT).await?;
    assert_eq!(staying.run("verify", &["1"])?["proven"], true);
    // While a whole verification went by.
    let since = complaints();
    assert!(since.len() <= at_its_end.len() + 2, "it goes on about it:\n{}", since.join("\n"));
    let after = going.objects("eu")?;
    for (key, tag) in &before {
        assert_eq!(after.get(key), Some(tag), "{key} went with the namespace");
    }
    Ok(())
}
