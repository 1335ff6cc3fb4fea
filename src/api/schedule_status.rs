//! What came of a BackupSchedule.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::condition::{Condition, Failure};
use super::run_status::ProcessStatus;

/// What came of a BackupSchedule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackupScheduleStatus {
    /// The generation that this status is about; -1 before any was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled, RecoveryPointMet, RetentionApplied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// How far the clock has been followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<FollowedClock>,
    /// The run that was started last, or is being started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<ScheduledRun>,
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
    /// What came of the last prune.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_prune: Option<LastPrune>,
    /// The newest question of the annotation vouchsafe.dev/prune-requested-at that a prune has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time")]
    pub last_prune_request: Option<String>,
    /// The newest prune's process, as the controller sees it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub processes: Vec<ProcessStatus>,
    /// Failed runs since the last proven one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub consecutive_failures: Option<i64>,
}

/// How far the clock has been followed. A controller that was away reads here what it has missed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FollowedClock {
    /// The schedule; another one is followed from when it is first seen.
    #[schemars(schema_with = "bounds::cron")]
    pub schedule: String,
    /// Its time zone.
    #[schemars(schema_with = "bounds::time_zone")]
    pub time_zone: String,
    /// Nothing that was due up to here is started any more.
    #[schemars(schema_with = "bounds::time")]
    pub until: String,
    /// Whether it stands still: nothing is due meanwhile, and nothing is missed.
    pub stopped: bool,
}

/// One run of a schedule.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledRun {
    /// The Backup.
    #[schemars(schema_with = "bounds::name")]
    pub name: String,
    /// Which tick of the clock it is for.
    #[schemars(schema_with = "bounds::time")]
    pub tick: String,
    /// Which attempt for that tick, from 1.
    #[schemars(range(min = 1))]
    pub attempt: i64,
    /// When it was decided to start it.
    #[schemars(schema_with = "bounds::time")]
    pub decided_at: String,
    /// What became of it.
    pub state: ScheduledRunState,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time")]
    pub ended_at: Option<String>,
    /// Why it could not be started, or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What became of a run of a schedule.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduledRunState {
    /// It is decided, and its Backup is not known to be there.
    Starting,
    /// Its Backup is there.
    Started,
    /// It is proven.
    Succeeded,
    /// It failed.
    Failed,
    /// It was canceled, or its Backup was deleted.
    Canceled,
    /// It could not be started in time.
    Missed,
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

/// What came of the last prune.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastPrune {
    /// When it ended.
    #[schemars(schema_with = "bounds::time")]
    pub time: String,
    /// Its run in the collection; absent if it retired nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub run: Option<i64>,
    /// Backups that it retired.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub retired: i64,
    /// Objects that it deleted.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub deleted_objects: i64,
    /// Bytes that were in them.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub deleted_bytes: i64,
    /// Runs whose objects are not deleted yet, being given up too short a time ago or kept by the store.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub waiting: i64,
    /// The Backups that are retired, by this prune or by one before it: their resources are deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bounds::names")]
    pub removed: Vec<String>,
    /// Why it did not do all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
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
