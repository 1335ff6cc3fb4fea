//! The objects of a run: what its pods are given, who they are, and the Jobs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::decide::{Given, Plan, Start};
use super::places;
use crate::api::{
    API_VERSION, Backup, BackupStore, CaRef, Place, PodTemplate, ValidatedDestination, ValidatedEndpoint,
};
use crate::controller::process::Process;
use crate::controller::{BACKUP, MANAGED_BY, Settings};
use crate::format::Sha256Digest;

/// The label with the UID of the resource that an object is of.
pub const UID: &str = "vouchsafe.dev/uid";
/// The annotation with the process that a Job is.
pub const PROCESS: &str = "vouchsafe.dev/process";
/// The annotation with what a Job is for.
pub(super) const ORDER: &str = "vouchsafe.dev/order";
/// The annotation with a Job's attempt.
pub const ATTEMPT: &str = "vouchsafe.dev/attempt";
/// The key of the resources in the ConfigMap of a run.
pub(super) const OBJECTS_KEY: &str = "objects.yaml";

/// Where pods find what they are given.
const OBJECTS: &str = "/etc/vouchsafe/objects";
const SECRETS: &str = "/etc/vouchsafe/secrets";
const CONFIG_MAPS: &str = "/etc/vouchsafe/config-maps";

/// How long a pod stays on a node that does not answer, in seconds: its replacement starts after it.
const UNREACHABLE_SECONDS: i64 = 30;

/// The user of the image.
const USER: i64 = 65_532;

/// What is to be made.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) config_map: Option<ConfigMap>,
    pub(super) service_account: Option<ServiceAccount>,
    pub(super) role: Option<Role>,
    pub(super) role_binding: Option<RoleBinding>,
    pub(super) jobs: Vec<Job>,
}

/// The name of what a run has once: its ConfigMap, ServiceAccount, Role and RoleBinding.
pub(super) fn objects_name(uid: &str) -> String {
    format!("vouchsafe-{}", &Sha256Digest::of(uid.as_bytes()).to_string()[..16])
}

/// The resources as pods read them. JSON is YAML, and quotes whatever must be quoted.
pub(super) fn objects(backup: &Backup, store: &BackupStore) -> String {
    let backup = json!({
        "apiVersion": API_VERSION, "kind": "Backup", "metadata": identity(&backup.metadata), "spec": backup.spec,
    });
    let store = json!({
        "apiVersion": API_VERSION, "kind": "BackupStore", "metadata": identity(&store.metadata), "spec": store.spec,
    });
    format!("{backup}\n---\n{store}\n")
}

fn identity(metadata: &kube::core::ObjectMeta) -> Value {
    json!({"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid})
}

/// Everything that `plan` starts, with what its pods need first.
pub(super) fn build(backup: &Backup, plan: &Plan, settings: &Settings) -> Built {
    let Some(given) = plan.given.as_ref().filter(|_| !plan.start.is_empty()) else { return Built::default() };
    let metadata = |name: &str| metadata(backup, name, &[]);
    let uid = backup.metadata.uid.as_deref().unwrap_or_default();
    let name = objects_name(uid);
    let template = given.backup.spec.pod_template.as_ref().map(|it| it.get().clone()).unwrap_or_default();
    let account = template.service_account_name.clone().unwrap_or_else(|| name.clone());
    let mut built = Built::default();
    if !given.frozen {
        let data = json!({OBJECTS_KEY: given.text});
        built.config_map =
            Some(object(json!({"metadata": metadata(&name), "immutable": true, "data": data})));
        if template.service_account_name.is_none() {
            let value = json!({"metadata": metadata(&name), "automountServiceAccountToken": false});
            built.service_account = Some(object(value));
        }
        let resource = backup.metadata.name.as_deref().unwrap_or_default();
        built.role = Some(object(json!({
            "metadata": metadata(&name),
            "rules": [
                {"apiGroups": ["vouchsafe.dev"], "resources": ["backups"], "resourceNames": [resource],
                 "verbs": ["get", "list", "watch"]},
                {"apiGroups": ["vouchsafe.dev"], "resources": ["backups/status"], "resourceNames": [resource],
                 "verbs": ["patch"]},
            ],
        })));
        built.role_binding = Some(object(json!({
            "metadata": metadata(&name),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": backup.metadata.namespace}],
        })));
    }
    built.jobs = plan
        .start
        .iter()
        .map(|start| job(backup, plan, given, start, &template, &account, settings))
        .collect();
    built
}

/// A literal as the type that it is written for.
fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a literal of this module, with the fields of that type")
}

fn metadata(backup: &Backup, name: &str, annotations: &[(&str, &str)]) -> Value {
    let uid = backup.metadata.uid.as_deref().unwrap_or_default();
    let mut all: BTreeMap<&str, &str> = annotations.iter().copied().collect();
    all.insert(BACKUP, backup.metadata.name.as_deref().unwrap_or_default());
    json!({
        "name": name,
        "namespace": backup.metadata.namespace,
        "labels": labels(uid, None),
        "annotations": all,
        "ownerReferences": [backup.controller_owner_ref(&())],
    })
}

fn labels(uid: &str, process: Option<&Process>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "vouchsafe".to_owned()),
        (MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned()),
        (UID.to_owned(), uid.to_owned()),
    ]);
    if let Some(process) = process {
        labels.insert("app.kubernetes.io/component".to_owned(), process.role().to_owned());
    }
    labels
}

