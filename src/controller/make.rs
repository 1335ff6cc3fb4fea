//! Making the objects of a run. Needs the client.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::core::{NamespaceResourceScope, Status};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::jobs::is_owned;
use super::pods::{Built, Owner};
use super::reasons::ControllerReason as Reason;
use crate::api::Failure;

/// Why an object of a run was not made. All of it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The name is taken by somebody else's.
    #[error("{kind} {name} is there, and not this resource's: delete it")]
    Taken {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A quota, an admission policy, or a namespace on its way out refused it.
    #[error("{kind} {name} is refused: {message}")]
    Refused {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// One of QuotaExceeded, AdmissionRefused and NamespaceTerminating.
        reason: Reason,
        /// What the API server said.
        message: String,
    },
    /// The API server could not be asked, or failed.
    #[error("{kind} {name} can't be made")]
    Failed {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
}

impl MakeError {
    /// What the resource's status is to say; `None` for what passes by itself.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let (reason, hint) = match self {
            Self::Failed { .. } => return None,
            Self::Taken { .. } => {
                (Reason::NameTaken, "delete that object, or make the resource under another name")
            }
            Self::Refused { reason: Reason::QuotaExceeded, .. } => {
                (Reason::QuotaExceeded, "make room in the namespace's ResourceQuota; it is tried again")
            }
            Self::Refused { reason: Reason::NamespaceTerminating, .. } => {
                (Reason::NamespaceTerminating, "nothing is started in a namespace that is being deleted")
            }
            Self::Refused { .. } => {
                (Reason::AdmissionRefused, "let the named policy or role permit it; it is tried again")
            }
        };
        Some(reason.failure(self.to_string(), hint))
    }
}

/// Makes every object that is not there yet, Jobs last: their pods need the others.
///
/// # Errors
/// That of the first object that could not be made; those before it stay.
pub(super) async fn make_all(client: &Client, owner: &Owner, built: Built) -> Result<(), MakeError> {
    let Built { config_map, service_account, role, role_binding, jobs } = built;
    if let Some(object) = service_account {
        make(client, owner, object).await?;
    }
    if let Some(object) = role {
        make(client, owner, object).await?;
    }
    if let Some(object) = role_binding {
        make(client, owner, object).await?;
    }
    // After the others: it says that all of them are there, and they are not built again.
    if let Some(object) = config_map {
        make(client, owner, object).await?;
    }
    for object in jobs {
        make(client, owner, object).await?;
    }
    Ok(())
}

/// Creates an object. One of the same name is this one, if `owner` controls it: its creation was not answered, or
/// another controller made it. If not, it is somebody else's, and an error.
///
/// # Errors
/// See [`MakeError`].
pub(super) async fn make<K>(client: &Client, owner: &Owner, object: K) -> Result<(), MakeError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let (kind, name) = (K::kind(&()).into_owned(), object.name_any());
    let failed = |source| MakeError::Failed { kind: kind.clone(), name: name.clone(), source };
    let api: Api<K> = Api::namespaced(client.clone(), &owner.namespace);
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            let found = api.get(&name).await.map_err(failed)?;
            match is_owned(&found, &owner.uid) {
                true => Ok(()),
                false => Err(MakeError::Taken { kind: kind.clone(), name: name.clone() }),
            }
        }
        Err(kube::Error::Api(status)) => match refusal(&status) {
            Some(reason) => {
                let message = status.message.clone();
                Err(MakeError::Refused { kind: kind.clone(), name: name.clone(), reason, message })
            }
            None => Err(failed(kube::Error::Api(status))),
        },
        Err(error) => Err(failed(error)),
    }
}

/// Whether `namespace` takes nothing new any more, because it is being deleted or is gone. Asked by making nothing (a
/// dry run): the controller may not read namespaces.
///
/// # Errors
/// If the API server could not be asked.
pub(super) async fn namespace_ends(client: &Client, namespace: &str) -> Result<bool, kube::Error> {
    let nothing: ServiceAccount =
        serde_json::from_value(serde_json::json!({"metadata": {"name": "vouchsafe-asks"}}))
            .map_err(kube::Error::SerdeError)?;
    let dry = PostParams { dry_run: true, field_manager: None };
    match Api::<ServiceAccount>::namespaced(client.clone(), namespace).create(&dry, &nothing).await {
        Ok(_) => Ok(false),
        // Whoever else refuses it says nothing about the namespace.
        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
            Ok(status.code == 404 || refusal(&status) == Some(Reason::NamespaceTerminating))
        }
        Err(error) => Err(error),
    }
}

/// Whether somebody refused, and who. The API server has one code for a namespace on its way out, a quota, a webhook
/// and a missing right (403, sometimes 422 for a policy); only its causes and words tell them apart.
fn refusal(status: &Status) -> Option<Reason> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let terminating = causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating");
    let by_policy = ["ValidatingAdmissionPolicy", "admission webhook"];
    match status.code {
        403 | 404 if terminating => Some(Reason::NamespaceTerminating),
        403 if status.message.contains("exceeded quota") || status.message.contains("failed quota") => {
            Some(Reason::QuotaExceeded)
        }
        403 => Some(Reason::AdmissionRefused),
        400 | 422 if by_policy.iter().any(|it| status.message.contains(it)) => Some(Reason::AdmissionRefused),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(code: u16, message: &str, cause: Option<&str>) -> Option<Reason> {
        let causes: Vec<_> =
            cause.iter().map(|it| json!({"reason": it, "message": "", "field": ""})).collect();
        let value = json!({"status": "Failure", "code": code, "message": message, "reason": "Forbidden",
            "details": {"name": "x", "group": "batch", "kind": "jobs", "causes": causes}});
        refusal(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn who_refused_is_told_apart() {
        let quota = "jobs.batch \"x\" is forbidden: exceeded quota: few, requested: count/jobs.batch=1";
        assert_eq!(said(403, quota, None), Some(Reason::QuotaExceeded));
        let terminating = "jobs.batch \"x\" is forbidden: unable to create new content in namespace shop because it \
                           is being terminated";
        assert_eq!(said(403, terminating, Some("NamespaceTerminating")), Some(Reason::NamespaceTerminating));
        let policy = "jobs.batch \"x\" is forbidden: ValidatingAdmissionPolicy 'no' denied request: no";
        assert_eq!(said(422, policy, None), Some(Reason::AdmissionRefused));
        assert_eq!(said(403, "User cannot create resource", None), Some(Reason::AdmissionRefused));
        assert_eq!(said(422, "spec.template: Invalid value", None), None);
        assert_eq!(said(500, "etcdserver: request timed out", None), None);
    }
}
