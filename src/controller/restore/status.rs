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

/// Says of a Restore that has ended that a change of its spec was seen. It changes nothing; but who waits for the newest
/// generation, as kstatus does, would wait for ever.
pub(super) async fn acknowledge(client: &Client, restore: &Restore) -> Result<(), kube::Error> {
    let generation = restore.metadata.generation;
    let status = restore.status.clone().filter(|status| status.observed_generation != generation);
    let Some(mut status) = status else { return Ok(()) };
    status.run = None;
    status.progress = None;
    status.observed_generation = generation;
    status.conditions.iter_mut().for_each(|it| it.observed_generation = generation);
    write(client, restore, &status).await.map(drop)
}

/// Whether `status` says something else than the resource, of what is the controller's to say.
fn differs(restore: &Restore, status: &RestoreStatus) -> bool {
    let mut known = restore.status.clone().unwrap_or_default();
    known.run = None;
    known.progress = None;
    known != *status
}
