//! What we are compared with: COPY to nowhere, pg_dump, pg_restore and pgBackRest.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testbed::{PASSWORD, PgVersion, Postgres};

use crate::data::SHOP;

/// Tables of the figures' database, largest first.
const TABLES: [&str; 6] =
    ["pgbench_accounts", "orders", "documents", "pgbench_tellers", "pgbench_branches", "pgbench_history"];

/// Runs `command`, which must succeed, with its output to nowhere.
fn timed(command: &mut Command) -> Duration {
    let began = Instant::now();
    finish(start(command));
    began.elapsed()
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn finish(child: Child) {
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "a peer failed: {}", String::from_utf8_lossy(&ended.stderr));
}

/// COPY BINARY of every table by psql to nowhere, on two connections that each read one half by ctid.
pub(crate) fn floor(server: &Postgres) -> Duration {
    let mut halves = [String::new(), String::new()];
    for table in TABLES {
        let blocks = format!("SELECT pg_relation_size('{table}') / 8192 / 2");
        let middle = server.psql(SHOP, &blocks).unwrap();
        for (half, condition) in halves.iter_mut().zip(["<", ">="]) {
            half.push_str(&format!(
                "COPY (SELECT * FROM ONLY {table} WHERE ctid {condition} '({middle},0)') TO STDOUT (FORMAT binary);"
            ));
        }
    }
    let began = Instant::now();
    let running: Vec<Child> = halves
        .iter()
        .map(|sql| start(server.client("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, SHOP])))
        .collect();
    running.into_iter().for_each(finish);
    began.elapsed()
}

/// pg_dump of the server's own version: `-Fd -j2`, gzip level 1.
pub(crate) fn pg_dump_gzip(server: &Postgres, to: &Path) -> Duration {
    let _ = std::fs::remove_dir_all(to);
    timed(server.client("pg_dump").args(["-Fd", "-j2", "-Z1", "-f"]).arg(to).arg(SHOP))
}

/// pg_dump 17 `-Fd -j2` with zstd level 1.
pub(crate) fn pg_dump_zstd(server: &Postgres, to: &Path) -> Duration {
    let _ = std::fs::remove_dir_all(to);
    let program = PgVersion::V17.client_bin_dir().join("pg_dump");
    let port = server.port().to_string();
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-Fd", "-j2", "--compress=zstd:1", "-f"]);
    timed(command.arg(to).arg(SHOP).env("PGPASSWORD", PASSWORD))
}

/// pg_restore `-j2` of what [`pg_dump_gzip`] wrote, into a new database.
pub(crate) fn pg_restore(server: &Postgres, from: &Path, database: &str) -> Duration {
    server.create_database(database);
    timed(server.client("pg_restore").args(["-j2", "--exit-on-error", "-d", database]).arg(from))
}

/// pgBackRest, full, two processes, zstd level 1.
pub(crate) fn pgbackrest(server: &Postgres, repository: &Path) -> Duration {
    let _ = std::fs::remove_dir_all(repository);
    std::fs::create_dir_all(repository).unwrap();
    let hand_over = Command::new("chown").arg("postgres:postgres").arg(repository).status().unwrap();
    assert!(hand_over.success());
    let command = |what: &str| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "pgbackrest",
            "--stanza=bench",
        ]);
        command.arg(format!("--pg1-path={}", server.data_dir().display()));
        command.arg(format!("--pg1-socket-path={}", server.socket_dir().display()));
        command.arg(format!("--pg1-port={}", server.port()));
        command.arg("--pg1-user=postgres");
        command.arg(format!("--repo1-path={}", repository.display()));
        command.arg(format!("--lock-path={}/lock", repository.display()));
        command.args(["--log-level-file=off", "--config=/dev/null"]);
        command.env("PGPASSWORD", PASSWORD);
        if what == "backup" {
            command.args(["--type=full", "--process-max=2", "--compress-type=zst", "--compress-level=1"]);
            command.args(["--start-fast", "--repo1-retention-full=1", "--no-archive-check"]);
        }
        command.arg(what);
        command
    };
    timed(&mut command("stanza-create"));
    timed(&mut command("backup"))
}
