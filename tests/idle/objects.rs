//! Stores, schedules and finished Backups as a cluster has them that works for a while: specs, statuses and their
//! managers as the controller leaves them.

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use vouchsafe::api::{Backup, BackupSchedule, BackupStore};

use crate::cluster::NAMESPACE;

/// Requests of the administrator at once.
const AT_ONCE: usize = 24;

const SHA256: &str = "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9";

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) stores: usize,
    pub(crate) schedules: usize,
    pub(crate) backups: usize,
}

pub(crate) fn store_name(number: usize) -> String {
    format!("store-{number:02}")
}

pub(crate) fn schedule_name(number: usize) -> String {
    format!("orders-{number:05}")
}

fn condition(type_: &str, status: bool, reason: &str, at: &str) -> Value {
    let status = if status { "True" } else { "False" };
    json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": at,
           "observedGeneration": 1})
}

fn store(number: usize) -> Value {
    let destination = |name: &str, locality: &str, default: bool| {
        json!({"name": name, "default": default, "locality": format!("region={locality}"),
               "s3": {"bucket": format!("orders-{number}-{name}"), "prefix": "pg", "region": "eu-west-1"},
               "credentialsSecret": {"name": format!("orders-{name}")},
               "deleteCredentialsSecret": {"name": format!("orders-{name}-prune")}})
    };
    json!({"apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupStore", "metadata": {"name": store_name(number)},
           "spec": {"maxConcurrentRuns": 8,
                    "destinations": [destination("eu", "eu-west1", true), destination("us", "us-east1", false)]}})
}

/// What a store says after its first probes, at `at`.
fn store_status(number: usize, at: &str) -> Value {
    let destination = |name: &str| {
        json!({"name": name, "url": format!("s3://orders-{number}-{name}/pg"), "lastProbeTime": at,
               "conditions": [condition("Ready", true, "Probed", at)]})
    };
    let process = |name: &str| {
        json!({"name": format!("prober-{name}"), "job": format!("store-{number}-prober-{name}"),
               "order": format!("1 {at}"), "attempt": 1, "state": "Done", "node": "node-1"})
    };
    json!({"observedGeneration": 1, "readyDestinations": "2/2",
           "conditions": [condition("Ready", true, "Probed", at)],
           "destinations": [destination("eu"), destination("us")],
           "processes": [process("eu"), process("us")]})
}

fn backup_spec(number: usize, stores: usize) -> Value {
    let endpoint = |name: &str, locality: &str| {
        json!({"name": name, "locality": format!("region={locality}"), "host": format!("pg-{name}.shop.svc"),
               "credentialsSecret": {"name": format!("pg-{name}")}})
    };
    json!({"storeRef": {"name": store_name(number % stores)}, "collection": format!("shop-{number}"),
           "executionLocality": "region=eu-west1", "deadline": "6h",
           "source": {"postgres": {"database": "shop",
                      "endpoints": [endpoint("eu", "eu-west1"), endpoint("us", "us-east1")]}}})
}

/// One that is due once a day, half a day from now, unless `extra` says otherwise.
pub(crate) fn schedule(number: usize, stores: usize, extra: &Value) -> Value {
    let hour = (Timestamp::now() + SignedDuration::from_hours(12)).strftime("%H");
    let mut spec = json!({
        "schedule": format!("{} {hour} * * *", number % 60), "fullSchedule": "Always", "jitter": "0s",
        "recoveryPointObjective": "48h", "retention": {"keepDaily": 30, "keepMonthly": 12, "minimum": 3},
        "template": {"metadata": {"labels": {"team": "shop"}}, "spec": backup_spec(number, stores)},
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "vouchsafe.dev/v1alpha1", "kind": "BackupSchedule",
           "metadata": {"name": schedule_name(number)}, "spec": spec})
}

/// The Backup of a schedule from `age` days ago.
fn backup(number: usize, uid: &str, stores: usize, age: usize) -> (String, Value) {
    let schedule = schedule_name(number);
    let tick = day(age);
    let name = format!("{schedule}-{}", tick.strftime("%Y%m%d-%H%M"));
    let mut spec = backup_spec(number, stores);
    spec["type"] = "Full".into();
    let object = json!({
        "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "labels": {"vouchsafe.dev/schedule": schedule, "team": "shop"}, "annotations": {
            "vouchsafe.dev/schedule-name": schedule, "vouchsafe.dev/schedule-uid": uid,
            "vouchsafe.dev/scheduled-at": tick.to_string(), "vouchsafe.dev/tick": tick.to_string(),
            "vouchsafe.dev/begun-as": "0f5c2d2e-5b0f-4b57-9a53-4e0a0c1f6a11"}},
        "spec": spec});
    (name, object)
}

fn day(age: usize) -> Timestamp {
    let hours = i64::try_from(age * 24).unwrap();
    Timestamp::from_second(Timestamp::now().as_second()).unwrap() - SignedDuration::from_hours(hours)
}

