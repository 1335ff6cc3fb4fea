//! Writing the controller's part of a status. Needs the client.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::api::API_VERSION;

/// The field manager of everything that the controller writes into a status.
const MANAGER: &str = "vouchsafe-controller";

/// Applies `status`. The resource's version goes with it, so that a controller that was deposed, or saw an older
/// object, writes nothing; and its UID, so that a namesake made meanwhile is none of ours.
///
/// # Errors
/// What the API server answers; a conflict if the object has changed.
pub(super) async fn apply<K>(client: &Client, object: &K, status: &impl Serialize) -> Result<K, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": API_VERSION,
        "kind": K::kind(&()),
        "metadata": {
            "name": object.name_any(),
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
        },
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch_status(&object.name_any(), &parameters, &Patch::Apply(&patch)).await
}
