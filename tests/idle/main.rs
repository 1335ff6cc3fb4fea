//! A controller in a cluster where nothing is due asks for next to nothing, and writes nothing at all. Among the objects
//! are some that it can't read, as after a rollback from a newer release.
#![allow(clippy::unwrap_used, reason = "a scenario of one test, and its parts")]

mod cluster;
mod controller;
mod objects;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use cluster::{CONTROLLERS, Cluster, NAMESPACE, Request};
use controller::Controller;
use objects::Size;

/// How long nothing happens. Watches are begun anew within it: kube-runtime lets each go on for 290 s.
const IDLE: Duration = Duration::from_secs(300);

/// For what takes seconds, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

const SIZE: Size = Size { stores: 3, schedules: 12, backups: 36 };

/// A word of each kind that a newer release may know: where, and in what.
const NEWER: [(&str, &str, &str); 4] = [
    ("Backup", "backups", "type"),
    ("BackupSchedule", "backupschedules", "concurrency"),
    ("BackupStore", "backupstores", "accessMode"),
    ("Restore", "restores", "onExisting"),
];

async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look().await {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn kind(cluster: &Cluster, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("vouchsafe.dev", "v1alpha1", kind));
    Api::namespaced_with(cluster.client.clone(), NAMESPACE, &resource)
}

/// Makes one object of each kind that this release can't read. The Backup is of a schedule that is there.
async fn newer_ones(cluster: &Cluster) {
    let spec = objects::schedule(0, SIZE.stores, &json!({}))["spec"].clone();
    let store = kind(cluster, "BackupStore").get(&objects::store_name(0)).await.unwrap();
    for (name, plural, field) in NEWER {
        let at = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{field}/enum/-");
        let patch = json!([{"op": "add", "path": at, "value": "Newer"}]).to_string();
        let definition = format!("crd/{plural}.vouchsafe.dev");
        cluster.kubectl(&["patch", &definition, "--type=json", "-p", &patch]);
        let mut spec = match name {
            "Backup" => spec["template"]["spec"].clone(),
            "BackupSchedule" => spec.clone(),
            "BackupStore" => store.data["spec"].clone(),
            _ => json!({"from": {"backup": "none"},
                        "target": {"postgres": {"host": "pg", "database": "shop"}}}),
        };
        spec[field] = "Newer".into();
        let mut object = json!({"apiVersion": "vouchsafe.dev/v1alpha1", "kind": name,
                                "metadata": {"name": "newer"}, "spec": spec});
        if name == "Backup" {
            let of = objects::schedule_name(0);
            let made_by = kind(cluster, "BackupSchedule").get(&of).await.unwrap();
            object["metadata"]["labels"] = json!({"vouchsafe.dev/schedule": of});
            object["metadata"]["annotations"] = json!({"vouchsafe.dev/schedule-uid": made_by.uid()});
        }
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let api = kind(cluster, name);
        // A moment after the definition has changed.
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = api.create(&PostParams::default(), &object).await {
            assert!(Instant::now() < deadline, "{name}: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The version of every object that there is, Leases left out: a Lease is renewed, and so is the API server's own.
fn versions(cluster: &Cluster) -> BTreeMap<String, String> {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "-o", "name"]);
    let kinds: Vec<&str> = kinds.lines().filter(|it| !it.starts_with("leases.")).collect();
    for ours in
        ["backups.vouchsafe.dev", "jobs.batch", "roles.rbac.authorization.k8s.io", "events.events.k8s.io"]
    {
        assert!(kinds.contains(&ours), "{kinds:?}");
    }
    let line = r#"{range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}={.metadata.resourceVersion}{"\n"}{end}"#;
    let all = cluster.kubectl(&["get", &kinds.join(","), "-A", "-o", &format!("jsonpath={line}")]);
    let version =
        |line: &str| line.rsplit_once('=').map(|(name, version)| (name.to_owned(), version.to_owned()));
    all.lines().filter_map(version).collect()
}

fn lease(cluster: &Cluster) -> String {
    cluster.kubectl(&[
        "get",
        "leases",
        "-n",
        CONTROLLERS,
        "-o",
        "jsonpath={.items[*].metadata.resourceVersion}",
    ])
}

fn says_of_each(controller: &Controller) -> bool {
    let log = controller.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |kind: &str| {
        let said = |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            let named = line["kind"] == kind || message.contains(&format!("a {kind} that"));
            named && message.contains("this release can't read is left alone")
        };
        lines.iter().any(said)
    };
    NEWER.iter().all(|(kind, ..)| of(kind))
}

#[test]
fn five_idle_minutes_bring_few_requests_and_no_write() {
    tokio::runtime::Runtime::new().unwrap().block_on(scenario());
}

async fn scenario() {
    let cluster = Cluster::start().await;
    objects::fill(&cluster.client, SIZE).await;
    newer_ones(&cluster).await;
    let controller = cluster.controller();
    let all = [("BackupStore", SIZE.stores), ("BackupSchedule", SIZE.schedules), ("Backup", SIZE.backups)];
    until("each is looked at", async || controller.has_seen(&all)).await;
    until("what can't be read is told", async || says_of_each(&controller)).await;
    cluster.settles().await;

    let (before, leased) = (versions(&cluster), lease(&cluster));
    assert!(before.len() > SIZE.backups, "{before:#?}");
    let began = Timestamp::now();
    tokio::time::sleep(IDLE).await;
    let asked = cluster.asked(began, Timestamp::now(), &mut 0);
    let after = versions(&cluster);
    let changed: Vec<_> =
        after.iter().filter(|(name, version)| before.get(*name) != Some(*version)).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "{changed:#?}");
    let writes: Vec<_> = asked.iter().filter(|request| request.writes()).collect();
    assert!(writes.is_empty(), "{writes:#?}");
    println!("{} requests in {IDLE:?}; {} KiB resident", asked.len(), controller.memory("VmRSS"));
    assert!(asked.len() as u64 <= IDLE.as_secs(), "{asked:#?}");
    // That would also be so of one that has died: it leads, watches were begun anew, and it still does its work.
    assert_ne!(lease(&cluster), leased);
    let again = |it: &Request| it.verb == "watch" && it.uri.contains("/backups");
    assert!(asked.iter().any(again), "{asked:#?}");
    let spec = objects::schedule(0, SIZE.stores, &json!({}))["spec"]["template"]["spec"].clone();
    let backup = json!({"apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
                        "metadata": {"name": "by-hand"}, "spec": spec});
    let backup: DynamicObject = serde_json::from_value(backup).unwrap();
    kind(&cluster, "Backup").create(&PostParams::default(), &backup).await.unwrap();
    let jobs: Api<Job> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    until("a Job", async || !jobs.list(&ListParams::default()).await.unwrap().items.is_empty()).await;
}
