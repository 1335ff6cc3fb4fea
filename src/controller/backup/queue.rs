//! How many Backups of a store may be at work, and whose turn it is. Pure.

use std::collections::BTreeMap;

use crate::api::Backup;
use crate::controller::begun;

use super::decide::is_over;

/// Backups of the same store that are at work, or were there first.
///
/// The order is by creation, then by name: the same for every controller, so that none starts one too many.
pub(in crate::controller) fn ahead<'a>(backup: &Backup, all: impl Iterator<Item = &'a Backup>) -> usize {
    let own = place(backup);
    all.filter(|other| {
        other.metadata.namespace == backup.metadata.namespace
            && other.metadata.uid != backup.metadata.uid
            && other.spec.store_ref.name == backup.spec.store_ref.name
            && !is_over(other)
            && other.metadata.deletion_timestamp.is_none()
            && (has_begun(other) || (place(other) < own && waits(other)))
    })
    .count()
}

/// UIDs of the other Backups that are not over, with how they are called seen from this one. Those that are history
/// never go on with a run of theirs.
pub(super) fn at_work<'a>(
    backup: &Backup,
    all: impl Iterator<Item = &'a Backup>,
) -> BTreeMap<String, String> {
    let others = all.filter(|it| it.metadata.uid != backup.metadata.uid);
    // Nobody is at what leaves.
    let others = others.filter(|it| it.metadata.deletion_timestamp.is_none());
    let others = others.filter(|it| !is_over(it) && !super::history::is_history(it));
    let called = |other: &Backup| {
        let name = other.metadata.name.as_deref().unwrap_or_default();
        match other.metadata.namespace.as_deref() {
            Some(namespace) if other.metadata.namespace != backup.metadata.namespace => {
                format!("Backup {namespace}/{name}")
            }
            _ => format!("Backup {name}"),
        }
    };
    others.filter_map(|it| Some((it.metadata.uid.clone()?, called(it)))).collect()
}

/// Whether its run was begun: it keeps its turn until it is over.
pub(super) fn has_begun(backup: &Backup) -> bool {
    backup.status.as_ref().is_some_and(|status| !status.processes.is_empty())
}

/// Whether it would begin if it could: one that is held back by its user keeps nobody waiting, nor does one whose run
/// was begun elsewhere, or that waits for something else, such as a destination that others don't need.
fn waits(backup: &Backup) -> bool {
    let history = begun::is_marked(&backup.metadata) || super::history::is_history(backup);
    let hindered = backup.status.as_ref().is_some_and(|status| status.failure.is_some());
    backup.spec.suspend != Some(true) && backup.spec.cancel != Some(true) && !history && !hindered
}

fn place(backup: &Backup) -> (Option<jiff::Timestamp>, Option<&str>) {
    let metadata = &backup.metadata;
    (metadata.creation_timestamp.as_ref().map(|time| time.0), metadata.name.as_deref())
}
