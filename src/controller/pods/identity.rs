//! What a run's pods are given, and who they are. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::json;

use super::{Built, OBJECTS_KEY, Owner, object};
use crate::api::PodTemplate;

/// The ServiceAccount of a run's pods: the user's, or the run's own of this name.
pub(in super::super) fn account<'a>(template: &'a PodTemplate, name: &'a str) -> &'a str {
    template.service_account_name.as_deref().unwrap_or(name)
}

/// The ServiceAccount that a run's pods get if the user names none. Without any right, and without a token in pods.
pub(in super::super) fn own_account(
    owner: &Owner,
    name: &str,
    template: &PodTemplate,
) -> Option<ServiceAccount> {
    let metadata = owner.metadata(name, BTreeMap::new());
    let absent = template.service_account_name.is_none();
    absent.then(|| object(json!({"metadata": metadata, "automountServiceAccountToken": false})))
}

/// The ConfigMap with `text`, and the ServiceAccount, unless the user names one; all under `name`. With
/// `publishes`, a Role to watch the owner and to patch its status, and nothing else.
pub(in super::super) fn identity(
    owner: &Owner,
    name: &str,
    text: &str,
    template: &PodTemplate,
    publishes: bool,
) -> Built {
    let metadata = || owner.metadata(name, BTreeMap::new());
    let mut built = Built {
        config_map: Some(object(
            json!({"metadata": metadata(), "immutable": true, "data": {OBJECTS_KEY: text}}),
        )),
        service_account: own_account(owner, name, template),
        ..Built::default()
    };
    if publishes {
        let status = format!("{}/status", owner.plural);
        built.role = Some(object(json!({
            "metadata": metadata(),
            "rules": [
                {"apiGroups": ["vouchsafe.dev"], "resources": [owner.plural], "resourceNames": [owner.name],
                 "verbs": ["get", "list", "watch"]},
                {"apiGroups": ["vouchsafe.dev"], "resources": [status], "resourceNames": [owner.name],
                 "verbs": ["patch"]},
            ],
        })));
        let subject =
            json!({"kind": "ServiceAccount", "name": account(template, name), "namespace": owner.namespace});
        built.role_binding = Some(object(json!({
            "metadata": metadata(),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [subject],
        })));
    }
    built
}
