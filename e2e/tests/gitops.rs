//! What tools that apply a repository do with live objects: they try, apply, wait, look at the health, and compare.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Controller, Namespace, Shop, cluster};
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use vouchsafe::api::{Backup, BackupPhase, BackupStatus};

const LIMIT: Duration = Duration::from_secs(240);

/// Names as kubectl takes them, of what lies in the repository.
const KINDS: &str =
    "backupstores.vouchsafe.dev,backupschedules.vouchsafe.dev,backups.vouchsafe.dev,restores.vouchsafe.dev";

/// kstatus, as its documentation has it for any kind of object: an older observedGeneration is in progress, then
/// Reconciling and Stalled count if they are true, then Ready if it is there, and else the object is current.
fn kstatus(object: &Value) -> &'static str {
    let status = &object["status"];
    let seen = status["observedGeneration"].as_i64();
    if seen.is_some_and(|seen| Some(seen) != object["metadata"]["generation"].as_i64()) {
        return "InProgress";
    }
    let condition = |kind: &str| {
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.find(|it| it["type"] == kind).and_then(|it| it["status"].as_str())
    };
    match (condition("Reconciling"), condition("Stalled"), condition("Ready")) {
        (Some("True"), ..) => "InProgress",
        (_, Some("True"), _) => "Failed",
        (_, _, Some("False" | "Unknown")) => "InProgress",
        _ => "Current",
    }
}

/// kstatus of every state that the Backups of a namespace are in, one after the other, by name.
type Seen = Arc<Mutex<BTreeMap<String, Vec<&'static str>>>>;

async fn note(backups: Api<Backup>, seen: Seen) {
    let changes = watcher(backups, watcher::Config::default()).default_backoff().applied_objects();
    changes
        .for_each(|changed| {
            if let Ok(backup) = changed {
                let state = serde_json::to_value(&backup).map_or("unreadable", |object| kstatus(&object));
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let states = seen.entry(backup.name_any()).or_default();
                if states.last() != Some(&state) {
                    states.push(state);
                }
            }
            std::future::ready(())
        })
        .await;
}

/// `kubectl apply` or `kubectl diff` of the repository, as `manager`.
fn kubectl(namespace: &Namespace, command: &[&str], manager: &str, folder: &Path) -> Result<String> {
    let (manager, folder) = (format!("--field-manager={manager}"), folder.display().to_string());
    namespace.kubectl(&[command, &["--server-side", &manager, "-f", &folder]].concat())
}

/// Generation and version of each object.
fn versions(namespace: &Namespace) -> Result<String> {
    let path = "{range .items[*]}{.kind} {.metadata.name} {.metadata.generation} {.metadata.resourceVersion}{\"\\n\"}{end}";
    namespace.kubectl(&["get", KINDS, "--output", &format!("jsonpath={path}")])
}

