//! A controller as a process of its own, that is killed as a machine's failure kills it.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Killed when it is dropped.
pub struct Controller {
    process: Child,
    log: PathBuf,
}

impl Controller {
    /// Of `namespace` alone, where it holds the Lease too; with its kubeconfig and its log in `folder`.
    pub fn start(folder: &Path, namespace: &str, name: &str) -> Self {
        let log = folder.join(format!("{name}.log"));
        let process = Command::new(env!("CARGO_BIN_EXE_vouchsafe"))
            .args(["controller", "--image", "example.com/vouchsafe:0", "--namespace", namespace])
            .args(["--leader-election-namespace", namespace])
            .args(["--metrics-address", "127.0.0.1:0", "--health-address", "127.0.0.1:0"])
            .env("KUBECONFIG", folder.join("kubeconfig"))
            .env("VOUCHSAFE_LOG", "info")
            .env("HOSTNAME", name)
            .env("NO_PROXY", "*")
            .env_remove("VOUCHSAFE_LOG_FORMAT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { process, log }
    }

    /// Kills it; fails if it had ended by itself.
    pub fn kill(&mut self) -> Result<(), String> {
        self.process.kill().unwrap();
        let status = self.process.wait().unwrap();
        match status.signal() {
            Some(9) => Ok(()),
            _ => Err(format!("the controller had ended by itself: {status}\n{}", self.log())),
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it has looked at an object of each of these kinds, and come to an end with it.
    pub async fn has_looked_at(&self, kinds: &[&str]) -> bool {
        let metrics = self.metrics().await.unwrap_or_default();
        kinds.iter().all(|kind| {
            let counted = format!("vouchsafe_reconcile_total{{kind=\"{kind}\",result=\"ok\"}} ");
            metrics.contains(&counted)
        })
    }

    async fn metrics(&self) -> Option<String> {
        let log = self.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let said = lines.find(|line| line["message"] == "--metrics-address")?;
        let mut stream = TcpStream::connect(said["address"].as_str()?).await.ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
