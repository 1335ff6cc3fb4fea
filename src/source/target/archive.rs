//! `pg_restore`, told by dump ids what to restore.
//!
//! Every statement of the schema is executed by `pg_restore` itself, connected to the target; nothing passes
//! through psql, whose meta-commands a name could smuggle in. `--exit-on-error` makes the first refused
//! statement the end; a warning counts as one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::error::TargetError;
use super::toc::{Toc, TocEntry};
use crate::source::endpoint::EndpointConfig;
use crate::source::schema::ConnectionEnvironment;

/// Of `pg_restore`'s messages: the first error with its statement, which may be a long function.
const STDERR_BYTES: u64 = 16 << 10;
/// Of `pg_restore --list`: no limit but that of an archive of 4 million entries of 256 bytes.
const LIST_BYTES: u64 = 1 << 30;

/// Settings of every session of `pg_restore`. The rename at the end of the restore is committed synchronously,
/// and with it all that was written before.
const OPTIONS: &str = "-c synchronous_commit=off -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0";

/// What is left out of every statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveOptions {
    /// Everything belongs to the role that restores.
    pub no_owner: bool,
    /// No privileges are granted or revoked.
    pub no_privileges: bool,
    /// Everything lies in the database's default tablespace.
    pub no_tablespaces: bool,
}

/// A schema archive on this machine, and the program that restores from it.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    program: PathBuf,
    options: ArchiveOptions,
    role: Option<String>,
    toc: Toc,
}

impl Archive {
    /// Reads the table of contents of the archive in `path`, and makes sure that `program`, a `pg_restore`,
    /// reads the same one.
    ///
    /// # Errors
    /// The archive is malformed, or of a version that either can't read.
    pub async fn open(path: &Path, program: &Path, options: ArchiveOptions) -> Result<Self, TargetError> {
        let owned = path.to_owned();
        let toc = tokio::task::spawn_blocking(move || Toc::read(&owned)).await.map_err(|error| {
            TargetError::Local {
                doing: format!("reading {}", path.display()),
                source: std::io::Error::other(error),
            }
        })??;
        let (path, program) = (path.to_owned(), program.to_owned());
        let archive = Self { path, program, options, role: None, toc };
        archive.compare_lists().await?;
        Ok(archive)
    }

    /// The same, every statement executed as `role`, to which everything then belongs, if owners are left out.
    #[must_use]
    pub fn executed_as(self, role: &str) -> Self {
        Self { role: Some(role.to_owned()), ..self }
    }

    /// What it holds.
    #[must_use]
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// Restores the entries of `ids`, in that order, over at most `jobs` connections at once. Dependencies among
    /// them are kept. `phase` is what messages call it.
    ///
    /// # Errors
    /// [`TargetError::ToolFailed`] if a single statement was refused, or anything was warned of. Statements
    /// before it stay done: there is no way on but to begin the restore anew.
    pub async fn restore(
        &self,
        endpoint: &EndpointConfig,
        phase: &str,
        ids: &[i32],
        jobs: usize,
    ) -> Result<(), TargetError> {
        if ids.is_empty() {
            return Ok(());
        }
        let local = |source| TargetError::Local {
            doing: format!("writing the list for pg_restore in {}", std::env::temp_dir().display()),
            source,
        };
        let mut list = tempfile::NamedTempFile::new().map_err(local)?;
        let text = ids.iter().map(|id| format!("{id};\n")).collect::<String>();
        list.write_all(text.as_bytes()).map_err(local)?;
        list.flush().map_err(local)?;

        let environment = ConnectionEnvironment::of(endpoint)?;
        let mut command = Command::new(&self.program);
        environment.apply(&mut command);
        command.env("PGOPTIONS", OPTIONS).env("PGAPPNAME", "vouchsafe restore");
        command.arg("--dbname").arg(conninfo(&endpoint.database));
        command.args(["--exit-on-error", "--no-password", "--format=custom"]);
        command.arg("--use-list").arg(list.path());
        if jobs > 1 && ids.len() > 1 {
            command.arg(format!("--jobs={jobs}"));
        }
        for (wanted, flag) in [
            (self.options.no_owner, "--no-owner"),
            (self.options.no_privileges, "--no-privileges"),
            (self.options.no_tablespaces, "--no-tablespaces"),
        ] {
            if wanted {
                command.arg(flag);
            }
        }
        if let Some(role) = &self.role {
            command.arg("--role").arg(role);
        }
        command.arg(&self.path).stdout(Stdio::null());
        let (status, _, stderr) = self.run(command, 0).await?;
        if status.success() && stderr.trim().is_empty() {
            return Ok(());
        }
        Err(TargetError::ToolFailed { phase: phase.to_owned(), status: status.to_string(), stderr })
    }