fn live(namespace: &Namespace, object: &str) -> Result<&'static str> {
    let text = namespace.kubectl(&["get", object, "--output", "json"])?;
    Ok(kstatus(&serde_json::from_str(&text)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_is_tried_applied_waited_for_and_differs_in_nothing() -> Result<()> {
    let shop = Shop::open_in_one(cluster().await?.namespace("gitops").await?).await?;
    let namespace = &shop.namespace;
    let _controller = Controller::start(namespace)?;
    let template = serde_json::to_value(&shop.backup("template", &json!({"collection": "shop"}))?.spec)?;
    let schedule = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule", "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 29 2 *", "fullSchedule": "Always", "retention": {"keepLast": 3},
                 "template": {"spec": template}},
    });
    let restore = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Restore", "metadata": {"name": "back"},
        "spec": {"from": {"backup": "first"}, "target": {"postgres": {
            "host": shop.postgres.address().to_string(), "port": shop.postgres.port(),
            "database": format!("{}_back", shop.database),
            "credentialsSecret": {"name": "pg"}, "tls": {"mode": "Disable"},
        }}},
    });
    let repository = tempfile::tempdir()?;
    let write = |name: &str, mut object: Value| {
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        std::fs::write(repository.path().join(name), object.to_string())
    };
    let mut store = serde_json::to_value(shop.store("git", &shop.wire.endpoint())?)?;
    // A place is one store's.
    store["spec"]["destinations"][0]["s3"]["prefix"] = json!("git");
    write("store.json", store)?;
    write("schedule.json", schedule.clone())?;
    write("restore.json", restore)?;
    let mut first = shop.backup("first", &json!({"collection": "shop"}))?;
    first.spec.store_ref.name = "git".into();
    write("backup.json", serde_json::to_value(first)?)?;

    let before = versions(namespace)?;
    let tried = kubectl(namespace, &["apply", "--dry-run=server"], "flux", repository.path())?;
    assert_eq!(tried.matches("(server dry run)").count(), 4, "{tried}");
    assert_eq!(before.lines().count(), 1, "only the shop's own store: {before}");
    assert!(!versions(namespace)?.contains("first"), "a dry run made something");

    let seen = Seen::default();
    tokio::spawn(note(namespace.api(), Arc::clone(&seen)));
    kubectl(namespace, &["apply"], "flux", repository.path())?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=120s"];
    namespace.kubectl(
        &[
            &ready[..],
            &[
                "backupstores.vouchsafe.dev/git",
                "backupstores.vouchsafe.dev/orders",
                "backupschedules.vouchsafe.dev/nightly",
            ],
        ]
        .concat(),
    )?;
    let complete = ["wait", "--for=condition=Complete", "--timeout=240s"];
    let waited = namespace.kubectl(&[&complete[..], &["backups.vouchsafe.dev/first"]].concat());
    waited.with_context(|| namespace.state())?;
    let waited = namespace.kubectl(&[&complete[..], &["restores.vouchsafe.dev/back"]].concat());
    waited.with_context(|| namespace.state())?;
    for object in [
        "backupstores.vouchsafe.dev/git",
        "backupschedules.vouchsafe.dev/nightly",
        "restores.vouchsafe.dev/back",
    ] {
        assert_eq!(live(namespace, object)?, "Current", "{object}");
    }

    // The controller has written to all four, and nothing of it is a difference; not for another tool either.
    let (settled, jobs) = (versions(namespace)?, namespace.api::<Job>().list(&ListParams::default()).await?);
    kubectl(namespace, &["diff"], "flux", repository.path())?;
    kubectl(namespace, &["apply"], "flux", repository.path())?;
    assert_eq!(versions(namespace)?, settled);
    kubectl(namespace, &["apply"], "argocd", repository.path())?;
    kubectl(namespace, &["diff"], "argocd", repository.path())?;
    let generations = |versions: &str| -> Vec<String> {
        versions.lines().filter_map(|line| line.rsplit_once(' ')).map(|(line, _)| line.to_owned()).collect()
    };
    assert_eq!(generations(&versions(namespace)?), generations(&settled));
    // A difference that there is, is shown.
    let mut changed = schedule;
    changed["spec"]["suspend"] = json!(true);
    write("schedule.json", changed)?;
    let shown = kubectl(namespace, &["diff"], "flux", repository.path()).err().context("no difference")?;
    assert!(format!("{shown:#}").contains("suspend: true"), "{shown:#}");
    let now = namespace.api::<Job>().list(&ListParams::default()).await?;
    let uids =
        |jobs: &kube::api::ObjectList<Job>| jobs.iter().filter_map(ResourceExt::uid).collect::<Vec<_>>();
    assert_eq!(uids(&now), uids(&jobs), "an apply has begun something");

    // Those that don't end well, and one that waits.
    let mut poor = shop.backup("poor", &json!({}))?;
    let reference = poor.spec.source.postgres.endpoints[0].credentials_secret.as_mut();
    reference.context("no Secret is named")?.name = "no-such-secret".into();
    namespace.create(&poor).await?;
    assert_eq!(shop.ended("poor", LIMIT).await?.phase, Some(BackupPhase::Failed));
    namespace.create(&shop.backup("late", &json!({"suspend": true}))?).await?;
    let suspended = |status: &BackupStatus| status.conditions.iter().any(|it| it.type_ == "Suspended");
    shop.reaches("late", "suspended", LIMIT, suspended).await?;
    assert_eq!(live(namespace, "backups.vouchsafe.dev/late")?, "InProgress");
    shop.patch("late", &json!({"cancel": true})).await?;
    assert_eq!(shop.ended("late", LIMIT).await?.phase, Some(BackupPhase::Canceled));
    for (name, last) in [("first", "Current"), ("poor", "Failed"), ("late", "Failed")] {
        assert_eq!(live(namespace, &format!("backups.vouchsafe.dev/{name}"))?, last, "{name}");
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(["InProgress", last].ends_with(&seen[name]), "{name}: {:?}", seen[name]);
    }
    let bad = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule", "metadata": {"name": "nowhere"},
        "spec": {"schedule": "0 0 29 2 *", "timeZone": "Europe/Atlantis", "fullSchedule": "Always",
                 "template": {"spec": template}},
    });
    write("schedule.json", bad)?;
    kubectl(namespace, &["apply"], "flux", &repository.path().join("schedule.json"))?;
    let stalled =
        ["wait", "--for=condition=Stalled", "--timeout=60s", "backupschedules.vouchsafe.dev/nowhere"];
    namespace.kubectl(&stalled)?;
    assert_eq!(live(namespace, "backupschedules.vouchsafe.dev/nowhere")?, "Failed");
    Ok(())
}
