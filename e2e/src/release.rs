//! The chart, installed by Helm as users do.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use crate::namespace::Namespace;
use crate::program;

/// Name of the release.
const RELEASE: &str = "vouchsafe";

/// A release that looks at one namespace, from another one; uninstalled when it is dropped.
pub struct Release {
    home: Namespace,
    installed: bool,
}

impl Release {
    /// Installs it, and waits until both replicas say that they are ready. CustomResourceDefinitions are the
    /// cluster's, which other tests use, too.
    ///
    /// # Errors
    /// What Helm says.
    pub async fn install(watched: &Namespace) -> Result<Self> {
        let home = watched.another("operator").await?;
        let mut release = Self { home, installed: false };
        let image = watched.cluster().image();
        let (repository, tag) = image.rsplit_once(':').context("an image without a tag")?;
        let values = json!({
            "watchNamespaces": [watched.name()],
            "image": {"repository": repository, "tag": tag},
            "crds": {"enabled": false},
            "log": "info,vouchsafe=debug",
        });
        let chart = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/vouchsafe");
        let mut helm = release.helm("install");
        helm.arg(chart).args(["--wait", "--timeout", "180s"]);
        for (name, value) in values.as_object().context("an object")? {
            helm.arg("--set-json").arg(format!("{name}={value}"));
        }
        release.installed = true;
        program::run(&mut helm).with_context(|| release.home.state())?;
        Ok(release)
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
