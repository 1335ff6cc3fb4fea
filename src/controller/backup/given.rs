//! What the pods of a run are given: the Backup and its store, as they were when it began. Pure.

use super::observe::Observed;
use super::readiness;
use crate::api::{
    Backup, BackupStore, Document, Failure, ValidatedBackup, ValidatedBackupStore, parse_documents,
};
use crate::controller::prunable;
use crate::controller::reasons::ControllerReason as Reason;

/// A Backup and its store, as they were when the run began.
#[derive(Clone, Debug)]
pub struct Given {
    /// As pods read them.
    pub text: String,
    /// Whether the cluster has that text already.
    pub frozen: bool,
    /// The Backup.
    pub backup: ValidatedBackup,
    /// The store.
    pub store: ValidatedBackupStore,
}

/// Why there is nothing to give.
pub(super) enum Unready {
    /// Not yet.
    Waits(Failure),
    /// It never will be.
    Refused(Failure),
}

/// The resources as the run's pods have them, or will have them.
pub(super) fn given(backup: &Backup, observed: &Observed) -> Result<Given, Unready> {
    let refused = |message: String| {
        Unready::Refused(Reason::SpecRefused.failure(message, "make a Backup anew, with what each line says"))
    };
    let (backup, store, text, frozen) = match &observed.frozen {
        Some(text) => {
            let (backup, store) = thawed(text)
                .ok_or_else(|| refused("what its pods were given can't be read any more".into()))?;
            (backup, store, text.clone(), true)
        }
        None => {
            let name = &backup.spec.store_ref.name;
            if let Some(error) = &observed.unreadable {
                let message = format!("spec.storeRef: BackupStore {name} can't be read: {error}");
                let hint = "it is of another release: mend it, or install that release";
                return Err(Unready::Waits(Reason::SpecRefused.failure(message, hint)));
            }
            let store = observed.store.clone().ok_or_else(|| {
                let message = format!("spec.storeRef: there is no BackupStore {name} in this namespace");
                Unready::Waits(Reason::StoreNotFound.failure(message, "create it, or mind the spelling"))
            })?;
            let text = super::build::objects(backup, &store);
            (backup.clone(), store, text, false)
        }
    };
    let raw = store.clone();
    let backup = ValidatedBackup::try_from(backup).map_err(|refusals| refused(refusals.to_string()))?;
    let store = ValidatedBackupStore::try_from(store).map_err(|refusals| refused(refusals.to_string()))?;
    // What has begun goes on: its own attempts and its deadline say for how long.
    if !frozen {
        // Before anything is stored that nobody could delete as the user wants it.
        let undeletable =
            backup.spec.deletes_data.then(|| prunable::without_credentials(&backup.spec.store, &store));
        let hindrance = || readiness::hindrance(&backup.spec, &store, &raw);
        if let Some(failure) = undeletable.flatten().or_else(hindrance) {
            return Err(Unready::Waits(failure));
        }
    }
    Ok(Given { text, frozen, backup, store })
}

fn thawed(text: &str) -> Option<(Backup, BackupStore)> {
    let (mut backup, mut store) = (None, None);
    for document in parse_documents(text).ok()? {
        match document {
            Document::Backup(found) => backup = Some(*found),
            Document::BackupStore(found) => store = Some(*found),
            _ => {}
        }
    }
    backup.zip(store)
}
