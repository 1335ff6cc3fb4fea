//! Making what was built. Needs the client.

use std::fmt::Debug;

use kube::api::PostParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BackupError;
use super::build::Built;
use super::observe::is_owned;
use crate::api::Backup;

/// Makes every object that is not there yet.
pub(super) async fn apply(client: &Client, backup: &Backup, built: Built) -> Result<(), BackupError> {
    let Built { config_map, service_account, role, role_binding, jobs } = built;
    if let Some(object) = config_map {
        make(client, backup, object).await?;
    }
    if let Some(object) = service_account {
        make(client, backup, object).await?;
    }
    if let Some(object) = role {
        make(client, backup, object).await?;
    }
    if let Some(object) = role_binding {
        make(client, backup, object).await?;
    }
    for object in jobs {
        make(client, backup, object).await?;
    }
    Ok(())
}

/// Creates an object. One of the same name is this one, if the Backup controls it: its creation was not answered,
/// or another controller made it. If not, it is somebody else's, and an error.
async fn make<K>(client: &Client, backup: &Backup, object: K) -> Result<(), BackupError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let (kind, name) = (K::kind(&()).into_owned(), object.name_any());
    let failed = |source| BackupError::Apply { kind: kind.clone(), name: name.clone(), source };
    let api: Api<K> = Api::namespaced(client.clone(), &backup.namespace().unwrap_or_default());
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let found = api.get(&name).await.map_err(failed)?;
            match is_owned(&found, &backup.uid().unwrap_or_default()) {
                true => Ok(()),
                false => Err(BackupError::Taken { kind: kind.clone(), name: name.clone() }),
            }
        }
        Err(error) => Err(failed(error)),
    }
}
