//! Gauges that say how things stand. They are worked out of the resources at each reading: a controller that was
//! started again says what the one before said, and what is gone from the cluster is gone from the page.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::transition::{is_finding, is_terminal};
use crate::api::marks::{SCHEDULE_UID, schedule_of};
use crate::api::quantity::parse_duration;
use crate::api::{Backup, BackupPhase, BackupSchedule, ConditionStatus, ScheduledRunState};

/// A gauge of one schedule: its name, its help, and where it is.
struct Gauge {
    name: &'static str,
    help: &'static str,
    of: fn(&Schedule) -> Option<f64>,
}

/// Every gauge with the labels `namespace` and `schedule`.
const GAUGES: [Gauge; 13] = [
    Gauge {
        name: "vouchsafe_backup_last_proven_timestamp_seconds",
        help: "When the newest proven backup was sealed",
        of: |it| it.proven,
    },
    Gauge {
        name: "vouchsafe_backup_last_failed_timestamp_seconds",
        help: "When the newest failed backup ended",
        of: |it| it.failed,
    },
    Gauge {
        name: "vouchsafe_backup_last_damaged_timestamp_seconds",
        help: "When the newest backup ended that failed because something stored or counted was not right",
        of: |it| it.damaged,
    },
    Gauge {
        name: "vouchsafe_backup_started_timestamp_seconds",
        help: "When the oldest backup that goes on was made",
        of: |it| it.started,
    },
    Gauge {
        name: "vouchsafe_backup_stored_bytes",
        help: "Bytes of the newest proven backup in its stores",
        of: |it| it.stored_bytes,
    },
    Gauge {
        name: "vouchsafe_backup_rows",
        help: "Rows of the newest proven backup, as its verifiers counted them",
        of: |it| it.rows,
    },
    Gauge {
        name: "vouchsafe_schedule_created_timestamp_seconds",
        help: "When the schedule was made",
        of: |it| it.created,
    },
    Gauge {
        name: "vouchsafe_schedule_recoverable_from_timestamp_seconds",
        help: "The first moment that is proven to be restorable",
        of: |it| it.recoverable_from,
    },
    Gauge {
        name: "vouchsafe_schedule_recoverable_to_timestamp_seconds",
        help: "The last moment that is proven to be restorable",
        of: |it| it.recoverable_to,
    },
    Gauge {
        name: "vouchsafe_schedule_recovery_point_objective_seconds",
        help: "spec.recoveryPointObjective",
        of: |it| it.objective,
    },
    Gauge {
        name: "vouchsafe_schedule_consecutive_failures",
        help: "Failed runs since the last proven one",
        of: |it| it.consecutive_failures,
    },
    Gauge {
        name: "vouchsafe_schedule_missed_runs",
        help: "Runs that were due and never started",
        of: |it| it.missed,
    },
    Gauge {
        name: "vouchsafe_schedule_suspended",
        help: "1 while nothing is started, because the spec says so or a failure did",
        of: |it| it.suspended,
    },
];

const PHASES: &str = "vouchsafe_backups";

/// Names of all gauges here.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    GAUGES.iter().map(|gauge| gauge.name).chain([PHASES])
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Schedule {
    /// Whether there is one of this name: what only deleted ones left behind has no series.
    exists: bool,
    proven: Option<f64>,
    failed: Option<f64>,
    damaged: Option<f64>,
    started: Option<f64>,
    stored_bytes: Option<f64>,
    rows: Option<f64>,
    created: Option<f64>,
    recoverable_from: Option<f64>,
    recoverable_to: Option<f64>,
    objective: Option<f64>,
    consecutive_failures: Option<f64>,
    missed: Option<f64>,
    suspended: Option<f64>,
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    /// By namespace, name and UID; the empty name is for Backups that no schedule made. A schedule that was made anew
    /// under the same name is another one.
    schedules: BTreeMap<(String, String, String), Schedule>,
    phases: BTreeMap<BackupPhase, u64>,
}

impl Levels {
    /// Takes a schedule in.
    pub fn schedule(&mut self, schedule: &BackupSchedule) {
        let name = schedule.metadata.name.clone().unwrap_or_default();
        let uid = schedule.metadata.uid.clone().unwrap_or_default();
        let known = self.of(schedule.metadata.namespace.clone(), name, uid);
        let status = schedule.status.clone().unwrap_or_default();
        known.exists = true;
        known.created = schedule.metadata.creation_timestamp.as_ref().map(|time| seconds(time.0));
        known.recoverable_from = status.recoverable_from.as_deref().and_then(time);
        known.recoverable_to = status.recoverable_to.as_deref().and_then(time);
        known.consecutive_failures = status.consecutive_failures.map(number);
        known.missed = status.missed.map(number);
        let suspended = schedule.spec.suspend == Some(true) || status.suspended_because.is_some();
        known.suspended = Some(if suspended { 1.0 } else { 0.0 });
        let objective = schedule.spec.recovery_point_objective.as_deref();
        known.objective = objective.and_then(|text| parse_duration(text).ok()).map(|it| it.as_secs_f64());
        // The Backup itself may be gone already.
        newest(&mut known.proven, status.last_success.and_then(|it| time(&it.time)));
        if let Some(run) = status.last_run.filter(|it| it.state == ScheduledRunState::Failed) {
            let ended = run.ended_at.as_deref().and_then(time);
            newest(&mut known.failed, ended);
            if run.failure.as_ref().is_some_and(is_finding) {
                newest(&mut known.damaged, ended);
            }
        }
    }

