//! The finalizer of Backups whose data is to be deleted with them.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::BackupError;
use crate::api::{Backup, DeletionPolicy};

/// While a Backup has it, it can't go before the controller has seen to its data.
pub(super) const FINALIZER: &str = "vouchsafe.dev/delete-data";

/// Whether the user wants the data deleted with the Backup. Pure.
pub(super) fn is_meant(backup: &Backup) -> bool {
    backup.spec.deletion_policy == Some(DeletionPolicy::Delete)
}

/// Whether the Backup waits for the controller before it goes. Pure.
pub(super) fn is_held(backup: &Backup) -> bool {
    backup.finalizers().iter().any(|it| it == FINALIZER)
}

/// The finalizers that a Backup is to have, if it has others: ours while it says Delete, and never otherwise. One that
/// leaves gets none: the API server would refuse it. Pure.
fn wanted(backup: &Backup) -> Option<Vec<String>> {
    let wants = is_meant(backup) && (is_held(backup) || backup.metadata.deletion_timestamp.is_none());
    if wants == is_held(backup) {
        return None;
    }
    let others = backup.finalizers().iter().filter(|it| *it != FINALIZER).cloned();
    Some(others.chain(wants.then(|| FINALIZER.to_owned())).collect())
}

/// Gives the Backup its finalizer, or takes it away, as it says now. `None` if it is gone. Before anything of the
/// Backup is begun: what was stored without the finalizer would stay unseen.
pub(super) async fn keep(client: &Client, backup: &Backup) -> Result<Option<Backup>, BackupError> {
    match wanted(backup) {
        None => Ok(Some(backup.clone())),
        Some(finalizers) => set(client, backup, &finalizers).await,
    }
}

/// Lets the Backup go.
pub(super) async fn release(client: &Client, backup: &Backup) -> Result<(), BackupError> {
    let others: Vec<String> = backup.finalizers().iter().filter(|it| *it != FINALIZER).cloned().collect();
    set(client, backup, &others).await.map(drop)
}

/// With the version of the Backup: who writes about another state of it, writes nothing.
async fn set(client: &Client, backup: &Backup, finalizers: &[String]) -> Result<Option<Backup>, BackupError> {
    let api: Api<Backup> = Api::namespaced(client.clone(), &backup.namespace().unwrap_or_default());
    let patch = json!({"metadata": {
        "uid": backup.uid(),
        "resourceVersion": backup.resource_version(),
        "finalizers": finalizers,
    }});
    match api.patch(&backup.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(BackupError::Finalizer(error)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn backup(policy: Option<&str>, finalizers: &[&str], leaves: bool) -> Backup {
        let mut value = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": "first", "namespace": "shop", "uid": "u-1", "finalizers": finalizers},
            "spec": {"storeRef": {"name": "orders"}, "source": {"postgres": {"database": "shop", "endpoints": []}}},
        });
        if let Some(policy) = policy {
            value["spec"]["deletionPolicy"] = json!(policy);
        }
        if leaves {
            value["metadata"]["deletionTimestamp"] = json!("2026-11-22T10:00:00Z");
        }
        serde_json::from_value(value).unwrap()
    }

    proptest! {
        /// Ours is there while the Backup says Delete and never otherwise; others' stay, and nothing is added to what
        /// leaves.
        #[test]
        fn it_follows_the_policy(policy in 0..3_usize, ours: bool, others in 0..3_usize, leaves: bool) {
            let policy = [None, Some("Retain"), Some("Delete")][policy];
            let others = &["a.example/x", "b.example/y"][..others.min(2)];
            let mut all = others.to_vec();
            if ours {
                all.insert(all.len() / 2, FINALIZER);
            }
            let backup = backup(policy, &all, leaves);
            let after = wanted(&backup);
            let has = after.as_deref().unwrap_or(backup.finalizers());
            let foreign: Vec<&String> = has.iter().filter(|it| *it != FINALIZER).collect();
            prop_assert_eq!(foreign, others.iter().collect::<Vec<_>>());
            let expected = policy == Some("Delete") && (ours || !leaves);
            prop_assert_eq!(has.iter().filter(|it| *it == FINALIZER).count(), usize::from(expected));
        }
    }
}
