//! Writing the controller's part of a Backup's status. Needs the client.

use kube::{Api, Client, ResourceExt};

use super::BackupError;
use super::decide::is_over;
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

/// Says of a Backup that has ended that a change of its spec was seen. It changes nothing; but who waits for the newest
/// generation, as kstatus does, would wait for ever.
///
/// It is read again first: of what has ended, the watch keeps a part, and a status is written whole.
pub(super) async fn acknowledge(client: &Client, backup: &Backup) -> Result<(), BackupError> {
    if acknowledged(backup).is_none() {
        return Ok(());
    }
    let api: Api<Backup> = Api::namespaced(client.clone(), &backup.namespace().unwrap_or_default());
    let whole = api.get_opt(&backup.name_any()).await.map_err(BackupError::Observe)?;
    let whole = whole.filter(|it| it.metadata.uid == backup.metadata.uid && is_over(it));
    match whole.as_ref().and_then(|it| Some((it, acknowledged(it)?))) {
        Some((whole, status)) => write(client, whole, &status).await.map(drop),
        None => Ok(()),
    }
}

/// The status of the resource, as it is of the newest generation; none if it is already.
fn acknowledged(backup: &Backup) -> Option<BackupStatus> {
    let generation = backup.metadata.generation;
    let mut status = backup.status.clone().filter(|status| status.observed_generation != generation)?;
    status.run = None;
    status.progress = None;
    status.observed_generation = generation;
    status.conditions.iter_mut().for_each(|it| it.observed_generation = generation);
    Some(status)
}

/// Whether `status` says something else than the resource, of what is the controller's to say.
fn differs(backup: &Backup, status: &BackupStatus) -> bool {
    let mut known = backup.status.clone().unwrap_or_default();
    known.run = None;
    known.progress = None;
    known != *status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_ended_is_of_the_newest_generation_and_says_what_it_said() {
        let backup = |generation: i64| -> Backup {
            serde_json::from_value(json!({
                "apiVersion": crate::api::API_VERSION, "kind": "Backup",
                "metadata": {"name": "first", "namespace": "shop", "generation": generation},
                "spec": {"storeRef": {"name": "s"}, "source": {"postgres": {"database": "d", "endpoints": []}}},
                "status": {"observedGeneration": 1, "phase": "Failed", "run": {"number": 7}, "conditions": [
                    {"type": "Failed", "status": "True", "reason": "Unreachable", "message": "m",
                     "lastTransitionTime": "2026-11-22T10:00:00Z", "observedGeneration": 1},
                ]},
            }))
            .unwrap()
        };
        assert_eq!(acknowledged(&backup(1)), None);
        let mut status = acknowledged(&backup(2)).unwrap();
        assert_eq!(
            (status.observed_generation, status.conditions[0].observed_generation),
            (Some(2), Some(2))
        );
        assert_eq!(status.run, None, "the coordinator's");
        status.observed_generation = Some(1);
        status.conditions[0].observed_generation = Some(1);
        assert!(!differs(&backup(1), &status));
    }
}
