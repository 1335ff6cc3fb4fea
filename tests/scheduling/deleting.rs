//! Backups with `deletionPolicy: Delete`: when they have a finalizer, what is made when they are deleted, and that
//! nothing holds them for ever. Pods are told, as there is no kubelet; everything else is the API server's.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vouchsafe::api::{Backup, BackupStore};

use crate::{Controller, PATIENCE, client, server, template};

const FINALIZER: &str = "vouchsafe.dev/delete-data";

/// One namespace, with what it holds.
struct Space {
    client: Client,
    name: String,
    backups: Api<Backup>,
}

impl Space {
    async fn new(stem: &str) -> Self {
        let client = client().await;
        let name = server().fresh_namespace(stem);
        let backups = Api::namespaced(client.clone(), &name);
        Self { client, name, backups }
    }

    async fn backup(&self, name: &str, policy: &str) -> Backup {
        let mut spec = template()["spec"].clone();
        (spec["storeRef"]["name"], spec["deletionPolicy"]) = (json!("orders"), json!(policy));
        let object = json!({"apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup", "metadata": {"name": name},
                            "spec": spec});
        self.backups.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    }

    async fn patch(&self, name: &str, patch: &Value) {
        self.backups.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    async fn policy(&self, name: &str, policy: &str) {
        self.patch(name, &json!({"spec": {"deletionPolicy": policy}})).await;
    }

    /// As the controller marks it before the first of its pods.
    async fn has_begun(&self, backup: &Backup) {
        let marks = json!({"metadata": {"annotations": {"vouchsafe.dev/begun-as": backup.uid()}}});
        self.patch(&backup.name_any(), &marks).await;
    }

    async fn delete(&self, name: &str) {
        self.backups.delete(name, &DeleteParams::default()).await.unwrap();
    }

    async fn until(&self, name: &str, what: &str, is: impl Fn(Option<&Backup>) -> bool) {
        let reached = await_condition(self.backups.clone(), name, |found: Option<&Backup>| is(found));
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("{name} is not {what}: {:#?}", self.backups.get_opt(name).await.unwrap());
        }
    }

    async fn held(&self, name: &str, held: bool) {
        let is = |found: Option<&Backup>| {
            found.is_some_and(|it| it.finalizers().contains(&FINALIZER.to_owned()) == held)
        };
        self.until(name, if held { "held" } else { "not held" }, is).await;
    }

    async fn gone(&self, name: &str) {
        self.until(name, "gone", |found| found.is_none()).await;
    }

    /// Until its deletion says `reason`.
    async fn says(&self, name: &str, reason: &str) {
        let is = |found: Option<&Backup>| {
            let conditions = found.and_then(|it| it.status.as_ref()).map_or(&[][..], |it| &it.conditions);
            conditions.iter().any(|it| it.type_ == "Deleting" && it.reason == reason)
        };
        self.until(name, reason, is).await;
    }

    /// The one Job of `process` of the object with this UID, once there is one.
    async fn job(&self, uid: &str, process: &str) -> Job {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &self.name);
        let labelled = ListParams::default().labels(&format!("vouchsafe.dev/uid={uid}"));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let listed = jobs.list(&labelled).await.unwrap().items;
            let of = |job: &Job| job.annotations()["vouchsafe.dev/process"].starts_with(process);
            let mut own = listed.into_iter().filter(of);
            if let Some(job) = own.next() {
                assert!(own.next().is_none(), "more than one {process} of {uid}");
                return job;
            }
            assert!(tokio::time::Instant::now() < deadline, "no {process} of {uid}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The pod of `job` has run, and left `word`.
    async fn ends(&self, job: &Job, word: &Value) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.name);
        let metadata = job.spec.as_ref().unwrap().template.metadata.clone().unwrap();
        let name = format!("{}-pod", job.name_any());
        let pod = json!({
            "metadata": {"name": name, "labels": metadata.labels, "annotations": metadata.annotations,
                         "ownerReferences": [job.controller_owner_ref(&())]},
            "spec": {"nodeName": "gone", "automountServiceAccountToken": false,
                     "containers": [{"name": "vouchsafe", "image": "i"}]},
        });
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let ended = json!({"exitCode": 0, "message": word.to_string(), "finishedAt": jiff::Timestamp::now().to_string()});
        let status = json!({"status": {"phase": "Succeeded", "containerStatuses": [{"name": "vouchsafe", "image": "i",
            "imageID": "i", "ready": false, "restartCount": 0, "state": {"terminated": ended}}]}});
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    /// A BackupStore whose one destination is probed and found good.
    async fn store(&self) {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
            Api::namespaced(self.client.clone(), &self.name);
        // A namespace's account is made by a controller that isn't there.
        accounts.create(&PostParams::default(), &serde_json::from_value(account).unwrap()).await.unwrap();
        let stores: Api<BackupStore> = Api::namespaced(self.client.clone(), &self.name);
        let object = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupStore", "metadata": {"name": "orders"},
            "spec": {"destinations": [{"name": "eu", "default": true, "s3": {"bucket": "orders", "region": "eu-west-1"},
                "credentialsSecret": {"name": "writer"}, "deleteCredentialsSecret": {"name": "deleter"}}]},
        });
        let store =
            stores.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        let prober = self.job(&store.uid().unwrap(), "prober").await;
        let found = json!({"said": "probed", "capabilities": {"conditionalCreate": true}, "note": ""});
        self.ends(&prober, &found).await;
    }
}

