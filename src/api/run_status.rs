//! The parts of a status that Backup and Restore share: the run, its progress, its localities.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::condition::Failure;

/// The attempt that is going on.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// The run's number in its collection. A restore has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub number: Option<i64>,
    /// The random id of its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub plan: Option<String>,
    /// What the verifiers are asked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub nonce: Option<String>,
    /// Which attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub attempt: Option<i64>,
    /// What it is doing; unlike the phase it may go back, with a new plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub step: Option<String>,
    /// The manifest's digest as stored; absent before it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::sha256")]
    pub manifest_sha256: Option<String>,
    /// What the pods of each destination are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["destination"])
    )]
    pub orders: Vec<DestinationOrder>,
    /// The servers that it reads, once it has spoken to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["endpoint"])
    )]
    pub servers: Vec<ServerStatus>,
    /// The image of its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::image")]
    pub image: Option<String>,
}

/// What the worker and the verifier of one destination are given, by the coordinator.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DestinationOrder {
    /// The destination.
    #[schemars(schema_with = "bounds::item")]
    pub destination: String,
    /// Tickets of its worker; with none, it has no worker.
    #[schemars(range(min = 0))]
    pub tickets: i64,
    /// The digest of its tickets as stored.
    #[schemars(schema_with = "bounds::sha256")]
    pub tickets_sha256: String,
    /// The digest of its part as stored; absent before it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::sha256")]
    pub part_sha256: Option<String>,
    /// Those of its tickets that have a receipt, as counted lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tickets_settled: Option<i64>,
    /// Bytes of rows that lie in the destination, as listed lately; what a killed worker has left counts too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub bytes_stored: Option<i64>,
}

/// A server that the run reads.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// The endpoint's name.
    #[schemars(schema_with = "bounds::item")]
    pub endpoint: String,
    /// The server's version as it names itself.
    #[schemars(length(min = 1, max = 128))]
    pub version: String,
}

/// One process of a run, as the controller sees its Jobs. Unlike a Job it stays.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// Its role, and its destination where it has one: `coordinator`, `worker-eu`, `verifier-eu`.
    #[schemars(length(min = 1, max = 80))]
    pub name: String,
    /// The newest Job.
    #[schemars(schema_with = "bounds::name")]
    pub job: String,
    /// What the Job is for: plan and nonce. Another one begins with its first attempt.
    #[schemars(length(max = 200))]
    pub order: String,
    /// Which attempt this Job is, from 1.
    #[schemars(range(min = 1))]
    pub attempt: i64,
    /// What became of it.
    pub state: ProcessState,
    /// The node of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// Why it waits, or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What became of a process.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// Its pod does not run yet.
    Waiting,
    /// Its pod runs.
    Running,
    /// Its pod was taken away by `suspend`; after it, another attempt begins.
    Suspended,
    /// It ended, and left its word.
    Done,
    /// No attempt is left: the coordinator gives the run up.
    Failed,
}

/// How far it is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Tickets in the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tickets_planned: Option<i64>,
    /// Tickets with a receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tickets_settled: Option<i64>,
    /// Bytes read from the source; of a restore, from the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub bytes_read: Option<i64>,
    /// Bytes written to the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub bytes_stored: Option<i64>,
    /// Rows exported or restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub rows: Option<i64>,
    /// 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i32>,
    /// Bytes per second, lately: stored by a backup, loaded by a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub bytes_per_second: Option<i64>,
    /// When it ends, if it goes on like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time")]
    pub eta: Option<String>,
}

/// One locality's share of a run.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LocalityStatus {
    /// The locality; `default` for what has none.
    #[schemars(length(min = 1, max = 1023))]
    pub locality: String,
    /// The node of its worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// The destination that takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::item")]
    pub destination: Option<String>,
    /// Tickets in the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tickets_planned: Option<i64>,
    /// Tickets with a receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tickets_settled: Option<i64>,
    /// Bytes of rows in the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub bytes_stored: Option<i64>,
    /// Whether the backup is sealed, with the verdict of its destination's verifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
}
