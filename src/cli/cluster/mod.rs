//! Commands against a cluster, one file each: `status`, `trigger`, `suspend`, `resume`, `cancel`, `logs`, and what
//! `list`, `show`, `prune` and `restore` do without a `--store`. They speak to the Kubernetes API alone, as the person who
//! calls them: what that person may not do there, they can't either.

mod cancel;
mod confirm;
mod find;
mod follow;
mod health;
mod list;
mod log_lines;
mod logs;
mod object;
mod overview;
mod prune;
mod prune_plan;
mod reasons;
mod restore;
mod restore_plan;
mod resume;
mod show;
mod status;
mod suspend;
mod switch;
mod trigger;

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;

use super::{Failure, output};

pub(super) use cancel::Cancel;
pub(super) use list::{BackupsArguments, BackupsReport};
pub(super) use log_lines::LogLine;
pub(super) use logs::Logs;
pub(super) use overview::StatusReport;
pub(super) use prune::PruneArguments;
pub(super) use prune_plan::PrunePlanReport;
pub use reasons::ClusterReason;
pub(super) use restore::{ClusterRestore, RestoreArguments, RestoreWishes};
pub(super) use restore_plan::RestorePlanReport;
pub(super) use resume::Resume;
pub(super) use show::{ClusterShowReport, show};
pub(super) use status::{ObjectReport, Status};
pub(super) use suspend::Suspend;
pub(super) use switch::SwitchReport;
pub(super) use trigger::{Trigger, TriggerReport};

/// Who writes, as the API server records it in `managedFields`.
const MANAGER: &str = "kubectl-vouchsafe";

/// Longest wait for a connection: a cluster that is there answers in well under a second, and a person waits.
const CONNECT: Duration = Duration::from_secs(10);

/// Objects for each request of a list: what kubectl asks for, small enough for any API server's limits.
const PAGE: u32 = 500;

/// Which cluster, and where in it.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ClusterArguments {
    /// Kubeconfig file; absent: KUBECONFIG, ~/.kube/config, or in a pod its ServiceAccount
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, help_heading = "Cluster")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; absent: its current one
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    context: Option<String>,
    /// Namespace; absent: the context's
    #[arg(short = 'n', long, value_name = "NAME", help_heading = "Cluster")]
    namespace: Option<String>,
}

/// A cluster, reached by its API.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
    /// Where names are looked for.
    namespace: String,
}

/// What was asked of the API, for a message about a refusal.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    verb: &'static str,
    /// `backups.vouchsafe.dev`
    resource: String,
    /// Absent: of all.
    namespace: Option<String>,
}

impl Asked {
    pub(super) fn of<K>(verb: &'static str, namespace: Option<&str>) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        let group = K::group(&());
        let dot = if group.is_empty() { "" } else { "." };
        let resource = format!("{}{dot}{group}", K::plural(&()));
        Self { verb, resource, namespace: namespace.map(str::to_owned) }
    }

    pub(super) fn failed(&self, error: kube::Error) -> Failure {
        reasons::failed(error, self)
    }
}

impl ClusterArguments {
    /// Reads who and where; the cluster itself is asked by the first command.
    pub(super) async fn connect(&self) -> Result<Cluster, Failure> {
        let unusable = |message: String| {
            let hint = "name a kubeconfig by --kubeconfig or KUBECONFIG, and one of its contexts by --context; \
                        for a folder or bucket instead of a cluster, give --store";
            Failure::of_cluster(ClusterReason::KubeconfigUnusable, message, hint)
        };
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(path) => match Kubeconfig::read_from(path) {
                Ok(file) => Config::from_custom_kubeconfig(file, &options).await,
                Err(error) => Err(error),
            },
            None if self.context.is_some() => Config::from_kubeconfig(&options).await,
            None => match Config::from_kubeconfig(&options).await {
                Ok(config) => Ok(config),
                Err(error) => Config::incluster().map_err(|_| error),
            },
        };
        let mut config = config.map_err(|error| {
            let from = self.kubeconfig.as_ref().map(|path| format!("{}: ", path.display()));
            unusable(format!("{}{}", from.unwrap_or_default(), output::chain(&error)))
        })?;
        config.connect_timeout = Some(CONNECT);
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| unusable(output::chain(&error)))?;
        Ok(Cluster { client, namespace })
    }
}

impl Cluster {
    /// The objects of a kind in the namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// One object; `None`: there is none of that name.
    pub(super) async fn get<K>(&self, name: &str) -> Result<Option<K>, Failure>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        match self.api::<K>().get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 && reasons::names_an_object(&status) => {
                Ok(None)
            }
            Err(error) => Err(Asked::of::<K>("get", Some(&self.namespace)).failed(error)),
        }
    }

    /// All objects of a kind, in the namespace or in `all`, that `labels` select. Those that this release can't read
    /// are named on standard error and left out.
    pub(super) async fn list<K>(&self, all: bool, labels: Option<&str>) -> Result<Vec<K>, Failure>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<DeserializeGuard<K>> = match all {
            true => Api::all(self.client.clone()),
            false => Api::namespaced(self.client.clone(), &self.namespace),
        };
        let asked = Asked::of::<K>("list", (!all).then_some(&*self.namespace));
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.label_selector = labels.map(str::to_owned);
        let mut found = Vec::new();
        loop {
            let page = api.list(&parameters).await.map_err(|error| asked.failed(error))?;
            for guarded in page.items {
                match guarded.0 {
                    Ok(object) => found.push(object),
                    Err(error) => eprintln!(
                        "warning: {} {} can't be read by this release: {}",
                        asked.resource,
                        error.metadata.name.as_deref().unwrap_or("without a name"),
                        error.error
                    ),
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => return Ok(found),
            }
        }
    }
}
