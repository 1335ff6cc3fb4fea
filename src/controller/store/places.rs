//! Where the destinations of stores are, so that two stores on one prefix are told. Pure.

use std::collections::BTreeMap;

use crate::api::{BackupStore, FolderPlace, Place, S3Place, ValidatedBackupStore, ValidatedDestination};

/// A place that a store writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which place: equal for equal places.
    pub place: String,
    /// By which store, as `namespace/name`.
    pub by: String,
}

/// The places of a store; none of one that is refused.
pub(super) fn places(store: &BackupStore) -> Vec<Taken> {
    let namespace = store.metadata.namespace.clone().unwrap_or_default();
    let by = format!("{namespace}/{}", store.metadata.name.as_deref().unwrap_or_default());
    let Ok(valid) = ValidatedBackupStore::try_from(store.clone()) else { return Vec::new() };
    let place = |it: &ValidatedDestination| Taken { place: key(it, &namespace), by: by.clone() };
    valid.destinations.iter().map(place).collect()
}

/// The stores that have the places of `store` already, by destination.
pub(super) fn shared(
    store: &ValidatedBackupStore,
    namespace: &str,
    taken: &[Taken],
) -> BTreeMap<String, String> {
    let by = |it: &ValidatedDestination| {
        let place = key(it, namespace);
        let other = taken.iter().find(|taken| taken.place == place)?;
        Some((it.name.clone(), other.by.clone()))
    };
    store.destinations.iter().filter_map(by).collect()
}

/// Equal for equal places. A bucket is known by its server, and a claim by its namespace.
fn key(destination: &ValidatedDestination, namespace: &str) -> String {
    match &destination.place {
        Place::S3(S3Place { endpoint, .. }) => {
            let server = endpoint.as_deref().unwrap_or_default().trim_end_matches('/').to_lowercase();
            format!("{server} {}", destination.place)
        }
        Place::Folder(FolderPlace::Claim { .. }) => format!("{namespace} {}", destination.place),
        Place::Folder(FolderPlace::Here(_)) => destination.place.to_string(),
    }
}
