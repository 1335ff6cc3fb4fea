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
        Alone { cluster: self, undo: Mutex::new(vec![]), _guard: WHOLE.write().await }
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

/// The right to do things to nodes. What is not undone when it goes, is undone then.
#[derive(Debug)]
pub struct Alone {
    cluster: &'static Cluster,
    /// What is still to be undone: of which node, and how.
    undo: Mutex<Vec<(String, Undo)>>,
    _guard: RwLockWriteGuard<'static, ()>,
}

/// How something that was done to a node is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    Mend,
    Wake,
    Uncordon,
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
        self.to_undo().push((node.to_owned(), Undo::Mend));
        self.cluster.running.provider.node("cut", node)
    }

    /// Connects a node again that was cut off.
    ///
    /// # Errors
    /// When the script fails.
    pub fn mend(&self, node: &str) -> Result<()> {
        self.undo(node, Undo::Mend)
    }

    /// Has a node's kubelet stand still: its pods go on, whatever was decided about them.
    ///
    /// # Errors
    /// When the cluster is not ours.
    pub fn hang(&self, node: &str) -> Result<()> {
        self.to_undo().push((node.to_owned(), Undo::Wake));
        self.cluster.running.provider.node("hang", node)
    }

    /// Has a kubelet go on that stands still.
    ///
    /// # Errors
    /// When the script fails.
    pub fn wake(&self, node: &str) -> Result<()> {
        self.undo(node, Undo::Wake)
    }

    /// Has no new pod come to a node.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn cordon(&self, node: &str) -> Result<()> {
        self.to_undo().push((node.to_owned(), Undo::Uncordon));
        self.cluster.run_kubectl(&["cordon", node]).map(drop)
    }

    /// Lets new pods come to a node again.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn uncordon(&self, node: &str) -> Result<()> {
        self.undo(node, Undo::Uncordon)
    }

    fn undo(&self, node: &str, undo: Undo) -> Result<()> {
        self.carry_out(node, undo)?;
        self.to_undo().retain(|(of, known)| of != node || *known != undo);
        Ok(())
    }

    fn carry_out(&self, node: &str, undo: Undo) -> Result<()> {
        match undo {
            Undo::Mend => self.cluster.running.provider.node("mend", node),
            Undo::Wake => self.cluster.running.provider.node("wake", node),
            Undo::Uncordon => self.cluster.run_kubectl(&["uncordon", node]).map(drop),
        }
    }

    fn to_undo(&self) -> std::sync::MutexGuard<'_, Vec<(String, Undo)>> {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let left: Vec<_> = self.to_undo().drain(..).collect();
        for (node, undo) in left {
            if let Err(error) = self.carry_out(&node, undo) {
                eprintln!("{undo:?} of node {node} failed: {error:#}");
            }
        }
    }
}
