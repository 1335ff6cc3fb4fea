//! What a process touches: Secrets, ConfigMaps, claims, and the tiers of its node. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{CLAIMS, CONFIG_MAPS, GIVEN, OBJECTS, OBJECTS_KEY, SECRETS};
use crate::api::{AzurePlace, CaRef, FolderPlace, Place, S3Place, ValidatedDestination, ValidatedServer};
use crate::plan::locality::Locality;

/// What a process touches, and so what its pod mounts: nothing else.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Needs {
    /// Secrets, with the keys that are wanted; `None`: all.
    secrets: BTreeMap<String, Option<BTreeSet<String>>>,
    config_maps: BTreeMap<String, BTreeSet<String>>,
    claims: BTreeSet<String>,
    /// What the pod is given, if not by a ConfigMap.
    annotated: Option<String>,
    /// Tiers that its node must have, with their values; empty: any node.
    pub(in super::super) tiers: Vec<(String, String)>,
}

impl Needs {
    /// A process on a node with these tiers.
    pub(in super::super) fn on(tiers: Vec<(String, String)>) -> Self {
        Self { tiers, ..Self::default() }
    }

    fn key(&mut self, secret: &str, key: &str) {
        if let Some(keys) = self.secrets.entry(secret.to_owned()).or_insert_with(|| Some(BTreeSet::new())) {
            keys.insert(key.to_owned());
        }
    }

    /// It reads `text` from an annotation of its pod, and not from a ConfigMap. Annotations have 256 KiB together.
    pub(in super::super) fn annotated(&mut self, text: &str) {
        self.annotated = Some(text.to_owned());
    }

    /// The text of the annotation that it reads.
    pub(super) fn annotation(&self) -> Option<&str> {
        self.annotated.as_deref()
    }

    /// It connects to `server`.
    pub(in super::super) fn server(&mut self, server: &ValidatedServer) {
        if let Some(reference) = &server.credentials {
            for key in [&reference.username_key, &reference.password_key, &reference.host_key] {
                self.key(&reference.secret, key);
            }
        }
        match &server.tls.ca {
            None => {}
            Some(CaRef::Secret(reference)) => self.key(&reference.name, &reference.key),
            Some(CaRef::ConfigMap(reference)) => {
                self.config_maps.entry(reference.name.clone()).or_default().insert(reference.key.clone());
            }
        }
    }

    /// It reads or writes `destination`.
    pub(in super::super) fn destination(&mut self, destination: &ValidatedDestination) {
        self.place(destination, destination.credentials_secret.as_deref());
    }

    /// It deletes from `destination`.
    pub(in super::super) fn destination_to_prune(&mut self, destination: &ValidatedDestination) {
        self.place(destination, destination.delete_credentials_secret.as_deref());
    }

    fn place(&mut self, destination: &ValidatedDestination, credentials: Option<&str>) {
        if let Some(secret) = credentials {
            self.secrets.insert(secret.to_owned(), None);
        }
        match &destination.place {
            Place::S3(S3Place { ca, .. }) | Place::Azure(AzurePlace { ca, .. }) => {
                if let Some(reference) = ca {
                    self.key(&reference.name, &reference.key);
                }
            }
            Place::Folder(FolderPlace::Claim { claim, path: _ }) => {
                self.claims.insert(claim.clone());
            }
            Place::Gcs(_) | Place::Folder(FolderPlace::Here(_)) => {}
        }
    }

    /// Volumes of a pod, and the container's mounts.
    pub(super) fn volumes(&self, config_map: &str) -> (Vec<Value>, Vec<Value>) {
        let objects = match self.annotated {
            None => json!({"name": "objects", "configMap": {"name": config_map}}),
            Some(_) => {
                let field = json!({"fieldPath": format!("metadata.annotations['{GIVEN}']")});
                json!({"name": "objects", "downwardAPI": {"items": [{"path": OBJECTS_KEY, "fieldRef": field}]}})
            }
        };
        let mut volumes = vec![objects, json!({"name": "tmp", "emptyDir": {}})];
        let mut mounts = vec![
            json!({"name": "objects", "mountPath": OBJECTS, "readOnly": true}),
            json!({"name": "tmp", "mountPath": "/tmp"}),
        ];
        let items = |keys: &BTreeSet<String>| -> Vec<Value> {
            keys.iter().map(|key| json!({"key": key, "path": key})).collect()
        };
        for (number, (name, keys)) in self.secrets.iter().enumerate() {
            // Optional: a missing one is told by the process that needs it, and does not hang its pod.
            let mut secret = json!({"secretName": name, "optional": true, "defaultMode": 0o440});
            if let Some(keys) = keys {
                secret["items"] = items(keys).into();
            }
            let volume = format!("secret-{number}");
            mounts.push(json!({"name": volume, "mountPath": format!("{SECRETS}/{name}"), "readOnly": true}));
            volumes.push(json!({"name": volume, "secret": secret}));
        }
        for (number, (name, keys)) in self.config_maps.iter().enumerate() {
            let volume = format!("config-map-{number}");
            mounts.push(
                json!({"name": volume, "mountPath": format!("{CONFIG_MAPS}/{name}"), "readOnly": true}),
            );
            let source = json!({"name": name, "optional": true, "items": items(keys)});
            volumes.push(json!({"name": volume, "configMap": source}));
        }
        for (number, name) in self.claims.iter().enumerate() {
            let volume = format!("claim-{number}");
            mounts.push(json!({"name": volume, "mountPath": format!("{CLAIMS}/{name}")}));
            volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": name}}));
        }
        (volumes, mounts)
    }
}

/// Tiers of a locality; of none, none.
#[must_use]
pub(in super::super) fn tiers(locality: Option<&Locality>) -> Vec<(String, String)> {
    let tiers = locality.into_iter().flat_map(Locality::tiers);
    tiers.map(|(tier, value)| (tier.to_owned(), value.to_owned())).collect()
}

/// Required node affinity on every tier, by the label that `labels` says a tier has.
pub(super) fn affinity(tiers: &[(String, String)], labels: &BTreeMap<String, String>) -> Value {
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
