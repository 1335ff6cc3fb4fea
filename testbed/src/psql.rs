//! SQL through PostgreSQL's own client: what tests compare against must share no code with Vouchsafe.

use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};

/// psql ended with an error.
#[derive(Debug)]
pub struct PsqlFailed {
    /// What psql wrote to standard error: the server's message with its position.
    pub stderr: String,
    sql: String,
}

impl fmt::Display for PsqlFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "psql failed: {}\nin: {}", self.stderr.trim_end(), self.sql)
    }
}

impl std::error::Error for PsqlFailed {}

/// Runs `sql` by `psql`, a command that names program and server, and returns its output without the last
/// newline.
pub(crate) fn run(mut psql: Command, sql: &str) -> Result<String, PsqlFailed> {
    let failed = |stderr: String| PsqlFailed { stderr, sql: sql.to_owned() };
    let mut child = psql
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| failed(format!("can't start {psql:?}: {cause}")))?;
    // From another thread: a long script and a long answer at once would fill both pipes and wait forever.
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A script that fails early closes the pipe; what went wrong is in standard error.
            let _ = stdin.map(|mut stdin| stdin.write_all(sql.as_bytes()));
        });
        child.wait_with_output()
    })
    .map_err(|cause| failed(format!("can't read psql's answer: {cause}")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
