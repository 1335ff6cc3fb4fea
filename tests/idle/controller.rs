//! The controller as a process of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// For what takes seconds, on a machine that has other things to do; a Lease runs out after 15 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// A controller, killed when it is dropped.
pub(crate) struct Controller {
    process: Child,
    log: PathBuf,
}

impl Controller {
    pub(crate) fn start(kubeconfig: &Path, namespace: &str) -> Self {
        let log = kubeconfig.with_extension("log");
        let stderr = std::fs::File::create(&log).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_vouchsafe"))
            .args([
                "controller",
                "--image",
                "example.com/vouchsafe:0",
                "--leader-election-namespace",
                namespace,
            ])
            .args(["--metrics-address", "127.0.0.1:0", "--health-address", "127.0.0.1:0"])
            .env("KUBECONFIG", kubeconfig)
            .env("VOUCHSAFE_LOG", "info")
            .env_remove("VOUCHSAFE_LOG_FORMAT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { process, log }
    }

    /// The whole log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn address(&self, option: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said =
                |line: &str| serde_json::from_str::<Value>(line).ok().filter(|it| it["message"] == option);
            if let Some(line) = self.log().lines().find_map(said) {
                return line["address"].as_str().unwrap().to_owned();
            }
            assert!(Instant::now() < deadline, "no {option} in {PATIENCE:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn page(&self, option: &str, path: &str) -> String {
        let address = self.address(option);
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Reconciliations of a kind that have ended, those that failed included.
    fn reconciled(metrics: &str, kind: &str) -> usize {
        let of_kind = format!("vouchsafe_reconcile_total{{kind=\"{kind}\"");
        let lines = metrics.lines().filter(|line| line.starts_with(&of_kind));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
    }

    /// Whether it works, has listed everything, and has looked at as many objects of each kind as it is told there are.
    pub(crate) fn has_seen(&self, objects: &[(&str, usize)]) -> bool {
        if !self.page("--health-address", "/readyz").contains("works") {
            return false;
        }
        let metrics = self.page("--metrics-address", "/metrics");
        objects.iter().all(|(kind, count)| Self::reconciled(&metrics, kind) >= *count)
    }

    /// A field of its status in /proc, in KiB: `VmRSS`, or `VmHWM`.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.log());
        }
    }
}
