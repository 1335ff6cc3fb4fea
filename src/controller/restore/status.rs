//! Writing the controller's part of a Restore's status. Needs the client.

use kube::Client;

use crate::api::{Restore, RestoreStatus};
use crate::controller::status;

/// Writes `status`, if it differs from what is there.
pub(super) async fn write(
    client: &Client,
    restore: &Restore,
    status: &RestoreStatus,
) -> Result<Restore, kube::Error> {
    if !differs(restore, status) {
        return Ok(restore.clone());
    }
    status::apply(client, restore, status).await
}

/// Whether `status` says something else than the resource, of what is the controller's to say.
fn differs(restore: &Restore, status: &RestoreStatus) -> bool {
    let mut known = restore.status.clone().unwrap_or_default();
    known.run = None;
    known.progress = None;
    known != *status
}