    /// Takes a Backup in; one that is being deleted counts as gone, however long its data takes.
    pub fn backup(&mut self, backup: &Backup) {
        if backup.metadata.deletion_timestamp.is_some() {
            return;
        }
        let status = backup.status.clone().unwrap_or_default();
        let phase = status.phase.unwrap_or(BackupPhase::Pending);
        *self.phases.entry(phase).or_default() += 1;
        let metadata = &backup.metadata;
        let name = schedule_of(metadata).unwrap_or_default().to_owned();
        let uid = match name.as_str() {
            "" => String::new(),
            _ => {
                metadata.annotations.as_ref().and_then(|it| it.get(SCHEDULE_UID)).cloned().unwrap_or_default()
            }
        };
        let known = self.of(metadata.namespace.clone(), name, uid);
        let created = metadata.creation_timestamp.as_ref().map(|time| seconds(time.0));
        // History that is never to run is not stuck.
        let stalled =
            status.conditions.iter().any(|it| it.type_ == "Stalled" && it.status == ConditionStatus::True);
        if !is_terminal(phase) && !stalled && backup.spec.suspend != Some(true) {
            known.started = match (known.started, created) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        let condition = status.conditions.iter().find(|it| it.type_ == "Failed");
        let ended = condition.and_then(|it| time(&it.last_transition_time)).or(created);
        if phase == BackupPhase::Failed {
            newest(&mut known.failed, ended);
            if status.failure.as_ref().is_some_and(is_finding) {
                newest(&mut known.damaged, ended);
            }
        }
        let proof = status.proof.unwrap_or_default();
        if phase == BackupPhase::Succeeded
            && newest(&mut known.proven, proof.sealed_at.as_deref().and_then(time))
        {
            known.stored_bytes = status.progress.and_then(|it| it.bytes_stored).map(number);
            known.rows = proof.rows_counted.map(number);
        }
    }

    fn of(&mut self, namespace: Option<String>, schedule: String, uid: String) -> &mut Schedule {
        self.schedules.entry((namespace.unwrap_or_default(), schedule, uid)).or_default()
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let shown = |labels: &(String, String, String), known: &Schedule| known.exists || labels.1.is_empty();
        for gauge in GAUGES {
            let all = self.schedules.iter().filter(|(labels, known)| shown(labels, known));
            let mut told = all.filter_map(|(labels, known)| Some((labels, (gauge.of)(known)?))).peekable();
            if told.peek().is_none() {
                continue;
            }
            let mut family = encoder.encode_descriptor(gauge.name, gauge.help, None, MetricType::Gauge)?;
            for ((namespace, schedule, _), value) in told {
                let labels = [("namespace", namespace.as_str()), ("schedule", schedule.as_str())];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Backups by phase";
        let mut family = encoder.encode_descriptor(PHASES, help, None, MetricType::Gauge)?;
        for (phase, count) in &self.phases {
            let labels = [("phase", format!("{phase:?}"))];
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
            ConstGauge::new(*count as f64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Sets `known` if `other` is later, or as late; whether it did.
fn newest(known: &mut Option<f64>, other: Option<f64>) -> bool {
    let newer = other.is_some_and(|other| known.is_none_or(|known| other >= known));
    if newer {
        *known = other;
    }
    newer
}

fn time(text: &str) -> Option<f64> {
    text.parse().ok().map(seconds)
}

fn seconds(time: Timestamp) -> f64 {
    number(time.as_second())
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other number")]
const fn number(value: i64) -> f64 {
    value as f64
}

/// Adds what one watch holds.
type Source = Box<dyn Fn(&mut Levels) + Send + Sync>;

/// Where resources are read when somebody asks.
#[derive(Default)]
pub(super) struct Sources(Mutex<Vec<Source>>);

impl Sources {
    pub(super) fn add(&self, source: Source) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn levels(&self) -> Option<Levels> {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.is_empty() {
            return None;
        }
        let mut levels = Levels::default();
        sources.iter().for_each(|source| source(&mut levels));
        Some(levels)
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.levels().map_or(Ok(()), |levels| levels.encode(&mut encoder))
    }
}
