//! Nodes whose cable is pulled: another one takes over what ran there, and what comes back changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Alone, Cluster, Controller, Shop, cluster, until, wait_until};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt};
use serde_json::json;
use testbed::{WireFault, WireRule};
use vouchsafe::api::{Backup, BackupStatus, ProcessStatus};

/// Until a replacement has done what the process of a cut node has not: 20 s until the node is NotReady, 30 s that its
/// pods tolerate that, 30 s of grace, and 30 s until they are given up. The rest is for two busy cores.
const LIMIT: Duration = Duration::from_secs(360);

/// The node that is cut, and the other one of its region.
const CUT: &str = "us-east1-b";
const OTHER: &str = "us-east1-a";

/// One Backup, held where one of its processes sends a request that is named by its method and a part of its target.
struct Held {
    shop: Shop,
    /// The process on the node that is to be cut.
    process: &'static str,
    /// Where the coordinator runs.
    home: &'static str,
    /// Whose bucket holds.
    destination: &'static str,
    request: [&'static str; 2],
}

/// What is there when a Backup has succeeded.
struct Proven {
    version: Option<String>,
    objects: BTreeMap<&'static str, BTreeMap<String, String>>,
}

impl Held {
    async fn begin(&self) -> Result<()> {
        let bucket = format!(" /{}/", self.shop.bucket(self.destination));
        let [method, part] = self.request;
        let all = WireRule::during(0..u64::MAX, WireFault::Hold);
        self.shop.wire.set(vec![all.only(method).only(&bucket).only(part)]);
        let backup = self.shop.backup("first", &json!({"executionLocality": self.home}))?;
        self.shop.namespace.create(&backup).await?;
        Ok(())
    }

    /// Waits until it is held, with the process in question on the node that is to be cut.
    async fn is_held(&self) -> Result<()> {
        self.shop.fired(LIMIT).await?;
        let node = self.shop.running(self.process).await?.spec.and_then(|spec| spec.node_name);
        ensure!(node.as_deref() == Some(CUT), "{} runs on {node:?}", self.process);
        ensure!(self.landed().is_empty(), "what is held has reached the store");
        Ok(())
    }

    /// Status of what was held and has reached the store.
    fn landed(&self) -> Vec<u16> {
        let statuses = self.shop.wire.statuses();
        let fired = self.shop.wire.fired();
        let of = |request: u64| usize::try_from(request).ok().and_then(|at| statuses.get(at)).copied();
        fired.iter().filter_map(|fired| of(fired.request)).filter(|status| *status != 0).collect()
    }

    fn of<'a>(&self, status: &'a BackupStatus) -> Result<&'a ProcessStatus> {
        let mut processes = status.processes.iter();
        processes.find(|it| it.name == self.process).with_context(|| format!("no {}", self.process))
    }

    async fn proven(&self) -> Result<Proven> {
        let version = self.shop.namespace.api::<Backup>().get("first").await?.resource_version();
        let mut objects = BTreeMap::new();
        for place in Shop::REGIONS {
            objects.insert(place.name, self.shop.objects(place.name)?);
        }
        Ok(Proven { version, objects })
    }

    /// Whether everything is as it was proven, and proven again; what came later is nobody's.
    async fn is_still(&self, proven: &Proven) -> Result<()> {
        let now = self.proven().await?;
        ensure!(now.version == proven.version, "the Backup of {} was written to", self.process);
        for (destination, objects) in &proven.objects {
            for (key, tag) in objects {
                ensure!(now.objects[destination].get(key) == Some(tag), "{key} in {destination} is another");
            }
        }
        let runs = self.shop.run("list", &[])?;
        assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
        assert_eq!(runs["runs"][0]["outcome"], "Sealed", "{runs}");
        assert_eq!(self.shop.run("verify", &["1"])?["proven"], true);
        Ok(())
    }
}