    /// Every id that `pg_restore` would restore must be one that we read, and the other way round.
    async fn compare_lists(&self) -> Result<(), TargetError> {
        let mut command = Command::new(&self.program);
        command.arg("--list").arg("--format=custom").arg(&self.path).stdout(Stdio::piped());
        let (status, stdout, stderr) = self.run(command, LIST_BYTES).await?;
        if !status.success() {
            return Err(TargetError::ToolFailed {
                phase: "the archive's list of entries".into(),
                status: status.to_string(),
                stderr,
            });
        }
        // An entry's line begins with its id; comments begin with a semicolon. Names are bytes of the
        // database's encoding, and don't matter here.
        let theirs: BTreeSet<i32> = stdout
            .split(|byte| *byte == b'\n')
            .filter_map(|line| {
                let end = line.iter().position(|byte| *byte == b';')?;
                std::str::from_utf8(&line[..end]).ok()?.parse().ok()
            })
            .collect();
        let ours: BTreeSet<i32> =
            self.toc.entries.iter().filter(|entry| !is_unlisted(entry)).map(|entry| entry.dump_id).collect();
        if theirs == ours {
            return Ok(());
        }
        let difference =
            ours.symmetric_difference(&theirs).take(8).map(i32::to_string).collect::<Vec<_>>().join(", ");
        Err(TargetError::ArchiveDisputed { program: self.program.clone(), difference })
    }

    /// Runs the program to its end; `stdout` is read up to `limit` bytes, and is an error beyond.
    async fn run(
        &self,
        mut command: Command,
        limit: u64,
    ) -> Result<(std::process::ExitStatus, Vec<u8>, String), TargetError> {
        let local =
            |source| TargetError::Local { doing: format!("running {}", self.program.display()), source };
        // English messages; and when we are dropped, so is the program: its sessions end with the statement
        // they are at.
        command.env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(local)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        // Both pipes are drained to their ends, or the program would wait for us.
        let (out, err) = tokio::join!(read_limited(out, limit), read_limited(err, STDERR_BYTES));
        let status = child.wait().await.map_err(local)?;
        let (out, cut) = out.map_err(local)?;
        if cut && limit > 0 {
            return Err(local(std::io::Error::other(format!("it wrote more than {limit} bytes"))));
        }
        let (err, cut) = err.map_err(local)?;
        let mut text = String::from_utf8_lossy(&err).trim().to_owned();
        if cut {
            text.push('…');
        }
        Ok((status, out, text))
    }
}

/// Entries that `--list` leaves out as long as `--create` isn't given, and those that set a session up.
fn is_unlisted(entry: &TocEntry) -> bool {
    match entry.kind.as_str() {
        "ENCODING" | "STDSTRINGS" | "SEARCHPATH" | "DATABASE" | "DATABASE PROPERTIES" => true,
        "COMMENT" | "ACL" | "SECURITY LABEL" => entry.schema.is_none() && entry.tag.starts_with("DATABASE "),
        _ => false,
    }
}

/// The first `limit` bytes of a stream that is read to its end, and whether there were more.
async fn read_limited(
    stream: Option<impl AsyncRead + Unpin>,
    limit: u64,
) -> std::io::Result<(Vec<u8>, bool)> {
    let Some(mut stream) = stream else { return Ok((Vec::new(), false)) };
    let mut kept = Vec::new();
    (&mut stream).take(limit).read_to_end(&mut kept).await?;
    let rest = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok((kept, rest > 0))
}

/// A database's name as `--dbname` takes it: bare, one with `=` in it would be read as a connection string.
fn conninfo(database: &str) -> OsString {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_names_are_no_connection_strings() {
        assert_eq!(conninfo("a'b\\c=d host=evil"), "dbname='a\\'b\\\\c=d host=evil'");
    }
}
