//! What came of a Backup.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::condition::{Condition, Failure};
use super::run_status::{LocalityStatus, ProcessStatus, Progress, RunStatus};

/// What came of a Backup. A terminal phase is final, and phases only go forward.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "!has(oldSelf.phase) || !(oldSelf.phase in ['Succeeded', 'Failed', 'Canceled']) \
         || (has(self.phase) && self.phase == oldSelf.phase)"
    ).message("a terminal phase is final"),
    validation = Rule::new(
        // A map, since the API server reckons a list's indexOf as dearer than all else together, and refuses it.
        "!has(oldSelf.phase) || (has(self.phase) && \
         {'Pending': 0, 'Resolving': 1, 'Exporting': 2, 'WritingMetadata': 3, \
         'Verifying': 4, 'Succeeded': 5, 'Failed': 6, 'Canceled': 7}[self.phase] >= \
         {'Pending': 0, 'Resolving': 1, 'Exporting': 2, 'WritingMetadata': 3, \
         'Verifying': 4, 'Succeeded': 5, 'Failed': 6, 'Canceled': 7}[oldSelf.phase])"
    ).message("a phase never goes back"),
    validation = Rule::new(
        "!has(self.phase) || self.phase != 'Succeeded' || (has(self.proof) && has(self.proof.sealedAt) \
         && has(self.proof.manifestSha256) && has(self.proof.witnesses) && size(self.proof.witnesses) > 0)"
    ).message("Succeeded needs a proof: a manifest, its seal, and witnesses"),
    validation = Rule::new(
        "!has(oldSelf.phase) || oldSelf.phase != 'Succeeded' || !has(oldSelf.proof) \
         || (has(self.proof) && has(self.proof.manifestSha256) && has(oldSelf.proof.manifestSha256) \
         && self.proof.manifestSha256 == oldSelf.proof.manifestSha256)"
    ).message("the proof of a succeeded backup is final"),
)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// The generation that this status is about; -1 before any was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The furthest that the run has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<BackupPhase>,
    /// Queued, Suspended, Uploaded, ManifestVerified, FilesVerified, RestoreTested, Complete, Failed,
    /// Reconciling, Stalled, Deleting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// The attempt that is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunStatus>,
    /// What kind of layer, and on which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerStatus>,
    /// Where the layer's changes begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<WalPosition>,
    /// What it can be restored to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<WalPosition>,
    /// What the references meant when the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Each locality's share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["locality"])
    )]
    pub localities: Vec<LocalityStatus>,
    /// Its pods, as the controller sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 66),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub processes: Vec<ProcessStatus>,
    /// Why it may say Succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The errors on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorCounts>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// The furthest that a backup has come.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackupPhase {
    /// No coordinator yet.
    Pending,
    /// Probing, claiming, planning.
    Resolving,
    /// Reading and uploading.
    Exporting,
    /// Balancing the ledger, writing parts and manifest.
    WritingMetadata,
    /// Reading everything back.
    Verifying,
    /// Sealed.
    Succeeded,
    /// Void, and failure says why.
    Failed,
    /// Void, because the user said so.
    Canceled,
}

/// What kind of layer, and on which.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LayerStatus {
    /// Full or Incremental.
    #[serde(rename = "type")]
    #[schemars(length(max = 32))]
    pub type_: String,
    /// The run that begins the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub chain: Option<i64>,
    /// The run that it builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub parent: Option<i64>,
}

/// A position in the WAL, and its time.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WalPosition {
    /// The position; a full layer has none, and a time only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::lsn")]
    pub lsn: Option<String>,
    /// The source's time there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time")]
    pub time: Option<String>,
}

/// What the references meant when the run began.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The destinations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub destinations: Vec<ResolvedDestination>,
    /// The endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub endpoints: Vec<ResolvedEndpoint>,
    /// The image of all its pods: a run is carried out by one release, also when another is installed meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::image")]
    pub image: Option<String>,
}

/// A destination as it was when the run began.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedDestination {
    /// Its name.
    #[schemars(schema_with = "bounds::item")]
    pub name: String,
    /// Where it is, without credentials.
    #[schemars(length(max = 1024))]
    pub url: String,
    /// Its locality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::locality")]
    pub locality: Option<String>,
}

/// An endpoint as it was when the run began.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedEndpoint {
    /// Its name.
    #[schemars(schema_with = "bounds::item")]
    pub name: String,
    /// Its host; absent where its Secret says it, which the controller does not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::host")]
    pub host: Option<String>,
    /// Its locality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::locality")]
    pub locality: Option<String>,
    /// The server's version as it names itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub server_version: Option<String>,
}

/// Why a backup may say Succeeded.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The digest of the manifest as stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::sha256")]
    pub manifest_sha256: Option<String>,
    /// Objects that the verifiers read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub objects_read: Option<i64>,
    /// Bytes that they read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub bytes_read: Option<i64>,
    /// Rows that they counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub rows_counted: Option<i64>,
    /// When the outcome was created; absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time")]
    pub sealed_at: Option<String>,
    /// What each verifier's pod left in its termination message: recorded before the seal, which waits for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["destination"])
    )]
    pub witnesses: Vec<Witness>,
}

/// What a verifier's pod left in its termination message.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Witness {
    /// The destination that it read.
    #[schemars(schema_with = "bounds::item")]
    pub destination: String,
    /// The pod.
    #[schemars(schema_with = "bounds::name")]
    pub pod: String,
    /// What it was asked with.
    #[schemars(length(max = 128))]
    pub nonce: String,
    /// The digest of its verdict.
    #[schemars(schema_with = "bounds::sha256")]
    pub verdict_sha256: String,
}

/// The errors on the way.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ErrorCounts {
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub met: Option<i64>,
    /// How many of them were tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub retried: Option<i64>,
    /// How many for each reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::counters")]
    pub by_reason: Option<BTreeMap<String, i64>>,
}
