//! Where a cluster comes from.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::program::{run, script};

/// A kubeconfig of a cluster that is there already.
const KUBECONFIG: &str = "VOUCHSAFE_E2E_KUBECONFIG";
/// With it, unless e2e/cluster made it: this machine's address as pods see it.
const HOST: &str = "VOUCHSAFE_E2E_HOST";
/// With it, unless e2e/cluster made it: the image, which its nodes can pull or have.
const IMAGE: &str = "VOUCHSAFE_E2E_IMAGE";

/// Whose cluster it is.
#[derive(Debug)]
pub(crate) enum Provider {
    /// Made by one of the scripts beside this crate, which both take the same commands.
    Script(PathBuf),
    /// Somebody's own: its cables are not ours to pull.
    Given {
        /// See [`HOST`].
        host: IpAddr,
        /// See [`IMAGE`].
        image: String,
    },
}

/// A cluster that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) provider: Provider,
    pub(crate) kubeconfig: PathBuf,
    /// The script that ends the cluster when this process is gone, however it went: its standard input ends then.
    _holder: Option<Child>,
}

impl Running {
    /// The cluster that the environment names; else a new one, of kind where a Docker engine answers.
    pub(crate) fn find_or_start() -> Result<Self> {
        let local = script("cluster");
        if let Some(kubeconfig) = std::env::var_os(KUBECONFIG) {
            let kubeconfig = PathBuf::from(kubeconfig);
            let of_local = run(Command::new(&local).arg("kubeconfig"))?;
            let provider =
                if kubeconfig == Path::new(of_local.trim()) { Provider::Script(local) } else { given()? };
            return Ok(Self { provider, kubeconfig, _holder: None });
        }
        let docker = Command::new("docker").arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let script = if docker.is_ok_and(|status| status.success()) { script("kind") } else { local };
        let (holder, kubeconfig) = hold(&script)?;
        Ok(Self { provider: Provider::Script(script), kubeconfig, _holder: Some(holder) })
    }
}

impl Provider {
    /// This machine's address as pods see it.
    pub(crate) fn host(&self) -> Result<IpAddr> {
        match self {
            Self::Given { host, .. } => Ok(*host),
            Self::Script(script) => {
                let address = run(Command::new(script).arg("host"))?;
                address.trim().parse().with_context(|| format!("{} host: {address}", script.display()))
            }
        }
    }

    /// Gives the image archive `file` to every node.
    pub(crate) fn load(&self, file: &Path) -> Result<()> {
        match self {
            Self::Given { .. } => Ok(()),
            Self::Script(script) => run(Command::new(script).arg("load").arg(file)).map(drop),
        }
    }

    /// Does something to a node, or undoes it: `cut` and `mend`, `hang` and `wake`.
    pub(crate) fn node(&self, command: &str, node: &str) -> Result<()> {
        match self {
            Self::Given { .. } => {
                bail!("{command} of node {node} can't be done: the cluster is {KUBECONFIG}'s; run without it")
            }
            Self::Script(script) => run(Command::new(script).arg(command).arg(node)).map(drop),
        }
    }
}

fn given() -> Result<Provider> {
    let setting = |name: &str| {
        std::env::var(name).with_context(|| format!("{KUBECONFIG} is set: {name} has to be set, too"))
    };
    let host = setting(HOST)?;
    let host = host.parse().with_context(|| format!("{HOST} is no IP address: {host}"))?;
    Ok(Provider::Given { host, image: setting(IMAGE)? })
}

/// Starts a cluster, and returns its kubeconfig. In a process group of its own: Ctrl-C is for us, and the script
/// ends after us.
fn hold(script: &Path) -> Result<(Child, PathBuf)> {
    let mut command = Command::new(script);
    command.arg("hold").stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("{command:?} can't be run"))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.as_mut() {
        BufReader::new(stdout).read_line(&mut line).with_context(|| format!("{command:?} can't be read"))?;
    }
    if line.is_empty() {
        let status = child.wait().with_context(|| format!("{command:?} can't be waited for"))?;
        bail!("no cluster: {} hold ended with {status}; what it said stands above", script.display());
    }
    ensure!(line.ends_with('\n'), "{} hold was ended while it wrote: {line}", script.display());
    Ok((child, PathBuf::from(line.trim_end())))
}
