//! The controller: for each kind observe → validate → decide → build → apply → status. It talks to the Kubernetes
//! API and to nothing else: no database, no bucket, no Secret.

pub mod backup;
pub mod events;
pub mod lease;
mod process;
mod watched;

use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::events::Recorder;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use tracing::Instrument;

use crate::api::Backup;
use crate::telemetry::levels::Levels;

pub use watched::Telemetry;
use watched::Watch;

/// Resources that are reconciled at once. Each costs a few small requests; more would only queue at the API server.
const CONCURRENCY: u16 = 8;

/// The label by which pods and Jobs of runs are found.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "vouchsafe");

/// The annotation that names the Backup that a pod is of: names are longer than labels may be.
pub const BACKUP: &str = "vouchsafe.dev/backup";

/// What the controller is told when it is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The image of the pods that it makes.
    pub image: String,
    /// The namespaces that it looks at; empty: all.
    pub namespaces: Vec<String>,
}

/// What reconcilers share.
pub struct Context {
    client: Client,
    settings: Settings,
    telemetry: Telemetry,
    recorder: Recorder,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Reconciles until `stop` ends.
pub async fn run(
    client: Client,
    settings: Settings,
    telemetry: Telemetry,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let recorder = events::recorder(client.clone());
    let context = Arc::new(Context { client, settings: settings.clone(), telemetry, recorder });
    let stop = stop.shared();
    let scopes: Vec<Option<String>> = match &settings.namespaces[..] {
        [] => vec![None],
        named => named.iter().cloned().map(Some).collect(),
    };
    let controllers = scopes.iter().map(|namespace| of_scope(namespace.as_deref(), &context, stop.clone()));
    futures::future::join_all(controllers).await;
}

/// The Backups of one namespace, or of all.
async fn of_scope(
    namespace: Option<&str>,
    context: &Arc<Context>,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let client = &context.client;
    let of_runs = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    // A Backup that can't be read (made by a newer release, say) must not end the watch of all others.
    let backups: Api<DeserializeGuard<Backup>> = scoped(client, namespace);
    let controller = Controller::new(backups, watcher::Config::default());
    let watch = Watch::begin(&context.telemetry, "Backup", namespace);
    let store = controller.store();
    let running = controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .owns(scoped::<Job>(client, namespace), of_runs.clone())
        .watches(scoped::<Pod>(client, namespace), of_runs, |pod: Pod| {
            let name = pod.annotations().get(BACKUP).cloned();
            name.map(|name| ObjectRef::new(&name).within(&pod.namespace().unwrap_or_default()))
        })
        .graceful_shutdown_on(stop.clone())
        .run(reconcile, backup::after_error, context.clone())
        .for_each(|done| {
            match done {
                Ok((object, _)) => tracing::debug!(backup = %object, "reconciled"),
                Err(error) => {
                    watch.failed(&error);
                    tracing::warn!(%error, "not reconciled; it is tried again");
                }
            }
            std::future::ready(())
        });
    tokio::join!(running, watch.tell(store, Levels::backup));
    watch.ended(&stop);
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        None => Api::all(client.clone()),
        Some(namespace) => Api::namespaced(client.clone(), namespace),
    }
}

async fn reconcile(
    guarded: Arc<DeserializeGuard<Backup>>,
    context: Arc<Context>,
) -> Result<Action, backup::BackupError> {
    match &guarded.0 {
        Ok(backup) => {
            let counted = context.telemetry.metrics.reconciling("Backup");
            let done = backup::reconcile(backup, &context).instrument(watched::span(backup)).await;
            counted.ended(done.is_ok());
            done
        }
        Err(error) => {
            tracing::warn!(%error, "a Backup that this release can't read is left alone");
            Ok(Action::await_change())
        }
    }
}
