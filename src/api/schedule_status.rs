//! What came of a BackupSchedule.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::condition::{Condition, Failure};

/// What came of a BackupSchedule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackupScheduleStatus {
    /// The generation that this status is about; -1 before any was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, RecoveryPointMet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// When the last run was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time")]
    pub last_schedule_time: Option<String>,
    /// When the next is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time")]
    pub next_schedule_time: Option<String>,
    /// The last proven backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<LastSuccess>,
    /// The Backups that go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::names")]
    pub active: Vec<String>,
    /// Runs that were due and never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub missed: Option<i64>,
    /// Why nothing is started, if not the spec says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_because: Option<Failure>,
    /// The last test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_test: Option<RestoreTestStatus>,
    /// The first moment that is proven to be restorable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time")]
    pub recoverable_from: Option<String>,
    /// The last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time")]
    pub recoverable_to: Option<String>,
    /// The Backups that the next prune removes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::names")]
    pub next_prune: Vec<String>,
    /// Failed runs since the last proven one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub consecutive_failures: Option<i64>,
}

/// The last proven backup.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastSuccess {
    /// The Backup.
    #[schemars(schema_with = "bounds::name")]
    pub name: String,
    /// When it was sealed.
    #[schemars(schema_with = "bounds::time")]
    pub time: String,
}

/// What came of the last test.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreTestStatus {
    /// The Backup that was restored.
    #[schemars(schema_with = "bounds::name")]
    pub backup: String,
    /// When it ended.
    #[schemars(schema_with = "bounds::time")]
    pub time: String,
    /// How it ended.
    pub result: TestResult,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// How a test ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestResult {
    /// Everything was equal and every assertion held.
    Passed,
    /// Not so.
    Failed,
}
