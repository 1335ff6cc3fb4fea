//! What a server shall be like before it starts.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use super::{PASSWORD, PgVersion, Postgres};
use crate::spawn::{As, tethered};
use crate::{ports, scratch, template, tls, tools};

/// What a server shall be like; see [`Postgres::builder`].
#[derive(Debug)]
pub struct Builder {
    version: PgVersion,
    pub(super) config: Vec<(String, String)>,
    initdb: Vec<String>,
    pub(super) access: Vec<String>,
    tls: bool,
    primary: Option<Primary>,
    in_memory: bool,
    address: IpAddr,
}

/// What a standby needs to know of the server that it follows.
#[derive(Debug)]
struct Primary {
    address: IpAddr,
    port: u16,
}

impl Builder {
    pub(super) fn new(version: PgVersion) -> Self {
        Self {
            version,
            config: vec![],
            initdb: vec![],
            access: vec![],
            tls: false,
            primary: None,
            in_memory: false,
            address: ports::LOCALHOST,
        }
    }

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

    /// Listens on another address of this machine instead of 127.0.0.1, so that others reach the server there; a
    /// password is asked for, as ever. [`Self::tls`]'s certificate is not for it.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self.access("host all,replication all all scram-sha-256")
    }

    /// Turns TLS on, with a certificate for 127.0.0.1 and localhost of an authority of its own; see
    /// [`Postgres::authority`]. Plain connections still work. Not for 16 and 18: those here are built without.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Keeps its folder in memory (`/dev/shm`): for measuring programs, and not the disk below them.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// Makes it a streaming standby of `primary`, copied by pg_basebackup. For 15, 16 and 18.
    #[must_use]
    pub fn standby_of(mut self, primary: &Postgres) -> Self {
        assert!(primary.version == self.version, "a standby must be of its primary's major");
        self.primary = Some(Primary { address: primary.address, port: primary.port() });
        self
    }

    /// Starts it, and waits until it takes connections.
    ///
    /// # Panics
    /// With the server's log when it doesn't start.
    #[must_use]
    pub fn start(self) -> Postgres {
        let stem = format!("pg{}", self.version);
        let folder =
            if self.in_memory { scratch::new_folder_in_memory(&stem) } else { scratch::new_folder(&stem) };
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
            address: self.address,
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
    command.arg("-h").arg(primary.address.to_string());
    command.args(["-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync"]);
    command.arg("-p").arg(primary.port.to_string()).arg("-D").arg(data).env("PGPASSWORD", PASSWORD);
    template::run(&mut command);
}
