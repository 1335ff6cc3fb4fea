//! What a backup can't do as it was asked is refused before a number is claimed, and time that runs out ends a run
//! as a signal does.

use std::path::{Path, PathBuf};
use std::process::Command;

use rstest::rstest;
use vouchsafe::format::Decision;
use vouchsafe::source::{ClientEncoding, Session};

use super::setup;
use super::shop::{Ended, Shop, run};

const TABLES: &str = "
    CREATE TABLE orders(id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 10);
    CREATE TABLE parted(id int) PARTITION BY RANGE (id);
    CREATE TABLE part_one PARTITION OF parted FOR VALUES FROM (0) TO (10); INSERT INTO parted VALUES (1);
    CREATE SCHEMA void; SELECT lo_from_bytea(4711, 'x');";

#[track_caller]
fn refused_unclaimed(shop: &Shop, ended: &Ended, said: &[&str]) {
    assert_eq!((ended.code, &*ended.reason()), (Some(2), "Usage"), "{ended:?}");
    for text in said {
        assert!(ended.stdout.contains(text), "{text} is not said: {ended:?}");
    }
    assert_eq!(shop.objects(), Vec::<PathBuf>::new(), "something was written");
}

#[rstest]
#[case::include_schema(&["--include-schema", "pubic"], &["pubic", "no schema"])]
#[case::include_table(&["--include-table", "public.ordres"], &["public.ordres", "no table"])]
#[case::one_of_two(&["--include-table", "public.orders", "--include-table", "shop.*"], &["shop.*"])]
#[case::partitioned(&["--include-table", "public.parted"], &["public.parted", "partitions"])]
#[case::placed(&["--place", "public.*_us=region=eu", "--unplaced-to-default"], &["public.*_us", "no table"])]
#[case::unplaced(&["--place", "public.orders=region=eu"], &["public.part_one"])]
#[case::large_objects(&["--place", "*.*=region=eu"], &["large objects"])]
#[case::no_destination(&["--place", "*.*=region=us", "--unplaced-to-default"], &["region=us"])]
fn what_means_nothing_or_has_no_place_is_refused_before_the_claim(
    #[case] options: &[&str],
    #[case] said: &[&str],
) {
    let shop = Shop::with("asked", TABLES);
    let mut backup = shop.backup_of(&[&shop.url(&shop.database)]);
    backup.args(options);
    refused_unclaimed(&shop, &run(backup), said);
}

/// As pg_dump does: what isn't there needs no exclusion. A schema without a table is there.
#[test]
fn what_excludes_nothing_does_no_harm() {
    let shop = Shop::with("asked_excluded", TABLES);
    for options in [&["--exclude-table", "public.tmp_*"][..], &["--include-schema", "void"]] {
        let mut backup = shop.backup_of(&[&shop.url(&shop.database)]);
        backup.args(options);
        run(backup).must_succeed();
    }
}

/// Whoever has all GRANTs that are asked for can back a database up: pages of large objects are none, if there are none.
#[test]
fn a_plain_role_backs_up_what_it_may_read() {
    let shop = Shop::with("asked_plain", "CREATE TABLE t AS SELECT 1 AS x; CREATE TABLE events(x int)");
    let role = "DROP ROLE IF EXISTS asked_plain; CREATE ROLE asked_plain LOGIN PASSWORD 'plain'";
    shop.server.psql("postgres", role).unwrap();
    shop.sql("GRANT SELECT ON t, events TO asked_plain");
    let url = shop.url(&shop.database).replace("postgres@", "asked_plain@");
    let mut backup = shop.backup_of(&[&url]);
    backup.env("PGPASSWORD", "plain");
    run(backup).must_succeed();
}

const ALIKE: &str =
    "CREATE TABLE t(id int, note varchar(20)); CREATE SEQUENCE numbers; CREATE TYPE mood AS ENUM ('a', 'b');
    CREATE TABLE felt(m mood);";

