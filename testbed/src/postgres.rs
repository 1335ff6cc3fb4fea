//! PostgreSQL servers.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::psql::{self, PsqlFailed};
use crate::spawn::{As, PATIENCE, POLL, Running, tail, tethered};
use crate::tls::{self, Certificates};
use crate::{ports, scratch, template, tools};

/// The password of the superuser `postgres` of every test server.
pub const PASSWORD: &str = "testbed";

/// How often a server that found its port taken is started on another one.
const PORT_ATTEMPTS: u32 = 5;

/// A major version of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum PgVersion {
    V13,
    V14,
    V15,
    V16,
    V17,
    V18,
}

impl PgVersion {
    /// Every major that Vouchsafe supports, oldest first.
    pub const ALL: [Self; 6] = [Self::V13, Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    /// The major's number.
    pub fn major(self) -> u32 {
        match self {
            Self::V13 => 13,
            Self::V14 => 14,
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
            Self::V18 => 18,
        }
    }

    /// The folder of the server's programs. 13, 14 and 17 have only `postgres`, `initdb` and `pg_ctl`.
    pub fn bin_dir(self) -> PathBuf {
        match self {
            Self::V15 => debian_15(),
            _ => tools::required(tools::folder().join(format!("postgres/{self}/bin"))),
        }
    }

    /// The folder of a `pg_dump`, `pg_restore` and `psql` that fit a server of this major: its own major's,
    /// and 15's for 13 and 14.
    pub fn client_bin_dir(self) -> PathBuf {
        match self {
            Self::V13 | Self::V14 | Self::V15 => debian_15(),
            Self::V17 => tools::required(tools::folder().join("clients/17/bin")),
            Self::V16 | Self::V18 => self.bin_dir(),
        }
    }

    pub(crate) fn server_program(self, name: &str) -> PathBuf {
        tools::required(self.bin_dir().join(name))
    }
}

fn debian_15() -> PathBuf {
    tools::required(PathBuf::from("/usr/lib/postgresql/15/bin"))
}

impl fmt::Display for PgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.major())
    }
}

/// What a server shall be like; see [`Postgres::builder`].
#[derive(Debug)]
pub struct Builder {
    version: PgVersion,
    config: Vec<(String, String)>,
    initdb: Vec<String>,
    access: Vec<String>,
    tls: bool,
    primary: Option<Primary>,
}

/// What a standby needs to know of the server that it follows.
#[derive(Debug)]
struct Primary {
    port: u16,
}

impl Builder {
    /// Sets a parameter of postgresql.conf; the value needs no quotes. Later ones win.
    #[must_use]
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.config.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Passes an argument to initdb, such as `--data-checksums`.
    #[must_use]
    pub fn initdb(mut self, argument: &str) -> Self {
        self.initdb.push(argument.to_owned());
        self
    }

    /// The encoding of the template databases; UTF8 unless set.
    #[must_use]
    pub fn encoding(self, encoding: &str) -> Self {
        self.initdb(&format!("--encoding={encoding}"))
    }

    /// The locale of the template databases; C.UTF-8 unless set.
    #[must_use]
    pub fn locale(self, locale: &str) -> Self {
        self.initdb(&format!("--locale={locale}"))
    }

    /// Puts a line before the others in pg_hba.conf, such as `hostnossl all all all reject`. Those that follow
    /// let everyone in with a password.
    #[must_use]
    pub fn access(mut self, line: &str) -> Self {
        self.access.push(line.to_owned());
        self
    }

    /// Turns TLS on, with a certificate for 127.0.0.1 and localhost of an authority of its own; see
    /// [`Postgres::authority`]. Plain connections still work. Not for 16 and 18: those here are built without.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Makes it a streaming standby of `primary`, copied by pg_basebackup. For 15, 16 and 18.
    #[must_use]
    pub fn standby_of(mut self, primary: &Postgres) -> Self {
        assert!(primary.version == self.version, "a standby must be of its primary's major");
        self.primary = Some(Primary { port: primary.port() });
        self
    }

    /// Starts it, and waits until it takes connections.
    ///
    /// # Panics
    /// With the server's log when it doesn't start.
    #[must_use]
    pub fn start(self) -> Postgres {
        let folder = scratch::new_folder(&format!("pg{}", self.version));
        // The server makes its socket and reads its certificates here.
        tools::hand_over(&folder);
        let data = folder.join("data");
        match &self.primary {
            None => template::copy_to(&data, self.version, &self.initdb_arguments()),
            Some(primary) => copy_primary(self.version, primary, &data),
        }
        let certificates = self.tls.then(|| tls::make(&folder));
        let postgres = Postgres {
            version: self.version,
            port: AtomicU32::new(0),
            process: Mutex::new(None),
            next_database: AtomicU32::new(1),
            certificates,
            folder,
        };
        postgres.configure(&self);
        postgres.start_on_free_port();
        postgres
    }

    /// initdb takes the last of an option given twice, so what the caller asked for goes last.
    fn initdb_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--encoding=UTF8".to_owned(), "--locale=C.UTF-8".to_owned()];
        arguments.extend(self.initdb.iter().cloned());
        arguments
    }
}

fn copy_primary(version: PgVersion, primary: &Primary, data: &Path) {
    let program = version.bin_dir().join("pg_basebackup");
    assert!(program.exists(), "no pg_basebackup {version} here: standbys can be had of 15, 16 and 18");
    let mut command = tethered(&program, As::Postgres, "KILL");
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync"]);
    command.arg("-p").arg(primary.port.to_string()).arg("-D").arg(data).env("PGPASSWORD", PASSWORD);
    template::run(&mut command);
}

/// A PostgreSQL server of its own. Dropping it stops it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    version: PgVersion,
    folder: PathBuf,
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
        Builder { version, config: vec![], initdb: vec![], access: vec![], tls: false, primary: None }
    }

    /// Its major version.
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// Its TCP port on 127.0.0.1; stays the same over [`Self::restart`].
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
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port())
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
            .env("PGHOST", "127.0.0.1")
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
            ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
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
            self.port.store(ports::free().into(), Ordering::SeqCst);
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
