//! The watch of one kind: its objects, and the Jobs and pods that are of them.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::backoff::Backoff;
use super::{CONCURRENCY, Context, MANAGED_BY, resource_of, scoped};

/// A kind that the controller looks after.
pub(super) trait Kept:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// What a step fails with; all of it is tried again.
    type Error: std::error::Error + Send + 'static;

    /// Brings one object a step further.
    fn step(&self, context: &Arc<Context>) -> impl Future<Output = Result<Action, Self::Error>> + Send;
}

/// Looks after the objects of one namespace, or of all, until `stop` ends.
pub(super) async fn watch<K: Kept>(
    namespace: Option<&str>,
    context: &Arc<Context>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = &context.client;
    let of_runs = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    let kind = K::kind(&());
    // One that can't be read (made by a newer release, say) must not end the watch of all others.
    let objects: Api<DeserializeGuard<K>> = scoped(client, namespace);
    Controller::new(objects, watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .owns(scoped::<Job>(client, namespace), of_runs.clone())
        .watches(scoped::<Pod>(client, namespace), of_runs, {
            let kind = kind.clone();
            move |pod: Pod| resource_of(&pod, &kind)
        })
        .graceful_shutdown_on(stop)
        .run(
            step::<K>,
            after_error::<K>,
            Arc::new(Scope { context: context.clone(), failures: Backoff::default() }),
        )
        .for_each(|done| {
            match done {
                Ok((object, _)) => tracing::debug!(%kind, %object, "reconciled"),
                Err(error) => tracing::warn!(%kind, %error, "not reconciled; it is tried again"),
            }
            std::future::ready(())
        })
        .await;
}

/// What the steps of one watch share.
struct Scope {
    context: Arc<Context>,
    failures: Backoff,
}

fn key<K: Kept>(object: &K) -> String {
    object.meta().uid.clone().unwrap_or_default()
}

/// What follows an error: the same again, later each time.
#[allow(clippy::needless_pass_by_value, reason = "kube-runtime's signature")]
fn after_error<K: Kept>(guarded: Arc<DeserializeGuard<K>>, _error: &K::Error, scope: Arc<Scope>) -> Action {
    let key = guarded.0.as_ref().map(key).unwrap_or_default();
    Action::requeue(scope.failures.next(&key))
}

async fn step<K: Kept>(guarded: Arc<DeserializeGuard<K>>, scope: Arc<Scope>) -> Result<Action, K::Error> {
    match &guarded.0 {
        Ok(object) => {
            let stepped = object.step(&scope.context).await;
            if stepped.is_ok() {
                scope.failures.forget(&key(object));
            }
            stepped
        }
        Err(error) => {
            tracing::warn!(kind = %K::kind(&()), %error, "one that this release can't read is left alone");
            Ok(Action::await_change())
        }
    }
}
