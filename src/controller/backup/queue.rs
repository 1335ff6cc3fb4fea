//! How many Backups of a store may be at work, and whose turn it is. Pure.

use crate::api::Backup;

use super::decide::is_over;

/// Backups of the same store that are at work, or were there first.
///
/// The order is by creation, then by name: the same for every controller, so that none starts one too many.
pub(super) fn ahead<'a>(backup: &Backup, all: impl Iterator<Item = &'a Backup>) -> usize {
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

/// Whether its run was begun: it keeps its turn until it is over.
pub(super) fn has_begun(backup: &Backup) -> bool {
    backup.status.as_ref().is_some_and(|status| !status.processes.is_empty())
}

/// Whether it would begin if it could: one that is held back by its user keeps nobody waiting, nor does one whose run
/// was begun elsewhere.
fn waits(backup: &Backup) -> bool {
    let begun =
        backup.metadata.annotations.as_ref().is_some_and(|it| it.contains_key(super::history::BEGUN_AS));
    let history = begun || super::history::is_history(backup);
    backup.spec.suspend != Some(true) && backup.spec.cancel != Some(true) && !history
}

fn place(backup: &Backup) -> (Option<jiff::Timestamp>, Option<&str>) {
    let metadata = &backup.metadata;
    (metadata.creation_timestamp.as_ref().map(|time| time.0), metadata.name.as_deref())
}