#[allow(clippy::too_many_arguments, reason = "each is another part of one Job")]
fn job(
    backup: &Backup,
    plan: &Plan,
    given: &Given,
    start: &Start,
    template: &PodTemplate,
    account: &str,
    settings: &Settings,
) -> Job {
    let Start { process, order, attempt } = start;
    let uid = backup.metadata.uid.as_deref().unwrap_or_default();
    let resource = backup.metadata.name.as_deref().unwrap_or_default();
    let name = process.job_name(resource, uid, order, *attempt);
    let attempt = attempt.to_string();
    let text = process.to_string();
    let annotations = [(PROCESS, text.as_str()), (ORDER, order.as_str()), (ATTEMPT, attempt.as_str())];
    let needs = Needs::of(process, given);
    let mut pod_labels = template.labels.clone().unwrap_or_default();
    pod_labels.extend(labels(uid, Some(process)));
    let mut pod_annotations = template.annotations.clone().unwrap_or_default();
    pod_annotations.insert(BACKUP.to_owned(), resource.to_owned());
    let mut tolerations: Vec<Value> = template.tolerations.iter().map(|it| json!(it)).collect();
    for key in ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"] {
        tolerations.push(json!({
            "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": UNREACHABLE_SECONDS,
        }));
    }
    let (volumes, mounts) = volumes(&objects_name(uid), &needs);
    let mut container = json!({
        "name": "vouchsafe",
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments(backup, plan, given, process, &attempt),
        "env": [{"name": "VOUCHSAFE_LOG", "value": "info"}],
        "volumeMounts": mounts,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    });
    if let Some(resources) = &template.resources {
        container["resources"] = json!(resources);
    }
    let mut pod = json!({
        "restartPolicy": "Never",
        "serviceAccountName": account,
        "automountServiceAccountToken": *process == Process::Coordinator,
        "enableServiceLinks": false,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": tolerations,
        "volumes": volumes,
        "containers": [container],
        "imagePullSecrets": template.image_pull_secrets,
    });
    if let Some(class) = &template.priority_class_name {
        pod["priorityClassName"] = json!(class);
    }
    if !needs.tiers.is_empty() {
        pod["affinity"] = affinity(&needs.tiers, &given.store.locality_labels);
    }
    object(json!({
        "metadata": metadata(backup, &name, &annotations),
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"labels": pod_labels, "annotations": pod_annotations}, "spec": pod},
        },
    }))
}

/// Required node affinity on every tier.
fn affinity(tiers: &[(String, String)], labels: &BTreeMap<String, String>) -> Value {
    let expressions: Vec<Value> = (tiers.iter())
        .map(|(tier, value)| {
            // A tier without a label has one of its own name: validation has refused what can't be one.
            let label = labels.get(tier).cloned().unwrap_or_else(|| tier.clone());
            json!({"key": label, "operator": "In", "values": [value]})
        })
        .collect();
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}})
}

/// What a process touches.
struct Needs {
    endpoints: Vec<String>,
    /// Secrets, with the keys that are wanted; `None`: all.
    secrets: BTreeMap<String, Option<BTreeSet<String>>>,
    config_maps: BTreeMap<String, BTreeSet<String>>,
    tiers: Vec<(String, String)>,
}

impl Needs {
    fn of(process: &Process, given: &Given) -> Self {
        let (spec, store) = (&given.backup.spec, &given.store);
        let mut needs = Self {
            endpoints: Vec::new(),
            secrets: BTreeMap::new(),
            config_maps: BTreeMap::new(),
            tiers: Vec::new(),
        };
        let mut reached: Vec<&ValidatedDestination> = store.destinations.iter().collect();
        match process {
            Process::Coordinator => {
                needs.endpoints = spec.source.endpoints.iter().map(|it| it.name.clone()).collect();
                needs.tiers = places::tiers(spec.execution_locality.as_ref());
            }
            Process::Worker(destination) => {
                let place = places::of_worker(spec, store, destination);
                needs.endpoints = place.endpoints;
                needs.tiers = place.tiers;
                reached.retain(|it| it.name == *destination);
            }
            Process::Verifier(destination) => {
                reached.retain(|it| it.name == *destination);
                needs.tiers = places::tiers(reached.first().and_then(|it| it.locality.as_ref()));
            }
        }
        let names = needs.endpoints.clone();
        for endpoint in spec.source.endpoints.iter().filter(|it| names.contains(&it.name)) {
            needs.reach_server(endpoint);
        }
        for destination in reached {
            needs.reach_destination(destination);
        }
        needs
    }