#[test]
fn data_goes_with_a_backup_that_says_so() {
    Runtime::new().unwrap().block_on(scenario());
}

async fn scenario() {
    let space = Space::new("deleting").await;
    let controller = Controller::start(&space.client, &space.name);

    // The finalizer follows the policy, on what was not begun as on what is over.
    space.backup("kept", "Retain").await;
    space.backup("never", "Delete").await;
    space.held("never", true).await;
    space.policy("kept", "Delete").await;
    space.held("kept", true).await;
    space.policy("kept", "Retain").await;
    space.held("kept", false).await;
    space.delete("kept").await;
    space.gone("kept").await;
    // Without any run there is nothing to delete, store or not.
    space.delete("never").await;
    space.gone("never").await;

    // Something may be stored, and there is no way to it: it waits, says so, and Retain lets it go.
    let stuck = space.backup("stuck", "Delete").await;
    space.has_begun(&stuck).await;
    space.held("stuck", true).await;
    space.delete("stuck").await;
    space.says("stuck", "StoreNotFound").await;
    space.policy("stuck", "Retain").await;
    space.gone("stuck").await;

    // A Job deletes, with the credentials that may and no others; another controller finds it, and lets go on its word.
    space.store().await;
    let done = space.backup("done", "Delete").await;
    space.has_begun(&done).await;
    space.held("done", true).await;
    space.delete("done").await;
    let uid = done.uid().unwrap();
    let job = space.job(&uid, "deleter").await;
    space.says("done", "DeletingData").await;
    let pod = json!(job.spec.as_ref().unwrap().template.spec);
    let arguments = pod["containers"][0]["args"].to_string();
    assert!(
        arguments.starts_with("[\"deleter\"") && arguments.ends_with("\"--backup\",\"done\"]"),
        "{arguments}"
    );
    let volumes = pod["volumes"].to_string();
    assert!(
        volumes.contains("\"deleter\"") && !volumes.contains("writer") && !volumes.contains("\"pg\""),
        "{volumes}"
    );
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(job.owner_references()[0].block_owner_deletion, Some(false));
    controller.stop().await;
    let controller = Controller::start(&space.client, &space.name);
    let other = space.backup("other", "Delete").await;
    space.held("other", true).await;
    assert_eq!(space.job(&uid, "deleter").await.uid(), job.uid(), "it is not made again");
    let word = json!({"said": "pruned", "run": 2, "retired": 1, "deletedObjects": 7, "deletedBytes": 700,
                      "refusedObjects": 0, "waiting": 0, "failure": null});
    space.ends(&job, &word).await;
    space.gone("done").await;
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(space.client.clone(), &space.name);
    let told = events.list(&ListParams::default()).await.unwrap().items;
    let told: Vec<String> = (told.iter())
        .filter(|it| it.regarding.as_ref().is_some_and(|of| of.uid.as_deref() == Some(&uid)))
        .filter_map(|it| it.reason.clone())
        .collect();
    assert!(told.iter().any(|it| it == "DeletingData"), "{told:?}");

    // A namespace on its way out takes no Job: what has begun is let go, and its data stays.
    space.has_begun(&other).await;
    let namespaces: Api<Namespace> = Api::all(space.client.clone());
    namespaces.delete(&space.name, &DeleteParams::default()).await.unwrap();
    space.delete("other").await;
    space.gone("other").await;
    controller.stop().await;
}
