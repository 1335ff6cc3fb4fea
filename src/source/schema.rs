//! The schema, by pg_dump in the readers' snapshot.

use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::endpoint::{Authorities, EndpointConfig, Host, Tls};
use super::error::SourceError;
use super::tools::{Tool, Tools};

/// A schema archive may not be larger. 100,000 tables with comments make some 150 MB; past this something else
/// is being dumped.
const ARCHIVE_LIMIT: u64 = 1 << 30;

/// What pg_dump says is kept up to here, from its end, for the error's message.
const STDERR_LIMIT: usize = 4 << 10;

/// Locks that pg_dump waits for: it locks what our lock session holds already, so only DDL that queued in
/// between can be in the way.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// An archive of pg_dump's custom format that holds definitions alone.
#[derive(Clone, PartialEq, Eq)]
pub struct SchemaArchive {
    /// The archive, as pg_restore reads it.
    pub bytes: Vec<u8>,
    /// What it was made with, and what it holds.
    pub facts: SchemaFacts,
}

impl std::fmt::Debug for SchemaArchive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SchemaArchive({} bytes, {:?})", self.bytes.len(), self.facts)
    }
}

/// What is known of a schema archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchemaFacts {
    /// Major version of the pg_dump that wrote it: no older pg_restore reads it.
    pub tool_major: u32,
    /// Its minor version.
    pub tool_minor: u32,
    /// Entries of its table of contents, as `pg_restore --list` counts them.
    pub entries: u64,
}

/// Dumps the definitions of everything in the database, in the snapshot `id`.
///
/// # Errors
/// [`SourceError::ToolMissing`] and [`SourceError::ToolUnfit`]; [`SourceError::ToolFailed`] with what pg_dump
/// wrote to its standard error.
pub async fn dump(
    endpoint: &EndpointConfig,
    server_version_num: u32,
    id: &str,
    tools: &Tools,
) -> Result<SchemaArchive, SourceError> {
    let tool = tools.pg_dump_for(server_version_num).await?;
    let reader = tools.pg_restore_for(tool.version, server_version_num / 10_000).await?;
    let mut command = Command::new(&tool.path);
    command
        .args(["--format=custom", "--schema-only", "--no-password"])
        // Compressed by us, as everything else is; and an archive without compression is the same for the same
        // schema but for its date.
        .arg("--compress=0")
        // Of subscriptions only a superuser may read, and a restored one would start to copy from its publisher.
        .arg("--no-subscriptions")
        .arg(format!("--snapshot={id}"))
        .arg(format!("--lock-wait-timeout={}", LOCK_WAIT.as_millis()));
    let environment = ConnectionEnvironment::of(endpoint)?;
    environment.apply(&mut command);
    let bytes = run("pg_dump", command, None).await?;
    let entries = count_entries(&reader, &bytes).await?;
    Ok(SchemaArchive {
        bytes,
        facts: SchemaFacts { tool_major: tool.version.major, tool_minor: tool.version.minor, entries },
    })
}

/// Entries of an archive's table of contents. Parses the whole of it: a truncated archive fails.
///
/// # Errors
/// [`SourceError::ToolFailed`] with what pg_restore wrote to its standard error.
pub async fn count_entries(pg_restore: &Tool, archive: &[u8]) -> Result<u64, SourceError> {
    let mut command = Command::new(&pg_restore.path);
    command.args(["--format=custom", "--list"]);
    let list = run("pg_restore", command, Some(archive)).await?;
    let lines = list.split(|byte| *byte == b'\n');
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with(b";")).count() as u64)
}

