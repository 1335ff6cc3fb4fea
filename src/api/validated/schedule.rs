//! A BackupSchedule, checked, as far as that needs no calendar.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::refusal::{Refusals, Refused};
use super::super::{
    BackupSchedule, BackupScheduleSpec, BackupTemplate, Concurrency, DeletionPolicy, Kind, OnFailure,
    Retention, TemplateMetadata,
};
use super::backup::ValidatedBackupSpec;
use super::pod_template::label_map;
use super::{Identity, bounds, optional, positive_duration};
use crate::api::quantity::parse_duration;

/// How late a run may start, unless the spec says otherwise.
const DEFAULT_STARTING_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// Resources of failed runs that are kept, unless the spec says otherwise.
const DEFAULT_FAILED_HISTORY: u32 = 3;

/// Keys by which GitOps tools track what they applied; they prune what carries one and stands in no
/// repository. One that ends in a slash is a prefix.
const TRACKING: [&str; 5] = [
    "app.kubernetes.io/instance",
    "argocd.argoproj.io/",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    "meta.helm.sh/",
];

/// A BackupSchedule that makes sense. Whether its clock ever strikes needs a calendar, and is the
/// planner's affair.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedSchedule {
    /// Which object.
    pub identity: Identity,
    /// Five fields of cron, or a word like `@daily`.
    pub schedule: String,
    /// The IANA name of a time zone.
    pub time_zone: String,
    /// When a new chain starts.
    pub full: FullSchedule,
    /// How far runs are spread; `None`: a tenth of the interval.
    pub jitter: Option<Duration>,
    /// A run later than this is missed.
    pub starting_deadline: Duration,
    /// What happens to a run that is due while another goes on.
    pub concurrency: Concurrency,
    /// The age of the last proven backup past which an alert is due.
    pub recovery_point_objective: Option<Duration>,
    /// What follows a failed run.
    pub on_failure: OnFailure,
    /// Whether nothing is started for now.
    pub suspend: bool,
    /// What is kept; `None`: everything.
    pub retention: Option<ValidatedRetention>,
    /// How many resources of failed runs are kept.
    pub failed_history_limit: u32,
    /// Labels of the Backups.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Backups.
    pub annotations: BTreeMap<String, String>,
    /// What the Backups ask for; the collection is always there.
    pub template: ValidatedBackupSpec,
}

/// When a new chain starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FullSchedule {
    /// Derived from the schedule's interval.
    Derived,
    /// With every backup.
    Always,
    /// At the first tick at or after each of these: cron, as `schedule`.
    At(String),
}

/// What is kept; each number at least 1, and at least one of the first five is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidatedRetention {
    /// The last so many.
    pub keep_last: Option<u32>,
    /// The last of each of so many days.
    pub keep_daily: Option<u32>,
    /// The last of each of so many weeks.
    pub keep_weekly: Option<u32>,
    /// The last of each of so many months.
    pub keep_monthly: Option<u32>,
    /// The last of each of so many years.
    pub keep_yearly: Option<u32>,
    /// Proven chains below which nothing is removed.
    pub minimum: u32,
}

impl TryFrom<BackupSchedule> for ValidatedSchedule {
    type Error = Refusals;

    fn try_from(schedule: BackupSchedule) -> Result<Self, Refusals> {
        let BackupSchedule { metadata, spec, status: _ } = schedule;
        let bounds = bounds(Kind::BackupSchedule, &spec);
        let mut refusals = Refusals::default();
        let schedule = parse(&mut refusals, Identity::of(metadata), spec);
        refusals.absorb(bounds);
        refusals.into_result(schedule)
    }
}

