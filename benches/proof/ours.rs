//! The program itself, as a user runs it, with the moments at which its stages began.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testbed::{PASSWORD, Postgres};

/// One command of ours.
#[derive(Debug)]
pub(crate) struct Run {
    /// Lines of standard error with their moments: stages, in a pipe.
    lines: Vec<(Duration, String)>,
    /// From start to exit.
    pub(crate) total: Duration,
    /// High-water mark of its resident memory, in KiB, as last seen before it ended.
    pub(crate) peak_kib: u64,
}

impl Run {
    /// Time of all stages that are called `name`.
    pub(crate) fn stage(&self, name: &str) -> Duration {
        let ends = self.lines.iter().skip(1).map(|(moment, _)| *moment).chain(std::iter::once(self.total));
        let spent = self.lines.iter().zip(ends).filter(|((_, line), _)| line.starts_with(name));
        spent.map(|((began, _), ended)| ended - *began).sum()
    }
}

/// Runs `vouchsafe` with `arguments`, which must succeed.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vouchsafe"))
        .args(arguments)
        .env("PGPASSWORD", PASSWORD)
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let stderr = child.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(stderr).lines();
        lines.map(|line| (began.elapsed(), line.unwrap())).collect::<Vec<_>>()
    });
    let mut peak_kib = 0;
    let status = loop {
        if let Ok(text) = std::fs::read_to_string(&status) {
            let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let mark = mark.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
            peak_kib = mark.unwrap_or(0).max(peak_kib);
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let total = began.elapsed();
    let lines = reading.join().unwrap();
    assert!(status.success(), "vouchsafe {arguments:?} ended with {status}: {lines:#?}");
    Run { lines, total, peak_kib }
}

/// `--tools` for a server, so that ours and the peers' pg_dump are the same program.
pub(crate) fn tools(server: &Postgres) -> String {
    server.client_bin_dir().display().to_string()
}

/// A folder's URL.
pub(crate) fn folder_url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}
