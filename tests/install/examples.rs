//! Resources with every field of the API among them. Some fields exclude one another, so there are several of a kind.

use serde_json::{Value, json};
use vouchsafe::api::Kind;

use crate::accepted::{BACKUP, RESTORE, SCHEDULE, STORE};
use crate::server::{NAMESPACE, object};

/// Every example of `kind`, each with a name of its own.
pub(crate) fn of(kind: Kind) -> Vec<Value> {
    let specs = match kind {
        Kind::BackupStore => vec![store()],
        Kind::Backup => backups(),
        Kind::BackupSchedule => schedules(),
        Kind::Restore => restores(),
    };
    let named = |(number, spec)| {
        json!({
            "apiVersion": "vouchsafe.dev/v1alpha1",
            "kind": kind.as_str(),
            "metadata": {"name": format!("example-{number}"), "namespace": NAMESPACE},
            "spec": spec,
        })
    };
    specs.into_iter().enumerate().map(named).collect()
}

fn spec(yaml: &str) -> Value {
    object(yaml)["spec"].clone()
}

/// `spec` with the fields of `with` instead of its own; null takes one away.
fn changed(mut spec: Value, with: Value) -> Value {
    for (field, value) in with.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    if let Value::Object(fields) = &mut spec {
        fields.retain(|_, value| !value.is_null());
    }
    spec
}

fn pods() -> Value {
    let mut pods = spec(BACKUP)["podTemplate"].clone();
    pods["tolerations"][0] = json!({
        "key": "dedicated", "operator": "Equal", "value": "backup", "effect": "NoExecute", "tolerationSeconds": 60,
    });
    pods
}

fn store() -> Value {
    let mut store = spec(STORE);
    let more = [
        json!({"name": "gcs", "locality": "region=g", "gcs": {"bucket": "orders-gcs", "prefix": "pg",
               "endpoint": "https://storage.europe-west1.rep.googleapis.com"}}),
        json!({"name": "azure", "locality": "region=a",
               "azure": {"account": "orders", "container": "backups", "prefix": "pg",
                         "endpoint": "https://orders.blob.core.usgovcloudapi.net",
                         "caSecret": {"name": "azure-ca", "key": "ca.crt"}}}),
        json!({"name": "claim", "locality": "region=c", "file": {"claim": "backups", "path": "pg"}}),
    ];
    store["destinations"].as_array_mut().expect("a list").extend(more);
    changed(
        store,
        json!({
            "encryption": {"recipients": ["age1qqqqqq"], "identitySecret": {"name": "orders-age"}},
            "objectLock": {"mode": "Governance", "retain": "30d"},
            "podTemplate": pods(),
        }),
    )
}

fn backups() -> Vec<Value> {
    let first = changed(spec(BACKUP), json!({"takeOver": "cluster/shop/orders", "podTemplate": pods()}));
    let mut second = first.clone();
    let postgres = &mut second["source"]["postgres"];
    postgres["endpoints"][0]["tls"] = json!({"ca": {"configMap": {"name": "bundle", "key": "rds.pem"}}});
    postgres["endpoints"][0]["auth"] = json!({"awsIam": {"username": "backup", "region": "eu-west-1"}});
    vec![first, second]
}

fn schedules() -> Vec<Value> {
    let with = |backup| {
        let mut schedule = spec(SCHEDULE);
        schedule["template"]["spec"] = backup;
        schedule["template"]["metadata"] = json!({"labels": {"team": "orders"}, "annotations": {"a/b": "c"}});
        let resources = json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}});
        let ephemeral = json!({
            "image": "postgres:18", "storage": "50Gi", "storageClassName": "fast", "resources": resources,
        });
        let tested = json!({
            "schedule": "0 6 * * 1", "backup": "Latest", "target": {"ephemeral": ephemeral},
            "assertions": [{"name": "orders", "sql": "select true", "expect": "t"}], "allowCrossLocality": false,
        });
        changed(schedule, json!({"restoreTest": tested}))
    };
    backups().into_iter().map(with).collect()
}

fn restores() -> Vec<Value> {
    let common = json!({
        "podTemplate": pods(), "executionLocality": "region=eu-west1", "suspend": false, "cancel": false,
        "pointInTime": {"time": "2026-11-20T10:00:00Z"}, "include": {"schemas": ["shop"], "tables": ["public.*"]},
        "roles": {"map": [{"from": "app", "to": "app2"}], "missing": "Create"},
    });
    let first = changed(spec(RESTORE), common);
    let mut second = changed(
        first.clone(),
        json!({
            "from": {"backup": "orders-1"}, "pointInTime": {"lsn": "16/B374D848"}, "createDatabase": false,
            "onExisting": "IntoEmptySchemas",
        }),
    );
    let server = &mut second["target"]["postgres"];
    server["tls"] = json!({"ca": {"secret": {"name": "pg-ca", "key": "ca.crt"}}});
    server["auth"] = json!({"awsIam": {"username": "restore", "region": "eu-west-1"}});
    server["credentialsSecret"] =
        json!({"name": "pg", "usernameKey": "u", "passwordKey": "p", "hostKey": "h"});
    let resources = json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}});
    let ephemeral = json!({"ephemeral": {
        "image": "postgres:18", "storage": "50Gi", "storageClassName": "fast", "resources": resources,
    }});
    let third = changed(first.clone(), json!({"from": {"schedule": "orders"}, "target": ephemeral}));
    vec![first, second, third]
}