fn parse(refusals: &mut Refusals, identity: Identity, spec: BackupScheduleSpec) -> Option<ValidatedSchedule> {
    let BackupScheduleSpec {
        schedule,
        time_zone,
        full_schedule,
        jitter,
        starting_deadline,
        concurrency,
        recovery_point_objective,
        on_failure,
        suspend,
        retention,
        failed_history_limit,
        restore_test,
        template: BackupTemplate { metadata, spec: template },
    } = spec;
    let hint = "leave it out, and restore by hand meanwhile";
    refusals.not_built_yet(restore_test.is_some(), "spec.restoreTest", hint);
    let full = match full_schedule.as_deref() {
        None => FullSchedule::Derived,
        Some("Always") => FullSchedule::Always,
        Some(cron) => FullSchedule::At(cron.to_owned()),
    };
    // Zero is a jitter: none.
    let jitter = optional(refusals, "spec.jitter", jitter, parse_duration, "write it like `5m`");
    let starting_deadline = positive_duration(refusals, "spec.startingDeadline", starting_deadline);
    let objective = positive_duration(refusals, "spec.recoveryPointObjective", recovery_point_objective);
    let retention = match retention {
        None => Some(None),
        Some(retention) => kept(refusals, retention).map(Some),
    };
    let TemplateMetadata { labels, annotations } = metadata.unwrap_or_default();
    let (labels, annotations) = (labels.unwrap_or_default(), annotations.unwrap_or_default());
    label_map(refusals, "spec.template.metadata.labels", &labels);
    untracked(refusals, "spec.template.metadata.labels", &labels);
    untracked(refusals, "spec.template.metadata.annotations", &annotations);
    // Before "not built yet": it will be refused here even then.
    if template.deletion_policy == Some(DeletionPolicy::Delete) {
        let hint = "take Retain: deleting a schedule deletes no data";
        refusals.conflict("spec.template.spec.deletionPolicy", "Delete is refused in a template", hint);
    }
    for (field, set) in [("suspend", template.suspend), ("cancel", template.cancel)] {
        if set == Some(true) {
            let hint = "set the schedule's own suspend";
            refusals.conflict(format!("spec.template.spec.{field}"), "is for one Backup", hint);
        }
    }
    if template.collection.is_none() {
        let hint = "name what this schedule's backups have in common, like the database";
        refusals.add(Refused::Missing, "spec.template.spec.collection", "is required in a schedule", hint);
    }
    let template = ValidatedBackupSpec::parse(refusals, "spec.template.spec", template);
    Some(ValidatedSchedule {
        identity,
        schedule,
        time_zone: time_zone.unwrap_or_else(|| "UTC".to_owned()),
        full,
        jitter: jitter?,
        starting_deadline: starting_deadline?.unwrap_or(DEFAULT_STARTING_DEADLINE),
        concurrency: concurrency.unwrap_or_default(),
        recovery_point_objective: objective?,
        on_failure: on_failure.unwrap_or_default(),
        suspend: suspend.unwrap_or(false),
        retention: retention?,
        failed_history_limit: failed_history_limit.unwrap_or(DEFAULT_FAILED_HISTORY),
        labels,
        annotations,
        template: template?,
    })
}

fn kept(refusals: &mut Refusals, retention: Retention) -> Option<ValidatedRetention> {
    let Retention { keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly, minimum } = retention;
    if [keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly].iter().all(Option::is_none) {
        let hint = "set keepLast, keepDaily, keepWeekly, keepMonthly or keepYearly, or leave retention out";
        refusals.conflict("spec.retention", "keeps nothing", hint);
        return None;
    }
    let minimum = minimum.unwrap_or(1);
    Some(ValidatedRetention { keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly, minimum })
}

fn untracked(refusals: &mut Refusals, path: &str, keys: &BTreeMap<String, String>) {
    for key in keys.keys() {
        let tracking = |t: &&str| if t.ends_with('/') { key.starts_with(*t) } else { key == *t };
        if TRACKING.iter().any(tracking) {
            let hint = "leave it out: the tool would prune the Backups, which stand in no repository";
            refusals.conflict(format!("{path}[{key}]"), "is how a GitOps tool tracks its objects", hint);
        }
    }
}
