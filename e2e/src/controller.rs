//! The controller as a process of this machine, with the rights of whoever the kubeconfig is.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::image::vouchsafe;
use crate::namespace::Namespace;
use crate::program;

/// A controller that looks at one namespace, until it is dropped or killed.
#[derive(Debug)]
pub struct Controller {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Controller {
    /// Starts one that works at once, whoever else does.
    ///
    /// # Errors
    /// When the program is missing, or its log can't be written.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::with(namespace, &[namespace], None, &[], &[])
    }

    /// Starts one whose runs are made of another image.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_of(namespace: &Namespace, image: &str) -> Result<Self> {
        Self::with(namespace, &[namespace], Some(image), &[], &[])
    }

    /// Starts one with these variables, too.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(namespace: &Namespace, variables: &[(&str, &str)]) -> Result<Self> {
        Self::with(namespace, &[namespace], None, &[], variables)
    }

    /// The same with another level of its log, as `VOUCHSAFE_LOG` has it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_at(namespace: &Namespace, level: &str) -> Result<Self> {
        Self::with(namespace, &[namespace], None, &[], &[("VOUCHSAFE_LOG", level)])
    }

    /// Starts one that works while it holds the Lease in `namespace`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn elected(namespace: &Namespace) -> Result<Self> {
        Self::with(namespace, &[namespace], None, &["--leader-election-namespace", namespace.name()], &[])
    }

    /// Starts one that looks at several namespaces, and works at once.
    ///
    /// # Errors
    /// As [`Self::start`]; when there is no namespace.
    pub fn of_all(namespaces: &[&Namespace]) -> Result<Self> {
        let first = namespaces.first().context("a controller of no namespace looks at all")?;
        Self::with(first, namespaces, None, &[], &[])
    }

    fn with(
        first: &Namespace,
        namespaces: &[&Namespace],
        image: Option<&str>,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let cluster = first.cluster();
        let name = format!("controller-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let log = tempfile::Builder::new().prefix("controller-").suffix(".log").tempfile()?;
        let (file, log) = log.keep().context("the controller's log can't be kept")?;
        let mut command = Command::new(vouchsafe()?);
        command.args(["controller", "--image", image.unwrap_or(cluster.image())]);
        for namespace in namespaces {
            command.args(["--namespace", namespace.name()]);
        }
        command
            // Any port: others run beside it.
            .args(["--metrics-address", "127.0.0.1:0", "--health-address", "127.0.0.1:0"])
            .args(more)
            .env("KUBECONFIG", cluster.kubeconfig())
            // As of a pod: the holder of a Lease is known by it.
            .env("HOSTNAME", &name)
            .env("VOUCHSAFE_LOG", "warn,vouchsafe=debug")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .process_group(0);
        let child = command.spawn().with_context(|| format!("{command:?} can't be run"))?;
        Ok(Self { child, name, log })
    }

    /// Its name, with which its identity in the Lease begins.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has it stand still, as one whose machine is out of breath: its clock goes on.
    ///
    /// # Errors
    /// When it has ended, or the signal can't be sent.
    pub fn freeze(&mut self) -> Result<()> {
        self.signal("-STOP")
    }

    /// Has it go on.
    ///
    /// # Errors
    /// As [`Self::freeze`].
    pub fn thaw(&mut self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&mut self, signal: &str) -> Result<()> {
        let ended = self.child.try_wait().context("the controller can't be waited for")?;
        anyhow::ensure!(ended.is_none(), "the controller had ended: {ended:?}; its log:\n{}", self.log());
        program::run(Command::new("kill").args([signal, &self.child.id().to_string()])).map(drop)
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
