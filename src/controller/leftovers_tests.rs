//! Resources that are over, with Jobs that go on, before a real API server.

use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};
use testbed::{ApiServer, shared_api_server};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::api::{Backup, Restore};
use crate::controller::{PullPolicy, Settings, Telemetry, run};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn server() -> &'static ApiServer {
    let server = shared_api_server();
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    for words in [
        &["apply", "--server-side", "-f", crds][..],
        &["wait", "--for=condition=Established", "--timeout=60s", "-f", crds],
    ] {
        let output = server.kubectl().args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    server
}

async fn client() -> Client {
    let kubeconfig = Kubeconfig::read_from(server().kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    Client::try_from(kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap()).unwrap()
}

fn backup() -> Backup {
    let value = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup", "metadata": {"name": "over"},
        "spec": {"storeRef": {"name": "orders"}, "source": {"postgres": {"database": "shop", "endpoints": [
            {"name": "eu", "host": "pg", "credentialsSecret": {"name": "pg"}}]}}},
    });
    serde_json::from_value(value).unwrap()
}

fn restore() -> Restore {
    let value = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Restore", "metadata": {"name": "over"},
        "spec": {"from": {"backup": "b"}, "target": {"postgres": {
            "host": "pg", "database": "back", "credentialsSecret": {"name": "pg"}}}},
    });
    serde_json::from_value(value).unwrap()
}

/// One of the Jobs that `owner` is made of.
fn job<K: Resource<DynamicType = ()>>(owner: &K, name: &str) -> Job {
    let (kind, uid) = (K::kind(&()).to_lowercase(), owner.uid().unwrap());
    let metadata = json!({
        "name": format!("{kind}-{name}"),
        "labels": {"app.kubernetes.io/managed-by": "vouchsafe", "vouchsafe.dev/uid": uid},
        "annotations": {"vouchsafe.dev/process": name, "vouchsafe.dev/order": "run", "vouchsafe.dev/attempt": "1"},
        "ownerReferences": [owner.controller_owner_ref(&())],
    });
    let container = json!({"name": "vouchsafe", "image": "vouchsafe"});
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [container]}});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"template": template}})).unwrap()
}

fn failed() -> Value {
    let failure = json!({"reason": "Unreachable", "message": "m", "hint": "h"});
    json!({"status": {"phase": "Failed", "failure": failure}})
}

/// Marks a Job as the Job controller does when its pod has ended.
async fn ends(jobs: &Api<Job>, name: &str) {
    let now = jiff::Timestamp::now().to_string();
    let condition = |type_: &str| json!({"type": type_, "status": "True", "reason": "x", "lastProbeTime": now, "lastTransitionTime": now});
    let conditions = [condition("FailureTarget"), condition("Failed")];
    let status = json!({"startTime": now, "failed": 1, "conditions": conditions});
    let patch = json!({"status": status});
    jobs.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test]
async fn what_goes_on_of_a_resource_that_is_over_is_ended_and_what_has_ended_is_kept() {
    let client = client().await;
    let namespace = shared_api_server().fresh_namespace("leftovers");
    let (backups, restores): (Api<Backup>, Api<Restore>) =
        (Api::namespaced(client.clone(), &namespace), Api::namespaced(client.clone(), &namespace));
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let create = PostParams::default();
    let backup = backups.create(&create, &backup()).await.unwrap();
    let restore = restores.create(&create, &restore()).await.unwrap();
    for one in [job(&backup, "worker-eu"), job(&backup, "coordinator"), job(&restore, "restorer")] {
        jobs.create(&create, &one).await.unwrap();
    }
    ends(&jobs, "backup-coordinator").await;
    let merge = PatchParams::default();
    backups.patch_status("over", &merge, &Patch::Merge(&failed())).await.unwrap();
    restores.patch_status("over", &merge, &Patch::Merge(&failed())).await.unwrap();

    // The one that wrote these statuses has died; this is the next.
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = Settings {
        image: "vouchsafe".into(),
        pull_policy: PullPolicy::Never,
        namespaces: vec![namespace.clone()],
        traces: None,
    };
    let running = tokio::spawn(run(client, settings, Telemetry::new(Default::default()), async move {
        let _ = stopped.await;
    }));
    // Kubernetes' own controllers would take it away when its pod is gone; here it is marked, and stays.
    let goes = |job: Option<&Job>| job.is_none_or(|job| job.metadata.deletion_timestamp.is_some());
    for name in ["backup-worker-eu", "restore-restorer"] {
        let gone = timeout(PATIENCE, await_condition(jobs.clone(), name, goes)).await;
        gone.unwrap_or_else(|_| panic!("{name} goes on")).unwrap();
    }
    // One that a controller makes that was deposed and does not know.
    jobs.create(&create, &job(&backup, "worker-us")).await.unwrap();
    let late = timeout(PATIENCE, await_condition(jobs.clone(), "backup-worker-us", goes)).await;
    late.expect("a late one is ended").unwrap();
    let kept = jobs.get("backup-coordinator").await.unwrap();
    assert_eq!(kept.metadata.deletion_timestamp, None, "its logs are for whoever looks what went wrong");
    stop.send(()).unwrap();
    running.await.unwrap();
}
