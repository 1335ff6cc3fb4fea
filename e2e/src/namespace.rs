//! A namespace for one test.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1;
use kube::api::{ListParams, ObjectList, ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cluster::{Cluster, Whole};
use crate::image::vouchsafe;
use crate::program::run;

/// How many lines of each container's log a failure shows.
const LOG_LINES: &str = "--tail=50";

/// A namespace of a test. Dropping it deletes it; where the test panics, it stays and its state is printed.
pub struct Namespace {
    cluster: &'static Cluster,
    client: Client,
    name: String,
    /// None where no other test is there to be kept from pulling cables.
    whole: Option<Arc<Whole>>,
}

impl Namespace {
    pub(crate) async fn make(
        cluster: &'static Cluster,
        stem: &str,
        whole: Option<Arc<Whole>>,
    ) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // The process's id too: a cluster that is there already may hold what an earlier process left.
        let name = format!("{stem}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let client = cluster.client().await?;
        let labels = [("enforce", "restricted"), ("warn", "restricted")];
        let labels =
            labels.map(|(mode, level)| (format!("pod-security.kubernetes.io/{mode}"), level.to_owned()));
        let namespace = v1::Namespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            ..v1::Namespace::default()
        };
        let all: Api<v1::Namespace> = Api::all(client.clone());
        all.create(&PostParams::default(), &namespace)
            .await
            .with_context(|| format!("the namespace {name} can't be made"))?;
        Ok(Self { cluster, client, name, whole })
    }

    /// One more for the same test. Asking the cluster for a second one would wait forever for a test that waits to
    /// be alone, and that waits for the first one to go.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn another(&self, stem: &str) -> Result<Self> {
        Self::make(self.cluster, stem, self.whole.clone()).await
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// Objects of one kind in it.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates an object in it.
    ///
    /// # Errors
    /// What the API server says against it.
    pub async fn create<K>(&self, object: &K) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let created = self.api().create(&PostParams::default(), object).await;
        created.with_context(|| {
            let name = object.meta().name.as_deref().unwrap_or_default();
            format!("{} {name} can't be made in {}", K::kind(&()), self.name)
        })
    }

    /// Creates a Secret.
    ///
    /// # Errors
    /// What the API server says against it.
    pub async fn secret(&self, name: &str, entries: &[(&str, &str)]) -> Result<()> {
        let entries: BTreeMap<String, String> =
            entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let secret = v1::Secret { metadata, string_data: Some(entries), ..v1::Secret::default() };
        self.create(&secret).await.map(drop)
    }

    /// Runs kubectl in it, and returns what it wrote.
    ///
    /// # Errors
    /// With what it wrote when it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.run_kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// Runs `kubectl vouchsafe` in it, as kubectl finds it, and returns what it wrote.
    ///
    /// # Errors
    /// With what it wrote when it fails.
    pub fn plugin(&self, arguments: &[&str]) -> Result<String> {
        let folder = tempfile::tempdir().context("a folder for the plugin can't be made")?;
        let plugin = folder.path().join("kubectl-vouchsafe");
        std::os::unix::fs::symlink(vouchsafe()?, &plugin).context("the plugin can't be linked")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(testbed::tool("kubectl/kubectl"));
        command.arg("vouchsafe").args(arguments).args(["--namespace", &self.name]);
        command.env("KUBECONFIG", self.cluster.kubeconfig());
        command.env("PATH", format!("{}:{path}", folder.path().display()));
        run(&mut command)
    }

    /// Watches all objects of one kind until `is` finds the list as wanted.
    ///
    /// # Errors
    /// After `limit`, with what was `wanted`, and what the namespace is like.
    pub async fn until_listed<K>(
        &self,
        wanted: &str,
        limit: Duration,
        is: impl Fn(&ObjectList<K>) -> bool,
    ) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let api = self.api::<K>();
        let deadline = tokio::time::Instant::now() + limit;
        let mut changes = std::pin::pin!(watcher(api.clone(), watcher::Config::default()).default_backoff());
        loop {
            let listed = api
                .list(&ListParams::default())
                .await
                .with_context(|| format!("listing {}", K::plural(&())))?;
            if is(&listed) {
                return Ok(());
            }
            // Whatever changes is worth another look.
            let changed = tokio::time::timeout_at(deadline, changes.next()).await;
            changed.with_context(|| {
                format!("{} are not {wanted} after {limit:?}:\n{}", K::plural(&()), self.state())
            })?;
        }
    }

    /// Its pods with their conditions and logs, and its events: what one would ask kubectl for after a failure.
    pub fn state(&self) -> String {
        let ask = |arguments: &[&str]| {
            let asked = self.cluster.run_kubectl(&[&["--namespace", &self.name], arguments].concat());
            asked.unwrap_or_else(|error| format!("{error:#}\n"))
        };
        let pods = ask(&["get", "pods", "--output", "name"]);
        let mut text = ask(&["get", "jobs,pods", "--output", "wide"]);
        text += &ask(&["get", "events", "--sort-by", ".metadata.creationTimestamp"]);
        for pod in pods.lines().filter(|line| line.starts_with("pod/")) {
            text += &format!("log of {pod}:\n");
            text += &ask(&["logs", pod, "--all-containers", LOG_LINES]);
        }
        text
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the namespace {} when its test failed:\n{}", self.name, self.state());
        } else if let Err(error) =
            self.cluster.run_kubectl(&["delete", "namespace", &self.name, "--wait=false"])
        {
            eprintln!("the namespace {} stays: {error:#}", self.name);
        }
    }
}
