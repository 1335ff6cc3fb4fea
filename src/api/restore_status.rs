//! What came of a Restore.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::condition::{Condition, Failure};
use super::run_status::{LocalityStatus, ProcessStatus, Progress, RunStatus};

/// What came of a Restore. A terminal phase is final, and phases only go forward.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "!has(oldSelf.phase) || !(oldSelf.phase in ['Succeeded', 'Failed', 'Canceled']) \
         || (has(self.phase) && self.phase == oldSelf.phase)"
    ).message("a terminal phase is final"),
    validation = Rule::new(
        "!has(oldSelf.phase) || (has(self.phase) && \
         {'Pending': 0, 'Resolving': 1, 'PreData': 2, 'Data': 3, 'PostData': 4, \
         'Verifying': 5, 'Succeeded': 6, 'Failed': 7, 'Canceled': 8}[self.phase] >= \
         {'Pending': 0, 'Resolving': 1, 'PreData': 2, 'Data': 3, 'PostData': 4, \
         'Verifying': 5, 'Succeeded': 6, 'Failed': 7, 'Canceled': 8}[oldSelf.phase])"
    ).message("a phase never goes back"),
)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// The generation that this status is about; -1 before any was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The furthest that the restore has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestorePhase>,
    /// Suspended, Complete, Failed, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// Which backup it is, once resolved: store, collection and run in one text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub from: Option<String>,
    /// The attempt that is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunStatus>,
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
    /// Its pod, as the controller sees it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 4),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub processes: Vec<ProcessStatus>,
    /// Why it may say Succeeded. Absent of a dry run and of a schema alone: there was nothing to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<RestoreProof>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// The furthest that a restore has come.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestorePhase {
    /// No restorer yet.
    Pending,
    /// Proving coverage and digests, and the preflight.
    Resolving,
    /// Schemas, types, tables.
    PreData,
    /// Rows, and each table's own indexes.
    Data,
    /// Foreign keys, triggers, rules, policies.
    PostData,
    /// Comparing every table with the manifest.
    Verifying,
    /// Compared, and equal.
    Succeeded,
    /// Ended otherwise, and failure says why.
    Failed,
    /// Ended because the user said so.
    Canceled,
}

/// Why a restore may say Succeeded.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreProof {
    /// Tables compared.
    #[schemars(range(min = 0))]
    pub tables: i64,
    /// Their rows.
    #[schemars(range(min = 0))]
    pub rows_compared: i64,
    /// Whether every count and fingerprint was equal.
    pub fingerprints_equal: bool,
    /// The digest of the manifest as stored.
    #[schemars(schema_with = "bounds::sha256")]
    pub manifest_sha256: String,
}
