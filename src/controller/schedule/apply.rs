//! Making the Backup that is due, and forgetting failed and retired ones. Needs the client.

use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use super::ScheduleError;
use super::decide::Forget;
use crate::api::{Backup, BackupSchedule};

/// Makes `backup`, and deletes the resources of `forget`. Answers why the API server does not take the Backup, if it
/// doesn't.
pub(super) async fn apply(
    client: &Client,
    schedule: &BackupSchedule,
    backup: Option<Backup>,
    forget: &[Forget],
) -> Result<Option<String>, ScheduleError> {
    let api: Api<Backup> = Api::namespaced(client.clone(), &schedule.namespace().unwrap_or_default());
    let refused = match backup {
        None => None,
        Some(backup) => create(&api, &backup).await?,
    };
    for Forget { name, uid, why } in forget {
        let only_this = Preconditions { uid: Some(uid.clone()), resource_version: None };
        match api.delete(name, &DeleteParams::default().preconditions(only_this)).await {
            Ok(_) => tracing::info!(backup = %name, why, "the resource of a run was deleted"),
            // Gone, or another object by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(source) => return Err(ScheduleError::Delete { name: name.clone(), source }),
        }
    }
    Ok(refused)
}

async fn create(api: &Api<Backup>, backup: &Backup) -> Result<Option<String>, ScheduleError> {
    let name = backup.name_any();
    match api.create(&PostParams::default(), backup).await {
        Ok(_) => Ok(None),
        // There is one of that name: made by us, and the answer was lost; or somebody else's. The next look tells.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        // Not for lack of patience: what it says of itself is refused, by the schema, a policy, a quota or a role.
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 404 | 422) => {
            Ok(Some(status.message))
        }
        Err(source) => Err(ScheduleError::Create { name, source }),
    }
}