/// What a Backup of `age` days ago says, of a run over two destinations that was proven.
fn proven(number: usize, age: usize) -> Value {
    let (tick, sealed) = (day(age).to_string(), (day(age) + SignedDuration::from_mins(12)).to_string());
    let run = i64::try_from(100 - age).unwrap();
    let (plan, nonce) =
        ("7c1f0c3a9be1457d8f6e0a1b2c3d4e5f", "b1946ac92492d2347c6235b4d2611184b1946ac92492d234");
    let process = |name: &str, order: &str| {
        json!({"name": name, "job": format!("{}-{}-3f1b2c4d5e", schedule_name(number), name), "order": order,
               "attempt": 1, "state": "Done", "node": "gke-pool-1-4f0a9b7c-x1v2"})
    };
    let each = |of: &dyn Fn(&str, &str) -> Value| [of("eu", "eu-west1"), of("us", "us-east1")];
    let mut processes = vec![process("coordinator", "run")];
    for name in ["eu", "us"] {
        processes.push(process(&format!("worker-{name}"), plan));
        processes.push(process(&format!("verifier-{name}"), &format!("{plan} {nonce}")));
    }
    let conditions: Vec<Value> =
        ["Uploaded", "ManifestVerified", "FilesVerified", "Complete", "Failed", "Reconciling", "Stalled"]
            .into_iter()
            .enumerate()
            .map(|(place, type_)| condition(type_, place < 4, "Succeeded", &sealed))
            .collect();
    json!({
        "observedGeneration": 1, "phase": "Succeeded", "conditions": conditions, "processes": processes,
        "run": {"number": run, "plan": plan, "nonce": nonce, "attempt": 1, "step": "Sealing", "manifestSha256": SHA256,
            "image": "example.com/vouchsafe:0",
            "orders": each(&|name, _| json!({"destination": name, "tickets": 24, "ticketsSha256": SHA256,
                                             "partSha256": SHA256}))},
        "layer": {"type": "Full", "chain": run}, "to": {"time": tick},
        "resolved": {"image": "example.com/vouchsafe:0",
            "destinations": each(&|name, region| json!({"name": name, "locality": format!("region={region}"),
                "url": format!("s3://orders-{name}/pg/shop-{number}")})),
            "endpoints": each(&|name, region| json!({"name": name, "locality": format!("region={region}"),
                "host": format!("pg-{name}.shop.svc"), "serverVersion": "17.5 (Debian 17.5-1.pgdg120+1)"}))},
        "progress": {"ticketsPlanned": 48, "ticketsSettled": 48, "bytesRead": 9_812_345_678_i64,
            "bytesStored": 2_312_345_678_i64, "rows": 48_123_456, "percent": 100},
        "localities": each(&|name, region| json!({"locality": format!("region={region}"), "destination": name,
            "node": "gke-pool-1-4f0a9b7c-x1v2", "ticketsPlanned": 24, "ticketsSettled": 24,
            "bytesStored": 1_112_345_678, "verified": true})),
        "proof": {"manifestSha256": SHA256, "objectsRead": 61, "bytesRead": 2_312_345_678_i64,
            "rowsCounted": 48_123_456, "sealedAt": sealed,
            "witnesses": each(&|name, _| json!({"destination": name, "nonce": nonce, "verdictSha256": SHA256,
                "pod": format!("{}-verifier-3f1b2c4d5e-x7k2p", schedule_name(number))}))},
        "errors": {"met": 2, "retried": 2, "byReason": {"Unavailable": 2}},
    })
}

/// Puts `status` where the controller puts it, under its name. By a merge: of an apply, which the controller sends, the
/// API server has twice the work.
async fn say<K>(api: &Api<K>, name: &str, status: &Value)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let by_controller = PatchParams::apply("vouchsafe-controller");
    api.patch_status(name, &by_controller, &Patch::Merge(&json!({"status": status}))).await.unwrap();
}

/// Makes the stores, which were probed just now, the schedules, the last of them suspended, and as many proven Backups
/// of each as there are of all, one for each day.
pub(crate) async fn fill(client: &Client, size: Size) {
    let by_us = PostParams { field_manager: Some("vouchsafe".into()), ..PostParams::default() };
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap().to_string();
    let stores: Api<BackupStore> = Api::namespaced(client.clone(), NAMESPACE);
    for number in 0..size.stores {
        stores.create(&by_us, &serde_json::from_value(store(number)).unwrap()).await.unwrap();
        say(&stores, &store_name(number), &store_status(number, &now)).await;
    }
    let schedules: Api<BackupSchedule> = Api::namespaced(client.clone(), NAMESPACE);
    let backups: Api<Backup> = Api::namespaced(client.clone(), NAMESPACE);
    let each = size.backups / size.schedules;
    let (schedules, backups, by_us) = (&schedules, &backups, &by_us);
    let made = futures::stream::iter(0..size.schedules).for_each_concurrent(AT_ONCE, |number| async move {
        let suspend = number + 1 == size.schedules;
        let object = schedule(number, size.stores, &json!({"suspend": suspend}));
        let schedule = schedules.create(by_us, &serde_json::from_value(object).unwrap()).await.unwrap();
        let uid = schedule.metadata.uid.unwrap();
        for age in 1..=each {
            let (name, object) = backup(number, &uid, size.stores, age);
            backups.create(by_us, &serde_json::from_value(object).unwrap()).await.unwrap();
            say(backups, &name, &proven(number, age)).await;
        }
    });
    made.await;
}
