//! Which backup a Restore is of: store, collection, run and manifest. Pure.

use super::observe::Observed;
use super::reasons::RestoreReason as Reason;
use crate::api::{Backup, BackupPhase, BackupStore, Failure, ObjectRef, Restore, RestoreFrom};
use crate::controller::reasons::ControllerReason;

/// A backup, as it can be found without any resource but its store.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Origin {
    /// The BackupStore.
    pub(super) store: BackupStore,
    /// The collection; `None`: the store's prefix itself.
    pub(super) collection: Option<String>,
    /// The run; `None`: the newest sealed one, which the restorer finds.
    pub(super) run: Option<i64>,
    /// The digest of its manifest, as its Backup's proof has it.
    pub(super) manifest_sha256: Option<String>,
    /// The Backup that said so.
    pub(super) backup: Option<String>,
}

/// Why a Restore can't begin.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Unready {
    /// What it names may be there later.
    Waits(Failure),
    /// It never will be.
    Refused(Failure),
}

impl Origin {
    /// The origin in words, for `status.from`.
    #[must_use]
    pub(super) fn text(&self) -> String {
        let run = self.run.map_or_else(|| "the newest sealed run".to_owned(), |run| format!("run {run}"));
        let collection = self.collection.as_deref().map(|it| format!(" of collection {it}"));
        let store = self.store.metadata.name.as_deref().unwrap_or_default();
        let by = self.backup.as_deref().map(|it| format!(" (Backup {it})")).unwrap_or_default();
        let mut text = format!("{run}{} in BackupStore {store}{by}", collection.unwrap_or_default());
        // The status' bound; names are at most 253 bytes of ASCII, a collection may be longer.
        text.truncate((0..=1024.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
        text
    }

    /// `spec.from` as it says just this.
    #[must_use]
    pub(super) fn written(&self) -> RestoreFrom {
        let store = self.store.metadata.name.clone().unwrap_or_default();
        RestoreFrom {
            store_ref: Some(ObjectRef { name: store }),
            collection: self.collection.clone(),
            run: self.run,
            ..RestoreFrom::default()
        }
    }
}

/// Resolves `spec.from` by what there is.
///
/// # Errors
/// What is missing, not finished, or of no use.
pub(super) fn resolve(restore: &Restore, observed: &Observed) -> Result<Origin, Unready> {
    let from = &restore.spec.from;
    let waits = |failure| Err(Unready::Waits(failure));
    if let Some(what) = &observed.unreadable {
        return waits(ControllerReason::SpecRefused.failure(
            format!("spec.from: what it names can't be read: {what}"),
            "it is of another release: mend it, or install that release",
        ));
    }
    let store = |name: &str| match &observed.store {
        Some(store) => Ok(store.clone()),
        None => Err(Unready::Waits(ControllerReason::StoreNotFound.failure(
            format!("there is no BackupStore {name} in this namespace"),
            "create it, or mind the spelling",
        ))),
    };
    match (&from.store_ref, &from.backup, &from.schedule) {
        (Some(reference), _, _) => Ok(Origin {
            store: store(&reference.name)?,
            collection: from.collection.clone(),
            run: from.run,
            manifest_sha256: None,
            backup: None,
        }),
        (None, Some(name), _) => match &observed.backup {
            None => waits(Reason::BackupNotFound.failure(
                format!("spec.from.backup: there is no Backup {name} in this namespace"),
                "create it, or mind the spelling; a backup whose resource is gone is named by storeRef, collection \
                 and run",
            )),
            Some(backup) => of_backup(backup, store),
        },
        (None, None, Some(name)) => match (&observed.backup, observed.has_schedule) {
            (Some(backup), _) => of_backup(backup, store),
            (None, false) => waits(Reason::ScheduleNotFound.failure(
                format!("spec.from.schedule: there is no BackupSchedule {name} in this namespace"),
                "create it, or mind the spelling; the backups of a schedule that is gone are named by backup",
            )),
            (None, true) => waits(Reason::NoBackup.failure(
                format!("spec.from.schedule: BackupSchedule {name} has no Backup that succeeded"),
                "it is waited for; or name another backup",
            )),
        },
        (None, None, None) => Err(Unready::Refused(ControllerReason::SpecRefused.failure(
            "spec.from: names no backup",
            "name a backup, a schedule, or a storeRef with collection and run",
        ))),
    }
}

/// A Backup, if it succeeded: by the run and the manifest of its own proof.
fn of_backup(
    backup: &Backup,
    store: impl FnOnce(&str) -> Result<BackupStore, Unready>,
) -> Result<Origin, Unready> {
    let name = backup.metadata.name.clone().unwrap_or_default();
    let status = backup.status.clone().unwrap_or_default();
    match status.phase {
        Some(BackupPhase::Succeeded) => {}
        Some(phase @ (BackupPhase::Failed | BackupPhase::Canceled)) => {
            let why = status.failure.map(|it| format!(": {}: {}", it.reason, it.message)).unwrap_or_default();
            return Err(Unready::Refused(Reason::BackupFailed.failure(
                format!("Backup {name} is {phase:?}, and there is nothing to restore{why}"),
                "make a Restore of another backup",
            )));
        }
        phase => {
            let phase = phase.map_or_else(|| "not begun".to_owned(), |it| format!("{it:?}"));
            return Err(Unready::Waits(Reason::BackupUnfinished.failure(
                format!("Backup {name} has not ended: it is {phase}"),
                "it is waited for until spec.deadline",
            )));
        }
    }
    let number = status.run.and_then(|run| run.number);
    let manifest = status.proof.and_then(|proof| proof.manifest_sha256);
    let (Some(number), Some(manifest)) = (number, manifest) else {
        return Err(Unready::Refused(Reason::BackupFailed.failure(
            format!("Backup {name} says Succeeded, and its status has no run or no proof"),
            "somebody has changed its status: name its storeRef, collection and run instead",
        )));
    };
    Ok(Origin {
        store: store(&backup.spec.store_ref.name)?,
        collection: backup.spec.collection.clone(),
        run: Some(number),
        manifest_sha256: Some(manifest),
        backup: Some(name),
    })
}

/// The newest of a schedule's Backups that succeeded: within a collection the one with the highest run, which no
/// clock decides; of several collections, the one that the newest resource writes to.
#[must_use]
pub(super) fn latest(backups: Vec<Backup>) -> Option<Backup> {
    let succeeded = |it: &Backup| it.status.as_ref().and_then(|it| it.phase) == Some(BackupPhase::Succeeded);
    let backups: Vec<Backup> = backups.into_iter().filter(succeeded).collect();
    let place = |it: &Backup| (it.spec.store_ref.name.clone(), it.spec.collection.clone());
    let newest =
        backups.iter().max_by_key(|it| it.metadata.creation_timestamp.as_ref().map(|time| time.0))?;
    let newest = place(newest);
    let number = |it: &Backup| it.status.as_ref().and_then(|it| it.run.as_ref()?.number);
    backups.into_iter().filter(|it| place(it) == newest).max_by_key(number)
}
