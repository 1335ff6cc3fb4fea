//! A small database with two folders, and the program itself, run as the process of its own that it is.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testbed::{PASSWORD, PgVersion, Postgres, shared};
use vouchsafe::engine::progress::Progress;
use vouchsafe::engine::{Destinations, Register, backups};
use vouchsafe::format::Decision;
use vouchsafe::source::Tools;

use super::setup;

/// A process that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a folder or process.
const POLL: Duration = Duration::from_millis(1);

/// `orders` fills 8 blocks with rows of one size: with [`SPAN`] that is 8 tickets of equal row counts.
pub(super) const SHOP: &str = "
    CREATE TABLE orders(id int PRIMARY KEY, note char(100));
    INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 8 * 58) i;
    CREATE TABLE events(id int PRIMARY KEY, payload text);
    INSERT INTO events SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 300) i;
    CREATE TABLE empty(x int);
    CREATE VIEW late AS SELECT * FROM orders WHERE id > 400;
    CREATE SEQUENCE numbers START 7;";

/// Less than a block: each block is a span.
const SPAN: &str = "4Ki";

pub(super) struct Shop {
    pub(super) server: &'static Postgres,
    pub(super) database: String,
    /// The default destination.
    pub(super) here: TempDir,
    /// Where `events` goes.
    pub(super) there: TempDir,
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The failure's reason, from the JSON on standard output.
    pub(super) fn reason(&self) -> String {
        let document: serde_json::Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stderr));
        document["failure"]["reason"].as_str().unwrap_or_else(|| panic!("no failure: {self:?}")).to_owned()
    }

    /// The failure's hint, from the same.
    pub(super) fn hint(&self) -> String {
        let document: serde_json::Value = serde_json::from_str(&self.stdout).unwrap();
        document["failure"]["hint"].as_str().unwrap_or_else(|| panic!("no failure: {self:?}")).to_owned()
    }

    /// Panics unless the command succeeded.
    pub(super) fn must_succeed(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
    }
}

impl Shop {
    pub(super) fn open(stem: &str) -> Self {
        let shop = Self::with(stem, SHOP);
        let per_block = "SELECT count(*) || ' of ' || count(DISTINCT n) FROM
            (SELECT count(*) AS n FROM orders GROUP BY (ctid::text::point)[0]) AS blocks";
        assert_eq!(shop.sql(per_block), "8 of 1", "orders must fill 8 blocks with as many rows each");
        shop
    }

    pub(super) fn with(stem: &str, sql: &str) -> Self {
        let server = shared(PgVersion::V15);
        let database = server.fresh_database(stem);
        server.psql(&database, sql).unwrap();
        Self::of(server, database)
    }

    /// Two empty folders for a database that is there.
    pub(super) fn of(server: &'static Postgres, database: String) -> Self {
        let folder = || tempfile::tempdir().unwrap();
        Self { server, database, here: folder(), there: folder() }
    }

    pub(super) fn sql(&self, sql: &str) -> String {
        self.server.psql(&self.database, sql).unwrap()
    }

    /// `program` with everything that every command of it needs. Arguments before it make it another program's.
    fn program(&self, before: &[&str], subcommand: &[&str]) -> Command {
        self.program_with(self.server, before, subcommand)
    }

    /// The same with the programs of another server.
    fn program_with(&self, server: &Postgres, before: &[&str], subcommand: &[&str]) -> Command {
        let mut command = self.subcommand(before, subcommand);
        command.arg("--tools").arg(server.client_bin_dir());
        command
    }

    /// The same for a command that needs none of PostgreSQL's programs.
    pub(super) fn subcommand(&self, before: &[&str], subcommand: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_vouchsafe");
        let words: Vec<&str> = before.iter().copied().chain([program]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(subcommand);
        command.args(["--output", "json", "--heartbeat", "1s", "--store-attempts", "1"]);
        command.arg("--store").arg(format!("file://{}", self.here.path().display()));
        command.arg("--store").arg(format!("region=eu=file://{}", self.there.path().display()));
        command.env("PGPASSWORD", PASSWORD).env("VOUCHSAFE_LISTING_PATIENCE_MS", "1000");
        // What a process goes on without shows here, but where a test provokes just that.
        command.env("VOUCHSAFE_STRICT", "1");
        command.env_remove("VOUCHSAFE_MUTANT").env_remove("VOUCHSAFE_LOG");
        command.env_remove("VOUCHSAFE_KILL_AT").env_remove("VOUCHSAFE_STOP_AT");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(super) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.server.port())
    }

    /// `vouchsafe backup` under another program, such as one that sets limits.
    pub(super) fn backup_under(&self, before: &[&str], span: &str) -> Command {
        let mut command = self.program(before, &["backup"]);
        command.args(["--source", &self.url(&self.database), "--span-size", span]);
        command.args(["--place", "public.events=region=eu", "--unplaced-to-default"]);
        command
    }

    /// `vouchsafe backup` with the programs of a folder.
    pub(super) fn backup_with_tools(&self, folder: &Path) -> Command {
        let mut command = self.subcommand(&[], &["backup"]);
        command.arg("--tools").arg(folder).args(["--source", &self.url(&self.database)]);
        command
    }

    /// A backup of other sources into the same destinations.
    pub(super) fn backup_of(&self, sources: &[&str]) -> Command {
        let mut command = self.program(&[], &["backup"]);
        command.args(sources.iter().flat_map(|source| ["--source", source]));
        command
    }

    pub(super) fn backup(&self) -> Command {
        self.backup_under(&[], SPAN)
    }

    /// The same as the mutant of this name.
    pub(super) fn backup_as(&self, mutant: &str) -> Command {
        let mut command = self.backup();
        command.env("VOUCHSAFE_MUTANT", mutant);
        command
    }