#[rstest]
#[case::missing("DROP TABLE t", "table public.t: one lacks it")]
#[case::columns("ALTER TABLE t ADD x int", "table public.t: it has other columns")]
#[case::types("ALTER TABLE t ALTER note TYPE text", "column note is character varying(20) and text")]
#[case::labels(
    "ALTER TYPE mood ADD VALUE 'c'",
    "column m is public.mood of 'a', 'b' and public.mood of 'a', 'b', 'c'"
)]
#[case::sequence(
    "ALTER SEQUENCE numbers INCREMENT -1 MINVALUE -5 MAXVALUE 100",
    "sequence public.numbers: it is bigint, increment 1"
)]
#[case::more("CREATE SEQUENCE more", "sequence public.more: the first lacks it")]
#[case::objects("SELECT lo_create(4711)", "large object 4711")]
fn servers_that_could_not_be_united_are_refused_before_the_claim(
    #[case] differing: &str,
    #[case] said: &str,
) {
    let shop = Shop::with("alike", &format!("{ALIKE} SELECT lo_create(4711);"));
    let other = shop.server.fresh_database("alike_other");
    shop.server.psql(&other, ALIKE).unwrap();
    shop.server.psql(&other, differing).unwrap();
    refused_unclaimed(&shop, &run(of_both(&shop, &other)), &[said]);
}

#[test]
fn servers_of_other_encodings_are_refused_and_others_backed_up() {
    let shop = Shop::with("alike_encoding", ALIKE);
    let other = format!("{}_latin", shop.database);
    let create = |encoding: &str| {
        let sql = format!(
            "CREATE DATABASE {other} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        );
        shop.server.psql("postgres", &sql).unwrap();
        shop.server.psql(&other, ALIKE).unwrap();
    };
    create("LATIN1");
    refused_unclaimed(&shop, &run(of_both(&shop, &other)), &["encoding", "UTF8 and LATIN1"]);
    shop.server.psql("postgres", &format!("DROP DATABASE {other}")).unwrap();
    create("UTF8");
    // Where it starts is no matter.
    shop.server
        .psql(&other, "ALTER SEQUENCE numbers START 7; SELECT lo_create(1), setval('numbers', 9)")
        .unwrap();
    shop.sql("SELECT lo_create(2)");
    run(of_both(&shop, &other)).must_succeed();
    run(shop.restore("alike_united")).must_succeed();
    let look = "SELECT last_value, (SELECT count(*) FROM pg_largeobject_metadata) FROM numbers";
    assert_eq!(shop.server.psql("alike_united", look).unwrap().trim(), "9|2");
}

fn of_both(shop: &Shop, other: &str) -> Command {
    let sources =
        [format!("region=eu={}", shop.url(&shop.database)), format!("region=us={}", shop.url(other))];
    let mut backup = shop.backup_of(&[&sources[0], &sources[1]]);
    backup.arg("--unmatched-to-default");
    backup
}

/// The clock starts with the command: a server that keeps it waiting before anything is claimed is no excuse.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_counts_from_the_start() {
    let shop = Shop::with("deadline_early", TABLES);
    let endpoint = setup::endpoint(shop.server, &shop.database);
    let holder = Session::connect(&endpoint, "holder", &ClientEncoding::Utf8).await.unwrap();
    holder.run("holding", "BEGIN; LOCK pg_inherits IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut backup = shop.backup();
    backup.args(["--deadline", "1s"]);
    let backup = tokio::task::spawn_blocking(move || run(backup));
    // Released all the same, so that a clock that stands still is a failure, and no test without an end.
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), backup).await;
    holder.run("releasing", "ROLLBACK").await.unwrap();
    let ended = ended.expect("it waited on").unwrap();
    assert_eq!((ended.code, &*ended.reason()), (Some(1), "DeadlineExceeded"), "{ended:?}");
    assert_eq!(shop.objects(), Vec::<PathBuf>::new());
}

/// What was being uploaded is taken back, as after a signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_voids_the_run_and_takes_its_uploads_back() {
    let rows = "CREATE TABLE noise AS SELECT md5(random()::text) || md5(random()::text) AS v FROM generate_series(1, 400000);
                CREATE TABLE events(x int)";
    let shop = Shop::with("deadline_late", rows);
    let mut backup = shop.backup_under(&[], "1Gi");
    backup.args(["--rate-limit", "256Ki", "--deadline", "6s"]);
    let ended = run(backup);
    assert_eq!((ended.code, &*ended.reason()), (Some(1), "DeadlineExceeded"), "{ended:?}");
    let decision = shop.decision(1).await;
    assert!(
        matches!(&decision, Some(Decision::Void { reason, .. }) if reason == "DeadlineExceeded"),
        "{decision:?}"
    );
    assert_eq!(half_written(shop.here.path()), Vec::<PathBuf>::new());
}

/// Files that are being written lie in a folder of their own, whose name begins with a dot.
pub(super) fn half_written(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        match path.is_dir() {
            true if hidden => found.extend(std::fs::read_dir(path).unwrap().flatten().map(|it| it.path())),
            true => found.extend(half_written(&path)),
            false if hidden => found.push(path),
            false => {}
        }
    }
    found
}
