//! What there is in the cluster of one BackupStore. Needs the client.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};

use super::places::{Taken, places};
use crate::api::{AccessMode, BackupStore, Failure};
use crate::controller::Context;
use crate::controller::jobs::{self, ObservedJob};

/// What there is of one BackupStore.
#[derive(Debug, Default)]
pub struct Observed {
    /// Its Jobs, those of others with the same label left out.
    pub jobs: Vec<ObservedJob>,
    /// Places that older stores of the watched namespaces write to.
    pub taken: Vec<Taken>,
    /// Why an object of it could not be made the last time, where that was a refusal.
    pub refused: Option<Failure>,
}

/// Looks.
pub(super) async fn observe(context: &Context, store: &BackupStore) -> Result<Observed, kube::Error> {
    let client = &context.client;
    let uid = store.uid().unwrap_or_default();
    let jobs = jobs::of_resource(client, &store.namespace().unwrap_or_default(), &uid).await?;
    let mut taken = Vec::new();
    let scopes: Vec<Api<DeserializeGuard<BackupStore>>> = match &context.settings.namespaces[..] {
        [] => vec![Api::all(client.clone())],
        named => named.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect(),
    };
    for api in scopes {
        let stores = api.list(&ListParams::default()).await?.items.into_iter();
        // One that this release can't read takes nothing that it knows of.
        for other in stores.filter_map(|it| it.0.ok()).filter(|other| is_older(other, store)) {
            taken.extend(places(&other));
        }
    }
    Ok(Observed { jobs, taken, refused: context.refusals.of(&uid) })
}

/// Whether `other` has the elder right to its places: one that only reads takes none from anybody.
fn is_older(other: &BackupStore, store: &BackupStore) -> bool {
    let age = |it: &BackupStore| {
        let made = it.metadata.creation_timestamp.as_ref().map(|Time(time)| *time);
        (made, it.metadata.uid.clone())
    };
    other.spec.access_mode != Some(AccessMode::ReadOnly) && age(other) < age(store)
}
