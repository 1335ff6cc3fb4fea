//! Whether a Backup is history: an object that was restored or applied again from elsewhere, after its run. Pure.

use jiff::{SignedDuration, Timestamp};

use super::observe::Observed;
use crate::api::marks::SCHEDULED_AT;
use crate::api::{Backup, Failure};
use crate::controller::begun;

/// How long after a schedule decided it a Backup may be seen for the first time: both are this controller's doing, a
/// moment apart, so one that is older lay somewhere else meanwhile.
const FIRST_SEEN_WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// Why this Backup must not be run: it was, or its time has passed. `None` for one that is new, or on its way.
pub(super) fn lost(backup: &Backup, observed: &Observed, now: Timestamp) -> Option<Failure> {
    let processes = backup.status.as_ref().map(|status| &*status.processes);
    if begun::is_known(processes, &observed.jobs) {
        return None;
    }
    let annotations = backup.metadata.annotations.as_ref()?;
    let message = if begun::is_marked(&backup.metadata) {
        begun::NO_STATUS.to_owned()
    } else {
        if backup.status.as_ref().is_some_and(|status| status.phase.is_some()) && !is_history(backup) {
            return None;
        }
        let decided = annotations.get(SCHEDULED_AT)?;
        // What nobody can read was not written by a schedule.
        let late = decided.parse::<Timestamp>().map_or(true, |at| now.duration_since(at) > FIRST_SEEN_WITHIN);
        if !late {
            return None;
        }
        format!("its schedule started it at {decided}, and nobody has seen it since")
    };
    Some(begun::lost(message, "vouchsafe list shows what is in the bucket; delete it, or make a new Backup"))
}

/// Whether it was found to be history before.
pub(in crate::controller) fn is_history(backup: &Backup) -> bool {
    begun::says_lost(backup.status.as_ref().and_then(|status| status.failure.as_ref()))
}
