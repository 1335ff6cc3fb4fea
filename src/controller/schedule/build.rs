//! The Backup of a run. Pure.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::ObjectMeta;

use crate::api::marks::{
    SCHEDULE, SCHEDULE_NAME, SCHEDULE_UID, SCHEDULED_AT, TICK, digest_of_name, schedule_label,
};
use crate::api::{Backup, BackupSchedule, LayerType, ScheduledRun};

/// The longest name of a schedule that its Backups' names hold in full: an object's name has at most 253 bytes, and
/// `-20261122-0200-10` follows.
const MAX_STEM: usize = 253 - 24;
/// The name of the Backup for a tick. It follows from what it is for: whoever makes it a second time meets the first.
pub(super) fn backup_name(schedule: &str, tick: Timestamp, attempt: i64) -> String {
    let stem = if schedule.len() <= MAX_STEM {
        schedule.to_owned()
    } else {
        let digest = digest_of_name(schedule);
        let most = MAX_STEM - digest.len() - 1;
        format!("{}-{digest}", schedule[..most].trim_end_matches(['-', '.']))
    };
    let time = tick.strftime("%Y%m%d-%H%M");
    match attempt {
        ..=1 => format!("{stem}-{time}"),
        _ => format!("{stem}-{time}-{attempt}"),
    }
}

/// The Backup that `run` is. Of the schedule it copies its template, and no metadata of its own: what a GitOps tool
/// tracks the schedule by would have it prune the Backups. It has no owner either: a schedule that is deleted deletes
/// nothing.
pub(super) fn build(schedule: &BackupSchedule, run: &ScheduledRun) -> Backup {
    let template = &schedule.spec.template;
    let mut spec = template.spec.clone();
    // Decided by the cadence, not by the coordinator: every layer is full today.
    spec.type_ = Some(LayerType::Full);
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut labels = metadata.labels.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    let name = schedule.name_any();
    labels.insert(SCHEDULE.to_owned(), schedule_label(&name));
    annotations.insert(SCHEDULE_NAME.to_owned(), name);
    annotations.insert(SCHEDULE_UID.to_owned(), schedule.uid().unwrap_or_default());
    annotations.insert(SCHEDULED_AT.to_owned(), run.decided_at.clone());
    annotations.insert(TICK.to_owned(), run.tick.clone());
    let metadata = ObjectMeta {
        name: Some(run.name.clone()),
        namespace: schedule.namespace(),
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    Backup { metadata, spec, status: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_make_names_and_labels() {
        let tick: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
        assert_eq!(backup_name("orders", tick, 1), "orders-20261122-0200");
        assert_eq!(backup_name("orders", tick, 3), "orders-20261122-0200-3");
        for length in [63, 64, 200, 229, 230, 253] {
            let (one, other) = ("a".repeat(length), format!("{}b", "a".repeat(length - 1)));
            let (name, label) = (backup_name(&one, tick, 10), schedule_label(&one));
            assert!(name.len() <= 253 && label.len() <= 63, "{name}");
            assert_ne!(name, backup_name(&other, tick, 10));
            assert_ne!(label, schedule_label(&other));
        }
        let dotted = format!("{}.{}", "a".repeat(195), "b".repeat(57));
        assert!(!backup_name(&dotted, tick, 1).contains(".-"), "no part of a name ends in a hyphen");
    }
}
