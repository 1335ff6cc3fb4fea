//! The chart, installed by Helm as users do.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::namespace::Namespace;
use crate::program;

/// Name of the release.
const RELEASE: &str = "vouchsafe";

/// Has Helm wait for pods that are ready.
const WAIT: [&str; 3] = ["--wait", "--timeout", "180s"];

/// Whose turn it is to install: what an installation has of the whole cluster has the same names in each.
static TURN: Mutex<()> = Mutex::const_new(());

/// The right to install what belongs to the whole cluster, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _held: MutexGuard<'static, ()>,
}

/// Waits until no other test has an installation.
pub async fn turn_to_install() -> Turn {
    Turn { _held: TURN.lock().await }
}

/// A release that looks at one namespace, from another one; uninstalled when it is dropped.
pub struct Release {
    home: Namespace,
    watched: String,
    _turn: Turn,
    installed: bool,
}

impl Release {
    /// Installs it, and waits until both replicas say that they are ready. CustomResourceDefinitions are the
    /// cluster's, which other tests use, too.
    ///
    /// # Errors
    /// What Helm says.
    pub async fn install(watched: &Namespace) -> Result<Self> {
        let turn = turn_to_install().await;
        let home = watched.another("operator").await?;
        let mut release = Self { home, watched: watched.name().to_owned(), _turn: turn, installed: false };
        release.install_again()?;
        Ok(release)
    }

    /// Installs it once more after [`Self::uninstall`].
    ///
    /// # Errors
    /// What Helm says.
    pub fn install_again(&mut self) -> Result<()> {
        self.installed = true;
        self.apply("install", "info,vouchsafe=debug")
    }

    /// Upgrades it to another level of its log, for which its pods are replaced, and waits until they are.
    ///
    /// # Errors
    /// What Helm says.
    pub fn upgrade(&self, log: &str) -> Result<()> {
        self.apply("upgrade", log)
    }

    /// Goes back to its first revision, and waits until its pods are replaced.
    ///
    /// # Errors
    /// What Helm says.
    pub fn roll_back(&self) -> Result<()> {
        let mut helm = self.helm("rollback");
        program::run(helm.arg("1").args(WAIT)).with_context(|| self.home.state()).map(drop)
    }

    /// Runs the chart's own test.
    ///
    /// # Errors
    /// When it fails.
    pub fn test(&self) -> Result<()> {
        let mut helm = self.helm("test");
        program::run(helm.args(["--timeout", "120s"])).with_context(|| self.home.state()).map(drop)
    }

    fn apply(&self, command: &str, log: &str) -> Result<()> {
        let (repository, tag) =
            self.home.cluster().image().rsplit_once(':').context("an image without a tag")?;
        let values = json!({
            "watchNamespaces": [self.watched],
            "image": {"repository": repository, "tag": tag},
            "crds": {"enabled": false},
            "log": log,
        });
        let chart = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/vouchsafe");
        let mut helm = self.helm(command);
        helm.arg(chart).args(WAIT);
        for (name, value) in values.as_object().context("an object")? {
            helm.arg("--set-json").arg(format!("{name}={value}"));
        }
        program::run(&mut helm).with_context(|| self.home.state()).map(drop)
    }

    /// The namespace that it runs in.
    #[must_use]
    pub fn home(&self) -> &Namespace {
        &self.home
    }

    /// Uninstalls it.
    ///
    /// # Errors
    /// What Helm says.
    pub fn uninstall(&mut self) -> Result<()> {
        self.installed = false;
        program::run(self.helm("uninstall").arg("--wait")).map(drop)
    }

    fn helm(&self, command: &str) -> Command {
        let mut helm = Command::new(testbed::tool("helm/helm"));
        // Nothing of the person's who runs the tests.
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(variable, std::env::temp_dir().join("vouchsafe-no-helm"));
        }
        let kubeconfig = self.home.cluster().kubeconfig();
        helm.arg(command)
            .arg(RELEASE)
            .args(["--namespace", self.home.name()])
            .arg("--kubeconfig")
            .arg(kubeconfig);
        helm
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the operator when the test failed:\n{}", self.home.state());
        }
        if self.installed
            && let Err(error) = self.uninstall()
        {
            eprintln!("the release stays: {error:#}");
        }
    }
}
