//! The objects that a run is made of, whatever resource it is of: what its pods are given, who they are, and the
//! Jobs. Pure.

mod identity;
mod job;
mod needs;

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::MANAGED_BY;
use super::process::Process;
use crate::format::Sha256Digest;

pub(super) use identity::{account, identity, own_account};
pub(super) use job::{JobOf, job};
pub(super) use needs::{Needs, tiers};

/// The label with the UID of the resource that an object is of.
pub const UID: &str = "vouchsafe.dev/uid";
/// The annotation with the kind of the resource that an object is of.
pub const KIND: &str = "vouchsafe.dev/kind";
/// The annotation with the name of the resource that an object is of: names are longer than labels may be.
pub const NAME: &str = "vouchsafe.dev/name";
/// The annotation with the process that a Job, or a pod, is.
pub const PROCESS: &str = "vouchsafe.dev/process";
/// The annotation with what a Job is for.
pub const ORDER: &str = "vouchsafe.dev/order";
/// The annotation with a Job's attempt.
pub const ATTEMPT: &str = "vouchsafe.dev/attempt";
/// The annotation with what a pod is given, if not by a ConfigMap.
pub const GIVEN: &str = "vouchsafe.dev/objects";
/// The key of the resources in the ConfigMap of a run.
pub const OBJECTS_KEY: &str = "objects.yaml";

/// Where pods find what they are given.
const OBJECTS: &str = "/etc/vouchsafe/objects";
const SECRETS: &str = "/etc/vouchsafe/secrets";
const CONFIG_MAPS: &str = "/etc/vouchsafe/config-maps";
const CLAIMS: &str = "/var/lib/vouchsafe/claims";

/// The resource that the objects of a run are of, and that controls them.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    /// Its kind: `Backup`.
    pub(super) kind: String,
    /// Its kind as the API's paths and Roles have it: `backups`.
    pub(super) plural: String,
    /// Its name.
    pub(super) name: String,
    /// Its namespace.
    pub(super) namespace: String,
    /// Its UID.
    pub(super) uid: String,
    reference: Option<OwnerReference>,
}

impl Owner {
    /// `object`, as the API server has it.
    pub(super) fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        Self {
            kind: K::kind(&()).into_owned(),
            plural: K::plural(&()).into_owned(),
            name: object.name_any(),
            namespace: object.namespace().unwrap_or_default(),
            uid: object.uid().unwrap_or_default(),
            reference: object.controller_owner_ref(&()),
        }
    }

    /// The same, whose objects keep nobody from deleting it: in a deletion that waits for what blocks it
    /// (`--cascade=foreground`), the collector would take them away as they are made.
    pub(super) fn not_blocking(mut self) -> Self {
        if let Some(reference) = &mut self.reference {
            reference.block_owner_deletion = Some(false);
        }
        self
    }

    /// The name of what a run has once: its ConfigMap, ServiceAccount, Role and RoleBinding.
    pub(super) fn objects_name(&self) -> String {
        objects_name(&self.uid)
    }

    /// Metadata of an object of a run, with the label of its UID and the annotations that name its resource.
    fn metadata(&self, name: &str, annotations: BTreeMap<String, String>) -> Value {
        json!({
            "name": name,
            "namespace": self.namespace,
            "labels": self.labels(None),
            "annotations": self.annotations(annotations),
            "ownerReferences": [self.reference],
        })
    }

    fn labels(&self, process: Option<&Process>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            ("app.kubernetes.io/name".to_owned(), "vouchsafe".to_owned()),
            (MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned()),
            (UID.to_owned(), self.uid.clone()),
        ]);
        if let Some(process) = process {
            labels.insert("app.kubernetes.io/component".to_owned(), process.role().to_owned());
        }
        labels
    }

    fn annotations(&self, mut others: BTreeMap<String, String>) -> BTreeMap<String, String> {
        others.insert(KIND.to_owned(), self.kind.clone());
        others.insert(NAME.to_owned(), self.name.clone());
        others
    }
}

/// The name of what a run has once, by the UID of its resource.
pub(super) fn objects_name(uid: &str) -> String {
    format!("vouchsafe-{}", &Sha256Digest::of(uid.as_bytes()).to_string()[..16])
}

/// What is to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Built {
    pub(super) config_map: Option<ConfigMap>,
    pub(super) service_account: Option<ServiceAccount>,
    pub(super) role: Option<Role>,
    pub(super) role_binding: Option<RoleBinding>,
    pub(super) jobs: Vec<Job>,
}

/// The options by which every process of a run finds what is mounted.
pub(super) fn mounted() -> Vec<String> {
    let objects = format!("{OBJECTS}/{OBJECTS_KEY}");
    ["--objects", &objects, "--secrets", SECRETS, "--config-maps", CONFIG_MAPS].map(str::to_owned).into()
}

/// The metadata that pods are told of a resource: what says which one it is.
pub(super) fn told(metadata: &kube::core::ObjectMeta) -> Value {
    json!({"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid})
}

/// A literal as the type that it is written for.
fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a literal of this module, with the fields of that type")
}
