//! What is kept of the objects that are watched: thousands of finished Backups, of which little is read again.

use futures::Stream;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::backup::decide::is_over;
use crate::api::marks::{SCHEDULE, SCHEDULE_NAME, SCHEDULE_UID};
use crate::api::{Backup, BackupSpec, BackupStatus, Progress, Proof};

/// What kubectl keeps of an object for its next `apply`: another copy of it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The objects of a kind as they come, and where they are kept: without what nobody reads, and what else `strip` takes
/// away. One that can't be read (made by a newer release, say) does not end the watch of all others.
pub(super) fn watched<K>(
    api: Api<DeserializeGuard<K>>,
    strip: fn(&mut K),
) -> (
    impl Stream<Item = Result<DeserializeGuard<K>, watcher::Error>> + Send + 'static,
    Store<DeserializeGuard<K>>,
)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (reader, writer) = reflector::store();
    let objects = watcher(api, watcher::Config::default())
        .modify(move |guarded: &mut DeserializeGuard<K>| {
            let metadata = guarded.meta_mut();
            metadata.managed_fields = None;
            if let Some(annotations) = &mut metadata.annotations {
                annotations.remove(LAST_APPLIED);
            }
            if let Ok(object) = &mut guarded.0 {
                strip(object);
            }
        })
        .reflect(writer)
        .applied_objects();
    (objects, reader)
}

/// Leaves an object as it is.
pub(super) fn whole<K>(_object: &mut K) {}

/// Takes away what nobody reads of a Backup that is over: how many there are of a phase, what gauges show, and which
/// store it is of stays.
pub(super) fn finished(backup: &mut Backup) {
    // One that its finalizer holds is read whole when it leaves.
    if !is_over(backup) || !backup.finalizers().is_empty() {
        return;
    }
    backup.labels_mut().retain(|label, _| label == SCHEDULE);
    backup
        .annotations_mut()
        .retain(|annotation, _| annotation == SCHEDULE_NAME || annotation == SCHEDULE_UID);
    // Each by name, so that a new field is not forgotten here.
    let BackupSpec {
        store_ref: _,
        collection,
        type_: _,
        revision_history: _,
        source,
        execution_locality,
        parallelism: _,
        rate_limit,
        pod_template,
        deadline,
        take_over,
        suspend: _,
        cancel: _,
        deletion_policy: _,
    } = &mut backup.spec;
    source.postgres.endpoints = Vec::new();
    source.postgres.placement = Vec::new();
    (source.postgres.include, source.postgres.exclude) = (None, None);
    (*collection, *execution_locality, *rate_limit, *deadline, *take_over) = (None, None, None, None, None);
    *pod_template = None;
    let Some(status) = &mut backup.status else { return };
    let BackupStatus {
        observed_generation: _,
        phase: _,
        conditions,
        run,
        layer,
        from,
        to,
        resolved,
        progress,
        localities,
        processes,
        proof,
        errors,
        failure: _,
    } = status;
    conditions.retain(|condition| condition.type_ == "Failed");
    conditions.shrink_to_fit();
    (*run, *layer, *from, *to, *resolved, *errors) = (None, None, None, None, None, None);
    (*localities, *processes) = (Vec::new(), Vec::new());
    *progress = progress.take().map(|it| Progress { bytes_stored: it.bytes_stored, ..Progress::default() });
    *proof = proof.take().map(|it| Proof {
        sealed_at: it.sealed_at,
        rows_counted: it.rows_counted,
        ..Proof::default()
    });
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::backup::queue::ahead;
    use crate::telemetry::levels::Levels;

    fn backup(status: &Value) -> Backup {
        let value = json!({
            "apiVersion": "vouchsafe.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": "orders-1", "namespace": "shop", "uid": "u-1", "creationTimestamp": "2026-11-20T10:00:00Z",
                         "labels": {SCHEDULE: "orders", "team": "shop"},
                         "annotations": {SCHEDULE_NAME: "orders", "note": "n"}},
            "spec": {"storeRef": {"name": "orders"}, "collection": "shop", "deadline": "6h",
                     "source": {"postgres": {"database": "shop",
                                "endpoints": [{"name": "eu", "host": "pg"}]}}},
            "status": status,
        });
        serde_json::from_value(value).unwrap()
    }

    fn status(phase: &str) -> Value {
        let at = "2026-11-20T11:00:00Z";
        let condition = |type_: &str| json!({"type": type_, "status": "True", "reason": phase, "message": "", "lastTransitionTime": at});
        json!({"phase": phase, "conditions": [condition("Complete"), condition("Failed"), condition("Stalled")],
               "failure": {"reason": "DamageFound", "message": "m", "hint": "h"},
               "run": {"number": 7, "plan": "p"}, "to": {"time": at}, "progress": {"bytesStored": 4096, "rows": 1},
               "processes": [{"name": "coordinator", "job": "j", "order": "run", "attempt": 1, "state": "Done"}],
               "proof": {"sealedAt": at, "manifestSha256": "0".repeat(64), "rowsCounted": 7}})
    }

    #[test]
    fn a_backup_that_is_over_says_as_much_as_before_where_it_is_read() {
        for phase in ["Succeeded", "Failed", "Canceled"] {
            let (whole, mut stripped) = (backup(&status(phase)), backup(&status(phase)));
            finished(&mut stripped);
            let bytes = |it: &Backup| serde_json::to_string(it).unwrap().len();
            assert!(bytes(&stripped) < bytes(&whole) * 2 / 3, "{stripped:#?}");
            let levels = |it: &Backup| {
                let mut levels = Levels::default();
                levels.backup(it);
                levels
            };
            assert_eq!(levels(&stripped), levels(&whole));
            assert!(is_over(&stripped));
            let mut next = backup(&json!({}));
            next.metadata.uid = Some("u-2".into());
            assert_eq!(ahead(&next, [&stripped].into_iter()), ahead(&next, [&whole].into_iter()));
            let named = |it: &Backup| {
                (it.metadata.name.clone(), it.metadata.namespace.clone(), it.metadata.uid.clone())
            };
            assert_eq!(named(&stripped), named(&whole));
        }
    }

    #[test]
    fn a_backup_that_goes_on_is_left_as_it_is() {
        for phase in ["Pending", "Exporting", "Verifying"] {
            let (whole, mut stripped) = (backup(&status(phase)), backup(&status(phase)));
            finished(&mut stripped);
            assert_eq!(json!(stripped), json!(whole));
        }
    }
}
