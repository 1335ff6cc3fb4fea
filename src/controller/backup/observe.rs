//! What there is in the cluster of one Backup. Needs the client.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};

use super::BackupError;
use crate::api::{Backup, BackupStore, Failure};
use crate::controller::jobs::{self, ObservedJob, is_owned};
use crate::controller::pods::{OBJECTS_KEY, objects_name};

/// What there is of one Backup.
#[derive(Debug)]
pub struct Observed {
    /// The BackupStore that it names; absent if there is none, or where its pods were given it already.
    pub store: Option<BackupStore>,
    /// Why that store can't be read: an object of another release.
    pub unreadable: Option<String>,
    /// What its pods are given, once the first was started: the Backup and the store as they were then.
    pub frozen: Option<String>,
    /// Its Jobs, those of others with the same label left out.
    pub jobs: Vec<ObservedJob>,
    /// Backups of its store that are at work, or were there first.
    pub ahead: usize,
    /// UIDs of all Backups that are not over, with how they are called here.
    pub at_work: BTreeMap<String, String>,
    /// What the API server refused to make the last time.
    pub refused: Option<Failure>,
}

/// Looks; at what this process knows by itself it does not.
pub(super) async fn observe(client: &Client, backup: &Backup) -> Result<Observed, BackupError> {
    let namespace = backup.namespace().unwrap_or_default();
    let uid = backup.uid().unwrap_or_default();
    let frozen = frozen(client, backup).await?;
    let jobs = jobs::of_resource(client, &namespace, &uid).await.map_err(BackupError::Observe)?;
    // A run that was begun has its own copy: what becomes of the store is nothing to it.
    let (store, unreadable) = match &frozen {
        Some(_) => (None, None),
        None => store_named(client, &namespace, &backup.spec.store_ref.name)
            .await
            .map_err(BackupError::Observe)?,
    };
    Ok(Observed { store, unreadable, frozen, jobs, ahead: 0, at_work: BTreeMap::new(), refused: None })
}

/// The store of this name, or why it can't be read.
pub(in crate::controller) async fn store_named(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<(Option<BackupStore>, Option<String>), kube::Error> {
    let stores: Api<DeserializeGuard<BackupStore>> = Api::namespaced(client.clone(), namespace);
    Ok(match stores.get_opt(name).await? {
        None => (None, None),
        Some(DeserializeGuard(Ok(store))) => (Some(store), None),
        Some(DeserializeGuard(Err(invalid))) => (None, Some(invalid.error)),
    })
}

/// What its pods are given, once the first was started.
pub(super) async fn frozen(client: &Client, backup: &Backup) -> Result<Option<String>, BackupError> {
    let uid = backup.uid().unwrap_or_default();
    let config_maps: Api<ConfigMap> =
        Api::namespaced(client.clone(), &backup.namespace().unwrap_or_default());
    let found = config_maps.get_opt(&objects_name(&uid)).await.map_err(BackupError::Observe)?;
    Ok(found.filter(|it| is_owned(it, &uid)).and_then(|it| it.data?.remove(OBJECTS_KEY)))
}
