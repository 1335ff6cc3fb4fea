//! The controller as a process of this machine, with the rights of whoever the kubeconfig is.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::image::vouchsafe;
use crate::namespace::Namespace;

/// A controller that looks at one namespace, until it is dropped or killed.
#[derive(Debug)]
pub struct Controller {
    child: Child,
    log: PathBuf,
}

impl Controller {
    /// Starts one.
    ///
    /// # Errors
    /// When the program is missing, or its log can't be written.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::start_at(namespace, "warn,vouchsafe=debug")
    }

    /// The same with another level of its log, as `VOUCHSAFE_LOG` has it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_at(namespace: &Namespace, level: &str) -> Result<Self> {
        let cluster = namespace.cluster();
        let log = tempfile::Builder::new().prefix("controller-").suffix(".log").tempfile()?;
        let (file, log) = log.keep().context("the controller's log can't be kept")?;
        let mut command = Command::new(vouchsafe()?);
        command
            .args(["controller", "--image", cluster.image(), "--namespace", namespace.name()])
            // Any port: others run beside it.
            .args(["--metrics-address", "127.0.0.1:0", "--health-address", "127.0.0.1:0"])
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("VOUCHSAFE_LOG", level)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .process_group(0);
        let child = command.spawn().with_context(|| format!("{command:?} can't be run"))?;
        Ok(Self { child, log })
    }

    /// Ends it at once, as a node that fails would.
    ///
    /// # Errors
    /// When it has ended by itself: it never should.
    pub fn kill9(mut self) -> Result<()> {
        let ended = self.child.try_wait().context("the controller can't be waited for")?;
        anyhow::ensure!(ended.is_none(), "the controller had ended: {ended:?}; its log:\n{}", self.log());
        Ok(())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the controller's last lines:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        let _ = std::fs::remove_file(&self.log);
    }
}
