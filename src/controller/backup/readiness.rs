//! Whether the destinations that a Backup writes to are ready. Pure.

use std::collections::BTreeSet;

use crate::api::{BackupStore, ConditionStatus, Failure, ValidatedBackupSpec, ValidatedBackupStore};
use crate::controller::store::StoreReason;

/// Why a destination that the backup writes to is not ready, as `observed` says of its present spec; `None` if all
/// are. The others of the store don't matter.
pub(super) fn hindrance(
    spec: &ValidatedBackupSpec,
    store: &ValidatedBackupStore,
    observed: &BackupStore,
) -> Option<Failure> {
    let localities = spec.source.localities();
    // The register and the manifest are in the default one.
    let own = std::iter::once(None).chain(localities.iter().copied().map(Some));
    // A locality that none takes is the coordinator's to refuse: it knows which tables are of it.
    let own: BTreeSet<&str> = own
        .filter_map(|locality| store.destination_for(locality).ok().map(|(it, _)| it.name.as_str()))
        .collect();
    own.into_iter().find_map(|name| unready(name, observed))
}

/// Why the destination `name` is not ready, as `store` says of its present spec.
pub(in super::super) fn unready(name: &str, store: &BackupStore) -> Option<Failure> {
    let destinations = store.status.as_ref().map_or(&[][..], |it| &it.destinations);
    let conditions = destinations.iter().find(|it| it.name == name).map_or(&[][..], |it| &it.conditions);
    let of_now = |generation: Option<i64>| generation == store.metadata.generation;
    let ready = conditions.iter().find(|it| it.type_ == "Ready" && of_now(it.observed_generation));
    let of = store.metadata.name.as_deref().unwrap_or_default();
    let (reason, message) = match ready.map(|it| (it.status, it)) {
        Some((ConditionStatus::True, _)) => return None,
        Some((ConditionStatus::False, it)) => (
            it.reason.clone(),
            format!("destination {name} of BackupStore {of} is not ready: {}", it.message),
        ),
        Some((ConditionStatus::Unknown, _)) | None => {
            let message = format!("destination {name} of BackupStore {of} has not been probed yet");
            (StoreReason::Probing.reason().to_owned(), message)
        }
    };
    let hint = format!("kubectl describe backupstores.vouchsafe.dev {of} says more; it is waited for");
    Some(Failure { reason, message, hint })
}
