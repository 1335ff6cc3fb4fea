//! The cluster that all tests of this process share.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::namespace::Namespace;
use crate::provider::{Provider, Running};
use crate::{image, program};

/// Held for reading by every test, for writing by one that cuts nodes off: the others would not survive it.
static WHOLE: RwLock<()> = RwLock::const_new(());

/// Three nodes in two regions, and the image on each of them.
#[derive(Debug)]
pub struct Cluster {
    running: Running,
    host: IpAddr,
    image: String,
}

/// The cluster, started on first use.
///
/// # Errors
/// Why it can't be had: the same for every test, and started once only.
pub async fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Result<Cluster, String>> = OnceCell::const_new();
    let cluster = CLUSTER.get_or_init(|| async {
        let started = tokio::task::spawn_blocking(Cluster::start).await;
        started.map_err(|panicked| panicked.to_string())?.map_err(|error| format!("{error:#}"))
    });
    cluster.await.as_ref().map_err(|error| anyhow!("these tests need a cluster: {error}"))
}

impl Cluster {
    /// The image is made while the cluster starts.
    fn start() -> Result<Self> {
        let (running, archive) = std::thread::scope(|scope| {
            let archive = scope.spawn(image::archive);
            let running = Running::find_or_start();
            (running, archive.join())
        });
        let running = running?;
        let host = running.provider.host()?;
        let image = match &running.provider {
            Provider::Given { image, .. } => image.clone(),
            Provider::Script(_) => {
                let archive = archive.map_err(|_| anyhow!("making the image panicked"))?;
                running.provider.load(&archive.context("the image can't be made")?)?;
                image::NAME.to_owned()
            }
        };
        let cluster = Self { running, host, image };
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        cluster.run_kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            &crds.to_string_lossy(),
        ])?;
        cluster.run_kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "-f",
            &crds.to_string_lossy(),
        ])?;
        Ok(cluster)
    }

    /// This machine's address as pods see it. Servers of the testbed that pods shall reach listen there.
    pub fn host(&self) -> IpAddr {
        self.host
    }

    /// Name of the image on every node.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.running.kubeconfig
    }

    /// A client of the administrator. Each test has its own: a client ends with the runtime that it was made in.
    ///
    /// # Errors
    /// When the kubeconfig can't be used.
    pub async fn client(&self) -> Result<Client> {
        let file = self.kubeconfig();
        let unusable = || format!("the kubeconfig {} can't be used", file.display());
        let kubeconfig = Kubeconfig::read_from(file).with_context(unusable)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Client::try_from(config.with_context(unusable)?).with_context(unusable)
    }

    /// kubectl of the cluster's own version, for what documents tell people to type.
    pub fn kubectl(&self) -> std::process::Command {
        let mut command = std::process::Command::new(testbed::tool("kubectl/kubectl"));
        command.env_remove("KUBECONFIG").arg("--kubeconfig").arg(self.kubeconfig());
        command
    }

    /// Runs kubectl, and returns what it wrote.
    ///
    /// # Errors
    /// With what it wrote when it fails.
    pub fn run_kubectl(&self, arguments: &[&str]) -> Result<String> {
        program::run(self.kubectl().args(arguments))
    }

    /// A namespace of its own for one test, `stem` and a number, where only pods of the `restricted` standard are
    /// admitted. While it lives, no node is cut off by another test. A test asks once; see [`Namespace::another`].
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn namespace(&'static self, stem: &str) -> Result<Namespace> {
        let whole = WHOLE.read().await;
        Namespace::make(self, stem, Some(Arc::new(whole))).await
    }

    /// Waits until no other test uses the cluster, and keeps them out: for cutting nodes off.
    pub async fn alone(&'static self) -> Alone {
        Alone { cluster: self, cut: Mutex::new(vec![]), _guard: WHOLE.write().await }
    }

    /// Name of the node of a zone.
    ///
    /// # Errors
    /// When there is none, or several.
    pub async fn node_in(&self, zone: &str) -> Result<String> {
        let nodes: Api<Node> = Api::all(self.client().await?);
        let of_zone = ListParams::default().labels(&format!("topology.kubernetes.io/zone={zone}"));
        let found = nodes.list(&of_zone).await.with_context(|| format!("listing nodes of zone {zone}"))?;
        match found.items.as_slice() {
            [node] => Ok(node.name_any()),
            nodes => Err(anyhow!("zone {zone} has {} nodes; the tests want one", nodes.len())),
        }
    }
}

/// The right to cut nodes off. What is still cut when it goes, is mended.
#[derive(Debug)]
pub struct Alone {
    cluster: &'static Cluster,
    cut: Mutex<Vec<String>>,
    _guard: RwLockWriteGuard<'static, ()>,
}

/// Shared use of the cluster.
pub(crate) type Whole = RwLockReadGuard<'static, ()>;

impl Alone {
    /// As [`Cluster::namespace`].
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn namespace(&self, stem: &str) -> Result<Namespace> {
        Namespace::make(self.cluster, stem, None).await
    }

    /// Cuts a node off: nothing reaches it, and it reaches nothing.
    ///
    /// # Errors
    /// When the cluster is not ours to cut.
    pub fn cut(&self, node: &str) -> Result<()> {
        self.nodes().push(node.to_owned());
        self.cluster.running.provider.cable("cut", node)
    }

    /// Connects a node again that was cut off.
    ///
    /// # Errors
    /// When the script fails.
    pub fn mend(&self, node: &str) -> Result<()> {
        self.cluster.running.provider.cable("mend", node)?;
        self.nodes().retain(|cut| cut != node);
        Ok(())
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        for node in self.nodes().drain(..) {
            if let Err(error) = self.cluster.running.provider.cable("mend", &node) {
                eprintln!("node {node} stays cut off: {error:#}");
            }
        }
    }
}
