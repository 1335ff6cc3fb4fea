//! Conditions that follow from the rest of a Backup's status. Pure.

use jiff::Timestamp;

use crate::api::{BackupPhase, BackupStatus, RunStatus};
use crate::controller::conditions::{Wanted, merged, told};

/// Sets every condition of `status`; one that says what it said keeps its time.
pub(super) fn set(status: &mut BackupStatus, run: &RunStatus, generation: Option<i64>, now: Timestamp) {
    let phase = status.phase.unwrap_or(BackupPhase::Pending);
    let failure = status.failure.clone();
    let over = matches!(phase, BackupPhase::Succeeded | BackupPhase::Failed | BackupPhase::Canceled);
    let reason = failure.as_ref().map_or_else(|| format!("{phase:?}"), |it| it.reason.clone());
    let message = failure.map(|it| it.message).unwrap_or_default();
    let succeeded = phase == BackupPhase::Succeeded;
    let uploaded = succeeded || (run.manifest_sha256.is_some() && !over);
    let wanted = [
        ("Uploaded", uploaded),
        ("ManifestVerified", succeeded),
        ("FilesVerified", succeeded),
        ("Complete", succeeded),
        ("Failed", over && !succeeded),
        // kstatus: Reconciling while there is more to come, Stalled where there is not and it should have been.
        ("Reconciling", !over),
        ("Stalled", over && !succeeded),
    ];
    let wanted = wanted.map(|(type_, holds)| Wanted {
        type_,
        status: told(holds),
        reason: &reason,
        message: &message,
    });
    status.conditions = merged(&status.conditions, &wanted, generation, now);
}
