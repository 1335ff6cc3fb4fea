//! The overlay for named namespaces, applied by kubectl as docs/install.md says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Cluster, Namespace, Shop, Turn, cluster, turn_to_install};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use vouchsafe::api::{Backup, BackupStore};

const LIMIT: Duration = Duration::from_secs(240);

/// Where the overlay puts the controller.
const HOME: &str = "vouchsafe-system";

/// The overlay, changed as its comments say and applied; taken away when it is dropped, but for the definitions, which
/// other tests use, too.
struct Overlay {
    cluster: &'static Cluster,
    folder: tempfile::TempDir,
    _turn: Turn,
}

impl Overlay {
    async fn apply(watched: &Namespace) -> Result<Self> {
        let turn = turn_to_install().await;
        let cluster = watched.cluster();
        let folder = tempfile::tempdir()?;
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
        // kustomize takes relative paths only.
        let copied = std::process::Command::new("cp").arg("-r").arg(config).arg(folder.path()).status()?;
        anyhow::ensure!(copied.success(), "config/ can't be copied");
        let overlay = Self { cluster, folder, _turn: turn };
        let (name, tag) = cluster.image().rsplit_once(':').context("an image without a tag")?;
        let changes = [
            ("namespace: shop", format!("namespace: {}", watched.name())),
            ("value: shop", format!("value: {}", watched.name())),
            ("values: [shop]", format!("values: [{}]", watched.name())),
            ("newName: vouchsafe", format!("newName: {name}")),
            ("newTag: 0.1.0", format!("newTag: {tag}")),
        ];
        for file in ["namespaced/kustomization.yaml", "namespaced/shop/kustomization.yaml"] {
            let file = overlay.path(file);
            let mut text = std::fs::read_to_string(&file)?;
            for (from, to) in &changes {
                text = text.replace(from, to);
            }
            std::fs::write(&file, text)?;
        }
        let path = overlay.path("namespaced").display().to_string();
        cluster.run_kubectl(&["apply", "--server-side", "--force-conflicts", "-k", &path])?;
        let available = ["rollout", "status", "deployment/vouchsafe", "--namespace", HOME, "--timeout=180s"];
        cluster.run_kubectl(&available)?;
        Ok(overlay)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("config").join(below)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log =
                ["logs", "--namespace", HOME, "--selector=app.kubernetes.io/name=vouchsafe", "--tail=60"];
            eprintln!("the controller's last lines:\n{}", self.cluster.run_kubectl(&log).unwrap_or_default());
        }
        let file = self.path("namespaced/kustomization.yaml");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::write(&file, text.replace("- ../crd\n", ""));
        let path = self.path("namespaced").display().to_string();
        if let Err(error) = self.cluster.run_kubectl(&["delete", "--ignore-not-found", "-k", &path]) {
            eprintln!("the overlay stays: {error:#}");
        }
    }
}

/// How many objects there are in a namespace of what a controller makes.
async fn made_in(namespace: &Namespace) -> Result<usize> {
    let all = ListParams::default();
    let own = namespace
        .api::<ServiceAccount>()
        .list(&all)
        .await?
        .iter()
        .filter(|it| it.name_any() != "default")
        .count();
    let maps = namespace.api::<ConfigMap>().list(&all).await?;
    let maps = maps.iter().filter(|it| it.name_any() != "kube-root-ca.crt").count();
    let (roles, bindings) =
        (namespace.api::<Role>().list(&all).await?, namespace.api::<RoleBinding>().list(&all).await?);
    Ok(own
        + maps
        + roles.items.len()
        + bindings.items.len()
        + namespace.api::<Job>().list(&all).await?.items.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_namespace_is_served_and_another_is_not_touched() -> Result<()> {
    let named = cluster().await?.namespace("named").await?;
    let other = named.another("not-named").await?;
    let (here, there) = (Shop::open_in_one(named).await?, Shop::open_in_one(other).await?);
    // There before the controller, which lists first, and so would meet it first.
    there.namespace.create(&there.backup("first", &json!({}))?).await?;
    let _overlay = Overlay::apply(&here.namespace).await?;
    here.namespace.create(&here.backup("first", &json!({}))?).await?;
    here.succeeded("first", LIMIT).await?;
    assert_eq!(here.run("verify", &["1"])?["proven"], true);
    assert!(made_in(&here.namespace).await? > 0, "what is made is not counted");

    let untouched = there.namespace.api::<Backup>().get("first").await?;
    let seen = untouched.status.and_then(|status| status.observed_generation);
    assert_eq!(seen, Some(-1), "as the API server made it");
    let store = there.namespace.api::<BackupStore>().get("orders").await?;
    assert_eq!(store.status.and_then(|status| status.observed_generation), Some(-1));
    assert_eq!(made_in(&there.namespace).await?, 0);
    assert_eq!(there.keys("eu")?, Vec::<String>::new());
    // And it did not even ask: it would have been told that it may not.
    let deployments: Api<Deployment> = Api::namespaced(here.namespace.cluster().client().await?, HOME);
    let replicas = deployments.get("vouchsafe").await?.status.and_then(|status| status.ready_replicas);
    assert_eq!(replicas, Some(2));
    let log = ["logs", "--namespace", HOME, "--selector=app.kubernetes.io/name=vouchsafe", "--tail=-1"];
    let log = here.namespace.cluster().run_kubectl(&log)?;
    assert!(log.contains("first"), "no log of the controller's: {log}");
    assert!(!log.to_lowercase().contains("forbidden"), "{log}");
    Ok(())
}
