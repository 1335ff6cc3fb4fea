//! What can't be done is refused by name, with an exit code and a hint, and nothing is touched or left behind.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use testbed::{PgVersion, Postgres};
use vouchsafe::format::Decision;

use super::shop::{Ended, Shop, objects_of, run};

/// Databases of a name that begins so: other tests make others meanwhile.
pub(super) fn databases(server: &Postgres, stem: &str) -> BTreeSet<String> {
    let sql = format!("SELECT datname || ' ' || oid FROM pg_database WHERE starts_with(datname, '{stem}')");
    server.psql("postgres", &sql).unwrap().lines().map(str::to_owned).collect()
}

#[track_caller]
fn refused(ended: &Ended, code: i32, reason: &str, said: &[&str]) {
    assert_eq!((ended.code, &*ended.reason()), (Some(code), reason), "{ended:?}");
    let document: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let message = document["failure"]["message"].as_str().unwrap();
    for text in said {
        assert!(message.contains(text), "{text} is not said: {message}");
    }
    assert!(!document["failure"]["hint"].as_str().unwrap().is_empty(), "{ended:?}");
}

#[test]
fn a_target_that_is_there_or_older_is_refused() {
    let shop = Shop::open("refused_target");
    run(shop.backup()).must_succeed();
    // Of its own: no other test makes databases there.
    let older = Postgres::start(PgVersion::V14);
    older.create_database("there");
    let before = databases(&older, "");
    let ended = run(shop.restore_to(&older, "fresh"));
    refused(&ended, 2, "Usage", &["the target is PostgreSQL 14", "of PostgreSQL 15"]);
    assert_eq!(databases(&older, ""), before);
    older.stop();

    shop.sql("CREATE TABLE precious AS SELECT 1 AS x");
    let ended = run(shop.restore(&shop.database));
    refused(&ended, 1, "TargetUnfit", &[&shop.database, "exists already"]);
    assert_eq!(shop.sql("SELECT x FROM precious").trim(), "1");
    let unfinished =
        format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{}\\_vouchsafe%'", shop.database);
    assert_eq!(shop.server.psql("postgres", &unfinished).unwrap().trim(), "0");
}

#[test]
fn another_database_and_one_named_twice_are_kept_out_of_a_collection() {
    let shop = Shop::open("refused_source");
    run(shop.backup()).must_succeed();
    let objects = shop.objects();
    let other = shop.server.fresh_database("refused_other");
    let ended = run(shop.backup_of(&[&shop.url(&other)]));
    refused(&ended, 1, "CollectionIdentityChanged", &[&other, &shop.database]);
    assert_eq!(shop.objects(), objects);
    // By another name of the same server.
    let again = shop.url(&shop.database).replace("127.0.0.1", "localhost");
    let sources = [format!("region=eu={}", shop.url(&shop.database)), format!("region=us={again}")];
    let ended = run(shop.backup_of(&[&sources[0], &sources[1]]));
    refused(&ended, 2, "Usage", &["the same database of the same server"]);
    assert_eq!(shop.objects(), objects);
}

/// The database lies on a small file system. Its failed restore is run again when there is room.
#[test]
fn a_full_disk_of_the_target_is_named_and_the_restore_run_again() {
    let rows = "CREATE TABLE events AS SELECT repeat(md5(g::text), 30) AS v FROM generate_series(1, 20000) g;
                CREATE SCHEMA shop; CREATE TABLE shop.t AS SELECT 1 AS x";
    let shop = Shop::with("disk", rows);
    run(shop.backup_under(&[], "4Mi")).must_succeed();
    // Of its own: a server whose tablespace is gone, if this test fails, takes all others with it.
    let server = Postgres::start(PgVersion::V15);
    let small = SmallDisk::of(16, &server);
    let location = small.folder.display();
    server.psql("postgres", &format!("CREATE TABLESPACE disk_small LOCATION '{location}'")).unwrap();
    server.psql("postgres", "CREATE DATABASE disk_target TABLESPACE disk_small").unwrap();
    let restore = || {
        let mut command = shop.restore_to(&server, "disk_target");
        command.arg("--into-empty-schemas");
        run(command)
    };
    let before = databases(&server, "");
    let ended = restore();
    refused(&ended, 1, "TargetDiskFull", &["disk is full", "public.events"]);
    assert_eq!(databases(&server, ""), before);
    let left = "SELECT coalesce(to_regclass('public.events'), to_regnamespace('shop')::oid::regclass,
                               to_regnamespace('vouchsafe_restore')::oid::regclass) IS NOT NULL";
    assert_eq!(server.psql("disk_target", left).unwrap().trim(), "f", "what it made was dropped again");
    small.grow();
    restore().must_succeed();
    let sum = "SELECT count(*), sum(hashtext(v)) FROM events";
    assert_eq!(server.psql("disk_target", sum).unwrap(), shop.sql(sum));
    server.stop();
}

/// A file system of a few megabytes. Mounting one takes root's right to; where that is missing there is no other
/// way to a full disk that the server would see as one.
struct SmallDisk {
    folder: std::path::PathBuf,
    _parent: tempfile::TempDir,
}