/// The variables by which libpq programs find and enter a server. Passwords are nowhere else: arguments show in
/// process lists.
#[derive(Debug)]
pub struct ConnectionEnvironment {
    variables: Vec<(&'static str, std::ffi::OsString)>,
    // Removed when the program has ended.
    _authorities: Option<tempfile::NamedTempFile>,
}

impl ConnectionEnvironment {
    /// Those for an endpoint.
    ///
    /// # Errors
    /// [`SourceError::Local`] if the authorities' certificates can't be written to a file.
    pub fn of(endpoint: &EndpointConfig) -> Result<Self, SourceError> {
        let mut variables: Vec<(&'static str, std::ffi::OsString)> = vec![
            (
                "PGHOST",
                match &endpoint.host {
                    Host::Tcp(name) => name.into(),
                    Host::Socket(directory) => directory.into(),
                },
            ),
            ("PGPORT", endpoint.port.to_string().into()),
            ("PGUSER", (&endpoint.user).into()),
            ("PGDATABASE", (&endpoint.database).into()),
            ("PGAPPNAME", "vouchsafe schema".into()),
            ("PGCONNECT_TIMEOUT", endpoint.connect_timeout.as_secs().max(2).to_string().into()),
            // libpq encrypts by GSSAPI before it thinks of TLS, if there is a ticket.
            ("PGGSSENCMODE", "disable".into()),
            ("PGOPTIONS", "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0".into()),
        ];
        if let Some(password) = &endpoint.password {
            variables.push(("PGPASSWORD", password.expose().into()));
        }
        let mut written = None;
        let mode = match &endpoint.tls {
            Tls::Disable => "disable",
            Tls::Require => "require",
            Tls::VerifyCa(authorities) | Tls::VerifyFull(authorities) => {
                let root = match authorities {
                    Authorities::File(path) => path.into(),
                    Authorities::System => system_authorities()?,
                    Authorities::Pem(pem) => written.insert(write_authorities(pem)?).path().into(),
                };
                variables.push(("PGSSLROOTCERT", root));
                if matches!(endpoint.tls, Tls::VerifyCa(_)) { "verify-ca" } else { "verify-full" }
            }
        };
        variables.push(("PGSSLMODE", mode.into()));
        Ok(Self { variables, _authorities: written })
    }

    /// Sets them, and removes every other variable that libpq reads.
    pub fn apply(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        // Messages are quoted in errors, and "already exists" is looked for in no language.
        command.env("LC_ALL", "C.UTF-8").env("LC_MESSAGES", "C");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }
}

/// libpq before 16 doesn't know `sslrootcert=system`; distributions keep the bundle in a few places.
fn system_authorities() -> Result<std::ffi::OsString, SourceError> {
    const BUNDLES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
        "/etc/ssl/ca-bundle.pem",
    ];
    let named = std::env::var_os("SSL_CERT_FILE").filter(|path| std::path::Path::new(path).is_file());
    named
        .or_else(|| BUNDLES.iter().find(|path| std::path::Path::new(path).is_file()).map(Into::into))
        .ok_or_else(|| SourceError::InvalidEndpoint {
            what:
                "this machine has no bundle of authorities that pg_dump could use; give one with sslrootcert"
                    .into(),
        })
}

fn write_authorities(pem: &[u8]) -> Result<tempfile::NamedTempFile, SourceError> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new()?;
        std::io::Write::write_all(&mut file, pem)?;
        Ok(file)
    };
    write().map_err(|source| SourceError::Local {
        doing: format!("writing the authorities' certificates in {}", std::env::temp_dir().display()),
        source,
    })
}

/// Runs a program to its end: `input` to its standard input, its standard output back.
async fn run(tool: &'static str, mut command: Command, input: Option<&[u8]>) -> Result<Vec<u8>, SourceError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let local = |what: &str| {
        let doing = format!("{what} {program}");
        move |source| SourceError::Local { doing, source }
    };
    let mut child = command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(local("starting"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let (Some(mut pipe), Some(bytes)) = (stdin, input) {
            match pipe.write_all(bytes).await {
                // A program that has read enough, or failed, closes its input; its status tells which.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
                other => other?,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let collect = async {
        let mut bytes = Vec::new();
        if let Some(pipe) = stdout {
            pipe.take(ARCHIVE_LIMIT + 1).read_to_end(&mut bytes).await?;
        }
        Ok::<_, std::io::Error>(bytes)
    };
    let complaints = async {
        let mut kept = Vec::new();
        if let Some(mut pipe) = stderr {
            let mut buffer = [0; 4096];
            loop {
                let read = pipe.read(&mut buffer).await?;
                if read == 0 {
                    break;
                }
                kept.extend_from_slice(&buffer[..read]);
                // Its last words say why it failed.
                let excess = kept.len().saturating_sub(STDERR_LIMIT);
                kept.drain(..excess);
            }
        }
        Ok::<_, std::io::Error>(kept)
    };
    let (fed, output, complaints) = tokio::join!(feed, collect, complaints);
    let output = output.map_err(local("reading the output of"))?;
    let complaints = complaints.map_err(local("reading the messages of"))?;
    let failed = |status: String, code: Option<i32>| SourceError::ToolFailed {
        tool,
        status,
        code,
        stderr: String::from_utf8_lossy(&complaints).trim().to_owned(),
    };
    if output.len() as u64 > ARCHIVE_LIMIT {
        return Err(failed(format!("more than {ARCHIVE_LIMIT} bytes of output"), None));
    }
    let status = child.wait().await.map_err(local("waiting for"))?;
    if !status.success() {
        return Err(failed(status.to_string(), status.code()));
    }
    fed.map_err(local("writing to"))?;
    Ok(output)
}
