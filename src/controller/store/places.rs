//! Where the destinations of stores are, so that two stores on one prefix are told. Pure.

use std::collections::BTreeMap;

use crate::api::{BackupStore, FolderPlace, Place, ValidatedBackupStore, ValidatedDestination};

/// A place that a store writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which place.
    pub place: Place,
    /// The store's namespace: a claim is known by it.
    pub namespace: String,
    /// By which store, as `namespace/name`.
    pub by: String,
}

/// The places of a store; none of one that is refused.
pub(super) fn places(store: &BackupStore) -> Vec<Taken> {
    let namespace = store.metadata.namespace.clone().unwrap_or_default();
    let by = format!("{namespace}/{}", store.metadata.name.as_deref().unwrap_or_default());
    let Ok(valid) = ValidatedBackupStore::try_from(store.clone()) else { return Vec::new() };
    let place = |it: &ValidatedDestination| Taken {
        place: it.place.clone(),
        namespace: namespace.clone(),
        by: by.clone(),
    };
    valid.destinations.iter().map(place).collect()
}

/// The stores that have the places of `store` already, or one around or inside it, by destination. A collection is a
/// folder below its store's place: of nested places, one store's collection may be the other's whole.
pub(super) fn shared(
    store: &ValidatedBackupStore,
    namespace: &str,
    taken: &[Taken],
) -> BTreeMap<String, String> {
    let by = |it: &ValidatedDestination| {
        let of_namespace = matches!(it.place, Place::Folder(FolderPlace::Claim { .. }));
        let mut here = taken.iter().filter(|taken| !of_namespace || taken.namespace == namespace);
        let other = here.find(|taken| taken.place.overlaps(&it.place))?;
        Some((it.name.clone(), other.by.clone()))
    };
    store.destinations.iter().filter_map(by).collect()
}
