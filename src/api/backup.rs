//! Backup: one layer. What is asked for; `backup_status` has what came of it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backup_status::BackupStatus;
use super::bounds;
use super::pod_template::PodTemplate;
use super::reference::ObjectRef;
use super::source::Source;

/// One backup: one layer of a collection.
///
/// Immutability is no rule of this type, because a schedule's template shares it; `definition` puts it
/// on the root of the kind. Absent: Auto. Absent: Retain.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "vouchsafe.dev",
    version = "v1alpha1",
    kind = "Backup",
    plural = "backups",
    namespaced,
    status = "BackupStatus",
    derive = "PartialEq",
    shortname = "vbk",
    category = "vouchsafe",
    doc = "One backup of a PostgreSQL database. It says Succeeded only after every stored byte was read back.",
    printcolumn(name = "Type", type_ = "string", json_path = ".status.layer.type"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Progress", type_ = "integer", json_path = ".status.progress.percent"),
    printcolumn(name = "Rows", type_ = "integer", json_path = ".status.progress.rows"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.progress.bytesStored"),
    printcolumn(name = "Proved", type_ = "date", json_path = ".status.proof.sealedAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Store", type_ = "string", json_path = ".spec.storeRef.name", priority = 1),
    printcolumn(name = "Chain", type_ = "integer", json_path = ".status.layer.chain", priority = 1),
    printcolumn(name = "Recoverable-To", type_ = "string", json_path = ".status.to.time", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.failure.reason", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct BackupSpec {
    /// The BackupStore.
    pub store_ref: ObjectRef,
    /// What every key begins with after each destination's own prefix. Absent: nothing. Required in a
    /// schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::collection")]
    pub collection: Option<String>,
    /// Which kind of layer. Absent: Auto.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<LayerType>,
    /// Whether every commit can be restored, not only the layer's end. Absent: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_history: Option<bool>,
    /// What is backed up.
    pub source: Source,
    /// Where the coordinator may run. Absent: anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::locality")]
    pub execution_locality: Option<String>,
    /// Connections per locality. Absent: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub parallelism: Option<u32>,
    /// Bytes per second per locality. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::positive_size")]
    pub rate_limit: Option<String>,
    /// The run's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// How long it may take. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::positive_duration")]
    pub deadline: Option<String>,
    /// The owner from which the collection is taken over, as the refusal names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub take_over: Option<String>,
    /// Whether its pods go for now. Absent: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Whether it ends now. Absent: false; can't be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// What deleting the resource does to the data. Absent: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Which kind of layer a backup makes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerType {
    /// Incremental where it is possible, else full.
    #[default]
    Auto,
    /// A new chain.
    Full,
    /// A layer on the chain's last.
    Incremental,
}

/// What deleting a Backup does to its data.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// Nothing.
    #[default]
    Retain,
    /// What the bucket's own run document says belongs to the resource's UID is deleted.
    Delete,
}
