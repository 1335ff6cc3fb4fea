//! The measurements of a round, in the order in which they are taken.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use testbed::{Postgres, S3Kind, S3Server};

use crate::data::{self, SHOP};
use crate::{ours, peers};

/// What was timed, by its name in the report.
type Timed = Vec<(&'static str, Duration)>;

/// Takes one measurement.
type Measure = fn(&Bench) -> Timed;

/// Servers and folders that all rounds share.
pub(crate) struct Bench {
    pub(crate) server: Postgres,
    pub(crate) s3: S3Server,
    pub(crate) folder: TempDir,
    /// Bytes of COPY BINARY of everything.
    pub(crate) source_bytes: u64,
}

/// Measurements by name; one may time several things.
pub(crate) const MEASUREMENTS: [(&str, Measure); 8] = [
    ("floor", |bench| vec![("floor", peers::floor(&bench.server))]),
    ("pg_dump gzip", |bench| vec![("pg_dump gzip", peers::pg_dump_gzip(&bench.server, &bench.path("gzip")))]),
    ("pg_dump zstd", |bench| vec![("pg_dump zstd", peers::pg_dump_zstd(&bench.server, &bench.path("zstd")))]),
    ("backup and verify", backup),
    ("backup to S3", backup_to_s3),
    ("giant table", giant),
    ("restore", restore),
    ("pgBackRest", |bench| vec![("pgBackRest", peers::pgbackrest(&bench.server, &bench.path("pgbackrest")))]),
];

impl Bench {
    pub(crate) fn prepare(small: bool) -> Self {
        let server = data::server();
        data::load(&server, small);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let s3 = S3Server::start(S3Kind::SeaweedFs);
        let mut bench = Self { server, s3, folder, source_bytes: 0 };
        bench.source_bytes = bench.copied_bytes();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An empty folder.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn source(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.server.port())
    }

    /// What one measurement left dirty is not written out during the next.
    pub(crate) fn settle(&self) {
        self.server.psql("postgres", "CHECKPOINT").unwrap();
        assert!(std::process::Command::new("sync").status().unwrap().success());
    }

    /// What the server sends for everything, said by psql's own COPY.
    fn copied_bytes(&self) -> u64 {
        let tables = "pgbench_accounts orders documents pgbench_tellers pgbench_branches";
        let script: String =
            tables.split(' ').map(|it| format!("COPY {it} TO STDOUT (FORMAT binary);")).collect();
        let mut psql = self.server.client("psql");
        let mut psql = psql
            .args(["-X", "-q", "-c", &script, SHOP])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let bytes = std::io::copy(&mut psql.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
        assert!(psql.wait().unwrap().success());
        bytes
    }

    /// One backup of ours; `more` is appended to the command.
    pub(crate) fn back_up(&self, database: &str, store: &str, more: &[&str], s3: bool) -> ours::Run {
        let (source, tools) = (self.source(database), ours::tools(&self.server));
        let mut arguments = vec!["backup", "--source", &source, "--store", store, "--tools", &tools];
        arguments.extend(more);
        let keys =
            [("AWS_ACCESS_KEY_ID", self.s3.access_key()), ("AWS_SECRET_ACCESS_KEY", self.s3.secret_key())];
        ours::run(&arguments, if s3 { &keys } else { &[] })
    }

    /// One restore of ours.
    pub(crate) fn restore(&self, store: &Path, database: &str) -> ours::Run {
        let (store, target) = (ours::folder_url(store), self.source(database));
        ours::run(
            &["restore", "--store", &store, "--target", &target, "--tools", &ours::tools(&self.server)],
            &[],
        )
    }
}

/// The whole backup with its phases, and then `verify`.
fn backup(bench: &Bench) -> Timed {
    let store = bench.fresh("ours");
    let url = ours::folder_url(&store);
    let made = bench.back_up(SHOP, &url, &[], false);
    let verified = ours::run(&["verify", "--store", &url, "--tools", &ours::tools(&bench.server)], &[]);
    vec![
        ("backup", made.total),
        ("export", made.stage("exporting")),
        ("count", made.stage("counting")),
        ("read-back", made.stage("verifying")),
        ("verify", verified.total),
    ]
}

fn backup_to_s3(bench: &Bench) -> Timed {
    let bucket = bench.s3.fresh_bucket("bench");
    let url = format!("s3://{bucket}/b?region={}&endpoint={}", bench.s3.region(), bench.s3.endpoint());
    let made = bench.back_up(SHOP, &url, &[], true);
    // SeaweedFS deletes a bucket with what is in it; five of them would fill its volumes.
    let deleted = bench.s3.request("DELETE", &bucket, &[], None);
    assert!(deleted.status == 204, "{deleted:?}");
    vec![("backup to S3", made.total), ("export to S3", made.stage("exporting"))]
}

/// The largest table alone, on one connection and on two.
fn giant(bench: &Bench) -> Timed {
    let alone = |parallelism: &str| {
        let url = ours::folder_url(&bench.fresh("giant"));
        let more = ["--include-table", "public.pgbench_accounts", "--parallelism", parallelism];
        bench.back_up(SHOP, &url, &more, false).stage("exporting")
    };
    vec![("giant table, 1 connection", alone("1")), ("giant table, 2 connections", alone("2"))]
}

/// Needs the backup and the dump of this round.
fn restore(bench: &Bench) -> Timed {
    if !bench.path("gzip").exists() {
        peers::pg_dump_gzip(&bench.server, &bench.path("gzip"));
    }
    if !bench.path("ours").join("vouchsafe").exists() {
        backup(bench);
    }
    bench.settle();
    let peer = peers::pg_restore(&bench.server, &bench.path("gzip"), "restored_by_pg_restore");
    bench.server.psql("postgres", "DROP DATABASE restored_by_pg_restore").unwrap();
    bench.settle();
    let restored = bench.restore(&bench.path("ours"), "restored_by_us");
    bench.server.psql("postgres", "DROP DATABASE restored_by_us").unwrap();
    let unproven = restored.total - restored.stage("verifying") - restored.stage("comparing");
    vec![
        ("pg_restore", peer),
        ("restore", restored.total),
        ("restore, without its proofs", unproven),
        ("restore: reading the backup", restored.stage("verifying")),
        ("restore: loading and indexes", restored.stage("loading")),
        ("restore: comparing", restored.stage("comparing")),
    ]
}
