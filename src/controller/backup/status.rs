//! Writing the controller's part of a status. Needs the client.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::BackupError;
use crate::api::{API_VERSION, Backup, BackupStatus};

/// The field manager of everything that the controller writes into a Backup's status.
const MANAGER: &str = "vouchsafe-controller";

/// Writes `status`, if it differs from what is there. The resource's version goes with it, so that a controller
/// that was deposed, or saw an older object, writes nothing.
pub(super) async fn write(
    client: &Client,
    backup: &Backup,
    status: &BackupStatus,
) -> Result<Backup, BackupError> {
    if !differs(backup, status) {
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
        },
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch_status(&backup.name_any(), &parameters, &Patch::Apply(&patch))
        .await
        .map_err(BackupError::Status)
}

/// Whether `status` says something else than the resource, of what is the controller's to say.
fn differs(backup: &Backup, status: &BackupStatus) -> bool {
    let mut known = backup.status.clone().unwrap_or_default();
    known.run = None;
    known.progress = None;
    known != *status
}
