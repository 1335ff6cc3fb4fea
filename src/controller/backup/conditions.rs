//! Conditions that follow from the rest of a status. Pure.

use jiff::Timestamp;

use crate::api::{BackupPhase, BackupStatus, Condition, ConditionStatus, RunStatus};

/// Sets every condition of `status`; one that says what it said keeps its time.
pub(super) fn set(status: &mut BackupStatus, run: &RunStatus, generation: Option<i64>, now: Timestamp) {
    let phase = status.phase.unwrap_or(BackupPhase::Pending);
    let failure = status.failure.clone();
    let over = matches!(phase, BackupPhase::Succeeded | BackupPhase::Failed | BackupPhase::Canceled);
    let reason = failure.as_ref().map_or_else(|| format!("{phase:?}"), |it| it.reason.clone());
    let message = failure.map(|it| it.message).unwrap_or_default();
    let succeeded = phase == BackupPhase::Succeeded;
    let uploaded = succeeded || (run.manifest_sha256.is_some() && !over);
    let told = |holds: bool| if holds { ConditionStatus::True } else { ConditionStatus::False };
    let wanted = [
        ("Uploaded", told(uploaded)),
        ("ManifestVerified", told(succeeded)),
        ("FilesVerified", told(succeeded)),
        ("Complete", told(succeeded)),
        ("Failed", told(over && !succeeded)),
        // kstatus: Reconciling while there is more to come, Stalled where there is not and it should have been.
        ("Reconciling", told(!over)),
        ("Stalled", told(over && !succeeded)),
    ];
    let before = std::mem::take(&mut status.conditions);
    let condition = |(type_, value): (&str, ConditionStatus)| {
        let known = before.iter().find(|it| it.type_ == type_ && it.status == value);
        Condition {
            type_: type_.to_owned(),
            status: value,
            reason: reason.clone(),
            message: message.clone(),
            last_transition_time: known.map_or_else(|| now.to_string(), |it| it.last_transition_time.clone()),
            observed_generation: generation,
        }
    };
    status.conditions = wanted.into_iter().map(condition).collect();
}
