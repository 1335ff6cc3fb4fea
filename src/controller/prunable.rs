//! Whether something may be deleted from a store: its spec, its credentials and its last probe. Pure.

use super::backup::readiness;
use super::reasons::ControllerReason as Reason;
use crate::api::{AccessMode, BackupStore, Failure, ValidatedBackupStore};

/// The store, as the API server has it and checked, if a prune may be started in it.
///
/// # Errors
/// Why not; all of it is waited for.
pub(super) fn store(
    name: &str,
    store: Option<&BackupStore>,
) -> Result<(BackupStore, ValidatedBackupStore), Failure> {
    let Some(store) = store else {
        let message = format!("there is no BackupStore {name} that this release can read");
        return Err(Reason::StoreNotFound.failure(message, "create it; it is waited for"));
    };
    let refused = |message: String| {
        Reason::SpecRefused.failure(message, format!("mend BackupStore {name}; it is waited for"))
    };
    let valid = ValidatedBackupStore::try_from(store.clone()).map_err(|it| refused(it.to_string()))?;
    if valid.access_mode == AccessMode::ReadOnly {
        return Err(refused(format!("BackupStore {name} has accessMode ReadOnly")));
    }
    if let Some(failure) = without_credentials(name, &valid) {
        return Err(failure);
    }
    match valid.destinations.iter().find_map(|it| readiness::unready(&it.name, store)) {
        Some(failure) => Err(failure),
        None => Ok((store.clone(), valid)),
    }
}

/// Why nothing can be deleted from the store: a destination has credentials of its own for writing, and none for
/// deleting.
pub(super) fn without_credentials(name: &str, store: &ValidatedBackupStore) -> Option<Failure> {
    let without = |it: &&crate::api::ValidatedDestination| {
        it.credentials_secret.is_some() && it.delete_credentials_secret.is_none()
    };
    let destination = store.destinations.iter().find(without)?;
    let message = format!(
        "spec.destinations[{}] of BackupStore {name} has credentialsSecret and no deleteCredentialsSecret",
        destination.name
    );
    let hint = "set deleteCredentialsSecret: only what deletes gets it; it is looked at again";
    Some(Reason::DeleteCredentialsMissing.failure(message, hint))
}
