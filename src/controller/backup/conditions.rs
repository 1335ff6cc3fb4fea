//! Conditions that follow from the rest of a Backup's status. Pure.

use jiff::Timestamp;

use crate::api::{BackupPhase, BackupStatus, RunStatus};
use crate::controller::conditions::{Wanted, merged, told};
use crate::controller::reasons::ControllerReason as Reason;

/// Why a Backup does not go on.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// It is suspended.
    pub(super) suspended: bool,
    /// It waits for its turn; with its place.
    pub(super) queued: Option<String>,
    /// It was run before, and is not run again.
    pub(super) history: bool,
}

/// Sets every condition of `status`; one that says what it said keeps its time.
pub(super) fn set(
    status: &mut BackupStatus,
    run: &RunStatus,
    held: &Held,
    generation: Option<i64>,
    now: Timestamp,
) {
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
        ("Reconciling", !over && !held.history),
        ("Stalled", (over && !succeeded) || held.history),
    ];
    let wanted = wanted.map(|(type_, holds)| Wanted {
        type_,
        status: told(holds),
        reason: &reason,
        message: &message,
    });
    let queued = held.queued.as_deref();
    let halted = [
        ("Queued", queued.is_some(), Reason::Queued, queued.unwrap_or_default()),
        ("Suspended", held.suspended, Reason::Suspended, "its pods are gone or go; spec.suspend holds it"),
    ];
    // Only where they say something, or have said it: most Backups never wait.
    let known = |type_: &str| status.conditions.iter().any(|it| it.type_ == type_);
    let halted = halted.iter().filter(|(type_, holds, ..)| *holds || known(type_));
    let halted = halted.map(|(type_, holds, why, message)| Wanted {
        type_,
        status: told(*holds),
        reason: if *holds { why.reason() } else { &reason },
        message: if *holds { message } else { "" },
    });
    let wanted: Vec<Wanted<'_>> = wanted.into_iter().chain(halted).collect();
    status.conditions = merged(&status.conditions, &wanted, generation, now);
}
