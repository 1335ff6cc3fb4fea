//! Conditions that follow from the rest of a Restore's status. Pure.

use jiff::Timestamp;

use crate::api::{RestorePhase, RestoreStatus};
use crate::controller::begun;
use crate::controller::conditions::{Wanted, merged, told};

/// Whether a phase is the last one.
pub(super) const fn is_last(phase: RestorePhase) -> bool {
    matches!(phase, RestorePhase::Succeeded | RestorePhase::Failed | RestorePhase::Canceled)
}

/// Sets every condition of `status`; one that says what it said keeps its time.
pub(super) fn set(status: &mut RestoreStatus, suspended: bool, generation: Option<i64>, now: Timestamp) {
    // It was begun before, and is not begun again.
    let lost = begun::says_lost(status.failure.as_ref());
    let phase = status.phase.unwrap_or(RestorePhase::Pending);
    let over = is_last(phase);
    let succeeded = phase == RestorePhase::Succeeded;
    let failure = status.failure.as_ref();
    let reason = failure.map_or_else(|| format!("{phase:?}"), |it| it.reason.clone());
    let message = failure.map(|it| it.message.clone()).unwrap_or_default();
    let wanted = [
        ("Suspended", suspended && !over),
        ("Complete", succeeded),
        ("Failed", over && !succeeded),
        // kstatus: Reconciling while there is more to come, Stalled where there is not and it should have been.
        ("Reconciling", !over && !lost),
        ("Stalled", (over && !succeeded) || lost),
    ];
    let wanted = wanted.map(|(type_, holds)| Wanted {
        type_,
        status: told(holds),
        reason: &reason,
        message: &message,
    });
    status.conditions = merged(&status.conditions, &wanted, generation, now);
}
