//! Rows on their way in, and what goes wrong there.

use std::os::unix::fs::MetadataExt;

use bytes::Bytes;
use testbed::{PgVersion, Postgres, shared};
use vouchsafe::format::relation::{CopyFormat, QualifiedName, TableFacts};
use vouchsafe::source::target::{Archive, ArchiveOptions, DatabaseOptions, Loader, TargetError};

use crate::compare::{Side, differences, rows};
use crate::copy::{Backup, Restore, Until, endpoint};
use crate::zoo::zoo;

fn facts(name: &str, columns: &[&str], format: CopyFormat) -> TableFacts {
    TableFacts {
        name: QualifiedName::new("public", name),
        oid: 0,
        relfilenode: 0,
        columns: columns.iter().map(|name| (*name).into()).collect(),
        format,
        bytes: 0,
        blocks: 0,
        extension_condition: None,
        partition_root: None,
        load_through_root: false,
        load_after_indexes: false,
        unlogged: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_given_up_leaves_nothing_and_latches() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("given_up");
    server.psql(&database, "CREATE TABLE t (a integer)").unwrap();
    let table = facts("t", &["a"], CopyFormat::Text);
    for whole in [false, true] {
        let mut loader = Loader::connect(&endpoint(server, &database), "UTF8").await.unwrap();
        if whole {
            let mut all = loader.begin_whole(&table).await.unwrap();
            let mut first = all.begin().await.unwrap();
            first.write(Bytes::from_static(b"0\n")).await.unwrap();
            first.finish().await.unwrap();
            let mut second = all.begin().await.unwrap();
            second.write(Bytes::from_static(b"1\n2\n")).await.unwrap();
            drop(second);
            all.commit().await.unwrap_err();
        } else {
            let mut load = loader.begin(&table).await.unwrap();
            load.write(Bytes::from_static(b"1\n2\n")).await.unwrap();
            drop(load);
        }
        let error = loader.begin(&table).await.unwrap_err();
        assert!(matches!(error, TargetError::LoaderFailed { .. }), "{error}");
        drop(loader);
        assert_eq!(server.psql(&database, "SELECT count(*) FROM t").unwrap().trim(), "0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_row_is_told_by_table_and_line_and_undoes_the_load() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("refused");
    server.psql(&database, "CREATE TABLE t (a integer)").unwrap();
    let table = facts("t", &["a"], CopyFormat::Text);
    let mut loader = Loader::connect(&endpoint(server, &database), "UTF8").await.unwrap();
    let mut load = loader.begin(&table).await.unwrap();
    let _ = load.write(Bytes::from_static(b"1\nsecret\n")).await;
    let error = load.finish().await.unwrap_err();
    assert_eq!(error.to_string(), "public.t: the server refused the rows (line 2)");
    assert!(matches!(loader.begin(&table).await, Err(TargetError::LoaderFailed { .. })));
    assert_eq!(server.psql(&database, "SELECT count(*) FROM t").unwrap().trim(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_load_is_frozen_and_replaces_nothing_of_others() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("frozen");
    server
        .psql(
            &database,
            "CREATE TABLE p (a integer); CREATE TABLE c () INHERITS (p); INSERT INTO c VALUES (7)",
        )
        .unwrap();
    let mut loader = Loader::connect(&endpoint(server, &database), "UTF8").await.unwrap();
    let table = facts("p", &["a"], CopyFormat::Text);
    let mut all = loader.begin_whole(&table).await.unwrap();
    for rows in ["1\n", "2\n"] {
        let mut load = all.begin().await.unwrap();
        load.write(Bytes::from_static(rows.as_bytes())).await.unwrap();
        assert_eq!(load.finish().await.unwrap(), 1);
    }
    all.commit().await.unwrap();
    loader.close().await.unwrap();
    // HEAP_XMIN_FROZEN: the row is visible to a transaction of any age.
    let frozen =
        "SELECT count(*) FILTER (WHERE xmin::text = '2' OR age(xmin) = 2147483647), count(*) FROM ONLY p";
    assert_eq!(server.psql(&database, frozen).unwrap().trim().split('|').next_back(), Some("2"));
    server.psql(&database, "CREATE EXTENSION pg_visibility").unwrap();
    assert_eq!(
        server.psql(&database, "SELECT all_frozen FROM pg_visibility_map_summary('p')").unwrap().trim(),
        "1"
    );
    assert_eq!(server.psql(&database, "SELECT a FROM c").unwrap().trim(), "7");
}

/// Rows that came between the making of a table and its load would be dropped, and nothing would miss them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_somebody_else_are_not_dropped_by_a_whole_load() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("foreign_rows");
    server.psql(&database, "CREATE TABLE t (a integer); INSERT INTO t VALUES (7)").unwrap();
    let mut loader = Loader::connect(&endpoint(server, &database), "UTF8").await.unwrap();
    let table = facts("t", &["a"], CopyFormat::Text);
    let error = loader.begin_whole(&table).await.unwrap_err();
    assert!(matches!(&error, TargetError::TableNotEmpty { table } if table.name == "t"), "{error}");
    drop(loader);
    assert_eq!(server.psql(&database, "TABLE t").unwrap().trim(), "7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_rows_of_an_extension_are_replaced_under_its_condition() {
    let server = shared(PgVersion::V15);
    let database = server.fresh_database("configuration");
    server
        .psql(
            &database,
            "CREATE TABLE t (a integer, own boolean); INSERT INTO t VALUES (1, false), (2, true)",
        )
        .unwrap();
    let mut table = facts("t", &["a", "own"], CopyFormat::Text);
    let mut loader = Loader::connect(&endpoint(server, &database), "UTF8").await.unwrap();
    loader.clear_extension_rows(&table).await.unwrap();
    assert_eq!(
        server.psql(&database, "SELECT count(*) FROM t").unwrap().trim(),
        "2",
        "no configuration table"
    );
    table.extension_condition = Some("WHERE own".into());
    loader.clear_extension_rows(&table).await.unwrap();
    assert!(!Loader::fits_whole(&table));
    let mut load = loader.begin(&table).await.unwrap();
    load.write(Bytes::from_static(b"3\tt\n")).await.unwrap();
    load.finish().await.unwrap();
    assert_eq!(
        server.psql(&database, "SELECT string_agg(a::text, ' ' ORDER BY a) FROM t").unwrap().trim(),
        "1 3"
    );
    table.extension_condition = Some(String::new());
    loader.clear_extension_rows(&table).await.unwrap();
    assert_eq!(server.psql(&database, "SELECT count(*) FROM t").unwrap().trim(), "0");
}

/// The traps that the plan's order and the tables' facts are for: each refused or wrong without its remedy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traps_bite_without_their_remedies() {
    let server = shared(PgVersion::V15);
    let backup = Backup::take(server, &zoo(server, "traps", false)).await;
    let restore = Restore::new(&backup, server, "traps_restored").until(Until::Definitions);
    restore.run().await.unwrap();
    let inside = endpoint(server, &restore.id.unfinished_name("traps_restored"));
    let table = |name: &str| backup.tables.iter().find(|table| table.name.name == name).unwrap();
    let load = async |table: &TableFacts| {
        let mut loader = Loader::connect(&inside, "UTF8").await?;
        let mut load = loader.begin(table).await?;
        for bytes in &backup.rows[&table.name] {
            load.write(bytes.clone()).await?;
        }
        load.finish().await
    };
    // A value names an index that isn't there yet.
    assert!(table("regs").load_after_indexes);
    assert!(load(table("regs")).await.is_err());
    // The hash of an enum's value is another one in another database.
    let mut refused = 0;
    for leaf in backup.tables.iter().filter(|table| table.name.name.starts_with("by_enum_")) {
        assert!(leaf.load_through_root, "{}", leaf.name);
        let direct = TableFacts { load_through_root: false, ..leaf.clone() };
        refused += usize::from(matches!(load(&direct).await, Err(TargetError::RowsRefused { .. })));
        server.psql(&restore.id.unfinished_name("traps_restored"), "TRUNCATE zoo.by_enum").unwrap();
    }
    assert!(refused > 0, "loading partitions by the hash of an enum directly was not refused");
    // The archive's dependencies say that the rows come before the triggers: they would change them.
    let archive = restore.archive().await;
    let triggers: Vec<i32> = archive
        .toc()
        .entries
        .iter()
        .filter(|entry| entry.kind == "TRIGGER")
        .map(|entry| entry.dump_id)
        .collect();
    archive.restore(&inside, "triggers too early", &triggers, 1).await.unwrap();
    load(table("triggered")).await.unwrap();
    let changed =
        server.psql(&inside.database, "SELECT count(*) FROM zoo.triggered WHERE t <> 'unchanged'").unwrap();
    assert_ne!(changed.trim(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_encoding_comes_through_unchanged() {
    let source = shared(PgVersion::V15);
    source.psql("postgres", include_str!("../fixtures/zoo_roles.sql")).unwrap();
    for (name, encoding) in [("latin1", "LATIN1"), ("sql_ascii", "SQL_ASCII"), ("euc", "EUC_JP")] {
        let database = format!("encoding_{name}");
        source.create_database_with(&database, &format!("ENCODING '{encoding}' LOCALE 'C'"));
        let (table, view) = if encoding == "EUC_JP" { ("表", "眺め") } else { ("größe", "übersicht") };
        source
            .psql(
                &database,
                &format!(
                    "SET client_encoding = 'UTF8';
                     CREATE TABLE \"{table}\" (\"{table}\" integer PRIMARY KEY, t text);
                     INSERT INTO \"{table}\" SELECT g, '{table}' || g FROM generate_series(1, 50) g;
                     CREATE INDEX \"{table} i\" ON \"{table}\" (t);
                     CREATE MATERIALIZED VIEW \"{view} 1\" AS SELECT t FROM \"{table}\";
                     CREATE MATERIALIZED VIEW \"{view} 0\" AS SELECT count(*) FROM \"{view} 1\";
                     CREATE SEQUENCE \"{table} s\" START 5;
                     COMMENT ON TABLE \"{table}\" IS '{table}'"
                ),
            )
            .unwrap();
        let backup = Backup::take(source, &database).await;
        let restored = format!("restored_{name}");
        Restore::new(&backup, source, &restored)
            .run()
            .await
            .unwrap_or_else(|error| panic!("{encoding}: {error} {error:?}"));
        let found = differences(
            Side { server: source, database: &database },
            Side { server: source, database: &restored },
        );
        assert!(found.is_empty(), "{encoding}:\n{}", found.join("\n"));
        assert_eq!(rows(Side { server: source, database: &restored }).len(), 3, "{encoding}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_error_of_pg_restore_is_ignored() {
    let server = shared(PgVersion::V15);
    let source = server.fresh_database("errors");
    server
        .psql(&source, "CREATE TABLE a (a integer); CREATE TABLE b (b integer); CREATE TABLE c (c integer)")
        .unwrap();
    let backup = Backup::take(server, &source).await;
    let archive = Restore::new(&backup, server, "unused").archive().await;
    let target = server.fresh_database("errors_target");
    server.psql(&target, "CREATE TABLE b (other text)").unwrap();
    let ids: Vec<i32> = archive
        .toc()
        .entries
        .iter()
        .filter(|entry| entry.kind == "TABLE")
        .map(|entry| entry.dump_id)
        .collect();
    assert_eq!(ids.len(), 3);
    for jobs in [1, 2] {
        server.psql(&target, "DROP TABLE IF EXISTS a, c").unwrap();
        let error = archive.restore(&endpoint(server, &target), "definitions", &ids, jobs).await.unwrap_err();
        assert!(
            matches!(&error, TargetError::ToolFailed { stderr, .. } if stderr.contains("already exists")),
            "{error}"
        );
        assert_eq!(error.reason(), "ToolFailed");
    }
    // The first error is the end: what comes after it isn't tried.
    server.psql(&target, "DROP TABLE IF EXISTS a, c").unwrap();
    archive.restore(&endpoint(server, &target), "definitions", &ids, 1).await.unwrap_err();
    assert_eq!(server.psql(&target, "SELECT to_regclass('a'), to_regclass('c')").unwrap().trim(), "a|");
    // A program that only warns has failed, too.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("pg_restore");
    let real = server.client_bin_dir().join("pg_restore");
    std::fs::write(
        &program,
        format!(
            "#!/bin/sh\ncase \"$*\" in *--list*) exec {} \"$@\";; esac\necho 'pg_restore: warning: x' >&2\n",
            real.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let warned = Archive::open(backup.archive.path(), &program, ArchiveOptions::default()).await.unwrap();
    let error = warned.restore(&endpoint(server, &target), "definitions", &ids, 1).await.unwrap_err();
    assert!(error.to_string().contains("warning: x"), "{error}");
    // A program that reads other entries is refused.
    std::fs::write(&program, format!("#!/bin/sh\n{} \"$@\" | grep -v TABLE\n", real.display())).unwrap();
    let error = Archive::open(backup.archive.path(), &program, ArchiveOptions::default()).await.unwrap_err();
    assert_eq!(error.reason(), "ArchiveDisputed");
}

/// Needs the right to mount, which a test's machine gives to root.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_named_and_leaves_the_server_as_it_was() {
    let server = shared(PgVersion::V15);
    let small = SmallDisk::mount(24, server);
    server
        .psql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", small.0.path().display()))
        .unwrap();
    let source = server.fresh_database("large");
    server
        .psql(
            &source,
            "CREATE TABLE t AS SELECT repeat(md5(g::text), 30) AS v FROM generate_series(1, 30000) g",
        )
        .unwrap();
    let backup = Backup::take(server, &source).await;
    let mut restore = Restore::new(&backup, server, "too_large");
    restore.database = DatabaseOptions { tablespace: Some("small".into()), owner: None };
    let error = restore.run().await.unwrap_err();
    assert!(matches!(error, TargetError::DiskFull { .. }), "{error} {error:?}");
    assert_eq!(
        server
            .psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'too_large'")
            .unwrap()
            .trim(),
        "0"
    );
    let dropped =
        vouchsafe::source::target::drop_unfinished(&restore.maintenance, "too_large", &restore.id, None)
            .await;
    assert!(dropped.unwrap());
    server.psql("postgres", "DROP TABLESPACE small").unwrap();
}

/// A file system of a few megabytes.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(megabytes: u32, server: &Postgres) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A tablespace must belong to the server's user.
        let owner = std::fs::metadata(server.data_dir()).unwrap().uid();
        let options = format!("size={megabytes}m,mode=0700,uid={owner}");
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(status.success(), "mounting a small disk takes root");
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}