impl SmallDisk {
    fn of(megabytes: u32, server: &Postgres) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().to_owned();
        // A tablespace must belong to the server's user.
        let owner = std::fs::metadata(server.data_dir()).unwrap().uid();
        let options = format!("size={megabytes}m,mode=0700,uid={owner}");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder).status();
        assert!(status.unwrap().success(), "mounting a small disk takes root and CAP_SYS_ADMIN");
        Self { folder, _parent: parent }
    }

    fn grow(&self) {
        let status = Command::new("mount").args(["-o", "remount,size=128m"]).arg(&self.folder).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}

/// Objects of an earlier run, or of before the run: each by its right name and once right.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_rolled_back_is_found_and_not_restored() {
    let shop = Shop::open("rolled_back");
    run(shop.backup()).must_succeed();
    let first = objects_of(shop.there.path(), false);
    shop.sql("UPDATE events SET payload = 'changed' WHERE id = 1");
    run(shop.backup()).must_succeed();
    let second: Vec<_> =
        (objects_of(shop.there.path(), false).into_iter()).filter(|path| !first.contains(path)).collect();
    let of = |paths: &[std::path::PathBuf], part: &str| {
        let found = paths.iter().find(|path| path.to_string_lossy().contains(part));
        found.unwrap_or_else(|| panic!("no {part} in {paths:?}")).clone()
    };
    let before = databases(shop.server, "rolled_back");
    // The first run's contents under the second one's names; at last all of the second one's is gone.
    for part in ["/data/", "/receipts/", "part.json.zst", "tickets.json.zst", "/verdicts/"] {
        let (newer, older) = (of(&second, part), of(&first, part));
        let whole = std::fs::read(&newer).unwrap();
        std::fs::write(&newer, std::fs::read(older).unwrap()).unwrap();
        let ended = run(shop.restore("rolled_back_restored"));
        assert_eq!(ended.code, Some(3), "{part}: {ended:?}");
        std::fs::write(&newer, whole).unwrap();
    }
    for path in &second {
        std::fs::remove_file(path).unwrap();
    }
    let ended = run(shop.restore("rolled_back_restored"));
    assert_eq!((ended.code, &*ended.reason()), (Some(3), "ObjectMissing"), "{ended:?}");
    assert_eq!(databases(shop.server, "rolled_back"), before);
    // The older backup is whole, and is restored if it is asked for.
    let mut older = shop.restore("rolled_back_restored");
    older.args(["--run", "1"]);
    run(older).must_succeed();
}

/// A span takes a second at this rate, all of them two minutes; and a backup without a schema is none.
#[tokio::test]
async fn a_pg_dump_that_fails_ends_the_export_of_rows() {
    let rows =
        "CREATE TABLE t AS SELECT md5(i::text) || md5((-i)::text) AS x FROM generate_series(1, 12000) AS i";
    let shop = Shop::with("doomed", rows);
    let tools = programs(&shop, "pg_dump", "echo doomed >&2; exit 1");
    let mut backup = shop.backup_with_tools(tools.path());
    backup.args(["--rate-limit", "4Ki", "--span-size", "4Ki"]);
    let ended = run(backup);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("doomed"), "{ended:?}");
    assert!(matches!(shop.decision(1).await, Some(Decision::Void { .. })));
}

/// A folder of programs where `name` does as the lines of `script` say, but for `--version`.
fn programs(shop: &Shop, name: &str, script: &str) -> tempfile::TempDir {
    let (tools, bin) = (tempfile::tempdir().unwrap(), shop.server.client_bin_dir());
    for other in ["pg_dump", "pg_restore"].into_iter().filter(|other| *other != name) {
        std::os::unix::fs::symlink(bin.join(other), tools.path().join(other)).unwrap();
    }
    let program = tools.path().join(name);
    let version = format!("[ \"$1\" = --version ] && exec {}/{name} --version", bin.display());
    std::fs::write(&program, format!("#!/bin/sh\n{version}\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    tools
}

/// A program that is killed, for want of memory say, has found nothing: what is whole must not be called damaged.
#[test]
fn a_pg_restore_that_is_killed_is_no_damage_and_one_that_refuses_the_archive_is() {
    let shop = Shop::open("killed_program");
    run(shop.backup()).must_succeed();
    for (script, code, reason) in
        [("kill -9 $$", 1, "ToolFailed"), ("echo broken >&2; exit 1", 3, "DamageFound")]
    {
        let tools = programs(&shop, "pg_restore", script);
        let mut verify = shop.subcommand(&[], &["verify"]);
        verify.arg("--tools").arg(tools.path());
        let ended = run(verify);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let damaged = ended.stdout.contains("pg_restore can't read it");
        assert_eq!(damaged, reason == "DamageFound", "{ended:?}");
        if !damaged {
            assert_eq!(ended.reason(), reason, "{ended:?}");
        }
    }
}

#[test]
fn a_destination_inside_another_is_refused() {
    let shop = Shop::open("nested");
    let inner = shop.here.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let mut list = shop.list();
    list.arg("--store").arg(format!("region=us=file://{}", inner.display()));
    let ended = run(list);
    refused(&ended, 2, "Usage", &["region=us", "lies inside destination default"]);
}
