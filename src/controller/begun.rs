//! The mark of a resource whose run was begun: one that carries it and has no status is history, and is not run again.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::core::{NamespaceResourceScope, ObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::jobs::ObservedJob;
use super::reasons::ControllerReason as Reason;
use crate::api::{API_VERSION, Failure, ProcessStatus};

/// The annotation that a Backup or a Restore carries once its run was begun: its UID then. It travels with the object
/// where a status does not: `kubectl get -o yaml`, Velero.
pub(super) const BEGUN_AS: &str = "vouchsafe.dev/begun-as";

/// The field manager of what the controller writes into metadata.
const MARKS: &str = "vouchsafe-controller-marks";

/// Whether the object with this metadata, or what it is a copy of, was begun.
pub(super) fn is_marked(metadata: &ObjectMeta) -> bool {
    metadata.annotations.as_ref().is_some_and(|it| it.contains_key(BEGUN_AS))
}

/// Marks `object` as begun. Its status is written before, and its Jobs are made after: so nothing that was begun can
/// lack both.
///
/// # Errors
/// What the API server answers; a conflict if the object has changed.
pub(super) async fn mark<K>(client: &Client, object: &K) -> Result<K, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if is_marked(object.meta()) {
        return Ok(object.clone());
    }
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": API_VERSION,
        "kind": K::kind(&()),
        "metadata": {
            "name": object.name_any(),
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "annotations": {BEGUN_AS: object.uid()},
        },
    });
    api.patch(&object.name_any(), &PatchParams::apply(MARKS).force(), &Patch::Apply(&patch)).await
}

/// Whether the status or a Job tells of the run. What its pods were given does not: that stays when Jobs are long
/// gone.
pub(super) fn is_known(processes: Option<&[ProcessStatus]>, jobs: &[ObservedJob]) -> bool {
    processes.is_some_and(|it| !it.is_empty()) || !jobs.is_empty()
}

/// Why it is not run again. `what` is told to do with it.
pub(super) fn lost(message: impl Into<String>, what: &str) -> Failure {
    Reason::HistoryLost.failure(message, format!("it is not run again: {what}"))
}

/// What is said of one that is marked, and of which nothing else is known.
pub(super) const NO_STATUS: &str =
    "its run was begun before, and what became of it is not in its status any more";

/// Whether `failure` says so.
pub(super) fn says_lost(failure: Option<&Failure>) -> bool {
    failure.is_some_and(|failure| failure.reason == Reason::HistoryLost.reason())
}