    pub(super) fn restore(&self, database: &str) -> Command {
        self.restore_to(self.server, database)
    }

    /// A restore into another server, with that one's programs.
    pub(super) fn restore_to(&self, server: &Postgres, database: &str) -> Command {
        self.restore_into(server, &format!("postgres://postgres@127.0.0.1:{}/{database}", server.port()))
    }

    /// A restore into the target of a URL.
    pub(super) fn restore_into(&self, server: &Postgres, url: &str) -> Command {
        let mut command = self.program_with(server, &[], &["restore"]);
        command.args(["--target", url]);
        command
    }

    pub(super) fn verify(&self) -> Command {
        self.program(&[], &["verify"])
    }

    /// `vouchsafe prune` with these options.
    pub(super) fn prune(&self, options: &[&str]) -> Command {
        let mut command = self.program(&[], &["prune"]);
        command.args(options);
        command
    }

    pub(super) fn list(&self) -> Command {
        self.subcommand(&[], &["list"])
    }

    pub(super) fn unlock(&self, options: &[&str]) -> Command {
        let mut command = self.subcommand(&[], &["unlock"]);
        command.args(options);
        command
    }

    pub(super) async fn destinations(&self) -> Destinations {
        let (here, there) = (setup::folder(&self.here).await, setup::folder(&self.there).await);
        setup::destinations(vec![("default", here), ("region=eu", there)])
    }

    /// How a run ended, read by this process.
    pub(super) async fn decision(&self, run: u32) -> Option<Decision> {
        let register = Register::new(setup::folder(&self.here).await, setup::HEARTBEAT);
        register.outcome(run).await.unwrap().map(|decided| decided.outcome.decision)
    }

    /// The number of the newest run.
    pub(super) async fn newest(&self) -> u32 {
        let register = Register::new(setup::folder(&self.here).await, setup::HEARTBEAT);
        register.newest().await.unwrap()
    }

    /// The run is sealed, and every byte of it reads as it should.
    pub(super) async fn must_be_proven(&self, run: u32) {
        let decision = self.decision(run).await;
        assert!(matches!(decision, Some(Decision::Sealed { .. })), "run {run}: {decision:?}");
        let destinations = self.destinations().await;
        let register = Register::new(destinations.default().store.clone(), setup::HEARTBEAT);
        let tools = Tools::only(&[self.server.client_bin_dir()]);
        let progress = Progress::silent();
        let verified =
            backups::verify(&destinations, &register, Some(run), &tools, 2, &progress).await.unwrap();
        assert!(verified.damages.is_empty(), "run {run}: {:?}", verified.damages);
        let rows = "SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM events)";
        assert_eq!(verified.rows.to_string(), self.sql(rows));
    }

    /// The run can be restored, and what comes of it is the source, by SQL alone.
    pub(super) fn must_restore(&self, run: u32) {
        let database = format!("{}_restored", self.database);
        let mut command = self.restore(&database);
        command.args(["--run", &run.to_string()]);
        self::run(command).must_succeed();
        let look = "SELECT count(*), md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o;
            SELECT count(*), md5(string_agg(e::text, ',' ORDER BY id)) FROM events e;
            SELECT count(*) FROM empty; SELECT last_value, is_called FROM numbers; SELECT count(*) FROM late";
        assert_eq!(self.server.psql(&database, look).unwrap(), self.sql(look), "run {run}");
        self.server.psql("postgres", &format!("DROP DATABASE {database}")).unwrap();
    }

    /// The objects of both folders, heartbeats excluded: nothing is bound to those.
    pub(super) fn objects(&self) -> Vec<PathBuf> {
        [&self.here, &self.there].into_iter().flat_map(|folder| objects_of(folder.path(), false)).collect()
    }

    /// Plans of a run that were written.
    pub(super) fn plans(&self, run: u32) -> Vec<PathBuf> {
        let of_run = self.here.path().join(format!("runs/{run:08}"));
        let folders = std::fs::read_dir(of_run).unwrap().map(|entry| entry.unwrap().path());
        folders.filter(|path| path.join("plan.json.zst").exists()).collect()
    }

    /// The folder of the plan of an open run in the default destination, as soon as its tickets lie there.
    pub(super) fn wait_for_plan(&self, run: u32) -> PathBuf {
        let of_run = self.here.path().join(format!("runs/{run:08}"));
        wait_for("the plan", || {
            let folders = std::fs::read_dir(&of_run).ok()?;
            let mut plans = folders.flatten().map(|entry| entry.path());
            plans.find(|path| path.join("plan.json.zst").exists())
        })
    }
}

/// The objects of one folder, with or without heartbeats, in the order of their names.
pub(super) fn objects_of(folder: &Path, beats: bool) -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(folder, beats, &mut files);
    files.sort();
    files
}

fn walk(folder: &Path, beats: bool, files: &mut Vec<PathBuf>) {
    // A folder that is removed between two looks holds nothing.
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // Names that begin with a dot are files that are being written.
        if name.to_string_lossy().starts_with('.') || (name == "beats" && !beats) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&path, beats, files),
            Ok(_) => files.push(path),
            Err(_) => {}
        }
    }
}

/// Looks until there is something.
pub(super) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no sign of {what} within {PATIENCE:?}");
        std::thread::sleep(POLL);
    }
}

/// Runs it to its end.
pub(super) fn run(mut command: Command) -> Ended {
    Ended::of(command.output().unwrap())
}

/// Waits for the end of a process that was started.
pub(super) fn end(child: Child) -> Ended {
    Ended::of(child.wait_with_output().unwrap())
}
