//! A Backup as users make it: a resource, and the pods that the controller makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::{Controller, Shop, cluster};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use vouchsafe::api::Backup;
use vouchsafe::telemetry::run_trace::RunTrace;

use crate::receiver::{Receiver, Seen};

/// A whole Backup takes about 30 s; the rest is for two cores that also do something else.
const LIMIT: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_localitys_worker_runs_there_and_writes_to_its_bucket() -> Result<()> {
    let shop = Shop::open(cluster().await?.namespace("shop").await?).await?;
    let receiver = Receiver::listen_at(shop.postgres.address(), false);
    let traces = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*receiver.endpoint)];
    let _controller = Controller::start_with(&shop.namespace, &traces)?;
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
        let rows = shop.rows_of_tables(place.name)?;
        let own = BTreeMap::from([(place.table, Shop::ROWS as usize)]);
        assert_eq!(rows, own, "the bucket of {} holds its rows and no others", place.name);
        let share = status.localities.iter().find(|it| it.locality == place.locality);
        let share =
            share.with_context(|| format!("no share of {}: {:?}", place.locality, status.localities))?;
        let worker = shop.pods(&format!("worker-{}", place.name)).await?;
        let node = worker.first().and_then(|pod| pod.spec.as_ref()?.node_name.clone());
        assert_eq!(
            (share.verified, share.destination.as_deref()),
            (Some(true), Some(place.name)),
            "{share:?}"
        );
        assert_eq!((&share.node, share.tickets_settled), (&node, share.tickets_planned), "{share:?}");
    }
    let server = status.resolved.and_then(|it| it.endpoints.first()?.server_version.clone());
    assert!(server.is_some_and(|version| version.starts_with("15.")), "the version of the server");
    let listed = shop.run("verify", &["1"])?;
    assert_eq!(listed["proven"], true, "{listed}");
    what_people_type(&shop)?;
    one_trace(&shop, &receiver).await
}

/// What the controller and every pod have told of the run, each by itself.
async fn one_trace(shop: &Shop, receiver: &Receiver) -> Result<()> {
    let uid = shop.namespace.api::<Backup>().get("first").await?.uid().context("no UID")?;
    let run = RunTrace::of(&uid);
    let wanted = ["controller", "coordinator", "verifier", "worker"].map(|it| format!("vouchsafe-{it}"));
    let begun = Instant::now();
    let spans = loop {
        // Others are of the store's probes.
        let spans = receiver.spans().into_iter().filter(|it| it.span.trace_id == run.trace.to_be_bytes());
        let spans: Vec<Seen> = spans.collect();
        let services: BTreeSet<&str> = spans.iter().map(|seen| &*seen.service).collect();
        let whole = spans.iter().any(|seen| seen.span.name == "backup");
        if whole && services.into_iter().eq(wanted.iter().map(|it| &**it)) {
            break spans;
        }
        // The controller's queue is emptied every five seconds.
        ensure!(begun.elapsed() < Duration::from_secs(60), "not all have told: {spans:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let of = |name: &str| spans.iter().filter(|it| it.span.name == name).collect::<Vec<_>>();
    let [whole] = &of("backup")[..] else { bail!("several ends: {spans:#?}") };
    assert_eq!(whole.span.span_id, run.root.to_be_bytes());
    assert_eq!(whole.field("run").as_deref(), Some("1"));
    for (name, count) in [("coordinator", 1), ("worker", 3), ("verifier", 3)] {
        let processes = of(name);
        assert_eq!(processes.len(), count, "{name}: {processes:#?}");
        assert!(
            processes.iter().all(|it| it.span.parent_span_id == run.root.to_be_bytes()),
            "{processes:#?}"
        );
    }
    let known: BTreeSet<&[u8]> = spans.iter().map(|seen| &*seen.span.span_id).collect();
    let has_parent =
        |seen: &&Seen| seen.span.parent_span_id.is_empty() || known.contains(&*seen.span.parent_span_id);
    assert!(spans.iter().all(|seen| has_parent(&seen)), "{spans:#?}");
    let secrets = [testbed::PASSWORD, shop.minio.secret_key()];
    assert!(secrets.iter().all(|secret| !receiver.was_sent(secret)), "a secret was sent");
    Ok(())
}

/// The plugin, on pods that ran on nodes.
fn what_people_type(shop: &Shop) -> Result<()> {
    let plugin = |words: &[&str]| shop.namespace.plugin(words);
    let json = |words: &[&str]| -> Result<Value> {
        let text = plugin(&[words, &["--output", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| text.clone())
    };
    let status = json(&["status", "backup/first"])?;
    assert_eq!((&status["phase"], &status["over"]), (&json!("Succeeded"), &json!(true)), "{status}");
    let text = plugin(&["status", "backup/first"])?;
    assert!(text.contains("verifier-us-a"), "{text}");
    let shown = json(&["show", "backup/first"])?;
    assert_eq!((&shown["run"], &shown["rows"]), (&json!(1), &json!(3 * Shop::ROWS)), "{shown}");
    assert_eq!(shown["destinations"].as_array().map(Vec::len), Some(Shop::PLACES.len()), "{shown}");
    let listed = json(&["list"])?;
    assert_eq!(
        (&listed["backups"][0]["name"], &listed["backups"][0]["phase"]),
        (&json!("first"), &json!("Succeeded"))
    );

    // Lines of every pod, in the order of time, each with whose it is.
    let lines = plugin(&["logs", "backup/first", "--output", "json"])?;
    let lines: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let processes: BTreeSet<&str> = lines.iter().filter_map(|line| line["process"].as_str()).collect();
    let all = [
        "coordinator",
        "verifier-eu",
        "verifier-us-a",
        "verifier-us-b",
        "worker-eu",
        "worker-us-a",
        "worker-us-b",
    ];
    assert_eq!(processes.into_iter().collect::<Vec<_>>(), all);
    let times: Vec<Timestamp> = lines
        .iter()
        .map(|line| Ok(line["time"].as_str().context("no time")?.parse()?))
        .collect::<Result<_>>()?;
    assert!(times.is_sorted(), "{times:?}");
    assert!(lines.iter().all(|line| line["attempt"] == 1), "{lines:?}");
    let one = plugin(&["logs", "backup/first", "--process", "worker-eu"])?;
    assert!(
        one.contains("every ticket is settled") && one.lines().all(|line| line.starts_with("[worker-eu/1] ")),
        "{one}"
    );
    Ok(())
}
