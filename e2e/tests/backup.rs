//! A Backup as users make it: a resource, and the pods that the controller makes of it.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Controller, Shop, cluster};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;

/// A whole Backup takes about 30 s; the rest is for two cores that also do something else.
const LIMIT: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_localitys_worker_runs_there_and_writes_to_its_bucket() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("shop").await?).await?;
    let _controller = Controller::start(&shop.namespace)?;
    shop.namespace.create(&shop.backup("first", &json!({}))?).await?;
    let status = shop.succeeded("first", LIMIT).await?;

    let proof = status.proof.context("no proof")?;
    let witnesses: Vec<&str> = proof.witnesses.iter().map(|witness| witness.destination.as_str()).collect();
    assert_eq!(witnesses, ["eu", "us-a", "us-b"]);
    assert_eq!(proof.rows_counted, Some(i64::from(3 * Shop::ROWS)));

    // From the API server's own records, and not from our status.
    let nodes: Api<Node> = Api::all(shop.namespace.cluster().client().await?);
    for place in Shop::PLACES {
        for role in ["worker", "verifier"] {
            let process = format!("{role}-{}", place.name);
            let pods = shop.pods(&process).await?;
            let pod = pods.first().with_context(|| format!("no pod of {process}"))?;
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).context("on no node")?;
            let labels = nodes.get(&node).await?.metadata.labels.context("a node without labels")?;
            for tier in place.locality.split(',') {
                let (tier, value) = tier.split_once('=').context("a tier")?;
                assert_eq!(labels[&format!("topology.kubernetes.io/{tier}")], value, "{process} on {node}");
            }
        }
        let data: Vec<String> =
            shop.keys(place.name)?.into_iter().filter(|key| key.contains("/data/")).collect();
        assert!(!data.is_empty(), "no data in the bucket of {}", place.name);
    }
    let listed = shop.run("verify", &["1"])?;
    assert_eq!(listed["proven"], true, "{listed}");
    Ok(())
}
