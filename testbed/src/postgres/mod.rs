//! PostgreSQL servers.

mod builder;
mod version;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::psql::{self, PsqlFailed};
use crate::spawn::{As, PATIENCE, POLL, Running, tail, tethered};
use crate::tls::Certificates;
use crate::{ports, tools};

/// The password of the superuser `postgres` of every test server.
pub const PASSWORD: &str = "testbed";

/// How often a server that found its port taken is started on another one.
const PORT_ATTEMPTS: u32 = 5;

pub use builder::Builder;
pub use version::PgVersion;

/// A PostgreSQL server of its own. Dropping it stops it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    version: PgVersion,
    folder: PathBuf,
    address: IpAddr,
    /// A port; atomic because the first one may turn out to be taken.
    port: AtomicU32,
    certificates: Option<Certificates>,
    process: Mutex<Option<Running>>,
    next_database: AtomicU32,
}

/// The server of `version` that all tests of this process share, started on first use. Tests keep apart by
/// databases ([`Postgres::fresh_database`]) and by their own names of roles.
pub fn shared(version: PgVersion) -> &'static Postgres {
    static SERVERS: OnceLock<HashMap<PgVersion, OnceLock<Postgres>>> = OnceLock::new();
    let servers = SERVERS.get_or_init(|| PgVersion::ALL.map(|version| (version, OnceLock::new())).into());
    servers[&version].get_or_init(|| Postgres::start(version))
}

impl Postgres {
    /// Starts a server with default settings, but without fsync.
    #[must_use]
    pub fn start(version: PgVersion) -> Self {
        Self::builder(version).start()
    }

    /// Says what a server shall be like before it starts.
    #[must_use]
    pub fn builder(version: PgVersion) -> Builder {
        Builder::new(version)
    }

    /// Its major version.
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// Its address: 127.0.0.1, or that of [`Builder::address`].
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its TCP port; stays the same over [`Self::restart`].
    pub fn port(&self) -> u16 {
        u16::try_from(self.port.load(Ordering::SeqCst)).unwrap_or_default()
    }

