//! Writing the controller's part of a Backup's status. Needs the client.

use kube::Client;

use super::BackupError;
use crate::api::{Backup, BackupStatus};
use crate::controller::status;

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
