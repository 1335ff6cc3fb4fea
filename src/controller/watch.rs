//! The watch of one kind: its objects, and the Jobs and pods that are of them.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::watcher;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use super::backoff::Backoff;
use super::watched::{Watch, span};
use super::{CONCURRENCY, Context, MANAGED_BY, cache, resource_of, scoped};
use crate::telemetry::levels::Levels;

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
    /// Its name.
    const KIND: &'static str;

    /// What a step fails with; all of it is tried again.
    type Error: std::error::Error + Send + 'static;

    /// Brings one object a step further.
    fn step(&self, context: &Arc<Context>) -> impl Future<Output = Result<Action, Self::Error>> + Send;
}

/// Looks after the objects of one namespace, or of all, until `stop` ends.
pub(super) async fn watch<K: Kept>(
    namespace: Option<&str>,
    context: &Arc<Context>,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
    fold: fn(&mut Levels, &K),
) {
    let client = &context.client;
    let of_runs = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    let kind = K::kind(&());
    let (objects, store) = cache::watched(scoped(client, namespace), cache::whole::<K>);
    let controller = Controller::for_stream(objects, store.clone());
    let told = Watch::begin(&context.telemetry, K::KIND, namespace);
    let failures = Arc::new(Backoff::default());
    let shared = Arc::new(Shared { context: context.clone(), failures });
    let running = controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        // Of pods it is enough that something has changed: what, is read when it is decided.
        .watches(scoped::<Job>(client, namespace), of_runs.clone(), {
            let context = context.clone();
            move |job: Job| context.leftovers.note(&job)
        })
        .watches(scoped::<PartialObjectMeta<Pod>>(client, namespace), of_runs, {
            let kind = kind.clone();
            move |pod| resource_of(&pod, &kind)
        })
        .graceful_shutdown_on(stop.clone())
        .run(step::<K>, after_error::<K>, shared)
        .for_each(|done| {
            match done {
                Ok((object, _)) => tracing::debug!(%kind, %object, "reconciled"),
                Err(error) => told.failed(&error),
            }
            std::future::ready(())
        });
    tokio::join!(running, told.tell(store, fold));
    told.ended(&stop);
}

/// What the reconcilers of one watch share.
struct Shared {
    context: Arc<Context>,
    failures: Arc<Backoff>,
}

/// The same again, later each time.
#[allow(clippy::needless_pass_by_value, reason = "kube-runtime's signature")]
fn after_error<K: Kept>(guarded: Arc<DeserializeGuard<K>>, _error: &K::Error, shared: Arc<Shared>) -> Action {
    shared.failures.again(&*guarded)
}

async fn step<K: Kept>(guarded: Arc<DeserializeGuard<K>>, shared: Arc<Shared>) -> Result<Action, K::Error> {
    match &guarded.0 {
        Ok(object) => {
            let counted = shared.context.telemetry.metrics.reconciling(K::KIND);
            let done = object.step(&shared.context).instrument(span(object)).await;
            counted.ended(done.is_ok());
            if done.is_ok() {
                shared.failures.went_well(&*guarded);
            }
            done
        }
        Err(error) => {
            tracing::warn!(kind = K::KIND, %error, "one that this release can't read is left alone");
            Ok(Action::await_change())
        }
    }
}
