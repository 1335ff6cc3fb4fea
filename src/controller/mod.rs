//! The controller: for each kind observe → validate → decide → build → apply → status. It talks to the Kubernetes
//! API and to nothing else: no database, no bucket, no Secret.

pub mod backup;
mod process;
pub mod schedule;

use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};

use crate::api::Backup;

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
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Reconciles until `stop` ends.
pub async fn run(client: Client, settings: Settings, stop: impl Future<Output = ()> + Send + Sync + 'static) {
    let context = Arc::new(Context { client, settings: settings.clone() });
    let stop = stop.shared();
    let scopes: Vec<Option<String>> = match &settings.namespaces[..] {
        [] => vec![None],
        named => named.iter().cloned().map(Some).collect(),
    };
    let controllers = scopes.iter().map(|namespace| of_scope(namespace.as_deref(), &context, stop.clone()));
    let schedules =
        scopes.iter().map(|namespace| schedule::control(&context, namespace.as_deref(), stop.clone()));
    futures::future::join(futures::future::join_all(controllers), futures::future::join_all(schedules)).await;
}

/// The Backups of one namespace, or of all.
async fn of_scope(
    namespace: Option<&str>,
    context: &Arc<Context>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = &context.client;
    let of_runs = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    // A Backup that can't be read (made by a newer release, say) must not end the watch of all others.
    let backups: Api<DeserializeGuard<Backup>> = scoped(client, namespace);
    Controller::new(backups, watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .owns(scoped::<Job>(client, namespace), of_runs.clone())
        .watches(scoped::<Pod>(client, namespace), of_runs, |pod: Pod| {
            let name = pod.annotations().get(BACKUP).cloned();
            name.map(|name| ObjectRef::new(&name).within(&pod.namespace().unwrap_or_default()))
        })
        .graceful_shutdown_on(stop)
        .run(reconcile, backup::after_error, context.clone())
        .for_each(|done| async move {
            match done {
                Ok((object, _)) => tracing::debug!(backup = %object, "reconciled"),
                Err(error) => tracing::warn!(%error, "not reconciled; it is tried again"),
            }
        })
        .await;
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
        Ok(backup) => backup::reconcile(backup, &context).await,
        Err(error) => {
            tracing::warn!(%error, "a Backup that this release can't read is left alone");
            Ok(Action::await_change())
        }
    }
}
