//! The controller: for each kind observe → validate → decide → build → apply → status. It talks to the Kubernetes
//! API and to nothing else: no database, no bucket, no Secret.

pub mod attempts;
mod backoff;
pub mod backup;
mod begun;
mod cache;
mod conditions;
pub mod events;
pub mod jobs;
pub mod lease;
mod leftovers;
pub mod make;
pub mod pods;
mod process;
mod prunable;
mod reasons;
mod refusals;
pub mod restore;
pub mod schedule;
mod status;
pub mod store;
mod watch;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::events::Recorder;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use tracing::Instrument;

use crate::api::{Backup, BackupStore, Restore};
use crate::telemetry::levels::Levels;
use crate::telemetry::traces::PodTraces;

pub use watched::Telemetry;
use watched::Watch;

pub use process::Process;
pub use reasons::ControllerReason;

/// Resources that are reconciled at once. Each costs a few small requests; more would only queue at the API server.
const CONCURRENCY: u16 = 8;

/// After a write that was refused because somebody else had written: their change is on its way, and this is for
/// the case that it was there before.
const AFTER_CONFLICT: Duration = Duration::from_secs(1);

/// The label by which pods and Jobs of runs are found.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "vouchsafe");

/// When a node pulls an image, as a container's `imagePullPolicy` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PullPolicy {
    /// Whenever a pod begins.
    #[value(name = "Always")]
    Always,
    /// If the node hasn't got it.
    #[default]
    #[value(name = "IfNotPresent")]
    IfNotPresent,
    /// Never: it was loaded onto the nodes.
    #[value(name = "Never")]
    Never,
}

impl PullPolicy {
    /// The word of a container's `imagePullPolicy`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// What the controller is told when it is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The image of the pods that it makes.
    pub image: String,
    /// When their nodes pull it.
    pub pull_policy: PullPolicy,
    /// The namespaces that it looks at; empty: all.
    pub namespaces: Vec<String>,
    /// What those pods are told of traces, if there are any.
    pub traces: Option<PodTraces>,
}

/// What reconcilers share.
pub struct Context {
    client: Client,
    settings: Settings,
    telemetry: Telemetry,
    recorder: Recorder,
    refusals: refusals::Refusals,
    leftovers: leftovers::Leftovers,
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
    let refusals = refusals::Refusals::default();
    let leftovers = leftovers::Leftovers::default();
    let context = Context { client, settings: settings.clone(), telemetry, recorder, refusals, leftovers };
    let context = Arc::new(context);
    let stop = stop.shared();
    let scopes: Vec<Option<String>> = match &settings.namespaces[..] {
        [] => vec![None],
        named => named.iter().cloned().map(Some).collect(),
    };
    let controllers = scopes.iter().map(|namespace| {
        let namespace = namespace.as_deref();
        futures::future::join4(
            watch::watch::<BackupStore>(namespace, &context, stop.clone(), |_, _| {}),
            of_scope(namespace, &context, stop.clone()),
            watch::watch::<Restore>(namespace, &context, stop.clone(), |_, _| {}),
            schedule::control(&context, namespace, stop.clone()),
        )
    });
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
    let (backups, store) = cache::watched(scoped(client, namespace), cache::finished);
    let controller = Controller::for_stream(backups, store.clone());
    let watch = Watch::begin(&context.telemetry, "Backup", namespace);
    let scope = backup::Scope {
        context: context.clone(),
        backups: store.clone(),
        failures: backoff::Backoff::default(),
    };
    let running = controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .watches(scoped::<Job>(client, namespace), of_runs.clone(), {
            let context = context.clone();
            move |job: Job| context.leftovers.note(&job)
        })
        .watches(scoped::<PartialObjectMeta<Pod>>(client, namespace), of_runs, |pod| {
            resource_of(&pod, "Backup")
        })
        .graceful_shutdown_on(stop.clone())
        .run(reconcile, backup::after_error, Arc::new(scope))
        .for_each(|done| {
            match done {
                Ok((object, _)) => tracing::debug!(backup = %object, "reconciled"),
                Err(error) => watch.failed(&error),
            }
            std::future::ready(())
        });
    tokio::join!(running, watch.tell(store, Levels::backup));
    watch.ended(&stop);
}

/// The resource of `kind` that a pod is of.
fn resource_of<K>(pod: &PartialObjectMeta<Pod>, kind: &str) -> Option<ObjectRef<K>>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    let annotations = pod.annotations();
    let name =
        annotations.get(pods::NAME).filter(|_| annotations.get(pods::KIND).is_some_and(|it| it == kind))?;
    Some(ObjectRef::new(name).within(&pod.namespace().unwrap_or_default()))
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
    scope: Arc<backup::Scope>,
) -> Result<Action, backup::BackupError> {
    match &guarded.0 {
        Ok(backup) => {
            let counted = scope.context.telemetry.metrics.reconciling("Backup");
            let done = backup::reconcile(backup, &scope).instrument(watched::span(backup)).await;
            let done = match done {
                Err(error) if backup::is_conflict(&error) => Ok(Action::requeue(AFTER_CONFLICT)),
                done => done,
            };
            counted.ended(done.is_ok());
            done
        }
        Err(error) => {
            tracing::warn!(%error, "a Backup that this release can't read is left alone");
            Ok(Action::await_change())
        }
    }
}
