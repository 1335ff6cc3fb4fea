//! What there is in the cluster of one Restore. Needs the client.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};

use super::origin::latest;
use crate::api::marks::{SCHEDULE, schedule_of};
use crate::api::{Backup, BackupSchedule, BackupStore, Document, Failure, Restore, parse_documents};
use crate::controller::backup::store_named;
use crate::controller::jobs::{self, ObservedJob, is_owned};
use crate::controller::pods::{OBJECTS_KEY, objects_name};

/// What there is of one Restore.
#[derive(Debug, Default)]
pub struct Observed {
    /// What its pods are given, once the first was started. With it, nothing else is looked for.
    pub frozen: Option<String>,
    /// The Backup that it names, or the latest of the schedule that it names; absent if there is none.
    pub backup: Option<Backup>,
    /// Whether the schedule that it names is there.
    pub has_schedule: bool,
    /// The BackupStore; if it is gone, as the Backup's own pods were given it; absent if there is none.
    pub store: Option<BackupStore>,
    /// Which of those can't be read, and why: objects of another release.
    pub unreadable: Option<String>,
    /// Why an object of it could not be made the last time, where that was a refusal.
    pub refused: Option<Failure>,
    /// Its Jobs, those of others with the same label left out.
    pub jobs: Vec<ObservedJob>,
}

/// Looks.
pub(super) async fn observe(
    client: &Client,
    restore: &Restore,
    refused: Option<Failure>,
) -> Result<Observed, kube::Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let uid = restore.uid().unwrap_or_default();
    let jobs = jobs::of_resource(client, &namespace, &uid).await?;
    let frozen = given(client, &namespace, &uid).await?;
    let mut observed = Observed { frozen, refused, jobs, ..Observed::default() };
    if observed.frozen.is_some() {
        return Ok(observed);
    }
    let from = &restore.spec.from;
    if let Some(name) = &from.backup {
        let backups: Api<DeserializeGuard<Backup>> = Api::namespaced(client.clone(), &namespace);
        match backups.get_opt(name).await? {
            Some(DeserializeGuard(Ok(backup))) => observed.backup = Some(backup),
            Some(DeserializeGuard(Err(invalid))) => {
                observed.unreadable = Some(format!("Backup {name}: {}", invalid.error))
            }
            None => {}
        }
    } else if let Some(name) = &from.schedule {
        let schedules: Api<BackupSchedule> = Api::namespaced(client.clone(), &namespace);
        observed.has_schedule = schedules.get_metadata_opt(name).await?.is_some();
        observed.backup = latest(of_schedule(client, &namespace, name).await?);
    }
    let of_backup = observed.backup.as_ref().map(|it| &it.spec.store_ref);
    if let Some(reference) = from.store_ref.as_ref().or(of_backup) {
        let (store, unreadable) = store_named(client, &namespace, &reference.name).await?;
        observed.store = store;
        if let Some(error) = unreadable {
            observed.unreadable = Some(format!("BackupStore {}: {error}", reference.name));
        }
    }
    if let (None, None, Some(backup)) = (&observed.store, &observed.unreadable, &observed.backup) {
        let text = given(client, &namespace, &backup.uid().unwrap_or_default()).await?;
        observed.store = text.and_then(|text| store_of(&text));
    }
    Ok(observed)
}

/// What the pods of the resource with this UID are given.
async fn given(client: &Client, namespace: &str, uid: &str) -> Result<Option<String>, kube::Error> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = config_maps.get_opt(&objects_name(uid)).await?;
    Ok(found.filter(|it| is_owned(it, uid)).and_then(|it| it.data?.remove(OBJECTS_KEY)))
}

/// The Backups that a schedule made; one that this release can't read is left out.
async fn of_schedule(client: &Client, namespace: &str, name: &str) -> Result<Vec<Backup>, kube::Error> {
    let labelled = ListParams::default().labels(SCHEDULE);
    let backups: Api<DeserializeGuard<Backup>> = Api::namespaced(client.clone(), namespace);
    let backups = backups.list(&labelled).await?.items.into_iter().filter_map(|it| it.0.ok());
    Ok(backups.filter(|it| schedule_of(&it.metadata) == Some(name)).collect())
}

fn store_of(text: &str) -> Option<BackupStore> {
    parse_documents(text).ok()?.into_iter().find_map(|document| match document {
        Document::BackupStore(store) => Some(*store),
        _ => None,
    })
}
