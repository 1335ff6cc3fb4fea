//! Whether a Backup is history: an object that was restored or applied again from elsewhere, after its run. Pure.

use jiff::Timestamp;

use super::observe::Observed;
use crate::api::{Backup, Failure};
use crate::controller::reasons::ControllerReason as Reason;

/// The annotation that a Backup carries once its run was begun: its UID then. It travels with the object where a
/// status does not: `kubectl get -o yaml`, Velero.
pub(super) const BEGUN_AS: &str = "vouchsafe.dev/begun-as";

/// The annotation of a Backup made by a schedule: until when it may begin, RFC 3339.
pub(super) const START_BEFORE: &str = "vouchsafe.dev/start-before";

/// Why this Backup must not be run: it was, or its time has passed. `None` for one that is new, or on its way.
pub(super) fn lost(backup: &Backup, observed: &Observed, now: Timestamp) -> Option<Failure> {
    let known = backup.status.as_ref().is_some_and(|status| !status.processes.is_empty());
    if known || !observed.jobs.is_empty() || observed.frozen.is_some() {
        return None;
    }
    let annotations = backup.metadata.annotations.as_ref()?;
    let message = if annotations.contains_key(BEGUN_AS) {
        "its run was begun before, and what became of it is not in its status any more".to_owned()
    } else {
        let until = annotations.get(START_BEFORE)?;
        // What nobody can read was not written by a schedule.
        let past = until.parse::<Timestamp>().map_or(true, |until| until < now);
        if !past {
            return None;
        }
        format!("its schedule wanted it to begin before {until}")
    };
    let hint =
        "it is not run again: vouchsafe list shows what is in the bucket; delete it, or make a new Backup";
    Some(Reason::HistoryLost.failure(message, hint))
}
