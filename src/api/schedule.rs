//! BackupSchedule: when backups are made, and how long they are kept.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backup::BackupSpec;
use super::bounds;
use super::restore::EphemeralTarget;
use super::schedule_status::BackupScheduleStatus;

/// When backups are made, and how long they are kept. Absent: Skip. Absent: Retry. Absent: Latest.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "vouchsafe.dev",
    version = "v1alpha1",
    kind = "BackupSchedule",
    plural = "backupschedules",
    namespaced,
    status = "BackupScheduleStatus",
    derive = "PartialEq",
    shortname = "vbsch",
    category = "vouchsafe",
    doc = "When backups of a PostgreSQL database are made, and how long they are kept.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Last-Proven", type_ = "date", json_path = ".status.lastSuccess.time"),
    printcolumn(name = "Recoverable-To", type_ = "string", json_path = ".status.recoverableTo"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduleTime"),
    printcolumn(name = "Failures", type_ = "integer", json_path = ".status.consecutiveFailures"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct BackupScheduleSpec {
    /// When: five fields of cron, or @hourly, @daily, @weekly, @monthly, @yearly.
    #[schemars(schema_with = "bounds::cron")]
    pub schedule: String,
    /// Where that clock hangs. Absent: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::time_zone")]
    pub time_zone: Option<String>,
    /// When a new chain starts; `Always`: every backup is full. Absent: daily for a schedule of an hour
    /// or denser, weekly for one of a day or denser, else Always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::full_cron")]
    pub full_schedule: Option<String>,
    /// How far runs are spread, by the object's UID. Absent: a tenth of the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::duration")]
    pub jitter: Option<String>,
    /// A run later than this counts as missed and isn't caught up. Absent: 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::positive_duration")]
    pub starting_deadline: Option<String>,
    /// What happens to a run that is due while another goes on. Absent: Skip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// The age of the last proven backup past which an alert is due. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::positive_duration")]
    pub recovery_point_objective: Option<String>,
    /// What follows a failed run. Absent: Retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Whether nothing is started for now. Absent: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// What is kept. Absent: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// How many resources of failed runs are kept. Absent: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub failed_history_limit: Option<u32>,
    /// A restore as a test. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_test: Option<RestoreTest>,
    /// The Backups.
    pub template: BackupTemplate,
}

/// What happens to a run that is due while another goes on.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Concurrency {
    /// It is left out, and counted.
    #[default]
    Skip,
    /// It waits.
    Wait,
}

/// What follows a failed run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Another, with growing pauses.
    #[default]
    Retry,
    /// The next, when it is due.
    Reschedule,
    /// None until a person says so.
    Suspend,
}

/// What is kept: whatever any of its rules keeps.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new(
        "[has(self.keepLast), has(self.keepDaily), has(self.keepWeekly), has(self.keepMonthly), \
         has(self.keepYearly)].exists(x, x)"
    ).message("a retention keeps something: set keepLast, keepDaily, keepWeekly, keepMonthly or keepYearly"),
)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// The last so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub keep_last: Option<u32>,
    /// The last of each of so many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub keep_daily: Option<u32>,
    /// The last of each of so many weeks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub keep_weekly: Option<u32>,
    /// The last of each of so many months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub keep_monthly: Option<u32>,
    /// The last of each of so many years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub keep_yearly: Option<u32>,
    /// Proven chains below which nothing is removed. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub minimum: Option<u32>,
}

/// A restore as a test.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreTest {
    /// When.
    #[schemars(schema_with = "bounds::cron")]
    pub schedule: String,
    /// Which backup. Absent: Latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<TestedBackup>,
    /// Where it is restored.
    pub target: TestTarget,
    /// What must hold there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub assertions: Vec<Assertion>,
    /// Whether several localities' data may come to one place. Absent: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_cross_locality: Option<bool>,
}

/// Which backup a test restores.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TestedBackup {
    /// The last proven one.
    #[default]
    Latest,
    /// Any of those kept.
    Random,
}

/// Where a test restores to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TestTarget {
    /// A server that is made for this and goes afterwards.
    pub ephemeral: EphemeralTarget,
}

/// What must hold in a restored database.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Assertion {
    /// Its name, unique in the test.
    #[schemars(schema_with = "bounds::item")]
    pub name: String,
    /// A query that reads one value, as a plain role.
    #[schemars(length(min = 1, max = 4096))]
    pub sql: String,
    /// The value's text as PostgreSQL prints it.
    #[schemars(length(max = 1024))]
    pub expect: String,
}

/// A Backup to be made.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.spec.collection)").message("a schedule's backups name their collection"),
    validation = Rule::new("!has(self.spec.deletionPolicy) || self.spec.deletionPolicy == 'Retain'")
        .message("deletionPolicy Delete is refused in a template: deleting a schedule deletes no data"),
    validation = Rule::new(
        "(!has(self.spec.cancel) || !self.spec.cancel) && (!has(self.spec.suspend) || !self.spec.suspend)"
    ).message("suspend and cancel are for one Backup; a schedule has its own suspend"),
)]
#[serde(rename_all = "camelCase")]
pub struct BackupTemplate {
    /// Its labels and annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Its spec.
    pub spec: BackupSpec,
}

/// Labels and annotations of Backups that a schedule makes. What a GitOps tool tracks its objects by is
/// refused: the tool would prune the Backups, which stand in no repository.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new(
        "!has(self.labels) || self.labels.all(k, k != 'app.kubernetes.io/instance' \
         && !k.startsWith('argocd.argoproj.io/') && !k.startsWith('kustomize.toolkit.fluxcd.io/') \
         && !k.startsWith('helm.toolkit.fluxcd.io/') && !k.startsWith('vouchsafe.dev/'))"
    ).message("a label by which a GitOps tool tracks its objects, or one of vouchsafe.dev's own"),
    validation = Rule::new(
        "!has(self.annotations) || self.annotations.all(k, !k.startsWith('argocd.argoproj.io/') \
         && !k.startsWith('kustomize.toolkit.fluxcd.io/') && !k.startsWith('helm.toolkit.fluxcd.io/') \
         && !k.startsWith('meta.helm.sh/') && !k.startsWith('vouchsafe.dev/'))"
    ).message("an annotation by which a GitOps tool tracks its objects, or one of vouchsafe.dev's own"),
)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::labels")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounds::annotations")]
    pub annotations: Option<BTreeMap<String, String>>,
}