/// One shop for each, with the worker, the verifier and the coordinator in question on the node that is to be cut.
async fn three_held(alone: &Alone) -> Result<(Controller, [Held; 3])> {
    let shop = async |stem: &str| Shop::open_in_regions(alone.namespace(stem).await?).await;
    let (eu, us) = (Shop::REGIONS[0].locality, Shop::REGIONS[1].locality);
    let export = Held {
        shop: shop("cut-export").await?,
        process: "worker-us",
        home: eu,
        destination: "us",
        request: ["PUT ", "/data/"],
    };
    let verify = Held {
        shop: shop("cut-verify").await?,
        process: "verifier-us",
        home: eu,
        destination: "us",
        request: ["PUT ", "/verdicts/"],
    };
    // It waits for a verifier elsewhere, and has published what all are asked with.
    let decide = Held {
        shop: shop("cut-decide").await?,
        process: "coordinator",
        home: us,
        destination: "eu",
        request: ["PUT ", "/verdicts/"],
    };
    let all = [export, verify, decide];
    let controller = Controller::of_all(&all.each_ref().map(|held| &held.shop.namespace))?;
    alone.cordon(OTHER)?;
    for held in &all {
        held.begin().await?;
    }
    for held in &all {
        held.is_held().await?;
    }
    alone.uncordon(OTHER)?;
    Ok((controller, all))
}

async fn until_ready(cluster: &Cluster, wanted: bool) -> Result<()> {
    let nodes: Api<Node> = Api::all(cluster.client().await?);
    let text = if wanted { "Ready" } else { "NotReady" };
    let as_wanted = |node: Option<&Node>| {
        let conditions = node?.status.as_ref()?.conditions.as_ref()?;
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?.status == "True";
        (ready == wanted).then_some(())
    };
    wait_until(nodes, CUT, text, Duration::from_secs(90), as_wanted).await
}

/// Not mended before all is over: a replacement runs on the other node. Then the cable is back and the kubelet is not, so
/// that what was replaced goes on with whatever it was at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ran_on_a_cut_node_is_replaced_and_coming_back_changes_nothing() -> Result<()> {
    let cluster = cluster().await?;
    let alone = cluster.alone().await;
    let (_controller, all) = three_held(&alone).await?;
    let mut zombies = Vec::new();
    for held in &all {
        zombies.push((held, held.shop.running(held.process).await?.name_any()));
    }
    alone.cut(CUT)?;
    for held in &all {
        // The replacement is not held; what is, stays so.
        held.shop.wire.disarm();
    }
    let mut proven = Vec::new();
    for held in &all {
        let status = held.shop.succeeded("first", LIMIT).await?;
        let process = held.of(&status)?;
        assert_eq!((process.attempt, process.node.as_deref()), (2, Some(OTHER)), "{process:?}");
        let witnesses = status.proof.context("no proof")?.witnesses;
        assert!(witnesses.iter().all(|it| zombies.iter().all(|(_, pod)| *pod != it.pod)), "{witnesses:?}");
        proven.push(held.proven().await?);
    }
    until_ready(cluster, false).await?;

    alone.hang(CUT)?;
    alone.mend(CUT)?;
    let before = all[2].shop.wire.requests().len();
    for held in &all {
        held.shop.wire.heal();
        let landed = || (!held.landed().is_empty()).then(|| held.landed());
        let landed = until("carried out in the end", LIMIT, landed).await?;
        eprintln!("{}: {landed:?}", held.process);
    }
    // The coordinator that was replaced looks whose the run is.
    let asks = || {
        let requests = all[2].shop.wire.requests();
        requests[before..].iter().any(|line| line.contains("/outcome.json")).then_some(())
    };
    until("asking how the run ended", LIMIT, asks).await?;
    alone.wake(CUT)?;
    until_ready(cluster, true).await?;
    for (held, pod) in &zombies {
        let gone = |pod: Option<&Pod>| pod.is_none().then_some(());
        wait_until(held.shop.namespace.api::<Pod>(), pod, "gone", LIMIT, gone).await?;
    }
    for (held, proven) in all.iter().zip(&proven) {
        held.is_still(proven).await?;
    }
    Ok(())
}

/// Mended before its pods' patience ends: nothing is replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ran_on_a_node_that_comes_back_in_time_goes_on() -> Result<()> {
    let cluster = cluster().await?;
    let alone = cluster.alone().await;
    let (_controller, all) = three_held(&alone).await?;
    alone.cut(CUT)?;
    until_ready(cluster, false).await?;
    alone.mend(CUT)?;
    until_ready(cluster, true).await?;
    for held in &all {
        held.shop.wire.heal();
    }
    for held in &all {
        let status = held.shop.succeeded("first", LIMIT).await?;
        let process = held.of(&status)?;
        assert_eq!((process.attempt, process.node.as_deref()), (1, Some(CUT)), "{process:?}");
        held.is_still(&held.proven().await?).await?;
    }
    Ok(())
}
