//! What a cluster refuses, by stable words.

use kube::core::Status;

use super::Asked;
use crate::cli::{Failure, output};

/// Why a command against a cluster failed, where no run in it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterReason {
    /// No kubeconfig, or one without what is wanted.
    KubeconfigUnusable,
    /// Nobody answers, or not in time.
    ClusterUnreachable,
    /// The cluster doesn't know who asks.
    LoginRefused,
    /// Who asks may not do that.
    Forbidden,
    /// The cluster has no such resources.
    NotInstalled,
    /// There is no object of that name.
    ObjectNotFound,
    /// Several objects have that name.
    NameAmbiguous,
    /// The object was deleted meanwhile.
    ObjectGone,
    /// The object is there in a form that this release can't read.
    ObjectUnreadable,
    /// It has ended: nothing can be changed any more.
    ObjectOver,
    /// The API server refuses what was to be written.
    RefusedByServer,
    /// The Backup holds nothing that is proven.
    NotRestorable,
    /// Nobody said yes.
    NotConfirmed,
    /// No pod of the run has logs.
    NoLogs,
    /// Some logs couldn't be read.
    LogsIncomplete,
    /// No controller has looked at the object.
    NotObserved,
}

impl ClusterReason {
    reasons! {
        /// The stable CamelCase word; each has an entry in docs/troubleshooting.md.
        pub words {
            Self::KubeconfigUnusable => "KubeconfigUnusable",
            Self::ClusterUnreachable => "ClusterUnreachable",
            Self::LoginRefused => "LoginRefused",
            Self::Forbidden => "Forbidden",
            Self::NotInstalled => "NotInstalled",
            Self::ObjectNotFound => "ObjectNotFound",
            Self::NameAmbiguous => "NameAmbiguous",
            Self::ObjectGone => "ObjectGone",
            Self::ObjectUnreadable => "ObjectUnreadable",
            Self::ObjectOver => "ObjectOver",
            Self::RefusedByServer => "RefusedByServer",
            Self::NotRestorable => "NotRestorable",
            Self::NotConfirmed => "NotConfirmed",
            Self::NoLogs => "NoLogs",
            Self::LogsIncomplete => "LogsIncomplete",
            Self::NotObserved => "NotObserved",
        }
        passed_on {}
    }
}

/// Whether a 404 is about an object: of a kind that isn't installed, the server names none.
pub(super) fn names_an_object(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

/// What a refused or failed request means for the person who caused it.
pub(super) fn failed(error: kube::Error, asked: &Asked) -> Failure {
    match error {
        kube::Error::Api(status) => refused(&status, asked),
        kube::Error::SerdeError(error) => {
            let message = format!("{} can't be read: {error}", asked.resource);
            let hint = "was it written by a newer release? use that one's kubectl vouchsafe";
            Failure::of_cluster(ClusterReason::ObjectUnreadable, message, hint)
        }
        kube::Error::Auth(error) => {
            let message = format!("the login failed: {}", output::chain(&error));
            let hint = "see the user of the kubeconfig's context: kubectl get namespaces must work, too";
            Failure::of_cluster(ClusterReason::LoginRefused, message, hint)
        }
        error => {
            let message = format!("the cluster can't be reached: {}", output::chain(&error));
            let hint = "kubectl cluster-info says whether it is this cluster that was meant, and whether it answers; \
                        --context names another";
            Failure::of_cluster(ClusterReason::ClusterUnreachable, message, hint)
        }
    }
}

fn refused(status: &Status, asked: &Asked) -> Failure {
    let Asked { verb, resource, namespace } = asked;
    let place = match namespace {
        Some(namespace) => format!("in namespace {namespace}"),
        None => "in all namespaces".to_owned(),
    };
    let said = status.message.trim();
    match status.code {
        401 => {
            let message = format!("the cluster doesn't know who asks: {said}");
            let hint = "log in anew, or see the user of the kubeconfig's context";
            Failure::of_cluster(ClusterReason::LoginRefused, message, hint)
        }
        // RBAC's own words; quotas and admission answer 403 as well.
        403 if said.contains(" cannot ") => {
            let message = format!("you may not {verb} {resource} {place}: {said}");
            let flag = namespace.as_deref().map_or("-A".to_owned(), |it| format!("-n {it}"));
            let hint = format!(
                "have a Role bound to you that allows it; kubectl auth can-i {verb} {resource} {flag} says when it does"
            );
            Failure::of_cluster(ClusterReason::Forbidden, message, hint)
        }
        404 if !names_an_object(status) => {
            let message = format!("the cluster has no {resource}");
            let hint = "Vouchsafe isn't installed there: vouchsafe crds | kubectl apply -f - installs the resources, \
                        chart and manifests all of it; or --context names another cluster";
            Failure::of_cluster(ClusterReason::NotInstalled, message, hint)
        }
        404 => Failure::of_cluster(
            ClusterReason::ObjectNotFound,
            said,
            "see the namespace (-n) and the spelling; kubectl vouchsafe status -A shows what there is",
        ),
        429 | 500.. => {
            let message = format!("the cluster can't {verb} {resource} {place} now: {said}");
            Failure::of_cluster(ClusterReason::ClusterUnreachable, message, "try again in a moment")
        }
        _ => Failure::of_cluster(
            ClusterReason::RefusedByServer,
            format!("the cluster refuses to {verb} {resource} {place}: {said}"),
            "the message names the field, quota or policy; correct what it names",
        ),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::rbac(403, "backups is forbidden: User \"ann\" cannot patch resource", "", "Forbidden")]
    #[case::quota(403, "exceeded quota: few", "x", "RefusedByServer")]
    #[case::no_kind(404, "404 page not found", "", "NotInstalled")]
    #[case::no_object(404, "backups \"x\" not found", "x", "ObjectNotFound")]
    #[case::invalid(422, "spec.run: Invalid value", "x", "RefusedByServer")]
    #[case::login(401, "Unauthorized", "", "LoginRefused")]
    #[case::busy(503, "no etcd", "", "ClusterUnreachable")]
    fn each_answer_has_its_word(
        #[case] code: u16,
        #[case] said: &str,
        #[case] name: &str,
        #[case] reason: &str,
    ) {
        let details = kube::core::response::StatusDetails {
            name: name.to_owned(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        };
        let status = Status::failure(said, "x").with_code(code).with_details(details);
        let asked = Asked::of::<crate::api::Backup>("patch", Some("shop"));
        let failure = failed(kube::Error::Api(status.boxed()), &asked);
        assert_eq!(failure.reason(), reason);
        if reason == "Forbidden" {
            assert!(
                failure.message().starts_with("you may not patch backups.vouchsafe.dev in namespace shop")
            );
        }
    }
}