    /// The URL of a database for the superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", PASSWORD, database)
    }

    /// The URL of a database for any user; all three are percent-encoded here.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        let [user, password, database] = [user, password, database].map(percent_encoded);
        format!("postgres://{user}:{password}@{}:{}/{database}", self.address, self.port())
    }

    /// The folder of its Unix socket; a password is asked for there too.
    pub fn socket_dir(&self) -> &Path {
        &self.folder
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// See [`PgVersion::bin_dir`].
    pub fn bin_dir(&self) -> PathBuf {
        self.version.bin_dir()
    }

    /// See [`PgVersion::client_bin_dir`].
    pub fn client_bin_dir(&self) -> PathBuf {
        self.version.client_bin_dir()
    }

    /// The certificate of the authority that signed the server's, with [`Builder::tls`].
    pub fn authority(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|certificates| certificates.authority.as_path())
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// A command for `pg_dump`, `pg_restore`, `psql` or another client of this server's
    /// [`Self::client_bin_dir`], with the environment that leads it to the server as superuser.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(tools::required(self.client_bin_dir().join(program)));
        for name in ["PGOPTIONS", "PGSERVICE", "PGHOSTADDR", "PGDATABASE", "PGSSLMODE", "PGCLIENTENCODING"] {
            command.env_remove(name);
        }
        command
            .env("PGHOST", self.address.to_string())
            .env("PGPORT", self.port().to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", PASSWORD);
        command
    }

    /// Runs `sql` by psql as superuser, unaligned and without headings, stopping at the first error.
    ///
    /// # Errors
    /// What psql says when it fails.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, PsqlFailed> {
        let mut command = self.client("psql");
        command.arg("-d").arg(database);
        psql::run(command, sql)
    }

    /// The same as another user.
    ///
    /// # Errors
    /// What psql says when it fails.
    pub fn psql_as(
        &self,
        user: &str,
        password: &str,
        database: &str,
        sql: &str,
    ) -> Result<String, PsqlFailed> {
        let mut command = self.client("psql");
        command.env("PGUSER", user).env("PGPASSWORD", password).arg("-d").arg(database);
        psql::run(command, sql)
    }

    /// Creates a database of this very name from template0.
    pub fn create_database(&self, name: &str) {
        self.create_database_with(name, "");
    }

    /// The same with more options of CREATE DATABASE, such as `ENCODING 'LATIN1' LOCALE 'C'`.
    pub fn create_database_with(&self, name: &str, options: &str) {
        let quoted = name.replace('"', "\"\"");
        self.must("postgres", &format!("CREATE DATABASE \"{quoted}\" TEMPLATE template0 {options}"));
    }

    /// Creates a database and returns its name: `stem` and a number that no other call in this process gets.
    pub fn fresh_database(&self, stem: &str) -> String {
        let name = format!("{stem}_{}", self.next_database.fetch_add(1, Ordering::Relaxed));
        self.create_database(&name);
        name
    }

    /// Creates a role that can log in with `password`, with more options such as `CREATEDB`.
    pub fn create_role(&self, name: &str, password: &str, options: &str) {
        let (name, password) = (name.replace('"', "\"\""), password.replace('\'', "''"));
        self.must("postgres", &format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}' {options}"));
    }

    fn must(&self, database: &str, sql: &str) {
        if let Err(failed) = self.psql(database, sql) {
            panic!("{failed}");
        }
    }

    /// The process id of the server.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn pid(&self) -> u32 {
        self.process().as_ref().map(Running::pid).unwrap_or_else(|| panic!("PostgreSQL {self} doesn't run"))
    }

    /// Stops it in order ("fast": sessions are ended); nothing happens when it doesn't run.
    pub fn stop(&self) {
        self.end(Signal::INT);
    }

    /// Kills it with SIGKILL, as a lost machine would.
    pub fn kill9(&self) {
        self.end(Signal::KILL);
    }

    /// Stops it if it runs, and starts it on the same port with the same data.
    pub fn restart(&self) {
        self.stop();
        let deadline = Instant::now() + PATIENCE;
        // After a kill, the old server's sessions may need a moment to notice, and hold its memory till then.
        while let Err(log) = self.launch() {
            assert!(Instant::now() < deadline, "PostgreSQL {self} doesn't start again; its log ends:\n{log}");
            thread::sleep(POLL);
        }
    }

    fn end(&self, signal: Signal) {
        if let Some(mut running) = self.process().take() {
            running.end(signal);
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Running>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn configure(&self, wanted: &Builder) {
        let mut lines = vec![
            ("listen_addresses".to_owned(), self.address.to_string()),
            ("unix_socket_directories".to_owned(), self.folder.display().to_string()),
            // What is committed outlives a killed server, in the kernel's memory, and needn't outlive more.
            ("fsync".to_owned(), "off".to_owned()),
            ("full_page_writes".to_owned(), "off".to_owned()),
        ];
        if let Some(certificates) = &self.certificates {
            lines.push(("ssl".to_owned(), "on".to_owned()));
            lines.push(("ssl_cert_file".to_owned(), certificates.certificate.display().to_string()));
            lines.push(("ssl_key_file".to_owned(), certificates.key.display().to_string()));
        }
        lines.extend(wanted.config.iter().cloned());
        let lines: String =
            lines.iter().map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''"))).collect();
        rewrite(&self.data_dir().join("postgresql.conf"), |old| format!("{old}\n{lines}"));
        rewrite(&self.data_dir().join("pg_hba.conf"), |old| format!("{}\n{old}", wanted.access.join("\n")));
    }

    fn start_on_free_port(&self) {
        for attempt in 1..=PORT_ATTEMPTS {
            self.port.store(ports::free(self.address).into(), Ordering::SeqCst);
            let Err(log) = self.launch() else { return };
            let taken = log.contains("could not bind") || log.contains("Address already in use");
            assert!(
                taken && attempt < PORT_ATTEMPTS,
                "PostgreSQL {self} doesn't start; its log ends:\n{log}"
            );
        }
    }

    /// Starts the process and waits until it takes connections; the end of the log when it ended instead.
    fn launch(&self) -> Result<(), String> {
        let mut command = tethered(&self.version.server_program("postgres"), As::Postgres, "INT");
        command.arg("-D").arg(self.data_dir()).arg("-p").arg(self.port().to_string());
        // Messages that tests look for are English.
        command.env("LC_MESSAGES", "C").current_dir(&self.folder);
        let mut running = Running::start(command, &self.log_file());
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready(running.pid()) {
            if running.ended().is_some() {
                return Err(tail(&self.log_file()));
            }
            assert!(
                Instant::now() < deadline,
                "PostgreSQL {self} isn't ready after {PATIENCE:?}; its log ends:\n{}",
                tail(&self.log_file())
            );
            thread::sleep(POLL);
        }
        *self.process() = Some(running);
        Ok(())
    }

    /// The server itself writes its state into the eighth line of this file, so no connection is needed.
    fn is_ready(&self, pid: u32) -> bool {
        let file = std::fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap_or_default();
        let mut lines = file.lines();
        lines.next() == Some(pid.to_string().as_str())
            && lines.nth(6).is_some_and(|line| line.trim() == "ready")
    }
}

impl fmt::Display for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on port {}", self.version, self.port())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end(Signal::QUIT);
        // What is left, the end of the process removes.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn rewrite(file: &Path, change: impl FnOnce(&str) -> String) {
    std::fs::read_to_string(file)
        .and_then(|old| std::fs::write(file, change(&old)))
        .unwrap_or_else(|cause| panic!("can't change {}: {cause}", file.display()));
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