    fn key(&mut self, secret: &str, key: &str) {
        if let Some(keys) = self.secrets.entry(secret.to_owned()).or_insert_with(|| Some(BTreeSet::new())) {
            keys.insert(key.to_owned());
        }
    }

    fn reach_server(&mut self, endpoint: &ValidatedEndpoint) {
        if let Some(reference) = &endpoint.server.credentials {
            for key in [&reference.username_key, &reference.password_key, &reference.host_key] {
                self.key(&reference.secret, key);
            }
        }
        match &endpoint.server.tls.ca {
            None => {}
            Some(CaRef::Secret(reference)) => self.key(&reference.name, &reference.key),
            Some(CaRef::ConfigMap(reference)) => {
                self.config_maps.entry(reference.name.clone()).or_default().insert(reference.key.clone());
            }
        }
    }

    fn reach_destination(&mut self, destination: &ValidatedDestination) {
        if let Some(secret) = &destination.credentials_secret {
            self.secrets.insert(secret.clone(), None);
        }
        if let Place::S3(place) = &destination.place
            && let Some(reference) = &place.ca
        {
            self.key(&reference.name, &reference.key);
        }
    }
}

fn volumes(config_map: &str, needs: &Needs) -> (Vec<Value>, Vec<Value>) {
    let mut volumes = vec![
        json!({"name": "objects", "configMap": {"name": config_map}}),
        json!({"name": "tmp", "emptyDir": {}}),
    ];
    let mut mounts = vec![
        json!({"name": "objects", "mountPath": OBJECTS, "readOnly": true}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    let items = |keys: &BTreeSet<String>| -> Vec<Value> {
        keys.iter().map(|key| json!({"key": key, "path": key})).collect()
    };
    for (number, (name, keys)) in needs.secrets.iter().enumerate() {
        // Optional: a missing one is told by the process that needs it, and does not hang its pod.
        let mut secret = json!({"secretName": name, "optional": true, "defaultMode": 0o440});
        if let Some(keys) = keys {
            secret["items"] = items(keys).into();
        }
        let volume = format!("secret-{number}");
        mounts.push(json!({"name": volume, "mountPath": format!("{SECRETS}/{name}"), "readOnly": true}));
        volumes.push(json!({"name": volume, "secret": secret}));
    }
    for (number, (name, keys)) in needs.config_maps.iter().enumerate() {
        let volume = format!("config-map-{number}");
        mounts.push(json!({"name": volume, "mountPath": format!("{CONFIG_MAPS}/{name}"), "readOnly": true}));
        let source = json!({"name": name, "optional": true, "items": items(keys)});
        volumes.push(json!({"name": volume, "configMap": source}));
    }
    (volumes, mounts)
}

fn arguments(backup: &Backup, plan: &Plan, given: &Given, process: &Process, attempt: &str) -> Vec<String> {
    let resource = backup.metadata.name.clone().unwrap_or_default();
    let run = backup.status.as_ref().and_then(|status| status.run.clone()).unwrap_or_default();
    let number = run.number.unwrap_or_default().to_string();
    let plan_id = run.plan.clone().unwrap_or_default();
    let objects = format!("{OBJECTS}/{OBJECTS_KEY}");
    let mut arguments: Vec<String> = vec![process.role().to_owned()];
    let mut set = |option: &str, value: &str| arguments.extend([option.to_owned(), value.to_owned()]);
    set("--objects", &objects);
    set("--secrets", SECRETS);
    set("--config-maps", CONFIG_MAPS);
    set("--backup", &resource);
    let order_of = |destination: &str| run.orders.iter().find(|it| it.destination == destination).cloned();
    match process {
        Process::Coordinator => {
            set("--attempt", attempt);
            if let Some(left) = plan.time_left {
                set("--time-left", &format!("{}s", left.as_secs().max(1)));
            }
        }
        Process::Worker(destination) => {
            let tickets = order_of(destination).map(|it| it.tickets_sha256).unwrap_or_default();
            set("--destination", destination);
            for endpoint in Needs::of(process, given).endpoints {
                set("--endpoint", &endpoint);
            }
            set("--run", &number);
            set("--plan", &plan_id);
            set("--tickets", &tickets);
        }
        Process::Verifier(destination) => {
            let part = order_of(destination).and_then(|it| it.part_sha256).unwrap_or_default();
            set("--destination", destination);
            set("--run", &number);
            set("--plan", &plan_id);
            set("--nonce", run.nonce.as_deref().unwrap_or_default());
            set("--manifest", run.manifest_sha256.as_deref().unwrap_or_default());
            set("--part", &part);
        }
    }
    arguments
}
