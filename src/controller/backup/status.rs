//! Writing the controller's part of a Backup's status. Needs the client.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::BackupError;
use super::history::BEGUN_AS;
use crate::api::{API_VERSION, Backup, BackupStatus};
use crate::controller::status;

/// The field manager of what the controller writes into a Backup's metadata.
const MARKS: &str = "vouchsafe-controller-marks";

/// Marks the Backup as begun, so that a copy of it, made where statuses are not kept, is not run again.
pub(super) async fn mark_as_begun(client: &Client, backup: &Backup) -> Result<Backup, BackupError> {
    if backup.annotations().contains_key(BEGUN_AS) {
        return Ok(backup.clone());
    }
    let api: Api<Backup> = Api::namespaced(client.clone(), &backup.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": API_VERSION,
        "kind": "Backup",
        "metadata": {
            "name": backup.name_any(),
            "uid": backup.uid(),
            "resourceVersion": backup.resource_version(),
            "annotations": {BEGUN_AS: backup.uid()},
        },
    });
    let parameters = PatchParams::apply(MARKS).force();
    api.patch(&backup.name_any(), &parameters, &Patch::Apply(&patch)).await.map_err(BackupError::Status)
}

/// Writes `status`, if it differs from what is there.
pub(super) async fn write(
    client: &Client,
    backup: &Backup,
    status: &BackupStatus,
) -> Result<Backup, BackupError> {
    if !differs(backup, status) {
        return Ok(backup.clone());
    }
    status::apply(client, backup, status).await.map_err(BackupError::Status)
}

/// Whether `status` says something else than the resource, of what is the controller's to say.
fn differs(backup: &Backup, status: &BackupStatus) -> bool {
    let mut known = backup.status.clone().unwrap_or_default();
    known.run = None;
    known.progress = None;
    known != *status
}
